/* Power iteration for the largest singular value of a matrix (Miyato et al. 2018, algorithm 1). */
#include "nn/lipschitz.h"
#include "math/vec.h"

/* x /= |x|; returns |x|, of a vector of zeros 0. */
static nf_real normalise(size_t n, nf_real *x)
{
    const nf_real length = nfi_sqrt(nfi_dot(n, x, x));
    const nf_real factor = length > 0 ? 1 / length : 0;
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
    return length;
}

void nfi_power_iteration(size_t rows, size_t cols, size_t stride, const nf_real *w, size_t most, nf_real tolerance,
                         nf_real *u, nf_real *v, nf_real *spare, nfi_singular *result)
{
    *result = (nfi_singular){.sigma = 0, .residual = 0};
    for (size_t step = 0; step < most; step++) {
        for (size_t r = 0; r < rows; r++)
            u[r] = nfi_dot(cols, w + r * stride, v);
        const nf_real sigma = normalise(rows, u);
        if (!(sigma > 0)) { /* W v is 0, or NaN */
            result->sigma = sigma;
            return;
        }
        for (size_t c = 0; c < cols; c++)
            spare[c] = 0;
        for (size_t r = 0; r < rows; r++) {
            const nf_real u_r = u[r], *row = w + r * stride;
            NFI_SIMD
            for (size_t c = 0; c < cols; c++)
                spare[c] += u_r * row[c];
        }
        NFI_SIMD
        for (size_t c = 0; c < cols; c++)
            v[c] = spare[c] - sigma * v[c];
        result->residual = nfi_sqrt(nfi_dot(cols, v, v));
        result->sigma = normalise(cols, spare);
        for (size_t c = 0; c < cols; c++)
            v[c] = spare[c];
        if (!(result->residual > tolerance * result->sigma))
            return;
    }
}

void nfi_add_rank_one(size_t rows, size_t cols, size_t stride, nf_real a, const nf_real *u, const nf_real *v,
                      nf_real *w)
{
    for (size_t r = 0; r < rows; r++) {
        const nf_real factor = a * u[r];
        nf_real *row = w + r * stride;
        NFI_SIMD
        for (size_t c = 0; c < cols; c++)
            row[c] += factor * v[c];
    }
}

double nfi_matrix_dot(size_t rows, size_t cols, size_t stride, const nf_real *a, const nf_real *b)
{
    double sum = 0;
    for (size_t r = 0; r < rows; r++)
        sum += (double)nfi_dot(cols, a + r * stride, b + r * stride);
    return sum;
}
