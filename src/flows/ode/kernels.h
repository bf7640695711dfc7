/* Kernels of continuous flows. Rows are arrays [ld], one number a sample; each sample has its own time and step. */
#ifndef NFI_ODE_KERNELS_H
#define NFI_ODE_KERNELS_H
#include "base/kernel.h"

/* out = base + h sum_j w[j] k_j for j < n, where k_j begins at k + j stride. base NULL: zeros. All arrays [rows x ld],
   h [ld]. Weights of 0 are skipped. out may be base. */
NFI_KERNEL void nfi_ode_combine(size_t rows, size_t ld, size_t n, const nf_real *w, const nf_real *h, size_t stride,
                                const nf_real *k, const nf_real *base, nf_real *out);
/* out = t + c h, but exactly `to` if c is 1 and h is all that is left. */
NFI_KERNEL void nfi_ode_time(size_t ld, nf_real c, nf_real to, const nf_real *h, const nf_real *t, nf_real *out);
/* sums += the sum over the rows of share ((x - minus) / (atol + rtol max(|a|, |b|)))^2; minus NULL: 0. */
NFI_KERNEL void nfi_ode_norm(size_t rows, size_t ld, nf_real rtol, nf_real atol, nf_real share, const nf_real *x,
                             const nf_real *minus, const nf_real *a, const nf_real *b, nf_real *sums);
/* out = x where chosen is not 0, for each of the rows. */
NFI_KERNEL void nfi_ode_choose(size_t rows, size_t ld, const nf_real *chosen, const nf_real *x, nf_real *out);

/* ---- control of steps (solver.c): rows of `work`, each [ld] ---- */

enum {
    NFI_ODE_STEP,   /* the length of the next step, with its sign; 0 if the sample is done or has failed */
    NFI_ODE_TAKEN,  /* of the step that was tried: its length, 0 if it was rejected */
    NFI_ODE_BEFORE, /* log of the error of the last accepted step */
    NFI_ODE_LENGTH, /* its length; 0: there is none yet */
    NFI_ODE_MOST,   /* by which factor a step may grow */
    NFI_ODE_ACTIVE, /* 1 or 0 */
    NFI_ODE_FAILED, /* 1 or 0 */
    NFI_ODE_ROWS
};

typedef struct nfi_ode_law {
    nf_real to, length;   /* where t ends; with its sign, how far away it was at first */
    nf_real order, least; /* of the method; the shortest step, in units of t (but of at least length / 1024) */
} nfi_ode_law;

/* Hairer, Norsett & Wanner 1993, II.4. From the squares of the norms of z and f: the length of a trial step. Then with
   the square of the norm of the difference of f: the first step. squares NULL: the trial step. */
NFI_KERNEL void nfi_ode_first(size_t ld, const nfi_ode_law *law, const nf_real *of_z, const nf_real *of_f,
                              const nf_real *of_change, nf_real *step);
/* Accepts or rejects a step from t to t_next with mean square error `square`, and chooses the next. Returns how many
   samples are still active. */
NFI_KERNEL nf_real nfi_ode_control(size_t ld, const nfi_ode_law *law, const nf_real *square, const nf_real *t,
                                   const nf_real *t_next, nf_real *work);

/* ---- traces ---- */

/* out = weight * the sum over rows and the k directions of e dy, arrays [rows x k ld] (nn/directions.h). */
NFI_KERNEL void nfi_ode_trace(size_t rows, size_t k, size_t ld, nf_real weight, const nf_real *e, const nf_real *dy,
                              nf_real *out);
/* The same where the directions are those of the axes: out = the sum of dy_rr. */
NFI_KERNEL void nfi_ode_diagonal(size_t rows, size_t ld, const nf_real *dy, nf_real *out);
/* sums += weight * the sum over the rows of x^2, and its gradient in x: gx += 2 weight g x. */
NFI_KERNEL void nfi_ode_squares(size_t rows, size_t ld, nf_real weight, const nf_real *x, nf_real *sums);
NFI_KERNEL void nfi_ode_squares_vjp(size_t rows, size_t ld, nf_real weight, const nf_real *g, const nf_real *x,
                                    nf_real *gx);
/* gdy = weight g e */
NFI_KERNEL void nfi_ode_trace_vjp(size_t rows, size_t k, size_t ld, nf_real weight, const nf_real *g, const nf_real *e,
                                  nf_real *gdy);

#endif
