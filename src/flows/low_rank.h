/* The kernels of nf_low_rank_affine; stride: 0 for shared parameters, 1 for a column each. */
#ifndef NFI_LOW_RANK_H
#define NFI_LOW_RANK_H
#include "core/kernel.h"

/* theta: m [dim], s [dim], W [dim x r] by rows. */
typedef struct nfi_low_rank {
    size_t dim, r;
} nfi_low_rank;

/* Where R_kl, l <= k, stands in R [r (r + 1) / 2]. */
static inline size_t nfi_low_rank_factor(size_t k, size_t l)
{
    return k * (k + 1) / 2 + l;
}

/* What follows from theta alone, a row of nfi_param_columns each: root = e^(s/2) [dim], R [r (r + 1) / 2] by rows. */
NFI_KERNEL void nfi_low_rank_prepare(size_t stride, nfi_low_rank n, size_t ld, const nf_real *theta, nf_real *root,
                                     nf_real *R);

/* log_det += sign (sum s + log det C). log_scale: s. */
NFI_KERNEL void nfi_low_rank_log_det(size_t stride, double sign, nfi_low_rank n, size_t ld, const nf_real *log_scale,
                                     const nf_real *R, double *log_det);

/* out = m + D M in; divide: M^-1 D^-1 (in - m); transposed: M D in; both: D^-1 M^-1 in. t [r x ld] becomes W^T times
   what M multiplies; divide: C^-1 times that. */
NFI_KERNEL void nfi_low_rank_multiply(size_t stride, bool divide, bool transposed, nfi_low_rank n, size_t ld,
                                      const nf_real *theta, const nf_real *root, const nf_real *R, const nf_real *in,
                                      nf_real *t, nf_real *out);

/* g += theta's gradient. w: gy, or the inverse's gx, of which `sign` makes the formulas' w; likewise t, which multiply
   has left, and q. x: the base's side; work [(2 r + 2) x ld]. */
NFI_KERNEL void nfi_low_rank_gradient(size_t stride, nf_real sign, nfi_low_rank n, size_t ld, const nf_real *theta,
                                      const nf_real *root, const nf_real *R, const nf_real *x, const nf_real *w,
                                      const nf_real *t, const nf_real *g_log_det, nf_real *work, nf_real *g);

#endif
