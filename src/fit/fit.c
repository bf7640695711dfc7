/* The one loop for every objective: it makes steps, updates the parameters, evaluates, and keeps the best parameters.
   Steps share one piece of work until something long is due that one thread does: an evaluation or a checkpoint. The
   update runs inside it, block by block, while the mean gradient is still in the cache. So does the moving
   average of the parameters,

       average = d average + (1 - d) theta,   d = min(decay, (1 + t) / (10 + t)),   t = 1, 2, ... steps that moved
   theta.

   The average begins at the initial parameters and forgets them: after t steps of the warm-up their weight in it is
   10! (t + 1)! / (t + 10)!, about (6 / t)^9. (Polyak & Juditsky 1992 average iterates; the exponential form with this
   warm-up is that of TensorFlow's ExponentialMovingAverage.) */
#include "fit/fitter.h"
#include "fit/optimizers.h"
#include <math.h>
#include <string.h>

enum { MEAN_STEPS = 100 }; /* the running mean of the loss is over about so many steps */

/* ---- one step ---- */

static bool usable(const nf_fitter *f, const nf_step_report *r)
{
    const bool enough = (double)r->failed <= f->options.max_failed * (double)r->n;
    return enough && isfinite(r->loss) && isfinite(r->grad_norm);
}

static double decay(double most, uint64_t t)
{
    return fmin(most, (1 + (double)t) / (10 + (double)t));
}

/* The last phase of a step, on every thread: clips the gradient and updates the parameters in this thread's share of
   the blocks. */
void nfi_fit_update(void *fitter, const nfi_gradient *gradient, size_t thread, size_t n_threads)
{
    nf_fitter *f = fitter;
    if (!gradient->finite || !usable(f, gradient->report))
        return;
    const size_t n = f->m->o->total.n_params, first = nfi_shared_parameter(n, thread, n_threads);
    const size_t count = nfi_shared_parameter(n, thread + 1, n_threads) - first;
    const double norm = gradient->report->grad_norm, limit = f->options.clip_norm;
    const nf_real shrink = limit > 0 && norm > limit ? (nf_real)(limit / norm) : 1;
    nf_real *g = gradient->g + first, *slot[NF_MAX_SLOTS] = {0};
    for (size_t i = 0; shrink < 1 && i < count; i++)
        g[i] *= shrink;
    for (size_t k = 0; k < f->options.optimizer->n_slots; k++)
        slot[k] = f->a.slot[k] + first;
    const uint64_t t = f->now.moves + 1;
    const nf_real keep = (nf_real)(1 - f->rate * f->options.weight_decay);
    for (size_t i = 0; keep < 1 && i < count; i++)
        f->m->theta[first + i] *= keep;
    if (count)
        f->options.optimizer->update(&f->rule, f->rate, t, count, g, slot, f->m->theta + first);
    if (count && f->a.average)
        nfi_average(count, (nf_real)decay(f->options.average, t), f->m->theta + first, f->a.average + first);
}

static nf_status begin_step(nf_fitter *f)
{
    uint64_t t = f->options.first_step + f->now.report.steps;
    f->rate = f->options.rate * nf_schedule_value(&f->options.schedule, t);
    return nfi_step_begin(&f->engine, &(nf_step){.seed = f->options.seed, .step = t, .gradient = true});
}

static void average(double *mean, double value, double share)
{
    *mean += (value - *mean) * share;
}

/* The running loss is made of running sums, not of losses: a step whose draws were all rejected has no loss, but counts
   in the share of accepted draws. */
static void add_to_running_means(nf_fitter *f)
{
    const nf_sums *s = &f->engine.all;
    nf_sums *mean = &f->now.sums;
    f->now.mean_count += f->now.mean_count < MEAN_STEPS;
    const double share = 1 / (double)f->now.mean_count, n = (double)f->step.n;
    average(&mean->loss, s->loss, share);
    for (size_t k = 0; k < NF_MAX_TERMS; k++)
        average(&mean->term[k], s->term[k], share);
    average(&mean->rejected, s->rejected, share);
    average(&mean->failed, s->failed, share);
    nf_step_report r;
    nfi_step_means(f->o, &f->engine.step, mean, &r);
    f->now.report.loss = r.loss;
    f->now.report.accepted = 1 - mean->rejected / (n - mean->failed);
}

