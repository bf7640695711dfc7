/* Mixtures of diagonal normals: the arrays that a pass reads, and the kernels on a tile. */
#ifndef NFI_MIXTURE_H
#define NFI_MIXTURE_H
#include "base/kernel.h"

/* stride as in nf_pass.theta_stride. An array of parameters [n] is [n x ld] if stride is 1. */
typedef struct nfi_mixture {
    size_t K, dim, ld, stride;
    const nf_real *logits, *m, *s; /* [K], and means and log-scales [K x dim] */
    double *log_w;                 /* [K + 2] log-weights, then two rows to compute with; with the stride, too */
} nfi_mixture;

/* log_w = log softmax(logits). */
NFI_KERNEL void nfi_mixture_weights(nfi_mixture q);
/* l [K x ld] = log(w_k N(x; m_k, diag exp(2 s_k))), x [dim x ld]. A term that overflows is set to the most negative
   number, so that the difference of two such terms is not NaN. */
NFI_KERNEL void nfi_mixture_terms(nfi_mixture q, const nf_real *x, double *l);
/* log_q += log sum exp l. r [K x ld], if not NULL, receives the responsibilities. most and sum [ld] are memory to
   compute with. */
NFI_KERNEL void nfi_mixture_sum(nfi_mixture q, const double *l, double *most, double *sum, double *log_q, nf_real *r);
/* Gradient of <g_log, log q> at fixed x. It is added to gx; to g_theta, without the part through the weights; and to
   g_log_w [K], with the stride. gx may be NULL, and g_theta together with g_log_w: not wanted. */
NFI_KERNEL void nfi_mixture_gradient(nfi_mixture q, const nf_real *x, const nf_real *r, const nf_real *g_log,
                                     nf_real *gx, nf_real *g_theta, double *g_log_w);
/* Adds to the gradient in the logits, with which g_theta begins, what comes through the weights. */
NFI_KERNEL void nfi_mixture_weights_vjp(nfi_mixture q, const double *g_log_w, nf_real *g_theta);

#endif
