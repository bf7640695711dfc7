/* The planar flow (Rezende & Mohamed 2015, eq. 10 to 12 and appendix A.1):

       y = x + u^ h,   h = tanh(w.x + b),   u^ = u + c w,   c = (m - w.u) / |w|^2,   m = softplus(w.u) - 1 = w.u^

   With sp = softplus(w.u) = 1 + m the determinant 1 + (1 - h^2) m is taken as h^2 + (1 - h^2) sp: a sum of terms that
   are not negative, so it needs neither abs nor epsilon. Where w = 0 (|w|^2 below the normal numbers) u^ = u and sp =
   1: a translation.

   Inverse: t = w.x + b solves t + m tanh t = w.y + b, a monotone scalar equation (planar_solve.c); then
   x = y - u^ tanh t. Gradients are in planar_gradient.c. */
#include "flows/planar.h"
#include "core/memory.h"
#include "core/vec.h"
#include "flows/param.h"
#include "flows/types.h"
#include <math.h>

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
/* ---- hooks ---- */

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
    .vjp = nfi_planar_vjp,
    .solve_jt = nfi_planar_solve_jt,
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
