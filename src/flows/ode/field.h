/* The field dz/dt = f(z, t, context) of a continuous flow, a net, with the trace of its Jacobian:

       tr(df/dz) = w sum_j <e_j, J e_j>,

   exactly with the dim unit vectors e_j and w = 1, by Hutchinson's estimate with k random e_j and w = 1 / k. */
#ifndef NFI_ODE_FIELD_H
#define NFI_ODE_FIELD_H
#include "flows/ode/solver.h"
#include <stdatomic.h>

/* What solvers did, added up by all threads: nf_ode_counts. */
typedef struct nfi_ode_tally {
    atomic_uint_fast64_t solves, evaluations, gradients, steps, rejected, failed;
} nfi_ode_tally;

/* A continuous flow's own. */
typedef struct nfi_continuous {
    nf_continuous_options options; /* settled */
    nfi_ode_tally *tally;
} nfi_continuous;

typedef struct nfi_field {
    const nf_object *net;
    nf_pass pass; /* the net's; its tape is not used */
    const nfi_continuous *flow;
    size_t dim, k;
    nf_real weight;
    nf_real *e; /* [dim + 1 x k ld]; the direction of time is 0 */
} nfi_field;

/* The field at one point, with what its vector-Jacobian product needs. */
typedef struct nfi_field_point {
    const nf_real *u, *y; /* (z, t) [dim + 1 x ld], f [dim x ld] */
    bool has_trace;
    nf_real *dy; /* [dim x k ld] */
    void *saved, *saved_tangent;
} nfi_field_point;

/* The directions are on p->scratch; the caller rewinds it. */
nf_status nfi_field_begin(const nf_object *o, const nf_pass *p, nfi_field *f);
/* y = f(u), and trace [ld] unless it is NULL. `at`, if not NULL, is for a gradient: it stays on the scratch arena, as
   long as y and u stay where they are. */
nf_status nfi_field_at(const nfi_field *f, const nf_real *u, nf_real *y, nf_real *trace, nfi_field_point *at);
/* gu [dim + 1 x ld] = the gradient of <gy, y> + <g_trace, trace> in (z, t); that in parameters and context is added to
   g. g_trace NULL: zeros; otherwise the point must have a trace. gu NULL: not wanted. */
nf_status nfi_field_vjp(const nfi_field *f, const nfi_field_point *at, const nf_real *gy, const nf_real *g_trace,
                        nf_real *gu, const nf_grad *g);

/* A solve of the flow's equation by its options, from one end to the other: rows, f, user and what is left over are the
   caller's. */
nfi_ode nfi_continuous_ode(const nf_object *o, const nf_pass *p, nf_direction d);
/* Runs it and counts. */
nf_status nfi_continuous_solve(const nfi_continuous *c, nfi_ode *ode, nf_real *u, nf_real *l);

/* ---- gradients, for the hook `vjp` of the flow ---- */

/* The steps of a solve, the last one first: points [dim + 1 x ld] and lengths [ld]. */
typedef struct nfi_ode_record {
    const struct nfi_ode_record *before;
    nf_real *u, *h;
} nfi_ode_record;

/* Back through the recorded steps of direction d. g_log_det NULL: zeros, without a trace. */
nf_status nfi_through_steps(const nf_object *o, nf_direction d, const nf_pass *p, const nfi_ode_record *last,
                            const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
/* By the adjoint equation, from y. */
nf_status nfi_adjoint(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *y, const nf_real *gy,
                      const nf_real *g_log_det, nf_real *gx, const nf_grad *g);

#endif
