#include "vi_files.h"
#include "cli.h"
#include "output.h"
#include "pairs.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PANELS = 6, DOTS = 1000 };

/* ---- draws ---- */

static void take(vi_draws *w, const nf_posterior_draws *d, size_t from)
{
    const size_t to = w->draws.n++, k = d->n_outputs;
    memcpy(w->values + to * k, d->output + from * k, k * sizeof *w->values);
    w->log_p[to] = d->log_p[from];
    w->log_q[to] = d->log_q[from];
    w->log_weight[to] = d->log_weight[from];
}

void vi_draws_make(vi_draws *w, const nf_target *t, const nf_vi_result *r, size_t resample, uint64_t seed)
{
    const nf_posterior_draws *d = &r->draws;
    const size_t room = resample ? resample : d->n, k = d->n_outputs;
    *w = (vi_draws){.names = cli_allocate(k, sizeof *w->names),
                    .values = cli_allocate(room, k * sizeof *w->values),
                    .log_p = cli_allocate(room, sizeof *w->log_p),
                    .log_q = cli_allocate(room, sizeof *w->log_q),
                    .log_weight = cli_allocate(room, sizeof *w->log_weight)};
    for (size_t j = 0; j < k; j++)
        w->names[j] = nf_target_output_name(t, j);
    if (resample) {
        size_t *index = cli_allocate(resample, sizeof *index);
        cli_ok(nf_resample(d->n, d->log_weight, NF_RESAMPLE_SYSTEMATIC, &(nf_noise){.seed = seed}, resample, index));
        for (size_t i = 0; i < resample; i++)
            take(w, d, index[i]);
        free(index);
    }
    for (size_t i = 0; i < d->n && !resample; i++)
        if (d->log_p[i] > -INFINITY)
            take(w, d, i);
    if (w->draws.n == 0)
        cli_fail(1, "the target rejected all draws: nothing to write");
    w->draws.n_outputs = k;
    w->draws.names = w->names;
    w->draws.values = w->values;
    w->draws.log_p = w->log_p;
    w->draws.log_q = w->log_q;
    w->draws.log_weight = resample ? NULL : w->log_weight; /* resampled draws all count alike */
}

void vi_draws_free(vi_draws *w)
{
    free(w->names);
    free(w->values);
    free(w->log_p);
    free(w->log_q);
    free(w->log_weight);
    *w = (vi_draws){.names = NULL};
}

void vi_save_inits(const char *path, const nf_target *t, const nf_vi_result *r, size_t chains, uint64_t seed)
{
    vi_draws w;
    vi_draws_make(&w, t, r, 0, seed);
    size_t *which = cli_allocate(chains, sizeof *which);
    cli_ok(nf_resample(w.draws.n, w.log_weight, NF_RESAMPLE_DISTINCT, &(nf_noise){.seed = seed}, chains, which));
    cli_ok(nf_save_inits(path, &w.draws, chains, which));
    free(which);
    vi_draws_free(&w);
}

void vi_plot(const char *path, const nf_target *t, const nf_vi_result *r)
{
    const bool weighted = r->quality.verdict != NF_TRUST;
    vi_draws w;
    vi_draws_make(&w, t, r, weighted ? DOTS : 0, 1);
    const size_t n = w.draws.n < DOTS ? w.draws.n : DOTS, outputs = w.draws.n_outputs;
    size_t column[PANELS];
    for (size_t k = 0; k < PANELS; k++)
        column[k] = k;
    pairs_plot(path, outputs < PANELS ? outputs : PANELS, column, w.names, &(shown){.dim = outputs},
               &(shown){n, outputs, w.values});
    vi_draws_free(&w);
}

/* ---- the trace ---- */

void vi_trace_add(vi_trace *trace, const nf_vi_progress *p)
{
    if (trace->n == trace->room) {
        trace->room = 2 * trace->room + 1024;
        trace->point = realloc(trace->point, trace->room * sizeof *trace->point);
        if (!trace->point)
            cli_fail(1, "out of memory");
    }
    const trace_point *last = trace->n ? &trace->point[trace->n - 1] : NULL;
    if (last && last->rung != p->number)
        trace->before = last->step;
    trace->point[trace->n++] =
        (trace_point){.rung = p->number, .step = trace->before + p->fit->step, .elbo = -p->fit->loss};
}

/* The first ELBOs of a fit are far below the others: the picture's heights are those of the later half of each rung,
   and of the judgements. */
static range heights(const vi_trace *trace, const nf_vi_result *r)
{
    range y = {INFINITY, -INFINITY};
    for (size_t first = 0, end; first < trace->n; first = end) {
        for (end = first; end < trace->n && trace->point[end].rung == trace->point[first].rung;)
            end++;
        for (size_t i = (first + end) / 2; i < end; i++)
            if (isfinite(trace->point[i].elbo))
                y = (range){fmin(y.low, trace->point[i].elbo), fmax(y.high, trace->point[i].elbo)};
    }
    for (size_t i = 0; i < r->n_rungs; i++)
        if (isfinite(r->rung[i].quality.elbo))
            y = (range){fmin(y.low, r->rung[i].quality.elbo), fmax(y.high, r->rung[i].quality.elbo)};
    const double more = y.high > y.low ? 0.1 * (y.high - y.low) : 1;
    return (range){y.low - more, y.high + more};
}

void vi_trace_plot(const char *path, const vi_trace *trace, const nf_vi_result *r)
{
    if (trace->n == 0)
        return;
    FILE *p = plot_open(path, 720, 420);
    const range y = heights(trace, r);
    if (isfinite(y.low) && isfinite(y.high))
        plot_range(p, "y", y);
    fputs("set xlabel 'steps of all rungs'\nset ylabel 'ELBO, nats'\nset key bottom right\nset grid\nplot ", p);
    for (size_t i = 0; i < r->n_rungs; i++)
        fprintf(p, "'-' using 1:2 with lines lw 2 lc %zu title '%s', ", i + 1, r->rung[i].name);
    fputs("'-' using 1:2:3 with yerrorbars pt 7 lc rgb 'black' title 'judged'\n", p);
    for (size_t i = 0; i < r->n_rungs; i++) {
        for (size_t k = 0; k < trace->n; k++)
            if (trace->point[k].rung == i && isfinite(trace->point[k].elbo))
                fprintf(p, "%llu %.9g\n", (unsigned long long)trace->point[k].step, trace->point[k].elbo);
        fputs("e\n", p);
    }
    uint64_t step = 0;
    for (size_t i = 0; i < r->n_rungs; i++) {
        step += r->rung[i].steps;
        if (isfinite(r->rung[i].quality.elbo))
            fprintf(p, "%llu %.9g %.9g\n", (unsigned long long)step, r->rung[i].quality.elbo,
                    r->rung[i].quality.elbo_error);
    }
    fputs("e\n", p);
    plot_close(p);
}

void vi_trace_free(vi_trace *trace)
{
    free(trace->point);
    *trace = (vi_trace){.n = 0};
}
