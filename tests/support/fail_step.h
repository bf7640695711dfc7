/* A step of an objective without memory: each allocation fails in turn, and nothing is left behind. */
#ifndef FAIL_STEP_H
#define FAIL_STEP_H
#include "expect.h"
#include "fail_alloc.h"
#include <nflow/nflow.h>

/* An objective of the model over `of`, its data or its target. */
typedef nf_objective *objective_of(nf_model *m, const void *of);

static inline nf_objective *likelihood_of(nf_model *m, const void *data)
{
    return nf_maximum_likelihood(m, data, &(nf_likelihood_options){.batch = 50});
}

/* fail: fail_alloc_after or fail_arena_once. g: room for the gradient. Returns how many allocations there are. */
static inline size_t fail_each_of_a_step(void (*fail)(size_t), objective_of *make, nf_model *m, const void *of,
                                         nf_real *g)
{
    const size_t before = alloc_live();
    for (size_t k = 0;; k++) {
        fail(k);
        nf_objective *o = make(m, of);
        nf_workspace *ws = o ? nf_workspace_new(2) : NULL;
        nf_status st = ws ? nf_objective_gradient(o, ws, 1, 1, NULL, g) : nf_error_status();
        bool failed = fail_alloc_off();
        nf_objective_free(o);
        nf_workspace_free(ws);
        cr_assert_eq(alloc_live(), before);
        cr_assert_eq(st, failed ? NF_ENOMEM : NF_OK);
        if (!failed)
            return k;
    }
}

#endif
