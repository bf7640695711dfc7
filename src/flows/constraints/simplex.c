/* Simplexes: one, or the columns or the rows of a matrix. Simplex j of n has K entries:

   Of K = 1 the unconstrained side has no features.

       one, or columns: entry i is in feature j K + i of y and feature j (K - 1) + i of x;
       rows of a matrix: entry i is in feature i n + j of both. */
#include "object/options.h"
#include "base/memory.h"
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"

typedef struct simplex {
    size_t K, n;
    bool by_row;
    nf_simplex_form form;
} simplex;

/* The kernels of a form, by direction. */
typedef struct kernels {
    __typeof__(nfi_simplex_stick_forward) *apply[2];
    __typeof__(nfi_simplex_stick_forward_vjp) *vjp[2];
} kernels;

static const kernels stick = {{nfi_simplex_stick_forward, nfi_simplex_stick_inverse},
                              {nfi_simplex_stick_forward_vjp, nfi_simplex_stick_inverse_vjp}};
static const kernels ilr = {{nfi_simplex_ilr_forward, nfi_simplex_ilr_inverse},
                            {nfi_simplex_ilr_forward_vjp, nfi_simplex_ilr_inverse_vjp}};

static const kernels *kernels_of(const simplex *q)
{
    return q->form == NF_SIMPLEX_STICK ? &stick : &ilr;
}

/* The feature of simplex j's first entry, on a side where each simplex has `entries` entries. */
static size_t first_row(const simplex *q, size_t j, size_t entries)
{
    return q->by_row && entries ? j : j * entries;
}

/* The number of entries of a simplex on the side that direction d starts from. */
static size_t entries_in(const simplex *q, nf_direction d)
{
    return d == NF_FORWARD ? q->K - 1 : q->K;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const simplex *q = nf_self(o);
    const size_t step = (q->by_row ? q->n : 1) * p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *scratch = nf_arena_reals(p->scratch, q->K + 2, p->ld);
    for (size_t j = 0; scratch && j < q->n; j++) {
        const size_t in = first_row(q, j, entries_in(q, d)) * p->ld;
        const size_t out = first_row(q, j, entries_in(q, nfi_opposite(d))) * p->ld;
        kernels_of(q)->apply[d](q->K, step, p->ld, x + in, y + out, log_det, scratch);
    }
    nf_arena_rewind(p->scratch, mark);
    return scratch ? NF_OK : NF_ENOMEM;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved, (void)g;
    const simplex *q = nf_self(o);
    const size_t step = (q->by_row ? q->n : 1) * p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *scratch = nf_arena_reals(p->scratch, q->K + 2, p->ld);
    for (size_t j = 0; scratch && j < q->n; j++) {
        const size_t in = first_row(q, j, entries_in(q, d)) * p->ld;
        const size_t out = first_row(q, j, entries_in(q, nfi_opposite(d))) * p->ld;
        kernels_of(q)->vjp[d](q->K, step, p->ld, x + in, y + out, gy + out, g_log_det, gx + in, scratch);
    }
    nf_arena_rewind(p->scratch, mark);
    return scratch ? NF_OK : NF_ENOMEM;
}

static const char *const forms[] = {[NF_SIMPLEX_STICK] = "stick", [NF_SIMPLEX_ILR] = "ilr"};

static const nf_choices form_choices = NFI_CHOICES("form", forms);
static const nf_option options_of_type[] = {
    {.name = "simplex",
     .kind = NF_OPTION_CHOICE,
     .offset = offsetof(simplex, form),
     .choices = &form_choices,
     .flags = NF_OPTION_REQUIRED,
     .help = "how a simplex is parameterised"},
    {NF_OPTION(NF_OPTION_SIZE, simplex, K), .least = 1, .flags = NF_OPTION_REQUIRED, .help = "entries of a simplex"},
    {NF_OPTION(NF_OPTION_SIZE, simplex, n), .least = 1, .help = "how many simplexes"},
    {NF_OPTION(NF_OPTION_BOOL, simplex, by_row), .help = "each is a row of a matrix, not a column"},
};
static const nf_option_table table = NF_OPTION_TABLE("simplex", simplex, options_of_type, &((const simplex){.n = 1}));

static nf_flow *new_simplex(const char *who, size_t K, size_t n, bool by_row, nf_simplex_form form)
{
    size_t dim_out, rows;
    if (K == 0 || !nfi_add(K, 2, &rows) || n == 0 || !nfi_mul(K, n, &dim_out) ||
        (form != NF_SIMPLEX_STICK && form != NF_SIMPLEX_ILR)) {
        nf_error(NF_EARG, "%s: %zu simplexes of %zu entries in form %d", who, n, K, (int)form);
        return NULL;
    }
    simplex *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    *q = (simplex){K, n, by_row, form};
    return nfi_constraint_new(&nfi_simplex_type, dim_out - n, dim_out, q);
}

NFI_REBUILD(flow, simplex, new_simplex("simplex", q->K, q->n ? q->n : 1, q->by_row, q->form))

const nf_flow_type nfi_simplex_type = {
    .part = {.name = "simplex", .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

nf_flow *nf_simplex_stick(size_t K)
{
    return new_simplex("nf_simplex_stick", K, 1, false, NF_SIMPLEX_STICK);
}

nf_flow *nf_simplex_ilr(size_t K)
{
    return new_simplex("nf_simplex_ilr", K, 1, false, NF_SIMPLEX_ILR);
}

nf_flow *nf_column_stochastic(size_t rows, size_t cols, nf_simplex_form form)
{
    return new_simplex("nf_column_stochastic", rows, cols, false, form);
}

nf_flow *nf_row_stochastic(size_t rows, size_t cols, nf_simplex_form form)
{
    return new_simplex("nf_row_stochastic", cols, rows, true, form);
}
