/* The hooks and options of the elementwise affine flow with a bounded scale. The formulas, and their papers, are in
   scaled_affine_kernels.c and log_scale.h. */
#include "flows/elementwise/scaled_affine.h"
#include "base/memory.h"
#include "flows/param.h"
#include "flows/types.h"
#include "object/options.h"
#include "object/tree.h"
#include <float.h>

typedef struct scaled_affine {
    nf_scaled_affine_options options; /* with defaults filled in */
    nfi_log_scale form;
} scaled_affine;

/* ---- hooks; apply saves m', L, L' ---- */

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const scaled_affine *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in, columns = nfi_param_columns(p->theta_stride, p->ld);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *affine = nf_arena_reals(nfi_saving_arena(p), 3 * dim, columns);
    if (!affine)
        return NF_ENOMEM;
    nfi_scaled_affine_bound(q->options.scale, q->options.gated, q->form, dim, columns, p->theta, affine,
                            affine + dim * columns, affine + 2 * dim * columns);
    nf_pass inner = *p;
    inner.theta = affine;
    const nf_status status = nfi_affine_type.apply(o, d, &inner, x, y, log_det, NULL);
    if (p->tape)
        *saved = affine;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const scaled_affine *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in, columns = nfi_param_columns(p->theta_stride, p->ld);
    const nf_real *affine = saved;
    nf_pass inner = *p;
    inner.theta = affine;
    nf_grad inner_g = {.theta = NULL};
    const nf_mark mark = nf_arena_mark(p->scratch);
    if (g->theta) {
        inner_g.theta = nf_arena_reals(p->scratch, 2 * dim, columns);
        if (!inner_g.theta)
            return NF_ENOMEM;
        for (size_t i = 0; i < 2 * dim * columns; i++)
            inner_g.theta[i] = 0;
    }
    const nf_status status = nfi_affine_type.vjp(o, d, &inner, x, y, NULL, gy, g_log_det, gx, &inner_g);
    if (g->theta)
        nfi_scaled_affine_pull_back(q->options.gated, dim, columns, p->theta, affine + dim * columns,
                                    affine + 2 * dim * columns, inner_g.theta, g->theta);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    nf_pass inner = *p;
    inner.theta = saved;
    return nfi_affine_type.solve_jt(o, d, &inner, x, y, NULL, gx, gy);
}

/* ---- structure ---- */

static const char *const scales[] = {
    [NF_SCALE_EXP] = "exp",           [NF_SCALE_TANH] = "tanh",         [NF_SCALE_CLAMP] = "clamp",
    [NF_SCALE_SOFTSIGN] = "softsign", [NF_SCALE_ATAN] = "atan",         [NF_SCALE_ASYMMETRIC] = "asymmetric",
    [NF_SCALE_SIGMOID] = "sigmoid",   [NF_SCALE_SOFTPLUS] = "softplus", [NF_SCALE_INVERSE_SIGMOID] = "inverse_sigmoid",
};

static const nf_choices forms = NFI_CHOICES("scale", scales);
static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_CHOICE, nf_scaled_affine_options, scale), .choices = &forms, .help = "the form of the scale"},
    {NF_OPTION(NF_OPTION_REAL, nf_scaled_affine_options, limit), .most = 700,
     .flags = NF_OPTION_ABOVE | NF_OPTION_DEPENDS, .help = "upper limit of log s"},
    {NF_OPTION(NF_OPTION_REAL, nf_scaled_affine_options, lower), .most = 700,
     .flags = NF_OPTION_ABOVE | NF_OPTION_DEPENDS, .help = "lower limit, of clamp and asymmetric"},
    {NF_OPTION(NF_OPTION_REAL, nf_scaled_affine_options, bias), .least = -DBL_MAX, .help = "added to the parameter"},
    {NF_OPTION(NF_OPTION_REAL, nf_scaled_affine_options, floor), .most = 700, .help = "of sigmoid and softplus"},
    {NF_OPTION(NF_OPTION_BOOL, nf_scaled_affine_options, gated), .help = "s x + (1 - s) m, for sigmoid"},
};
static const nf_option_table table =
    NF_OPTION_TABLE("nf_scaled_affine", nf_scaled_affine_options, options_of_type, NULL);

