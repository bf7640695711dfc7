/* The elementwise affine flow: y = x exp(s) + m, log|det dy/dx| = sum s; x = (y - m) exp(-s).

       gx = gy e^s,   gm += gy,   gs += gy (y - m) + g_log_det           (forward; y - m = x e^s)
       gx = gy e^-s,  gm -= gx,   gs -= gy y + g_log_det                 (inverse; y is on the base's side)

   e^s x is computed as (e^(s/2) x) e^(s/2), see root_scale.h.
   A feature of the tile needs only m and s, shared or one for each sample (theta_stride 1: the amortised posterior of a
   VAE). Conditioning: both directions are exact to rounding of x e^s and m. */
#include "flows/elementwise/affine.h"
#include "flows/elementwise/root_scale.h"

NFI_INLINE void apply_row(size_t ld, bool forward, bool per_sample, const nf_real *m, const nf_real *s,
                          const nf_real *restrict x, nf_real *restrict y, double *restrict log_det)
{
    nf_real sign = forward ? 1 : -1, scale = nfi_root_scale(sign * s[0]);
    NFI_SIMD
    for (size_t i = 0; i < ld; i++) {
        nf_real e = per_sample ? nfi_root_scale(sign * s[i]) : scale, shift = m[per_sample ? i : 0];
        y[i] = forward ? x[i] * e * e + shift : (x[i] - shift) * e * e;
        log_det[i] += (double)(sign * s[per_sample ? i : 0]);
    }
}

NFI_INLINE void apply_rows(size_t dim, size_t ld, bool forward, bool per_sample, const nf_real *theta, const nf_real *x,
                           nf_real *y, double *log_det)
{
    ld = nfi_lanes(ld);
    size_t step = per_sample ? ld : 1;
    for (size_t r = 0; r < dim; r++)
        apply_row(ld, forward, per_sample, theta + r * step, theta + (dim + r) * step, x + r * ld, y + r * ld, log_det);
}

/* gx = gy * scale. solve_jt needs gx = gy / scale, which is the same with the other sign. */
NFI_INLINE void scale_row(size_t ld, nf_real sign, bool per_sample, const nf_real *s, const nf_real *restrict gy,
                          nf_real *restrict gx)
{
    nf_real scale = nfi_root_scale(sign * s[0]);
    NFI_SIMD
    for (size_t i = 0; i < ld; i++) {
        nf_real e = per_sample ? nfi_root_scale(sign * s[i]) : scale;
        gx[i] = gy[i] * e * e;
    }
}

NFI_INLINE void scale_rows(size_t dim, size_t ld, bool forward, bool per_sample, const nf_real *theta,
                           const nf_real *gy, nf_real *gx)
{
    ld = nfi_lanes(ld);
    size_t step = per_sample ? ld : 1;
    for (size_t r = 0; r < dim; r++)
        scale_row(ld, forward ? 1 : -1, per_sample, theta + (dim + r) * step, gy + r * ld, gx + r * ld);
}

/* v b, but 0 if b is 0, however large v is. */
NFI_INLINE nfi_vec product_or_0(nfi_vec v, nfi_vec b)
{
    const __typeof__(b != b) keep = b != 0; /* all bits set, or none */
    return (nfi_vec)((__typeof__(b != b))(v * b) & keep);
}

NFI_INLINE void gradient_rows(size_t dim, size_t ld, bool forward, bool per_sample, const nf_real *base,
                              const nf_real *gy, const nf_real *gx, const nf_real *g_log_det, nf_real *g_theta)
{
    ld = nfi_lanes(ld);
    size_t step = per_sample ? ld : 1;
    for (size_t r = 0; r < dim; r++) {
        nf_real *gm = g_theta + r * step, *gs = g_theta + (dim + r) * step;
        nfi_wide sum_m = {0}, sum_s = {0};
        for (size_t at = 0; at < ld; at += NFI_SUMS)
            for (size_t k = 0, i = at; k < NFI_PARTS; k++, i += NFI_WIDTH) {
                const nfi_vec b = NFI_CONST_VEC_AT(base + r * ld + i), g = NFI_CONST_VEC_AT(g_log_det + i);
                const nfi_vec u = NFI_CONST_VEC_AT(gy + r * ld + i), v = NFI_CONST_VEC_AT(gx + r * ld + i);
                const nfi_vec dm = forward ? u : -v, ds = forward ? product_or_0(v, b) + g : -(u * b + g);
                if (per_sample) {
                    NFI_VEC_AT(gm + i) += dm;
                    NFI_VEC_AT(gs + i) += ds;
                } else {
                    sum_m.part[k] += dm;
                    sum_s.part[k] += ds;
                }
            }
        if (!per_sample) {
            *gm += nfi_wide_sum(&sum_m);
            *gs += nfi_wide_sum(&sum_s);
        }
    }
}

/* The four cases of a body, each with constants that the compiler can see. */
#define NFI_CASES(body, ...)                          \
    do {                                              \
        if (d == NF_FORWARD && stride)                \
            body(dim, ld, true, true, __VA_ARGS__);   \
        else if (d == NF_FORWARD)                     \
            body(dim, ld, true, false, __VA_ARGS__);  \
        else if (stride)                              \
            body(dim, ld, false, true, __VA_ARGS__);  \
        else                                          \
            body(dim, ld, false, false, __VA_ARGS__); \
    } while (0)

void nfi_affine_map(size_t stride, nf_direction d, size_t dim, size_t ld, const nf_real *theta, const nf_real *x,
                    nf_real *y, double *log_det)
{
    NFI_CASES(apply_rows, theta, x, y, log_det);
}

void nfi_affine_scale(size_t stride, nf_direction d, size_t dim, size_t ld, const nf_real *theta, const nf_real *gy,
                      nf_real *gx)
{
    NFI_CASES(scale_rows, theta, gy, gx);
}

void nfi_affine_add_gradient(size_t stride, nf_direction d, size_t dim, size_t ld, const nf_real *base,
                             const nf_real *gy, const nf_real *gx, const nf_real *g_log_det, nf_real *g_theta)
{
    NFI_CASES(gradient_rows, base, gy, gx, g_log_det, g_theta);
}
