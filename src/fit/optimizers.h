/* What an optimizer consists of. */
#ifndef NFI_OPTIMIZERS_H
#define NFI_OPTIMIZERS_H
#include "base/kernel.h"
#include <nflow/fit.h>

/* The coefficients to compute with. A 0 in `options` stands for the type's default, a negative number for 0.
   `options` NULL: all defaults. */
nf_optimizer_options nfi_resolve(const nf_optimizer_type *type, const nf_optimizer_options *options);

/* Returns NF_EARG if the table in the option `optimizer` cannot be used. *whole receives the table in this library's
   size. */
nf_status nfi_check_optimizer(const char *who, const nf_optimizer_type *type, nf_optimizer_type *whole);

/* ---- kernels: each makes one step for n parameters with their gradient g; a is the learning rate ---- */

NFI_KERNEL void nfi_sgd(size_t n, nf_real a, const nf_real *g, nf_real *theta);
NFI_KERNEL void nfi_momentum(size_t n, nf_real a, nf_real mu, const nf_real *g, nf_real *v, nf_real *theta);
NFI_KERNEL void nfi_rmsprop(size_t n, nf_real a, nf_real mu, nf_real rho, nf_real eps, const nf_real *g, nf_real *sq,
                            nf_real *v, nf_real *theta);
NFI_KERNEL void nfi_adam(size_t n, nf_real a, nf_real b1, nf_real b2, nf_real eps, const nf_real *g, nf_real *m,
                         nf_real *sq, nf_real *theta);
NFI_KERNEL void nfi_adamax(size_t n, nf_real a, nf_real b1, nf_real b2, nf_real eps, const nf_real *g, nf_real *m,
                           nf_real *u, nf_real *theta);
/* average = d average + (1 - d) theta */
NFI_KERNEL void nfi_average(size_t n, nf_real d, const nf_real *theta, nf_real *average);

#endif
