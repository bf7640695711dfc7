/* Between row-major batches and feature-major tiles. */
#ifndef NFI_PACK_H
#define NFI_PACK_H
#include <nflow/object.h>

/* From row-major [n x dim] (rows `stride` apart) to a feature-major tile [dim x ld], padding included; and back. */
void nfi_pack(size_t n, size_t dim, const nf_real *rows, size_t stride, size_t ld, nf_real *tile);
void nfi_unpack(size_t n, size_t dim, const nf_real *tile, size_t ld, nf_real *rows, size_t stride);
/* The sample of a batch that column s is of a tile whose first sample is `first`, and of which some may be left out. */
static inline size_t nfi_sample_left(const nf_pass *p, size_t first, size_t s)
{
    return first + (p->noise.column ? p->noise.column[s] : s);
}
/* Packs those samples of a batch [n x dim] that are left in a tile. The batch's rows are `stride` numbers apart. The
   padding is filled. nfi_unpack_left copies the tile's columns back to those samples, and nfi_add_left adds them
   there. */
void nfi_pack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, size_t stride, nf_real *tile);
void nfi_unpack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *tile, nf_real *batch, size_t stride);
void nfi_add_left(const nf_pass *p, size_t first, size_t dim, const nf_real *tile, nf_real *batch, size_t stride);
/* Repeats column n-1 in the columns n..ld-1 of `rows` features. */
void nfi_pad(size_t rows, size_t n, size_t ld, nf_real *tile);
/* Sets the columns n..ld-1 of `rows` features to 0, as cotangents have them. */
void nfi_pad_zero(size_t rows, size_t n, size_t ld, nf_real *tile);
/* Sets the samples first .. first + n - 1 of a batch [n x dim], whose rows are `stride` numbers apart, to `value`. Does
   nothing if the batch is NULL. */
void nfi_fill_rows(size_t first, size_t n, size_t dim, nf_real value, nf_real *batch, size_t stride);

#endif
