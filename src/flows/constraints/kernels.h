/* The kernels of the constraints, on the features of a tile. x is what the forward direction takes and y what it gives.
   The log-det of the kernel's direction is added to log_det [ld]. gl [ld] is the cotangent of the log-det, gx and gy
   are those of x and y. A vector-Jacobian product overwrites the cotangent of the direction's input: gx forward, gy
   in the inverse direction. */
#ifndef NFI_CONSTRAINT_KERNELS_H
#define NFI_CONSTRAINT_KERNELS_H
#include "base/kernel.h"
#include <nflow/flow.h>

/* ---- bounds: one feature; `from` enters in direction d, `to` leaves ---- */

typedef enum nfi_bound_kind {
    NFI_IDENTITY,
    NFI_LOWER,
    NFI_UPPER,
    NFI_INTERVAL,
    NFI_SCALED,
    NFI_N_BOUND_KINDS
} nfi_bound_kind;

/* a: the lower bound or the offset; b: the upper bound; w: b - a or the multiplier. Those that a kind does not use
   are 0. */
typedef struct nfi_bound {
    nf_real a, b, w;
    double log_w;
} nfi_bound;

NFI_KERNEL void nfi_bounds_apply(nfi_bound_kind is, nf_direction d, nfi_bound q, size_t ld, const nf_real *from,
                                 nf_real *to, double *log_det);
NFI_KERNEL void nfi_bounds_pull_back(nfi_bound_kind is, nf_direction d, nfi_bound q, size_t ld, const nf_real *from,
                                     const nf_real *g_to, const nf_real *gl, nf_real *g_from);

/* ---- ordered: x, y [K x ld]; `positive`: x[0] is an exponent, too ---- */

NFI_KERNEL void nfi_ordered_forward(size_t K, bool positive, size_t ld, const nf_real *x, nf_real *y, double *log_det);
NFI_KERNEL void nfi_ordered_inverse(size_t K, bool positive, size_t ld, const nf_real *y, nf_real *x, double *log_det);
/* tail [ld] is scratch. */
NFI_KERNEL void nfi_ordered_forward_vjp(size_t K, bool positive, size_t ld, const nf_real *x, const nf_real *gy,
                                        const nf_real *gl, nf_real *gx, nf_real *tail);
NFI_KERNEL void nfi_ordered_inverse_vjp(size_t K, bool positive, size_t ld, const nf_real *y, const nf_real *gx,
                                        const nf_real *gl, nf_real *gy);

/* ---- simplexes, both forms ---- */

/* One simplex of a tile: entry i of x and of y is at [i * step], where step is a multiple of ld. scratch
   [K + 2 x ld]. */

NFI_KERNEL void nfi_simplex_stick_forward(size_t K, size_t step, size_t ld, const nf_real *x, nf_real *y,
                                          double *log_det, nf_real *scratch);
NFI_KERNEL void nfi_simplex_stick_inverse(size_t K, size_t step, size_t ld, const nf_real *y, nf_real *x,
                                          double *log_det, nf_real *scratch);
NFI_KERNEL void nfi_simplex_stick_forward_vjp(size_t K, size_t step, size_t ld, const nf_real *x, const nf_real *y,
                                              const nf_real *gy, const nf_real *gl, nf_real *gx, nf_real *scratch);
NFI_KERNEL void nfi_simplex_stick_inverse_vjp(size_t K, size_t step, size_t ld, const nf_real *y, const nf_real *x,
                                              const nf_real *gx, const nf_real *gl, nf_real *gy, nf_real *scratch);
NFI_KERNEL void nfi_simplex_ilr_forward(size_t K, size_t step, size_t ld, const nf_real *x, nf_real *y, double *log_det,
                                        nf_real *scratch);
NFI_KERNEL void nfi_simplex_ilr_inverse(size_t K, size_t step, size_t ld, const nf_real *y, nf_real *x, double *log_det,
                                        nf_real *scratch);
