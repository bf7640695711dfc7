/*
 * The training of a distribution that a description tells. train.c is compiled for both precisions; what goes in and
 * comes out are numbers in double.
 */
#ifndef NFLOW_TOOL_TRAIN_H
#define NFLOW_TOOL_TRAIN_H
#include "learning_curve.h"
#include "rows.h"

typedef struct train_job {
    const char *description;             /* of the distribution, see nf_rebuild() */
    const rows *data, *valid;            /* in the model's units */
    const double *weight, *valid_weight; /* of their rows, or NULL */
    bool matching;                       /* by flow matching, in place of maximum likelihood */
    size_t n_start;                      /* rows from which layers that begin from data begin */
    size_t batch;
    uint64_t steps; /* 0: the time ends the fit */
    double minutes;
    uint64_t validate_every, patience, warm_up;
    double rate, clip, average, weight_decay, noise; /* noise: deviation of normal noise that is added to rows */
    const double *blur; /* [dim], widths of uniform noise that is added to rows; NULL: none */
    uint64_t seed;
    size_t threads;
    const char *checkpoint, *curve, *title; /* see long_fit.h */
    bool resume;
    double offset; /* log-likelihoods are shown as -loss + offset */
} train_job;

typedef struct train_result {
    size_t n_params, n_state;
    double *theta, *state; /* of the best validation; to be released by free() */
    nf_fit_report report;
    learning_curve curve; /* log-likelihoods per row; to be released by learning_curve_free() */
} train_result;

/* Exit with one line on failure. */
void train(const train_job *job, train_result *result);        /* in double */
void train_single(const train_job *job, train_result *result); /* in float, about twice as fast */

#endif
