/* The hooks of radial flows. The formulas, and the paper, are in radial_kernels.c and radial_gradient.c. */
#include "flows/residual/radial.h"
#include "base/memory.h"
#include "flows/param.h"
#include "flows/types.h"

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const bool save = p->tape && d == NF_FORWARD;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *r = nfi_param_alloc(p, save ? p->tape : p->scratch, 1, NFI_RADIAL_COEFFICIENTS);
    nf_real *work = r ? nf_arena_reals(p->scratch, 1, p->ld) : NULL;
    if (!work)
        return NF_ENOMEM;
    nfi_radial_move(p->theta_stride, d == NF_INVERSE, nf_object_shape(o)->dim_in, p->ld, p->theta, x, y, log_det, r,
                    r + p->ld, work);
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
    nfi_radial_pull_back(p->theta_stride, nf_object_shape(o)->dim_in, p->ld, p->theta, r + p->ld, r, x, gy, g_log_det,
                         gx, g->theta, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)y;
    const nf_real *r = saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 3, p->ld);
    if (!work)
        return NF_ENOMEM;
    nfi_radial_solve_jt(p->theta_stride, nf_object_shape(o)->dim_in, p->ld, p->theta, r + p->ld, r, x, gx, gy, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* Initial parameters: near the identity, but each layer has a centre of its own. z0 ~ N(0, 1), alpha = 1,
   b = ln(e - 1) + N(0, 0.1^2). Without the noise, softplus(ln(e - 1)) = 1 gives beta = 0. */
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
    .solve_jt = solve_jt,
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
