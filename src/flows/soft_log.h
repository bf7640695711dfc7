/* The soft-log layer's kernels; t is the threshold. */
#ifndef NFI_SOFT_LOG_H
#define NFI_SOFT_LOG_H
#include "core/kernel.h"
#include <nflow/flow.h>

/* y and log_det += from x. */
NFI_KERNEL void nfi_soft_log_map(nf_direction d, size_t dim, size_t ld, nf_real t, const nf_real *x, nf_real *y,
                                 double *log_det);
/* With J a direction's slope at x: to = gx of from = gy, which is from J and the log-det's part; or, to `divide`,
   to = gy of from = gx, which is from / J, and g_log_det is not read. */
NFI_KERNEL void nfi_soft_log_scale(nf_direction d, bool divide, size_t dim, size_t ld, nf_real t, const nf_real *x,
                                   const nf_real *from, const nf_real *g_log_det, nf_real *to);

#endif
