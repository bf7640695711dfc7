/* Activation normalisation (Kingma & Dhariwal 2018, sec. 3.1): the affine flow y = x exp(s) + m, initialised from data.

   Let mean and sd be those of a feature of the batch that enters (1 / n in the variance). Every feature leaves with
   mean 0 and standard deviation 1, in the direction in which the batch goes:

       forward:  y = (x - mean) / sd,   s = -log sd,   m = -mean / sd
       inverse:  x = (y - mean) / sd,   s = log sd,    m = mean.

   A feature whose sd is not above the rounding of its numbers (a constant column, a batch of one sample) is only
   centred: to divide by sd would magnify rounding, or give infinities. Without a batch the flow starts as the identity.
 */
#include "flows/elementwise/affine.h"
#include "flows/moments.h"
#include "flows/param.h"
#include "flows/types.h"
#include <math.h>

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)noise, (void)state;
    const size_t dim = nf_object_shape(o)->dim_in;
    for (size_t i = 0; batch && i < dim; i++) {
        const nfi_moments at = nfi_row_moments(batch->n, batch->x + i * batch->ld);
        const double sd = sqrt(at.variance);
        const double log_sd = sd > 4 * (double)NFI_EPSILON * at.largest ? log(sd) : 0;
        const bool forward = batch->direction == NF_FORWARD;
        theta[dim + i] = (nf_real)(forward ? -log_sd : log_sd);
        theta[i] = (nf_real)(forward ? -at.mean * exp((double)theta[dim + i]) : at.mean);
        if (!isfinite(theta[i]) || !isfinite(at.variance))
            return nf_error(NF_ENOTFINITE, "nf_actnorm: feature %zu of the initial batch has mean %g and variance %g",
                            i, at.mean, at.variance);
    }
    return NF_OK;
}

static nf_flow *rebuild(nf_reader *r)
{
    return nf_actnorm(nf_read_dim_in(r));
}

const nf_flow_type nfi_actnorm_type = {
    .part = {.name = "actnorm", .init = init, .slices = nfi_affine_slices},
    .abi = sizeof(nf_flow_type),
    .apply = nfi_affine_apply,
    .vjp = nfi_affine_vjp,
    .solve_jt = nfi_affine_solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_actnorm(size_t dim)
{
    if (dim == 0 || dim > SIZE_MAX / 2) {
        nf_error(NF_EARG, "nf_actnorm: `dim` is %zu", dim);
        return NULL;
    }
    const nf_shape own = {.dim_in = dim, .dim_out = dim, .n_params = 2 * dim};
    return nf_flow_new(&nfi_actnorm_type, &own, NULL, NULL, 0);
}
