/* Residual flows y = x + g(x) of a contraction g: what their hooks, their log-dets and their solvers share. */
#ifndef NFI_CONTRACTION_H
#define NFI_CONTRACTION_H
#include "base/kernel.h"
#include "object/tree.h"
#include <nflow/residual.h>

/* How a log-det is computed: the options for training, or for everything else. */
typedef struct nfi_log_det_method {
    nf_log_det log_det;
    size_t terms, directions; /* directions of a tangent: dim for exact log-dets, else the probes */
} nfi_log_det_method;

/* The layer's self. */
typedef struct nfi_contraction {
    nf_residual_flow_options options; /* settled; score_log_det as it was given */
    nfi_log_det_method method[2];     /* by nf_mode */
    bool newton;                      /* the inverse takes Newton's steps, in both modes */
} nfi_contraction;

static inline const nfi_contraction *nfi_contraction_of(const nf_object *o)
{
    return nf_self(o);
}
static inline const nfi_log_det_method *nfi_contraction_method(const nf_object *o, const nf_pass *p)
{
    return &nfi_contraction_of(o)->method[p->mode == NF_TRAIN];
}

/* What a pass keeps: g(x) and the net's records; for exact log-dets the tangent's, its Jacobian dg/dx and the factors
   of I + dg/dx [dim x dim x ld]; for estimates the probes v and the vectors w [dim x probes x ld]
   (contraction_estimate.c). Of the last five fields, those of the other method are NULL. */
typedef struct nfi_contraction_saved {
    void *net;
    nf_real *g;
    void *tangent;
    nf_real *jacobian, *factors, *v, *w;
} nfi_contraction_saved;

/* The pass of the net, with its records on `memory`. */
static inline nf_pass nfi_contraction_pass(const nf_object *o, const nf_pass *p, nf_arena *memory)
{
    nf_pass q = nf_child_pass(o, 0, p);
    q.tape = memory;
    return q;
}
/* The net runs at x; q->g and q->net are set (contraction.c). They and what the next function keeps are on the tape, or
   without a tape on scratch, which the caller rewinds. */
nf_status nfi_contraction_net(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q);
/* Then: the Jacobian and its factors; log_det += log det(I + dg/dx). */
nf_status nfi_contraction_factors(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_det,
                                  nfi_contraction_saved *q);
/* Or: log_det += an estimate; q->v and q->w for its gradient. */
nf_status nfi_contraction_estimate(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_det,
                                   nfi_contraction_saved *q);
/* What the gradient of an estimate needs: the cotangents gdy of J w, J w itself, and the tangent's records. */
nf_status nfi_contraction_estimate_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q,
                                       const nf_real *g_log_det, nf_real *gdy, nf_real **dy, void **tangent);
/* Solves x + g(x) = y for each sample; NaN where that does not converge (contraction_solve.c). With Newton's steps also
   log_det = log det(I + dg/dx) at the solution, exact; otherwise log_det is not touched. */
nf_status nfi_contraction_invert(const nf_object *o, const nf_pass *p, const nf_real *y, nf_real *x, double *log_det);
/* Solves (I + dg/dx)^T gy = gx likewise, at the point of q, without its factors. */
nf_status nfi_contraction_solve_jt(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q,
                                   const nf_real *gx, nf_real *gy);

/* ---- narrower tiles (contraction_narrow.c) ---- */

/* A tile of those samples of another one that an iteration or a series goes on with, without gaps. Columns do not meet,
   so results are the same bits as in the wide tile. */
typedef struct nfi_narrow {
    nf_pass p;              /* the pass with these samples alone, without a tape */
    const uint32_t *column; /* [p.n] their columns in the widest tile; NULL: p is that tile */
    const uint32_t *from;   /* [p.n] their columns in the tile before this one */
    size_t ld;              /* of the tile before this one */
} nfi_narrow;

/* The whole tile. */
nfi_narrow nfi_narrow_none(const nf_pass *p);
/* Leaves out the samples whose go_on [q->p.ld] is 0, if that makes the tile at most half as wide, and says
   in *done whether it did. Memory is from scratch. */
