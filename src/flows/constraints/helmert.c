/* Products with V [K x (K-1)], whose columns are an orthonormal basis of the vectors with sum 0 (Helmert):

       V[i][k] = c_k for i <= k, -(k + 1) c_k for i = k + 1, 0 below;   c_k = 1 / sqrt((k + 1) (k + 2)).

   O(K) for each sample. */
#include "flows/constraints/kernels.h"
#include <math.h>

NFI_INLINE nf_real scale(size_t k)
{
    return (nf_real)(1 / sqrt((double)(k + 1) * (double)(k + 2)));
}

/* During the loop y[0] holds the sum of the terms so far. */
void nfi_helmert(size_t K, size_t ld, size_t step_x, size_t step_y, const nf_real *restrict x, nf_real *restrict y)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        y[s] = 0;
    for (size_t k = K - 1; k-- > 0;) {
        const nf_real c = scale(k), count = (nf_real)(k + 1);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real w = c * x[k * step_x + s];
            y[(k + 1) * step_y + s] = y[s] - count * w;
            y[s] += w;
        }
    }
}

/* During the loop sum [ld] is that of y[0..k]. */
void nfi_helmert_transposed(size_t K, size_t ld, size_t step_x, size_t step_y, const nf_real *restrict y,
                            nf_real *restrict x, nf_real *restrict sum)
{
    ld = nfi_lanes(ld);
    for (size_t k = 0; k + 1 < K; k++) {
        const nf_real c = scale(k), count = (nf_real)(k + 1);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            sum[s] = (k ? sum[s] : 0) + y[k * step_y + s];
            x[k * step_x + s] = c * (sum[s] - count * y[(k + 1) * step_y + s]);
        }
    }
}
