/* A fit from its creation to its end: options, arrays, runs, and the numbers that the model is left with.

   Between runs the model holds what it would hold if the fit ended there: the best or the averaged parameters.
   Meanwhile the fitter holds the parameters that are trained, with their state and their prepared numbers. So a layer
   whose preparation advances something continues from there in the next run. If no evaluation is due at the end of a
   run, one is made all the same. Only the report and the model receive its result; a fit that is run again continues
   as if that evaluation had not been made. */
#include "fit/fitter.h"
#include "base/memory.h"
#include "base/status.h"
#include "fit/optimizers.h"
#include "fit/schedule.h"
#include <math.h>
#include <string.h>
#include <time.h>

#define LEAST_ACCEPTED 0.99 /* a smaller share of accepted draws gives NF_WARN_SUPPORT */

double nfi_fit_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- arrays ---- */

size_t nfi_fit_list(nfi_fit_arrays *a, const nf_shape *s, size_t n_slots, bool average,
                    nfi_fit_array list[NFI_FIT_ARRAYS])
{
    static const char *const slots[NF_MAX_SLOTS] = {"slot.0", "slot.1"};
    size_t n = 0;
    list[n++] = (nfi_fit_array){"theta", s->n_params, &a->theta};
    list[n++] = (nfi_fit_array){"state", s->n_state, &a->state};
    list[n++] = (nfi_fit_array){"prep", s->n_prep, &a->prep};
    list[n++] = (nfi_fit_array){"best.theta", s->n_params, &a->best_theta};
    list[n++] = (nfi_fit_array){"best.state", s->n_state, &a->best_state};
    for (size_t k = 0; k < n_slots; k++)
        list[n++] = (nfi_fit_array){slots[k], s->n_params, &a->slot[k]};
    if (average)
        list[n++] = (nfi_fit_array){"average", s->n_params, &a->average};
    return n;
}

nf_status nfi_fit_reserve(nfi_fit_arrays *a, const nf_shape *s, size_t n_slots, bool average)
{
    nfi_fit_array list[NFI_FIT_ARRAYS];
    const size_t n = nfi_fit_list(a, s, n_slots, average, list);
    for (size_t i = 0; i < n; i++) {
        *list[i].at = nfi_calloc(list[i].n, sizeof(nf_real));
        if (!*list[i].at)
            return NF_ENOMEM;
    }
    return NF_OK;
}

void nfi_fit_release(nfi_fit_arrays *a)
{
    static const nf_shape none;
    nfi_fit_array list[NFI_FIT_ARRAYS];
    const size_t n = nfi_fit_list(a, &none, NF_MAX_SLOTS, true, list);
    for (size_t i = 0; i < n; i++)
        nfi_free(*list[i].at);
}

static void copy_numbers(const nf_shape *s, nf_real *const to[3], nf_real *const from[3])
{
    memcpy(to[0], from[0], s->n_params * sizeof(nf_real));
    memcpy(to[1], from[1], s->n_state * sizeof(nf_real));
    memcpy(to[2], from[2], s->n_prep * sizeof(nf_real));
}

void nfi_fit_set_aside(nf_fitter *f)
{
    copy_numbers(&f->m->o->total, (nf_real *[]){f->a.theta, f->a.state, f->a.prep},
                 (nf_real *[]){f->m->theta, f->m->state, f->m->prep});
}

void nfi_fit_take_up(nf_fitter *f)
{
    copy_numbers(&f->m->o->total, (nf_real *[]){f->m->theta, f->m->state, f->m->prep},
                 (nf_real *[]){f->a.theta, f->a.state, f->a.prep});
}

nf_status nfi_fit_show(nf_fitter *f, const nf_real *theta, const nf_real *state)
{
    memcpy(f->m->theta, theta, f->m->o->total.n_params * sizeof(nf_real));
    memcpy(f->m->state, state, f->m->o->total.n_state * sizeof(nf_real));
    return nf_model_update(f->m, NF_EVAL);
}

/* ---- new and free ---- */

/* Makes a constant of the default schedule. `to`, which a
   constant does not read, becomes 1, so that in checkpoints every constant differs from what earlier versions wrote for
   the default: from 0 to 0. */
static void settle_schedule(nf_schedule *s)
{
    if (s->kind == NF_SCHEDULE_DEFAULT)
        *s = (nf_schedule){.kind = NF_CONSTANT, .from = 1, .warmup = s->warmup};
    if (s->kind == NF_CONSTANT)
        s->to = 1;
}

static void fill_defaults(nf_fit_options *o)
{
    o->steps = o->steps == NF_NONE ? 0 : o->steps ? o->steps : 10000;
    o->optimizer = o->optimizer ? o->optimizer : nf_adam();
    o->rate = o->rate != 0 ? o->rate : 0.001;
    o->max_bad_steps = o->max_bad_steps ? o->max_bad_steps : 100;
    if (o->max_failed == 0)
        o->max_failed = 0.75;
    else if (o->max_failed <= NF_ZERO && o->max_failed >= NF_ZERO)
        o->max_failed = 0;
    o->validate_every = o->validate_every ? o->validate_every : 1000;
    o->checkpoint_every = o->checkpoint_every ? o->checkpoint_every : o->validate_every;
    nf_schedule *s = &o->schedule;
    const uint64_t end = o->first_step + o->steps;
    if (s->steps == 0 && (s->kind == NF_LINEAR || s->kind == NF_COSINE) && end > s->warmup)
        s->steps = end - s->warmup;
}

