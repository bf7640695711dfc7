/* The triangular map inside a Sylvester flow (van den Berg et al. 2018), for u in R^M:

       u' = u + w,   w = R h,   h = tanh(a),   a = R~ u + b,   r = tanh(alpha), r~ = tanh(alpha~) on the diagonals.

   Its Jacobian is I + R diag(1 - h^2) R~, upper triangular, so det = prod det_i with det_i = 1 + (1 - h_i^2) r_i r~_i.
   As for planar flows, det_i is computed as h^2 + (1 - h^2) sp, sp = 1 + r r~. With A = exp(-2 |alpha|) and
   B = exp(-2 |alpha~|)
       sp = 2 (1 + A B) / ((1 + A) (1 + B))   if the signs of alpha and alpha~ agree,
       sp = 2 (A + B) / ((1 + A) (1 + B))     if they do not:
   positive for all parameters, without cancellation.

   Inverse: features are solved from the last one upwards. What is known of later features is in k_i = u'_i - sum R_ij
   h_j and c_i = b_i + sum R~_ij u_j. Feature i is then u_i + r_i tanh(r~_i u_i + c_i) = k_i. For a_i = r~_i u_i + c_i
   this is the equation of planar flows, a_i + (sp_i - 1) tanh a_i = r~_i k_i + c_i, monotone for all parameters; then
   u_i = k_i - r_i tanh a_i.

   VJP: gh = R^T gw, g_det = g_log_det / det,
       ga = (1 - h^2) (gh - 2 h (sp - 1) g_det),   gu = R~^T ga,   gR = gw h^T,   gR~ = ga u^T,   gb = ga,
   and to the diagonals are added gr += (1 - h^2) g_det r~, gr~ += (1 - h^2) g_det r. J^-T g: see solve_jt.

   Loops over features take a block of NFI_SUMS samples at a time; these are 64 bytes of each feature. */
#include "flows/lane_sums.h"
#include "flows/residual/planar.h"
#include "flows/residual/sylvester.h"
#include "math/vec.h"

/* Where parts begin: `line` is where row i of a strict triangle begins in it, the others are rows of theta. The
   triangle of R~ follows that of R. */
NFI_INLINE size_t strict(size_t m)
{
    return m * (m - 1) / 2;
}
NFI_INLINE size_t alpha_at(size_t m)
{
    return m * (m - 1);
}
NFI_INLINE size_t b_at(size_t m)
{
    return m * (m - 1) + 2 * m;
}
NFI_INLINE size_t line(size_t m, size_t i)
{
    return i * (2 * m - i - 1) / 2;
}

/* The least value that sp = 1 + r r~ may have. It is smaller if both tanh are 1 to rounding and have opposite signs;
   this value is then taken instead. */
#ifdef NF_SINGLE
static const nf_real least_sp = 1e-30F;
#else
static const nf_real least_sp = 1e-300;
#endif

/* sum += sign * (number i of a triangle) * row, for the block of samples from s on. */
NFI_INLINE void add_products(size_t stride, size_t ld, nf_real sign, const nf_real *restrict triangle, size_t i,
                             size_t s, const nf_real *row, nfi_wide *sum)
{
    for (size_t p = 0, at = s; p < NFI_PARTS; p++, at += NFI_WIDTH)
        sum->part[p] += sign * NFI_PARAM_VEC(triangle, stride, ld, i, at) * NFI_CONST_VEC_AT(row + at);
}

/* y = T x + b for an upper triangular T. `above` has T's rows above the diagonal. b may be NULL. */
NFI_INLINE void multiply(size_t stride, size_t m, size_t ld, const nf_real *restrict above,
                         const nf_real *restrict diagonal, const nf_real *restrict b, const nf_real *restrict x,
                         nf_real *restrict y)
{
    for (size_t s = 0; s < ld; s += NFI_SUMS)
        for (size_t i = 0; i < m; i++) {
            const size_t at = line(m, i);
            nfi_wide sum;
            for (size_t p = 0; p < NFI_PARTS; p++)
                sum.part[p] = b ? NFI_PARAM_VEC(b, stride, ld, i, s + p * NFI_WIDTH) : (nfi_vec){0};
            add_products(stride, ld, 1, diagonal, i, s, x + i * ld, &sum);
            for (size_t j = i + 1; j < m; j++)
                add_products(stride, ld, 1, above, at + j - i - 1, s, x + j * ld, &sum);
            for (size_t p = 0; p < NFI_PARTS; p++)
                NFI_VEC_AT(y + i * ld + s + p * NFI_WIDTH) = sum.part[p];
        }
}

