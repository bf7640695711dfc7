/* The gradients of radial flows, with the names of radial_kernels.c. The forward VJP, with S = gy.d and l = dim - 1, is

       gx = A gy + e gr,    gr = -v (t S + g_l (l t / A + 2 t q / B)),    gz0 = gy - gx,
       ga = q (-A S + g_l ((k (1 - 2 q) - 2 p q) / B - l)),    gb = sigmoid(b) v (S + g_l (l / A + q / B)).

   gz0 follows from gx: if x and z0 move together, y moves as they do. A and B may be as small as sp / alpha near z0,
   and S as large as gy.d far from it, so g_l / B and S can overflow where the gradients do not. The kernels therefore
   use

       v / A = 1 / (r + sp),    v / B = 1 / (r (1 + q) + q sp),    v S = p (gy.e),    q S = p alpha (gy.e).

   The library derives the gradient of the inverse from J^-T g = g / A + e (e.g) p t / (A B). */
#include "flows/residual/radial.h"
#include "flows/param.h"

/* out = e.g, where e = (x - z0) / r */
NFI_INLINE void along(size_t stride, size_t dim, size_t ld, const nf_real *restrict z0, const nf_real *restrict inv_r,
                      const nf_real *restrict x, const nf_real *restrict g, nf_real *restrict out)
{
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = (x[i * ld + s] - nfi_param(z0, stride, ld, i, s)) * inv_r[s];
            out[s] = (i ? out[s] : 0) + e * g[i * ld + s];
        }
    }
}

NFI_INLINE void inverses(size_t ld, const nf_real *restrict r, nf_real *restrict inv_r)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        inv_r[s] = r[s] < NFI_MIN_NORMAL ? 0 : 1 / r[s];
}

/* work [5 x ld] */
NFI_INLINE void pull_back(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta,
                          const nf_real *restrict coef, const nf_real *restrict r, const nf_real *restrict x,
                          const nf_real *restrict gy, const nf_real *restrict g_log_det, nf_real *restrict gx,
                          nf_real *restrict g_theta, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    const nf_real across = (nf_real)(dim - 1);
    nf_real *restrict inv_r = work, *restrict gr = work + ld, *restrict t = work + 2 * ld;
    nf_real *restrict ga = work + 3 * ld, *restrict gb = work + 4 * ld;
    inverses(ld, r, inv_r);
    along(stride, dim, ld, theta, inv_r, x, gy, gr);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real alpha = nfi_param(coef, stride, ld, NFI_RADIAL_ALPHA, s);
        const nf_real sp = nfi_param(coef, stride, ld, NFI_RADIAL_SP, s);
        const nfi_radial_geometry e = nfi_radial_at(r[s], alpha, sp);
        const nf_real along_e = e.p * gr[s], gl = g_log_det[s];
        const nf_real v_A = across / (r[s] + sp), v_B = 1 / (r[s] * (1 + e.q) + e.q * sp);
        t[s] = e.t;
        gr[s] = -e.t * (along_e + gl * (v_A + 2 * e.q * v_B));
        ga[s] = e.q * gl * ((sp * (1 - 2 * e.q) - 2 * e.q * r[s]) * v_B - across) - e.A * alpha * along_e;
        gb[s] = nfi_param(coef, stride, ld, NFI_RADIAL_SIGMA, s) * (along_e + gl * (v_A + e.q * v_B));
    }
    for (size_t i = 0; i < dim; i++) {
        const nf_real *restrict xi = x + i * ld, *restrict gyi = gy + i * ld;
        nf_real *restrict gxi = gx + i * ld;
        nfi_wide sum = {0};
        for (size_t s = 0; s < ld; s += NFI_SUMS)
            for (size_t v = 0, at = s; v < NFI_PARTS; v++, at += NFI_WIDTH) {
                const nfi_vec from_z0 = NFI_CONST_VEC_AT(xi + at) - NFI_PARAM_VEC(theta, stride, ld, i, at);
                const nfi_vec e = from_z0 * NFI_CONST_VEC_AT(inv_r + at), g = NFI_CONST_VEC_AT(gyi + at);
                const nfi_vec change = NFI_CONST_VEC_AT(t + at) * g + e * NFI_CONST_VEC_AT(gr + at);
                NFI_VEC_AT(gxi + at) = g + change;
                if (!stride)
                    sum.part[v] += change;
                else if (g_theta)
                    NFI_VEC_AT(g_theta + i * ld + at) -= change;
            }
        if (!stride && g_theta)
            g_theta[i] -= nfi_wide_sum(&sum);
    }
    if (!g_theta)
        return;
    if (!stride) {
        g_theta[dim] += nfi_row_sum(ld, ga);
        g_theta[dim + 1] += nfi_row_sum(ld, gb);
        return;
    }
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        g_theta[dim * ld + s] += ga[s];
        g_theta[(dim + 1) * ld + s] += gb[s];
    }
}

/* gy = gx / A + e (e.gx) p t / (A B); work [3 x ld] */
NFI_INLINE void solve_jt(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta,
                         const nf_real *restrict coef, const nf_real *restrict r, const nf_real *restrict x,
                         const nf_real *restrict gx, nf_real *restrict gy, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict inv_r = work, *restrict c = work + ld, *restrict inv_A = work + 2 * ld;
    inverses(ld, r, inv_r);
    along(stride, dim, ld, theta, inv_r, x, gx, c);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nfi_radial_geometry e = nfi_radial_at(r[s], nfi_param(coef, stride, ld, NFI_RADIAL_ALPHA, s),
                                                    nfi_param(coef, stride, ld, NFI_RADIAL_SP, s));
        inv_A[s] = 1 / e.A;
        c[s] *= e.p * (e.t / e.A) / e.B;
    }
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = (x[i * ld + s] - nfi_param(theta, stride, ld, i, s)) * inv_r[s];
            gy[i * ld + s] = gx[i * ld + s] * inv_A[s] + e * c[s];
        }
    }
}

void nfi_radial_pull_back(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                          const nf_real *r, const nf_real *x, const nf_real *gy, const nf_real *g_log_det, nf_real *gx,
                          nf_real *g_theta, nf_real *work)
{
    NFI_BY_STRIDE(pull_back, stride, dim, ld, theta, coef, r, x, gy, g_log_det, gx, g_theta, work);
}

void nfi_radial_solve_jt(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                         const nf_real *r, const nf_real *x, const nf_real *gx, nf_real *gy, nf_real *work)
{
    NFI_BY_STRIDE(solve_jt, stride, dim, ld, theta, coef, r, x, gx, gy, work);
}
