/* Products of weights with tiles. Both are read where they are: a feature of a tile is a run of whole vectors, and
   weights are read one at a time. A block of R rows x V vectors of the result stays in registers:

       for k:  load V vectors of x[k, :];  for r < R:  sum[r, :] += W[r, k] * them.

   With the 32 registers of AVX-512, R = 6 and V = 4: 24 sums, 4 vectors and a weight. With the 16 registers of AVX2,
   V = 2. The sum over k has one order whatever the blocks are. Weights do not stay in the second-level cache from one
   tile to the next, so the weights of the next block are prefetched. docs/benchmarks.md compares the rates with those
   of OpenBLAS and BLIS. The taps of a convolution are one more loop around the loop over k. */
#include "math/product_kernel.h"
#include "math/product_quarters.h"

enum { CHUNK = 64 /* rows */, LINE = 64 / sizeof(nf_real) /* numbers of a cache line */ };

/* row[r] = where row first + r of W begins, for r < R. */
NFI_INLINE void find_rows(const size_t R, const nfi_matrix *W, const nf_real *w, size_t first, const nf_real **row)
{
    if (W->offset)
        EACH(r, R) row[r] = w + W->offset[first + r];
    else
        EACH(r, R) row[r] = w + (first + r) * W->stride;
}

/* The sums of R rows of V vectors and, if Q, of a quarter of a vector. */
typedef struct sums {
    vec of[ROWS][MOST_VECS];
    quarters last;
} sums;

NFI_INLINE void load_sums(const size_t R, const size_t V, const bool Q, bool add, const nf_real *y, size_t ld, sums *s)
{
    EACH(r, R)
    EACH(v, V) s->of[r][v] = add ? LOAD(vec, y + r * ld + v * VEC) : (vec){0};
    if (Q)
        load_quarters(R, add, y + V * VEC, ld, &s->last);
}

NFI_INLINE void store_sums(const size_t R, const size_t V, const bool Q, const sums *s, size_t ld, nf_real *y)
{
    EACH(r, R)
    EACH(v, V) STORE(vec, y + r * ld + v * VEC, s->of[r][v]);
    if (Q)
        store_quarters(R, &s->last, ld, y + V * VEC);
}

/* For the rows from <= r < to: adds the weight w[r][k] times the feature of the tile at x to the sums. */
NFI_INLINE void add_rows(const size_t from, const size_t to, const size_t V, const bool Q, const nf_real *const *w,
                         size_t k, const nf_real *x, sums *s)
{
    for (size_t r = from; r < to; r++)
        EACH(v, V) s->of[r][v] += w[r][k] * LOAD(vec, x + v * VEC);
    if (Q)
        add_to_quarters(from, to, w, k, x + V * VEC, &s->last);
}

/* STEP for each number from 1 to R - 1. The number is a constant in each STEP; otherwise the sums would not be in
   registers. */
#define STEPS_BELOW(R, STEP) STEP(R, 1) STEP(R, 2) STEP(R, 3) STEP(R, 4) STEP(R, 5) STEP(R, 6) STEP(R, 7)
_Static_assert(ROWS == 8, "STEPS_BELOW ends with 7");

/* y = W x for the block of R rows from `first` on. Rows never get shorter, so a column that the block's first row lacks
   belongs to the block's last rows only. Step j takes the columns that only the rows from j on have. */
NFI_INLINE void times(const bool ragged, const size_t R, const size_t V, const bool Q, const nfi_matrix *W,
                      const nf_real *w, size_t first, size_t ld, const nf_real *x, bool add, nf_real *y)
{
    const size_t common = ragged ? W->length[first] : W->width, after = first + 2 * R <= W->n_rows ? first + R : first;
    const nf_real *row[ROWS], *volatile next[ROWS]; /* volatile: not in registers, which the loop needs for others */
    const size_t ldy = ld_of_result(W, ld);
    sums s;
    load_sums(R, V, Q, add, y + first * ldy, ldy, &s);
    find_rows(R, W, w, first, row);
    EACH(r, R) next[r] = w + row_offset(W, after + r);
    size_t k = 0;
    for (size_t t = 0; t < (ragged ? 1 : taps_of(W)); t++) {
        const nfi_tap tap = ragged ? the_only_tap : tap_of(W, t);
        const nf_real *from = x + tap.shift;
        for (k = tap.column; k < tap.column + common; k++, from += ld) {
            if (k % LINE == 0)
                EACH(r, R) __builtin_prefetch(next[r] + k);
            add_rows(0, R, V, Q, row, k, from, &s);
        }
    }
    if (ragged) {
#define COLUMNS_OF_ROWS_FROM(R, j)                       \
    for (; (j) < (R) && k < W->length[first + (j)]; k++) \
        add_rows(j, R, V, Q, row, k, x + k * ld, &s);
        STEPS_BELOW(R, COLUMNS_OF_ROWS_FROM)
    }
    store_sums(R, V, Q, &s, ldy, y + first * ldy);
}

