/* The Householder flow (Tomczak & Welling 2016): y = H_{n-1} ... H_0 x with H_j = I - 2 v_j v_j^T / |v_j|^2, a
   rotation or reflection, |det| = 1. The inverse applies the same reflections in the opposite order, and J^-T = J. */
#include "base/memory.h"
#include "flows/compose.h"
#include "flows/lane_sums.h"
#include "flows/linear/reflections.h"
#include "flows/types.h"
#include "object/options.h"
#include <nflow/linear.h>
#include <math.h>

static size_t n_of(const nf_object *o)
{
    return nf_object_shape(o)->n_params / nf_object_shape(o)->dim_in;
}

static nfi_reflections chain(const nf_object *o, const nf_pass *p, const nf_real *tau)
{
    return (nfi_reflections){.stride = p->theta_stride,
                             .n = n_of(o),
                             .dim = nf_object_shape(o)->dim_in,
                             .ld = p->ld,
                             .v = p->theta,
                             .tau = tau};
}

/* Saves tau. */
static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)log_det;
    const size_t dim = nf_object_shape(o)->dim_in, n = n_of(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *tau = nf_arena_reals(nfi_saving_arena(p), n, nfi_param_columns(p->theta_stride, p->ld));
    nf_real *work = nf_arena_reals(p->scratch, dim, NFI_LANES);
    if (!tau || !work)
        return NF_ENOMEM;
    const nfi_reflections q = chain(o, p, tau);
    nfi_reflection_scales(q.stride, n, dim, q.ld, q.v, tau);
    nfi_reflect(&q, d, dim, x, dim, y, work);
    if (p->tape)
        *saved = tau;
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)g_log_det;
    const nfi_reflections q = chain(o, p, saved);
    const size_t dim = q.dim, n_params = q.n * dim;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 2 * dim, NFI_LANES);
    nf_real *sums = g->theta ? nfi_lane_sums(p, n_params, g->theta) : NULL;
    if (!work || (g->theta && !sums))
        return NF_ENOMEM;
    if (g->theta) {
        nfi_reflect_vjp(&q, d, y, dim, gy, dim, gx, sums, work);
        nfi_add_lane_sums(p, n_params, sums, g->theta);
    } else {
        nfi_reflect(&q, nfi_opposite(d), dim, gy, dim, gx, work);
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y;
    const nfi_reflections q = chain(o, p, saved);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, q.dim, NFI_LANES);
    if (!work)
        return NF_ENOMEM;
    nfi_reflect(&q, d, q.dim, gx, q.dim, gy, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* v ~ N(0, 1 / dim): all directions are equally likely, and the length is about 1. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const nf_shape *s = nf_object_shape(o);
    nf_noise_normal(noise, s->n_params, 1, 1, theta);
    for (size_t i = 0; i < s->n_params; i++)
        theta[i] = (nf_real)((double)theta[i] / sqrt((double)s->dim_in));
    return NF_OK;
}

static const nf_option options_of_type[] = {
    {.name = "n", .kind = NF_OPTION_SIZE, .least = 1, .flags = NF_OPTION_REQUIRED, .help = "reflections"}};
static const nf_option_table table = NF_OPTION_TABLE("nf_householder", size_t, options_of_type, NULL);

static nf_status describe(const nf_object *o, nf_writer *w)
{
    return nf_options_write(w, &table, &(size_t){n_of(o)});
}

NFI_REBUILD(flow, size_t, nf_householder(nf_read_dim_in(r), *q))

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    each(user, "v", 0, 2, (const size_t[]){n_of(o), nf_object_shape(o)->dim_in});
}

const nf_flow_type nfi_householder_type = {
    .part = {.name = "householder", .init = init, .describe = describe, .slices = slices},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

nf_flow *nf_householder(size_t dim, size_t n)
{
    size_t n_params, bytes;
    if (dim == 0 || n == 0 || !nfi_mul(dim, n, &n_params) || !nfi_mul(n_params, NFI_LANES * sizeof(nf_real), &bytes)) {
        nf_error(NF_EARG, "nf_householder: `dim` is %zu, `n` is %zu", dim, n);
        return NULL;
    }
    const nf_shape own = {
        .dim_in = dim, .dim_out = dim, .n_params = n_params, .n_saved = n, .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_householder_type, &own, NULL, NULL, 0);
}
