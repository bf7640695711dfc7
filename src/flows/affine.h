/* The hooks of nf_affine, for the flows that are it with other beginnings: y = x exp(s) + m with p->theta = m, s. */
#ifndef NFI_AFFINE_H
#define NFI_AFFINE_H
#include <nflow/flow.h>

nf_status nfi_affine_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                           double *log_det, void **saved);
nf_status nfi_affine_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                         void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
nf_status nfi_affine_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                              void *saved, const nf_real *gx, nf_real *gy);
void nfi_affine_slices(const nf_object *o, nf_slice_fn *each, void *user);

#endif
