/* Affine flow with a low-rank matrix, y = m + e^s (x + W W^T x), as an object: what is computed from theta once a
   pass, initial parameters, names, model files. The formulas are in low_rank_kernels.c. */
#include "base/memory.h"
#include "flows/linear/low_rank.h"
#include "flows/param.h"
#include "flows/types.h"
#include "object/options.h"
#include "object/tree.h"
#include <nflow/linear.h>
#include <math.h>

static nfi_low_rank shape_of(const nf_object *o)
{
    return *(const nfi_low_rank *)nf_self(o);
}

/* What is computed from theta, and t. It is saved if there is a tape. */
typedef struct derived {
    nf_real *root, *R, *t;
} derived;

static bool derive(const nf_object *o, const nf_pass *p, nf_arena *memory, derived *v)
{
    const nfi_low_rank n = shape_of(o);
    const size_t c = nfi_param_columns(p->theta_stride, p->ld);
    v->root = nf_arena_reals(memory, n.dim, c);
    v->R = nf_arena_reals(memory, nfi_low_rank_factor(n.r, 0), c);
    v->t = nf_arena_reals(memory, n.r, p->ld);
    if (!v->root || !v->R || !v->t)
        return false;
    nfi_low_rank_prepare(p->theta_stride, n, p->ld, p->theta, v->root, v->R);
    return true;
}

static void run(const nf_object *o, bool divide, bool transposed, const nf_pass *p, const derived *v, const nf_real *in,
                nf_real *out)
{
    nfi_low_rank_multiply(p->theta_stride, divide, transposed, shape_of(o), p->ld, p->theta, v->root, v->R, in, v->t,
                          out);
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nfi_low_rank n = shape_of(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    derived *v = nf_arena_alloc(nfi_saving_arena(p), sizeof *v);
    if (!v || !derive(o, p, nfi_saving_arena(p), v))
        return NF_ENOMEM;
    run(o, d == NF_INVERSE, false, p, v, x, y);
    nfi_low_rank_log_det(p->theta_stride, d == NF_FORWARD ? 1 : -1, n, p->ld,
                         p->theta + n.dim * nfi_param_columns(p->theta_stride, p->ld), v->R, log_det);
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = v;
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const bool forward = d == NF_FORWARD;
    const nfi_low_rank n = shape_of(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    derived v = *(const derived *)saved;
    v.t = nf_arena_reals(p->scratch, n.r, p->ld);
    nf_real *work = nf_arena_reals(p->scratch, 2 * n.r + 2, p->ld);
    if (!v.t || !work)
        return NF_ENOMEM;
    run(o, !forward, true, p, &v, gy, gx);
    if (g->theta)
        nfi_low_rank_gradient(p->theta_stride, forward ? 1 : -1, n, p->ld, p->theta, v.root, v.R, forward ? x : y,
                              forward ? gy : gx, v.t, g_log_det, work, g->theta);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y;
    const nf_mark mark = nf_arena_mark(p->scratch);
    derived v = *(const derived *)saved;
    v.t = nf_arena_reals(p->scratch, shape_of(o).r, p->ld);
    if (!v.t)
        return NF_ENOMEM;
    run(o, d == NF_FORWARD, true, p, &v, gx, gy);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* Initial parameters: |W|^2 is about r / 100. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const nfi_low_rank n = shape_of(o);
    nf_real *W = theta + 2 * n.dim;
    nf_noise_normal(noise, n.dim * n.r, 1, 1, W);
    for (size_t i = 0; i < n.dim * n.r; i++)
        W[i] = (nf_real)(0.1 / sqrt((double)n.dim) * (double)W[i]);
    return NF_OK;
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const nfi_low_rank n = shape_of(o);
    each(user, "m", 0, 1, &n.dim);
    each(user, "s", n.dim, 1, &n.dim);
    each(user, "W", 2 * n.dim, 2, (size_t[]){n.dim, n.r});
}

static const nf_option options_of_type[] = {{.name = "rank",
                                             .kind = NF_OPTION_SIZE,
                                             .offset = offsetof(nfi_low_rank, r),
                                             .least = 1,
                                             .flags = NF_OPTION_REQUIRED,
                                             .help = "columns of W, up to dim"}};
static const nf_option_table table = NF_OPTION_TABLE("nf_low_rank_affine", nfi_low_rank, options_of_type, NULL);

NFI_REBUILD(flow, nfi_low_rank, nf_low_rank_affine(nf_read_dim_in(r), q->r))

const nf_flow_type nfi_low_rank_affine_type = {
    .part = {.name = "low_rank_affine", .init = init, .slices = slices, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

nf_flow *nf_low_rank_affine(size_t dim, size_t rank)
{
    size_t n_params;
    if (dim == 0 || rank == 0 || rank > dim || !nfi_add(rank, 2, &n_params) || !nfi_mul(dim, n_params, &n_params)) {
        nf_error(NF_EARG, "nf_low_rank_affine: `dim` is %zu and `rank` is %zu, which must be from 1 to dim", dim, rank);
        return NULL;
    }
    nfi_low_rank *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = (nfi_low_rank){.dim = dim, .r = rank};
    const nf_shape own = {.dim_in = dim,
                          .dim_out = dim,
                          .n_params = n_params,
                          .n_saved = dim + rank * (rank + 3) / 2,
                          .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_low_rank_affine_type, &own, self, NULL, 0);
}