NFI_KERNEL void nfi_simplex_ilr_forward_vjp(size_t K, size_t step, size_t ld, const nf_real *x, const nf_real *y,
                                            const nf_real *gy, const nf_real *gl, nf_real *gx, nf_real *scratch);
NFI_KERNEL void nfi_simplex_ilr_inverse_vjp(size_t K, size_t step, size_t ld, const nf_real *y, const nf_real *x,
                                            const nf_real *gx, const nf_real *gl, nf_real *gy, nf_real *scratch);

/* ---- products with Helmert's matrix V [K x (K-1)] (helmert.c) ---- */

/* y [K] = V x. Feature i of x is at [i * step_x], feature i of y at [i * step_y]. Both steps are multiples of ld: the
   numbers may be those of a row of a matrix, which are not always consecutive. */
NFI_KERNEL void nfi_helmert(size_t K, size_t ld, size_t step_x, size_t step_y, const nf_real *x, nf_real *y);
/* x [K - 1] = V^T y; sum [ld] is scratch. */
NFI_KERNEL void nfi_helmert_transposed(size_t K, size_t ld, size_t step_x, size_t step_y, const nf_real *y, nf_real *x,
                                       nf_real *sum);

/* ---- the Cholesky factor of a correlation matrix ---- */

/* Row i of the factor: x [i x ld]. L points to the entry (i, 0); each next entry is `step` further. */

NFI_KERNEL void nfi_cholesky_corr_forward(size_t i, size_t step, size_t ld, const nf_real *x, nf_real *L,
                                          double *log_det);
/* r [ld] is scratch. */
NFI_KERNEL void nfi_cholesky_corr_inverse(size_t i, size_t step, size_t ld, const nf_real *L, nf_real *x,
                                          double *log_det, nf_real *r);
/* work: [2 rows x ld] */
NFI_KERNEL void nfi_cholesky_corr_forward_vjp(size_t i, size_t step, size_t ld, const nf_real *x, const nf_real *gL,
                                              const nf_real *gl, nf_real *gx, nf_real *work);
/* The entries of gL beyond the diagonal must be zeros before. b [ld] is scratch. */
NFI_KERNEL void nfi_cholesky_corr_inverse_vjp(size_t i, size_t step, size_t ld, const nf_real *L, const nf_real *gx,
                                              const nf_real *gl, nf_real *gL, nf_real *b);

/* ---- the diagonal of a covariance matrix's Cholesky factor: y = e^x, one feature ---- */

NFI_KERNEL void nfi_cholesky_cov_exp(size_t ld, const nf_real *x, nf_real *y, double *log_det);
NFI_KERNEL void nfi_cholesky_cov_log(size_t ld, const nf_real *y, nf_real *x, double *log_det);
NFI_KERNEL void nfi_cholesky_cov_exp_vjp(size_t ld, const nf_real *x, const nf_real *gy, const nf_real *gl,
                                         nf_real *gx);
NFI_KERNEL void nfi_cholesky_cov_log_vjp(size_t ld, const nf_real *y, const nf_real *gx, const nf_real *gl,
                                         nf_real *gy);

/* ---- S = L L^T of a covariance or of a correlation matrix; all arrays [K x K x ld] ---- */

NFI_KERNEL void nfi_gram_forward(size_t K, bool correlation, size_t ld, const nf_real *L, nf_real *S, double *log_det);
NFI_KERNEL void nfi_gram_inverse(size_t K, bool correlation, size_t ld, const nf_real *S, nf_real *L, double *log_det);
/* sum [ld] is scratch. */
NFI_KERNEL void nfi_gram_forward_vjp(size_t K, bool correlation, size_t ld, const nf_real *L, const nf_real *gS,
                                     const nf_real *gl, nf_real *gL, nf_real *sum);
NFI_KERNEL void nfi_gram_inverse_vjp(size_t K, bool correlation, size_t ld, const nf_real *L, const nf_real *gL,
                                     const nf_real *gl, nf_real *gS);

#endif
