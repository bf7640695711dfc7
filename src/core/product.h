/* Products of weights with tiles. A tile's row is a run of whole vectors already, so nothing is packed. */
#ifndef NFI_PRODUCT_H
#define NFI_PRODUCT_H
#include "core/kernel.h"

/* A matrix in an array w, row-major. Dense: row r begins at w[r * stride] and has `width` numbers. A masked
   net's: it begins at w[offset[r]] and, if ragged, has its first length[r] columns only; lengths never fall from row to
   row. */
typedef struct nfi_matrix {
    size_t n_rows, width, stride;
    const size_t *offset, *length; /* [n_rows], NULL: dense, all columns */
} nfi_matrix;

/* y = W x, or += if `add`, for rows first <= r < last. x [width x ld], y [n_rows x ld]; columns from n on are left
   undefined where they are not computed. */
NFI_KERNEL void nfi_times(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n, size_t ld,
                          const nf_real *x, bool add, nf_real *y);

/* gx = W^T g, or +=, for columns first <= k < last. g [n_rows x ld], gx [width x ld]. */
NFI_KERNEL void nfi_times_transposed(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n,
                                     size_t ld, const nf_real *g, bool add, nf_real *gx);

/* gW = g x^T, or +=, summed over the n samples. g [n_rows x ld]; xt = x transposed, [n x ldt], ldt a multiple of
   NFI_LANES and at least `width` (of a ragged matrix: the last row's length). */
NFI_KERNEL void nfi_outer(const nfi_matrix *W, size_t n, size_t ld, const nf_real *g, size_t ldt, const nf_real *xt,
                          bool add, nf_real *gw);

#endif
