/* What a solve leaves on the tape, for its gradient (through_steps.c): of each step the state at its start and its
   lengths; and, where samples share their steps and as long as NFI_KEPT_BYTES last, what the vector-Jacobian products
   of its stages need, so that the gradient does not compute the stages again. A later stage 0 is the evaluation at the
   end of the step before it. */
#ifndef NFI_ODE_RECORD_H
#define NFI_ODE_RECORD_H
#include "flows/ode/field.h"

enum {
    NFI_KEPT_BYTES = 1 << 23
}; /* of stages, for a tile; what does not stay in a cache takes as long to read again
      as to compute again */

/* The steps of a solve, the last one first: points [dim + 1 x ld] and lengths [ld]. */
typedef struct nfi_ode_record {
    const struct nfi_ode_record *before;
    const nf_real *u, *h;
    const nfi_field_point *at; /* [stages]; NULL: they are to be computed again */
} nfi_ode_record;

typedef struct nfi_recorder {
    nf_arena *tape; /* NULL: nothing is recorded */
    nfi_ode_record *last;
    bool keeps;  /* the stages */
    size_t room; /* stages that there is room for */
    nf_mark end; /* of the tape, behind stage 0 of the step that is being tried */
    nfi_field_point at[NFI_MOST_STAGES + 1];
} nfi_recorder;

/* Records a solve from its start on. has_trace: whether the stages have one. */
void nfi_recorder_begin(const nfi_field *f, const nfi_ode *o, nf_arena *tape, nfi_recorder *r);
/* Evaluates the field for o, as an nfi_ode_fn does; keeps the stage if it is to be kept. */
nf_status nfi_recorder_evaluate(nfi_recorder *r, const nfi_field *f, const nfi_ode *o, const nf_real *u,
                                bool quadrature, nf_real *k);
/* Records a step, as an nfi_ode_step_fn does. */
nf_status nfi_recorder_step(nfi_recorder *r, const nfi_ode *o, const nf_real *points, const nf_real *h);

/* Back through the recorded steps of direction d. g_log_det NULL: zeros, without a trace. */
nf_status nfi_through_steps(const nf_object *o, nf_direction d, const nf_pass *p, const nfi_ode_record *last,
                            const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);

#endif
