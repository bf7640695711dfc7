/* The field dz/dt = f(z, t, context) of a continuous flow, a net, with the trace of its Jacobian:

       tr(df/dz) = w sum_j <e_j, J e_j>,

   exactly with the dim unit vectors e_j and w = 1, by Hutchinson's estimate with k random e_j and w = 1 / k, and the
   rate of a penalty (Finlay et al. 2020: kinetic energy, and the Frobenius norm of the Jacobian),

       r = kinetic |f|^2 + jacobian w sum_j |J e_j|^2,

   which in the mean over e_j is |J|_F^2. From T to 0, where dt is negative, r is -r: integrals are penalties. */
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
    nf_trace trace; /* of the pass: of training or of scores */
    size_t dim, k;
    nf_real weight;
    bool has_penalty;
    nf_real kinetic, jacobian; /* the second one times w; both with the sign of the direction */
    nf_real *e;                /* [dim + 1 x k ld]; the direction of time is 0 */
} nfi_field;

/* The field at one point, with what its vector-Jacobian product needs; all of it is on one arena. */
typedef struct nfi_field_point {
    const nf_real *u, *y; /* (z, t) [dim + 1 x ld], f [dim x ld] */
    bool has_trace;
    nf_real *dy; /* [dim x k ld] */
    void *saved, *saved_tangent;
} nfi_field_point;

/* The field of the flow's direction d. The directions e are on p->scratch; the caller rewinds it. */
nf_status nfi_field_begin(const nf_object *o, const nf_pass *p, nf_direction d, nfi_field *f);
/* y = f(u), and trace [ld] and rate [ld] unless they are NULL; no rate without a trace. *at, unless `at` is NULL, is
   for a gradient, and its arrays are on the arena `keep`, which may be the scratch arena. */
nf_status nfi_field_at(const nfi_field *f, const nf_real *u, nf_real *y, nf_real *trace, nf_real *rate, nf_arena *keep,
                       nfi_field_point *at);
/* gu [dim + 1 x ld] = the gradient of <gy, y> + <g_trace, trace> + <g_rate, rate> in (z, t); that in parameters and
   context is added to g. g_trace NULL: zeros, also for g_rate; otherwise the point must have a trace. g_rate NULL:
   zeros. gu NULL: not wanted. */
nf_status nfi_field_vjp(const nfi_field *f, const nfi_field_point *at, const nf_real *gy, const nf_real *g_trace,
                        const nf_real *g_rate, nf_real *gu, const nf_grad *g);
/* The cotangent of the integral of rates; NULL: zeros. */
static inline const nf_real *nfi_field_g_rate(const nfi_field *f, const nf_pass *p)
{
    return f->has_penalty ? p->g_penalty : NULL;
}

/* A solve of the flow's equation by its options, from one end to the other: rows, f, user and what is left over are the
   caller's. */
nfi_ode nfi_continuous_ode(const nf_object *o, const nf_pass *p, nf_direction d);
/* Runs it and counts. */
nf_status nfi_continuous_solve(const nfi_continuous *c, nfi_ode *ode, nf_real *u, nf_real *l);

/* The hook `vjp` of the flow by the adjoint equation, from y. */
nf_status nfi_adjoint(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *y, const nf_real *gy,
                      const nf_real *g_log_det, nf_real *gx, const nf_grad *g);

#endif
