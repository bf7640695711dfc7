/* The loops of gaussian_mixture.c that are not those of the triangular affine flow. Squares are summed in double: far
   from a narrow component z^2 is too large for a float. */
#include "dist/mixture.h"
#include "dist/types.h"
#include "flows/param.h"
#include "math/vec.h"
#include <float.h>

NFI_INLINE void term(size_t stride, nfi_mixture q, size_t k, const nf_real *restrict z, double *restrict l)
{
    const size_t ld = nfi_lanes(q.ld), columns = nfi_param_columns(stride, ld);
    const nf_real *restrict s = q.s + k * q.dim * columns;
    double constant = q.log_w[k * columns];
    for (size_t d = 0; d < q.dim && !stride; d++)
        constant -= NFI_HALF_LOG_2PI + (double)s[d];
    NFI_SIMD
    for (size_t i = 0; i < ld; i++)
        l[i] = stride ? q.log_w[k * ld + i] : constant;
    for (size_t d = 0; d < q.dim; d++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++) {
            const double zd = (double)z[d * ld + i];
            l[i] -= 0.5 * zd * zd + (stride ? NFI_HALF_LOG_2PI + (double)s[d * ld + i] : 0);
        }
    }
    NFI_SIMD
    for (size_t i = 0; i < ld; i++)
        l[i] = l[i] < -DBL_MAX ? -DBL_MAX : l[i];
}

void nfi_full_term(nfi_mixture q, size_t k, const nf_real *z, double *l)
{
    NFI_BY_STRIDE(term, q.stride, q, k, z, l);
}

void nfi_full_cotangent(nfi_mixture q, size_t k, const nf_real *restrict r, const nf_real *restrict g_log,
                        nf_real *restrict z, nf_real *restrict u, nf_real *restrict gz)
{
    const size_t ld = nfi_lanes(q.ld);
    NFI_SIMD
    for (size_t i = 0; i < ld; i++)
        u[i] = g_log[i] * r[k * ld + i];
    for (size_t d = 0; d < q.dim; d++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++) {
            const nf_real zd = z[d * ld + i], size = nfi_abs(zd);
            z[d * ld + i] = r[k * ld + i] > 0 && size <= NFI_LARGEST ? zd : 0;
            gz[d * ld + i] = -u[i] * z[d * ld + i];
        }
    }
}
