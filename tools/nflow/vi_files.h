/* The files that nflow vi writes beside its report: draws, initial values, pictures. */
#ifndef NFLOW_TOOL_VI_FILES_H
#define NFLOW_TOOL_VI_FILES_H
#include <nflow/nflow.h>

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

#endif
