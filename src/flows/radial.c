/* The radial flow (Rezende & Mohamed 2015, eq. 14 and appendix A.2), with d = x - z0, r = |d|:

       y = x + t d,   t = beta / (alpha + r),   alpha = exp(a),   beta = sp - alpha,   sp = softplus(b) > 0

   With v = 1 / (alpha + r), p = r v, q = alpha v (so p + q = 1) and k = sp v, all terms below being bounded and free of
   cancellation,
       A = 1 + t = p + k                        stretches the dim - 1 directions across d,
       B = 1 + t + t' r = p (1 + q) + q k       the direction along d;
       t = k - q,   log-det = (dim - 1) log A + log B,   J = A I + (B - A) e e^T,   e = d / r (0 where r = 0).

   Inverse: rho = |y - z0| = A r gives r^2 + (sp - rho) r - rho alpha = 0, whose root is taken without cancellation;
   then x = y - (t / A) (y - z0). Gradients are in radial_gradient.c. */
#include "flows/radial.h"
#include "core/memory.h"
#include "core/vec.h"
#include "flows/param.h"
#include "flows/types.h"
#include <math.h>

/* Bounds of alpha and sp, whose quotients are then numbers. */
#ifdef NF_SINGLE
static const nf_real least = 0x1p-60f, most = 0x1p60f;
#else
static const nf_real least = 0x1p-500, most = 0x1p500;
#endif

NFI_INLINE nf_real bounded(nf_real v)
{
    const nf_real up = v > least ? v : least;
    return up < most ? up : most;
}

NFI_INLINE void coefficients(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta,
                             nf_real *restrict coef)
{
    const size_t m = nfi_param_columns(stride, ld);
    NFI_SIMD
    for (size_t s = 0; s < m; s++) {
        const nf_real alpha = nfi_exp(nfi_param(theta, stride, ld, dim, s));
        const nf_real b = nfi_param(theta, stride, ld, dim + 1, s), sp = nfi_softplus(b);
        coef[ALPHA * m + s] = bounded(alpha);
        coef[SP * m + s] = bounded(sp);
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

/* The root r of r^2 + (sp - rho) r - rho alpha = 0. */
NFI_INLINE nf_real root_of(nf_real rho, nf_real alpha, nf_real sp)
{
    /* root = sqrt(c^2 + 4 rho alpha), without overflow */
    const nf_real c = sp - rho, c_abs = nfi_abs(c), f = 2 * nfi_sqrt(rho) * nfi_sqrt(alpha);
    const nf_real larger = c_abs > f ? c_abs : f, smaller = c_abs > f ? f : c_abs;
    const nf_real ratio = smaller / (larger > NFI_MIN_NORMAL ? larger : NFI_MIN_NORMAL);
    const nf_real root = larger * nfi_sqrt(1 + ratio * ratio), sum = c_abs + root;
    const nf_real small = rho * (2 * alpha / (sum > NFI_MIN_NORMAL ? sum : NFI_MIN_NORMAL));
    return c > 0 ? small : sum / 2;
}

/* Either direction; r [ld] becomes x's distance from z0 (of the inverse: y's). work [ld] */
NFI_INLINE void move(size_t stride, bool back, size_t dim, size_t ld, const nf_real *restrict theta,
                     const nf_real *restrict x, nf_real *restrict y, double *restrict log_det, nf_real *restrict r,
                     nf_real *restrict coef, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    coefficients(stride, dim, ld, theta, coef);
    distance(stride, dim, ld, theta, x, r, work);
    const nf_real *restrict alphas = coef, *restrict sps = coef + nfi_param_columns(stride, ld);
    const nf_real across = (nf_real)(dim - 1);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real alpha = nfi_param(alphas, stride, ld, 0, s), sp = nfi_param(sps, stride, ld, 0, s);
        const nfi_radial_geometry e = nfi_radial_at(back ? root_of(r[s], alpha, sp) : r[s], alpha, sp);
        const double l = (double)(across * nfi_log(e.A) + nfi_log(e.B));
        log_det[s] += back ? -l : l;
        work[s] = back ? -e.t / e.A : e.t;
    }
    stretch(stride, dim, ld, theta, work, x, y);
}

NFI_INLINE void forward(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *x, nf_real *y,
                        double *log_det, nf_real *r, nf_real *coef, nf_real *work)
{
    move(stride, false, dim, ld, theta, x, y, log_det, r, coef, work);
}

NFI_INLINE void inverse(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *x, nf_real *y,
                        double *log_det, nf_real *r, nf_real *coef, nf_real *work)
{
    move(stride, true, dim, ld, theta, x, y, log_det, r, coef, work);
}

NFI_SPECIALISE(radial, forward,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *x, nf_real *y, double *log_det, nf_real *r,
                nf_real *coef, nf_real *work),
               dim, ld, theta, x, y, log_det, r, coef, work)
NFI_SPECIALISE(radial, inverse,
               (size_t dim, size_t ld, const nf_real *theta, const nf_real *x, nf_real *y, double *log_det, nf_real *r,
                nf_real *coef, nf_real *work),
               dim, ld, theta, x, y, log_det, r, coef, work)

/* ---- hooks ---- */

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
    .vjp = nfi_radial_vjp,
    .solve_jt = nfi_radial_solve_jt,
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
