/* The standard normal's score, log q(x) = -|x|^2 / 2 - d log(2 pi) / 2, and its gradient. */
#include "dist/kernels.h"
#include "dist/types.h"

/* log_p[s] -= |x_s|^2 / 2 + d log(2 pi) / 2, x [dim x ld]. The squares are summed in double. */
void nfi_normal_score(size_t dim, size_t ld, const nf_real *x, double *log_p)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_p[s] -= NFI_HALF_LOG_2PI * (double)dim;
    for (size_t d = 0; d < dim; d++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_p[s] -= 0.5 * (double)x[d * ld + s] * (double)x[d * ld + s];
    }
}

void nfi_normal_gradient(size_t dim, size_t ld, const nf_real *x, const nf_real *g_log_p, nf_real *gx)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gx[d * ld + s] = -g_log_p[s] * x[d * ld + s];
    }
}
