/* The gradients of planar flows, with the names of planar.c. The forward VJP, with gh = u^.gy - 2 h m g_l / det and
   ga = (1 - h^2) gh, is

       gx = gy + w ga,   gb = ga,   gw = x ga + (through u^),   gu^ = h gy,   gsp = g_l (1 - h^2) / det

   through u^: gu = gu^ + gwu w, gw = c (gu^ - 2 k w) + gwu u, where k = w.gu^ / |w|^2 = h (w.gy) / |w|^2,
       gwu = (gsp + k) sigmoid(w.u) - k.
   1 / det can be as large as numbers can be. Only h / det and sigmoid(w.u) / det are needed, which are not so large.

   The library derives the gradient of the inverse from J^-T g = g - w (1 - h^2) (u^.g) / det (Sherman & Morrison). */
#include "flows/residual/planar.h"
#include "flows/param.h"

/* dot = u^.g [ld]; w_dot = w.g, only if parameters are per sample */
NFI_INLINE void dots(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                     const nf_real *restrict g, nf_real *restrict dot, nf_real *restrict w_dot)
{
    for (size_t s = 0; s < ld; s += NFI_WIDTH) {
        nfi_vec w_sum = {0}, u_sum = {0};
        for (size_t i = 0; i < dim; i++) {
            const nfi_vec row = NFI_CONST_VEC_AT(g + i * ld + s);
            w_sum += NFI_PARAM_VEC(theta, stride, ld, i, s) * row;
            u_sum += NFI_PARAM_VEC(theta, stride, ld, dim + i, s) * row;
        }
        NFI_VEC_AT(dot + s) = u_sum + NFI_PARAM_VEC(coef, stride, ld, C, s) * w_sum;
        if (stride)
            NFI_VEC_AT(w_dot + s) = w_sum;
    }
}

/* Shared parameters. `ga` [2 x ld] is memory to compute with: its first row holds u^.gy, then ga. gx and the sums
   over samples follow from ga. */
NFI_INLINE void vjp_shared(size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                           const nf_real *restrict h, const nf_real *restrict x, const nf_real *restrict gy,
                           const nf_real *restrict g_log_det, nf_real *restrict gx, nf_real *restrict g_theta,
                           nf_real *restrict ga)
{
    ld = nfi_lanes(ld);
    const nf_real *restrict w = theta, *restrict u = theta + dim;
    const nf_real c = coef[C], sp = coef[SP], sigma = coef[SIGMA], inv_q = coef[INV_Q];
    nf_real *restrict g_sigma = ga + ld;
    dots(0, dim, ld, theta, coef, gy, ga, NULL);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real slope = (1 - h[s]) * (1 + h[s]), inv_det = 1 / nfi_planar_det(h[s], sp);
        ga[s] = slope * (ga[s] - 2 * (sp - 1) * (h[s] * inv_det) * g_log_det[s]);
        g_sigma[s] = slope * (sigma * inv_det) * g_log_det[s];
    }
    nf_real k = 0;
    for (size_t i = 0; i < dim; i++) {
        const nf_real *restrict xi = x + i * ld, *restrict gyi = gy + i * ld;
        nf_real *restrict gxi = gx + i * ld;
        const nf_real wi = w[i];
        nfi_wide x_sum = {0}, h_sum = {0};
        for (size_t s = 0; s < ld; s += NFI_SUMS)
            for (size_t v = 0, at = s; v < NFI_PARTS; v++, at += NFI_WIDTH) {
                const nfi_vec g = NFI_CONST_VEC_AT(gyi + at), a = NFI_CONST_VEC_AT(ga + at);
                NFI_VEC_AT(gxi + at) = g + wi * a;
                x_sum.part[v] += NFI_CONST_VEC_AT(xi + at) * a;
                h_sum.part[v] += NFI_CONST_VEC_AT(h + at) * g;
            }
        const nf_real x_ga = nfi_wide_sum(&x_sum), gu_hat = nfi_wide_sum(&h_sum);
        k += wi * gu_hat;
        if (g_theta) {
            g_theta[i] += x_ga + c * gu_hat;
            g_theta[dim + i] += gu_hat;
        }
    }
    if (!g_theta)
        return;
    k *= inv_q;
    const nf_real gwu = nfi_row_sum(ld, g_sigma) + k * sigma - k;
    for (size_t i = 0; i < dim; i++) {
        g_theta[i] += gwu * u[i] - 2 * c * (k * w[i]);
        g_theta[dim + i] += gwu * w[i];
    }
    g_theta[2 * dim] += nfi_row_sum(ld, ga);
}