void nfi_fit_note_worst(nfi_fit_progress *now, const nf_step_report *r)
{
    now->report.worst_loss = r->worst_loss;
    now->report.worst_row = r->worst_row;
    now->report.worst_share = r->worst_share;
    now->dominated = r->dominated;
    now->noted = now->report.steps;
}

bool nfi_fit_dominated(const nf_fit_options *o, const nfi_fit_progress *now)
{
    return now->dominated && (o->validation || now->report.steps - now->noted < MEAN_STEPS);
}

static bool none_accepted(const nf_sums *s, size_t n)
{
    return s->rejected > 0 && s->rejected + s->failed == (double)n;
}

static nf_status end_step(nf_fitter *f)
{
    f->engine.moved = false;
    nf_status status = nfi_step_end(&f->engine, &f->step);
    if (status != NF_OK)
        return status;
    nf_fit_report *report = &f->now.report;
    report->steps++;
    report->rejected += f->step.rejected;
    report->worst_log_det = fmax(report->worst_log_det, f->step.worst_log_det);
    report->failed += f->step.failed;
    const bool good = usable(f, &f->step);
    if (good || none_accepted(&f->engine.all, f->step.n))
        add_to_running_means(f);
    if (!good) {
        report->skipped++;
        f->now.bad_in_a_row++;
        return NF_OK;
    }
    if (!f->options.validation && (f->step.dominated || !nfi_fit_dominated(&f->options, &f->now)))
        nfi_fit_note_worst(&f->now, &f->step);
    f->now.bad_in_a_row = 0;
    f->now.moves++;
    f->engine.moved = true;
    return NF_OK;
}

static bool callback_stops(const nf_fitter *f)
{
    const nf_fit_options *o = &f->options;
    if (!o->callback)
        return false;
    nf_progress p = {.step = f->now.report.steps, .steps = f->until, .last = &f->step, .loss = f->now.report.loss};
    p.validation = f->now.validation;
    p.skipped = f->now.report.skipped;
    p.seconds = f->now.report.seconds + nfi_fit_clock() - f->start;
    return o->callback(o->user, &p) != 0;
}

typedef struct step_work {
    nf_fitter *f;
    uint64_t until;
    bool go;
    nf_status status;
} step_work;

/* The work of one thread. What one thread must do alone is done by the calling thread, between two barriers. */
static void work_on_steps(void *user, size_t thread, size_t n_threads)
{
    step_work *w = user;
    nf_fitter *f = w->f;
    nf_fit_report *report = &f->now.report;
    for (;;) {
        if (thread == 0) {
            if (w->status == NF_OK && report->steps < w->until && report->reason == NF_STOP_STEPS)
                w->status = begin_step(f);
            else
                w->go = false;
            w->go = w->go && w->status == NF_OK;
        }
        nfi_team_wait(&f->engine.team, n_threads);
        if (!w->go)
            break;
        nfi_step_work(&f->engine, thread, n_threads);
        if (thread == 0)
            w->status = end_step(f);
        nfi_step_prepare(&f->engine, thread, n_threads);
        if (thread == 0) {
            w->status = w->status == NF_OK ? nfi_team_result(&f->engine.team) : w->status;
            if (f->now.bad_in_a_row >= f->options.max_bad_steps)
                report->reason = NF_STOP_NOTFINITE;
            else if (w->status == NF_OK && callback_stops(f))
                report->reason = NF_STOP_CALLBACK;
        }
    }
}

/* Makes steps until `until` of them have been made or something stops the fit. All are in one piece of work. */
static nf_status make_steps(nf_fitter *f, uint64_t until)
{
    step_work w = {.f = f, .until = until, .go = true, .status = NF_OK};
    nfi_pool_run(&f->ws->pool, SIZE_MAX, work_on_steps, &w);
    return w.status;
}

/* ---- the best so far ---- */

bool nfi_fit_better(const nfi_fit_scored *score, const nf_fit_report *report)
{
    if (!(score->loss < INFINITY) || report->best == INFINITY)
        return score->loss < report->best;
    return score->failed != report->best_failed ? score->failed < report->best_failed : score->loss < report->best;
}

/* The score is the loss of the validation objective, at the averaged parameters if there are any. Without a
   validation objective it is the running mean of the loss. *r: the report of the evaluation, if there is one. */
