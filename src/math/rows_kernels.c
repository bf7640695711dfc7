/* See rows.h. */
#include "math/rows.h"
#include <string.h>

void nfi_add_scaled(size_t n, nf_real a, const nf_real *restrict x, nf_real *restrict y)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

void nfi_move(size_t n, nf_real a, const nf_real *x, const nf_real *d, nf_real *y)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] + a * d[i];
}

void nfi_multiply(size_t n, const nf_real *restrict factor, nf_real *restrict x)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        x[i] *= factor[i];
}

void nfi_clip(size_t n, nf_real most, const nf_real *x, nf_real *y)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++) { /* the comparisons are written so that a NaN passes through */
        const nf_real least = x[i] < -most ? -most : x[i];
        y[i] = least > most ? most : least;
    }
}

void nfi_add_row_sums(size_t rows, size_t ld, nf_real sign, const nf_real *x, nf_real *g)
{
    for (size_t r = 0; r < rows; r++)
        g[r] += sign * nfi_row_sum(ld, x + r * ld);
}

void nfi_add_to_rows(size_t rows, size_t ld, nf_real sign, const nf_real *b, const nf_real *x, nf_real *y)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real shift = sign * b[r];
        NFI_SIMD
        for (size_t s = r * ld; s < (r + 1) * ld; s++)
            y[s] = x[s] + shift;
    }
}

/* Vectors of doubles, and of as many nf_real. */
typedef double wide_vec __attribute__((vector_size(NFI_VECTOR_BYTES)));
typedef nf_real narrow_vec __attribute__((vector_size(NFI_VECTOR_BYTES / sizeof(double) * sizeof(nf_real))));
typedef narrow_vec narrow_vec_in_memory __attribute__((aligned(sizeof(nf_real)), may_alias));

double nfi_scale_and_square(size_t n, nf_real scale, nf_real *x)
{
    enum { SUMS = 16, WIDTH = NFI_VECTOR_BYTES / sizeof(double), PARTS = SUMS / WIDTH }; /* 16 sums in every set */
    const size_t whole = n - n % SUMS;
    wide_vec sum[PARTS] = {0};
    for (size_t i = 0; i < whole; i += SUMS)
        for (size_t p = 0; p < PARTS; p++) {
            narrow_vec_in_memory *at = (narrow_vec_in_memory *)(x + i + p * WIDTH);
            const narrow_vec scaled = *at * scale;
            const wide_vec wide = __builtin_convertvector(scaled, wide_vec);
            *at = scaled;
            sum[p] += wide * wide;
        }
    double lane[SUMS];
    memcpy(lane, sum, sizeof lane);
    for (size_t i = whole; i < n; i++) {
        x[i] *= scale;
        lane[i - whole] += (double)x[i] * (double)x[i];
    }
    for (size_t half = SUMS / 2; half > 0; half /= 2)
        for (size_t k = 0; k < half; k++)
            lane[k] += lane[k + half];
    return lane[0];
}

void nfi_mark_nan(size_t rows, size_t ld, const nf_real *restrict x, nf_real *restrict mark)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real *row = x + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            mark[s] = row[s] == row[s] ? mark[s] : row[s];
    }
}

void nfi_mark_not_finite(size_t rows, size_t ld, const nf_real *restrict x, nf_real *restrict mark)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real *row = x + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            mark[s] += row[s] * 0;
    }
}
