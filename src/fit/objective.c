/* Objectives: how they are made, and evaluations of one step by the engine of step.c. */
#include "fit/objective.h"
#include "base/memory.h"
#include "base/status.h"
#include "model/batch.h"
#include "object/table.h"
#include <string.h>

/* What is wrong with the arguments of nf_objective_new; NULL if nothing. The table is known to have all hooks up to
   `backward`. */
static const char *fault(const nf_objective_type *type, size_t n)
{
    if (!type->backward)
        return "the type has no `backward`";
    if (type->gather && !type->forward)
        return "the type has `gather`, but no `forward`";
    return n == 0 ? "`n` is 0" : NULL;
}

nf_objective *nf_objective_new(const nf_objective_type *type, nf_model *model, size_t n, void *self)
{
    static const char who[] = "nf_objective_new";
    const char *why = NULL;
    nf_objective *o = NULL;
    if (!type)
        nf_error(NF_EARG, "%s: `type` is NULL", who);
    else if (nfi_check_abi(who, "type", type->abi, NFI_END_OF(nf_objective_type, backward), sizeof *type) == NF_OK) {
        why = fault(type, n);
        if (!model)
            nfi_missing(who, "`model`");
        else if (why)
            nf_error(NF_EARG, "%s: %s", who, why);
        else
            o = nfi_calloc(1, sizeof *o);
    }
    if (!o) {
        if (type && self && nfi_table_reaches(type->abi, NFI_END_OF(nf_objective_type, destroy)) && type->destroy)
            type->destroy(self);
        return NULL;
    }
    *o = (nf_objective){.type = type, .model = model, .n = n, .self = self};
    if (type->abi < sizeof *type) {
        nfi_complete_table(&o->completed, type, type->abi, sizeof *type);
        o->type = &o->completed;
    }
    return o;
}

void nf_objective_free(nf_objective *o)
{
    if (!o)
        return;
    if (o->type->destroy && o->self)
        o->type->destroy(o->self);
    nfi_free(o);
}

nf_model *nf_objective_model(const nf_objective *o)
{
    return o ? o->model : NULL;
}

size_t nf_objective_batch(const nf_objective *o)
{
    return o ? o->n : 0;
}

const nf_objective_type *nf_objective_table(const nf_objective *o)
{
    return o ? o->type : NULL;
}

static nf_status evaluate(nf_objective *o, const char *who, nf_workspace *ws, nfi_exchange *exchange,
                          const nf_step *step, nfi_finish_fn *finish, void *user, nf_step_report *report)
{
    nf_workspace *mine;
    nf_status status = nfi_call_begin(o->model, who, ws, &mine);
    if (status != NF_OK)
        return status;
    nfi_engine e;
    status = nfi_engine_begin(&e, o, mine, exchange, finish, user);
    if (status == NF_OK) {
        status = nfi_step(&e, step, report);
        nfi_engine_end(&e);
    }
    nfi_workspace_return(ws, mine);
    return status;
}

nf_status nf_objective_value(nf_objective *o, nf_workspace *ws, uint64_t seed, uint64_t step, nf_step_report *report)
{
    if (!o || !report)
        return nf_error(NF_EARG, "nf_objective_value: `%s` is NULL", !o ? "o" : "report");
    nf_step s = {.seed = seed, .step = step};
    return evaluate(o, "nf_objective_value", ws, NULL, &s, NULL, NULL, report);
}

/* Where nf_objective_gradient puts its result. */
typedef struct copy {
    nf_real *to;
    size_t n;
} copy;

static void copy_gradient(void *user, const nfi_gradient *gradient, size_t thread, size_t n_threads)
{
    (void)n_threads;
    const copy *c = user;
    if (thread == 0)
        memcpy(c->to, gradient->g, c->n * sizeof *c->to);
}

static nf_status compute_gradient(const char *who, nf_objective *o, nf_workspace *ws, const nf_ranks *ranks,
                                  uint64_t seed, uint64_t step, nf_step_report *report, nf_real *g_theta)
{
    if (!o || !g_theta)
        return nf_error(NF_EARG, "%s: `%s` is NULL", who, !o ? "o" : "g_theta");
    nf_step s = {.seed = seed, .step = step, .gradient = true};
    copy c = {.to = g_theta, .n = o->model->o->total.n_params};
    nfi_exchange exchange;
    nf_status status = nfi_exchange_begin(&exchange, o, ranks, who);
    if (status != NF_OK)
        return status;
    status = evaluate(o, who, ws, &exchange, &s, copy_gradient, &c, report);
    if (status != NF_OK && exchange.exchanged == 0)
        status = nfi_exchange_leave(&exchange, o, status);
    nfi_exchange_end(&exchange);
    return status;
}

nf_status nf_objective_gradient(nf_objective *o, nf_workspace *ws, uint64_t seed, uint64_t step, nf_step_report *report,
                                nf_real *g_theta)
{
    return compute_gradient("nf_objective_gradient", o, ws, NULL, seed, step, report, g_theta);
}

nf_status nf_objective_rank_gradient(nf_objective *o, nf_workspace *ws, const nf_ranks *ranks, uint64_t seed,
                                     uint64_t step, nf_step_report *report, nf_real *g_theta)
{
    return compute_gradient("nf_objective_rank_gradient", o, ws, ranks, seed, step, report, g_theta);
}
