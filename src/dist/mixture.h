/* Mixtures of diagonal normals: the arrays that a pass reads, and the kernels on a tile. */
#ifndef NFI_MIXTURE_H
#define NFI_MIXTURE_H
#include "base/kernel.h"

typedef struct nfi_mixture {
    size_t K, dim, ld;
    const nf_real *m, *s; /* means and log-scales [K x dim] */
    const nf_real *log_w; /* [K] */
} nfi_mixture;

/* l [K x ld] = log(w_k N(x; m_k, diag exp(2 s_k))), x [dim x ld]. A term that overflows is set to the most negative
   number, so that the difference of two such terms is not NaN. */
NFI_KERNEL void nfi_mixture_terms(nfi_mixture q, const nf_real *x, double *l);
/* log_q += log sum exp l. r [K x ld], if not NULL, receives the responsibilities. most and sum [ld] are memory to
   compute with. */
NFI_KERNEL void nfi_mixture_sum(nfi_mixture q, const double *l, double *most, double *sum, double *log_q, nf_real *r);
/* Gradient of <g_log, log q> at fixed x, added to gx, g_theta and g_log_w. Each may be NULL: not wanted. */
NFI_KERNEL void nfi_mixture_gradient(nfi_mixture q, const nf_real *x, const nf_real *r, const nf_real *g_log,
                                     nf_real *gx, nf_real *g_theta, nf_real *g_log_w);

#endif
