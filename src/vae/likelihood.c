/* The likelihoods of a VAE, chosen by kind, and its prior. The likelihoods' formulas are in likelihood_kernels.c. */
#include "vae/likelihood.h"
#include "dist/kernels.h"
#include "object/pack.h"
#include <string.h>

size_t nfi_likelihood_rows(nf_likelihood kind, size_t dim)
{
    return kind == NF_GAUSSIAN ? 2 * dim : dim;
}

void nfi_likelihood_log(nf_likelihood kind, size_t dim, size_t n, size_t ld, const nf_real *x, const nf_real *a,
                        nf_real weight, double *log_p, nf_real *g)
{
    memset(log_p, 0, ld * sizeof *log_p);
    (kind == NF_GAUSSIAN ? nfi_gaussian_log : nfi_bernoulli_log)(dim, ld, x, a, log_p);
    if (g) {
        (kind == NF_GAUSSIAN ? nfi_gaussian_gradient : nfi_bernoulli_gradient)(dim, ld, x, a, weight, g);
        nfi_pad_zero(nfi_likelihood_rows(kind, dim), n, ld, g);
    }
}

void nfi_likelihood_mean(nf_likelihood kind, size_t dim, size_t ld, const nf_real *a, nf_real *mean)
{
    if (kind == NF_GAUSSIAN)
        memcpy(mean, a, dim * ld * sizeof *mean);
    else
        nfi_bernoulli_mean(dim, ld, a, mean);
}

void nfi_prior_log(size_t dim, size_t ld, const nf_real *z, double *log_p)
{
    memset(log_p, 0, ld * sizeof *log_p);
    nfi_normal_score(dim, ld, z, log_p);
}
