/* Reference draws for the pair plot of nflow vi: a table with names, such as a file of CmdStan or one that vi wrote. */
#ifndef NFLOW_TOOL_VI_REFERENCE_H
#define NFLOW_TOOL_VI_REFERENCE_H
#include "overlay.h"
#include <nflow/nflow.h>

typedef struct vi_reference {
    nf_table table; /* its columns renamed as outputs: theta.1, where R has theta[1] */
    size_t n;       /* outputs that it has, the first OVERLAY_COLUMNS of them */
    size_t output[OVERLAY_COLUMNS], column[OVERLAY_COLUMNS];
} vi_reference;

/* Reads a csv file, in which lines that begin with # are comments. Exits 1 with one line on failure, also if it has
   none of the target's outputs. */
void vi_reference_read(vi_reference *ref, const char *path, const nf_target *t);
void vi_reference_free(vi_reference *ref);
/* Draws over the reference (overlay.h), of the outputs that both have: resampled by their weights unless they can be
   trusted as they are. */
void vi_reference_plot(const char *path, const vi_reference *ref, const char *source, const nf_target *t,
                       const nf_vi_result *r, const elbo_trace *trace);

#endif
