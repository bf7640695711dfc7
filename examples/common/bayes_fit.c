#include "bayes_fit.h"
#include "cli.h"
#include "overlay.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_PANELS = 6, DOTS = 1000, MOST_LINES = 40 };

static const nf_rung *best_rung(const bayes_fit *f)
{
    return &f->result.rung[f->result.best];
}

/* ---- the fit ---- */

static int watch(void *user, const nf_vi_progress *p)
{
    bayes_fit *f = user;
    elbo_trace_add(&f->trace, p);
    if (p->fit)
        cli_progress(f->model->name, (double)p->fit->step, (double)p->fit->steps + 1, "rung %zu, %s", p->number + 1,
                     p->rung);
    return cli_interrupted;
}

/* Weights [n] of the draws, to be released by free(). */
static double *new_weights(const bayes_fit *f)
{
    double *weight = cli_allocate(f->result.draws.n, sizeof *weight);
    cli_ok(nf_posterior_weights(&f->result.draws, f->result.quality.verdict, weight));
    return weight;
}

const char **bayes_fit_names(const bayes_fit *f)
{
    const char **name = cli_allocate(nf_target_n_outputs(f->target), sizeof *name);
    for (size_t k = 0; k < nf_target_n_outputs(f->target); k++)
        name[k] = nf_target_output_name(f->target, k);
    return name;
}

void bayes_fit_judge(bayes_fit *f)
{
    const nf_posterior_draws *d = &f->result.draws;
    double *weight = new_weights(f);
    const char **name = bayes_fit_names(f);
    cli_ok(gate_draws(&f->gate, &f->reference, d->n, d->n_outputs, name, d->output, weight));
    f->has_gate = true;
    free(name);
    free(weight);
}

nf_status bayes_fit_try(bayes_fit *f, const bayes_model *m, const char *folder, const nf_vi_options *options)
{
    *f = (bayes_fit){.model = m, .target = cli_made(bayes_target(m, folder)), .log_z = bayes_log_z(m, folder)};
    const clock_t begin = clock();
    nf_vi_options watched = *options;
    watched.callback = watch;
    watched.user = f;
    const nf_status st = nf_vi(f->target, &watched, &f->result);
    f->cpu = (double)(clock() - begin) / CLOCKS_PER_SEC;
    cli_progress_clear();
    if (f->result.model && m->posterior) {
        cli_ok(reference_read(&f->reference, folder, m->posterior));
        bayes_fit_judge(f);
    }
    return st;
}

void bayes_fit_make(bayes_fit *f, const bayes_model *m, const char *folder, const nf_vi_options *options)
{
    cli_ok(bayes_fit_try(f, m, folder, options));
}

void bayes_fit_free(bayes_fit *f)
{
    nf_vi_result_free(&f->result);
    nf_target_free(f->target);
    reference_free(&f->reference);
    gate_free(&f->gate);
    elbo_trace_free(&f->trace);
}

/* ---- text ---- */

void bayes_fit_head(void)
{
    printf("model                       dim  family              gradients   CPU s  in model      ELBO (s.e.)      "
           "ln Z   k-hat  mean error     sd error       verdict       gate\n"
           "                                                                                               "
           "               median worst   median worst\n");
}

static void print_errors(gate_errors e)
{
    printf("  %6.3f %6.3f", e.median, e.worst);
}

void bayes_fit_line(const bayes_fit *f)
{
    const nf_quality *q = &f->result.quality;
    printf("%-26s %4zu  %-19s %9zu %7.2f %8.2f %9.3f %6.3f ", f->model->name, nf_target_dim(f->target),
           best_rung(f)->name, f->result.counts.gradients, f->cpu, f->result.counts.seconds, q->elbo, q->elbo_error);
    printf(isfinite(f->log_z) ? "%9.3f %7.2f" : "        - %7.2f", isfinite(f->log_z) ? f->log_z : q->k_hat, q->k_hat);
    if (f->has_gate) {
        print_errors(f->gate.mean);
        print_errors(f->gate.sd);
    } else
        printf("       -      -       -      -");
    printf("  %-12s  %s%s\n", nf_verdict_text(q->verdict),
           !f->has_gate     ? "-"
           : f->gate.passed ? "pass"
                            : "FAIL",
           f->has_gate && q->verdict == NF_TRUST && !f->gate.passed ? " (wrongly trusted)" : "");
    fflush(stdout);
}

/* The place of an output among the reference's columns; its number of columns if it is not there. */
static size_t place_of(const bayes_fit *f, size_t output)
{
    return f->has_gate ? reference_column(&f->reference, nf_target_output_name(f->target, output)) : f->reference.k;
}