/* Parameters per sample. */
NFI_INLINE void vjp_each(size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                         const nf_real *restrict h, const nf_real *restrict x, const nf_real *restrict gy,
                         const nf_real *restrict g_log_det, nf_real *restrict gx, nf_real *restrict g_theta,
                         nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict ga = work, *restrict gwu = work + ld, *restrict k = work + 2 * ld;
    dots(1, dim, ld, theta, coef, gy, ga, gwu);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real sp = coef[SP * ld + s], sigma = coef[SIGMA * ld + s];
        const nf_real slope = (1 - h[s]) * (1 + h[s]), inv_det = 1 / nfi_planar_det(h[s], sp);
        ga[s] = slope * (ga[s] - 2 * (sp - 1) * (h[s] * inv_det) * g_log_det[s]);
        k[s] = h[s] * gwu[s] * coef[INV_Q * ld + s];
        gwu[s] = slope * (sigma * inv_det) * g_log_det[s] + k[s] * sigma - k[s];
    }
    for (size_t i = 0; i < dim; i++) {
        const nf_real *restrict xi = x + i * ld, *restrict gyi = gy + i * ld, *restrict w = theta + i * ld;
        nf_real *restrict gxi = gx + i * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gxi[s] = gyi[s] + w[s] * ga[s];
        if (!g_theta)
            continue;
        const nf_real *restrict u = theta + (dim + i) * ld, *restrict c = coef + C * ld;
        nf_real *restrict g_w = g_theta + i * ld, *restrict g_u = g_theta + (dim + i) * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real gu_hat = h[s] * gyi[s];
            g_w[s] += xi[s] * ga[s] + c[s] * (gu_hat - 2 * (k[s] * w[s])) + gwu[s] * u[s];
            g_u[s] += gu_hat + gwu[s] * w[s];
        }
    }
    if (!g_theta)
        return;
    nf_real *restrict g_b = g_theta + 2 * dim * ld;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        g_b[s] += ga[s];
}

/* gy = gx - w (1 - h^2) (u^.gx) / det; work [2 x ld] */
NFI_INLINE void solve_jt(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta,
                         const nf_real *restrict coef, const nf_real *restrict h, const nf_real *restrict gx,
                         nf_real *restrict gy, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    dots(stride, dim, ld, theta, coef, gx, work, work + ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        work[s] *= (1 - h[s]) * (1 + h[s]) / nfi_planar_det(h[s], nfi_param(coef, stride, ld, SP, s));
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gy[i * ld + s] = gx[i * ld + s] - nfi_param(theta, stride, ld, i, s) * work[s];
    }
}

void nfi_planar_pull_back(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                          const nf_real *h, const nf_real *x, const nf_real *gy, const nf_real *g_log_det, nf_real *gx,
                          nf_real *g_theta, nf_real *work)
{
    if (stride)
        vjp_each(dim, ld, theta, coef, h, x, gy, g_log_det, gx, g_theta, work);
    else
        vjp_shared(dim, ld, theta, coef, h, x, gy, g_log_det, gx, g_theta, work);
}

void nfi_planar_solve_jt(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                         const nf_real *h, const nf_real *gx, nf_real *gy, nf_real *work)
{
    NFI_BY_STRIDE(solve_jt, stride, dim, ld, theta, coef, h, gx, gy, work);
}
