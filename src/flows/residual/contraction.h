/* Residual flows y = x + g(x) of a contraction g: what their hooks, their log-dets and their solvers share. */
#ifndef NFI_CONTRACTION_H
#define NFI_CONTRACTION_H
#include "base/kernel.h"
#include "object/tree.h"
#include <nflow/residual.h>

/* The layer's self. */
typedef struct nfi_contraction {
    nf_residual_flow_options options; /* settled, and what depends on the dimension is filled in */
    size_t directions;                /* of a tangent: dim for exact log-dets, else the probes */
} nfi_contraction;

/* What a pass keeps: g(x) and the net's records; for exact log-dets the tangent's, its Jacobian dg/dx and the factors
   of I + dg/dx [dim x dim x ld]; for estimates the probes v and the vectors w [dim x probes x ld] (contraction.c). */
typedef struct nfi_contraction_saved {
    void *net, *tangent;
    nf_real *g, *jacobian, *factors, *v, *w;
} nfi_contraction_saved;

/* The net runs at x; q->g and q->net are set (contraction.c). They and what the next function keeps are on the tape, or
   without a tape on scratch, which the caller rewinds. */
nf_status nfi_contraction_net(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q);
/* Then: the Jacobian and its factors; log_det += log det(I + dg/dx). */
nf_status nfi_contraction_factors(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_det,
                                  nfi_contraction_saved *q);
/* Solves x + g(x) = y for each sample; NaN where that does not converge (contraction_solve.c). */
nf_status nfi_contraction_invert(const nf_object *o, const nf_pass *p, const nf_real *y, nf_real *x);
/* Solves (I + dg/dx)^T gy = gx likewise, at the point of q, without its factors. */
nf_status nfi_contraction_solve_jt(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q,
                                   const nf_real *gx, nf_real *gy);

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
/* log_det += scale c <v, s>, summed over the rows. */
NFI_KERNEL void nfi_contraction_term(size_t rows, size_t ld, double scale, const nf_real *c, const nf_real *v,
                                     const nf_real *s, double *log_det);
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
