/* Units of a net on a tile [rows x ld]. The forward kernels add the bias as well; the backward kernels need only the
   unit's own output. Units that keep their argument are in swish.h; hidden.h calls the right ones. */
#ifndef NFI_ACTIVATION_H
#define NFI_ACTIVATION_H
#include "base/kernel.h"
#include <nflow/net.h>

/* y[r][s] = f(y[r][s] + bias[r]); bias [rows]. */
NFI_KERNEL void nfi_activate(nf_activation f, size_t rows, size_t ld, const nf_real *bias, nf_real *y);
/* The same from x, which stays as it is. */
NFI_KERNEL void nfi_activate_to(nf_activation f, size_t rows, size_t ld, const nf_real *bias, const nf_real *x,
                                nf_real *y);
/* g = f' gy, with f' from the output y; g_bias[r] += the sum of row r of g (NULL: not wanted). g may be gy. */
NFI_KERNEL void nfi_activate_vjp(nf_activation f, size_t rows, size_t ld, const nf_real *y, const nf_real *gy,
                                 nf_real *g, nf_real *g_bias);
/* g += f' gy; g_bias as above. */
NFI_KERNEL void nfi_activate_vjp_add(nf_activation f, size_t rows, size_t ld, const nf_real *y, const nf_real *gy,
                                     nf_real *g, nf_real *g_bias);
/* slope = f' and curve = f'' [n], n = rows * ld, from the outputs y = share h. For units of straight pieces, curve is
   0. */
NFI_KERNEL void nfi_activate_slopes(nf_activation f, size_t n, nf_real share, const nf_real *h, nf_real *slope);
NFI_KERNEL void nfi_activate_curves(nf_activation f, size_t n, nf_real share, const nf_real *h, nf_real *curve);

/* Tangents of k directions, arrays [rows x k ld] (directions.h), with f' and f'' from the output h:

       dh = f' dz;   gdz = f' gdh,   gz = f' gh + f'' sum_j dz_j gdh_j.

   gdz may be gdh, and gz may be gh. The second one is for curved units: it reads dz in any case. */
NFI_KERNEL void nfi_activate_tangent(nf_activation f, size_t rows, size_t k, size_t ld, const nf_real *h,
                                     const nf_real *dz, nf_real *dh);
NFI_KERNEL void nfi_activate_tangent_vjp(nf_activation f, size_t rows, size_t k, size_t ld, const nf_real *h,
                                         const nf_real *dz, const nf_real *gh, const nf_real *gdh, nf_real *gz,
                                         nf_real *gdz);

/* Whether f' cannot be computed from the output. Such units have a parameter, too. */
static inline bool nfi_keeps_argument(nf_activation f)
{
    return f == NF_SWISH || f == NF_LIPSWISH;
}
/* Whether f'' is not 0 everywhere. */
static inline bool nfi_is_curved(nf_activation f)
{
    return f != NF_RELU && f != NF_LEAKY_RELU && f != NF_IDENTITY;
}

#endif