void bayes_gate_print(const gate *g)
{
    printf("gate: %s; mean errors: median %.3f, worst %.3f (%s); sd errors: median %.3f, worst %.3f (%s)\n",
           g->passed ? "passed" : "FAILED", g->mean.median, g->mean.worst, g->mean.of, g->sd.median, g->sd.worst,
           g->sd.of);
}

void bayes_fit_print(const bayes_fit *f)
{
    const nf_vi_result *r = &f->result;
    printf("start: ELBO %.3f +- %.3f, path %zu, point %zu\n", r->start.elbo, r->start.elbo_error, r->start.path + 1,
           r->start.point);
    for (size_t i = 0; i < r->n_rungs; i++)
        printf("%s: ELBO %.3f +- %.3f, k-hat %.2f, %zu gradients, %.2f s: %s\n", r->rung[i].name,
               r->rung[i].quality.elbo, r->rung[i].quality.elbo_error, r->rung[i].quality.k_hat, r->rung[i].gradients,
               r->rung[i].seconds, nf_verdict_text(r->rung[i].quality.verdict));
    printf("ln Z by weights: %.3f +- %.3f", r->quality.log_z, r->quality.log_z_error);
    printf(isfinite(f->log_z) ? "; it is %.3f\n" : "\n", f->log_z);
    printf("verdict: %s: %s\n\n", nf_verdict_text(r->quality.verdict), r->quality.why);
    printf("%-16s %13s %11s%s\n", "output", "mean (s.e.)", "sd", f->has_gate ? "   reference's mean and sd" : "");
    for (size_t k = 0; k < r->draws.n_outputs && k < MOST_LINES; k++) {
        const nf_summary *s = &r->summary[k];
        const size_t place = place_of(f, k);
        printf("%-16s %11.5g %9.2g %9.4g", nf_target_output_name(f->target, k), s->mean, s->mean_error, s->sd);
        if (place < f->reference.k) {
            const gate_column *c = &f->gate.column[place];
            printf("   %11.5g %9.4g%s", c->reference.mean, c->reference.sd, c->heavy ? "   judged by quantiles" : "");
        }
        putchar('\n');
    }
    if (r->draws.n_outputs > MOST_LINES)
        printf("and %zu more\n", r->draws.n_outputs - MOST_LINES);
    if (f->has_gate) {
        putchar('\n');
        bayes_gate_print(&f->gate);
    }
}

/* ---- JSON ---- */

static void json_errors(js_file *j, const char *name, gate_errors e)
{
    js_begin(j, name, '{');
    js_number(j, "median", e.median);
    js_number(j, "worst", e.worst);
    if (e.of)
        js_text(j, "of", e.of);
    js_end(j);
}

void bayes_gate_json(const gate *g, js_file *j)
{
    js_text(j, "gate", g->passed ? "pass" : "fail");
    json_errors(j, "mean_error", g->mean);
    json_errors(j, "sd_error", g->sd);
    json_errors(j, "quantile_error", g->quantile);
    js_integer(j, "heavy", g->n_heavy);
}

void bayes_fit_json(const bayes_fit *f, js_file *j)
{
    const nf_quality *q = &f->result.quality;
    js_text(j, "family", best_rung(f)->name);
    js_integer(j, "rungs", f->result.n_rungs);
    js_integer(j, "gradients", f->result.counts.gradients);
    js_integer(j, "rejected", f->result.counts.rejected);
    js_number(j, "cpu_seconds", f->cpu);
    js_number(j, "target_seconds", f->result.counts.seconds);
    js_number(j, "seconds", f->result.seconds);
    js_number(j, "elbo", q->elbo);
    js_number(j, "elbo_se", q->elbo_error);
    js_number(j, "log_z_estimate", q->log_z);
    js_number(j, "k_hat", q->k_hat);
    js_number(j, "ess", q->ess);
    js_text(j, "verdict", nf_verdict_text(q->verdict));
    js_text(j, "why", q->why);
    if (f->has_gate)
        bayes_gate_json(&f->gate, j);
}

/* ---- the picture ---- */

size_t bayes_fit_output(const bayes_fit *f, const char *name)
{
    size_t k = 0;
    while (k < nf_target_n_outputs(f->target) && strcmp(nf_target_output_name(f->target, k), name) != 0)
        k++;
    return k;
}

/* Places of outputs, at most OVERLAY_COLUMNS: those that are named or, if names is NULL, the first; those alone that
   the reference has, if there is one. */
