/* Kernels of the distributions without components; those of the mixture are in mixture.h. x [dim x ld]; the density's
   logarithm is added to log_p [ld], whose cotangent is g_log_p [ld]; uniforms are double. */
#ifndef NFI_DIST_KERNELS_H
#define NFI_DIST_KERNELS_H
#include "core/kernel.h"

NFI_KERNEL void nfi_normal_score(size_t dim, size_t ld, const nf_real *x, double *log_p);
NFI_KERNEL void nfi_normal_gradient(size_t dim, size_t ld, const nf_real *x, const nf_real *g_log_p, nf_real *gx);

NFI_KERNEL void nfi_logistic_score(size_t dim, size_t ld, const nf_real *x, double *log_p);
/* x from uniforms [dim x ld]. */
NFI_KERNEL void nfi_logistic_quantile(size_t dim, size_t ld, const double *u, nf_real *x);
NFI_KERNEL void nfi_logistic_gradient(size_t dim, size_t ld, const nf_real *x, const nf_real *g_log_p, nf_real *gx);

NFI_KERNEL void nfi_uniform_score(size_t dim, size_t ld, nf_real low, nf_real high, const nf_real *x, double *log_p);
/* n numbers x from uniforms. */
NFI_KERNEL void nfi_uniform_draw(size_t n, nf_real low, nf_real high, const double *u, nf_real *x);

/* prep [2 dim]: degrees of freedom, then the constants c. */
NFI_KERNEL void nfi_student_t_score(size_t dim, size_t ld, const nf_real *prep, const nf_real *x, double *log_p);
/* x from uniforms [2 dim x ld]; slope [dim x ld]: dx / d df. */
NFI_KERNEL void nfi_student_t_draw(size_t dim, size_t ld, const nf_real *prep, const double *uniform, nf_real *x,
                                   nf_real *slope);
/* Gradient of <g_log_p, log q> at fixed x: gx, and g_prep +=; each NULL: not wanted. */
NFI_KERNEL void nfi_student_t_gradient(size_t dim, size_t ld, const nf_real *prep, const nf_real *x,
                                       const nf_real *g_log_p, nf_real *gx, nf_real *g_prep);
/* The same in g_prep for a sample: slope is dx / d df, x has the cotangent gx as well, and df has that of both. */
NFI_KERNEL void nfi_student_t_sample_gradient(size_t dim, size_t ld, const nf_real *prep, const nf_real *x,
                                              const nf_real *slope, const nf_real *gx, const nf_real *g_log_p,
                                              nf_real *g_prep);

#endif
