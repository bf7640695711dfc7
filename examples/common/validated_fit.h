/* A fit by maximum likelihood that keeps the parameters which validate best, with a progress bar. */
#ifndef EXAMPLES_VALIDATED_FIT_H
#define EXAMPLES_VALIDATED_FIT_H
#include <nflow/nflow.h>

/* Fits m to the rows of `train`, `batch` a step; all rows of `valid` validate. The options give steps, seed, threads,
   rate and validate_every. The rate falls to 0 along a cosine, gradients are cut at a norm of 10, and Ctrl-C ends the
   fit. `what`: the bar's word. Exits 1 with one line on failure. */
void validated_fit(const char *what, nf_model *m, const nf_data *train, const nf_data *valid, size_t batch,
                   const nf_fit_options *options);

#endif