/* gx = W^T g for the block of R columns of W from `first` on. Some rows of W end within the block. Step j takes the
   rows that have j of the block's columns. */
NFI_INLINE void transposed(const bool ragged, const size_t R, const size_t V, const bool Q, const nfi_matrix *W,
                           const nf_real *w, size_t first, size_t ld, const nf_real *g, bool add, nf_real *gx)
{
    const size_t ldx = ld_of_result(W, ld);
    size_t r = ragged ? first_longer(W, first) : 0;
    sums s;
    load_sums(R, V, Q, add, gx + first * ldx, ldx, &s);
    if (ragged) {
#define ROWS_WITH(R, j)                                                      \
    for (; (j) < (R) && r < W->n_rows && W->length[r] == first + (j); r++) { \
        const nf_real *begin = w + W->offset[r] + first, *at[ROWS];          \
        EACH(i, R) at[i] = begin + i;                                        \
        add_rows(0, j, V, Q, at, 0, g + r * ld, &s);                         \
    }
        STEPS_BELOW(R, ROWS_WITH)
    }
    for (size_t t = 0; t < (ragged ? 1 : taps_of(W)); t++) {
        const nfi_tap tap = ragged ? the_only_tap : tap_of(W, t);
        for (r = ragged ? r : 0; r < W->n_rows; r++) {
            const nf_real *begin = w + row_offset(W, r) + tap.column + first, *at[ROWS];
            EACH(i, R) at[i] = begin + i;
            __builtin_prefetch(begin + VEC);
            add_rows(0, R, V, Q, at, 0, g + tap.shift + r * ld, &s);
        }
    }
    store_sums(R, V, Q, &s, ldx, gx + first * ldx);
}

/* ---- both: panels of the tile, in each all rows (columns of W^T) block by block ---- */

/* If rows have different lengths, there is no panel of three vectors and a quarter: it would need one register more. */
#define NO_SUCH_PANEL(V, Q) ((V) == 3 && (Q))
#define BLOCK(name, R, V, Q)                                                                             \
    (W->length && !NO_SUCH_PANEL(V, Q) ? name(!NO_SUCH_PANEL(V, Q), R, V, Q, W, w, first, ld, x, add, y) \
                                       : name(false, R, V, Q, W, w, first, ld, x, add, y))
#define PANEL(name, V, Q)                                                                                     \
    static void name##_##V##_##Q(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t ld, \
                                 const nf_real *x, bool add, nf_real *y)                                      \
    {                                                                                                         \
        for (; last - first >= ROWS_OF(V); first += ROWS_OF(V))                                               \
            BLOCK(name, ROWS_OF(V), V, Q);                                                                    \
        if (last - first >= 4) {                                                                              \
            BLOCK(name, 4, V, Q);                                                                             \
            first += 4;                                                                                       \
        }                                                                                                     \
        if (last - first >= 2) {                                                                              \
            BLOCK(name, 2, V, Q);                                                                             \
            first += 2;                                                                                       \
        }                                                                                                     \
        if (first < last)                                                                                     \
            BLOCK(name, 1, V, Q);                                                                             \
    }
typedef void panel_fn(const nfi_matrix *, const nf_real *, size_t, size_t, size_t, const nf_real *, bool, nf_real *);

