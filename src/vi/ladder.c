/*
 * nf_vi: a start, then fits of families that can do more and more, each judged, until one can be trusted. stage.c makes
 * a fit, judge.c judges it.
 */
#include "base/memory.h"
#include "base/status.h"
#include "fit/fitter.h"
#include "vi/family.h"
#include "vi/judge.h"
#include "vi/start.h"
#include <math.h>
#include <string.h>

static const char who[] = "nf_vi";

/* A rung: how its stage is made. */
typedef struct step_up {
    const char *name;
    nf_family family;
    double df;
    size_t layers, width, draws;
    uint64_t steps;
    double rate;
} step_up;

static const step_up ladder[] = {
    {.name = "full-rank normal", .family = NF_FAMILY_FULL_RANK, .draws = 100, .steps = 300, .rate = 0.02},
    {.name = "flow on a t",
     .family = NF_FAMILY_REALNVP,
     .df = 20,
     .layers = 6,
     .width = 16,
     .draws = 100,
     .steps = 2000,
     .rate = 0.01},
    {.name = "larger flow on a t",
     .family = NF_FAMILY_REALNVP,
     .df = 20,
     .layers = 10,
     .width = 32,
     .draws = 200,
     .steps = 6000,
     .rate = 0.005},
};
static const step_up low_rank = {
    .name = "low-rank normal", .family = NF_FAMILY_LOW_RANK, .draws = 100, .steps = 1000, .rate = 0.02};

static const char *const names[] = {[NF_FAMILY_MEAN_FIELD] = "mean-field normal",
                                    [NF_FAMILY_LOW_RANK] = "low-rank normal",
                                    [NF_FAMILY_FULL_RANK] = "full-rank normal",
                                    [NF_FAMILY_PLANAR] = "planar flow on a t",
                                    [NF_FAMILY_RADIAL] = "radial flow on a t",
                                    [NF_FAMILY_SYLVESTER] = "Sylvester flow on a t",
                                    [NF_FAMILY_IAF] = "IAF on a t",
                                    [NF_FAMILY_REALNVP] = "Real NVP on a t",
                                    [NF_FAMILY_NSF] = "spline flow on a t",
                                    [NF_FAMILY_FFJORD] = "FFJORD on a t",
                                    [NF_FAMILY_RESIDUAL] = "residual flow on a t"};

/* Everything on the way up. */
typedef struct climb {
    const nf_target *t;
    const nf_vi_options *o;
    nf_vi_result *r;
    nf_model *whitening;
    nfi_start start;
    nf_vi_progress now;
} climb;

/* An nf_fit_options.callback. */
static int during_fit(void *user, const nf_progress *p)
{
    climb *c = user;
    c->now.fit = p;
    const int stop = c->o->callback(c->o->user, &c->now);
    c->r->stopped = c->r->stopped || stop;
    return stop;
}

/* ---- a rung ---- */

/* Whether a is better than b: by verdict, then by ELBO. */
static bool better(const nf_quality *a, const nf_quality *b)
{
    return a->verdict != b->verdict ? a->verdict < b->verdict : a->elbo > b->elbo;
}

/* Keeps the model and its draws if it is the best so far; otherwise releases them. */
static void keep_best(climb *c, nf_model *m, nf_posterior_draws *draws, const nf_quality *quality)
{
    nf_vi_result *r = c->r;
    if (r->model && !better(quality, &r->quality)) {
        nf_model_free(m);
        nf_posterior_draws_free(draws);
        return;
    }
    nf_model_free(r->model);
    nf_posterior_draws_free(&r->draws);
    r->model = m;
    r->draws = *draws;
    r->quality = *quality;
    r->best = r->n_rungs;
}

static nf_model *fit(climb *c, const step_up *s, nf_fit_report *report)
{
    const nf_vi_options *o = c->o;
    return nf_stage(c->t, c->whitening,
                    &(nf_stage_options){.family = s->family,
                                        .flow = nfi_family_is_normal(s->family) ? NULL : o->flow,
                                        .df = s->df,
                                        .layers = s->layers,
                                        .width = s->width,
                                        .steps = (uint64_t)fmax((double)s->steps * (o->steps > 0 ? o->steps : 1), 1),
                                        .draws = o->draws ? o->draws : s->draws,
                                        .rate = s->rate * (o->rate > 0 ? o->rate : 1),
                                        .total_gradient = o->total_gradient,
                                        .seed = o->seed + c->r->n_rungs,
                                        .threads = o->threads,
                                        .callback = o->callback ? during_fit : NULL,
                                        .user = c},
                    report);
}

/* The normal of a normal rung is the next whitening. */
static void whiten_again(climb *c, const step_up *s, const nf_model *m)
{
    if (s->family == NF_FAMILY_FULL_RANK && nf_model_shape(m)->n_params == nf_model_shape(c->whitening)->n_params) {
        memcpy(nf_model_theta(c->whitening), nf_model_theta((nf_model *)m),
               nf_model_shape(m)->n_params * sizeof(nf_real));
        if (nf_model_update(c->whitening, NF_EVAL))
            return;
    }
}

