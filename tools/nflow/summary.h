/* What a fit has brought, in plain words on stdout and as JSON. */
#ifndef NFLOW_TOOL_SUMMARY_H
#define NFLOW_TOOL_SUMMARY_H
#include "train.h"

typedef struct fit_outcome {
    const char *model_path, *json_path; /* json_path NULL: no JSON */
    const char *family;
    const rows *train, *valid, *test; /* columns and places; scored in the data's own units */
    const double *weight[3];          /* of these rows, or NULL */
    const train_result *result;
    bool baselines;              /* also fit the simple densities that the flow is compared with */
    uint64_t planned_steps;      /* 0: the time ended the fit */
    bool interrupted, held_back; /* see fit_data.h */
    const char *test_name;
    size_t threads;
    uint64_t seed;
} fit_outcome;

/* Scores the test rows by the saved model, beside a normal with full covariance and a mixture of such normals fitted to
   the same training rows. Exits 1 with one line on failure. */
void summarise(const fit_outcome *o);

#endif
