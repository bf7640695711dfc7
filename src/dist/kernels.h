/* Kernels of the distributions, without those of the mixture, which are in mixture.h. x is [dim x ld]. The
   log-density is added to log_p [ld]; its cotangent is g_log_p [ld]. Uniform numbers are double. */
#ifndef NFI_DIST_KERNELS_H
#define NFI_DIST_KERNELS_H
#include "base/kernel.h"

NFI_KERNEL void nfi_normal_score(size_t dim, size_t ld, const nf_real *x, double *log_p);
NFI_KERNEL void nfi_normal_gradient(size_t dim, size_t ld, const nf_real *x, const nf_real *g_log_p, nf_real *gx);

NFI_KERNEL void nfi_logistic_score(size_t dim, size_t ld, const nf_real *x, double *log_p);
/* Computes x from uniforms [dim x ld]. */
NFI_KERNEL void nfi_logistic_quantile(size_t dim, size_t ld, const double *u, nf_real *x);
NFI_KERNEL void nfi_logistic_gradient(size_t dim, size_t ld, const nf_real *x, const nf_real *g_log_p, nf_real *gx);

NFI_KERNEL void nfi_uniform_score(size_t dim, size_t ld, nf_real low, nf_real high, const nf_real *x, double *log_p);
/* Computes n numbers x from n uniforms. */
NFI_KERNEL void nfi_uniform_draw(size_t n, nf_real low, nf_real high, const double *u, nf_real *x);

/* prep [2 dim]: the degrees of freedom, then the constants c. */
NFI_KERNEL void nfi_student_t_score(size_t dim, size_t ld, const nf_real *prep, const nf_real *x, double *log_p);
/* Computes x from uniforms [2 dim x ld], and slope [dim x ld] = dx / d df. */
NFI_KERNEL void nfi_student_t_draw(size_t dim, size_t ld, const nf_real *prep, const double *uniform, nf_real *x,
                                   nf_real *slope);
/* Gradient of <g_log_p, log q> at fixed x. gx is overwritten, g_prep is added to. Either may be NULL: not wanted. */
NFI_KERNEL void nfi_student_t_gradient(size_t dim, size_t ld, const nf_real *prep, const nf_real *x,
                                       const nf_real *g_log_p, nf_real *gx, nf_real *g_prep);
/* Gradient of <gx, x> + <g_log_p, log q> for a sample x, added to g_prep. slope is dx / d df: df changes log q
   directly, and changes x and through x log q. */
NFI_KERNEL void nfi_student_t_sample_gradient(size_t dim, size_t ld, const nf_real *prep, const nf_real *x,
                                              const nf_real *slope, const nf_real *gx, const nf_real *g_log_p,
                                              nf_real *g_prep);

#endif
