/* The kernels of the scaled affine flow. theta: rows m_i, a_i in turn [2 dim x columns], with one column, or one for
   each sample. */
#ifndef NFI_SCALED_AFFINE_H
#define NFI_SCALED_AFFINE_H
#include "flows/elementwise/log_scale.h"

/* Computes from theta the parameters of nf_affine, shift = m' [dim x columns] and log_scale = L [dim x columns], and
   slope = L'(a). */
NFI_KERNEL void nfi_scaled_affine_bound(nf_scale scale, bool gated, nfi_log_scale form, size_t dim, size_t columns,
                                        const nf_real *theta, nf_real *shift, nf_real *log_scale, nf_real *slope);
/* The transpose of this map; adds to g_theta. g_affine: gm' [dim x columns], gL [dim x columns]. */
NFI_KERNEL void nfi_scaled_affine_pull_back(bool gated, size_t dim, size_t columns, const nf_real *theta,
                                            const nf_real *log_scale, const nf_real *slope, const nf_real *g_affine,
                                            nf_real *g_theta);

#endif
