/* Units that are made of two or more products each, on a tile: gated (value times sigmoid) and maxout. The forward
   kernels add the biases as well; the backward kernels sum the gradients of the biases. */
#ifndef NFI_UNITS_H
#define NFI_UNITS_H
#include "base/kernel.h"
#include <nflow/net.h>

/* v += bias_v, s = sigmoid(s + bias_s), then h = v s, or h += v s if `add`. v, s, h [rows x ld], biases [rows]. */
NFI_KERNEL void nfi_gate(size_t rows, size_t ld, const nf_real *bias_v, const nf_real *bias_s, nf_real *v, nf_real *s,
                         bool add, nf_real *h);
/* From gh, with v and s as nfi_gate left them: writes gv and gs, the gradients of the two products, and adds to the
   gradients of the biases (both NULL: not wanted). */
NFI_KERNEL void nfi_gate_vjp(size_t rows, size_t ld, const nf_real *v, const nf_real *s, const nf_real *gh, nf_real *gv,
                             nf_real *gs, nf_real *g_bias_v, nf_real *g_bias_s);

/* The pieces of unit r are the rows r * window ... of z and bias. h [units x ld] is the largest piece, and `which`
   [units x ld] is the number of the first one that is as large. */
NFI_KERNEL void nfi_maxout(size_t units, size_t window, size_t ld, const nf_real *bias, const nf_real *z, nf_real *h,
                           nf_real *which);
/* Writes gz [units * window x ld]; adds to g_bias (NULL: not wanted). */
NFI_KERNEL void nfi_maxout_vjp(size_t units, size_t window, size_t ld, const nf_real *which, const nf_real *gh,
                               nf_real *gz, nf_real *g_bias);

/* ---- tangents of k directions (directions.h): rows of k ld ---- */

/* dh = s dv + v s (1 - s) dz, with v and s as nfi_gate left them. dz NULL: the gate does not move. */
NFI_KERNEL void nfi_gate_tangent(size_t rows, size_t k, size_t ld, const nf_real *v, const nf_real *s,
                                 const nf_real *dv, const nf_real *dz, nf_real *dh);
/* The gradient of <gh, h> + <gdh, dh>: writes gv and gs [rows x ld], those of the two products, and gdv and gdz, those
   of their tangents. dz NULL: the gate does not move, and gdz is left alone. gv and gs must not be gh; gdv and gdz must
   not be gdh. */
NFI_KERNEL void nfi_gate_tangent_vjp(size_t rows, size_t k, size_t ld, const nf_real *v, const nf_real *s,
                                     const nf_real *dv, const nf_real *dz, const nf_real *gh, const nf_real *gdh,
                                     nf_real *gv, nf_real *gs, nf_real *gdv, nf_real *gdz);
/* dh [units x k ld] = the winners' rows of dz [units * window x k ld]. */
NFI_KERNEL void nfi_maxout_tangent(size_t units, size_t window, size_t k, size_t ld, const nf_real *which,
                                   const nf_real *dz, nf_real *dh);
/* Writes gdz. The gradient of the products themselves is that of nfi_maxout_vjp, since the pieces are straight. */
NFI_KERNEL void nfi_maxout_tangent_vjp(size_t units, size_t window, size_t k, size_t ld, const nf_real *which,
                                       const nf_real *gdh, nf_real *gdz);

#endif