static nf_status climb_rung(climb *c, const step_up *s)
{
    nf_vi_result *r = c->r;
    nf_rung *rung = r->rung + r->n_rungs;
    nf_target_counts before, after;
    nf_fit_report report = {0};
    nf_posterior_draws draws = {0};
    const double began = nfi_fit_clock();
    nf_target_count(c->t, &before);
    c->now = (nf_vi_progress){.rung = s->name, .number = r->n_rungs, .best = r->model ? &r->quality : NULL};
    nf_model *m = fit(c, s, &report);
    if (!m)
        return nf_error_status();
    nf_judge_options j = c->o->judge;
    j.seed = j.seed ? j.seed : c->o->seed;
    j.threads = j.threads ? j.threads : c->o->threads;
    nf_status st = nf_judge(m, c->t, &j, &rung->quality, &draws);
    if (!st)
        st = nfi_look_elsewhere(&c->start, c->t, c->o->seed + 1, m, &rung->quality);
    if (st) {
        nf_model_free(m);
        nf_posterior_draws_free(&draws);
        return st;
    }
    nf_target_count(c->t, &after);
    rung->name = s->name;
    rung->steps = report.steps;
    rung->gradients = after.gradients - before.gradients;
    rung->rejected = after.rejected - before.rejected;
    rung->target_seconds = after.seconds - before.seconds;
    whiten_again(c, s, m);
    keep_best(c, m, &draws, &rung->quality);
    rung->seconds = nfi_fit_clock() - began;
    r->n_rungs++;
    return NF_OK;
}

/* A rung whose fit found no finite numbers is passed over. */
static nf_status climb_all(climb *c)
{
    const nf_vi_options *o = c->o;
    const size_t all = sizeof ladder / sizeof *ladder;
    const bool full = !c->start.path[c->start.best].diagonal, normal = nfi_family_is_normal(o->family);
    const nf_family like = o->flow && !normal ? NF_FAMILY_REALNVP : o->family;
    const step_up own = {.name = names[o->family],
                         .family = o->family,
                         .df = normal ? 0 : 20,
                         .steps = nfi_family_steps(like),
                         .rate = nfi_family_rate(like)};
    for (size_t k = 0; k < (o->family ? 1 : all) && (!o->rungs || k < o->rungs) && !c->r->stopped; k++) {
        const step_up *s = o->family ? &own : k == 0 && !full ? &low_rank : ladder + k;
        const nf_status st = climb_rung(c, s);
        if (st && st != NF_ENOTFINITE)
            return st;
        if (!st && c->r->quality.verdict == NF_TRUST && !o->all_rungs)
            break;
    }
    return c->r->model ? NF_OK : nf_error_status();
}

/* ---- the result ---- */

static nf_status summarise(nf_vi_result *r)
{
    const nf_posterior_draws *w = &r->draws;
    double *weight = nfi_calloc(w->n, sizeof *weight);
    r->summary = nfi_calloc(w->n_outputs, sizeof *r->summary);
    nf_status st = weight && r->summary ? NF_OK : NF_ENOMEM;
    for (size_t i = 0; i < w->n && !st; i++)
        weight[i] = r->quality.verdict != NF_TRUST ? exp(w->log_weight[i]) : w->log_p[i] > -INFINITY;
    for (size_t k = 0; k < w->n_outputs && !st; k++)
        st = nf_summarise(w->n, w->n_outputs, w->output + k, weight, r->summary + k);
    nfi_free(weight);
    return st;
}

nf_status nf_vi(const nf_target *t, const nf_vi_options *options, nf_vi_result *result)
{
    static const nf_vi_options defaults = {0};
    if (result)
        *result = (nf_vi_result){0};
    if (!t || !result)
        return nfi_missing(who, !t ? "`t`" : "`result`");
    const nf_vi_options *o = options ? options : &defaults;
    if ((unsigned)o->family > NF_FAMILY_RESIDUAL)
        return nf_error(NF_EARG, "%s: family is %d, which is none", who, (int)o->family);
    if (!(o->steps >= 0 && o->steps < 1e6) || !(o->rate >= 0 && o->rate < 1e6))
        return nf_error(NF_EARG, "%s: %s is %g, but must be a factor from 0 to 1e6", who,
                        o->steps >= 0 && o->steps < 1e6 ? "rate" : "steps",
                        o->steps >= 0 && o->steps < 1e6 ? o->rate : o->steps);
    const double began = nfi_fit_clock();
    climb c = {.t = t, .o = o, .r = result};
    nf_target_counts before;
    nf_target_count(t, &before);
    nf_start_options start = o->start;
    start.seed = start.seed ? start.seed : o->seed;
    nf_status st = nfi_start_find(&c.start, t, &start);
    if (!st) {
        result->start = nfi_start_report(&c.start);
        c.whitening = nfi_gaussian_model(c.start.path + c.start.best);
        st = c.whitening ? climb_all(&c) : nf_error_status();
    }
    if (result->model) {
        const nf_status summed = summarise(result);
        st = st ? st : summed;
    }
    nf_target_count(t, &result->counts);
    result->counts.calls -= before.calls;
    result->counts.gradients -= before.gradients;
    result->counts.values -= before.values;
    result->counts.rejected -= before.rejected;
    result->counts.seconds -= before.seconds;
    result->seconds = nfi_fit_clock() - began;
    nf_model_free(c.whitening);
    nfi_start_end(&c.start);
    return st;
}

void nf_vi_result_free(nf_vi_result *r)
{
    if (!r)
        return;
    nf_model_free(r->model);
    nf_posterior_draws_free(&r->draws);
    nfi_free(r->summary);
    *r = (nf_vi_result){0};
}
