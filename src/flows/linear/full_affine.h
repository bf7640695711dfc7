/* The kernels of the triangular affine flow. */
#ifndef NFI_FULL_AFFINE_H
#define NFI_FULL_AFFINE_H
#include "base/kernel.h"
#include <nflow/object.h>

/* Where m [dim], s [dim] and l [dim (dim - 1) / 2] are, the rows of L below the diagonal one after the other: row i has
   i numbers. stride as in nf_pass.theta_stride; with stride 1 each number is a row [ld]. */
typedef struct nfi_full_affine {
    size_t stride, dim, ld;
    const nf_real *m, *s, *l;
} nfi_full_affine;
/* Where their gradients are. */
typedef struct nfi_full_affine_grad {
    nf_real *m, *s, *l;
} nfi_full_affine_grad;

/* m + L in, L^-1 (in - m), L^T in and L^-T in, in this order. */
typedef enum nfi_l_product { NFI_L_TIMES, NFI_L_SOLVE, NFI_L_TIMES_TRANSPOSED, NFI_L_SOLVE_TRANSPOSED } nfi_l_product;

/* out = the product of the given kind. root is memory for as many numbers as s has. */
NFI_KERNEL void nfi_full_affine_multiply(nfi_full_affine q, nfi_l_product kind, nf_real *root, const nf_real *in,
                                         nf_real *out);
/* log_det += sign sum s */
NFI_KERNEL void nfi_full_affine_add_log_det(nfi_full_affine q, nf_real sign, double *log_det);
/* Adds the gradient in the parameters to g. w is gy, in the inverse direction gx. sign is 1 forward and -1 in the
   inverse direction: u = sign w, and sign is that of the log-det. x is on the base's side. root is memory for as many
   numbers as s has, u for [ld]. */
NFI_KERNEL void nfi_full_affine_add_gradient(nfi_full_affine q, nf_real sign, nf_real *root, const nf_real *x,
                                             const nf_real *w, const nf_real *g_log_det, nf_real *u,
                                             nfi_full_affine_grad g);

#endif
