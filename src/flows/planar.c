/* The planar flow (Rezende & Mohamed 2015, eq. 10 to 12 and appendix A.1):

       y = x + u^ h,   h = tanh(w.x + b),   u^ = u + c w,   c = (m - w.u) / |w|^2,   m = softplus(w.u) - 1 = w.u^

   With sp = softplus(w.u) = 1 + m the determinant 1 + (1 - h^2) m is taken as h^2 + (1 - h^2) sp: a sum of terms that
   are not negative, so it needs neither abs nor epsilon. Where w = 0 (|w|^2 below the normal numbers) u^ = u and sp =
   1: a translation.

   Forward VJP, with gh = u^.gy - 2 h m g_l / det and ga = (1 - h^2) gh:
       gx = gy + w ga,   gb = ga,   gw = x ga + (through u^),   gu^ = h gy,   gsp = g_l (1 - h^2) / det
   through u^: gu = gu^ + gwu w, gw = c gu^ + gwu u + 2 gq w, where q = |w|^2, gc = w.gu^ = h (w.gy),
       gq = -gc c / q,   gwu = (gsp + gc / q) sigmoid(w.u) - gc / q.

   Inverse: t = w.x + b solves t + m tanh t = w.y + b, a monotone scalar equation; then x = y - u^ tanh t. Its gradient
   is derived by the library from J^-T g = g - w (1 - h^2) (u^.g) / det (Sherman & Morrison). */
#include "flows/planar.h"
#include "core/memory.h"
#include "core/vec.h"
#include "flows/param.h"
#include "flows/types.h"
#include <math.h>

/* theta: w [dim], u [dim], b. What follows from theta alone, a row of nfi_param_columns each: */
enum { C, SP, SIGMA, INV_Q, N_COEFFICIENTS };

NFI_INLINE void coefficients(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta,
                             nf_real *restrict coef)
{
    const size_t m = nfi_param_columns(stride, ld);
    nf_real *restrict q = coef + INV_Q * m, *restrict wu = coef + SP * m;
    if (stride == 0) {
        nf_real ww = 0, wu_sum = 0;
        NFI_SIMD_SUM(ww, wu_sum)
        for (size_t i = 0; i < dim; i++) {
            ww += theta[i] * theta[i];
            wu_sum += theta[i] * theta[dim + i];
        }
        q[0] = ww;
        wu[0] = wu_sum;
    }
    for (size_t s = 0; stride && s < ld; s += NFI_LANES) {
        nfi_vec ww = {0}, wu_sum = {0};
        for (size_t i = 0; i < dim; i++) {
            const nfi_vec w = NFI_CONST_LANES_AT(theta + i * ld + s);
            ww += w * w;
            wu_sum += w * NFI_CONST_LANES_AT(theta + (dim + i) * ld + s);
        }
        NFI_LANES_AT(q + s) = ww;
        NFI_LANES_AT(wu + s) = wu_sum;
    }
    NFI_SIMD
    for (size_t s = 0; s < m; s++) {
        const bool zero = q[s] < NFI_MIN_NORMAL;
        const nf_real inv_q = zero ? 0 : 1 / q[s], a = wu[s];
        const nf_real e = nfi_exp(-nfi_abs(a)), soft = (a > 0 ? a : 0) + nfi_log1p(e); /* softplus */
        const nf_real sp = zero ? 1 : (soft > NFI_MIN_NORMAL ? soft : NFI_MIN_NORMAL);
        coef[C * m + s] = (sp - 1 - a) * inv_q;
        coef[SIGMA * m + s] = zero ? 1 : (a > 0 ? 1 : e) / (1 + e);
        coef[SP * m + s] = sp;
        coef[INV_Q * m + s] = inv_q;
    }
}

/* out = w.x + b */
NFI_INLINE void argument(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict x,
                         nf_real *restrict out)
{
    for (size_t s = 0; s < ld; s += NFI_LANES) {
        nfi_vec sum = NFI_PARAM_LANES(theta, stride, ld, 2 * dim, s);
        for (size_t i = 0; i < dim; i++)
            sum += NFI_PARAM_LANES(theta, stride, ld, i, s) * NFI_CONST_LANES_AT(x + i * ld + s);
        NFI_LANES_AT(out + s) = sum;
    }
}

