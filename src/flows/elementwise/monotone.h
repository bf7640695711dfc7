/* The kernels behind nf_monotone_solve and the flows of a formula. */
#ifndef NFI_MONOTONE_H
#define NFI_MONOTONE_H
#include "flows/param.h"
#include <nflow/monotone.h>

/* ---- the solver (monotone_kernels.c): rows of `work`, each [ld] ---- */

enum {
    NFI_SOLVE_LOW, /* the root is above this number, at which the function is .. */
    NFI_SOLVE_AT_LOW,
    NFI_SOLVE_HIGH, /* and below this one */
    NFI_SOLVE_AT_HIGH,
    NFI_SOLVE_ERROR,  /* |f(x) - y| at the x before */
    NFI_SOLVE_NEWTON, /* 1 if the last step was Newton's, else 0 */
    NFI_SOLVE_LENGTH, /* of the last step */
    NFI_SOLVE_ACTIVE, /* 1 if x is not found yet, else 0 */
    NFI_SOLVE_ROWS
};

/* Writes the first x, and work. */
NFI_KERNEL void nfi_solve_begin(size_t ld, const nf_real *y, nf_real *x, nf_real *work);
/* Evaluation number `step` (0, 1, ...) gave at = f(x) and slope: moves x and the brackets. Returns how many samples are
   still active. */
NFI_KERNEL nf_real nfi_solve_step(size_t ld, int step, const nf_real *y, const nf_real *at, const nf_real *slope,
                                  nf_real *x, nf_real *work);
/* x becomes NaN where it was not found. */
NFI_KERNEL void nfi_solve_end(size_t ld, nf_real *x, const nf_real *work);

/* Defines the hooks nfi_<name>_forward and nfi_<name>_vjp of a formula as kernels, by the functions forward(stride,
   ...) and vjp(stride, ...) of their file, of which the compiler makes two copies (flows/param.h). */
#define NFI_FORMULA_KERNELS(name)                                                                            \
    nf_status nfi_##name##_forward(const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope)    \
    {                                                                                                        \
        NFI_BY_STRIDE(forward, f->theta_stride, f, x, y, log_slope);                                         \
        return NF_OK;                                                                                        \
    }                                                                                                        \
    nf_status nfi_##name##_vjp(const nf_feature *f, const nf_real *x, const nf_real *gy, const nf_real *g_l, \
                               nf_real *gx, nf_real *g_theta)                                                \
    {                                                                                                        \
        NFI_BY_STRIDE(vjp, f->theta_stride, f, x, gy, g_l, gx, g_theta);                                     \
        return NF_OK;                                                                                        \
    }

/* ---- flows of a formula; arrays [ld] ---- */

/* Adds sign * log_slope to log_det. Where log_slope is NaN, y becomes NaN. */
NFI_KERNEL void nfi_formula_add(size_t ld, nf_real sign, const nf_real *log_slope, nf_real *y, double *log_det);
/* slope = exp(log_slope); they may be the same array. */
NFI_KERNEL void nfi_formula_slope(size_t ld, const nf_real *log_slope, nf_real *slope);
/* to = from / exp(log_slope), but 0 if from is 0. */
NFI_KERNEL void nfi_formula_divide(size_t ld, const nf_real *log_slope, const nf_real *from, nf_real *to);
/* Adds the n rows [ld] to the gradients of n parameters, which are shared (stride 0) or per sample. */
NFI_KERNEL void nfi_formula_gather(size_t stride, size_t n, size_t ld, const nf_real *rows, nf_real *g_theta);

#endif
