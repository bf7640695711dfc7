/* The radial flow (Rezende & Mohamed 2015, eq. 14 and appendix A.2), with d = x - z0, r = |d|:

       y = x + t d,   t = beta / (alpha + r),   alpha = exp(a),   beta = sp - alpha,   sp = softplus(b) > 0

   With v = 1 / (alpha + r), p = r v, q = alpha v (so p + q = 1) and k = sp v, all terms below being bounded and free of
   cancellation,
       A = 1 + t = p + k                        stretches the dim - 1 directions across d,
       B = 1 + t + t' r = p (1 + q) + q k       the direction along d;
       t = k - q,   log-det = (dim - 1) log A + log B,   J = A I + (B - A) e e^T,   e = d / r (0 where r = 0).

   Forward VJP, with S = gy.d and l = dim - 1:
       gx = A gy + e gr,    gr = -v (t S + g_l (l t / A + 2 t q / B)),    gz0 = gy - gx (translations commute),
       ga = q (-A S + g_l ((k (1 - 2 q) - 2 p q) / B - l)),    gb = sigmoid(b) v (S + g_l (l / A + q / B)).

   Inverse: rho = |y - z0| = A r gives r^2 + (sp - rho) r - rho alpha = 0, whose root is taken without cancellation;
   then x = y - (t / A) (y - z0). Its gradient is derived by the library from J^-T g = g / A + e (e.g) p t / (A B). */
#include "core/memory.h"
#include "core/vec.h"
#include "flows/param.h"
#include "flows/types.h"
#include <math.h>

/* theta: z0 [dim], a, b. What follows from theta alone, a row of nfi_param_columns each: */
enum { ALPHA, SP, SIGMA, N_COEFFICIENTS };

NFI_INLINE void coefficients(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta,
                             nf_real *restrict coef)
{
    const size_t m = nfi_param_columns(stride, ld);
    NFI_SIMD
    for (size_t s = 0; s < m; s++) {
        const nf_real alpha = nfi_exp(nfi_param(theta, stride, ld, dim, s));
        const nf_real b = nfi_param(theta, stride, ld, dim + 1, s), sp = nfi_softplus(b);
        coef[ALPHA * m + s] = alpha > NFI_MIN_NORMAL ? alpha : NFI_MIN_NORMAL;
        coef[SP * m + s] = sp > NFI_MIN_NORMAL ? sp : NFI_MIN_NORMAL;
        coef[SIGMA * m + s] = nfi_sigmoid(b);
    }
}

/* r = |x - z0|, scaled by the largest component; work [ld] */
NFI_INLINE void distance(size_t stride, size_t dim, size_t ld, const nf_real *restrict z0, const nf_real *restrict x,
                         nf_real *restrict r, nf_real *restrict work)
{
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real d = nfi_abs(x[i * ld + s] - nfi_param(z0, stride, ld, i, s));
            work[s] = i && work[s] > d ? work[s] : d;
        }
    }
    if (dim == 1) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            r[s] = work[s];
        return;
    }
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real largest = work[s] > NFI_MIN_NORMAL ? work[s] : NFI_MIN_NORMAL;
            const nf_real d = (x[i * ld + s] - nfi_param(z0, stride, ld, i, s)) / largest;
            r[s] = (i ? r[s] : 0) + d * d;
        }
    }
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        r[s] = work[s] * nfi_sqrt(r[s]);
}

/* The quantities of the top comment at distance r. */
typedef struct geometry {
    nf_real v, p, q, k, t, A, B;
} geometry;

NFI_INLINE geometry at_distance(nf_real r, nf_real alpha, nf_real sp)
{
    geometry g;
    g.v = 1 / (alpha + r);
    g.p = r * g.v;
    g.q = alpha * g.v;
    g.k = sp * g.v;
    g.t = g.k - g.q;
    g.A = g.p + g.k;
    g.B = g.p * (1 + g.q) + g.q * g.k;
    return g;
}

/* y = x + factor (x - z0), factor [ld] */
NFI_INLINE void stretch(size_t stride, size_t dim, size_t ld, const nf_real *restrict z0,
                        const nf_real *restrict factor, const nf_real *restrict x, nf_real *restrict y)
{
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            y[i * ld + s] = x[i * ld + s] + factor[s] * (x[i * ld + s] - nfi_param(z0, stride, ld, i, s));
    }
}

