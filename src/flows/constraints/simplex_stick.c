/* A simplex by breaking a stick (Stan Reference Manual, to 2.36). From r_0 = 1, with k = 0 .. K - 2 and m = K - 1 - k
   pieces that still follow,

       t = x_k - log m,   z = sigmoid(t),   y_k = r_k z,   r_{k+1} = r_k (1 - z),   y_{K-1} = r_{K-1},
       log-det = sum log r_k + log z + log(1 - z) = sum over k of log z + m log(1 - z) = sum of the K log y.

   All are products of positive numbers, so that every y_k has the same relative accuracy, down to the smallest normal
   number, which is the least that an entry becomes. Forward
   VJP, backwards with R the cotangent of r_{k+1}:
       gx_k = y_k (1 - z) (gy_k - R) + gl (1 - (m + 1) z),   R <- z gy_k + (1 - z) R.

   Inverse, with S_k = y_k + ... + y_{K-1}, a sum without cancellation:  x_k = log y_k - log S_{k+1} + log m. */
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"
#include "flows/param.h"

void nfi_simplex_stick_forward(size_t K, size_t step, size_t ld, const nf_real *restrict x, nf_real *restrict y,
                               double *restrict log_det, nf_real *restrict scratch)
{
    (void)scratch;
    ld = nfi_lanes(ld);
    nf_real *restrict r = y + (K - 1) * step;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        r[s] = 1;
    for (size_t k = 0; k + 1 < K; k++) {
        const nf_real m = (nf_real)(K - 1 - k), log_m = (nf_real)log((double)m);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real t = x[k * step + s] - log_m, e = nfi_exp(-nfi_abs(t)), p = 1 / (1 + e), q = e * p;
            const nf_real both = -nfi_log1p(e);
            y[k * step + s] = nfi_positive(r[s] * (t < 0 ? q : p));
            r[s] = nfi_positive(r[s] * (t < 0 ? p : q));
            log_det[s] += (t < 0 ? 1 : -(double)m) * (double)t + (double)((m + 1) * both);
        }
    }
}

void nfi_simplex_stick_forward_vjp(size_t K, size_t step, size_t ld, const nf_real *restrict x,
                                   const nf_real *restrict y, const nf_real *restrict gy, const nf_real *restrict gl,
                                   nf_real *restrict gx, nf_real *restrict scratch)
{
    ld = nfi_lanes(ld);
    nf_real *restrict R = scratch;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        R[s] = gy[(K - 1) * step + s];
    for (size_t k = K - 1; k-- > 0;) {
        const nf_real m = (nf_real)(K - 1 - k), log_m = (nf_real)log((double)m);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real t = x[k * step + s] - log_m, e = nfi_exp(-nfi_abs(t)), p = 1 / (1 + e), q = e * p;
            const nf_real z = t < 0 ? q : p, rest = t < 0 ? p : q, g = gy[k * step + s];
            gx[k * step + s] = y[k * step + s] * rest * (g - R[s]) + gl[s] * (rest - m * z);
            R[s] = z * g + rest * R[s];
        }
    }
}

void nfi_simplex_stick_inverse(size_t K, size_t step, size_t ld, const nf_real *restrict y, nf_real *restrict x,
                               double *restrict log_det, nf_real *restrict scratch)
{
    ld = nfi_lanes(ld);
    nf_real *restrict S = scratch;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real last = y[(K - 1) * step + s];
        S[s] = last;
        log_det[s] += nfi_support(last) - (double)nfi_log(nfi_inside(last));
    }
    for (size_t k = K - 1; k-- > 0;) {
        const nf_real log_m = (nf_real)log((double)(K - 1 - k));
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real from = y[k * step + s], l = nfi_log(nfi_inside(from));
            x[k * step + s] = l - nfi_log(nfi_inside(S[s])) + log_m;
            S[s] += from;
            log_det[s] += nfi_support(from) - (double)l;
        }
    }
}

/* sum [ld] is that of g_j / S_{j+1} for j < k; S [K x ld]. */
void nfi_simplex_stick_inverse_vjp(size_t K, size_t step, size_t ld, const nf_real *restrict y,
                                   const nf_real *restrict x, const nf_real *restrict gx, const nf_real *restrict gl,
                                   nf_real *restrict gy, nf_real *restrict scratch)
{
    (void)x;
    ld = nfi_lanes(ld);
    nf_real *restrict sum = scratch, *restrict S = scratch + ld;
    for (size_t k = K; k-- > 0;) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            S[k * ld + s] = y[k * step + s] + (k + 1 < K ? S[(k + 1) * ld + s] : 0);
            sum[s] = 0;
        }
    }
    for (size_t k = 0; k < K; k++) {
        const bool last = k + 1 == K;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real g = last ? 0 : gx[k * step + s];
            gy[k * step + s] = (g - gl[s]) * nfi_inside_slope(y[k * step + s]) - sum[s];
            sum[s] += last ? 0 : g * nfi_inside_slope(S[(k + 1) * ld + s]);
        }
    }
}
