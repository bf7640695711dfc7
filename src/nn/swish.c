/* Swish (Ramachandran et al. 2017) and LipSwish (Chen et al. 2019, Residual Flows, sec. 3.3), with a learnt b > 0:

       y = c z s,   s = sigmoid(t),   t = b z,   c = 1 or 1 / 1.1;   with q = s (1 - s):
       f'     = c s (1 + t (1 - s))        df/db  = c z^2 q
       f''    = c b q (2 + t (1 - 2 s))    df'/db = c z q (2 + t (1 - 2 s)).

   The slope of swish is at most 1.0998 for every b, so LipSwish never stretches. Two arguments may give the same y, so
   the derivatives do not follow from y: z is kept. z^2 q is computed as (z s) (z (1 - s)), which does not overflow. */
#include "nn/swish.h"
#include "math/vec.h"

void nfi_swish(nf_real c, nf_real b, size_t rows, size_t ld, const nf_real *bias, const nf_real *x, nf_real *z,
               nf_real *y)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real shift = bias[r];
        NFI_SIMD
        for (size_t i = r * ld; i < (r + 1) * ld; i++) {
            const nf_real argument = x[i] + shift;
            z[i] = argument;
            y[i] = c * argument * nfi_sigmoid(b * argument);
        }
    }
}

NFI_INLINE void back(nf_real c, nf_real b, size_t rows, size_t ld, const nf_real *z, const nf_real *gy, bool add,
                     nf_real *g, nf_real *g_b)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real *in = z + r * ld, *from = gy + r * ld;
        nf_real *to = g + r * ld;
        NFI_SIMD
        for (size_t i = 0; i < ld; i++) {
            const nf_real s = nfi_sigmoid(b * in[i]), rest = 1 - s, gi = c * from[i];
            const nf_real gz = gi * s * (1 + b * in[i] * rest);
            to[i] = add ? to[i] + gz : gz;
            g_b[i] += gi * (in[i] * s) * (in[i] * rest);
        }
    }
}

void nfi_swish_vjp(nf_real c, nf_real b, size_t rows, size_t ld, const nf_real *z, const nf_real *gy, bool add,
                   nf_real *g, nf_real *g_b)
{
    if (add)
        back(c, b, rows, ld, z, gy, true, g, g_b);
    else
        back(c, b, rows, ld, z, gy, false, g, g_b);
}

void nfi_swish_slopes(nf_real c, nf_real b, size_t n, const nf_real *z, nf_real *slope)
{
    n = nfi_lanes(n);
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        const nf_real t = b * z[i], s = nfi_sigmoid(t);
        slope[i] = c * s * (1 + t * (1 - s));
    }
}

void nfi_swish_curves(nf_real c, nf_real b, size_t n, const nf_real *z, nf_real *curve)
{
    n = nfi_lanes(n);
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        const nf_real t = b * z[i], s = nfi_sigmoid(t);
        curve[i] = c * b * (s * (1 - s)) * (2 + t * (1 - 2 * s));
    }
}

NFI_INLINE void in_b(nf_real c, nf_real b, size_t rows, size_t ld, const nf_real *z, bool masked, const nf_real *mask,
                     const nf_real *gy, const nf_real *sums, nf_real *g_b)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const size_t row = r * ld;
        NFI_SIMD
        for (size_t i = 0; i < ld; i++) {
            const nf_real x = z[row + i], t = b * x, s = nfi_sigmoid(t), rest = 1 - s;
            const nf_real of_y = (x * s) * (x * rest), of_slope = x * s * rest * (2 + t * (1 - 2 * s));
            const nf_real all = c * (of_y * gy[row + i] + of_slope * sums[row + i]);
            g_b[i] += masked ? mask[row + i] * all : all;
        }
    }
}

void nfi_swish_tangent_in_b(nf_real c, nf_real b, size_t rows, size_t ld, const nf_real *z, const nf_real *mask,
                            const nf_real *gy, const nf_real *sums, nf_real *g_b)
{
    if (mask)
        in_b(c, b, rows, ld, z, true, mask, gy, sums, g_b);
    else
        in_b(c, b, rows, ld, z, false, NULL, gy, sums, g_b);
}