NFI_INLINE void forward(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict x,
                        nf_real *restrict y, double *restrict log_det, nf_real *restrict r, nf_real *restrict coef,
                        nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    coefficients(stride, dim, ld, theta, coef);
    distance(stride, dim, ld, theta, x, r, work);
    const nf_real *restrict alpha = coef, *restrict sp = coef + nfi_param_columns(stride, ld);
    const nf_real across = (nf_real)(dim - 1);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const geometry e = at_distance(r[s], nfi_param(alpha, stride, ld, 0, s), nfi_param(sp, stride, ld, 0, s));
        log_det[s] += (double)(across * nfi_log(e.A) + nfi_log(e.B));
        work[s] = e.t;
    }
    stretch(stride, dim, ld, theta, work, x, y);
}

NFI_INLINE void inverse(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict y,
                        nf_real *restrict x, double *restrict log_det, nf_real *restrict rho, nf_real *restrict coef,
                        nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    coefficients(stride, dim, ld, theta, coef);
    distance(stride, dim, ld, theta, y, rho, work);
    const nf_real *restrict alphas = coef, *restrict sps = coef + nfi_param_columns(stride, ld);
    const nf_real across = (nf_real)(dim - 1);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real alpha = nfi_param(alphas, stride, ld, 0, s), sp = nfi_param(sps, stride, ld, 0, s);
        /* root = sqrt(c^2 + 4 rho alpha), without overflow */
        const nf_real c = sp - rho[s], c_abs = nfi_abs(c), f = 2 * nfi_sqrt(rho[s]) * nfi_sqrt(alpha);
        const nf_real most = c_abs > f ? c_abs : f, least = c_abs > f ? f : c_abs;
        const nf_real ratio = least / (most > NFI_MIN_NORMAL ? most : NFI_MIN_NORMAL);
        const nf_real root = most * nfi_sqrt(1 + ratio * ratio), sum = c_abs + root;
        const nf_real small = rho[s] * (2 * alpha / (sum > NFI_MIN_NORMAL ? sum : NFI_MIN_NORMAL));
        const geometry e = at_distance(c > 0 ? small : sum / 2, alpha, sp);
        log_det[s] -= (double)(across * nfi_log(e.A) + nfi_log(e.B));
        work[s] = -e.t / e.A;
    }
    stretch(stride, dim, ld, theta, work, y, x);
}

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
    nf_real ga_sum = 0, gb_sum = 0;
    NFI_SIMD_SUM(ga_sum, gb_sum)
    for (size_t s = 0; s < ld; s++) {
        const geometry e = at_distance(r[s], nfi_param(coef, stride, ld, ALPHA, s), nfi_param(coef, stride, ld, SP, s));
        const nf_real gy_e = gr[s], S = gy_e * r[s], gl_A = g_log_det[s] * across / e.A, gl_B = g_log_det[s] / e.B;
        t[s] = e.t;
        gr[s] = -e.t * (e.p * gy_e + e.v * (gl_A + 2 * e.q * gl_B));
        ga[s] = e.q * (-e.A * S + gl_B * (e.k * (1 - 2 * e.q) - 2 * e.p * e.q) - g_log_det[s] * across);
        gb[s] = nfi_param(coef, stride, ld, SIGMA, s) * (e.p * gy_e + e.v * (gl_A + e.q * gl_B));
        ga_sum += ga[s];
        gb_sum += gb[s];
    }
    for (size_t i = 0; i < dim; i++) {
        nf_real gz0 = 0;
        NFI_SIMD_SUM(gz0)
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = (x[i * ld + s] - nfi_param(theta, stride, ld, i, s)) * inv_r[s];
            const nf_real change = t[s] * gy[i * ld + s] + e * gr[s];
            gx[i * ld + s] = gy[i * ld + s] + change;
            if (stride && g_theta)
                g_theta[i * ld + s] -= change;
            gz0 -= change;
        }
        if (!stride && g_theta)
            g_theta[i] += gz0;
    }
    if (!g_theta)
        return;
    if (!stride) {
        g_theta[dim] += ga_sum;
        g_theta[dim + 1] += gb_sum;
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
        const geometry e = at_distance(r[s], nfi_param(coef, stride, ld, ALPHA, s), nfi_param(coef, stride, ld, SP, s));
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

NFI_SPECIALISE(radial, forward,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *x, nf_real *y, double *log_det, nf_real *r,
                nf_real *coef, nf_real *work),
               dim, ld, theta, x, y, log_det, r, coef, work)
