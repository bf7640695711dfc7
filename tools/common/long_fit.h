/*
 * A fit of hours: it ends after a time or a number of steps, keeps a learning curve and a checkpoint, is interrupted by
 * Ctrl-C and resumed from its files.
 */
#ifndef TOOLS_LONG_FIT_H
#define TOOLS_LONG_FIT_H
#include "learning_curve.h"
#include <nflow/nflow.h>

typedef struct long_fit_options {
    const char *what;       /* for the progress bar */
    const char *checkpoint; /* written at each validation and at the end */
    const char *curve;      /* file of the learning curve */
    const char *title;      /* its first line: what must be the same where a fit is resumed; NULL: nothing */
    bool resume;            /* continue from these files, if they are there; otherwise they must not be */
    uint64_t steps;         /* of the whole fit; 0: the time ends it */
    double minutes;         /* of the whole fit, if `steps` is 0: those before an interruption count, too */
    uint64_t warm_up; /* in these steps the rate rises. It falls along a cosine to 0 at the end of steps or time */
    /* What is shown and kept in place of a loss is factor loss + offset: bits per dimension say, or a log-likelihood in
       other units. */
    double factor, offset;
    const char *figure; /* its name for the progress bar: "bits/dim" */
} long_fit_options;

/* Fits o's model, which then has the best parameters. `fit` has the other options, with a validation every
   validate_every steps; its steps, schedule, callback and checkpoint are set here. With `steps` the results are the
   same with and without interruptions. *c is the whole curve, to be released by learning_curve_free(). */
nf_fit_report long_fit(nf_objective *o, const nf_fit_options *fit, const long_fit_options *how, learning_curve *c);

#endif
