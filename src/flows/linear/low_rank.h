/* The kernels of nf_low_rank_affine. stride is 0 for shared parameters, 1 if each sample has a column of
   parameters. */
#ifndef NFI_LOW_RANK_H
#define NFI_LOW_RANK_H
#include "base/kernel.h"

/* theta: m [dim], s [dim], W [dim x r] by rows. */
typedef struct nfi_low_rank {
    size_t dim, r;
} nfi_low_rank;

/* The index of R_kl, l <= k, in R [r (r + 1) / 2]. */
static inline size_t nfi_low_rank_factor(size_t k, size_t l)
{
    return k * (k + 1) / 2 + l;
}

/* Computes what depends on theta alone, each number a row of nfi_param_columns: root = e^(s/2) [dim], R [r (r + 1) /
   2] by rows. */
NFI_KERNEL void nfi_low_rank_prepare(size_t stride, nfi_low_rank n, size_t ld, const nf_real *theta, nf_real *root,
                                     nf_real *R);

/* log_det += sign (sum s + log det C). log_scale is s. */
NFI_KERNEL void nfi_low_rank_log_det(size_t stride, double sign, nfi_low_rank n, size_t ld, const nf_real *log_scale,
                                     const nf_real *R, double *log_det);

/* out = m + D M in; with `divide` M^-1 D^-1 (in - m); with `transposed` M D in; with both D^-1 M^-1 in. t [r x ld]
   receives W^T times the vector that M multiplies, with `divide` C^-1 times that. */
NFI_KERNEL void nfi_low_rank_multiply(size_t stride, bool divide, bool transposed, nfi_low_rank n, size_t ld,
                                      const nf_real *theta, const nf_real *root, const nf_real *R, const nf_real *in,
                                      nf_real *t, nf_real *out);

/* Adds the gradient in theta to g. w is gy, in the inverse direction gx; sign times w is the w of the formulas. t is
   what nfi_low_rank_multiply left there when it made gx; sign times t is the q of the formulas. sign is 1 forward and
   -1 in the inverse direction. x is on the base's side. work [(2 r + 2) x ld]. */
NFI_KERNEL void nfi_low_rank_gradient(size_t stride, nf_real sign, nfi_low_rank n, size_t ld, const nf_real *theta,
                                      const nf_real *root, const nf_real *R, const nf_real *x, const nf_real *w,
                                      const nf_real *t, const nf_real *g_log_det, nf_real *work, nf_real *g);

#endif
