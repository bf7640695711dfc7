/* Radial from the inside: what its kernels and its gradients share. */
#ifndef NFI_RADIAL_H
#define NFI_RADIAL_H
#include "core/kernel.h"
#include <nflow/flow.h>

/* theta: z0 [dim], a, b. What follows from theta alone, a row of nfi_param_columns each; sigma is sigmoid(b). What
   apply saves: r [ld], then these. */
enum { ALPHA, SP, SIGMA, N_COEFFICIENTS };

/* The quantities of radial.c's top comment at distance r. */
typedef struct nfi_radial_geometry {
    nf_real v, p, q, k, t, A, B;
} nfi_radial_geometry;

NFI_INLINE nfi_radial_geometry nfi_radial_at(nf_real r, nf_real alpha, nf_real sp)
{
    nfi_radial_geometry g;
    g.v = 1 / (alpha + r);
    g.p = r * g.v;
    g.q = alpha * g.v;
    g.k = sp * g.v;
    g.t = g.k - g.q;
    g.A = g.p + g.k;
    g.B = g.p * (1 + g.q) + g.q * g.k;
    return g;
}

/* Hooks of the forward direction's gradient: see nf_flow_type. */
nf_status nfi_radial_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                         void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
nf_status nfi_radial_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                              void *saved, const nf_real *gx, nf_real *gy);

#endif
