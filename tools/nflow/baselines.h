/* What simple densities reach on the same rows, to judge a flow by. */
#ifndef NFLOW_TOOL_BASELINES_H
#define NFLOW_TOOL_BASELINES_H
#include "estimate.h"
#include "rows.h"

typedef struct baseline {
    size_t components; /* 0: there are too few rows for it */
    estimate test;     /* log-likelihood of a test row given its context, nats, in the units of the table */
} baseline;

/* The three parts of the data, with their weights or NULL. */
typedef struct baseline_data {
    const rows *train, *valid, *test;
    const double *weight[3];
    size_t threads;
    uint64_t seed;
} baseline_data;

/* A mixture of normals with full covariances, fitted to all columns of at most 50000 training rows, of which the
   density of x given the context is taken. components 0: as many as validate best. Exits 1 with one line on failure. */
baseline baseline_of(const baseline_data *d, size_t components);

#endif
