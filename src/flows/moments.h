/* Means and variances of a tile's features, in double. */
#ifndef NFI_MOMENTS_H
#define NFI_MOMENTS_H
#include <nflow/object.h>

/* The moments of n numbers. They are computed from differences from the first number, so that equal numbers have a
   variance of exactly 0. */
typedef struct nfi_moments {
    double mean, variance, largest; /* variance: with the factor 1 / n; largest: the largest absolute value */
} nfi_moments;

static inline nfi_moments nfi_row_moments(size_t n, const nf_real *x)
{
    nfi_moments m = {.mean = 0};
    double sum = 0;
    for (size_t s = 0; s < n; s++) {
        const double size = (double)(x[s] < 0 ? -x[s] : x[s]);
        sum += (double)x[s] - (double)x[0];
        m.largest = size > m.largest ? size : m.largest;
    }
    const double shift = sum / (double)n;
    for (size_t s = 0; s < n; s++) {
        const double d = (double)x[s] - (double)x[0] - shift;
        m.variance += d * d / (double)n;
    }
    m.mean = (double)x[0] + shift;
    return m;
}

#endif