nf_status nfi_fit_check(const nf_fit_options *options, const char *who)
{
    if (!isfinite(options->rate) || options->rate < 0)
        return nf_error(NF_EARG, "%s: `options->rate` is %g", who, options->rate);
    if (!(options->max_failed >= 0 && options->max_failed <= 1))
        return nf_error(NF_EARG, "%s: `options->max_failed` is %g, not in [0, 1]", who, options->max_failed);
    if (!(options->clip_norm >= 0))
        return nf_error(NF_EARG, "%s: `options->clip_norm` is %g", who, options->clip_norm);
    if (!(options->weight_decay >= 0) || !isfinite(options->weight_decay))
        return nf_error(NF_EARG, "%s: `options->weight_decay` is %g", who, options->weight_decay);
    if (nfi_check_schedule(who, "options->schedule", &options->schedule) != NF_OK)
        return nf_error_status();
    if (options->schedule.from < 0 || options->schedule.to < 0)
        return nf_error(NF_EARG, "%s: `options->schedule` goes from %g to %g, but is a factor of the learning rate",
                        who, options->schedule.from, options->schedule.to);
    if (!(options->average >= 0 && options->average < 1))
        return nf_error(NF_EARG, "%s: `options->average` is %g, but a decay is from 0 to below 1", who,
                        options->average);
    return NF_OK;
}

static nf_status check_validation(const nf_objective *o, const nf_fit_options *options, const char *who)
{
    if (options->validation && options->validation->model != o->model)
        return nf_error(NF_EARG, "%s: `options->validation` is of another model, which the fit does not change", who);
    if (options->patience && !options->validation)
        return nf_error(NF_EARG, "%s: `options->patience` is %zu, but there is no validation", who, options->patience);
    return NF_OK;
}

static nf_fitter *new_fitter(nf_objective *o, const nf_fit_options *options, const char *who)
{
    nf_fit_options all = options ? *options : (nf_fit_options){.steps = 0};
    fill_defaults(&all);
    if (!o) {
        nfi_missing(who, "`o`");
        return NULL;
    }
    nf_optimizer_type type;
    if (nfi_fit_check(&all, who) != NF_OK || check_validation(o, &all, who) != NF_OK ||
        nfi_check_optimizer(who, all.optimizer, &type) != NF_OK || nfi_check_ready(o->model, who) != NF_OK)
        return NULL;
    nf_fitter *f = nfi_calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->type = type;
    settle_schedule(&all.schedule);
    all.optimizer = &f->type;
    f->o = o;
    f->m = o->model;
    f->options = all;
    f->rule = nfi_resolve(all.optimizer, &all.coefficients);
    f->now.report.best = INFINITY;
    f->now.validation = f->now.report.worst_loss = (double)NAN;
    const nf_shape *s = &f->m->o->total;
    const bool average = all.average > 0;
    if (nfi_exchange_begin(&f->exchange, o, all.ranks, who) != NF_OK ||
        nfi_fit_reserve(&f->a, s, all.optimizer->n_slots, average) != NF_OK ||
        !(f->ws = nf_workspace_new(all.threads))) {
        nf_fitter_free(f);
        return NULL;
    }
    nfi_fit_set_aside(f);
    if (average)
        memcpy(f->a.average, f->a.theta, s->n_params * sizeof(nf_real));
    return f;
}

nf_fitter *nf_fitter_new(nf_objective *o, const nf_fit_options *options)
{
    return new_fitter(o, options, "nf_fitter_new");
}

void nf_fitter_free(nf_fitter *f)
{
    if (!f)
        return;
    nfi_fit_release(&f->a);
    nfi_exchange_end(&f->exchange);
    nf_workspace_free(f->ws);
    nfi_free(f);
}

/* ---- runs ---- */

/* Makes the evaluation at the end of a run, if none has just been made, in *end, a copy of the fit's progress. *best:
   whether the present parameters are the best. */
static nf_status score_the_end(nf_fitter *f, nfi_fit_progress *end, bool *best)
{
    const uint64_t steps = end->report.steps;
    if ((end->evaluated == steps && steps) || end->report.reason == NF_STOP_NOTFINITE)
        return NF_OK;
    nf_status status = nfi_fit_evaluate(f, end, best);
    nfi_fit_lose_patience(&f->options, end);
    return status;
}

/* Gives the model the numbers that a run leaves in it. `last`: the present parameters are the best. The trained ones
   must have been set aside. */
static nf_status leave(nf_fitter *f, bool last)
{
    const bool failed = f->now.report.reason == NF_STOP_NOTFINITE;
    if (f->now.kept && !last && (failed || f->options.validation))
        return nfi_fit_show(f, f->a.best_theta, f->a.best_state);
    return nfi_fit_show(f, f->a.average ? f->a.average : f->a.theta, f->a.state);
}