#if NFI_VECTOR_BYTES == 64
#define PANELS(name)                                                                  \
    PANEL(name, 4, 0)                                                                 \
    PANEL(name, 3, 0)                                                                 \
    PANEL(name, 3, 1)                                                                 \
    PANEL(name, 2, 0)                                                                 \
    PANEL(name, 2, 1)                                                                 \
    PANEL(name, 1, 0)                                                                 \
    PANEL(name, 1, 1)                                                                 \
    PANEL(name, 0, 1)                                                                 \
    static panel_fn *const name##_panels[MOST_VECS + 1][2] = {                        \
        {NULL, name##_0_1},       {name##_1_0, name##_1_1}, {name##_2_0, name##_2_1}, \
        {name##_3_0, name##_3_1}, {name##_4_0, NULL},                                 \
    };
#else
#define PANELS(name)                                           \
    PANEL(name, 4, 0)                                          \
    PANEL(name, 3, 0)                                          \
    PANEL(name, 2, 0)                                          \
    PANEL(name, 1, 0)                                          \
    static panel_fn *const name##_panels[MOST_VECS + 1][2] = { \
        {NULL}, {name##_1_0}, {name##_2_0}, {name##_3_0}, {name##_4_0}};
#endif
PANELS(times)
PANELS(transposed)

/* How many of the `left` columns the next panel takes: returns its whole vectors, at most `most`. *a_quarter says
   whether a quarter of a vector comes last. */
static size_t choose_panel(bool ragged, size_t most, size_t left, bool *a_quarter)
{
    const size_t whole = left / VEC, part = left % VEC;
    *a_quarter = QUARTERS && whole < most && part > 0 && part <= QUARTER && halves_are_cheaper() &&
                 !(ragged && NO_SUCH_PANEL(whole, true));
    if (whole >= most)
        return most;
    return part > 0 && !*a_quarter ? whole + 1 : whole;
}

static void some_panels(size_t most, panel_fn *const panel[MOST_VECS + 1][2], const nfi_matrix *W, const nf_real *w,
                        size_t first, size_t last, size_t n, size_t ld, const nf_real *x, bool add, nf_real *y)
{
    bool a_quarter = false;
    for (size_t c = 0, vecs; c < n && first < last && !a_quarter; c += vecs * VEC) {
        vecs = choose_panel(W->length, most, n - c, &a_quarter);
        panel[vecs][a_quarter](W, w, first, last, ld, x + c, add, y + c);
    }
}

/* If at most three rows are left over after the blocks, they take wider panels, so that as many sums run side by
   side. */
static void all_panels(panel_fn *const panel[MOST_VECS + 1][2], const nfi_matrix *W, const nf_real *w, size_t first,
                       size_t last, size_t n, size_t ld, const nf_real *x, bool add, nf_real *y)
{
    const size_t few = VECS < 4 ? (last - first) % ROWS_OF(VECS) % 4 : 0;
    some_panels(VECS, panel, W, w, first, last - few, n, ld, x, add, y);
    some_panels(MOST_VECS, panel, W, w, last - few, last, n, ld, x, add, y);
}

void nfi_times(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n, size_t ld, const nf_real *x,
               bool add, nf_real *y)
{
    all_panels(times_panels, W, w, first, last, n, ld, x, add, y);
}

/* Up to CHUNK rows of W from `first` on. */
static nfi_matrix some_rows(const nfi_matrix *W, size_t first)
{
    nfi_matrix rows = *W;
    rows.n_rows = W->n_rows - first < CHUNK ? W->n_rows - first : CHUNK;
    rows.offset = W->offset ? W->offset + first : NULL;
    rows.length = W->length ? W->length + first : NULL;
    return rows;
}

/* Works by chunks of rows. The chunk's rows of g then stay in the first-level cache, and so do the cache lines of the
   weights from one block of columns to the next. */
void nfi_times_transposed(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n, size_t ld,
                          const nf_real *g, bool add, nf_real *gx)
{
    for (size_t r = 0; r == 0 || r < W->n_rows; r += CHUNK) {
        const nfi_matrix rows = some_rows(W, r);
        const nf_real *from = W->offset ? w : w + r * W->stride;
        all_panels(transposed_panels, &rows, from, first, last, n, ld, g + r * ld, add || r > 0, gx);
    }
}