/* y = x + sign u^ h */
NFI_INLINE void shift(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                      nf_real sign, const nf_real *restrict h, const nf_real *restrict x, nf_real *restrict y)
{
    for (size_t i = 0; i < dim; i++) {
        const nf_real *restrict from = x + i * ld;
        nf_real *restrict to = y + i * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real w = nfi_param(theta, stride, ld, i, s), u = nfi_param(theta, stride, ld, dim + i, s);
            to[s] = from[s] + sign * (u + nfi_param(coef, stride, ld, C, s) * w) * h[s];
        }
    }
}

NFI_INLINE void forward(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict x,
                        nf_real *restrict y, double *restrict log_det, nf_real *restrict h, nf_real *restrict coef)
{
    ld = nfi_lanes(ld);
    coefficients(stride, dim, ld, theta, coef);
    argument(stride, dim, ld, theta, x, h);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) /* a loop of its own: processors overlap short chains better than one long one */
        h[s] = nfi_tanh(h[s]);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] += (double)nfi_log_normal(nfi_planar_det(h[s], nfi_param(coef, stride, ld, SP, s)));
    shift(stride, dim, ld, theta, coef, 1, h, x, y);
}

/* dot = u^.g [ld]; w_dot = w.g where parameters are per sample */
NFI_INLINE void dots(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                     const nf_real *restrict g, nf_real *restrict dot, nf_real *restrict w_dot)
{
    for (size_t s = 0; s < ld; s += NFI_LANES) {
        nfi_vec w_sum = {0}, u_sum = {0};
        for (size_t i = 0; i < dim; i++) {
            const nfi_vec row = NFI_CONST_LANES_AT(g + i * ld + s);
            w_sum += NFI_PARAM_LANES(theta, stride, ld, i, s) * row;
            u_sum += NFI_PARAM_LANES(theta, stride, ld, dim + i, s) * row;
        }
        NFI_LANES_AT(dot + s) = u_sum + NFI_PARAM_LANES(coef, stride, ld, C, s) * w_sum;
        if (stride)
            NFI_LANES_AT(w_dot + s) = w_sum;
    }
}

/* Shared parameters: ga in `ga` [ld] (which holds u^.gy), then gx and sums over samples. */
NFI_INLINE void vjp_shared(size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                           const nf_real *restrict h, const nf_real *restrict x, const nf_real *restrict gy,
                           const nf_real *restrict g_log_det, nf_real *restrict gx, nf_real *restrict g_theta,
                           nf_real *restrict ga)
{
    ld = nfi_lanes(ld);
    const nf_real *restrict w = theta, *restrict u = theta + dim;
    const nf_real c = coef[C], sp = coef[SP], sigma = coef[SIGMA], inv_q = coef[INV_Q];
    nf_real gsp = 0, gb = 0;
    dots(0, dim, ld, theta, coef, gy, ga, NULL);
    NFI_SIMD_SUM(gsp, gb)
    for (size_t s = 0; s < ld; s++) {
        const nf_real slope = (1 - h[s]) * (1 + h[s]), g_det = g_log_det[s] / nfi_planar_det(h[s], sp);
        ga[s] = slope * (ga[s] - 2 * h[s] * (sp - 1) * g_det);
        gsp += slope * g_det;
        gb += ga[s];
    }
    nf_real gc = 0;
    for (size_t i = 0; i < dim; i++) {
        const nf_real *restrict xi = x + i * ld, *restrict gyi = gy + i * ld;
        nf_real *restrict gxi = gx + i * ld;
        const nf_real wi = w[i];
        nfi_vec x_sum = {0}, h_sum = {0};
        for (size_t s = 0; s < ld; s += NFI_LANES) {
            const nfi_vec g = NFI_CONST_LANES_AT(gyi + s), a = NFI_CONST_LANES_AT(ga + s);
            NFI_LANES_AT(gxi + s) = g + wi * a;
            x_sum += NFI_CONST_LANES_AT(xi + s) * a;
            h_sum += NFI_CONST_LANES_AT(h + s) * g;
        }
        const nf_real x_ga = nfi_vec_sum(&x_sum), gu_hat = nfi_vec_sum(&h_sum);
        gc += wi * gu_hat;
        if (g_theta) {
            g_theta[i] += x_ga + c * gu_hat;
            g_theta[dim + i] += gu_hat;
        }
    }
    if (!g_theta)
        return;
    const nf_real gq = -gc * c * inv_q, gwu = (gsp + gc * inv_q) * sigma - gc * inv_q;
    for (size_t i = 0; i < dim; i++) {
        g_theta[i] += gwu * u[i] + 2 * gq * w[i];
        g_theta[dim + i] += gwu * w[i];
    }
    g_theta[2 * dim] += gb;
}

