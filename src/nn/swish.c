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

/* slope [ld] = m f' of one row of units, m the mask, and dh = slope dz of its k directions. */
NFI_INLINE void row_tangent(nf_real c, nf_real b, size_t k, size_t ld, const nf_real *z, bool masked,
                            const nf_real *mask, nf_real *slope, const nf_real *dz, nf_real *dh)
{
    NFI_SIMD
    for (size_t i = 0; i < ld; i++) {
        const nf_real t = b * z[i], s = nfi_sigmoid(t), f = c * s * (1 + t * (1 - s));
        slope[i] = masked ? mask[i] * f : f;
    }
    for (size_t j = 0; j < k; j++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            dh[j * ld + i] = slope[i] * dz[j * ld + i];
    }
}

void nfi_swish_tangent(nf_real c, nf_real b, size_t rows, size_t k, size_t ld, const nf_real *z, const nf_real *mask,
                       nf_real *slope, const nf_real *dz, nf_real *dh)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const size_t at = r * ld;
        if (mask)
            row_tangent(c, b, k, ld, z + at, true, mask + at, slope, dz + k * at, dh + k * at);
        else
            row_tangent(c, b, k, ld, z + at, false, NULL, slope, dz + k * at, dh + k * at);
    }
}

/* The same of the product, for one row of units; sums [ld]. */
NFI_INLINE void row_tangent_vjp(nf_real c, nf_real b, size_t k, size_t ld, const nf_real *z, bool masked,
                                const nf_real *mask, const nf_real *dz, const nf_real *gh, const nf_real *gdh, bool add,
                                nf_real *slope, nf_real *sums, nf_real *gz, nf_real *gdz, nf_real *g_b)
{
    NFI_SIMD
    for (size_t i = 0; i < ld; i++)
        sums[i] = 0;
    for (size_t j = 0; j < k; j++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            sums[i] += dz[j * ld + i] * gdh[j * ld + i];
    }
    NFI_SIMD
    for (size_t i = 0; i < ld; i++) {
        const nf_real x = z[i], t = b * x, s = nfi_sigmoid(t), rest = 1 - s, bend = 2 + t * (1 - 2 * s);
        const nf_real m = masked ? mask[i] : 1, of_y = m * gh[i], of_slope = m * sums[i];
        const nf_real f = c * s * (1 + t * rest), g = f * of_y + c * b * (s * rest) * bend * of_slope;
        slope[i] = m * f;
        g_b[i] += c * ((x * s) * (x * rest) * of_y + x * s * rest * bend * of_slope);
        gz[i] = add ? gz[i] + g : g;
    }
    for (size_t j = 0; j < k; j++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++) {
            const nf_real g = slope[i] * gdh[j * ld + i];
            gdz[j * ld + i] = add ? gdz[j * ld + i] + g : g;
        }
    }
}

void nfi_swish_tangent_vjp(nf_real c, nf_real b, size_t rows, size_t k, size_t ld, const nf_real *z,
                           const nf_real *mask, nf_real *spare, const nf_real *dz, const nf_real *gh,
                           const nf_real *gdh, bool add, nf_real *gz, nf_real *gdz, nf_real *g_b)
{
    ld = nfi_lanes(ld);
    nf_real *slope = spare, *sums = spare + ld;
#define ROW(masked, add)                                                                                          \
    row_tangent_vjp(c, b, k, ld, z + r * ld, masked, masked ? mask + r * ld : NULL, dz + r * k * ld, gh + r * ld, \
                    gdh + r * k * ld, add, slope, sums, gz + r * ld, gdz + r * k * ld, g_b)
    for (size_t r = 0; r < rows; r++) {
        if (!mask && !add)
            ROW(false, false);
        else if (!mask)
            ROW(false, true);
        else if (!add)
            ROW(true, false);
        else
            ROW(true, true);
    }
#undef ROW
}