/* gx = T^T gy. g_above, unless NULL, is added to: gy x^T above the diagonal. */
NFI_INLINE void multiply_vjp(size_t stride, size_t m, size_t ld, const nf_real *restrict above,
                             const nf_real *restrict diagonal, const nf_real *restrict x, const nf_real *restrict gy,
                             nf_real *restrict gx, nf_real *restrict g_above)
{
    const size_t g_ld = nfi_lane_columns(stride, ld);
    for (size_t s0 = 0; s0 < ld; s0 += NFI_SUMS) {
        for (size_t i = 0; i < m; i++)
            for (size_t s = s0; s < s0 + NFI_SUMS; s += NFI_WIDTH)
                NFI_VEC_AT(gx + i * ld + s) =
                    NFI_PARAM_VEC(diagonal, stride, ld, i, s) * NFI_CONST_VEC_AT(gy + i * ld + s);
        for (size_t i = 0; i < m; i++) {
            const size_t at = line(m, i);
            nfi_wide g;
            for (size_t p = 0; p < NFI_PARTS; p++)
                g.part[p] = NFI_CONST_VEC_AT(gy + i * ld + s0 + p * NFI_WIDTH);
            for (size_t j = i + 1; j < m; j++)
                for (size_t p = 0, s = s0; p < NFI_PARTS; p++, s += NFI_WIDTH)
                    NFI_VEC_AT(gx + j * ld + s) += NFI_PARAM_VEC(above, stride, ld, at + j - i - 1, s) * g.part[p];
            nf_real *restrict to = g_above ? g_above + at * g_ld + nfi_lane_at(stride, s0) : NULL;
            for (size_t j = i + 1; to && j < m; j++)
                for (size_t p = 0, l = 0; p < NFI_PARTS; p++, l += NFI_WIDTH)
                    NFI_VEC_AT(to + (j - i - 1) * g_ld + l) += g.part[p] * NFI_CONST_VEC_AT(x + j * ld + s0 + l);
        }
    }
}

/* ---- forward ---- */

/* Adds the logarithm of one feature's factor of the determinant. */
NFI_INLINE void add_log_det(size_t stride, size_t ld, nf_real sign, const nf_real *restrict h,
                            const nf_real *restrict sp, double *restrict log_det)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] += (double)(sign * nfi_log_normal(nfi_planar_det(h[s], nfi_param(sp, stride, ld, 0, s))));
}

NFI_INLINE void forward(size_t stride, size_t m, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                        const nf_real *restrict u, nf_real *restrict h, nf_real *restrict w, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    const size_t columns = nfi_param_columns(stride, ld);
    multiply(stride, m, ld, theta + strict(m) * columns, coef + m * columns, theta + b_at(m) * columns, u, h);
    NFI_SIMD
    for (size_t k = 0; k < m * ld; k++)
        h[k] = nfi_tanh(h[k]);
    for (size_t i = 0; i < m; i++)
        add_log_det(stride, ld, 1, h + i * ld, coef + (2 * m + i) * columns, log_det);
    multiply(stride, m, ld, theta, coef, NULL, h, w);
}

/* ---- inverse ---- */

/* Sets up the equation of feature i: k into u_i, r~ k + c into a. u and h of later features are known. */
NFI_INLINE void equation(size_t stride, size_t m, size_t ld, size_t i, const nf_real *restrict theta,
                         const nf_real *restrict coef, const nf_real *restrict u_to, nf_real *u, const nf_real *h,
                         nf_real *restrict a)
{
    const size_t at = line(m, i), t_at = strict(m) + at;
    for (size_t s = 0; s < ld; s += NFI_SUMS) {
        nfi_wide k, c;
        for (size_t p = 0; p < NFI_PARTS; p++) {
            k.part[p] = NFI_CONST_VEC_AT(u_to + i * ld + s + p * NFI_WIDTH);
            c.part[p] = NFI_PARAM_VEC(theta, stride, ld, b_at(m) + i, s + p * NFI_WIDTH);
        }
        for (size_t j = i + 1; j < m; j++) {
            add_products(stride, ld, -1, theta, at + j - i - 1, s, h + j * ld, &k);
            add_products(stride, ld, 1, theta, t_at + j - i - 1, s, u + j * ld, &c);
        }
        for (size_t p = 0, l = s; p < NFI_PARTS; p++, l += NFI_WIDTH) {
            NFI_VEC_AT(u + i * ld + l) = k.part[p];
            NFI_VEC_AT(a + l) = NFI_PARAM_VEC(coef, stride, ld, m + i, l) * k.part[p] + c.part[p];
        }
    }
}