/* Parameters per sample. */
NFI_INLINE void vjp_each(size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                         const nf_real *restrict h, const nf_real *restrict x, const nf_real *restrict gy,
                         const nf_real *restrict g_log_det, nf_real *restrict gx, nf_real *restrict g_theta,
                         nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict ga = work, *restrict gwu = work + ld, *restrict gq = work + 2 * ld;
    dots(1, dim, ld, theta, coef, gy, ga, gwu);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real sp = coef[SP * ld + s], inv_q = coef[INV_Q * ld + s];
        const nf_real slope = (1 - h[s]) * (1 + h[s]), g_det = g_log_det[s] / nfi_planar_det(h[s], sp);
        const nf_real gc_q = h[s] * gwu[s] * inv_q;
        ga[s] = slope * (ga[s] - 2 * h[s] * (sp - 1) * g_det);
        gq[s] = -gc_q * coef[C * ld + s];
        gwu[s] = (slope * g_det + gc_q) * coef[SIGMA * ld + s] - gc_q;
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
            g_w[s] += xi[s] * ga[s] + c[s] * gu_hat + gwu[s] * u[s] + 2 * gq[s] * w[s];
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

/* work [3 x ld] */
NFI_INLINE void pull_back(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *coef,
                          const nf_real *h, const nf_real *x, const nf_real *gy, const nf_real *g_log_det, nf_real *gx,
                          nf_real *g_theta, nf_real *work)
{
    if (stride)
        vjp_each(dim, ld, theta, coef, h, x, gy, g_log_det, gx, g_theta, work);
    else
        vjp_shared(dim, ld, theta, coef, h, x, gy, g_log_det, gx, g_theta, work);
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

NFI_INLINE void inverse(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict y,
                        nf_real *restrict x, double *restrict log_det, nf_real *restrict coef, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict t = work, *restrict h = work + ld, *restrict active = work + 2 * ld;
    const nf_real *restrict sp = coef + SP * nfi_param_columns(stride, ld);
    coefficients(stride, dim, ld, theta, coef);
    argument(stride, dim, ld, theta, y, t);
    nfi_planar_solve(stride, ld, sp, t, h, active);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] -= (double)nfi_log_normal(nfi_planar_det(h[s], nfi_param(sp, stride, ld, 0, s)));
    shift(stride, dim, ld, theta, coef, -1, h, y, x);
}

NFI_SPECIALISE(planar, forward,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *x, nf_real *y, double *log_det, nf_real *h,
                nf_real *coef),
               dim, ld, theta, x, y, log_det, h, coef)
NFI_SPECIALISE(planar, inverse,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *y, nf_real *x, double *log_det,
                nf_real *coef, nf_real *work),
               dim, ld, theta, y, x, log_det, coef, work)
NFI_SPECIALISE(planar, pull_back,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *coef, const nf_real *h, const nf_real *x,
                const nf_real *gy, const nf_real *g_log_det, nf_real *gx, nf_real *g_theta, nf_real *work),
               dim, ld, theta, coef, h, x, gy, g_log_det, gx, g_theta, work)
