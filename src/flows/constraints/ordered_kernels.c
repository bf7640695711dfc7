/* Ordered numbers: y[k] = y[k-1] + e^x[k]; the first is x[0] itself, or e^x[0] if all are to be positive.

       log-det = sum of the x that are exponents,   x[k] = log(y[k] - y[k-1]).

   Forward: gx[k] = e^x[k] (gy[k] + gy[k+1] + ...) + gl. Inverse: h[k] = (gy[k] - gl) / (y[k] - y[k-1]),
   gx[k] = h[k] - h[k+1]. Conditioning: if a difference y[k] - y[k-1] is small beside y[k], its last digits are lost. */
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"

/* One feature of each map. `before` is the previous feature, which the first does not read. `exponent`: whether x is an
   exponent. */
NFI_INLINE void forward_row(bool first, bool exponent, size_t ld, const nf_real *restrict x, const nf_real *before,
                            nf_real *restrict y, double *restrict log_det)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real part = exponent ? nfi_exp(x[s]) : x[s];
        y[s] = first ? part : before[s] + part;
        log_det[s] += exponent ? (double)x[s] : 0;
    }
}

/* tail [ld]: the sum of gy from this feature on. */
NFI_INLINE void forward_row_vjp(bool last, bool exponent, size_t ld, const nf_real *restrict x,
                                const nf_real *restrict gy, const nf_real *restrict gl, nf_real *restrict gx,
                                nf_real *restrict tail)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        tail[s] = last ? gy[s] : tail[s] + gy[s];
        gx[s] = exponent ? tail[s] * nfi_slope_exp(x[s]) + gl[s] : tail[s];
    }
}

NFI_INLINE void inverse_row(bool first, bool exponent, size_t ld, const nf_real *restrict y, const nf_real *before,
                            nf_real *restrict x, double *restrict log_det)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real u = first ? y[s] : y[s] - before[s];
        x[s] = exponent ? nfi_log(nfi_inside(u)) : u;
        log_det[s] += exponent ? nfi_support(u) - (double)x[s] : 0;
    }
}

NFI_INLINE void inverse_row_vjp(bool first, bool exponent, size_t ld, const nf_real *restrict y, const nf_real *before,
                                const nf_real *restrict gx, const nf_real *restrict gl, nf_real *restrict gy,
                                nf_real *restrict gy_before)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real u = first ? y[s] : y[s] - before[s];
        gy[s] = exponent ? (gx[s] - gl[s]) * nfi_inside_slope(u) : gx[s];
        if (!first)
            gy_before[s] -= gy[s];
    }
}

/* Calls body(whether at the end, whether an exponent, ...) with constants that the compiler can see. */
#define ROW_CASES(body, end, exponent, ...)  \
    do {                                     \
        if ((end) && (exponent))             \
            body(true, true, __VA_ARGS__);   \
        else if (end)                        \
            body(true, false, __VA_ARGS__);  \
        else if (exponent)                   \
            body(false, true, __VA_ARGS__);  \
        else                                 \
            body(false, false, __VA_ARGS__); \
    } while (0)

void nfi_ordered_forward(size_t K, bool positive, size_t ld, const nf_real *x, nf_real *y, double *log_det)
{
    ld = nfi_lanes(ld);
    for (size_t k = 0; k < K; k++)
        ROW_CASES(forward_row, k == 0, k || positive, ld, x + k * ld, k ? y + (k - 1) * ld : y, y + k * ld, log_det);
}

void nfi_ordered_forward_vjp(size_t K, bool positive, size_t ld, const nf_real *x, const nf_real *gy, const nf_real *gl,
                             nf_real *gx, nf_real *tail)
{
    ld = nfi_lanes(ld);
    for (size_t k = K; k-- > 0;)
        ROW_CASES(forward_row_vjp, k + 1 == K, k || positive, ld, x + k * ld, gy + k * ld, gl, gx + k * ld, tail);
}

void nfi_ordered_inverse(size_t K, bool positive, size_t ld, const nf_real *y, nf_real *x, double *log_det)
{
    ld = nfi_lanes(ld);
    for (size_t k = 0; k < K; k++)
        ROW_CASES(inverse_row, k == 0, k || positive, ld, y + k * ld, k ? y + (k - 1) * ld : y, x + k * ld, log_det);
}

void nfi_ordered_inverse_vjp(size_t K, bool positive, size_t ld, const nf_real *y, const nf_real *gx, const nf_real *gl,
                             nf_real *gy)
{
    ld = nfi_lanes(ld);
    for (size_t k = 0; k < K; k++) {
        const size_t before = k ? (k - 1) * ld : 0;
        ROW_CASES(inverse_row_vjp, k == 0, k || positive, ld, y + k * ld, y + before, gx + k * ld, gl, gy + k * ld,
                  gy + before);
    }
}
