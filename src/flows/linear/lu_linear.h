/* LU-linear flows: what the file of the factors and the file of the tiles share. */
#ifndef NFI_LU_LINEAR_H
#define NFI_LU_LINEAR_H
#include "base/kernel.h"
#include <nflow/linear.h>

typedef struct nfi_lu_linear {
    uint64_t seed; /* the one option */
    size_t dim;
    nf_real *sign; /* [dim]: the signs of the diagonal */
    size_t *order; /* [dim]: row i of W is row order[i] of M; NULL: the identity */
    size_t *row;   /* [dim]: where row i of W begins in M */
    size_t *lower; /* [dim]: L[r][k] is theta[lower[r] + k] for k < r */
    size_t *upper; /* [dim]: U[r][k] is theta[upper[r] + k] for k > r; the last row has none */
} nfi_lu_linear;

enum { NFI_LU_LEAF = 8 /* blocks of so many rows are computed row by row */ };

/* The row stride of prepared matrices. Products need rows of whole vectors, for every instruction set; small matrices
   are computed without products. Rows of large matrices have an odd number of vectors, so that they fall into
   different sets of the cache. */
static inline size_t nfi_lu_stride(size_t dim)
{
    const size_t lanes = (dim + NFI_LANES - 1) / NFI_LANES;
    return dim <= NFI_LU_LEAF ? dim : (dim > 128 ? lanes | 1 : lanes) * NFI_LANES;
}

/* prep: M = L V [dim x stride], M^-1 [dim x stride], sum s, the diagonal of V [dim]. theta: row r of L has r numbers,
   row j of U has dim - 1 - j numbers, then follow s [dim] and b [dim]. */
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

/* ---- kernels, called once a step ---- */

/* Computes prep from theta. */
NFI_KERNEL void nfi_lu_prepare(const nfi_lu_linear *q, const nf_real *theta, nf_real *prep);
/* Adds to g_theta the gradient that follows from g_prep, the gradient in prep without the diagonal. g_prep is
   overwritten. */
NFI_KERNEL void nfi_lu_prepare_vjp(const nfi_lu_linear *q, const nf_real *theta, const nf_real *prep, nf_real *g_prep,
                                   nf_real *g_theta);

#endif
