/* The likelihoods p(x | a) of a VAE, on tiles. Log-densities are summed in double.
   Bernoulli with logits l: log p = sum_r x l - log(1 + exp l), gradient x - sigmoid(l). No probability is computed on
   the way, so that no logit overflows. Gaussian with means m and log-scales t: log p = sum_r -r^2/2 - t - log(2 pi)/2,
   r = (x - m) exp(-t); gradients r exp(-t) and r^2 - 1. A log-scale below -700 (float: -80) counts as that in r. */
#include "vae/likelihood.h"
#include "math/vec.h"
#include "dist/types.h"

void nfi_bernoulli_log(size_t dim, size_t ld, const nf_real *restrict x, const nf_real *restrict l,
                       double *restrict log_p)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < dim; r++) {
        const nf_real *xr = x + r * ld, *lr = l + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_p[s] += (double)(xr[s] * lr[s] - nfi_softplus(lr[s]));
    }
}

void nfi_bernoulli_gradient(size_t dim, size_t ld, const nf_real *restrict x, const nf_real *restrict l, nf_real weight,
                            nf_real *restrict g)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t i = 0; i < dim * ld; i++)
        g[i] = weight * (x[i] - nfi_sigmoid(l[i]));
}

void nfi_bernoulli_mean(size_t dim, size_t ld, const nf_real *restrict l, nf_real *restrict mean)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t i = 0; i < dim * ld; i++)
        mean[i] = nfi_sigmoid(l[i]);
}

/* exp(-t), but no more than exp(700) (float: exp(80)), so that a residual of 0 gives 0. NaN stays NaN. */
NFI_INLINE nf_real precision_of(nf_real t)
{
#ifdef NF_SINGLE
    const nf_real least = -80;
#else
    const nf_real least = -700;
#endif
    return nfi_exp(-(t < least ? least : t));
}

void nfi_gaussian_log(size_t dim, size_t ld, const nf_real *restrict x, const nf_real *restrict a,
                      double *restrict log_p)
{
    ld = nfi_lanes(ld);
    const nf_real *m = a, *t = a + dim * ld;
    for (size_t r = 0; r < dim; r++) {
        const nf_real *xr = x + r * ld, *mr = m + r * ld, *tr = t + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            nf_real e = (xr[s] - mr[s]) * precision_of(tr[s]);
            log_p[s] -= (double)(NF_R(0.5) * e * e + tr[s]) + NFI_HALF_LOG_2PI;
        }
    }
}

void nfi_gaussian_gradient(size_t dim, size_t ld, const nf_real *restrict x, const nf_real *restrict a, nf_real weight,
                           nf_real *restrict g)
{
    ld = nfi_lanes(ld);
    const nf_real *m = a, *t = a + dim * ld;
    nf_real *gm = g, *gt = g + dim * ld;
    NFI_SIMD
    for (size_t i = 0; i < dim * ld; i++) {
        nf_real precision = precision_of(t[i]), e = (x[i] - m[i]) * precision;
        gm[i] = weight * e * precision;
        gt[i] = weight * (e * e - 1);
    }
}
