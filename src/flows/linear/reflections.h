/* Chains of Householder reflections H_j = I - tau_j v_j v_j^T, tau_j = 2 / |v_j|^2, on tiles, and their gradients. */
#ifndef NFI_REFLECTIONS_H
#define NFI_REFLECTIONS_H
#include "base/kernel.h"
#include <nflow/object.h>

/* NF_FORWARD: y = H_{n-1} ... H_0 x. NF_INVERSE: y = H_0 ... H_{n-1} x, which is the inverse of the former. */
typedef struct nfi_reflections {
    size_t stride, n, dim, ld;
    const nf_real *v;   /* [n x dim]; for each sample if stride is 1 */
    const nf_real *tau; /* [n]; for each sample if stride is 1 */
} nfi_reflections;

/* Computes tau. If |v|^2 is below the normal numbers, tau is 0, so that such a v reflects nothing. */
NFI_KERNEL void nfi_reflection_scales(size_t stride, size_t n, size_t dim, size_t ld, const nf_real *v, nf_real *tau);

/* Gives the first rows_out features of y. x has rows_in features; the others are zeros. y may be x. work [dim x
 * NFI_SUMS]. */
NFI_KERNEL void nfi_reflect(const nfi_reflections *q, nf_direction d, size_t rows_in, const nf_real *x, size_t rows_out,
                            nf_real *y, nf_real *work);

/* Gives the first rows_out features of x's cotangent in gx. gy has rows_in features; the others are zeros. Adds to g_v.
   y [dim x ld] is what nfi_reflect gave in direction d. g_v [n x dim] has a column for each sample if stride is 1, else
   NFI_SUMS columns, whose sum is the gradient. work [2 dim x NFI_SUMS]. */
NFI_KERNEL void nfi_reflect_vjp(const nfi_reflections *q, nf_direction d, const nf_real *y, size_t rows_in,
                                const nf_real *gy, size_t rows_out, nf_real *gx, nf_real *g_v, nf_real *work);

#endif
