/*
 * Times the steps of nf_fit from its callback: the mean over blocks of consecutive steps, of which the median is told.
 * What is timed is a whole step: noise, forward, backward, reduction, the optimizer's update.
 */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H
#include <nflow/nflow.h>

enum { TIMING_BLOCKS = 2000 };

typedef struct timing {
    size_t steps_a_block;
    double start, first_step; /* clock at the program's start; seconds from there to the end of the first step */
    double begin;             /* of the present block */
    size_t n_blocks;
    double block[TIMING_BLOCKS]; /* seconds a step */
    double evaluations;          /* of a differential equation's field, a step; 0: there is none */
    double recomputed;           /* of them, those that the gradient makes */
    size_t bytes;                /* memory of the workspace; 0: not told */
} timing;

/* `start` is cli_seconds() at the start of main. */
void timing_start(timing *t, double start, size_t steps_a_block);
/* The callback of nf_fit; user is the timing. */
int timing_step(void *timing, const nf_progress *progress);
/* Times maximum likelihood of n rows x [n x dim], all of them in every step. */
void timing_train(timing *t, nf_model *m, size_t n, size_t dim, const nf_real *x, size_t steps, size_t threads);
/* Prints a line and, if json_path is not NULL, writes one object. Sorts the blocks. */
void timing_report(timing *t, const char *json_path, const char *workload, size_t threads);

#endif