NFI_SPECIALISE(planar, solve_jt,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *coef, const nf_real *h, const nf_real *gx,
                nf_real *gy, nf_real *work),
               dim, ld, theta, coef, h, gx, gy, work)
/* ---- hooks; what is saved: h [ld], then the coefficients ---- */

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const size_t dim = nf_object_shape(o)->dim_in;
    const nf_mark mark = nf_arena_mark(p->scratch);
    if (d == NF_FORWARD) {
        nf_real *h = nfi_param_alloc(p, p->tape ? p->tape : p->scratch, 1, N_COEFFICIENTS);
        if (!h)
            return NF_ENOMEM;
        (p->theta_stride ? planar_forward_each : planar_forward_shared)(dim, p->ld, p->theta, x, y, log_det, h,
                                                                        h + p->ld);
        if (p->tape)
            *saved = h;
    } else {
        nf_real *coef = nfi_param_alloc(p, p->scratch, 0, N_COEFFICIENTS),
                *work = coef ? nf_arena_reals(p->scratch, 3, p->ld) : NULL;
        if (!work) {
            nf_arena_rewind(p->scratch, mark);
            return NF_ENOMEM;
        }
        (p->theta_stride ? planar_inverse_each : planar_inverse_shared)(dim, p->ld, p->theta, x, y, log_det, coef,
                                                                        work);
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)y;
    const nf_real *h = saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 3, p->ld);
    if (!work)
        return NF_ENOMEM;
    (p->theta_stride ? planar_pull_back_each : planar_pull_back_shared)(
        nf_object_shape(o)->dim_in, p->ld, p->theta, h + p->ld, h, x, gy, g_log_det, gx, g->theta, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_transposed(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                  const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)x, (void)y;
    const nf_real *h = saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 2, p->ld);
    if (!work)
        return NF_ENOMEM;
    (p->theta_stride ? planar_solve_jt_each : planar_solve_jt_shared)(nf_object_shape(o)->dim_in, p->ld, p->theta,
                                                                      h + p->ld, h, gx, gy, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* Near the identity, but every layer in its own direction: w a random unit vector, u = ln(e - 1) w + N(0, 0.1^2), since
   softplus(ln(e - 1)) = 1 makes m = 0 and u^ = 0 without the noise; b = 0. */
static const double at_identity = 0.54132485461291811, spread = 0.1;

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const size_t dim = nf_object_shape(o)->dim_in;
    nf_noise_normal(noise, 2 * dim, 1, 1, theta);
    double norm = 0;
    for (size_t i = 0; i < dim; i++)
        norm += (double)theta[i] * (double)theta[i];
    norm = sqrt(norm);
    for (size_t i = 0; i < dim; i++) {
        theta[i] = (nf_real)((double)theta[i] / norm);
        theta[dim + i] = (nf_real)(at_identity * (double)theta[i] + spread * (double)theta[dim + i]);
    }
    theta[2 * dim] = 0;
    return NF_OK;
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const size_t dim = nf_object_shape(o)->dim_in;
    each(user, "w", 0, 1, &dim);
    each(user, "u", dim, 1, &dim);
    each(user, "b", 2 * dim, 0, NULL);
}

static nf_flow *rebuild(nf_reader *r)
{
    return nf_planar(nf_read_dim_in(r));
}

const nf_flow_type nfi_planar_type = {
    .part = {.name = "planar", .init = init, .slices = slices},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_transposed,
    .rebuild = rebuild,
};

nf_flow *nf_planar(size_t dim)
{
    if (dim == 0 || dim > (SIZE_MAX - 1) / 2) {
        nf_error(NF_EARG, "nf_planar: `dim` is %zu", dim);
        return NULL;
    }
    const nf_shape own = {.dim_in = dim,
                          .dim_out = dim,
                          .n_params = 2 * dim + 1,
                          .n_saved = 1,
                          .flags = NF_PER_SAMPLE | NF_IMPLICIT_INVERSE};
    return nf_flow_new(&nfi_planar_type, &own, NULL, NULL, 0);
}
