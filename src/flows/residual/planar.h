/* Planar flows: what their kernels, their gradients and the solver of their inverse share. */
#ifndef NFI_PLANAR_H
#define NFI_PLANAR_H
#include "base/kernel.h"
#include <nflow/residual.h>

/* theta: w [dim], u [dim], b. The enumeration lists what is computed from theta alone, each a row of
   nfi_param_columns; sigma is sigmoid(w.u). apply saves h [ld], then these rows. */
enum { C, SP, SIGMA, INV_Q, N_COEFFICIENTS };

/* The determinant, from h = tanh and sp = softplus(w.u). */
NFI_INLINE nf_real nfi_planar_det(nf_real h, nf_real sp)
{
    return h * h + (1 - h) * (1 + h) * sp;
}

/* ---- kernels; stride is that of theta, coef has N_COEFFICIENTS rows ---- */

/* Computes y from x and adds to log_det. Also computes h and coef. */
NFI_KERNEL void nfi_planar_forward(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *x,
                                   nf_real *y, double *log_det, nf_real *h, nf_real *coef);
/* Computes x from y and subtracts the forward log-det from log_det. Also computes coef. work [3 x ld]. */
NFI_KERNEL void nfi_planar_inverse(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *y,
                                   nf_real *x, double *log_det, nf_real *coef, nf_real *work);
/* Solves t + (sp - 1) tanh t = kappa for each of ld columns, sp >= 0. `t` holds kappa and is overwritten with the
   solution; h = tanh t. sp is [1] if stride is 0, [ld] if it is 1. `active` [ld] is scratch. */
NFI_KERNEL void nfi_planar_solve(size_t stride, size_t ld, const nf_real *sp, nf_real *t, nf_real *h, nf_real *active);
/* The VJP of the forward direction: computes gx, and adds to g_theta unless it is NULL. work [3 x ld]. */
NFI_KERNEL void nfi_planar_pull_back(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                                     const nf_real *h, const nf_real *x, const nf_real *gy, const nf_real *g_log_det,
                                     nf_real *gx, nf_real *g_theta, nf_real *work);
/* gy = J^-T gx; work [2 x ld]. */
NFI_KERNEL void nfi_planar_solve_jt(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                                    const nf_real *h, const nf_real *gx, nf_real *gy, nf_real *work);

#endif
