/* The files that nflow vi writes beside its report: draws, initial values, pictures. */
#ifndef NFLOW_TOOL_VI_FILES_H
#define NFLOW_TOOL_VI_FILES_H
#include <nflow/nflow.h>

/* ---- draws ---- */

/* Draws that go to files: those that the target accepted or, resampled, `resample` of them by their weights. */
typedef struct vi_draws {
    nf_draws draws;
    const char **names; /* what draws points to */
    double *values, *log_p, *log_q, *log_weight;
} vi_draws;

/* resample 0: the plain draws, with their weights. Exits 1 with one line on failure, as all functions here. */
void vi_draws_make(vi_draws *w, const nf_target *t, const nf_vi_result *r, size_t resample, uint64_t seed);
void vi_draws_free(vi_draws *w);
/* Initial values of so many chains: different plain draws, chosen by their weights. */
void vi_save_inits(const char *path, const nf_target *t, const nf_vi_result *r, size_t chains, uint64_t seed);
/* A pair plot of the first outputs, of draws resampled by their weights unless they can be trusted as they are. */
void vi_plot(const char *path, const nf_target *t, const nf_vi_result *r);

/* ---- the trace ---- */

typedef struct trace_point {
    size_t rung;
    uint64_t step; /* of all rungs together */
    double elbo;   /* running mean */
} trace_point;

/* The ELBO during the fits. */
typedef struct vi_trace {
    size_t n, room;
    trace_point *point; /* [n] */
    uint64_t before;    /* steps of the rungs before the present one */
} vi_trace;

/* Adds what a callback of nf_vi() is told. */
void vi_trace_add(vi_trace *trace, const nf_vi_progress *p);
/* Draws it, a line for each rung and a point for the ELBO of its judgement. */
void vi_trace_plot(const char *path, const vi_trace *trace, const nf_vi_result *r);
void vi_trace_free(vi_trace *trace);

#endif
