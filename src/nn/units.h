/* Units of two or more products each, on a tile: gated (value times sigmoid) and maxout. Forward fused with the biases,
   backward with their sums. */
#ifndef NFI_UNITS_H
#define NFI_UNITS_H
#include "core/kernel.h"
#include <nflow/net.h>

/* v += its bias, s = sigmoid(s + its bias), h = v s; or h += v s. All [rows x ld], biases [rows]. */
NFI_KERNEL void nfi_gate(size_t rows, size_t ld, const nf_real *bias_v, const nf_real *bias_s, nf_real *v, nf_real *s,
                         bool add, nf_real *h);
/* From gh, with v and s as nfi_gate left them: gv and gs, those of the two products, written; the biases' gradients,
   added to (NULL, both: not wanted). */
NFI_KERNEL void nfi_gate_vjp(size_t rows, size_t ld, const nf_real *v, const nf_real *s, const nf_real *gh, nf_real *gv,
                             nf_real *gs, nf_real *g_bias_v, nf_real *g_bias_s);

/* Unit r's pieces are rows r * window ... of z and bias: h [units x ld] their largest, the first of equals; `which`
   [units x ld] its number. */
NFI_KERNEL void nfi_maxout(size_t units, size_t window, size_t ld, const nf_real *bias, const nf_real *z, nf_real *h,
                           nf_real *which);
/* gz [units * window x ld], written; g_bias += (NULL: not wanted). */
NFI_KERNEL void nfi_maxout_vjp(size_t units, size_t window, size_t ld, const nf_real *which, const nf_real *gh,
                               nf_real *gz, nf_real *g_bias);

/* ---- tangents of k directions (directions.h): rows of k ld ---- */

/* dh = s dv + v s (1 - s) dz, with v and s as nfi_gate left them; dz NULL: the gate does not move. */
NFI_KERNEL void nfi_gate_tangent(size_t rows, size_t k, size_t ld, const nf_real *v, const nf_real *s,
                                 const nf_real *dv, const nf_real *dz, nf_real *dh);
/* The gradient of <gh, h> + <gdh, dh> in both products, gv and gs [rows x ld], and in their tangents, gdv and gdz, all
   written; dz NULL: as above, and gdz is left alone. gv and gs are not gh, gdv and gdz not gdh. */
NFI_KERNEL void nfi_gate_tangent_vjp(size_t rows, size_t k, size_t ld, const nf_real *v, const nf_real *s,
                                     const nf_real *dv, const nf_real *dz, const nf_real *gh, const nf_real *gdh,
                                     nf_real *gv, nf_real *gs, nf_real *gdv, nf_real *gdz);
/* dh [units x k ld]: the winners' of dz [units * window x k ld]. */
NFI_KERNEL void nfi_maxout_tangent(size_t units, size_t window, size_t k, size_t ld, const nf_real *which,
                                   const nf_real *dz, nf_real *dh);
/* gdz, written. The gradient of the products themselves is that of nfi_maxout_vjp: the pieces are straight. */
NFI_KERNEL void nfi_maxout_tangent_vjp(size_t units, size_t window, size_t k, size_t ld, const nf_real *which,
                                       const nf_real *gdh, nf_real *gdz);

#endif
