/* Planar from the inside: what its kernels, its gradients and the solver of its inverse share. */
#ifndef NFI_PLANAR_H
#define NFI_PLANAR_H
#include "core/kernel.h"
#include <nflow/flow.h>

/* theta: w [dim], u [dim], b. What follows from theta alone, a row of nfi_param_columns each; sigma is sigmoid(w.u).
   What apply saves: h [ld], then these. */
enum { C, SP, SIGMA, INV_Q, N_COEFFICIENTS };

/* The determinant from h = tanh and sp = softplus(w.u). */
NFI_INLINE nf_real nfi_planar_det(nf_real h, nf_real sp)
{
    return h * h + (1 - h) * (1 + h) * sp;
}

/* Solves t + (sp - 1) tanh t = kappa for each of ld columns, sp >= 0: `t` holds kappa and is overwritten by the
   solution, h = tanh t. sp [1] if stride is 0, [ld] if it is 1. `active` [ld] is scratch. */
void nfi_planar_solve(size_t stride, size_t ld, const nf_real *sp, nf_real *t, nf_real *h, nf_real *active);

/* Hooks of the forward direction's gradient: see nf_flow_type. */
nf_status nfi_planar_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                         void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
nf_status nfi_planar_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                              void *saved, const nf_real *gx, nf_real *gy);

#endif
