/* The kernels of the soft-log layer; t is the threshold. */
#ifndef NFI_SOFT_LOG_H
#define NFI_SOFT_LOG_H
#include "base/kernel.h"
#include <nflow/elementwise.h>

/* Computes y from x and adds to log_det. */
NFI_KERNEL void nfi_soft_log_map(nf_direction d, size_t dim, size_t ld, nf_real t, const nf_real *x, nf_real *y,
                                 double *log_det);
/* J is the slope of direction d at x. Without `divide`, from = gy, and to = gx: from times J, plus the log-det's
   part. With `divide`, from = gx, and to = gy = from / J; g_log_det is not read. */
NFI_KERNEL void nfi_soft_log_scale(nf_direction d, bool divide, size_t dim, size_t ld, nf_real t, const nf_real *x,
                                   const nf_real *from, const nf_real *g_log_det, nf_real *to);

#endif
