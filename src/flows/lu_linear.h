/* LU-linear from the inside: what its factors and its tiles share. */
#ifndef NFI_LU_LINEAR_H
#define NFI_LU_LINEAR_H
#include "core/kernel.h"
#include <nflow/flow.h>

typedef struct nfi_lu_linear {
    size_t dim;
    uint64_t seed;
    nf_real *sign; /* [dim] of the diagonal */
    size_t *order; /* [dim]: row i of W is row order[i] of M; NULL: the identity */
    size_t *row;   /* [dim]: where row i of W begins in M */
    size_t *lower; /* [dim]: L[r][k] is theta[lower[r] + k] for k < r */
    size_t *upper; /* [dim]: U[r][k] is theta[upper[r] + k] for k > r; the last row has none */
} nfi_lu_linear;

enum { NFI_LU_LEAF = 8 /* rows that are done one by one */ };

/* The row stride of prepared matrices. Products need whole vectors, in every instruction set; small matrices do without
   products. The rows of large ones fall into different sets of the cache. */
static inline size_t nfi_lu_stride(size_t dim)
{
    const size_t lanes = (dim + NFI_LANES - 1) / NFI_LANES;
    return dim <= NFI_LU_LEAF ? dim : (dim > 128 ? lanes | 1 : lanes) * NFI_LANES;
}

/* prep: M = L V [dim x stride], M^-1 [dim x stride], sum s, V's diagonal [dim]. Parts of theta: row r of L holds r
   numbers, row j of U holds dim - 1 - j, then s [dim] and b [dim]. */
static inline size_t nfi_lu_inverse_at(size_t dim)
{
    return dim * nfi_lu_stride(dim);
}

static inline size_t nfi_lu_log_det_at(size_t dim)
{
    return 2 * nfi_lu_inverse_at(dim);
}

static inline size_t nfi_lu_diagonal_at(size_t dim)
{
    return nfi_lu_log_det_at(dim) + 1;
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
/* g_theta += what g_prep, the gradient in prep but for the diagonal, comes to; g_prep is overwritten. */
NFI_KERNEL void nfi_lu_prepare_vjp(const nfi_lu_linear *q, const nf_real *theta, const nf_real *prep, nf_real *g_prep,
                                   nf_real *g_theta);

#endif
