/* Packing: between row-major batches and feature-major tiles. */
#include "object/pack.h"
#include "math/transpose.h"
#include <string.h>

void nfi_pad(size_t rows, size_t n, size_t ld, nf_real *tile)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t s = n; s < ld; s++)
            tile[r * ld + s] = tile[r * ld + n - 1];
}

void nfi_pad_zero(size_t rows, size_t n, size_t ld, nf_real *tile)
{
    for (size_t r = 0; r < rows && n < ld; r++)
        memset(tile + r * ld + n, 0, (ld - n) * sizeof *tile);
}

void nfi_pack(size_t n, size_t dim, const nf_real *rows, size_t stride, size_t ld, nf_real *tile)
{
    nfi_transpose(n, dim, rows, stride, tile, ld);
    nfi_pad(dim, n, ld, tile);
}

void nfi_pack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, size_t stride, nf_real *tile)
{
    if (!p->noise.column) {
        nfi_pack(p->n, dim, batch + first * stride, stride, p->ld, tile);
        return;
    }
    for (size_t s = 0; s < p->n; s++)
        for (size_t r = 0; r < dim; r++)
            tile[r * p->ld + s] = batch[nfi_sample_left(p, first, s) * stride + r];
    nfi_pad(dim, p->n, p->ld, tile);
}

void nfi_unpack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *tile, nf_real *batch, size_t stride)
{
    if (!p->noise.column) {
        nfi_unpack(p->n, dim, tile, p->ld, batch + first * stride, stride);
        return;
    }
    for (size_t s = 0; s < p->n; s++)
        for (size_t r = 0; r < dim; r++)
            batch[nfi_sample_left(p, first, s) * stride + r] = tile[r * p->ld + s];
}

void nfi_add_left(const nf_pass *p, size_t first, size_t dim, const nf_real *tile, nf_real *batch, size_t stride)
{
    enum { AT_ONCE = 8 }; /* samples, whose numbers of one feature are in a cache line or two */
    for (size_t s0 = 0; s0 < p->n; s0 += AT_ONCE)
        for (size_t r = 0; r < dim; r++)
            for (size_t s = s0; s < p->n && s < s0 + AT_ONCE; s++)
                batch[nfi_sample_left(p, first, s) * stride + r] += tile[r * p->ld + s];
}

void nfi_unpack(size_t n, size_t dim, const nf_real *tile, size_t ld, nf_real *rows, size_t stride)
{
    nfi_transpose(dim, n, tile, ld, rows, stride);
}

void nfi_fill_rows(size_t first, size_t n, size_t dim, nf_real value, nf_real *batch, size_t stride)
{
    for (size_t i = first; batch && i < first + n; i++)
        for (size_t r = 0; r < dim; r++)
            batch[i * stride + r] = value;
}
