/* Mixtures of normals, diagonal or with full covariances: the arrays that a pass reads, and the kernels on a tile. What
   concerns weights is the same for both. */
#ifndef NFI_MIXTURE_H
#define NFI_MIXTURE_H
#include "flows/linear/full_affine.h"

/* stride as in nf_pass.theta_stride. An array of parameters [n] is [n x ld] if stride is 1. */
typedef struct nfi_mixture {
    size_t K, dim, ld, stride;
    const nf_real *logits, *m, *s; /* [K], and means and log-scales [K x dim] */
    const nf_real *l;              /* rows of L below the diagonal [K x nfi_below(dim)]; NULL: there are none */
    double *log_w;                 /* [K + 2] log-weights, then two rows to compute with; with the stride, too */
} nfi_mixture;

/* The numbers of a matrix below its diagonal. */
static inline size_t nfi_below(size_t dim)
{
    return dim * (dim - 1) / 2;
}

/* log_w = log softmax(logits). */
NFI_KERNEL void nfi_mixture_weights(nfi_mixture q);
/* x [dim x ld] = m_c + L_c x with the component c = from[s] of each sample; x holds normal noise before. */
NFI_KERNEL void nfi_mixture_place(nfi_mixture q, const uint32_t *from, nf_real *x);
/* Adds the gradient in m_c and L_c of <g, m_c + L_c eps> for n samples; g and eps [dim x ld]. */
NFI_KERNEL void nfi_mixture_place_vjp(nfi_mixture q, size_t n, const uint32_t *from, const nf_real *g,
                                      const nf_real *eps, nf_real *g_theta);
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

/* ---- full covariances: the same terms and gradients for N(x; m_k, L_k L_k^T) ---- */

/* As nfi_mixture_terms. NF_ENOMEM. */
nf_status nfi_full_terms(const nfi_mixture *q, nf_arena *scratch, const nf_real *x, double *l);
/* As nfi_mixture_gradient. NF_ENOMEM. */
nf_status nfi_full_gradient(const nfi_mixture *q, nf_arena *scratch, const nf_real *x, const nf_real *r,
                            const nf_real *g_log, nf_real *gx, nf_real *g_theta, double *g_log_w);
/* Row k of l from z [dim x ld] = L_k^-1 (x - m_k). */
NFI_KERNEL void nfi_full_term(nfi_mixture q, size_t k, const nf_real *z, double *l);
/* For component k: u [ld] = g_log r, gz [dim x ld] = -u z. Where r is 0 or z overflows, z becomes 0. */
NFI_KERNEL void nfi_full_cotangent(nfi_mixture q, size_t k, const nf_real *r, const nf_real *g_log, nf_real *z,
                                   nf_real *u, nf_real *gz);

#endif
