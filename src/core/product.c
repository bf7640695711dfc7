/* Products of weights with tiles, straight from both: a tile's row is a run of whole vectors, and weights are read one
   at a time. A block of R rows x V vectors of the result stays in registers:

       for k:  load V vectors of x[k, :];  for r < R:  sum[r, :] += W[r, k] * them.

   With R = 6, V = 4 the 24 sums, 4 vectors and a weight fill the 32 registers of AVX-512; where vectors of 64 bytes are
   two of AVX2's, V = 1 makes 12 sums of its 16 registers. Weights do not stay in the second-level cache from one tile
   to the next, so those of the next block are fetched ahead. Measured beside OpenBLAS at [256 x 256] x [256 x 64]: 1.15
   times its rate in float, 1.2 in double, and the same rate for triangular matrices, which BLAS does not have. */
#include "core/product_kernel.h"

enum { PAIRS = ROWS / 2, CHUNK = 64 /* rows */, QUARTER = VEC / 4 };
typedef nf_real quarter __attribute__((vector_size(16)));
typedef nf_real pair __attribute__((vector_size(32)));
typedef quarter quarter_at __attribute__((aligned(sizeof(nf_real)), may_alias));

/* r, or the last row. */
static size_t within(const nfi_matrix *W, size_t r)
{
    return r < W->n_rows ? r : W->n_rows - 1;
}

/* Quarters of two rows in one vector, the second row's above the first's. */
#ifdef NF_SINGLE
#define BOTH(q) __builtin_shufflevector(q, q, 0, 1, 2, 3, 0, 1, 2, 3)
#define FIRST_OF(p) __builtin_shufflevector(p, p, 0, 1, 2, 3)
#define SECOND_OF(p) __builtin_shufflevector(p, p, 4, 5, 6, 7)
#define FIRST_AND_SECOND(p, q) __builtin_shufflevector(p, q, 0, 1, 2, 3, 12, 13, 14, 15)
#else
#define BOTH(q) __builtin_shufflevector(q, q, 0, 1, 0, 1)
#define FIRST_OF(p) __builtin_shufflevector(p, p, 0, 1)
#define SECOND_OF(p) __builtin_shufflevector(p, p, 2, 3)
#define FIRST_AND_SECOND(p, q) __builtin_shufflevector(p, q, 0, 1, 6, 7)
#endif

/* R rows of V vectors and, if Q, a quarter of one, for the last columns of a tile that is not a whole number of
 * vectors: those of two rows together, since a vector of 16 bytes costs as much as one of 32. */
typedef struct sums {
    vec of[ROWS][VECS];
    pair last[PAIRS];
} sums;

NFI_INLINE void load_sums(const size_t R, const size_t V, const bool Q, bool add, const nf_real *y, size_t ld, sums *s)
{
    EACH(r, R)
    EACH(v, V) s->of[r][v] = add ? LOAD(vec, y + r * ld + v * VEC) : (vec){0};
    for (size_t r = 0; Q && r < R; r += 2) {
        const nf_real *at = y + r * ld + V * VEC, *next = r + 1 < R ? at + ld : at;
        const quarter first = add ? LOAD(quarter, at) : (quarter){0}, second = add ? LOAD(quarter, next) : (quarter){0};
        s->last[r / 2] = FIRST_AND_SECOND(BOTH(first), BOTH(second));
    }
}

NFI_INLINE void store_sums(const size_t R, const size_t V, const bool Q, const sums *s, size_t ld, nf_real *y)
{
    EACH(r, R)
    {
        EACH(v, V) STORE(vec, y + r * ld + v * VEC, s->of[r][v]);
        if (Q)
            STORE(quarter, y + r * ld + V * VEC, r % 2 ? SECOND_OF(s->last[r / 2]) : FIRST_OF(s->last[r / 2]));
    }
}

/* The sums += the weights, that of row r at w[r][k], times the row at x. For the quarters the weights are loaded again:
   spread over a vector by the load, they need no shuffle. (w - 0 is w and costs nothing; w + 0 would turn -0 into 0.)
 */
NFI_INLINE void add_rows(const size_t R, const size_t V, const bool Q, const nf_real *const *w, size_t k,
                         const nf_real *x, sums *s)
{
    EACH(r, R) EACH(v, V) s->of[r][v] += w[r][k] * LOAD(vec, x + v * VEC);
    size_t again = k;
    __asm__("" : "+r"(again)); /* the compiler must not see that it has them already */
    for (size_t r = 0; Q && r < R; r += 2) {
        const pair first = w[r][again] - (pair){0}, second = w[r + 1 < R ? r + 1 : r][again] - (pair){0};
        s->last[r / 2] += FIRST_AND_SECOND(first, second) * BOTH(LOAD(quarter, x + V * VEC));
    }
}

/* Row r of the sums += weight times the row at x. */
NFI_INLINE void add_row(const size_t r, const size_t V, const bool Q, nf_real weight, const nf_real *x, sums *s)
{
    EACH(v, V) s->of[r][v] += weight * LOAD(vec, x + v * VEC);
    if (Q) {
        const pair old = s->last[r / 2], sum = old + weight * BOTH(LOAD(quarter, x + V * VEC));
        s->last[r / 2] = r % 2 ? FIRST_AND_SECOND(old, sum) : FIRST_AND_SECOND(sum, old);
    }
}

