/* LU-linear from the inside: what its factors and its tiles share. */
#ifndef NFI_LU_LINEAR_H
#define NFI_LU_LINEAR_H
#include "core/kernel.h"
#include <nflow/flow.h>

typedef struct nfi_lu_linear {
    size_t dim;
    uint64_t seed;
    size_t *order; /* [dim]: row i of W is row order[i] of L V */
    nf_real *sign; /* [dim] of the diagonal */
} nfi_lu_linear;

/* prep: W [dim x dim], W^-1 [dim x dim], sum s, room for a row [dim].
   Parts of theta: row r of L holds r numbers, row j of U holds dim - 1 - j. */
static inline size_t nfi_lu_lower_at(size_t r)
{
    return r * (r - 1) / 2;
}

static inline size_t nfi_lu_upper_at(size_t dim, size_t j)
{
    return dim * (dim - 1) / 2 + j * (2 * dim - j - 1) / 2;
}

static inline size_t nfi_lu_scale_at(size_t dim)
{
    return dim * (dim - 1);
}

static inline size_t nfi_lu_bias_at(size_t dim)
{
    return dim * dim;
}

/* ---- kernels, which are called once a step ---- */

/* prep from theta. */
NFI_KERNEL void nfi_lu_prepare(const nfi_lu_linear *q, const nf_real *theta, nf_real *prep);
/* g_theta += what g_prep, the gradient in prep, comes to; g_prep is overwritten. */
NFI_KERNEL void nfi_lu_prepare_vjp(const nfi_lu_linear *q, const nf_real *theta, const nf_real *prep, nf_real *g_prep,
                                   nf_real *g_theta);

#endif
