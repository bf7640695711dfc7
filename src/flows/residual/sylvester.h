/* Sylvester flows: their structure, their passes, and the map u -> u + R tanh(R~ u + b) of M features, which is what
   the flow does between Q^T and Q. */
#ifndef NFI_SYLVESTER_H
#define NFI_SYLVESTER_H
#include "base/kernel.h"
#include <nflow/residual.h>

/* The layer's self. */
typedef struct nfi_sylvester {
    nf_sylvester_options options; /* with defaults filled in */
    size_t m, n;                  /* columns of Q; number of reflections */
} nfi_sylvester;

/* The hooks of the type: see nf_flow_type. */
nf_status nfi_sylvester_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                              double *log_det, void **saved);
nf_status nfi_sylvester_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                            void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
nf_status nfi_sylvester_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                 const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

/* What a kernel is given: stride 0 or 1, M, the tile's ld, and the part of theta that belongs to the map. This part
   has, each block row by row, R above its diagonal [M (M-1) / 2], R~ above its diagonal, the parameters of the
   diagonals alpha [M] and alpha~ [M], and b [M]. coef is computed from them: nfi_triangles_coefficients(M) rows of
   nfi_param_columns. */
typedef struct nfi_triangles {
    size_t stride, m, ld;
    const nf_real *theta, *coef;
} nfi_triangles;

static inline size_t nfi_triangles_coefficients(size_t m)
{
    return 3 * m;
}

/* Computes coef: r = tanh(alpha) [M], r~ = tanh(alpha~) [M], 1 + r r~ [M]. */
NFI_KERNEL void nfi_triangles_prepare(size_t stride, size_t m, size_t ld, const nf_real *theta, nf_real *coef);

/* h = tanh(R~ u + b), w = R h; adds the log-det of u -> u + w to log_det. The arrays are [M x ld]. */
NFI_KERNEL void nfi_triangles_forward(const nfi_triangles *q, const nf_real *u, nf_real *h, nf_real *w,
                                      double *log_det);

/* Solves u + R tanh(R~ u + b) = u_to and gives w = u_to - u; subtracts the forward log-det from log_det. work
   [2M + 2 x ld]. */
NFI_KERNEL void nfi_triangles_inverse(const nfi_triangles *q, const nf_real *u_to, nf_real *w, double *log_det,
                                      nf_real *work);

/* gu = (dw/du)^T gw + g_log_det d log_det / du. The gradient in theta is added to g, unless g is NULL. g has a column
   for each sample if stride is 1, else NFI_SUMS columns, whose sum is the gradient. work [M x ld]. */
NFI_KERNEL void nfi_triangles_vjp(const nfi_triangles *q, const nf_real *u, const nf_real *h, const nf_real *gw,
                                  const nf_real *g_log_det, nf_real *gu, nf_real *g, nf_real *work);

/* gw = J^-T gu - gu for J = I + dw/du. work [2M x NFI_SUMS]. */
NFI_KERNEL void nfi_triangles_solve_jt(const nfi_triangles *q, const nf_real *h, const nf_real *gu, nf_real *gw,
                                       nf_real *work);

#endif