/* After feature i is solved: u_i = k - r h, and subtracts the feature's log-det. */
NFI_INLINE void solution(size_t stride, size_t m, size_t ld, size_t i, const nf_real *restrict coef,
                         nf_real *restrict u, const nf_real *restrict h, double *restrict log_det)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        u[s] -= nfi_param(coef, stride, ld, i, s) * h[s];
    add_log_det(stride, ld, -1, h, coef + (2 * m + i) * nfi_param_columns(stride, ld), log_det);
}

NFI_INLINE void inverse(size_t stride, size_t m, size_t ld, const nf_real *theta, const nf_real *coef,
                        const nf_real *u_to, nf_real *w, double *log_det, nf_real *work)
{
    ld = nfi_lanes(ld);
    nf_real *u = work, *h = work + m * ld, *a = h + m * ld, *active = a + ld;
    for (size_t i = m; i-- > 0;) {
        equation(stride, m, ld, i, theta, coef, u_to, u, h, a);
        nfi_planar_solve(stride, ld, coef + (2 * m + i) * nfi_param_columns(stride, ld), a, h + i * ld, active);
        solution(stride, m, ld, i, coef, u + i * ld, h + i * ld, log_det);
    }
    multiply(stride, m, ld, theta, coef, NULL, h, w);
}

/* ---- gradients ---- */

/* Turns gh into ga, in place, and adds the gradients of the diagonals and of b to g (which may be NULL). */
NFI_INLINE void activation_vjp(size_t stride, size_t m, size_t ld, const nf_real *restrict coef,
                               const nf_real *restrict u, const nf_real *restrict h, const nf_real *restrict gw,
                               const nf_real *restrict g_log_det, nf_real *restrict ga, nf_real *restrict g)
{
    const size_t g_ld = nfi_lane_columns(stride, ld);
    for (size_t i = 0; i < m; i++)
        for (size_t s0 = 0; s0 < ld; s0 += NFI_SUMS) {
            nf_real *restrict to = g ? g + (alpha_at(m) + i) * g_ld + nfi_lane_at(stride, s0) : NULL;
            NFI_SIMD
            for (size_t l = 0; l < NFI_SUMS; l++) {
                const size_t s = s0 + l, k = i * ld + s;
                const nf_real r = nfi_param(coef, stride, ld, i, s), r_t = nfi_param(coef, stride, ld, m + i, s);
                const nf_real sp = nfi_param(coef, stride, ld, 2 * m + i, s), slope = (1 - h[k]) * (1 + h[k]);
                const nf_real g_det = g_log_det[s] / nfi_planar_det(h[k], sp);
                ga[k] = slope * (ga[k] - 2 * h[k] * (sp - 1) * g_det);
                if (to) {
                    to[l] += (gw[k] * h[k] + slope * g_det * r_t) * (1 - r) * (1 + r);
                    to[m * g_ld + l] += (ga[k] * u[k] + slope * g_det * r) * (1 - r_t) * (1 + r_t);
                    to[2 * m * g_ld + l] += ga[k];
                }
            }
        }
}

NFI_INLINE void vjp(size_t stride, size_t m, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                    const nf_real *restrict u, const nf_real *restrict h, const nf_real *restrict gw,
                    const nf_real *restrict g_log_det, nf_real *restrict gu, nf_real *restrict g, nf_real *restrict ga)
{
    ld = nfi_lanes(ld);
    const size_t columns = nfi_param_columns(stride, ld), g_ld = nfi_lane_columns(stride, ld);
    multiply_vjp(stride, m, ld, theta, coef, h, gw, ga, g);
    if (g)
        activation_vjp(stride, m, ld, coef, u, h, gw, g_log_det, ga, g);
    else
        activation_vjp(stride, m, ld, coef, u, h, gw, g_log_det, ga, NULL);
    multiply_vjp(stride, m, ld, theta + strict(m) * columns, coef + m * columns, u, ga, gu,
                 g ? g + strict(m) * g_ld : NULL);
}

/* Solves (I + R~^T D R^T) v = g feature by feature, D = diag(1 - h^2). With t = D R^T v, v_i det_i = g_i - e_i - r~_i
   (1 - h_i^2) c_i, where c = sum R_ki v_k and e = sum R~_ki t_k are over the features before. gw = v - g = -R~^T t. */
