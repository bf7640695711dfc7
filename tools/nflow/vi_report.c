#include "vi_report.h"

enum { MOST_LINES = 30, NAME = 20 };

/* ---- text ---- */

static void print_rungs(const nf_vi_result *r)
{
    printf("%-21s %8s %10s %8s %18s %6s  verdict\n", "tried", "steps", "gradients", "seconds", "ELBO (s.e.)", "k-hat");
    printf("%-21s %8s %10s %8s %10.3f (%.3f)\n", r->start.laplace ? "start (Laplace)" : "start (Pathfinder)", "", "",
           "", r->start.elbo, r->start.elbo_error);
    for (size_t i = 0; i < r->n_rungs; i++) {
        const nf_rung *g = r->rung + i;
        printf("%-21s %8llu %10zu %8.2f %10.3f (%.3f) %6.2f  %s%s\n", g->name, (unsigned long long)g->steps,
               g->gradients, g->seconds, g->quality.elbo, g->quality.elbo_error, g->quality.k_hat,
               nf_verdict_text(g->quality.verdict), i == r->best && r->n_rungs > 1 ? " (kept)" : "");
    }
}

static void print_outputs(const nf_target *t, const nf_vi_result *r)
{
    const size_t all = r->draws.n_outputs, shown = all > MOST_LINES ? MOST_LINES : all;
    printf("\n%-*s %12s %10s %11s %11s %11s %11s\n", NAME, "output", "mean", "(s.e.)", "sd", "5 %", "50 %", "95 %");
    for (size_t k = 0; k < shown; k++) {
        const nf_summary *s = r->summary + k;
        printf("%-*s %12.5g %10.2g %11.4g %11.4g %11.4g %11.4g%s\n", NAME, nf_target_output_name(t, k), s->mean,
               s->mean_error, s->sd, s->quantile[0], s->quantile[2], s->quantile[4],
               s->no_variance ? "  no variance: read the quantiles" : "");
    }
    if (shown < all)
        printf("... and %zu more\n", all - shown);
}

/* The reason that the target gave, on one line. */
static void print_rejection(const char *text)
{
    for (; *text; text++)
        putchar(*text == '\n' ? ' ' : *text);
    putchar('\n');
}

void vi_print(const nf_target *t, const nf_vi_result *r)
{
    const nf_quality *q = &r->quality;
    print_rungs(r);
    print_outputs(t, r);
    if (q->verdict != NF_TRUST)
        printf("(with importance weights)\n");
    printf("\nlog evidence: %.3f +- %.3f by importance weights, %.0f effective draws of %zu\n", q->log_z,
           q->log_z_error, q->ess, q->n);
    printf("time: %.2f s, of which in the target %.2f s; %zu gradients, %zu values\n", r->seconds, r->counts.seconds,
           r->counts.gradients, r->counts.values);
    if (r->counts.rejected) {
        printf("rejected: %zu of %zu points in all, %zu of the %zu final draws; the first one: ", r->counts.rejected,
               r->counts.gradients + r->counts.values, q->rejected, q->n);
        print_rejection(nf_target_rejection(t));
    }
    if (r->stopped)
        printf("interrupted: this is the best until then\n");
    printf("verdict: %s. %s\n", nf_verdict_text(q->verdict), q->why);
    const nf_rung *best = r->rung + r->best;
    if (q->verdict != NF_TRUST && !best->settled && best->gain > 3 * best->gain_error)
        printf("its ELBO still gained %.3f +- %.3f a quarter of its steps: --steps with a larger factor may help\n",
               best->gain, best->gain_error);
}

/* ---- JSON ---- */

static void json_quality(js_file *j, const nf_target *t, const nf_quality *q)
{
    js_begin(j, "quality", '{');
    js_text(j, "verdict", nf_verdict_text(q->verdict));
    js_text(j, "why", q->why);
    js_integer(j, "draws", q->n);
    js_number(j, "elbo", q->elbo);
    js_number(j, "elbo_error", q->elbo_error);
    js_number(j, "log_z", q->log_z);
    js_number(j, "log_z_error", q->log_z_error);
    js_number(j, "k_hat", q->k_hat);
    js_number(j, "k_limit", q->k_limit);
    js_number(j, "ess", q->ess);
    js_number(j, "mean_shift", q->mean_shift);
    js_number(j, "median_mean_shift", q->median_mean_shift);
    js_number(j, "sd_shift", q->sd_shift);
    js_number(j, "median_sd_shift", q->median_sd_shift);
    js_number(j, "quantile_shift", q->quantile_shift);
    js_text(j, "worst_output", nf_target_output_name(t, q->worst_output));
    js_integer(j, "no_variance", q->no_variance);
    js_integer(j, "rejected", q->rejected);
    js_truth(j, "missed_mode", q->missed);
    js_end(j);
}

