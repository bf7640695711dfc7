/* The soft-log tail layer (Andrade 2024, LOFT), elementwise: the identity up to t, a logarithm beyond,

       y = sign(x) (min(|x|, t) + log(1 + e)),   e = max(|x| - t, 0),   log|det dy/dx| = -sum log(1 + e)
       x = sign(y) (min(|y|, t) + exp(e) - 1),   e = max(|y| - t, 0),   log|det dx/dy| = sum e.

   With s = the sign if e > 0, else 0, and with each direction's own e,

       forward: gx = (gy - s g_log_det) / (1 + e),   inverse: gy = gx exp(e) + s g_log_det.

   The slope is continuous; its derivative jumps at t. In the forward direction everything finite stays finite. The
   inverse would overflow beyond t + 709 (double) or t + 88 (float), and the layers below would make NaN of infinity. So
   x grows to 2^1000 (float: 2^120) and no further, whereas its log-det stays exact. Conditioning: an image
   has the absolute error of a number of size t, so that a large x comes back with a relative error of t roundings. */
#include "flows/elementwise/soft_log.h"
#include "math/vec.h"

#ifdef NF_SINGLE
static const nf_real most_excess = 83.17766167f; /* 120 log 2 */
#else
static const nf_real most_excess = 693.14718055994531; /* 1000 log 2 */
#endif

/* exp is taken of this. NaN stays NaN. */
NFI_INLINE nf_real for_exp(nf_real e)
{
    return e > most_excess ? most_excess : e;
}

/* |x| - t beyond t, else 0; NaN stays NaN. *within = min(|x|, t). */
NFI_INLINE nf_real excess(nf_real t, nf_real x, nf_real *within)
{
    const nf_real size = nfi_abs(x);
    *within = size > t ? t : size;
    return size - *within;
}

NFI_INLINE nf_real with_sign(nf_real x, nf_real size)
{
    return x < 0 ? -size : size;
}

NFI_INLINE void apply_rows(bool forward, size_t dim, size_t ld, nf_real t, const nf_real *restrict x,
                           nf_real *restrict y, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            nf_real within;
            const nf_real e = excess(t, x[i * ld + s], &within), l = forward ? nfi_log1p(e) : e;
            y[i * ld + s] = with_sign(x[i * ld + s], within + (forward ? l : nfi_expm1(for_exp(e))));
            log_det[s] += (double)(forward ? -l : l);
        }
    }
}

NFI_INLINE void scale_rows(bool forward, bool divide, size_t dim, size_t ld, nf_real t, const nf_real *restrict x,
                           const nf_real *restrict from, const nf_real *restrict g_log_det, nf_real *restrict to)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            nf_real within;
            const nf_real v = x[i * ld + s], e = excess(t, v, &within), u = from[i * ld + s];
            const nf_real sign = e > 0 ? with_sign(v, 1) : 0, g_l = g_log_det ? sign * g_log_det[s] : 0;
            if (forward)
                to[i * ld + s] = divide ? u * (1 + e) : (u - g_l) / (1 + e);
            else
                to[i * ld + s] = u * nfi_exp(divide ? -e : for_exp(e)) + g_l;
        }
    }
}

void nfi_soft_log_map(nf_direction d, size_t dim, size_t ld, nf_real t, const nf_real *x, nf_real *y, double *log_det)
{
    if (d == NF_FORWARD)
        apply_rows(true, dim, ld, t, x, y, log_det);
    else
        apply_rows(false, dim, ld, t, x, y, log_det);
}

void nfi_soft_log_scale(nf_direction d, bool divide, size_t dim, size_t ld, nf_real t, const nf_real *x,
                        const nf_real *from, const nf_real *g_log_det, nf_real *to)
{
    if (d == NF_FORWARD && divide)
        scale_rows(true, true, dim, ld, t, x, from, NULL, to);
    else if (d == NF_FORWARD)
        scale_rows(true, false, dim, ld, t, x, from, g_log_det, to);
    else if (divide)
        scale_rows(false, true, dim, ld, t, x, from, NULL, to);
    else
        scale_rows(false, false, dim, ld, t, x, from, g_log_det, to);
}
