/* The affine flow with a triangular matrix: its hooks, which save nothing. The formulas are in
   full_affine_kernels.c. */
#include "flows/linear/full_affine.h"
#include "base/memory.h"
#include "flows/param.h"
#include "flows/types.h"
#include <nflow/linear.h>

static nf_status run(const nf_object *o, nfi_l_product kind, const nf_pass *p, const nf_real *in, nf_real *out)
{
    const size_t dim = nf_object_shape(o)->dim_in;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *root = nf_arena_reals(p->scratch, dim, nfi_param_columns(p->theta_stride, p->ld));
    if (!root)
        return NF_ENOMEM;
    nfi_full_affine_multiply(p->theta_stride, kind, dim, p->ld, p->theta, root, in, out);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const size_t dim = nf_object_shape(o)->dim_in;
    nfi_full_affine_add_log_det(p->theta_stride, d == NF_FORWARD ? 1 : -1, dim, p->ld,
                                p->theta + dim * nfi_param_columns(p->theta_stride, p->ld), log_det);
    return run(o, d == NF_FORWARD ? NFI_L_TIMES : NFI_L_SOLVE, p, x, y);
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved;
    const bool forward = d == NF_FORWARD;
    const size_t dim = nf_object_shape(o)->dim_in;
    nf_status status = run(o, forward ? NFI_L_TIMES_TRANSPOSED : NFI_L_SOLVE_TRANSPOSED, p, gy, gx);
    if (status != NF_OK || !g->theta)
        return status;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *root = nf_arena_reals(p->scratch, dim, nfi_param_columns(p->theta_stride, p->ld)),
            *u = nf_arena_reals(p->scratch, 1, p->ld);
    if (!root || !u)
        return NF_ENOMEM;
    nfi_full_affine_add_gradient(p->theta_stride, forward ? 1 : -1, dim, p->ld, p->theta, root, forward ? x : y,
                                 forward ? gy : gx, g_log_det, u, g->theta);
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
    const nf_shape own = {.dim_in = dim, .dim_out = dim, .n_params = square / 2, .flags = NF_PER_SAMPLE};
    return nf_flow_new(&nfi_full_affine_type, &own, NULL, NULL, 0);
}
