/* Ordered numbers. The formulas are in ordered_kernels.c. */
#include "object/options.h"
#include "base/memory.h"
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"

typedef struct ordered {
    bool positive;
} ordered;

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const ordered *q = nf_self(o);
    (d == NF_FORWARD ? nfi_ordered_forward : nfi_ordered_inverse)(nf_object_shape(o)->dim_in, q->positive, p->ld, x, y,
                                                                  log_det);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    const ordered *q = nf_self(o);
    const size_t K = nf_object_shape(o)->dim_in;
    if (d == NF_INVERSE) {
        nfi_ordered_inverse_vjp(K, q->positive, p->ld, x, gy, g_log_det, gx);
        return NF_OK;
    }
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *tail = nf_arena_reals(p->scratch, 1, p->ld);
    if (tail)
        nfi_ordered_forward_vjp(K, q->positive, p->ld, x, gy, g_log_det, gx, tail);
    nf_arena_rewind(p->scratch, mark);
    return tail ? NF_OK : NF_ENOMEM;
}

static const nf_option options_of_type[] = {{NF_OPTION(NF_OPTION_BOOL, ordered, positive), .help = "all are above 0"}};
static const nf_option_table table = NF_OPTION_TABLE("ordered", ordered, options_of_type, NULL);

NFI_REBUILD(flow, ordered, (q->positive ? nf_positive_ordered : nf_ordered)(nf_read_dim_in(r)))

const nf_flow_type nfi_ordered_type = {
    .part = {.name = "ordered", .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

static nf_flow *new_ordered(const char *who, size_t K, bool positive)
{
    if (K == 0) {
        nf_error(NF_EARG, "%s: `K` is 0", who);
        return NULL;
    }
    ordered *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->positive = positive;
    return nfi_constraint_new(&nfi_ordered_type, K, K, q);
}

nf_flow *nf_ordered(size_t K)
{
    return new_ordered("nf_ordered", K, false);
}

nf_flow *nf_positive_ordered(size_t K)
{
    return new_ordered("nf_positive_ordered", K, true);
}
