#include "elbo_trace.h"
#include "cli.h"
#include "output.h"
#include <math.h>
#include <stdlib.h>

enum { MOST_POINTS = 400 /* of a rung's line */, COLOURS = 4 };
static const char *const colours[COLOURS] = {"#888888", "#d95f02", "#7b3294", "#1b9e77"};

void elbo_trace_add(elbo_trace *trace, const nf_vi_progress *p)
{
    if (!p->fit)
        return;
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

range elbo_trace_heights(const elbo_trace *trace, const nf_vi_result *r)
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
    if (!(y.low <= y.high))
        return (range){-1, 1};
    const double more = fmax(0.1 * (y.high - y.low), 0.05 - 0.5 * (y.high - y.low));
    return (range){y.low - more, y.high + more};
}

/* A rung's points, of many only some: "step elbo" lines and "e". */
static void put_line(FILE *p, const elbo_trace *trace, size_t rung)
{
    size_t first = 0;
    while (first < trace->n && trace->point[first].rung != rung)
        first++;
    size_t end = first;
    while (end < trace->n && trace->point[end].rung == rung)
        end++;
    const size_t each = 1 + (end - first) / MOST_POINTS;
    for (size_t k = first; k < end; k++)
        if (isfinite(trace->point[k].elbo) && ((k - first) % each == 0 || k + 1 == end))
            fprintf(p, "%llu %.9g\n", (unsigned long long)trace->point[k].step, trace->point[k].elbo);
    fputs("e\n", p);
}

void elbo_trace_draw(FILE *p, const elbo_trace *trace, const nf_vi_result *r)
{
    if (trace->n == 0)
        return;
    fputs("plot ", p);
    for (size_t i = 0; i < r->n_rungs; i++)
        fprintf(p, "'-' using 1:2 with lines lw 2 lc rgb '%s' title '%s', ", colours[i % COLOURS], r->rung[i].name);
    fputs("'-' using 1:2:3 with yerrorbars pt 7 lc rgb 'black' title 'judged'\n", p);
    for (size_t i = 0; i < r->n_rungs; i++)
        put_line(p, trace, i);
    uint64_t step = 0;
    for (size_t i = 0; i < r->n_rungs; i++) {
        step += r->rung[i].steps;
        if (isfinite(r->rung[i].quality.elbo))
            fprintf(p, "%llu %.9g %.9g\n", (unsigned long long)step, r->rung[i].quality.elbo,
                    r->rung[i].quality.elbo_error);
    }
    fputs("e\n", p);
}

void elbo_trace_plot(const char *path, const elbo_trace *trace, const nf_vi_result *r)
{
    if (trace->n == 0)
        return;
    FILE *p = plot_open(path, 720, 420);
    fputs("set xlabel 'steps of all rungs'\nset ylabel 'ELBO, nats'\nset key bottom right\nset grid\n", p);
    plot_range(p, "y", elbo_trace_heights(trace, r));
    elbo_trace_draw(p, trace, r);
    plot_close(p);
}

void elbo_trace_free(elbo_trace *trace)
{
    free(trace->point);
    *trace = (elbo_trace){.n = 0};
}
