/* Kernels of the units that keep their argument, y = c z sigmoid(b z): swish (c = 1) and LipSwish (c = 1 / 1.1). All
   arrays are [rows x ld] unless said otherwise. */
#ifndef NFI_SWISH_H
#define NFI_SWISH_H
#include "base/kernel.h"

/* z = x + bias[r], y = f(z). x may be z or y. */
NFI_KERNEL void nfi_swish(nf_real c, nf_real b, size_t rows, size_t ld, const nf_real *bias, const nf_real *x,
                          nf_real *z, nf_real *y);
/* g = f' gy, or g += f' gy if `add` (then g must not be gy). g_b [ld]: g_b[s] += the sum over the rows of gy df/db, for
   each sample s. */
NFI_KERNEL void nfi_swish_vjp(nf_real c, nf_real b, size_t rows, size_t ld, const nf_real *z, const nf_real *gy,
                              bool add, nf_real *g, nf_real *g_b);
/* dh = mask f' dz for k directions [rows x k ld]; mask may be NULL, dh may be dz. spare [ld]. */
NFI_KERNEL void nfi_swish_tangent(nf_real c, nf_real b, size_t rows, size_t k, size_t ld, const nf_real *z,
                                  const nf_real *mask, nf_real *spare, const nf_real *dz, nf_real *dh);
/* With S = sum_j dz_j gdh_j over the directions: gz = mask (f' gh + f'' S), gdz = mask f' gdh, or added if `add`.
   g_b[s] += the sum over the rows of mask (gh df/db + S df'/db). Unless `add`, gz may be gh and gdz may be gdh. spare
   [2 x ld]. */
NFI_KERNEL void nfi_swish_tangent_vjp(nf_real c, nf_real b, size_t rows, size_t k, size_t ld, const nf_real *z,
                                      const nf_real *mask, nf_real *spare, const nf_real *dz, const nf_real *gh,
                                      const nf_real *gdh, bool add, nf_real *gz, nf_real *gdz, nf_real *g_b);

#endif
