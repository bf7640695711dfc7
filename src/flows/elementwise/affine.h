/* The elementwise affine flow y = x exp(s) + m with p->theta = m, s: its kernels and its hooks. The hooks are also
   used by flows that differ from nf_affine only in how their numbers begin or where they come from. */
#ifndef NFI_AFFINE_H
#define NFI_AFFINE_H
#include "base/kernel.h"
#include <nflow/elementwise.h>

/* ---- kernels; theta and its stride are as in the pass: m [dim], s [dim], or [dim x ld] each ---- */

/* Computes y from x in direction d and adds to log_det. In the inverse direction x is on the target's side. */
NFI_KERNEL void nfi_affine_map(size_t stride, nf_direction d, size_t dim, size_t ld, const nf_real *theta,
                               const nf_real *x, nf_real *y, double *log_det);
/* gx = J^T gy in direction d. J^-T is J^T of the other direction. */
NFI_KERNEL void nfi_affine_scale(size_t stride, nf_direction d, size_t dim, size_t ld, const nf_real *theta,
                                 const nf_real *gy, nf_real *gx);
/* Adds to g_theta. base: x or y, whichever is on the base's side. */
NFI_KERNEL void nfi_affine_add_gradient(size_t stride, nf_direction d, size_t dim, size_t ld, const nf_real *base,
                                        const nf_real *gy, const nf_real *gx, const nf_real *g_log_det,
                                        nf_real *g_theta);

/* ---- hooks ---- */

nf_status nfi_affine_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                           double *log_det, void **saved);
nf_status nfi_affine_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                         void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
nf_status nfi_affine_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                              void *saved, const nf_real *gx, nf_real *gy);
void nfi_affine_slices(const nf_object *o, nf_slice_fn *each, void *user);

#endif
