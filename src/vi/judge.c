/*
 * How good a posterior q is, by draws x_i ~ q with ratios log p(x_i) - log q(x_i):
 *
 *     ELBO = mean of the ratios,   log Z = log of the mean of smoothed exp(ratio),   k-hat of the ratios' tail.
 *
 * If k-hat allows it, weighted draws are draws of p. Then each output's mean and standard deviation with weights are
 * those of p, and their differences from those without weights are the errors that q makes on its own, in the units in
 * which posteriors are compared. Outputs without a variance are compared by quantiles.
 */
#include "vi/judge.h"
#include "base/memory.h"
#include "base/status.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char who[] = "nf_judge";

/* ---- draws ---- */

void nf_posterior_draws_free(nf_posterior_draws *w)
{
    if (!w)
        return;
    nfi_free(w->x);
    nfi_free(w->output);
    nfi_free(w->log_p);
    *w = (nf_posterior_draws){0};
}

nf_status nf_posterior_weights(const nf_posterior_draws *w, nf_verdict verdict, double *weight)
{
    static const char name[] = "nf_posterior_weights";
    if (!w || !weight)
        return nfi_missing(name, !w ? "`draws`" : "`weight`");
    if (!nf_verdict_text(verdict))
        return nf_error(NF_EARG, "%s: verdict is %d, which is none", name, (int)verdict);
    double accepted = 0;
    for (size_t i = 0; i < w->n; i++)
        accepted += w->log_p[i] > -INFINITY;
    for (size_t i = 0; i < w->n; i++)
        weight[i] = verdict != NF_TRUST ? exp(w->log_weight[i]) : w->log_p[i] > -INFINITY ? 1 / accepted : 0;
    return NF_OK;
}

static nf_status allocate(nf_posterior_draws *w, size_t n, const nf_target *t)
{
    *w = (nf_posterior_draws){.n = n, .d = nf_target_dim(t), .n_outputs = nf_target_n_outputs(t)};
    w->x = nfi_calloc(n, w->d * sizeof *w->x);
    w->output = nfi_calloc(n, w->n_outputs * sizeof *w->output);
    w->log_p = nfi_calloc(n, 3 * sizeof *w->log_p);
    if (w->x && w->output && w->log_p) {
        w->log_q = w->log_p + n;
        w->log_weight = w->log_q + n;
        return NF_OK;
    }
    nf_posterior_draws_free(w);
    return NF_ENOMEM;
}

static nf_status sample(const nf_model *q, const nf_judge_options *o, nf_posterior_draws *w)
{
    nf_real *x = nfi_calloc(w->n, w->d * sizeof *x);
    nf_workspace *ws = x ? nf_workspace_new(o->threads) : NULL;
    const nf_noise noise = {.seed = o->seed};
    const nf_status st = ws ? nf_sample(q, ws, &noise, w->n, NULL, x, w->log_q) : NF_ENOMEM;
    for (size_t i = 0; i < w->n * w->d && !st; i++)
        w->x[i] = (double)x[i];
    nf_workspace_free(ws);
    nfi_free(x);
    return st;
}

/* Asks the target. Draws without a finite density or output are rejected ones, whose outputs are NaN. */
static nf_status ask(const nf_target *t, nf_posterior_draws *w, size_t *rejected)
{
    unsigned char *flag = nfi_calloc(w->n, 1);
    nf_status st = flag ? nf_target_eval(t, w->n, w->x, w->log_p, NULL, flag) : NF_ENOMEM;
    if (!st)
        st = nf_target_outputs(t, w->n, w->x, w->output);
    *rejected = 0;
    for (size_t i = 0; i < w->n && !st; i++) {
        const bool out = flag[i] || !isfinite(w->log_q[i]) || !(w->log_p[i] < INFINITY);
        *rejected += out;
        if (!out)
            continue;
        w->log_p[i] = -INFINITY;
        for (size_t k = 0; k < w->n_outputs; k++)
            w->output[i * w->n_outputs + k] = NAN;
    }
    nfi_free(flag);
    return st;
}

/* ---- what weights change ---- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return isnan(x) || isnan(y) ? isnan(x) - isnan(y) : (x > y) - (x < y);
}

double nfi_median(size_t n, double *v)
{
    qsort(v, n, sizeof *v, ascending);
    return n == 0 ? 0 : n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

typedef struct shifts {
    double worst;
    double *mean, *sd; /* [n] of outputs with variance */
    size_t n;
} shifts;

static void note(shifts *s, nf_quality *q, size_t k, double shift, double *largest)
{
    *largest = fmax(*largest, shift);
    if (shift > s->worst) {
        s->worst = shift;
        q->worst_output = k;
    }
}