NFI_SPECIALISE(radial, inverse,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *y, nf_real *x, double *log_det,
                nf_real *rho, nf_real *coef, nf_real *work),
               dim, ld, theta, y, x, log_det, rho, coef, work)
NFI_SPECIALISE(radial, pull_back,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *coef, const nf_real *r, const nf_real *x,
                const nf_real *gy, const nf_real *g_log_det, nf_real *gx, nf_real *g_theta, nf_real *work),
               dim, ld, theta, coef, r, x, gy, g_log_det, gx, g_theta, work)
NFI_SPECIALISE(radial, solve_jt,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *coef, const nf_real *r, const nf_real *x,
                const nf_real *gx, nf_real *gy, nf_real *work),
               dim, ld, theta, coef, r, x, gx, gy, work)

/* ---- hooks; what is saved: r [ld], then the coefficients ---- */

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const bool save = p->tape && d == NF_FORWARD;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *r = nfi_param_alloc(p, save ? p->tape : p->scratch, 1, N_COEFFICIENTS);
    nf_real *work = r ? nf_arena_reals(p->scratch, 1, p->ld) : NULL;
    if (!work)
        return NF_ENOMEM;
    if (d == NF_FORWARD)
        (p->theta_stride ? radial_forward_each : radial_forward_shared)(nf_object_shape(o)->dim_in, p->ld, p->theta, x,
                                                                        y, log_det, r, r + p->ld, work);
    else
        (p->theta_stride ? radial_inverse_each : radial_inverse_shared)(nf_object_shape(o)->dim_in, p->ld, p->theta, x,
                                                                        y, log_det, r, r + p->ld, work);
    if (save)
        *saved = r;
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)y;
    const nf_real *r = saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 5, p->ld);
    if (!work)
        return NF_ENOMEM;
    (p->theta_stride ? radial_pull_back_each : radial_pull_back_shared)(
        nf_object_shape(o)->dim_in, p->ld, p->theta, r + p->ld, r, x, gy, g_log_det, gx, g->theta, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_transposed(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                  const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)y;
    const nf_real *r = saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 3, p->ld);
    if (!work)
        return NF_ENOMEM;
    (p->theta_stride ? radial_solve_jt_each : radial_solve_jt_shared)(nf_object_shape(o)->dim_in, p->ld, p->theta,
                                                                      r + p->ld, r, x, gx, gy, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* Near the identity, every layer about its own centre: z0 ~ N(0, 1), alpha = 1, b = ln(e - 1) + N(0, 0.1^2), since
   softplus(ln(e - 1)) = 1 makes beta = 0. */
static const double at_identity = 0.54132485461291811, spread = 0.1;

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const size_t dim = nf_object_shape(o)->dim_in;
    nf_noise_normal(noise, dim + 2, 1, 1, theta);
    theta[dim] = 0;
    theta[dim + 1] = (nf_real)(at_identity + spread * (double)theta[dim + 1]);
    return NF_OK;
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const size_t dim = nf_object_shape(o)->dim_in;
    each(user, "z0", 0, 1, &dim);
    each(user, "a", dim, 0, NULL);
    each(user, "b", dim + 1, 0, NULL);
}

static nf_flow *rebuild(nf_reader *r)
{
    return nf_radial(nf_read_dim_in(r));
}

const nf_flow_type nfi_radial_type = {
    .part = {.name = "radial", .init = init, .slices = slices},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_transposed,
    .rebuild = rebuild,
};

nf_flow *nf_radial(size_t dim)
{
    if (dim == 0 || dim > SIZE_MAX - 2) {
        nf_error(NF_EARG, "nf_radial: `dim` is %zu", dim);
        return NULL;
    }
    const nf_shape own = {
        .dim_in = dim, .dim_out = dim, .n_params = dim + 2, .n_saved = 1, .flags = NF_PER_SAMPLE | NF_IMPLICIT_INVERSE};
    return nf_flow_new(&nfi_radial_type, &own, NULL, NULL, 0);
}
