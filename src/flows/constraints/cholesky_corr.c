/* The Cholesky factor of a correlation matrix. The formulas are in cholesky_corr_kernels.c. */
#include "base/memory.h"
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"
#include "object/options.h"

static size_t size_of(const nf_object *o)
{
    const size_t *K = nf_self(o);
    return *K;
}

/* Entry (0, 0) is 1. Rows 1 .. K - 1 are computed independently. */
static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const size_t K = size_of(o), ld = p->ld, step = K * ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *r = nf_arena_reals(p->scratch, 1, ld);
    if (!r)
        return NF_ENOMEM;
    if (d == NF_FORWARD) {
        nfi_clear(y, K * K, ld);
        for (size_t s = 0; s < ld; s++)
            y[s] = 1;
    }
    for (size_t i = 1; i < K; i++) {
        const size_t at = i * (i - 1) / 2 * ld;
        if (d == NF_FORWARD)
            nfi_cholesky_corr_forward(i, step, ld, x + at, y + i * ld, log_det);
        else
            nfi_cholesky_corr_inverse(i, step, ld, x + i * ld, y + at, log_det, r);
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    const size_t K = size_of(o), ld = p->ld, step = K * ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 2, ld);
    if (!work)
        return NF_ENOMEM;
    if (d == NF_INVERSE)
        nfi_clear(gx, K * K, ld);
    for (size_t i = 1; i < K; i++) {
        const size_t at = i * (i - 1) / 2 * ld;
        if (d == NF_FORWARD)
            nfi_cholesky_corr_forward_vjp(i, step, ld, x + at, gy + i * ld, g_log_det, gx + at, work);
        else
            nfi_cholesky_corr_inverse_vjp(i, step, ld, x + i * ld, gy + at, g_log_det, gx + i * ld, work);
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static const nf_option options_of_type[] = {
    {.name = "K", .kind = NF_OPTION_SIZE, .least = 1, .flags = NF_OPTION_REQUIRED, .help = "rows"}};
static const nf_option_table table = NF_OPTION_TABLE("cholesky_corr", size_t, options_of_type, NULL);

NFI_REBUILD(flow, size_t, nf_cholesky_corr(*q))

const nf_flow_type nfi_cholesky_corr_type = {
    .part = {.name = "cholesky_corr", .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

nf_flow *nf_cholesky_corr(size_t K)
{
    size_t entries;
    if (K == 0 || !nfi_mul(K, K, &entries)) {
        nf_error(NF_EARG, "nf_cholesky_corr: `K` is %zu", K);
        return NULL;
    }
    size_t *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = K;
    return nfi_constraint_new(&nfi_cholesky_corr_type, K * (K - 1) / 2, entries, self);
}
