/* The loops of expectation-maximisation: see em.h. Sums that stay are double in both precisions. */
#include "density/em.h"
#include "math/double_sums.h"
#include <math.h>

void nfi_em_standardise(size_t dim, size_t ld, const double *mean, const double *scale, nf_real *restrict x)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        const double m = mean[d], by = 1 / scale[d];
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            x[d * ld + i] = (nf_real)(((double)x[d * ld + i] - m) * by);
    }
}

void nfi_em_sums(size_t dim, size_t ld, const double *restrict w, const nf_real *restrict x, double *sum)
{
    for (size_t d = 0; d < dim; d++) {
        double first[NFI_DOUBLE_SUMS] = {0}, second[NFI_DOUBLE_SUMS] = {0};
        for (size_t i = 0; i < ld; i += NFI_DOUBLE_SUMS) {
            NFI_SIMD
            for (size_t j = 0; j < NFI_DOUBLE_SUMS; j++) {
                const double xd = (double)x[d * ld + i + j];
                first[j] += w[i + j] * xd;
                second[j] += w[i + j] * xd * xd;
            }
        }
        sum[d] = nfi_double_sum(first);
        sum[dim + d] = nfi_double_sum(second);
    }
}

void nfi_em_weigh(size_t dim, size_t ld, const nf_real *restrict r, const nf_real *m, const nf_real *restrict y,
                  nf_real *restrict g, double *first)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            g[d * ld + i] = r[i] * (y[d * ld + i] - m[d]);
        first[d] += (double)nfi_row_sum(ld, g + d * ld);
    }
}

void nfi_em_centre(size_t n, size_t dim, size_t ldt, const nf_real *restrict m, const nf_real *restrict yt,
                   nf_real *restrict d)
{
    for (size_t i = 0; i < n; i++) {
        NFI_SIMD
        for (size_t j = 0; j < dim; j++)
            d[i * ldt + j] = yt[i * ldt + j] - m[j];
        for (size_t j = dim; j < ldt; j++)
            d[i * ldt + j] = 0;
    }
}

void nfi_em_add(size_t n, const nf_real *restrict a, double *restrict sum)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        sum[i] += (double)a[i];
}

double nfi_em_square(size_t n, const nf_real *restrict a)
{
    double lanes[NFI_DOUBLE_SUMS] = {0};
    for (size_t i = 0; i < n; i += NFI_DOUBLE_SUMS) {
        NFI_SIMD
        for (size_t j = 0; j < NFI_DOUBLE_SUMS; j++)
            lanes[j] += (double)a[i + j] * (double)a[i + j];
    }
    return nfi_double_sum(lanes);
}

void nfi_em_nearer(size_t dim, size_t ld, const nf_real *restrict y, const double *centre, uint32_t k,
                   double *restrict work, double *restrict best, uint32_t *restrict nearest)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t i = 0; i < ld; i++)
        work[i] = 0;
    for (size_t d = 0; d < dim; d++) {
        const double from = centre[d];
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            work[i] += ((double)y[d * ld + i] - from) * ((double)y[d * ld + i] - from);
    }
    for (size_t i = 0; i < ld; i++)
        if (work[i] < best[i]) {
            best[i] = work[i];
            nearest[i] = k;
        }
}

/* The sum of a_i b_i. */
NFI_INLINE double dot(size_t n, const double *restrict a, const double *restrict b)
{
    const size_t whole = n - n % NFI_DOUBLE_SUMS;
    double lanes[NFI_DOUBLE_SUMS] = {0};
    for (size_t i = 0; i < whole; i += NFI_DOUBLE_SUMS) {
        NFI_SIMD
        for (size_t j = 0; j < NFI_DOUBLE_SUMS; j++)
            lanes[j] += a[i + j] * b[i + j];
    }
    double sum = nfi_double_sum(lanes);
    for (size_t i = whole; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

void nfi_em_factor(size_t dim, double least, double *a)
{
    for (size_t i = 0; i < dim; i++) {
        double *row = a + i * (i + 1) / 2;
        for (size_t j = 0; j < i; j++) {
            const double *above = a + j * (j + 1) / 2;
            row[j] = (row[j] - dot(j, row, above)) / above[j];
        }
        const double floor = least * row[i], pivot = row[i] - dot(i, row, row);
        row[i] = sqrt(pivot > floor ? pivot : floor);
    }
}
