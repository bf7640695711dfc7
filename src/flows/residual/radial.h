/* Radial flows: what their kernels and their gradients share. */
#ifndef NFI_RADIAL_H
#define NFI_RADIAL_H
#include "base/kernel.h"
#include <nflow/residual.h>

/* theta: z0 [dim], a, b. The enumeration lists what is computed from theta alone, each a row of nfi_param_columns;
   sigma is sigmoid(b). apply saves r [ld], then these rows. */
enum { NFI_RADIAL_ALPHA, NFI_RADIAL_SP, NFI_RADIAL_SIGMA, NFI_RADIAL_COEFFICIENTS };

/* The quantities that the comment at the top of radial_kernels.c defines, at distance r. */
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

/* ---- kernels; stride is that of theta, coef has NFI_RADIAL_COEFFICIENTS rows ---- */

/* Computes y from x and adds to log_det; if `back`, in the inverse direction. r [ld] receives the distance of x from
   z0. Also computes coef. work [ld]. */
NFI_KERNEL void nfi_radial_move(size_t stride, bool back, size_t dim, size_t ld, const nf_real *theta, const nf_real *x,
                                nf_real *y, double *log_det, nf_real *r, nf_real *coef, nf_real *work);
/* The VJP of the forward direction: computes gx, and adds to g_theta unless it is NULL. work [5 x ld]. */
NFI_KERNEL void nfi_radial_pull_back(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                                     const nf_real *r, const nf_real *x, const nf_real *gy, const nf_real *g_log_det,
                                     nf_real *gx, nf_real *g_theta, nf_real *work);
/* gy = J^-T gx; work [3 x ld]. */
NFI_KERNEL void nfi_radial_solve_jt(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                                    const nf_real *r, const nf_real *x, const nf_real *gx, nf_real *gy, nf_real *work);

#endif
