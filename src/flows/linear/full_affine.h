/* The kernels of the triangular affine flow. theta: m [dim], s [dim], then row i of L below the diagonal, which has i
   numbers, for i = 1 .. dim - 1. With stride 1 each number is a row [ld]. */
#ifndef NFI_FULL_AFFINE_H
#define NFI_FULL_AFFINE_H
#include "base/kernel.h"
#include <nflow/object.h>

/* m + L in, L^-1 (in - m), L^T in and L^-T in, in this order. */
typedef enum nfi_l_product { NFI_L_TIMES, NFI_L_SOLVE, NFI_L_TIMES_TRANSPOSED, NFI_L_SOLVE_TRANSPOSED } nfi_l_product;

/* out = the product of the given kind. root is memory for as many numbers as s has. */
NFI_KERNEL void nfi_full_affine_multiply(size_t stride, nfi_l_product kind, size_t dim, size_t ld, const nf_real *theta,
                                         nf_real *root, const nf_real *in, nf_real *out);
/* log_det += sign sum s */
NFI_KERNEL void nfi_full_affine_add_log_det(size_t stride, nf_real sign, size_t dim, size_t ld,
                                            const nf_real *log_scale, double *log_det);
/* Adds the gradient in theta to g. w is gy, in the inverse direction gx. sign is 1 forward and -1 in the inverse
   direction: u = sign w, and sign is that of the log-det. x is on the base's side. root is memory for as many numbers
   as s has, u for [ld]. */
NFI_KERNEL void nfi_full_affine_add_gradient(size_t stride, nf_real sign, size_t dim, size_t ld, const nf_real *theta,
                                             nf_real *root, const nf_real *x, const nf_real *w,
                                             const nf_real *g_log_det, nf_real *u, nf_real *g);

#endif
