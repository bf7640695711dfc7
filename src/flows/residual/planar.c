/* The planar flow (Rezende & Mohamed 2015, eq. 10 to 12 and appendix A.1):

       y = x + u^ h,   h = tanh(w.x + b),   u^ = u + c w,   c = (m - w.u) / |w|^2,   m = softplus(w.u) - 1 = w.u^

   With sp = softplus(w.u) = 1 + m the determinant 1 + (1 - h^2) m is computed as h^2 + (1 - h^2) sp. No term of this
   sum is negative, so it needs neither an absolute value nor an epsilon. If w = 0 (|w|^2 is below the normal numbers),
   u^ = u and sp = 1: the flow is a translation.

   Inverse: t = w.x + b solves t + m tanh t = w.y + b, a monotone equation of one number (planar_solve.c); then
   x = y - u^ tanh t. The kernels are in planar_kernels.c, those of the gradients in planar_gradient.c. */
#include "flows/residual/planar.h"
#include "base/memory.h"
#include "flows/param.h"
#include "flows/types.h"
#include <math.h>

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const size_t dim = nf_object_shape(o)->dim_in;
    const nf_mark mark = nf_arena_mark(p->scratch);
    if (d == NF_FORWARD) {
        nf_real *h = nfi_param_alloc(p, nfi_saving_arena(p), 1, N_COEFFICIENTS);
        if (!h)
            return NF_ENOMEM;
        nfi_planar_forward(p->theta_stride, dim, p->ld, p->theta, x, y, log_det, h, h + p->ld);
        if (p->tape)
            *saved = h;
    } else {
        nf_real *coef = nfi_param_alloc(p, p->scratch, 0, N_COEFFICIENTS),
                *work = coef ? nf_arena_reals(p->scratch, 3, p->ld) : NULL;
        if (!work) {
            nf_arena_rewind(p->scratch, mark);
            return NF_ENOMEM;
        }
        nfi_planar_inverse(p->theta_stride, dim, p->ld, p->theta, x, y, log_det, coef, work);
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
    nfi_planar_pull_back(p->theta_stride, nf_object_shape(o)->dim_in, p->ld, p->theta, h + p->ld, h, x, gy, g_log_det,
                         gx, g->theta, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)x, (void)y;
    const nf_real *h = saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 2, p->ld);
    if (!work)
        return NF_ENOMEM;
    nfi_planar_solve_jt(p->theta_stride, nf_object_shape(o)->dim_in, p->ld, p->theta, h + p->ld, h, gx, gy, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* Initial parameters: near the identity, but each layer has a direction of its own. w is a random unit vector,
   u = ln(e - 1) w + N(0, 0.1^2), b = 0. Without the noise, softplus(ln(e - 1)) = 1 gives m = 0 and u^ = 0. */
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
    .solve_jt = solve_jt,
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
