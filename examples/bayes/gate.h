/*
 * The gate: whether draws of an approximation are as good as reference draws, parameter by parameter.
 *
 *     mean error       |mean - mean_ref| / sd_ref
 *     sd error         |sd / sd_ref - 1|
 *     quantile errors  |quantile - quantile_ref| / (interquartile range_ref), of 5, 25, 50, 75, 95 %
 *
 * Draws pass if the medians over the parameters of mean and sd errors are at most 0.05, and the largest at most 0.15.
 * A parameter whose reference draws have a tail index of 2 or less has no variance: its five quantile errors are taken
 * instead, with the same two bounds over all such parameters.
 *
 * Means, deviations, quantiles and tail indices are those of nf_summarise().
 */
#ifndef EXAMPLES_BAYES_GATE_H
#define EXAMPLES_BAYES_GATE_H
#include "reference.h"
#include <nflow/importance.h>

/* One parameter. */
typedef struct gate_column {
    char name[REFERENCE_NAME];
    bool heavy; /* judged by quantiles */
    nf_summary draws, reference;
    double mean_error, sd_error, quantile_error[NF_QUANTILES];
} gate_column;

/* Median and largest of some errors; 0 where there are none. */
typedef struct gate_errors {
    double median, worst;
    const char *of; /* the parameter that has the largest; NULL: there is none */
} gate_errors;

typedef struct gate {
    bool passed;
    gate_errors mean, sd; /* of parameters that are not heavy */
    gate_errors quantile; /* of those that are */
    size_t n, n_heavy;
    gate_column *column; /* [n], as the reference has them */
} gate;

/* Judges draws x [n x k] whose columns have these names (theta.1), in any order; there may be others beside those of
   the reference. weight [n], finite, not negative; NULL: all 1. Draws of weight 0 may be NaN. Release by gate_free().
   NF_EARG: a column of the reference is missing, a draw or weight is not finite, the weights' sum is 0; NF_ENOMEM. */
nf_status gate_draws(gate *g, const reference_draws *r, size_t n, size_t k, const char *const *name, const double *x,
                     const double *weight);
void gate_free(gate *g);

#endif
