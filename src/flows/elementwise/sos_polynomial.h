/* The hooks of sum-of-squares polynomials, which are kernels (sos_polynomial_kernels.c). */
#ifndef NFI_SOS_POLYNOMIAL_H
#define NFI_SOS_POLYNOMIAL_H
#include "flows/elementwise/monotone.h"
#include <nflow/elementwise.h>

enum { NFI_SOS_MOST = 33 }; /* nodes, the end of the interval among them */
typedef struct nfi_sos {
    nf_sos_polynomial_options options; /* with defaults filled in */
    size_t K, n;                       /* polynomials; coefficients of each, and as many nodes */
    nf_real box, min_slope, node[NFI_SOS_MOST], weight[NFI_SOS_MOST]; /* [n]; then node[n] = 1, the end */
} nfi_sos;

NFI_KERNEL nf_status nfi_sos_forward(const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope);
NFI_KERNEL nf_status nfi_sos_vjp(const nf_feature *f, const nf_real *x, const nf_real *gy, const nf_real *g_log_slope,
                                 nf_real *gx, nf_real *g_theta);

#endif
