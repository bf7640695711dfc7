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
/* slope = f', curve = f'' [n], n = rows * ld. */
NFI_KERNEL void nfi_swish_slopes(nf_real c, nf_real b, size_t n, const nf_real *z, nf_real *slope);
NFI_KERNEL void nfi_swish_curves(nf_real c, nf_real b, size_t n, const nf_real *z, nf_real *curve);
/* g_b[s] += the sum over the rows of mask (gy df/db + sums df'/db), for each sample s. */
NFI_KERNEL void nfi_swish_tangent_in_b(nf_real c, nf_real b, size_t rows, size_t ld, const nf_real *z,
                                       const nf_real *mask, const nf_real *gy, const nf_real *sums, nf_real *g_b);

#endif