/* y = W x: the block of R rows from `first` on. */
NFI_INLINE void times(const size_t R, const size_t V, const bool Q, const nfi_matrix *W, const nf_real *w, size_t first,
                      size_t ld, const nf_real *x, bool add, nf_real *y)
{
    const size_t common = row_length(W, first);
    const nf_real *row[ROWS], *next[ROWS];
    sums s;
    load_sums(R, V, Q, add, y + first * ld, ld, &s);
    EACH(r, R) row[r] = w + row_offset(W, first + r);
    EACH(r, R) next[r] = w + row_offset(W, within(W, first + R + r));
    for (size_t k = 0; k < common; k++) {
        if (k % VEC == 0)
            EACH(r, R) __builtin_prefetch(next[r] + k);
        add_rows(R, V, Q, row, k, x + k * ld, &s);
    }
    EACH(r, R) /* what a longer row has more */
    for (size_t k = common; W->length && k < W->length[first + r]; k++)
        add_row(r, V, Q, row[r][k], x + k * ld, &s);
    store_sums(R, V, Q, &s, ld, y + first * ld);
}

/* gx = W^T g: the block of R columns of W from `first` on. */
NFI_INLINE void transposed(const size_t R, const size_t V, const bool Q, const nfi_matrix *W, const nf_real *w,
                           size_t first, size_t ld, const nf_real *g, bool add, nf_real *gx)
{
    const size_t some = first_longer(W, first), all = first_longer(W, first + R - 1);
    sums s;
    load_sums(R, V, Q, add, gx + first * ld, ld, &s);
    for (size_t r = some; r < all; r++) /* rows that end within the block */
        EACH(i, R) if (W->length[r] > first + i) add_row(i, V, Q, w[W->offset[r] + first + i], g + r * ld, &s);
    for (size_t r = all; r < W->n_rows; r++) {
        const nf_real *at = w + row_offset(W, r) + first, *row[ROWS];
        __builtin_prefetch(at + VEC);
        EACH(i, R) row[i] = at + i;
        add_rows(R, V, Q, row, 0, g + r * ld, &s);
    }
    store_sums(R, V, Q, &s, ld, gx + first * ld);
}

/* ---- both: panels of the tile, in each all rows (columns of W^T) block by block ---- */

#define PANEL(name, V, Q)                                                                                     \
    NFI_CLONES static void name##_##V##_##Q(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, \
                                            size_t ld, const nf_real *x, bool add, nf_real *y)                \
    {                                                                                                         \
        for (; last - first >= 6; first += 6)                                                                 \
            name(6, V, Q, W, w, first, ld, x, add, y);                                                        \
        if (last - first >= 4) {                                                                              \
            name(4, V, Q, W, w, first, ld, x, add, y);                                                        \
            first += 4;                                                                                       \
        }                                                                                                     \
        if (last - first >= 2) {                                                                              \
            name(2, V, Q, W, w, first, ld, x, add, y);                                                        \
            first += 2;                                                                                       \
        }                                                                                                     \
        if (first < last)                                                                                     \
            name(1, V, Q, W, w, first, ld, x, add, y);                                                        \
    }
#define PANELS(name)                                                                  \
    PANEL(name, 4, 0)                                                                 \
    PANEL(name, 3, 0)                                                                 \
    PANEL(name, 3, 1)                                                                 \
    PANEL(name, 2, 0)                                                                 \
    PANEL(name, 2, 1)                                                                 \
    PANEL(name, 1, 0)                                                                 \
    PANEL(name, 1, 1)                                                                 \
    PANEL(name, 0, 1)                                                                 \
    static panel_fn *const name##_panels[VECS + 1][2] = {                             \
        {NULL, name##_0_1},       {name##_1_0, name##_1_1}, {name##_2_0, name##_2_1}, \
        {name##_3_0, name##_3_1}, {name##_4_0, NULL},                                 \
    };

typedef void panel_fn(const nfi_matrix *, const nf_real *, size_t, size_t, size_t, const nf_real *, bool, nf_real *);
PANELS(times)
PANELS(transposed)

/* Whether half a vector costs half: not where the units are as wide as the vectors. */
static bool halves_are_cheaper(void)
{
#ifdef __x86_64__
    return !__builtin_cpu_supports("avx512f") || __builtin_cpu_is("amd");
#else
    return true;
#endif
}

/* How a panel takes its share of `left` columns: whole vectors, and perhaps a quarter of one as the last. */
static size_t choose_panel(size_t left, bool *a_quarter)
{
    const size_t most = most_vectors(), whole = left / VEC, part = left % VEC;
    *a_quarter = whole <= most && whole < VECS && part > 0 && part <= QUARTER && halves_are_cheaper();
    if (whole >= most)
        return most;
    return part > 0 && !*a_quarter ? whole + 1 : whole;
}

static void all_panels(panel_fn *const panel[VECS + 1][2], const nfi_matrix *W, const nf_real *w, size_t first,
                       size_t last, size_t n, size_t ld, const nf_real *x, bool add, nf_real *y)
{
    bool a_quarter = false;
    for (size_t c = 0, vecs; c < n && !a_quarter; c += vecs * VEC) {
        vecs = choose_panel(n - c, &a_quarter);
        panel[vecs][a_quarter](W, w, first, last, ld, x + c, add, y + c);
    }
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

/* By chunks of rows: their rows of g, and the weights' lines from one block of columns to the next, stay in the
   first-level cache. */
void nfi_times_transposed(const nfi_matrix *W, const nf_real *w, size_t first, size_t last, size_t n, size_t ld,
                          const nf_real *g, bool add, nf_real *gx)
{
    for (size_t r = 0; r == 0 || r < W->n_rows; r += CHUNK) {
        const nfi_matrix rows = some_rows(W, r);
        const nf_real *from = W->offset ? w : w + r * W->stride;
        all_panels(transposed_panels, &rows, from, first, last, n, ld, g + r * ld, add || r > 0, gx);
    }
}
