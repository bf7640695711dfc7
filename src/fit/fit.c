/* The one loop that drives every objective: step, update, watch, keep the best.
   Steps share one parallel region until something serial and long is due (an evaluation). The update runs inside it,
   block by block, on the mean gradient while it is warm. */
#include "fit/objective.h"
#include "core/memory.h"
#include "fit/optimizers.h"
#include <math.h>
#include <omp.h>
#include <string.h>
#include <time.h>
#include <nflow/fit.h>

enum { MEAN_STEPS = 100 }; /* the running mean of the loss looks back about so far */

typedef struct fit {
    nf_objective *o;
    nf_model *m;
    nf_workspace *ws;
    nfi_engine engine;
    double start;              /* of the clock */
    nf_fit_options options;    /* with defaults filled in */
    nf_optimizer_options rule; /* coefficients in force */
    nf_real *slot[NF_MAX_SLOTS];
    nf_real *best_theta, *best_state; /* once something is kept */
    bool kept;
    uint64_t moves; /* steps that moved the parameters */
    double rate;    /* of the present step */
    nf_step_report step;
    double validation;
    size_t bad_in_a_row, not_better;
    uint64_t mean_count;
    nf_fit_report report;
} fit;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- one step ---- */

static bool usable(const nf_step_report *r)
{
    return isfinite(r->loss) && isfinite(r->grad_norm);
}

/* The step's last phase, on every thread: clips and updates this thread's share of the blocks. */
static void update(void *user, const nfi_gradient *gradient, size_t thread, size_t n_threads)
{
    fit *f = user;
    if (!gradient->finite)
        return;
    const size_t n = f->m->o->total.n_params, first = nfi_shared_parameter(n, thread, n_threads);
    const size_t count = nfi_shared_parameter(n, thread + 1, n_threads) - first;
    const double norm = gradient->report->grad_norm, limit = f->options.clip_norm;
    const nf_real shrink = limit > 0 && norm > limit ? (nf_real)(limit / norm) : 1;
    nf_real *g = gradient->g + first, *slot[NF_MAX_SLOTS] = {0};
    for (size_t i = 0; shrink < 1 && i < count; i++)
        g[i] *= shrink;
    for (size_t k = 0; k < f->options.optimizer->n_slots; k++)
        slot[k] = f->slot[k] + first;
    if (count)
        f->options.optimizer->update(&f->rule, f->rate, f->moves + 1, count, g, slot, f->m->theta + first);
}

static nf_status begin_step(fit *f)
{
    uint64_t t = f->options.first_step + f->report.steps;
    f->rate = f->options.rate * nf_schedule_value(&f->options.schedule, t);
    return nfi_step_begin(&f->engine, &(nf_step){.seed = f->options.seed, .step = t, .n = f->o->n, .gradient = true});
}

static nf_status end_step(fit *f)
{
    f->engine.moved = false;
    nf_status status = nfi_step_end(&f->engine, &f->step);
    if (status != NF_OK)
        return status;
    f->report.steps++;
    f->report.rejected += f->step.rejected;
    f->report.worst_log_det = fmax(f->report.worst_log_det, f->step.worst_log_det);
    if (!usable(&f->step)) {
        f->report.skipped++;
        f->bad_in_a_row++;
        return NF_OK;
    }
    f->bad_in_a_row = 0;
    f->moves++;
    f->mean_count += f->mean_count < MEAN_STEPS;
    f->report.loss += (f->step.loss - f->report.loss) / (double)f->mean_count;
    f->engine.moved = true;
    return NF_OK;
}

static bool callback_stops(const fit *f)
{
    const nf_fit_options *o = &f->options;
    if (!o->callback)
        return false;
    nf_progress p = {.step = f->report.steps, .steps = o->steps, .last = &f->step, .loss = f->report.loss};
    p.validation = f->validation;
    p.skipped = f->report.skipped;
    p.seconds = seconds_now() - f->start;
    return o->callback(o->user, &p) != 0;
}

/* Steps until `until` of them have been made, or something stops the fit: one parallel region, in which the calling
   thread does what is serial between two barriers. */
static nf_status make_steps(fit *f, uint64_t until)
{
    nf_status status = NF_OK;
    bool go = true;
#pragma omp parallel num_threads((int)f->ws->n_threads)
    {
        omp_set_num_threads(1); /* a user's BLAS inside stays single-threaded; his setting is untouched */
        size_t thread = (size_t)omp_get_thread_num(), n_threads = (size_t)omp_get_num_threads();
        for (;;) {
            if (thread == 0) {
                if (status == NF_OK && f->report.steps < until && f->report.reason == NF_STOP_STEPS)
                    status = begin_step(f);
                else
                    go = false;
                go = go && status == NF_OK;
            }
            nfi_team_wait(&f->engine.team, n_threads);
            if (!go)
                break;
            nfi_step_work(&f->engine, thread, n_threads);
            if (thread == 0)
                status = end_step(f);
            nfi_step_prepare(&f->engine, thread, n_threads);
            if (thread == 0) {
                status = status == NF_OK ? nfi_team_result(&f->engine.team) : status;
                if (f->bad_in_a_row >= f->options.max_bad_steps)
                    f->report.reason = NF_STOP_NOTFINITE;
                else if (status == NF_OK && callback_stops(f))
                    f->report.reason = NF_STOP_CALLBACK;
            }
        }
    }
    return status;
}

/* ---- the best so far ---- */

static void keep(fit *f, double loss, uint64_t step)
{
    f->kept = true;
    f->report.best = loss;
    f->report.best_step = step;
    memcpy(f->best_theta, f->m->theta, f->m->o->total.n_params * sizeof(nf_real));
    memcpy(f->best_state, f->m->state, f->m->o->total.n_state * sizeof(nf_real));
}

