/* Pictures of posteriors: for each model of a list draws of the fit over reference draws (overlay.h), and a sheet that
   has two outputs of each. */
#ifndef EXAMPLES_BAYES_GALLERY_H
#define EXAMPLES_BAYES_GALLERY_H
#include <nflow/inference.h>

/* Fits the models, and writes FOLDER/MODEL.png for each and, if they are two or more, FOLDER/posteriors.png, the sheet.
   One line for each fit is printed. name [n_names]: these models; n_names 0: all of the list. data: as for
   bayes_target(). Exits 1 with one line on failure, 2 if there is no picture of a model; after Ctrl-C it returns at
   once. */
void bayes_gallery(const char *folder, size_t n_names, char *const *name, const char *data,
                   const nf_vi_options *options);

#endif