static size_t choose(const bayes_fit *f, const char *names, size_t *output)
{
    size_t n = 0;
    char *list = cli_text(" %s ", names ? names : "");
    for (size_t k = 0; k < nf_target_n_outputs(f->target) && n < OVERLAY_COLUMNS; k++) {
        char *word = cli_text(" %s ", nf_target_output_name(f->target, k));
        if ((!names || strstr(list, word)) && (!f->has_gate || place_of(f, k) < f->reference.k))
            output[n++] = k;
        free(word);
    }
    free(list);
    return n;
}

/* Columns of rows [.. x k] that index names, [n x n_columns], to be released by free(). index NULL: evenly spread over
   `all` rows. */
static double *new_columns(size_t n, const size_t *index, size_t all, size_t k, const double *x, size_t n_columns,
                           const size_t *column)
{
    double *y = cli_allocate(n * n_columns, sizeof *y);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n_columns; j++)
            y[i * n_columns + j] = x[(index ? index[i] : i * all / n) * k + column[j]];
    return y;
}

double *bayes_fit_draws(const bayes_fit *f, size_t n, size_t n_columns, const size_t *output)
{
    const nf_posterior_draws *d = &f->result.draws;
    double *weight = new_weights(f);
    size_t *index = cli_allocate(n, sizeof *index);
    for (size_t i = 0; i < d->n; i++)
        weight[i] = log(weight[i]);
    cli_ok(nf_resample(d->n, weight, NF_RESAMPLE_SYSTEMATIC, &(nf_noise){.seed = 1}, n, index));
    double *x = new_columns(n, index, d->n, d->n_outputs, d->output, n_columns, output);
    free(weight);
    free(index);
    return x;
}

void bayes_fit_plot(const bayes_fit *f, const char *path, const char *outputs)
{
    const nf_quality *q = &f->result.quality;
    size_t output[OVERLAY_COLUMNS], same[OVERLAY_COLUMNS], from[OVERLAY_COLUMNS];
    const char *name[OVERLAY_COLUMNS];
    const size_t n = choose(f, outputs, output), n_draws = f->has_gate ? f->result.draws.n : DOTS;
    for (size_t j = 0; j < n; j++) {
        name[j] = nf_target_output_name(f->target, output[j]);
        from[j] = place_of(f, output[j]);
        same[j] = j;
    }
    double *x = bayes_fit_draws(f, n_draws, n, output), *y = NULL;
    if (f->has_gate && n > 1) {
        y = new_columns(f->reference.n, NULL, f->reference.n, f->reference.k, f->reference.x, n, from);
        char *note =
            cli_text("verdict: %s; gate: %s", nf_verdict_text(q->verdict), f->gate.passed ? "passed" : "failed");
        overlay_plot(path, &(overlay){.title = f->model->name,
                                      .note = {best_rung(f)->name, note},
                                      .n = n,
                                      .name = name,
                                      .reference = {f->reference.n, n, y},
                                      .draws = {n_draws, n, x},
                                      .trace = &f->trace,
                                      .result = &f->result});
        free(note);
    } else
        pairs_plot(path, n < MOST_PANELS ? n : MOST_PANELS, same, name, &(shown){.dim = n}, &(shown){n_draws, n, x});
    free(x);
    free(y);
}

/* ---- many fits ---- */

void bayes_tally_add(bayes_tally *t, const bayes_fit *f)
{
    const nf_quality *q = &f->result.quality;
    double *more = realloc(t->cpu, (t->fits + 1) * sizeof *more);
    if (!more)
        cli_fail(1, "no memory for %zu fits", t->fits + 1);
    t->cpu = more;
    t->cpu[t->fits++] = f->cpu;
    t->passed += f->has_gate && f->gate.passed;
    t->trusted += q->verdict == NF_TRUST;
    t->wrong += f->has_gate && q->verdict == NF_TRUST && !f->gate.passed;
    t->not_trusted += q->verdict == NF_DO_NOT_TRUST;
    t->above += q->elbo > f->log_z + 3 * q->elbo_error; /* not where log_z is NaN */
}

void bayes_tally_finish(bayes_tally *t)
{
    if (t->fits > 1) {
        cli_sort(t->fits, t->cpu);
        printf("%zu fits: %zu pass the gate, %zu are trusted, %zu of them wrongly, %zu are not trusted, %zu ELBOs are "
               "above ln Z; median of CPU seconds: %.2f\n",
               t->fits, t->passed, t->trusted, t->wrong, t->not_trusted, t->above, t->cpu[t->fits / 2]);
    }
    free(t->cpu);
    *t = (bayes_tally){.fits = 0};
}
