/* The gradient of a solve's own steps, back from the last one. A step z' = z + h sum_i b_i k_i, l' = l + h sum_i b_i
   tr_i, with the stages k_i = f(u_i), u_i = z + h sum_(j<i) a_ij k_j, has

       gk_i = h (b_i gz' + sum_(j>i) a_ji gu_j),   g_tr_i = h b_i gl,   gz = gz' + sum_i gu_i,

   where gu_i is the field's vector-Jacobian product at u_i. A penalty is one more sum like l'. Stages that are not on
   the tape are computed again from u_0 = (z, t) and h. */
#include "flows/compose.h"
#include "flows/ode/kernels.h"
#include "flows/ode/record.h"
#include "math/rows.h"
#include <string.h>

/* The stages of a step are computed again by the same function as in the solve, which calls this. */
typedef struct stages {
    const nfi_field *field;
    bool with_trace;
    nfi_field_point at[NFI_MOST_STAGES];
} stages;

static nf_status keep_stage(const nfi_ode *o, const nf_real *u, bool quadrature, nf_real *k)
{
    stages *w = o->user;
    (void)quadrature;
    const bool weighs = o->rule->b[o->stage] < 0 || o->rule->b[o->stage] > 0;
    nf_real *trace = w->with_trace && weighs ? k + (o->rows - 1) * o->pass->ld : NULL;
    return nfi_field_at(w->field, u, k, trace, NULL, o->pass->scratch, &w->at[o->stage]);
}

/* *at = the stages of step r. Those that are computed again are on the scratch arena; the caller rewinds it. */
static nf_status stages_of(nfi_ode *ode, const nfi_ode_record *r, const nfi_field_point **at)
{
    stages *w = ode->user;
    *at = r->at;
    if (r->at && (!w->with_trace || r->at[0].has_trace))
        return NF_OK;
    *at = w->at;
    const size_t ld = ode->pass->ld, n = ode->rule->stages;
    nf_real *points = nf_arena_reals(ode->pass->scratch, n * ode->rows, ld);
    nf_real *k = nf_arena_reals(ode->pass->scratch, n * ode->rows, ld);
    if (!points || !k)
        return NF_ENOMEM;
    memcpy(points, r->u, ode->rows * ld * sizeof *points);
    return nfi_ode_stages(ode, 0, r->h, points, k);
}

/* G has (gz, 0), then gu_i for each stage, all [dim + 1 x ld]. */
static nf_status step_back(nfi_ode *ode, const nfi_ode_record *r, const nf_real *g_log_det, const nf_real *g_penalty,
                           nf_real *G, const nf_grad *g)
{
    const nfi_rule *rule = ode->rule;
    const size_t ld = ode->pass->ld, size = ode->rows * ld, dim = ode->rows - 1, n = rule->stages;
    const nf_mark mark = nf_arena_mark(ode->pass->scratch);
    nf_real *gk = nf_arena_reals(ode->pass->scratch, dim, ld), *g_trace = nf_arena_reals(ode->pass->scratch, 2, ld);
    const stages *w = ode->user;
    const nfi_field_point *at = NULL;
    nf_status status = gk && g_trace ? stages_of(ode, r, &at) : NF_ENOMEM;
    for (size_t i = n; i-- > 0 && status == NF_OK;) {
        nf_real weight[NFI_MOST_STAGES + 1] = {rule->b[i]};
        for (size_t j = i + 1; j < n; j++)
            weight[1 + j] = rule->a[j][i];
        nfi_ode_combine(dim, ld, 1 + n, weight, r->h, size, G, NULL, gk);
        const bool has_trace = at[i].has_trace && w->with_trace, has_rate = has_trace && g_penalty;
        if (has_trace)
            nfi_ode_combine(1, ld, 1, &rule->b[i], r->h, 0, g_log_det, NULL, g_trace);
        if (has_rate)
            nfi_ode_combine(1, ld, 1, &rule->b[i], r->h, 0, g_penalty, NULL, g_trace + ld);
        status = nfi_field_vjp(w->field, &at[i], gk, has_trace ? g_trace : NULL, has_rate ? g_trace + ld : NULL,
                               G + (1 + i) * size, g);
    }
    for (size_t i = 1; i <= n && status == NF_OK; i++)
        nfi_add_scaled(dim * ld, 1, G + i * size, G);
    nf_arena_rewind(ode->pass->scratch, mark);
    return status;
}

nf_status nfi_through_steps(const nf_object *o, nf_direction d, const nf_pass *p, const nfi_ode_record *last,
                            const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const nfi_continuous *c = nf_self(o);
    const size_t dim = o->own.dim_in, size = dim * p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_grad of_net = nf_child_grad(o, 0, p, g);
    nfi_field field;
    nfi_ode ode = nfi_continuous_ode(o, p, d);
    nf_real *G = nf_arena_reals(p->scratch, (1 + ode.rule->stages) * (dim + 1), p->ld);
    nf_status status = G ? nfi_field_begin(o, p, d, &field) : NF_ENOMEM;
    stages w = {.field = &field, .with_trace = g_log_det != NULL};
    ode.rows = dim + 1;
    ode.f = keep_stage;
    ode.user = &w;
    if (status == NF_OK)
        memcpy(G, gy, size * sizeof *G);
    for (const nfi_ode_record *r = last; r && status == NF_OK; r = r->before) {
        memset(G + (dim + 1) * p->ld, 0, ode.rule->stages * (dim + 1) * p->ld * sizeof *G);
        status = step_back(&ode, r, g_log_det, nfi_field_g_rate(&field, p), G, &of_net);
    }
    if (status == NF_OK)
        memcpy(gx, G, size * sizeof *gx);
    nf_arena_rewind(p->scratch, mark);
    atomic_fetch_add_explicit(&c->tally->evaluations, ode.evaluations, memory_order_relaxed);
    return status;
}
