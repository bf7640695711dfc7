/* What the objectives over the rows of a data set ask of their model and of their data. */
#ifndef NFI_DENSITY_ROWS_H
#define NFI_DENSITY_ROWS_H
#include <nflow/data.h>
#include <nflow/model.h>

/* The model's distribution. NULL, with a message that begins with `who`, if the model or the data are NULL, if the
   model is of something else, or if the data's columns are not its features and context. */
const nf_object *nfi_density_model(const nf_model *model, const nf_data *data, const char *who);
/* The mean of the weights, 1 without weights. Negative, with a message, if they are not weights. */
double nfi_mean_weight(const nf_data *data, const char *who);

#endif