static void complete(const nf_fitter *f, nfi_fit_progress *end)
{
    nf_fit_report *report = &end->report;
    const size_t dim = f->m->o->total.dim_out;
    report->warnings = (report->worst_log_det > 1000 + 20 * (double)dim ? NF_WARN_LOG_DET : 0u) |
                       (report->skipped ? NF_WARN_SKIPPED : 0u) | (report->rejected ? NF_WARN_REJECTED : 0u) |
                       (report->failed ? NF_WARN_FAILED : 0u) |
                       (report->rejected && report->accepted < LEAST_ACCEPTED ? NF_WARN_SUPPORT : 0u) |
                       (nfi_fit_dominated(&f->options, end) ? NF_WARN_SCORES : 0u);
    report->bytes = nf_workspace_bytes(f->ws);
}

/* Makes the steps of a run. If this rank ends before all of them are made, it tells the other ranks, which would wait
   for it. */
static nf_status make_run(nf_fitter *f)
{
    const uint64_t wanted = f->until > f->now.report.steps ? f->until - f->now.report.steps : 0;
    nfi_exchange *x = &f->exchange;
    x->exchanged = 0;
    x->ended = x->ranks.n_ranks == 0 || f->now.report.reason != NF_STOP_STEPS;
    nf_status status = nfi_engine_begin(&f->engine, f->o, f->ws, x, nfi_fit_update, f);
    if (status == NF_OK) {
        status = nfi_fit_loop(f);
        if (status == NF_ESTOP && nfi_exchange_stopped(x)) {
            f->now.report.reason = NF_STOP_CALLBACK;
            status = nfi_fit_loop(f); /* makes no further step, but writes the checkpoint */
        }
        nfi_engine_end(&f->engine);
    }
    return x->exchanged < wanted ? nfi_exchange_leave(x, f->o, status) : status;
}

static nf_status not_finite(const nf_fitter *f, uint64_t steps)
{
    const nf_objective_type *type = f->o->type;
    const char *why = type->explain ? type->explain(f->o->self) : "";
    return nf_error(NF_ENOTFINITE,
                    "nf_fit: %zu steps in a row had a non-finite loss or gradient, the last step %llu%s%s%s%s",
                    (size_t)f->now.bad_in_a_row, (unsigned long long)(f->options.first_step + steps - 1),
                    *why ? " (" : "", *why ? type->name : "", *why ? ": " : "", *why ? why : "");
}

static nf_status run(nf_fitter *f, uint64_t steps, nf_fit_report *report)
{
    const uint64_t made = f->now.report.steps, most = UINT64_MAX - made;
    f->until = steps ? made + (steps < most ? steps : most) : f->options.steps;
    f->start = nfi_fit_clock();
    nfi_fit_take_up(f);
    f->m->readiness = NFI_FITTING;
    f->running = true;
    nf_status status = make_run(f);
    nfi_fit_progress end = f->now;
    bool last = false;
    if (status == NF_OK)
        status = score_the_end(f, &end, &last);
    nfi_fit_set_aside(f);
    f->running = false;
    f->m->readiness = NFI_STALE; /* until `leave` has prepared it */
    const nf_status left = leave(f, last);
    if (f->now.report.reason == NF_STOP_CALLBACK)
        f->now.report.reason = NF_STOP_STEPS; /* a callback stops only this run */
    end.report.seconds = f->now.report.seconds += nfi_fit_clock() - f->start;
    complete(f, &end);
    if (report)
        *report = end.report;
    if (status == NF_OK && end.report.reason == NF_STOP_NOTFINITE)
        status = not_finite(f, end.report.steps);
    return status == NF_OK ? left : status;
}

static nf_status refuse(const nf_fitter *f, const char *who)
{
    return f ? nf_error(NF_EARG, "%s: `f` is being run: a callback may only save it", who)
             : nf_error(NF_EARG, "%s: `f` is NULL", who);
}

nf_status nf_fitter_run(nf_fitter *f, uint64_t steps, nf_fit_report *report)
{
    return f && !f->running ? run(f, steps, report) : refuse(f, "nf_fitter_run");
}

nf_status nf_fit(nf_objective *o, const nf_fit_options *options, nf_fit_report *report)
{
    nf_fitter *f = new_fitter(o, options, "nf_fit");
    if (!f)
        return nf_error_status();
    const nf_status status = run(f, 0, report);
    nf_fitter_free(f);
    return status;
}

nf_status nf_fitter_save(const nf_fitter *f, const char *path)
{
    if (!f || !path)
        return nf_error(NF_EARG, "nf_fitter_save: `%s` is NULL", f ? "path" : "f");
    return nfi_checkpoint_write(f, path, "nf_fitter_save");
}

nf_status nf_fitter_load(nf_fitter *f, const char *path)
{
    if (!f || f->running)
        return refuse(f, "nf_fitter_load");
    if (!path)
        return nf_error(NF_EARG, "nf_fitter_load: `path` is NULL");
    const nf_status status = nfi_checkpoint_read(f, path, "nf_fitter_load");
    return status == NF_OK ? leave(f, false) : status;
}
