/* Gradients of weights, gW = g x^T or gW += g x^T, summed over the samples of a tile. A block of R rows and V vectors
   of columns stays in registers:

       for s:  load V vectors of xt[s, :];  for r < R:  sum[r, :] += g[r, s] * them.

   gW does not fit into the second-level cache. Its cache lines are therefore fetched while the sums are made. Writing
   them back still costs 15 % of the time at 50 samples (without stores 115 GF/s in float, with them 100). */
#include "math/product_kernel.h"

enum { CHUNK = 96 /* rows */ };

NFI_INLINE void to_row(size_t length, size_t column, bool add, const vec *sum, nf_real *row)
{
    if (column + VEC <= length)
        STORE(vec, row + column, add ? LOAD(vec, row + column) + *sum : *sum);
    else
        for (size_t j = column; j < length; j++)
            row[j] = (add ? row[j] : 0) + (*sum)[j - column];
}

/* Prefetches the cache lines of V vectors for writing. If the vectors are not aligned, they touch one line more. */
NFI_INLINE void fetch_to_write(const nf_real *row, const size_t V)
{
    EACH(v, V) __builtin_prefetch(row + v * VEC, 1);
    __builtin_prefetch(row + V * VEC - 1, 1);
}

NFI_INLINE void outer(const size_t R, const size_t V, const nfi_matrix *W, size_t first, size_t column, size_t n,
                      size_t ld, const nf_real *g, size_t ldt, const nf_real *xt, bool add, nf_real *gw)
{
    vec sum[ROWS][VECS];
    const nf_real *in_g = g + first * ld, *at = xt + column;
    nf_real *row[ROWS];
    EACH(r, R) row[r] = gw + row_offset(W, first + r);
    EACH(r, R) EACH(v, V) sum[r][v] = (vec){0};
    for (size_t s = 0; s < n; s++, at += ldt) {
        vec in[VECS];
        if (s % 4 == 0 && s / 4 < R) /* one row at a time: the cache could not wait for all of them at once */
            fetch_to_write(gw + row_offset(W, first + s / 4) + column, V);
        EACH(v, V) in[v] = LOAD(vec, at + v * VEC);
        EACH(r, R) EACH(v, V) sum[r][v] += in_g[r * ld + s] * in[v];
    }
    EACH(r, R) EACH(v, V) to_row(row_length(W, first + r), column + v * VEC, add, &sum[r][v], row[r]);
}

/* Rows first .. last - 1 of V vectors of columns. The part of xt that they read stays in the first-level cache. */
NFI_INLINE void outer_panel(const size_t V, const nfi_matrix *W, size_t first, size_t last, size_t column, size_t n,
                            size_t ld, const nf_real *g, size_t ldt, const nf_real *xt, bool add, nf_real *gw)
{
    const size_t longer = first_longer(W, column);
    size_t r = first > longer ? first : longer;
    for (; r + ROWS_OF(V) <= last; r += ROWS_OF(V))
        outer(ROWS_OF(V), V, W, r, column, n, ld, g, ldt, xt, add, gw);
    for (; r + 4 <= last; r += 4)
        outer(4, V, W, r, column, n, ld, g, ldt, xt, add, gw);
    for (; r + 2 <= last; r += 2)
        outer(2, V, W, r, column, n, ld, g, ldt, xt, add, gw);
    for (; r < last; r++)
        outer(1, V, W, r, column, n, ld, g, ldt, xt, add, gw);
}

/* Works by chunks of rows: a cache line of gw that belongs to two panels is then still in the second-level cache when
   the second panel needs it. */
void nfi_outer(const nfi_matrix *W, size_t n, size_t ld, const nf_real *g, size_t ldt, const nf_real *xt, bool add,
               nf_real *gw)
{
    for (size_t first = 0, last; first < W->n_rows; first = last) {
        last = W->n_rows - first < CHUNK ? W->n_rows : first + CHUNK;
        const size_t width = row_length(W, last - 1);
        size_t c = 0;
        for (; VECS >= 4 && c + 3 * VEC < width; c += 4 * VEC)
            outer_panel(4, W, first, last, c, n, ld, g, ldt, xt, add, gw);
        for (; c + VEC < width; c += 2 * VEC)
            outer_panel(2, W, first, last, c, n, ld, g, ldt, xt, add, gw);
        for (; c < width; c += VEC)
            outer_panel(1, W, first, last, c, n, ld, g, ldt, xt, add, gw);
    }
}
