/* Units of several products.

   Gated (Dauphin et al. 2017, eq. 1; van den Oord et al. 2016, eq. 2, without the tanh):

       h = v s,   s = sigmoid(z);        gv = gh s,   gz = gh v s (1 - s).

   Tangents, where `sum` is over the directions:

       dh = s dv + v q dz,   q = s (1 - s);
       gv += q sum gdh dz,   gz += q sum gdh (dv + v (1 - 2 s) dz),   gdv = s gdh,   gdz = v q gdh.

   Maxout (Goodfellow et al. 2013, eq. 1-2): h = max_j z_j. Its gradient goes to the first of the largest pieces, and dh
   is that piece's. */
#include "nn/units.h"
#include "math/vec.h"

NFI_INLINE void gate(size_t rows, size_t ld, const nf_real *bias_v, const nf_real *bias_s, nf_real *v, nf_real *s,
                     bool add, nf_real *h)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real bv = bias_v[r], bs = bias_s[r];
        NFI_SIMD
        for (size_t i = r * ld; i < (r + 1) * ld; i++) {
            const nf_real value = v[i] + bv, open = nfi_sigmoid(s[i] + bs);
            v[i] = value;
            s[i] = open;
            h[i] = add ? h[i] + value * open : value * open;
        }
    }
}

void nfi_gate(size_t rows, size_t ld, const nf_real *bias_v, const nf_real *bias_s, nf_real *v, nf_real *s, bool add,
              nf_real *h)
{
    if (add)
        gate(rows, ld, bias_v, bias_s, v, s, true, h);
    else
        gate(rows, ld, bias_v, bias_s, v, s, false, h);
}

void nfi_gate_vjp(size_t rows, size_t ld, const nf_real *v, const nf_real *s, const nf_real *gh, nf_real *gv,
                  nf_real *gs, nf_real *g_bias_v, nf_real *g_bias_s)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        NFI_SIMD
        for (size_t i = r * ld; i < (r + 1) * ld; i++) {
            const nf_real g = gh[i] * s[i];
            gv[i] = g;
            gs[i] = g * v[i] * (1 - s[i]);
        }
        if (g_bias_v) {
            g_bias_v[r] += nfi_row_sum(ld, gv + r * ld);
            g_bias_s[r] += nfi_row_sum(ld, gs + r * ld);
        }
    }
}

/* If any piece is NaN, the result is NaN. */
void nfi_maxout(size_t units, size_t window, size_t ld, const nf_real *bias, const nf_real *z, nf_real *h,
                nf_real *which)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < units; r++) {
        const nf_real *piece = z + r * window * ld, *b = bias + r * window;
        nf_real *best = h + r * ld, *number = which + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            best[s] = piece[s] + b[0];
            number[s] = 0;
        }
        for (size_t j = 1; j < window; j++) {
            const nf_real *row = piece + j * ld, bj = b[j], nj = (nf_real)j;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++) {
                const nf_real here = row[s] + bj, old = best[s];
                const bool stays = (here <= old) | (old != old);
                best[s] = stays ? old : here;
                number[s] = stays ? number[s] : nj;
            }
        }
    }
}

void nfi_maxout_vjp(size_t units, size_t window, size_t ld, const nf_real *which, const nf_real *gh, nf_real *gz,
                    nf_real *g_bias)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < units * window; r++) {
        const nf_real *number = which + r / window * ld, *g = gh + r / window * ld, mine = (nf_real)(r % window);
        nf_real *row = gz + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            row[s] = number[s] == mine ? g[s] : 0;
        if (g_bias)
            g_bias[r] += nfi_row_sum(ld, row);
    }
}

/* ---- tangents ---- */

NFI_INLINE void gate_tangent(size_t rows, size_t k, size_t ld, const nf_real *v, const nf_real *s, const nf_real *dv,
                             bool moves, const nf_real *dz, nf_real *dh)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real *value = v + r * ld, *open = s + r * ld;
        for (size_t j = r * k; j < (r + 1) * k; j++) {
            NFI_SIMD
            for (size_t i = 0; i < ld; i++) {
                const nf_real of_value = open[i] * dv[j * ld + i];
                dh[j * ld + i] = moves ? of_value + value[i] * open[i] * (1 - open[i]) * dz[j * ld + i] : of_value;
            }
        }
    }
}