static nf_status restore(fit *f)
{
    memcpy(f->m->theta, f->best_theta, f->m->o->total.n_params * sizeof(nf_real));
    memcpy(f->m->state, f->best_state, f->m->o->total.n_state * sizeof(nf_real));
    return nf_model_update(f->m, NF_EVAL);
}

/* Every validate_every steps: is this the best so far? */
static nf_status evaluate(fit *f, uint64_t t)
{
    double loss = f->mean_count ? f->report.loss : INFINITY;
    if (f->options.validation) {
        nf_step_report r;
        nf_status status = nf_objective_value(f->options.validation, f->ws, f->options.seed, 0, &r);
        if (status != NF_OK)
            return status;
        f->validation = loss = r.loss;
    }
    if (loss < f->report.best) {
        keep(f, loss, t);
        f->not_better = 0;
    } else
        f->not_better++;
    return NF_OK;
}

/* ---- the loop ---- */

static nf_status loop(fit *f)
{
    const nf_fit_options *o = &f->options;
    nf_status status = NF_OK;
    while (status == NF_OK && f->report.steps < o->steps && f->report.reason == NF_STOP_STEPS) {
        uint64_t next = (f->report.steps / o->validate_every + 1) * o->validate_every;
        status = make_steps(f, next < o->steps ? next : o->steps);
        if (status == NF_OK && f->report.reason != NF_STOP_NOTFINITE)
            status = evaluate(f, o->first_step + f->report.steps);
        if (o->validation && o->patience && f->not_better >= o->patience && f->report.reason == NF_STOP_STEPS)
            f->report.reason = NF_STOP_PATIENCE;
    }
    return status;
}

/* Leaves the model with the parameters that it should have, prepared; writes the report. */
static nf_status finish(fit *f, nf_status status)
{
    bool failed = f->report.reason == NF_STOP_NOTFINITE;
    bool best = f->kept && (failed || f->options.validation);
    nf_status restored = best ? restore(f) : nf_model_update(f->m, NF_EVAL);
    size_t dim = f->m->o->total.dim_out;
    f->report.warnings = (f->report.worst_log_det > 1000 + 20 * (double)dim ? NF_WARN_LOG_DET : 0u) |
                         (f->report.skipped ? NF_WARN_SKIPPED : 0u) | (f->report.rejected ? NF_WARN_REJECTED : 0u);
    f->report.seconds = seconds_now() - f->start;
    f->report.bytes = nf_workspace_bytes(f->ws);
    if (status == NF_OK && failed)
        status =
            nf_error(NF_ENOTFINITE, "nf_fit: %zu steps in a row had a non-finite loss or gradient, the last step %llu",
                     f->bad_in_a_row, (unsigned long long)(f->options.first_step + f->report.steps - 1));
    return status == NF_OK ? restored : status;
}

static void fill_defaults(nf_fit_options *o)
{
    o->steps = o->steps ? o->steps : 10000;
    o->optimizer = o->optimizer ? o->optimizer : nf_adam();
    o->rate = o->rate != 0 ? o->rate : 0.001;
    o->max_bad_steps = o->max_bad_steps ? o->max_bad_steps : 100;
    o->validate_every = o->validate_every ? o->validate_every : 1000;
}

static nf_status check(const nf_objective *o, const nf_fit_options *options)
{
    if (!o)
        return nf_error(NF_EARG, "nf_fit: `o` is NULL");
    const nf_optimizer_type *t = options->optimizer;
    if (t->abi != sizeof *t || !t->update || t->n_slots > NF_MAX_SLOTS)
        return nf_error(NF_EARG, "nf_fit: `options->optimizer` has a wrong abi, no update, or %zu slots of %d",
                        t->n_slots, NF_MAX_SLOTS);
    if (!isfinite(options->rate) || options->rate < 0)
        return nf_error(NF_EARG, "nf_fit: `options->rate` is %g", options->rate);
    if (!(options->clip_norm >= 0))
        return nf_error(NF_EARG, "nf_fit: `options->clip_norm` is %g", options->clip_norm);
    return NF_OK;
}

static nf_status reserve(fit *f)
{
    const nf_shape *s = &f->m->o->total;
    f->ws = nf_workspace_new(f->options.threads);
    f->best_theta = nfi_alloc(s->n_params, sizeof(nf_real));
    f->best_state = nfi_alloc(s->n_state, sizeof(nf_real));
    bool ok = f->ws && f->best_theta && f->best_state;
    for (size_t k = 0; k < f->options.optimizer->n_slots; k++) {
        f->slot[k] = nfi_calloc(s->n_params, sizeof(nf_real));
        ok = ok && f->slot[k];
    }
    return ok ? nfi_engine_begin(&f->engine, f->o, f->ws, update, f) : NF_ENOMEM;
}

nf_status nf_fit(nf_objective *o, const nf_fit_options *options, nf_fit_report *report)
{
    fit f = {.o = o, .validation = NAN};
    if (options)
        f.options = *options;
    fill_defaults(&f.options);
    nf_status status = check(o, &f.options);
    if (status != NF_OK)
        return status;
    f.m = o->model;
    f.rule = nfi_resolve(f.options.optimizer, &f.options.coefficients);
    f.report.best = INFINITY;
    f.start = seconds_now();
    status = reserve(&f);
    if (status == NF_OK) {
        status = finish(&f, loop(&f));
        nfi_engine_end(&f.engine);
        if (report)
            *report = f.report;
    }
    for (size_t k = 0; k < NF_MAX_SLOTS; k++)
        nfi_free(f.slot[k]);
    nfi_free(f.best_theta);
    nfi_free(f.best_state);
    nf_workspace_free(f.ws);
    return status;
}
