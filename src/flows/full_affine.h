/* The triangular affine flow's kernels. theta: m [dim], s [dim], then row i of L below the diagonal, i numbers, for
   i = 1 .. dim - 1; with stride 1 each is a row [ld]. */
#ifndef NFI_FULL_AFFINE_H
#define NFI_FULL_AFFINE_H
#include "core/kernel.h"
#include <nflow/object.h>

/* m + L in, L^-1 (in - m), L^T in and L^-T in. */
typedef enum nfi_l_product { NFI_L_TIMES, NFI_L_SOLVE, NFI_L_TIMES_TRANSPOSED, NFI_L_SOLVE_TRANSPOSED } nfi_l_product;

/* out = the product of that kind; root has room for s. */
NFI_KERNEL void nfi_full_affine_multiply(size_t stride, nfi_l_product kind, size_t dim, size_t ld, const nf_real *theta,
                                         nf_real *root, const nf_real *in, nf_real *out);
/* log_det += sign sum s */
NFI_KERNEL void nfi_full_affine_add_log_det(size_t stride, nf_real sign, size_t dim, size_t ld,
                                            const nf_real *log_scale, double *log_det);
/* g += the gradient in theta. w: gy, or the inverse's gx; sign: of u = w or -gx, and of the log-det; x: the base's
   side; root has room for s, u [ld]. */
NFI_KERNEL void nfi_full_affine_add_gradient(size_t stride, nf_real sign, size_t dim, size_t ld, const nf_real *theta,
                                             nf_real *root, const nf_real *x, const nf_real *w,
                                             const nf_real *g_log_det, nf_real *u, nf_real *g);

#endif
