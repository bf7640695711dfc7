/* S = L L^T, from a Cholesky factor to its matrix. The formulas are in gram_kernels.c. */
#include "object/options.h"
#include "base/memory.h"
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"

typedef struct gram {
    size_t K;
    enum { COVARIANCE, CORRELATION } matrix;
} gram;

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const gram *q = nf_self(o);
    (d == NF_FORWARD ? nfi_gram_forward : nfi_gram_inverse)(q->K, q->matrix == CORRELATION, p->ld, x, y, log_det);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved, (void)g;
    const gram *q = nf_self(o);
    if (d == NF_INVERSE) {
        nfi_gram_inverse_vjp(q->K, q->matrix == CORRELATION, p->ld, y, gy, g_log_det, gx);
        return NF_OK;
    }
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *sum = nf_arena_reals(p->scratch, 1, p->ld);
    if (sum)
        nfi_gram_forward_vjp(q->K, q->matrix == CORRELATION, p->ld, x, gy, g_log_det, gx, sum);
    nf_arena_rewind(p->scratch, mark);
    return sum ? NF_OK : NF_ENOMEM;
}

static const char *const matrices[] = {[COVARIANCE] = "covariance", [CORRELATION] = "correlation"};
static const nf_choices matrix_choices = NFI_CHOICES("matrix", matrices);
static const nf_option options_of_type[] = {
    {.name = "gram",
     .kind = NF_OPTION_CHOICE,
     .offset = offsetof(gram, matrix),
     .choices = &matrix_choices,
     .flags = NF_OPTION_REQUIRED,
     .help = "whose factor it takes"},
    {NF_OPTION(NF_OPTION_SIZE, gram, K), .least = 1, .flags = NF_OPTION_REQUIRED, .help = "rows"},
};
static const nf_option_table table = NF_OPTION_TABLE("gram", gram, options_of_type, NULL);

nf_flow *nfi_gram(size_t K, bool correlation)
{
    size_t entries;
    if (!nfi_mul(K, K, &entries)) {
        nf_error(NF_EARG, "gram: `K` is %zu, which no matrix has rows of", K);
        return NULL;
    }
    gram *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    *q = (gram){K, correlation ? CORRELATION : COVARIANCE};
    return nfi_constraint_new(&nfi_gram_type, entries, entries, q);
}

NFI_REBUILD(flow, gram, nfi_gram(q->K, q->matrix == CORRELATION))

const nf_flow_type nfi_gram_type = {
    .part = {.name = "gram", .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
    .options = &table,
};
