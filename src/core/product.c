/* Products of weights with tiles, straight from both: a tile's row is a run of whole vectors, and weights are read one
   at a time. A block of R rows x V vectors of the result stays in registers:

       for k:  load V vectors of x[k, :];  for r < R:  sum[r, :] += W[r, k] * them.

   With R = 6, V = 4 the 24 sums, 4 vectors and a weight fill the 32 registers of AVX-512; where vectors of 64 bytes are
   two of AVX2's, V = 1 makes 12 sums of its 16 registers. Weights do not stay in the second-level cache from one tile
   to the next, so those of the next block are fetched ahead. Measured beside OpenBLAS at [256 x 256] x [256 x 64]: 1.15
   times its rate in float, 1.2 in double, and the same rate for triangular matrices, which BLAS does not have.

   Columns of a tile beyond its samples are multiplied too: a last vector of 2 numbers is one multiply-add like a whole
   one. (Two rows' rests in one vector spared an eighth of those, but took the shuffles' port for as many instructions
   as there were sums, and half the speed.) */
#include "core/product_kernel.h"

enum { CHUNK = 64 /* rows */ };

/* r, or the last row. */
static size_t within(const nfi_matrix *W, size_t r)
{
    return r < W->n_rows ? r : W->n_rows - 1;
}

NFI_INLINE void load_sums(const size_t R, const size_t V, bool add, const nf_real *y, size_t ld, vec sum[ROWS][VECS])
{
    EACH(r, R)
    EACH(v, V) sum[r][v] = add ? LOAD(vec, y + r * ld + v * VEC) : (vec){0};
}

NFI_INLINE void store_sums(const size_t R, const size_t V, vec sum[ROWS][VECS], size_t ld, nf_real *y)
{
    EACH(r, R)
    EACH(v, V) STORE(vec, y + r * ld + v * VEC, sum[r][v]);
}

/* A row of the sums += weight times the row at x. */
NFI_INLINE void add_row(const size_t V, nf_real weight, const nf_real *x, vec sum[VECS])
{
    EACH(v, V) sum[v] += weight * LOAD(vec, x + v * VEC);
}

/* y = W x: the block of R rows from `first` on. */
NFI_INLINE void times(const size_t R, const size_t V, const nfi_matrix *W, const nf_real *w, size_t first, size_t ld,
                      const nf_real *x, bool add, nf_real *y)
{
    const size_t common = row_length(W, first);
    const nf_real *row[ROWS], *next[ROWS];
    vec sum[ROWS][VECS];
    load_sums(R, V, add, y + first * ld, ld, sum);
    EACH(r, R) row[r] = w + row_offset(W, first + r);
    EACH(r, R) next[r] = w + row_offset(W, within(W, first + R + r));
    for (size_t k = 0; k < common; k++) {
        if (k % VEC == 0)
            EACH(r, R) __builtin_prefetch(next[r] + k);
        EACH(r, R) add_row(V, row[r][k], x + k * ld, sum[r]);
    }
    EACH(r, R) /* what a longer row has more */
    for (size_t k = common; W->length && k < W->length[first + r]; k++)
        add_row(V, row[r][k], x + k * ld, sum[r]);
    store_sums(R, V, sum, ld, y + first * ld);
}

/* gx = W^T g: the block of R columns of W from `first` on. */
NFI_INLINE void transposed(const size_t R, const size_t V, const nfi_matrix *W, const nf_real *w, size_t first,
                           size_t ld, const nf_real *g, bool add, nf_real *gx)
{
    const size_t some = first_longer(W, first), all = first_longer(W, first + R - 1);
    vec sum[ROWS][VECS];
    load_sums(R, V, add, gx + first * ld, ld, sum);
    for (size_t r = some; r < all; r++) /* rows that end within the block */
        EACH(i, R) if (W->length[r] > first + i) add_row(V, w[W->offset[r] + first + i], g + r * ld, sum[i]);
    for (size_t r = all; r < W->n_rows; r++) {
        const nf_real *row = w + row_offset(W, r) + first;
        __builtin_prefetch(row + VEC);
        EACH(i, R) add_row(V, row[i], g + r * ld, sum[i]);
    }
    store_sums(R, V, sum, ld, gx + first * ld);
}

/* ---- both: panels of the tile, in each all rows (columns of W^T) block by block ---- */

#define PANEL(name, V)                                                                                             \
    NFI_CLONES static void name##_##V(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t ld, \
                                      const nf_real *x, bool add, nf_real *y)                                      \
    {                                                                                                              \
        for (; last - first >= 6; first += 6)                                                                      \
            name(6, V, W, w, first, ld, x, add, y);                                                                \
        if (last - first >= 4) {                                                                                   \
            name(4, V, W, w, first, ld, x, add, y);                                                                \
            first += 4;                                                                                            \
        }                                                                                                          \
        if (last - first >= 2) {                                                                                   \
            name(2, V, W, w, first, ld, x, add, y);                                                                \
            first += 2;                                                                                            \
        }                                                                                                          \
        if (first < last)                                                                                          \
            name(1, V, W, w, first, ld, x, add, y);                                                                \
    }
#define PANELS(name) \
    PANEL(name, 4)   \
    PANEL(name, 3)   \
    PANEL(name, 2)   \
    PANEL(name, 1)   \
    static panel_fn *const name##_panels[VECS + 1] = {NULL, name##_1, name##_2, name##_3, name##_4};

typedef void panel_fn(const nfi_matrix *, const nf_real *, size_t, size_t, size_t, const nf_real *, bool, nf_real *);
PANELS(times)
PANELS(transposed)

static void all_panels(panel_fn *const panel[VECS + 1], const nfi_matrix *W, const nf_real *w, size_t first,
                       size_t last, size_t n, size_t ld, const nf_real *x, bool add, nf_real *y)
{
    const size_t most = most_vectors();
    for (size_t c = 0; c < n; c += most * VEC) {
        const size_t vecs = (n - c + VEC - 1) / VEC;
        panel[vecs < most ? vecs : most](W, w, first, last, ld, x + c, add, y + c);
    }
}

void nfi_times(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n, size_t ld, const nf_real *x,
               bool add, nf_real *y)
{
    all_panels(times_panels, W, w, first, last, n, ld, x, add, y);
}

/* Chunks of rows: their rows of g, and the weights' lines from one block of columns to the next, stay in the
   first-level cache. */
void nfi_times_transposed(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n, size_t ld,
                          const nf_real *g, bool add, nf_real *gx)
{
    nfi_matrix rows = *W;
    size_t at = 0;
    do {
        rows.n_rows = W->n_rows - at < CHUNK ? W->n_rows - at : CHUNK;
        all_panels(transposed_panels, &rows, w, first, last, n, ld, g + at * ld, add || at, gx);
        at += CHUNK;
        if (W->length) {
            rows.length = W->length + at;
            rows.offset = W->offset + at;
        } else {
            w += CHUNK * W->stride;
        }
    } while (at < W->n_rows);
}
