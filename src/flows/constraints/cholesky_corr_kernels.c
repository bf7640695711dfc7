/* The Cholesky factor L [K x K] of a correlation matrix (Stan Reference Manual; Lewandowski et al. 2009). x fills the
   strict lower triangle row by row. Row i, with c_j = 1 + (i - 1 - j) / 2, where i - 1 - j factors come after j, is

       w_0 = 1,   L_ij = w_j tanh x_j,   w_{j+1} = w_j sech x_j,   L_ii = w_i,   log-det = sum c_j log(1 - tanh^2 x_j).

   Forward VJP, from the diagonal backwards, with A the cotangent of w_{j+1}:
       gx_j = w_j sech x_j (sech x_j gL_j - tanh x_j A) - 2 gl c_j tanh x_j,   A <- tanh x_j gL_j + sech x_j A.

   Inverse: r_i = L_ii, t = L_ij / r_{j+1} = sinh x_j, r_j = r_{j+1} cosh x_j. Nothing cancels, and only ratios within
   the row matter; log-det = sum 2 c_j log cosh x_j. Its VJP, with u = tanh x_j = L_ij / r_j and b the cotangent of
   log r_j: e = gx_j + (2 gl c_j + b) u,   gL_ij = e / r_j,   b <- b - e u,   b = 0 before j = 0,   gL_ii = b / L_ii. */
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"
#include "flows/param.h"

/* sech x */
NFI_INLINE nf_real sech(nf_real x)
{
    const nf_real e = nfi_exp(-nfi_abs(x));
    return 2 * e / (1 + e * e);
}

NFI_INLINE nf_real later(size_t i, size_t j)
{
    return NF_R(1) + NF_R(0.5) * (nf_real)(i - 1 - j);
}

void nfi_cholesky_corr_forward(size_t i, size_t step, size_t ld, const nf_real *restrict x, nf_real *restrict L,
                               double *restrict log_det)
{
    ld = nfi_lanes(ld);
    nf_real *restrict w = L + i * step;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        w[s] = 1;
    for (size_t j = 0; j < i; j++) {
        const nf_real c = later(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real from = x[j * ld + s], size = nfi_abs(from), e = nfi_exp(-2 * size);
            L[j * step + s] = w[s] * nfi_tanh(from);
            w[s] *= sech(from);
            log_det[s] += 2 * (double)c * ((double)(NF_R(0.69314718055994531) - nfi_log1p(e)) - (double)size);
        }
    }
}

void nfi_cholesky_corr_forward_vjp(size_t i, size_t step, size_t ld, const nf_real *restrict x,
                                   const nf_real *restrict gL, const nf_real *restrict gl, nf_real *restrict gx,
                                   nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict w = work, *restrict A = work + ld;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        w[s] = 1;
        A[s] = gL[i * step + s];
    }
    for (size_t j = 0; j < i; j++) { /* until the next loop gx holds w_{j+1} = w_j sech x_j */
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gx[j * ld + s] = w[s] *= sech(x[j * ld + s]);
    }
    for (size_t j = i; j-- > 0;) {
        const nf_real c = later(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real h = sech(x[j * ld + s]), t = nfi_tanh(x[j * ld + s]), g = gL[j * step + s];
            gx[j * ld + s] = gx[j * ld + s] * (h * g - t * A[s]) - 2 * c * gl[s] * t;
            A[s] = t * g + h * A[s];
        }
    }
}

/* Outside the set a quotient may overflow; from 2^1000 on (float: 2^120) this bound stands for it. NaN stays NaN. */
NFI_INLINE nf_real near_enough(nf_real t)
{
    const nf_real low = t < -NFI_FAR ? -NFI_FAR : t;
    return low > NFI_FAR ? NFI_FAR : low;
}

/* sqrt(1 + t^2) */
NFI_INLINE nf_real length(nf_real t)
{
    const nf_real size = nfi_abs(t), most = size > 1 ? size : 1, part = (size > 1 ? 1 : size) / most;
    return most * nfi_sqrt(1 + part * part);
}

void nfi_cholesky_corr_inverse(size_t i, size_t step, size_t ld, const nf_real *restrict L, nf_real *restrict x,
                               double *restrict log_det, nf_real *restrict r)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        r[s] = nfi_inside(L[i * step + s]);
        log_det[s] += nfi_support(L[i * step + s]);
    }
    for (size_t j = i; j-- > 0;) {
        const nf_real c = later(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real t = near_enough(L[j * step + s] / r[s]), h = length(t), size = nfi_abs(t);
            const nf_real a = nfi_log1p(size + size * (size / (1 + h)));
            x[j * ld + s] = t < 0 ? -a : a;
            r[s] *= h;
            log_det[s] += (double)(2 * c * nfi_log(h));
        }
    }
}

void nfi_cholesky_corr_inverse_vjp(size_t i, size_t step, size_t ld, const nf_real *restrict L,
                                   const nf_real *restrict gx, const nf_real *restrict gl, nf_real *restrict gL,
                                   nf_real *restrict b)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        gL[i * step + s] = nfi_inside(L[i * step + s]);
        b[s] = 0;
    }
    for (size_t j = i; j-- > 0;) { /* until the next loop gL holds r_j */
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real r = gL[(j + 1) * step + s];
            gL[j * step + s] = r * length(near_enough(L[j * step + s] / r));
        }
    }
    for (size_t j = 0; j < i; j++) {
        const nf_real c = later(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real r = gL[j * step + s], u = L[j * step + s] / r;
            const nf_real e = gx[j * ld + s] + (2 * c * gl[s] + b[s]) * u;
            gL[j * step + s] = e / r;
            b[s] -= e * u;
        }
    }
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        gL[i * step + s] = b[s] * nfi_inside_slope(L[i * step + s]);
}
