/* A simplex by the isometric log-ratio (Egozcue et al. 2003, Math. Geology 35; Stan from 2.37):

       u = V x (helmert.c),   y = softmax(u),   log-det = sum of the K log y + log(K) / 2,

   where log y_k = u_k - m - log S with m = max u, S = sum e^(u - m). Since sum u = 0, the sum of the log y is
   -K (m + log S). Forward VJP, with D = gy.y:  gu_k = y_k (gy_k - D - K gl), gx = V^T gu. gl also adds the same
   constant to every gu_k, which is left out, since V^T takes it to 0. Inverse: x = V^T log y;  gy_k = ((V gx)_k - gl) /
   y_k. */
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"
#include "flows/param.h"

void nfi_simplex_ilr_forward(size_t K, size_t step, size_t ld, const nf_real *restrict x, nf_real *restrict y,
                             double *restrict log_det, nf_real *restrict scratch)
{
    ld = nfi_lanes(ld);
    nf_real *restrict most = scratch, *restrict sum = scratch + ld;
    nfi_helmert(K, ld, step, step, x, y);
    for (size_t k = 0; k < K; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            most[s] = k && most[s] > y[k * step + s] ? most[s] : y[k * step + s];
            sum[s] = 0;
        }
    }
    for (size_t k = 0; k < K; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            y[k * step + s] = nfi_exp(y[k * step + s] - most[s]);
            sum[s] += y[k * step + s];
        }
    }
    for (size_t k = 0; k < K; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            y[k * step + s] = nfi_positive(y[k * step + s] / sum[s]);
    }
    const double size = (double)K, half_log = 0.5 * log(size);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] += half_log - size * (double)(most[s] + nfi_log(sum[s]));
}

void nfi_simplex_ilr_forward_vjp(size_t K, size_t step, size_t ld, const nf_real *restrict x, const nf_real *restrict y,
                                 const nf_real *restrict gy, const nf_real *restrict gl, nf_real *restrict gx,
                                 nf_real *restrict scratch)
{
    (void)x;
    ld = nfi_lanes(ld);
    nf_real *restrict D = scratch, *restrict sum = scratch + ld, *restrict gu = scratch + 2 * ld;
    const nf_real size = (nf_real)K;
    for (size_t k = 0; k < K; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            D[s] = (k ? D[s] : 0) + gy[k * step + s] * y[k * step + s];
    }
    for (size_t k = 0; k < K; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gu[k * ld + s] = y[k * step + s] * (gy[k * step + s] - D[s] - size * gl[s]);
    }
    nfi_helmert_transposed(K, ld, step, ld, gu, gx, sum);
}

void nfi_simplex_ilr_inverse(size_t K, size_t step, size_t ld, const nf_real *restrict y, nf_real *restrict x,
                             double *restrict log_det, nf_real *restrict scratch)
{
    ld = nfi_lanes(ld);
    nf_real *restrict sum = scratch, *restrict u = scratch + ld;
    for (size_t k = 0; k < K; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real from = y[k * step + s];
            u[k * ld + s] = nfi_log(nfi_inside(from));
            log_det[s] += nfi_support(from) - (double)u[k * ld + s];
        }
    }
    nfi_helmert_transposed(K, ld, step, ld, u, x, sum);
    const double half_log = 0.5 * log((double)K);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] -= half_log;
}

void nfi_simplex_ilr_inverse_vjp(size_t K, size_t step, size_t ld, const nf_real *restrict y, const nf_real *restrict x,
                                 const nf_real *restrict gx, const nf_real *restrict gl, nf_real *restrict gy,
                                 nf_real *restrict scratch)
{
    (void)x, (void)scratch;
    ld = nfi_lanes(ld);
    nfi_helmert(K, ld, step, step, gx, gy);
    for (size_t k = 0; k < K; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gy[k * step + s] = (gy[k * step + s] - gl[s]) * nfi_inside_slope(y[k * step + s]);
    }
}
