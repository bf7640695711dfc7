/* Likelihoods p(x | a) of a VAE and its prior, on tiles; log-densities are summed in double.
   Bernoulli with logits l: log p = sum_r x l - log(1 + exp l), gradient x - sigmoid(l): never through a probability,
   so that no logit overflows. Gaussian with means m and log-scales t: log p = sum_r -r^2/2 - t - log(2 pi)/2,
   r = (x - m) exp(-t); gradients r exp(-t) and r^2 - 1. */
#include "vae/vae.h"
#include "core/kernel.h"
#include "core/vec.h"
#include "dist/types.h"
#include <string.h>

size_t nfi_likelihood_rows(nf_likelihood kind, size_t dim)
{
    return kind == NF_GAUSSIAN ? 2 * dim : dim;
}

NFI_CLONES static void bernoulli_log(size_t dim, size_t stride, const nf_real *restrict x, const nf_real *restrict l,
                                     double *restrict log_p)
{
    size_t ld = nfi_lanes(stride);
    for (size_t r = 0; r < dim; r++) {
        const nf_real *xr = x + r * ld, *lr = l + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_p[s] += (double)(xr[s] * lr[s] - nfi_softplus(lr[s]));
    }
}

NFI_CLONES static void bernoulli_gradient(size_t dim, size_t stride, const nf_real *restrict x,
                                          const nf_real *restrict l, nf_real weight, nf_real *restrict g)
{
    size_t ld = nfi_lanes(stride);
    NFI_SIMD
    for (size_t i = 0; i < dim * ld; i++)
        g[i] = weight * (x[i] - nfi_sigmoid(l[i]));
}

NFI_CLONES static void bernoulli_mean(size_t dim, size_t stride, const nf_real *restrict l, nf_real *restrict mean)
{
    size_t ld = nfi_lanes(stride);
    NFI_SIMD
    for (size_t i = 0; i < dim * ld; i++)
        mean[i] = nfi_sigmoid(l[i]);
}

NFI_CLONES static void gaussian_log(size_t dim, size_t stride, const nf_real *restrict x, const nf_real *restrict a,
                                    double *restrict log_p)
{
    size_t ld = nfi_lanes(stride);
    const nf_real *m = a, *t = a + dim * ld;
    for (size_t r = 0; r < dim; r++) {
        const nf_real *xr = x + r * ld, *mr = m + r * ld, *tr = t + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            nf_real e = (xr[s] - mr[s]) * nfi_exp(-tr[s]);
            log_p[s] -= (double)(NF_R(0.5) * e * e + tr[s]) + NFI_HALF_LOG_2PI;
        }
    }
}

NFI_CLONES static void gaussian_gradient(size_t dim, size_t stride, const nf_real *restrict x,
                                         const nf_real *restrict a, nf_real weight, nf_real *restrict g)
{
    size_t ld = nfi_lanes(stride);
    const nf_real *m = a, *t = a + dim * ld;
    nf_real *gm = g, *gt = g + dim * ld;
    NFI_SIMD
    for (size_t i = 0; i < dim * ld; i++) {
        nf_real precision = nfi_exp(-t[i]), e = (x[i] - m[i]) * precision;
        gm[i] = weight * e * precision;
        gt[i] = weight * (e * e - 1);
    }
}

void nfi_likelihood_log(nf_likelihood kind, size_t dim, size_t n, size_t ld, const nf_real *x, const nf_real *a,
                        nf_real weight, double *log_p, nf_real *g)
{
    memset(log_p, 0, ld * sizeof *log_p);
    (kind == NF_GAUSSIAN ? gaussian_log : bernoulli_log)(dim, ld, x, a, log_p);
    if (g) {
        (kind == NF_GAUSSIAN ? gaussian_gradient : bernoulli_gradient)(dim, ld, x, a, weight, g);
        nfi_pad_zero(nfi_likelihood_rows(kind, dim), n, ld, g);
    }
}

void nfi_likelihood_mean(nf_likelihood kind, size_t dim, size_t ld, const nf_real *a, nf_real *mean)
{
    if (kind == NF_GAUSSIAN)
        memcpy(mean, a, dim * ld * sizeof *mean);
    else
        bernoulli_mean(dim, ld, a, mean);
}

NFI_CLONES static void prior_log(size_t dim, size_t stride, const nf_real *restrict z, double *restrict log_p)
{
    size_t ld = nfi_lanes(stride);
    for (size_t s = 0; s < ld; s++)
        log_p[s] = -NFI_HALF_LOG_2PI * (double)dim;
    for (size_t r = 0; r < dim; r++) {
        const nf_real *zr = z + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_p[s] -= 0.5 * (double)zr[s] * (double)zr[s];
    }
}

void nfi_prior_log(size_t dim, size_t ld, const nf_real *z, double *log_p)
{
    prior_log(dim, ld, z, log_p);
}