NFI_REBUILD(flow, nf_scaled_affine_options, nf_scaled_affine(nf_read_dim_in(r), q))

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    each(user, "m_a", 0, 2, (const size_t[]){nf_object_shape(o)->dim_in, 2});
}

const nf_flow_type nfi_scaled_affine_type = {
    .part = {.name = "scaled_affine", .slices = slices, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

/* Which options a scale reads, and its limits if none are given. */
static const struct kind {
    bool limit, lower, floor;
    double upper_default, lower_default; /* lower_default 0: the same as the upper limit */
} kinds[] = {
    [NF_SCALE_EXP] = {.limit = false},
    [NF_SCALE_TANH] = {.limit = true, .upper_default = 2},
    [NF_SCALE_CLAMP] = {.limit = true, .lower = true, .upper_default = 5},
    [NF_SCALE_SOFTSIGN] = {.limit = true, .upper_default = 6.9077552789821368}, /* ln 1000 */
    [NF_SCALE_ATAN] = {.limit = true, .upper_default = 1.9},
    [NF_SCALE_ASYMMETRIC] = {.limit = true, .lower = true, .upper_default = 0.1, .lower_default = 2},
    [NF_SCALE_SIGMOID] = {.floor = true},
    [NF_SCALE_SOFTPLUS] = {.floor = true},
    [NF_SCALE_INVERSE_SIGMOID] = {.limit = false},
};

static nf_status check_bound(const char *name, double value, bool read)
{
    if (value > 0 && !read)
        return nf_error(NF_EARG, "nf_scaled_affine: `%s` is %g, but this scale has none", name, value);
    return NF_OK;
}

static nf_status check(const nf_scaled_affine_options *q)
{
    const struct kind *k = &kinds[q->scale];
    if (q->gated && q->scale != NF_SCALE_SIGMOID)
        return nf_error(NF_EARG, "nf_scaled_affine: `gated` needs NF_SCALE_SIGMOID");
    nf_status status = check_bound("limit", q->limit, k->limit);
    if (status == NF_OK)
        status = check_bound("lower", q->lower, k->lower);
    return status == NF_OK ? check_bound("floor", q->floor, k->floor) : status;
}

nf_flow *nf_scaled_affine(size_t dim, const nf_scaled_affine_options *options)
{
    nf_scaled_affine_options filled;
    if (dim == 0 || dim > SIZE_MAX / 3) {
        nf_error(NF_EARG, "nf_scaled_affine: `dim` is %zu", dim);
        return NULL;
    }
    if (nf_options_settle(&table, options, &filled) != NF_OK || check(&filled) != NF_OK)
        return NULL;
    const struct kind *k = &kinds[filled.scale];
    if (k->lower && filled.lower <= 0) /* if only `limit` is given, it is the limit on both sides */
        filled.lower = filled.limit <= 0 && k->lower_default > 0 ? k->lower_default : filled.limit;
    if (filled.limit <= 0)
        filled.limit = k->upper_default;
    if (k->lower && filled.lower <= 0)
        filled.lower = filled.limit;
    scaled_affine *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->options = filled;
    q->form = (nfi_log_scale){.upper = (nf_real)filled.limit,
                              .lower = (nf_real)(k->lower ? filled.lower : filled.limit),
                              .bias = (nf_real)filled.bias,
                              .floor = (nf_real)filled.floor};
    const nf_shape shape = {.dim_in = dim,
                            .dim_out = dim,
                            .n_params = 2 * dim,
                            .n_saved = 3 * dim,
                            .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_scaled_affine_type, &shape, q, NULL, 0);
}
