/* Products of weights with tiles, dense and ragged, against naive loops in long double: every remainder of rows,
   columns and samples, parts of the rows, adding and overwriting. */
#include "math/product.h"
#include "base/kernel.h"
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <nflow/noise.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
#define EPSILON FLT_EPSILON
#else
#define EPSILON DBL_EPSILON
#endif

enum { MOST = 140 };

/* A matrix with numbers; a ragged one has gaps between its rows, as where context's weights stand there. */
typedef struct subject {
    nfi_matrix W;
    size_t offset[MOST], length[MOST], n_numbers;
    nf_real *w;
} subject;

static nf_real *draw(uint32_t site, size_t n)
{
    nf_real *x = malloc((n + 1) * sizeof *x);
    cr_assert_not_null(x);
    nf_noise_normal(&(nf_noise){.seed = 18, .site = site}, 1, n + 1, n + 1, x);
    return x;
}

/* What the rows are like: a stride apart; at offsets; at offsets and of lengths of their own. */
enum { DENSE, PLACED, RAGGED, KINDS };

static void set_up(subject *s, size_t rows, size_t width, int kind)
{
    s->W = (nfi_matrix){.n_rows = rows, .width = width, .stride = width + 3};
    s->n_numbers = rows * (width + 3);
    if (kind != DENSE) { /* lengths 0 .. width, some alike */
        size_t at = 1;
        for (size_t r = 0; r < rows; r++) {
            s->offset[r] = at;
            s->length[r] = rows > 1 ? r / 3 * 3 * width / (rows - 1) : width / 2;
            s->length[r] = s->length[r] < width && kind == RAGGED ? s->length[r] : width;
            at += s->length[r] + 2;
        }
        s->W.offset = s->offset;
        s->W.length = kind == RAGGED ? s->length : NULL;
        s->n_numbers = at;
    }
    s->w = draw(1, s->n_numbers);
}

/* W[r, k]; 0 where a ragged row has ended. */
static long double entry(const subject *s, size_t r, size_t k)
{
    if (s->W.offset)
        return !s->W.length || k < s->length[r] ? (long double)s->w[s->offset[r] + k] : 0;
    return (long double)s->w[r * s->W.stride + k];
}

static void expect(long double got, long double sum, long double size, size_t terms, const char *what, size_t i,
                   size_t j)
{
    cr_assert_leq(fabsl(got - sum), (long double)(terms + 2) * EPSILON * size, "%s [%zu, %zu]: %Lg, not %Lg", what, i,
                  j, got, sum);
}

static void check_times(const subject *s, size_t first, size_t last, size_t n, bool add)
{
    const size_t ld = (n + 15) / 16 * 16, rows = s->W.n_rows, width = s->W.width;
    nf_real *x = draw(2, width * ld), *y = draw(3, rows * ld), *before = draw(3, rows * ld);
    nfi_times(&s->W, s->w, first, last, n, ld, x, add, y);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < ld; c++) {
            if (r < first || r >= last) {
                cr_assert_eq(y[r * ld + c], before[r * ld + c], "row %zu is not asked for", r);
                continue;
            }
            long double sum = add ? before[r * ld + c] : 0, size = fabsl(sum);
            for (size_t k = 0; k < width; k++) {
                const long double term = entry(s, r, k) * x[k * ld + c];
                sum += term;
                size += fabsl(term);
            }
            if (c < n)
                expect(y[r * ld + c], sum, size, width, "W x", r, c);
        }
    free(x), free(y), free(before);
}