NFI_INLINE void solve_jt(size_t stride, size_t m, size_t ld, const nf_real *restrict theta,
                         const nf_real *restrict coef, const nf_real *restrict h, const nf_real *restrict gu,
                         nf_real *restrict gw, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict c = work, *restrict e = work + m * NFI_SUMS;
    for (size_t s0 = 0; s0 < ld; s0 += NFI_SUMS) {
        for (size_t k = 0; k < 2 * m * NFI_SUMS; k += NFI_WIDTH)
            NFI_VEC_AT(work + k) = (nfi_vec){0};
        for (size_t i = 0; i < m; i++) {
            const size_t at = line(m, i), t_at = strict(m) + at;
            nfi_wide v, t;
            for (size_t p = 0, l = 0, s = s0; p < NFI_PARTS; p++, l += NFI_WIDTH, s += NFI_WIDTH) {
                const nfi_vec r = NFI_PARAM_VEC(coef, stride, ld, i, s),
                              r_t = NFI_PARAM_VEC(coef, stride, ld, m + i, s);
                const nfi_vec sp = NFI_PARAM_VEC(coef, stride, ld, 2 * m + i, s), hi = NFI_CONST_VEC_AT(h + i * ld + s);
                const nfi_vec slope = (1 - hi) * (1 + hi), ci = NFI_CONST_VEC_AT(c + i * NFI_SUMS + l);
                const nfi_vec ei = NFI_CONST_VEC_AT(e + i * NFI_SUMS + l), g = NFI_CONST_VEC_AT(gu + i * ld + s);
                v.part[p] = (g - ei - r_t * slope * ci) / (hi * hi + slope * sp);
                t.part[p] = slope * (r * v.part[p] + ci);
                NFI_VEC_AT(gw + i * ld + s) = -ei - r_t * t.part[p];
            }
            for (size_t j = i + 1; j < m; j++)
                for (size_t p = 0, l = 0, s = s0; p < NFI_PARTS; p++, l += NFI_WIDTH, s += NFI_WIDTH) {
                    NFI_VEC_AT(c + j * NFI_SUMS + l) += NFI_PARAM_VEC(theta, stride, ld, at + j - i - 1, s) * v.part[p];
                    NFI_VEC_AT(e + j * NFI_SUMS + l) +=
                        NFI_PARAM_VEC(theta, stride, ld, t_at + j - i - 1, s) * t.part[p];
                }
        }
    }
}

/* ---- kernels ---- */

void nfi_triangles_prepare(size_t stride, size_t m, size_t ld, const nf_real *theta, nf_real *coef)
{
    const size_t columns = nfi_param_columns(stride, ld), n = m * columns;
    const nf_real *restrict alpha = theta + alpha_at(m) * columns, *restrict alpha_t = alpha + n;
    nf_real *restrict r = coef, *restrict r_t = coef + n, *restrict sp = coef + 2 * n;
    NFI_SIMD
    for (size_t k = 0; k < n; k++) {
        const nf_real A = nfi_exp(-2 * nfi_abs(alpha[k])), B = nfi_exp(-2 * nfi_abs(alpha_t[k]));
        const bool agree = (alpha[k] < 0) == (alpha_t[k] < 0);
        const nf_real sum = 2 * (agree ? 1 + A * B : A + B) / ((1 + A) * (1 + B));
        sp[k] = sum > least_sp ? sum : least_sp;
        r[k] = nfi_tanh(alpha[k]);
        r_t[k] = nfi_tanh(alpha_t[k]);
    }
}

void nfi_triangles_forward(const nfi_triangles *q, const nf_real *u, nf_real *h, nf_real *w, double *log_det)
{
    NFI_BY_STRIDE(forward, q->stride, q->m, q->ld, q->theta, q->coef, u, h, w, log_det);
}

void nfi_triangles_inverse(const nfi_triangles *q, const nf_real *u_to, nf_real *w, double *log_det, nf_real *work)
{
    NFI_BY_STRIDE(inverse, q->stride, q->m, q->ld, q->theta, q->coef, u_to, w, log_det, work);
}

void nfi_triangles_vjp(const nfi_triangles *q, const nf_real *u, const nf_real *h, const nf_real *gw,
                       const nf_real *g_log_det, nf_real *gu, nf_real *g, nf_real *work)
{
    NFI_BY_STRIDE(vjp, q->stride, q->m, q->ld, q->theta, q->coef, u, h, gw, g_log_det, gu, g, work);
}

void nfi_triangles_solve_jt(const nfi_triangles *q, const nf_real *h, const nf_real *gu, nf_real *gw, nf_real *work)
{
    NFI_BY_STRIDE(solve_jt, q->stride, q->m, q->ld, q->theta, q->coef, h, gu, gw, work);
}
