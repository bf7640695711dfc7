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

void nfi_pack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_real *tile)
{
    if (!p->noise.column) {
        nfi_pack(p->n, dim, batch + first * dim, dim, p->ld, tile);
        return;
    }
    for (size_t s = 0; s < p->n; s++)
        for (size_t r = 0; r < dim; r++)
            tile[r * p->ld + s] = batch[(first + p->noise.column[s]) * dim + r];
    nfi_pad(dim, p->n, p->ld, tile);
}

void nfi_unpack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *tile, nf_real *batch)
{
    if (!p->noise.column) {
        nfi_unpack(p->n, dim, tile, p->ld, batch + first * dim, dim);
        return;
    }
    for (size_t s = 0; s < p->n; s++)
        for (size_t r = 0; r < dim; r++)
            batch[(first + p->noise.column[s]) * dim + r] = tile[r * p->ld + s];
}

void nfi_unpack(size_t n, size_t dim, const nf_real *tile, size_t ld, nf_real *rows, size_t stride)
{
    nfi_transpose(dim, n, tile, ld, rows, stride);
}

void nfi_fill_rows(size_t first, size_t n, size_t dim, nf_real value, nf_real *batch)
{
    for (size_t i = first * dim; batch && i < (first + n) * dim; i++)
        batch[i] = value;
}
