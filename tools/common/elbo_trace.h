/* The ELBO during the fits of nf_vi(), and its picture. */
#ifndef TOOLS_ELBO_TRACE_H
#define TOOLS_ELBO_TRACE_H
#include "pairs.h"
#include <nflow/inference.h>

typedef struct trace_point {
    size_t rung;
    uint64_t step; /* of all rungs together */
    double elbo;   /* running mean */
} trace_point;

typedef struct elbo_trace {
    size_t n, room;
    trace_point *point; /* [n] */
    uint64_t before;    /* steps of the rungs before the present one */
} elbo_trace;

/* Adds what a callback of nf_vi() is told; nothing between fits. */
void elbo_trace_add(elbo_trace *trace, const nf_vi_progress *p);
void elbo_trace_free(elbo_trace *trace);

/* The heights of its picture, at least a tenth of a nat: those of the later half of each rung, since the first ELBOs of
   a fit are far below the others, and of the judgements. */
range elbo_trace_heights(const elbo_trace *trace, const nf_vi_result *r);
/* Plots it in a picture that is open, whose axes have their ranges and labels: a line for each rung and a point for the
   ELBO of its judgement. Nothing if there is no point. */
void elbo_trace_draw(FILE *plot, const elbo_trace *trace, const nf_vi_result *r);
/* A picture of it alone. Exits 1 with one line on failure. */
void elbo_trace_plot(const char *path, const elbo_trace *trace, const nf_vi_result *r);

#endif
