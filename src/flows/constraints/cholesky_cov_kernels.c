/* The diagonal of a covariance matrix's Cholesky factor. The formulas are in cholesky_cov.c. */
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"

void nfi_cholesky_cov_exp(size_t ld, const nf_real *restrict x, nf_real *restrict y, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        y[s] = nfi_exp(x[s]);
        log_det[s] += (double)x[s];
    }
}

void nfi_cholesky_cov_log(size_t ld, const nf_real *restrict y, nf_real *restrict x, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        x[s] = nfi_log(nfi_inside(y[s]));
        log_det[s] += nfi_support(y[s]) - (double)x[s];
    }
}

void nfi_cholesky_cov_exp_vjp(size_t ld, const nf_real *restrict x, const nf_real *restrict gy,
                              const nf_real *restrict gl, nf_real *restrict gx)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        gx[s] = gy[s] * nfi_slope_exp(x[s]) + gl[s];
}

void nfi_cholesky_cov_log_vjp(size_t ld, const nf_real *restrict y, const nf_real *restrict gx,
                              const nf_real *restrict gl, nf_real *restrict gy)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        gy[s] = (gx[s] - gl[s]) * nfi_inside_slope(y[s]);
}
