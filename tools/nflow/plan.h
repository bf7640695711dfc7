/* How large a flow and how long a fit, from the number of rows and columns: what `nflow fit` does if nobody says. */
#ifndef NFLOW_TOOL_PLAN_H
#define NFLOW_TOOL_PLAN_H
#include "flows.h"

typedef struct plan {
    flow_sizes sizes;
    size_t batch;
    uint64_t steps, warm_up, validate_every, patience;
    double rate, clip, average, weight_decay, noise;
} plan;

/* Fills in what is 0 (NAN for dropout, noise and weight decay) of a plan whose family (FLOW_AUTO: any), dim, n_ctx and
   image are given. n, n_valid: rows of training and of validation. */
void plan_complete(plan *p, size_t n, size_t n_valid);

#endif
