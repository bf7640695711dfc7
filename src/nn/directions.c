/* Loops over directions: see directions.h. */
#include "nn/directions.h"

NFI_INLINE void scale(size_t rows, size_t k, size_t ld, const nf_real *factor, const nf_real *in, bool add,
                      nf_real *out)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real *f = factor + r * ld;
        for (size_t j = 0; j < k; j++) {
            const nf_real *from = in + (r * k + j) * ld;
            nf_real *to = out + (r * k + j) * ld;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                to[s] = add ? to[s] + f[s] * from[s] : f[s] * from[s];
        }
    }
}

void nfi_scale_directions(size_t rows, size_t k, size_t ld, const nf_real *factor, const nf_real *in, bool add,
                          nf_real *out)
{
    if (add)
        scale(rows, k, ld, factor, in, true, out);
    else
        scale(rows, k, ld, factor, in, false, out);
}

void nfi_dot_directions(size_t rows, size_t k, size_t ld, const nf_real *a, const nf_real *b, nf_real *sums)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        nf_real *sum = sums + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            sum[s] = 0;
        for (size_t j = 0; j < k; j++) {
            const nf_real *u = a + (r * k + j) * ld, *v = b + (r * k + j) * ld;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                sum[s] += u[s] * v[s];
        }
    }
}

void nfi_add_to_directions(size_t rows, size_t k, size_t ld, const nf_real *in, nf_real *out)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++)
        for (size_t j = r * k; j < (r + 1) * k; j++) {
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                out[j * ld + s] += in[r * ld + s];
        }
}

void nfi_sum_directions(size_t rows, size_t k, size_t ld, const nf_real *a, nf_real *sums)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        nf_real *sum = sums + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            sum[s] = 0;
        for (size_t j = r * k; j < (r + 1) * k; j++) {
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                sum[s] += a[j * ld + s];
        }
    }
}

NFI_INLINE void add_products(size_t n, const nf_real *a, const nf_real *x, const nf_real *b, const nf_real *y, bool add,
                             nf_real *out)
{
    n = nfi_lanes(n);
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        const nf_real sum = a[i] * x[i] + b[i] * y[i];
        out[i] = add ? out[i] + sum : sum;
    }
}

void nfi_add_products(size_t n, const nf_real *a, const nf_real *x, const nf_real *b, const nf_real *y, bool add,
                      nf_real *out)
{
    if (add)
        add_products(n, a, x, b, y, true, out);
    else
        add_products(n, a, x, b, y, false, out);
}
