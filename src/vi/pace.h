/* The rate of a stage: it stays as it is while the ELBO improves, then falls to 0. */
#ifndef NFI_PACE_H
#define NFI_PACE_H
#include <nflow/convergence.h>
#include <nflow/fit.h>

typedef struct nfi_pace {
    nf_convergence *rule;
    uint64_t fall, last; /* the step at which the rate begins to fall, and the number of all steps */
    int (*callback)(void *user, const nf_progress *p); /* the caller's; NULL: none */
    void *user;
    bool stopped; /* by the caller's callback */
} nfi_pace;

/* For at most `steps` steps, by a rule that the caller keeps. */
void nfi_pace_begin(nfi_pace *p, uint64_t steps, nf_convergence *rule);
/* An nf_schedule.call, and an nf_fit_options.callback, whose user is an nfi_pace. */
double nfi_pace_factor(void *pace, uint64_t step);
int nfi_pace_step(void *pace, const nf_progress *progress);

#endif