static nf_status score_now(nf_fitter *f, nfi_fit_scored *score, nf_step_report *r)
{
    *score = (nfi_fit_scored){.loss = f->now.mean_count ? f->now.report.loss : INFINITY};
    if (!f->options.validation)
        return NF_OK;
    nf_status status = NF_OK;
    if (f->a.average) {
        nfi_fit_set_aside(f);
        status = nfi_fit_show(f, f->a.average, f->a.state);
    }
    if (status == NF_OK)
        status = nf_objective_value(f->options.validation, f->ws, f->options.seed, 0, r);
    if (f->a.average)
        nfi_fit_take_up(f);
    *score = (nfi_fit_scored){.loss = r->loss, .failed = r->failed};
    return status;
}

nf_status nfi_fit_evaluate(nf_fitter *f, nfi_fit_progress *now, bool *better)
{
    nfi_fit_scored score;
    nf_step_report r = {0};
    nf_status status = score_now(f, &score, &r);
    if (status != NF_OK)
        return status;
    now->evaluated = now->report.steps;
    if (f->options.validation)
        now->validation = score.loss;
    *better = nfi_fit_better(&score, &now->report);
    now->not_better = *better ? 0 : now->not_better + 1;
    if (*better) {
        now->report.best = score.loss;
        now->report.best_failed = score.failed;
        now->report.best_step = f->options.first_step + now->report.steps;
        if (f->options.validation)
            nfi_fit_note_worst(now, &r);
    }
    return NF_OK;
}

void nfi_fit_lose_patience(const nf_fit_options *o, nfi_fit_progress *now)
{
    if (o->validation && o->patience && now->not_better >= o->patience && now->report.reason == NF_STOP_STEPS)
        now->report.reason = NF_STOP_PATIENCE;
}

/* Done every validate_every steps: keeps the present parameters if they are the best so far. */
static nf_status evaluate(nf_fitter *f)
{
    const nf_shape *s = &f->m->o->total;
    bool better = false;
    nf_status status = nfi_fit_evaluate(f, &f->now, &better);
    if (!better)
        return status;
    f->now.kept = true;
    memcpy(f->a.best_theta, f->a.average ? f->a.average : f->m->theta, s->n_params * sizeof(nf_real));
    memcpy(f->a.best_state, f->m->state, s->n_state * sizeof(nf_real));
    return NF_OK;
}

/* ---- the loop ---- */

/* The first multiple of `every` after t. */
static uint64_t next_multiple(uint64_t t, uint64_t every)
{
    return t > UINT64_MAX - every ? UINT64_MAX : (t / every + 1) * every;
}

/* Writes a checkpoint if one is due: every checkpoint_every steps, and at the end of the run. */
static nf_status checkpoint(nf_fitter *f, bool end)
{
    const nf_fit_options *o = &f->options;
    const uint64_t t = f->now.report.steps;
    if (!o->checkpoint || t == f->written || (t % o->checkpoint_every != 0 && !end) ||
        (f->exchange.ranks.n_ranks && f->exchange.ranks.rank != 0))
        return NF_OK;
    nf_status status = nfi_checkpoint_write(f, o->checkpoint, "nf_fit");
    if (status == NF_OK)
        f->written = t;
    return status;
}

nf_status nfi_fit_loop(nf_fitter *f)
{
    const nf_fit_options *o = &f->options;
    const nf_fit_report *r = &f->now.report;
    nf_status status = NF_OK;
    while (status == NF_OK && r->reason != NF_STOP_NOTFINITE) {
        if (r->steps > f->now.evaluated && r->steps % o->validate_every == 0)
            status = evaluate(f);
        nfi_fit_lose_patience(o, &f->now);
        const bool end = r->steps >= f->until || r->reason != NF_STOP_STEPS;
        if (status == NF_OK)
            status = checkpoint(f, end);
        if (status != NF_OK || end)
            break;
        uint64_t next = next_multiple(r->steps, o->validate_every);
        if (o->checkpoint && next_multiple(r->steps, o->checkpoint_every) < next)
            next = next_multiple(r->steps, o->checkpoint_every);
        status = make_steps(f, next < f->until ? next : f->until);
    }
    return status;
}
