/* The affine flow with a triangular matrix: its hooks, which save nothing. The formulas are in
   full_affine_kernels.c. */
#include "flows/linear/full_affine.h"
#include "base/memory.h"
#include "flows/param.h"
#include "flows/types.h"
#include "object/tree.h"
#include <nflow/linear.h>

/* theta: m [dim], s [dim], l. */
static nfi_full_affine of_pass(const nf_object *o, const nf_pass *p)
{
    const size_t dim = nf_object_shape(o)->dim_in, at = dim * nfi_param_columns(p->theta_stride, p->ld);
    return (nfi_full_affine){
        .stride = p->theta_stride, .dim = dim, .ld = p->ld, .m = p->theta, .s = p->theta + at, .l = p->theta + 2 * at};
}

static nf_status run(const nf_object *o, nfi_l_product kind, const nf_pass *p, const nf_real *in, nf_real *out)
{
    const nfi_full_affine q = of_pass(o, p);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *root = nf_arena_reals(p->scratch, q.dim, nfi_param_columns(q.stride, q.ld));
    if (!root)
        return NF_ENOMEM;
    nfi_full_affine_multiply(q, kind, root, in, out);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    nfi_full_affine_add_log_det(of_pass(o, p), d == NF_FORWARD ? 1 : -1, log_det);
    return run(o, d == NF_FORWARD ? NFI_L_TIMES : NFI_L_SOLVE, p, x, y);
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved;
    const bool forward = d == NF_FORWARD;
    const nfi_full_affine q = of_pass(o, p);
    nf_status status = run(o, forward ? NFI_L_TIMES_TRANSPOSED : NFI_L_SOLVE_TRANSPOSED, p, gy, gx);
    if (status != NF_OK || !g->theta)
        return status;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *root = nf_arena_reals(p->scratch, q.dim, nfi_param_columns(q.stride, q.ld)),
            *u = nf_arena_reals(p->scratch, 1, q.ld);
    if (!root || !u)
        return NF_ENOMEM;
    const nfi_full_affine_grad at = {g->theta, g->theta + (q.s - q.m), g->theta + (q.l - q.m)};
    nfi_full_affine_add_gradient(q, forward ? 1 : -1, root, forward ? x : y, forward ? gy : gx, g_log_det, u, at);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    return run(o, d == NF_FORWARD ? NFI_L_SOLVE_TRANSPOSED : NFI_L_TIMES_TRANSPOSED, p, gx, gy);
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const size_t dim = nf_object_shape(o)->dim_in, below = dim * (dim - 1) / 2;
    each(user, "m", 0, 1, &dim);
    each(user, "s", dim, 1, &dim);
    each(user, "l", 2 * dim, 1, &below);
}

static nf_flow *rebuild(nf_reader *r)
{
    return nf_full_affine(nf_read_dim_in(r));
}

const nf_flow_type nfi_full_affine_type = {
    .part = {.name = "full_affine", .slices = slices},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_full_affine(size_t dim)
{
    size_t square;
    if (dim == 0 || !nfi_add(dim, 3, &square) || !nfi_mul(dim, square, &square)) {
        nf_error(NF_EARG, "nf_full_affine: `dim` is %zu", dim);
        return NULL;
    }
    const nf_shape own = {
        .dim_in = dim, .dim_out = dim, .n_params = square / 2, .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_full_affine_type, &own, NULL, NULL, 0);
}
