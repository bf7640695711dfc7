/* Planar from the inside: what its kernels and the solver of its inverse share. */
#ifndef NFI_PLANAR_H
#define NFI_PLANAR_H
#include "core/kernel.h"

/* The determinant from h = tanh and sp = softplus(w.u). */
NFI_INLINE nf_real nfi_planar_det(nf_real h, nf_real sp)
{
    return h * h + (1 - h) * (1 + h) * sp;
}

/* Solves t + (sp - 1) tanh t = kappa for each of ld columns, sp >= 0: `t` holds kappa and is overwritten by the
   solution, h = tanh t. sp [1] if stride is 0, [ld] if it is 1. `active` [ld] is scratch. */
void nfi_planar_solve(size_t stride, size_t ld, const nf_real *sp, nf_real *t, nf_real *h, nf_real *active);

#endif