/* What weights change in output k: plain is its summary without them. */
static void compare(shifts *s, nf_quality *q, size_t k, const nf_summary *plain, const nf_summary *weighted)
{
    if (plain->no_variance || weighted->no_variance) {
        q->no_variance++;
        const double range = weighted->quantile[3] - weighted->quantile[1];
        for (size_t j = 0; j < NF_QUANTILES && range > 0; j++)
            note(s, q, k, fabs(weighted->quantile[j] - plain->quantile[j]) / range, &q->quantile_shift);
        return;
    }
    if (!(weighted->sd > 0)) /* a constant */
        return;
    s->mean[s->n] = fabs(weighted->mean - plain->mean) / weighted->sd;
    s->sd[s->n] = fabs(plain->sd / weighted->sd - 1);
    note(s, q, k, s->mean[s->n], &q->mean_shift);
    note(s, q, k, s->sd[s->n], &q->sd_shift);
    s->n++;
}

static nf_status compare_all(const nf_posterior_draws *w, nf_quality *q)
{
    double *weight = nfi_calloc(2 * (w->n + w->n_outputs), sizeof *weight);
    if (!weight)
        return NF_ENOMEM;
    double *alike = weight + w->n;
    shifts s = {.mean = alike + w->n, .sd = alike + w->n + w->n_outputs};
    nf_status st = nf_posterior_weights(w, NF_USE_WEIGHTS, weight);
    if (!st)
        st = nf_posterior_weights(w, NF_TRUST, alike);
    for (size_t k = 0; k < w->n_outputs && !st; k++) {
        nf_summary plain, weighted;
        st = nf_summarise(w->n, w->n_outputs, w->output + k, alike, &plain);
        if (!st)
            st = nf_summarise(w->n, w->n_outputs, w->output + k, weight, &weighted);
        if (!st)
            compare(&s, q, k, &plain, &weighted);
    }
    q->median_mean_shift = nfi_median(s.n, s.mean);
    q->median_sd_shift = nfi_median(s.n, s.sd);
    nfi_free(weight);
    return st;
}

/* ---- all of it ---- */

static nf_status measure(const nf_posterior_draws *w, nf_quality *q)
{
    nf_bound elbo;
    nf_psis_report psis;
    double *ratio = nfi_calloc(w->n, sizeof *ratio);
    if (!ratio)
        return NF_ENOMEM;
    for (size_t i = 0; i < w->n; i++)
        ratio[i] = w->log_p[i] > -INFINITY ? w->log_p[i] - w->log_q[i] : -INFINITY;
    nf_status st = nf_importance_bound(w->n, ratio, 1, &elbo);
    if (!st)
        st = nf_psis(w->n, ratio, w->log_weight, &psis);
    nfi_free(ratio);
    if (st)
        return st;
    q->elbo = elbo.mean;
    q->elbo_error = elbo.se;
    q->log_z = psis.log_mean;
    q->log_z_error = psis.log_mean_se;
    q->k_hat = psis.k_hat;
    q->k_limit = psis.k_limit;
    q->ess = psis.ess;
    return psis.finite ? compare_all(w, q) : NF_OK;
}

nf_status nf_judge(const nf_model *q, const nf_target *t, const nf_judge_options *options, nf_quality *quality,
                   nf_posterior_draws *draws)
{
    if (draws)
        *draws = (nf_posterior_draws){0};
    if (!q || !t || !quality)
        return nfi_missing(who, !q ? "`q`" : !t ? "`t`" : "`quality`");
    const nf_shape *s = nf_model_shape(q);
    if (s->dim_out != nf_target_dim(t) || s->n_ctx)
        return nf_error(NF_EDIM,
                        "%s: q has %zu dimensions and reads a context of %zu, but the target has %zu dimensions", who,
                        s->dim_out, s->n_ctx, nf_target_dim(t));
    nf_judge_options o = options ? *options : (nf_judge_options){0};
    o.n = o.n ? o.n : 4000;
    nf_posterior_draws w;
    *quality = (nf_quality){.n = o.n};
    nf_status st = allocate(&w, o.n, t);
    if (st)
        return st;
    st = sample(q, &o, &w);
    if (!st)
        st = ask(t, &w, &quality->rejected);
    if (!st)
        st = measure(&w, quality);
    if (!st) {
        nfi_judge_verdict(quality, t);
        if (draws) {
            *draws = w;
            return NF_OK;
        }
    }
    nf_posterior_draws_free(&w);
    return st;
}
