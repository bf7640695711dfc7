/* See rows.h. */
#include "density/rows.h"
#include "base/status.h"
#include "object/tree.h"
#include <math.h>

const nf_object *nfi_density_model(const nf_model *model, const nf_data *data, const char *who)
{
    if (!model) {
        nfi_missing(who, "`model`");
        return NULL;
    }
    nf_object *o = nf_model_object(model);
    const nf_shape *shape = nf_object_shape(o);
    if (!nfi_as_dist(o))
        nf_error(NF_EARG, "%s: the model is of `%s`, not of a distribution", who, nf_object_name(o));
    else if (!data)
        nf_error(NF_EARG, "%s: data is NULL", who);
    else if (data->dim != shape->dim_out || data->n_ctx != shape->n_ctx)
        nf_error(NF_EDIM, "%s: data has %zu columns and %zu of context, but the model %zu and %zu", who, data->dim,
                 data->n_ctx, shape->dim_out, shape->n_ctx);
    else
        return o;
    return NULL;
}

double nfi_mean_weight(const nf_data *data, const char *who)
{
    double mean = 0;
    for (size_t i = 0; data->weight && i < data->n; i++) {
        if (!(data->weight[i] >= 0 && data->weight[i] < INFINITY)) {
            nf_error(NF_EARG, "%s: data->weight is %g in row %zu, but must be finite and at least 0", who,
                     data->weight[i], i);
            return -1;
        }
        mean += data->weight[i] / (double)data->n;
    }
    if (data->weight && !(mean > 0 && mean < INFINITY)) {
        nf_error(NF_EARG, "%s: the mean of data->weight is %g, but must be above 0 and finite", who, mean);
        return -1;
    }
    return data->weight ? mean : 1;
}
