/* See rows.h. */
#include "core/rows.h"

void nfi_add_to(size_t n, const nf_real *restrict from, nf_real *restrict to)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

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
    for (size_t i = 0; i < n; i++) { /* comparisons are turned so that a NaN passes through */
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

double nfi_scale_and_square(size_t n, nf_real scale, nf_real *x)
{
    enum { SUMS = 8 }; /* sums side by side, in every instruction set */
    double sum[SUMS] = {0};
    const size_t whole = n - n % SUMS;
    for (size_t i = 0; i < whole; i += SUMS) {
        NFI_SIMD
        for (size_t k = 0; k < SUMS; k++) {
            x[i + k] *= scale;
            sum[k] += (double)x[i + k] * (double)x[i + k];
        }
    }
    for (size_t i = whole; i < n; i++) {
        x[i] *= scale;
        sum[i - whole] += (double)x[i] * (double)x[i];
    }
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

nf_real nfi_poison(size_t rows, size_t n, size_t ld, const nf_real *x)
{
    nf_real sum = 0;
    for (size_t r = 0; r < rows; r++) {
        NFI_PRAGMA(omp simd reduction(+ : sum)) /* 0 or NaN: the order does not matter */
        for (size_t s = 0; s < n; s++)
            sum += x[r * ld + s] * 0;
    }
    return sum;
}
