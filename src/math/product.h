/* Products of weights with tiles. A feature of a tile is already a run of whole vectors, so nothing is packed. */
#ifndef NFI_PRODUCT_H
#define NFI_PRODUCT_H
#include "base/kernel.h"

/* How a matrix lies in an array w, row-major. Dense: row r begins at w[r * stride] and has `width` numbers. For a
   masked net: row r begins at w[offset[r]]. If the matrix is ragged, only the first length[r] columns of row r are
   stored, and length[r] never falls as r grows.

   With taps, as in a convolution, W is a sum: of each row, tap t has the `width` numbers from its column on, and they
   are multiplied with an array that begins `shift` numbers after x (of W^T: after g). A matrix with taps is dense. */
typedef struct nfi_tap {
    size_t column;
    ptrdiff_t shift;
} nfi_tap;
typedef struct nfi_matrix {
    size_t n_rows, width, stride;
    const size_t *offset, *length; /* [n_rows] or NULL; no offset: dense; no length: all columns */
    const nfi_tap *tap;            /* [n_taps]; NULL: one, at column 0 and not shifted. nfi_outer does not read it */
    size_t n_taps;
    size_t ld_of_result; /* 0: that of the tile which is multiplied. nfi_outer does not read it */
} nfi_matrix;

/* y = W x, or y += W x if `add`, for the rows first <= r < last. x [width x ld], y [n_rows x ld]. Columns of y from n
   on may be left undefined. */
NFI_KERNEL void nfi_times(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n, size_t ld,
                          const nf_real *x, bool add, nf_real *y);

/* gx = W^T g, or gx += W^T g if `add`, for the columns first <= k < last of W. g [n_rows x ld], gx [width x ld]. */
NFI_KERNEL void nfi_times_transposed(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n,
                                     size_t ld, const nf_real *g, bool add, nf_real *gx);

/* gW = g x^T, or gW += g x^T if `add`, summed over the n samples. g [n_rows x ld]. xt is x transposed, [n x ldt]; ldt
   is a multiple of NFI_LANES and at least `width` (for a ragged matrix: at least the last row's length). */
NFI_KERNEL void nfi_outer(const nfi_matrix *W, size_t n, size_t ld, const nf_real *g, size_t ldt, const nf_real *xt,
                          bool add, nf_real *gw);

#endif
