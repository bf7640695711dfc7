/* Solves dz/dt = f(z, t) for the samples of a tile, by any rule of rules.h.

   An array u [rows x ld] has the state z in its first rows and the time of each sample in the last one; an array k of
   derivatives has dz/dt there and in its last row the derivative of the quadrature, an integral l that f does not
   read. Further quadratures, which do not choose steps, have rows of k after that one. */
#ifndef NFI_ODE_SOLVER_H
#define NFI_ODE_SOLVER_H
#include "flows/ode/rules.h"

typedef struct nfi_ode nfi_ode;

/* k = derivatives at u. If not `quadrature`, the rows of quadratures are not read and may be left alone. */
typedef nf_status nfi_ode_fn(const nfi_ode *o, const nf_real *u, bool quadrature, nf_real *k);
/* Called for every step in which a sample moves: the stages' points u_i [stages x rows x ld], and the length of the
   step, 0 for a sample that does not move. */
typedef nf_status nfi_ode_step_fn(const nfi_ode *o, const nf_real *points, const nf_real *h);

/* The value of nfi_ode.stage while a trial step is made, which only chooses the first step's length. */
enum { NFI_ODE_TRIAL = NFI_MOST_STAGES + 1 };

struct nfi_ode {
    const nf_pass *pass; /* n, ld, scratch */
    const nfi_rule *rule;
    nf_real rtol, atol, from, to;
    size_t most;     /* steps: of an adaptive rule at most, of another one exactly */
    size_t rows;     /* of u */
    size_t columns;  /* samples that are solved: n, or ld with the padding, which repeats sample n - 1 */
    bool quadrature; /* whether there is one; it is then part of the error's norm */
    size_t further;  /* quadratures beside that one, which are no part of the norm; 0 if there is no first one */
    bool shared;     /* whether the samples share their steps */
    nfi_ode_fn *f;
    nfi_ode_step_fn *step; /* NULL: none */
    void *user;
    size_t stage; /* written: which stage f is called for; rule->stages where it is the next step's stage 0 */
    size_t evaluations, taken, rejected, failed; /* written: of f; steps of the tile; samples without a result */
};

/* Starts from the state in u; u becomes the state at o->to, and l [1 + further x ld] the quadratures, 0 at first. All
   are NaN where a sample failed. l is not used if there is no quadrature. */
nf_status nfi_ode_solve(nfi_ode *o, nf_real *u, nf_real *l);

/* Points [stages x rows x ld] and derivatives [stages x rows + further x ld] of the stages first <= i < rule->stages of
   a step of lengths h from point 0. The derivatives before `first` are there. */
nf_status nfi_ode_stages(nfi_ode *o, size_t first, const nf_real *h, nf_real *points, nf_real *k);

#endif
