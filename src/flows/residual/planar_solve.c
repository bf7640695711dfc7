/* The equation inside planar's inverse, for one number in each column of a row: g(t) = t + m tanh t = kappa, m >= -1.

   The equation is odd, so let kappa >= 0; then t >= 0. For such t, g is concave if m > 0 and convex if m < 0. If
   m > 0, Newton's iteration starts at max(kappa - m, kappa / sp), a lower bound of the root, and increases towards
   the root. If m < 0, it starts at min(kappa - m, kappa / sp, cbrt(4.2 kappa)), an upper bound, and decreases. The
   bounds follow from tanh t <= 1, tanh t <= t, and tanh t <= t (15 + t^2) / (15 + 6 t^2). The last one is used for
   t <= 1; with it m = -1, where g ~ t^3 / 3, is as fast as other m.

   So the iteration stays on one side of the root, and a step in the other direction can only be rounding. A column
   stops when its step was so short that the square of the step is below rounding. It does so independently of the
   other columns. */
#include "flows/residual/planar.h"
#include "math/vec.h"
#include "flows/param.h"

enum { MOST_STEPS = 100 };

NFI_INLINE void solve(size_t stride, size_t ld, const nf_real *restrict sp, nf_real *restrict t, nf_real *restrict h,
                      nf_real *restrict active)
{
    const nf_real small = nfi_sqrt(NFI_EPSILON) / 16, tiny = NFI_MIN_NORMAL;
    nf_real *restrict kappa = h; /* with its sign; replaced by tanh t at the end */
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real sp_s = nfi_param(sp, stride, ld, 0, s), m = sp_s - 1, k = nfi_abs(t[s]);
        const nf_real line = k / (sp_s > tiny ? sp_s : tiny), far = k - m;
        const nf_real cube = nfi_exp(nfi_log(NF_R(4.2) * (k > tiny ? k : tiny)) / 3);
        const nf_real below = line > far ? line : far, above = line < far ? line : far;
        const nf_real near = k < NF_R(0.238) && cube < above ? cube : above;
        kappa[s] = t[s];
        t[s] = m > 0 ? below : near;
        active[s] = k > 0;
    }
    for (int step = 0; step < MOST_STEPS; step++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real m = nfi_param(sp, stride, ld, 0, s) - 1, th = nfi_tanh(t[s]);
            const nf_real slope = nfi_planar_det(th, m + 1), up = m > 0 ? 1 : -1;
            nf_real dt = up * (nfi_abs(kappa[s]) - t[s] - m * th) / (slope > tiny ? slope : tiny);
            dt = dt > 0 ? dt : 0;
            dt = m > 0 || dt < t[s] / 2 ? dt : t[s] / 2;
            t[s] += active[s] * up * dt;
            active[s] = dt > small * t[s] ? active[s] : 0;
        }
        if (!(nfi_row_sum(ld, active) > 0))
            break;
    }
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        t[s] = kappa[s] < 0 ? -t[s] : t[s];
        h[s] = nfi_tanh(t[s]);
    }
}

void nfi_planar_solve(size_t stride, size_t ld, const nf_real *sp, nf_real *t, nf_real *h, nf_real *active)
{
    NFI_BY_STRIDE(solve, stride, ld, sp, t, h, active);
}
