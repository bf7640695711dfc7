/* The likelihoods p(x | a) of a VAE and its prior, on a tile. x is [dim x ld]; a, the decoder's output, is
   [nfi_likelihood_rows x ld]. */
#ifndef NFI_LIKELIHOOD_H
#define NFI_LIKELIHOOD_H
#include "base/kernel.h"
#include <nflow/vae.h>

/* The number of features of a for dim features of x. */
size_t nfi_likelihood_rows(nf_likelihood kind, size_t dim);
/* log_p[s] = log p(x_s | a_s). If g is not NULL, it is overwritten with the gradient of <weight, log_p> in a, which
   is 0 in the padding. */
void nfi_likelihood_log(nf_likelihood kind, size_t dim, size_t n, size_t ld, const nf_real *x, const nf_real *a,
                        nf_real weight, double *log_p, nf_real *g);
/* mean [dim x ld] = E[x | a]. */
void nfi_likelihood_mean(nf_likelihood kind, size_t dim, size_t ld, const nf_real *a, nf_real *mean);
/* log_p[s] = log N(z_s; 0, I), the prior; z [dim x ld]. */
void nfi_prior_log(size_t dim, size_t ld, const nf_real *z, double *log_p);

/* The two likelihoods. _log: log_p += log p(x | a). _gradient: g = weight times the gradient of log p in a. l
   [dim x ld] are logits. */
NFI_KERNEL void nfi_bernoulli_log(size_t dim, size_t ld, const nf_real *x, const nf_real *l, double *log_p);
NFI_KERNEL void nfi_bernoulli_gradient(size_t dim, size_t ld, const nf_real *x, const nf_real *l, nf_real weight,
                                       nf_real *g);
NFI_KERNEL void nfi_bernoulli_mean(size_t dim, size_t ld, const nf_real *l, nf_real *mean);
NFI_KERNEL void nfi_gaussian_log(size_t dim, size_t ld, const nf_real *x, const nf_real *a, double *log_p);
NFI_KERNEL void nfi_gaussian_gradient(size_t dim, size_t ld, const nf_real *x, const nf_real *a, nf_real weight,
                                      nf_real *g);

#endif
