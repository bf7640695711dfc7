/*
 * nf_vi: a start, then fits of families that can do more and more, each judged, until one can be trusted. stage.c makes
 * a fit, judge.c judges it.
 */
#include "base/memory.h"
#include "base/status.h"
#include "fit/fitter.h"
#include "vi/family.h"
#include "vi/judge.h"
#include "vi/rungs.h"
#include "vi/start.h"
#include <math.h>

static const char who[] = "nf_vi";

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

/* Degrees of freedom with which a t in d dimensions is within 0.03 nats of a normal (KL is 0.75 / (df - 4)^2 a
   dimension), but at least 20: from there they are learnt. */
static double initial_df(size_t d)
{
    return fmax(20, 4 + sqrt(25 * (double)d));
}

/* What many dimensions do to a rung's rate and draws: noise of the gradient adds up over dimensions, and so does the
   cost of draws. 1 up to 100. */
static double lighter(size_t d)
{
    return fmin(1, sqrt(100 / (double)d));
}

static nf_model *fit(climb *c, const nfi_rung *s, nf_convergence *rule, nf_fit_report *report)
{
    const nf_vi_options *o = c->o;
    const size_t d = nf_target_dim(c->t);
    return nf_stage(c->t, c->whitening,
                    &(nf_stage_options){.family = s->family,
                                        .flow = nfi_family_is_normal(s->family) ? NULL : o->flow,
                                        .df = s->t ? initial_df(d) : 0,
                                        .layers = s->layers,
                                        .width = s->width,
                                        .steps = (uint64_t)fmax((double)s->steps * (o->steps > 0 ? o->steps : 1), 1),
                                        .draws = o->draws ? o->draws : (size_t)ceil((double)s->draws * lighter(d)),
                                        .rate = s->rate * (o->rate > 0 ? o->rate : 1) * lighter(d),
                                        .rule = rule,
                                        .total_gradient = o->total_gradient,
                                        .seed = o->seed + c->now.number,
                                        .threads = o->threads,
                                        .callback = o->callback ? during_fit : NULL,
                                        .user = c},
                    report);
}

/* The normal of a normal rung has the next rungs' coordinates. */
static nf_status whiten_again(climb *c, const nfi_rung *s, const nf_model *m)
{
    if (!nfi_family_is_normal(s->family))
        return NF_OK;
    nf_model *copy = nf_model_copy(m);
    if (!copy)
        return nf_error_status();
    nf_model_free(c->whitening);
    c->whitening = copy;
    return NF_OK;
}

/* Fits and judges; the rung's quality is written. What is found is kept if it is the best so far. */
static nf_status fit_and_judge(climb *c, const nfi_rung *s, nf_rung *rung)
{
    nf_fit_report report = {0};
    nf_posterior_draws draws = {0};
    nf_convergence rule = {.tolerance = c->o->tolerance};
    nf_model *m = fit(c, s, &rule, &report);
    rung->steps = report.steps;
    rung->settled = rule.settled;
    rung->gain = rule.gain;
    rung->gain_error = rule.error;
    if (!m)
        return nf_error_status();
    nf_judge_options j = c->o->judge;
    j.seed = j.seed ? j.seed : c->o->seed;
    j.threads = j.threads ? j.threads : c->o->threads;
    nf_status st = nf_judge(m, c->t, &j, &rung->quality, &draws);
    if (!st)
        st = nfi_look_elsewhere(&c->start, c->t, c->o->seed + 1, m, &rung->quality);
    if (!st)
        st = whiten_again(c, s, m);
    if (!st) {
        keep_best(c, m, &draws, &rung->quality);
        return NF_OK;
    }
    nf_model_free(m);
    nf_posterior_draws_free(&draws);
    return st;
}

/* A rung whose fit found no finite numbers is one that cannot be trusted: the climb goes on. */
static nf_status climb_rung(climb *c, const nfi_rung *s)
{
    nf_vi_result *r = c->r;
    nf_rung *rung = r->rung + r->n_rungs;
    nf_target_counts before, after;
    const double began = nfi_fit_clock();
    nf_target_count(c->t, &before);
    c->now = (nf_vi_progress){.rung = s->name, .number = r->n_rungs, .best = r->model ? &r->quality : NULL};
    const nf_status st = fit_and_judge(c, s, rung);
    if (st && st != NF_ENOTFINITE)
        return st;
    if (st)
        nfi_judge_no_fit(&rung->quality, nf_error_message());
    nf_target_count(c->t, &after);
    rung->name = s->name;
    rung->gradients = after.gradients - before.gradients;
    rung->rejected = after.rejected - before.rejected;
    rung->target_seconds = after.seconds - before.seconds;
    rung->seconds = nfi_fit_clock() - began;
    r->n_rungs++;
    return NF_OK;
}

static nf_status climb_all(climb *c)
{
    const nf_vi_options *o = c->o;
    const bool full = !c->start.path[c->start.best].diagonal;
    const nfi_rung own = nfi_rung_of_family(o->family, o->flow != NULL);
    const size_t most = o->family ? 1 : NFI_RUNGS;
    for (size_t k = 0; k < most && (!o->rungs || k < o->rungs) && !c->r->stopped; k++) {
        const nfi_rung *s = o->family ? &own : nfi_rung_of_ladder(k, full);
        const nf_status st = climb_rung(c, s);
        if (st)
            return st;
        if (c->r->model && c->r->quality.verdict == NF_TRUST && !o->all_rungs)
            break;
    }
    const nf_rung *last = c->r->rung + c->r->n_rungs - 1;
    return c->r->model ? NF_OK : nf_error(NF_ENOTFINITE, "%s: %s: %s", who, last->name, last->quality.why);
}

/* ---- the result ---- */

static nf_status summarise(nf_vi_result *r)
{
    const nf_posterior_draws *w = &r->draws;
    double *weight = nfi_calloc(w->n, sizeof *weight);
    r->summary = nfi_calloc(w->n_outputs, sizeof *r->summary);
    nf_status st = weight && r->summary ? nf_posterior_weights(w, r->quality.verdict, weight) : NF_ENOMEM;
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
    if (!(o->tolerance >= 0) && o->tolerance != NF_ZERO)
        return nf_error(NF_EARG, "%s: tolerance is %g, but must be positive, 0 or NF_ZERO", who, o->tolerance);
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