static void check_transposed(const subject *s, size_t first, size_t last, size_t n, bool add)
{
    const size_t ld = (n + 15) / 16 * 16, rows = s->W.n_rows, width = s->W.width;
    nf_real *g = draw(4, rows * ld), *gx = draw(5, width * ld), *before = draw(5, width * ld);
    nfi_times_transposed(&s->W, s->w, first, last, n, ld, g, add, gx);
    for (size_t k = 0; k < width; k++)
        for (size_t c = 0; c < ld; c++) {
            if (k < first || k >= last) {
                cr_assert_eq(gx[k * ld + c], before[k * ld + c], "column %zu is not asked for", k);
                continue;
            }
            long double sum = add ? before[k * ld + c] : 0, size = fabsl(sum);
            for (size_t r = 0; r < rows; r++) {
                const long double term = entry(s, r, k) * g[r * ld + c];
                sum += term;
                size += fabsl(term);
            }
            if (c < n)
                expect(gx[k * ld + c], sum, size, rows, "W^T g", k, c);
        }
    free(g), free(gx), free(before);
}

static void check_outer(const subject *s, size_t n, bool add)
{
    const size_t ld = (n + 15) / 16 * 16, ldt = (s->W.width + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    nf_real *g = draw(6, s->W.n_rows * ld), *xt = draw(7, n * ldt), *gw = draw(8, s->n_numbers),
            *before = draw(8, s->n_numbers);
    unsigned char *touched = calloc(s->n_numbers, 1);
    nfi_outer(&s->W, n, ld, g, ldt, xt, add, gw);
    for (size_t r = 0; r < s->W.n_rows; r++)
        for (size_t k = 0; k < (s->W.length ? s->length[r] : s->W.width); k++) {
            const size_t at = (s->W.offset ? s->offset[r] : r * s->W.stride) + k;
            long double sum = add ? before[at] : 0, size = fabsl(sum);
            for (size_t i = 0; i < n; i++) {
                const long double term = (long double)g[r * ld + i] * xt[i * ldt + k];
                sum += term;
                size += fabsl(term);
            }
            expect(gw[at], sum, size, n, "g x^T", r, k);
            touched[at] = 1;
        }
    for (size_t i = 0; i < s->n_numbers; i++)
        cr_assert(touched[i] || gw[i] == before[i], "number %zu is not of the matrix", i);
    free(g), free(xt), free(gw), free(before), free(touched);
}

static void check_all(size_t rows, size_t width, size_t n, int kind)
{
    subject s;
    set_up(&s, rows, width, kind);
    for (int add = 0; add < 2; add++) {
        check_times(&s, 0, rows, n, add);
        check_times(&s, rows / 3, rows - rows / 4, n, add);
        check_transposed(&s, 0, width, n, add);
        check_transposed(&s, width / 3, width - width / 4, n, add);
    }
    check_outer(&s, n, false);
    check_outer(&s, n, true);
    free(s.w);
}

Test(product, against_naive_loops)
{
    static const size_t rows[] = {1, 2, 3, 5, 6, 7, 11, 16, 24}, widths[] = {1, 4, 7, 13, 16, 33, 70};
    static const size_t samples[] = {1, 3, 4, 5, 8, 16, 17, 31, 50, 64, 77, 112};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
            for (size_t n = 0; n < sizeof samples / sizeof *samples; n++)
                for (int kind = 0; kind < KINDS; kind++)
                    check_all(rows[r], widths[w], samples[n], kind);
}

/* More rows than are taken at a time. */
Test(product, many_rows)
{
    static const size_t rows[] = {63, 64, 65, 128, 129, 140};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (int kind = 0; kind < KINDS; kind++) {
            check_all(rows[r], 13, 5, kind);
            check_all(rows[r], 40, 50, kind);
        }
}

/* A value depends on its row and column alone, not on how many are computed with it. */
Test(product, same_bits_row_by_row)
{
    subject s;
    set_up(&s, 23, 40, RAGGED);
    const size_t n = 64, ld = 64;
    nf_real *x = draw(2, 40 * ld), *y = draw(3, 23 * ld), *one = draw(3, 23 * ld);
    nfi_times(&s.W, s.w, 0, 23, n, ld, x, false, y);
    for (size_t r = 0; r < 23; r++)
        nfi_times(&s.W, s.w, r, r + 1, n, ld, x, false, one);
    cr_assert_eq(memcmp(y, one, 23 * ld * sizeof *y), 0);
    free(s.w), free(x), free(y), free(one);
}
