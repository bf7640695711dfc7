/* The elementwise affine flow with a bounded scale: y = s x + m, or gated y = s x + (1 - s) m (Kingma et al. 2016, IAF,
   eq. 10 and algorithm 1), where s = exp(L(a)); src/flows/elementwise/log_scale.h has the forms of L.

   It is nf_affine at the parameters m', L, where m' = m, or, if gated, m' = (1 - s) m = -expm1(L) m. So its kernels are
   those of affine_kernels.c. This file has the map (m, a) -> (m', L) and its transpose

       ga += L'(a) (gL - [gated] gm' m e^L),   gm += gm' (or -expm1(L) gm'). */
#include "flows/elementwise/scaled_affine.h"

NFI_INLINE void bound_rows(nf_scale kind, bool gated, nfi_log_scale form, size_t dim, size_t columns,
                           const nf_real *theta, nf_real *restrict shift, nf_real *restrict log_scale,
                           nf_real *restrict slope)
{
    for (size_t i = 0; i < dim; i++) {
        const nf_real *restrict m = theta + 2 * i * columns, *restrict a = m + columns;
        nf_real *restrict to = shift + i * columns, *restrict L = log_scale + i * columns;
        nf_real *restrict dL = slope + i * columns;
        NFI_SIMD
        for (size_t s = 0; s < columns; s++) {
            const nfi_log_scale_value v = nfi_log_scale_at(kind, form, a[s]);
            to[s] = gated ? -nfi_expm1(v.log) * m[s] : m[s];
            L[s] = v.log;
            dL[s] = v.slope;
        }
    }
}

void nfi_scaled_affine_bound(nf_scale scale, bool gated, nfi_log_scale form, size_t dim, size_t columns,
                             const nf_real *theta, nf_real *shift, nf_real *log_scale, nf_real *slope)
{
#define NFI_CASE(kind)                                                               \
    case kind:                                                                       \
        bound_rows(kind, false, form, dim, columns, theta, shift, log_scale, slope); \
        break
    if (gated) {
        bound_rows(NF_SCALE_SIGMOID, true, form, dim, columns, theta, shift, log_scale, slope);
        return;
    }
    switch (scale) {
        NFI_CASE(NF_SCALE_EXP);
        NFI_CASE(NF_SCALE_TANH);
        NFI_CASE(NF_SCALE_CLAMP);
        NFI_CASE(NF_SCALE_SOFTSIGN);
        NFI_CASE(NF_SCALE_ATAN);
        NFI_CASE(NF_SCALE_ASYMMETRIC);
        NFI_CASE(NF_SCALE_SIGMOID);
        NFI_CASE(NF_SCALE_SOFTPLUS);
        NFI_CASE(NF_SCALE_INVERSE_SIGMOID);
    }
}

NFI_INLINE void pull_back(bool gated, size_t dim, size_t columns, const nf_real *theta, const nf_real *log_scale,
                          const nf_real *slope, const nf_real *g_affine, nf_real *g_theta)
{
    for (size_t i = 0; i < dim; i++) {
        const nf_real *restrict m = theta + 2 * i * columns;
        nf_real *restrict gm = g_theta + 2 * i * columns, *restrict ga = gm + columns;
        const nf_real *restrict L = log_scale + i * columns, *restrict dL = slope + i * columns;
        const nf_real *restrict g_shift = g_affine + i * columns, *restrict gL = g_affine + (dim + i) * columns;
        NFI_SIMD
        for (size_t s = 0; s < columns; s++) {
            const nf_real less_one = gated ? nfi_expm1(L[s]) : -1;
            gm[s] -= less_one * g_shift[s];
            ga[s] += dL[s] * (gL[s] - (gated ? (less_one + 1) * m[s] * g_shift[s] : 0));
        }
    }
}

void nfi_scaled_affine_pull_back(bool gated, size_t dim, size_t columns, const nf_real *theta, const nf_real *log_scale,
                                 const nf_real *slope, const nf_real *g_affine, nf_real *g_theta)
{
    if (gated)
        pull_back(true, dim, columns, theta, log_scale, slope, g_affine, g_theta);
    else
        pull_back(false, dim, columns, theta, log_scale, slope, g_affine, g_theta);
}