nf_status nfi_narrow_to(const nf_object *o, const nf_real *go_on, nfi_narrow *q, bool *done);
/* A copy of the samples that are left of an array [rows x q->ld]; NULL if memory is out. */
nf_real *nfi_narrow_copy(const nfi_narrow *q, size_t rows, const nf_real *wide);
/* Writes the samples of an array [rows x q->p.ld] to their columns in the widest tile, [rows x ld]. */
void nfi_narrow_put(const nfi_narrow *q, size_t rows, const nf_real *narrow, size_t ld, nf_real *wide);

/* ---- kernels ---- */

/* LU of A = I + J without pivots, J [dim x dim x ld]: if |J| < 1 all leading minors of A are positive. log_det += the
   sum of the logarithms of the pivots, NaN where one is not positive. */
NFI_KERNEL void nfi_contraction_lu(size_t dim, size_t ld, const nf_real *J, nf_real *lu, double *log_det);
/* b = A^-1 b, or A^-T b, in place; b [dim x ld]. */
NFI_KERNEL void nfi_contraction_lu_solve(size_t dim, size_t ld, const nf_real *lu, bool transposed, nf_real *b);
/* gx = (I + J)^T gy */
NFI_KERNEL void nfi_contraction_transposed(size_t dim, size_t ld, const nf_real *J, const nf_real *gy, nf_real *gx);
/* Feature r of e [dim x ld] is `value` [ld] (NULL: ones), the others are 0. */
NFI_KERNEL void nfi_contraction_unit(size_t dim, size_t ld, size_t r, const nf_real *value, nf_real *e);

/* The coefficients of a term that a share of the samples has, those with u < share: sign / share, and 0 for the others.
   u [ld] is uniform on (0, 1). Returns how many samples have the term. */
NFI_KERNEL size_t nfi_contraction_coefficients(size_t ld, nf_real sign, double share, const nf_real *u, nf_real *c);
/* w += c s, for probes, arrays [rows x ld]; c [ld]. */
NFI_KERNEL void nfi_contraction_add(size_t rows, size_t ld, const nf_real *c, const nf_real *s, nf_real *w);
/* term = scale c <v, s>, the sum over the rows. */
NFI_KERNEL void nfi_contraction_term(size_t rows, size_t ld, double scale, const nf_real *c, const nf_real *v,
                                     const nf_real *s, double *term);
/* v = scale v c[s] for all rows. */
NFI_KERNEL void nfi_contraction_scale(size_t rows, size_t ld, nf_real scale, const nf_real *c, const nf_real *v,
                                      nf_real *out);

/* ---- the loop of the solvers ----

   Arrays of an iteration for F(x) = 0, [dim x ld] but for the last three, [ld]: x, F; the best point so far and its F,
   the point before and its F; the step to be taken; |F| of the best point, its goal, and whether the sample goes on: 1,
   for one more step 1/2, or 0. `good` says that x is the best point. */
typedef struct nfi_iteration {
    size_t dim, ld;
    nf_real *x, *F, *best, *best_F, *former, *former_F, *step, *error, *goal, *active, *good;
} nfi_iteration;

/* Begins at x = b with goals tolerance (1 + max |b|). Samples whose b is not finite are not begun. */
NFI_KERNEL void nfi_iteration_begin(const nfi_iteration *q, nf_real tolerance, const nf_real *b);
/* Looks at F of x. Returns how many samples go on. `polish`: a sample that has reached its goal takes one more step. */
NFI_KERNEL size_t nfi_iteration_judge(const nfi_iteration *q, bool polish);
/* x = x - step, or from a point that was not good best - best_F, which is what x = b - g(x) gives at the best point
   and makes |F| smaller. */
NFI_KERNEL void nfi_iteration_move(const nfi_iteration *q);
/* The step of Anderson acceleration with one former point (Walker & Ni 2011): F - theta (dF - dx),
   theta = <F, dF> / <dF, dF>, d the difference from the former point. At first it is F. Keeps x as former point. */
NFI_KERNEL void nfi_iteration_anderson(const nfi_iteration *q, bool first);
/* x = the best points, NaN where a sample has not converged. */
NFI_KERNEL void nfi_iteration_end(const nfi_iteration *q, nf_real *x);

#endif