void nfi_gate_tangent(size_t rows, size_t k, size_t ld, const nf_real *v, const nf_real *s, const nf_real *dv,
                      const nf_real *dz, nf_real *dh)
{
    if (dz)
        gate_tangent(rows, k, ld, v, s, dv, true, dz, dh);
    else
        gate_tangent(rows, k, ld, v, s, dv, false, NULL, dh);
}

/* The rows gv and gs first hold the sums over the directions. */
NFI_INLINE void gate_tangent_vjp(size_t rows, size_t k, size_t ld, const nf_real *v, const nf_real *s,
                                 const nf_real *dv, bool moves, const nf_real *dz, const nf_real *gh,
                                 const nf_real *gdh, nf_real *gv, nf_real *gs, nf_real *gdv, nf_real *gdz)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real *value = v + r * ld, *open = s + r * ld, *g = gh + r * ld;
        nf_real *g_value = gv + r * ld, *g_open = gs + r * ld;
        NFI_SIMD
        for (size_t i = 0; i < ld; i++) {
            g_value[i] = 0;
            g_open[i] = 0;
        }
        for (size_t j = r * k; j < (r + 1) * k; j++) {
            NFI_SIMD
            for (size_t i = 0; i < ld; i++) {
                const size_t at = j * ld + i;
                const nf_real g_at = gdh[at];
                gdv[at] = open[i] * g_at;
                if (moves) {
                    g_value[i] += g_at * dz[at];
                    g_open[i] += g_at * (dv[at] + value[i] * (1 - 2 * open[i]) * dz[at]);
                    gdz[at] = value[i] * open[i] * (1 - open[i]) * g_at;
                } else {
                    g_open[i] += g_at * dv[at];
                }
            }
        }
        NFI_SIMD
        for (size_t i = 0; i < ld; i++) {
            const nf_real slope = open[i] * (1 - open[i]);
            g_value[i] = g[i] * open[i] + slope * g_value[i];
            g_open[i] = slope * (g[i] * value[i] + g_open[i]);
        }
    }
}

void nfi_gate_tangent_vjp(size_t rows, size_t k, size_t ld, const nf_real *v, const nf_real *s, const nf_real *dv,
                          const nf_real *dz, const nf_real *gh, const nf_real *gdh, nf_real *gv, nf_real *gs,
                          nf_real *gdv, nf_real *gdz)
{
    if (dz)
        gate_tangent_vjp(rows, k, ld, v, s, dv, true, dz, gh, gdh, gv, gs, gdv, gdz);
    else
        gate_tangent_vjp(rows, k, ld, v, s, dv, false, NULL, gh, gdh, gv, gs, gdv, NULL);
}

void nfi_maxout_tangent(size_t units, size_t window, size_t k, size_t ld, const nf_real *which, const nf_real *dz,
                        nf_real *dh)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < units; r++) {
        const nf_real *number = which + r * ld;
        for (size_t j = 0; j < k; j++) {
            nf_real *to = dh + (r * k + j) * ld;
            for (size_t piece = 0; piece < window; piece++) {
                const nf_real *from = dz + ((r * window + piece) * k + j) * ld, mine = (nf_real)piece;
                NFI_SIMD
                for (size_t s = 0; s < ld; s++)
                    to[s] = number[s] == mine ? from[s] : piece ? to[s] : 0;
            }
        }
    }
}

void nfi_maxout_tangent_vjp(size_t units, size_t window, size_t k, size_t ld, const nf_real *which, const nf_real *gdh,
                            nf_real *gdz)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < units * window; r++) {
        const nf_real *number = which + r / window * ld, mine = (nf_real)(r % window);
        for (size_t j = 0; j < k; j++) {
            const nf_real *from = gdh + (r / window * k + j) * ld;
            nf_real *to = gdz + (r * k + j) * ld;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                to[s] = number[s] == mine ? from[s] : 0;
        }
    }
}
