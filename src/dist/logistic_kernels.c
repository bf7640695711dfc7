/* The standard logistic in every dimension, log q(x) = -|x| - 2 log(1 + e^-|x|), d log q / dx = -tanh(x / 2).
   A sample is the quantile x = log u - log(1 - u); 1 - u is exact in double. */
#include "math/vec.h"
#include "dist/kernels.h"

void nfi_logistic_score(size_t dim, size_t ld, const nf_real *x, double *log_p)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        const nf_real *xd = x + d * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            nf_real a = nfi_abs(xd[s]);
            log_p[s] -= (double)(a + 2 * nfi_log1p(nfi_exp(-a)));
        }
    }
}

void nfi_logistic_quantile(size_t dim, size_t ld, const double *u, nf_real *x)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t i = 0; i < dim * ld; i++)
        x[i] = (nf_real)(nfi_log_normal_d(u[i]) - nfi_log_normal_d(1 - u[i]));
}

void nfi_logistic_gradient(size_t dim, size_t ld, const nf_real *x, const nf_real *g_log_p, nf_real *gx)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gx[d * ld + s] = -g_log_p[s] * nfi_tanh(NF_R(0.5) * x[d * ld + s]);
    }
}
