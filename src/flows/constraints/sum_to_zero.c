/* Vectors with sum 0: y = V x with orthonormal columns of V (helmert.c). So x = V^T y, the log-det is 0 as measured
   by area in the hyperplane, and J^-T = J. */
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"

/* V or V^T times a tile. */
static nf_status multiply(const nf_object *o, bool transposed, const nf_pass *p, const nf_real *from, nf_real *to)
{
    const size_t K = nf_object_shape(o)->dim_out;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *sum = nf_arena_reals(p->scratch, 1, p->ld);
    if (!sum)
        return NF_ENOMEM;
    if (transposed)
        nfi_helmert_transposed(K, p->ld, p->ld, p->ld, from, to, sum);
    else
        nfi_helmert(K, p->ld, p->ld, p->ld, from, to);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    return multiply(o, d == NF_INVERSE, p, x, y);
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y, (void)saved, (void)g_log_det, (void)g;
    return multiply(o, d == NF_FORWARD, p, gy, gx);
}

static nf_flow *rebuild(nf_reader *r)
{
    return nf_sum_to_zero(nf_read_dim_out(r));
}

const nf_flow_type nfi_sum_to_zero_type = {
    .part = {.name = "sum_to_zero"},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_sum_to_zero(size_t K)
{
    if (K == 0) {
        nf_error(NF_EARG, "nf_sum_to_zero: `K` is 0");
        return NULL;
    }
    return nfi_constraint_new(&nfi_sum_to_zero_type, K - 1, K, NULL);
}
