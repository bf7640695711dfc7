/* Objectives from the inside, and the engine of one step. */
#ifndef NFI_OBJECTIVE_H
#define NFI_OBJECTIVE_H
#include "core/model.h"
#include <nflow/objective.h>

struct nf_objective {
    const nf_objective_type *type;
    nf_model *model;
    size_t n;
    void *self;
};

enum { NFI_BLOCK = 4096 }; /* parameters are combined, scaled and updated in blocks, shared out among the threads */

/* What a step's last phase sees. */
typedef struct nfi_gradient {
    nf_real *g;                   /* the mean gradient [n_params] */
    const nf_step_report *report; /* complete */
    bool finite;                  /* loss and gradient */
} nfi_gradient;

/* Called by every thread of the team inside the step's parallel region. Thread k of n owns blocks k, k + n, ... */
typedef void nfi_finish_fn(void *user, const nfi_gradient *gradient, size_t thread, size_t n_threads);

/* One step: begin, forward, gather, backward, reduction, `finish` (NULL: none). With step->gradient the pass is in
   NF_TRAIN and running statistics advance, otherwise it is in NF_EVAL. */
nf_status nfi_step(nf_objective *o, nf_workspace *ws, const nf_step *step, nfi_finish_fn *finish, void *user,
                   nf_step_report *report);

#endif
