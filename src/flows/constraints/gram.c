/* S = L L^T, from a Cholesky factor to its matrix. The formulas are in gram_kernels.c. */
#include "object/fields.h"
#include "base/memory.h"
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"

typedef struct gram {
    size_t K;
    bool correlation;
} gram;

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const gram *q = nf_self(o);
    (d == NF_FORWARD ? nfi_gram_forward : nfi_gram_inverse)(q->K, q->correlation, p->ld, x, y, log_det);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved, (void)g;
    const gram *q = nf_self(o);
    if (d == NF_INVERSE) {
        nfi_gram_inverse_vjp(q->K, q->correlation, p->ld, y, gy, g_log_det, gx);
        return NF_OK;
    }
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *sum = nf_arena_reals(p->scratch, 1, p->ld);
    if (sum)
        nfi_gram_forward_vjp(q->K, q->correlation, p->ld, x, gy, g_log_det, gx, sum);
    nf_arena_rewind(p->scratch, mark);
    return sum ? NF_OK : NF_ENOMEM;
}

/* Indexed by `correlation`. */
static const char *const matrices[] = {"covariance", "correlation"};

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const gram *q = nf_self(o);
    nf_status status = nf_write_choice(w, "gram", NFI_N_NAMES(matrices), matrices, q->correlation);
    return status == NF_OK ? nf_write_integer(w, "K", q->K) : status;
}

nf_flow *nfi_gram(size_t K, bool correlation)
{
    gram *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    *q = (gram){K, correlation};
    return nfi_constraint_new(&nfi_gram_type, K * K, K * K, q);
}

static nf_flow *rebuild(nf_reader *r)
{
    uint64_t K = 0;
    size_t correlation = 0, entries;
    if (nf_read_choice(r, "gram", NFI_N_NAMES(matrices), matrices, &correlation) != NF_OK ||
        nf_read_integer(r, "K", &K) != NF_OK)
        return NULL;
    if (K == 0 || !nfi_mul((size_t)K, (size_t)K, &entries)) {
        nf_error(NF_EFORMAT, "the field 'K' is %zu, which no matrix has rows of", (size_t)K);
        return NULL;
    }
    return nfi_gram((size_t)K, correlation != 0);
}

const nf_flow_type nfi_gram_type = {
    .part = {.name = "gram", .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
};