static void json_start(js_file *j, const nf_start_report *s)
{
    js_begin(j, "start", '{');
    js_text(j, "method", s->laplace ? "laplace" : "pathfinder");
    js_number(j, "elbo", s->elbo);
    js_number(j, "elbo_error", s->elbo_error);
    js_number(j, "log_p", s->log_p);
    js_integer(j, "path", s->path);
    js_integer(j, "point", s->point);
    js_integer(j, "usable_paths", s->usable);
    js_end(j);
}

static void json_rungs(js_file *j, const nf_target *t, const nf_vi_result *r)
{
    js_begin(j, "rungs", '[');
    for (size_t i = 0; i < r->n_rungs; i++) {
        const nf_rung *g = r->rung + i;
        js_begin(j, NULL, '{');
        js_text(j, "name", g->name);
        js_integer(j, "steps", g->steps);
        js_truth(j, "settled", g->settled);
        js_number(j, "gain", g->gain);
        js_number(j, "gain_error", g->gain_error);
        js_number(j, "seconds", g->seconds);
        js_number(j, "target_seconds", g->target_seconds);
        js_integer(j, "gradients", g->gradients);
        js_integer(j, "rejected", g->rejected);
        json_quality(j, t, &g->quality);
        js_end(j);
    }
    js_end(j);
    js_text(j, "best", r->rung[r->best].name);
}

static void json_summary(js_file *j, const nf_target *t, const nf_vi_result *r)
{
    static const char *const quantile[NF_QUANTILES] = {"q5", "q25", "q50", "q75", "q95"};
    js_begin(j, "outputs", '[');
    for (size_t k = 0; k < r->draws.n_outputs; k++) {
        const nf_summary *s = r->summary + k;
        js_begin(j, NULL, '{');
        js_text(j, "name", nf_target_output_name(t, k));
        js_number(j, "mean", s->mean);
        js_number(j, "mean_error", s->mean_error);
        js_number(j, "sd", s->sd);
        js_number(j, "sd_error", s->sd_error);
        for (size_t i = 0; i < NF_QUANTILES; i++)
            js_number(j, quantile[i], s->quantile[i]);
        js_begin(j, "quantile_errors", '[');
        for (size_t i = 0; i < NF_QUANTILES; i++)
            js_number(j, NULL, s->quantile_error[i]);
        js_end(j);
        js_number(j, "min", s->min);
        js_number(j, "max", s->max);
        js_number(j, "ess", s->ess);
        js_number(j, "tail_index", s->tail_index);
        js_truth(j, "no_variance", s->no_variance);
        js_integer(j, "draws", s->n);
        js_integer(j, "left_out", s->left_out);
        js_end(j);
    }
    js_end(j);
}

void vi_json(js_file *j, const nf_target *t, const nf_vi_result *r)
{
    js_text(j, "verdict", nf_verdict_text(r->quality.verdict));
    js_text(j, "why", r->quality.why);
    js_truth(j, "interrupted", r->stopped);
    js_integer(j, "dim", nf_target_dim(t));
    js_number(j, "seconds", r->seconds);
    js_number(j, "target_seconds", r->counts.seconds);
    js_integer(j, "calls", r->counts.calls);
    js_integer(j, "gradients", r->counts.gradients);
    js_integer(j, "values", r->counts.values);
    js_integer(j, "rejected", r->counts.rejected);
    js_text(j, "rejection", nf_target_rejection(t));
    json_start(j, &r->start);
    json_rungs(j, t, r);
    json_quality(j, t, &r->quality);
    js_truth(j, "outputs_weighted", r->quality.verdict != NF_TRUST);
    json_summary(j, t, r);
}
