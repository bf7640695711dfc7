/* Kernels of flow matching (matching.c); rows are arrays [ld], one number a sample. */
#ifndef NFI_MATCHING_H
#define NFI_MATCHING_H
#include "base/kernel.h"

/* The point of the path at the share a of the way, z = (1 - left a) x0 + a x1, and its velocity
   v = speed (x1 - left x0). All [dim x ld], a [ld]. */
NFI_KERNEL void nfi_matching_path(size_t dim, size_t ld, nf_real left, nf_real speed, const nf_real *a,
                                  const nf_real *x0, const nf_real *x1, nf_real *z, nf_real *v);
/* loss = |f - v|^2 and square = |v|^2, sums over the features; both [ld]. */
NFI_KERNEL void nfi_matching_loss(size_t dim, size_t ld, const nf_real *f, const nf_real *v, double *loss,
                                  double *square);
/* gf = 2 w (f - v), w [ld]; gf may be f. */
NFI_KERNEL void nfi_matching_gradient(size_t dim, size_t ld, const nf_real *w, const nf_real *f, const nf_real *v,
                                      nf_real *gf);
/* cost[j] = |x - draw j|^2 for the n draws [dim x ld] and one row x [dim]; 0 where that is above 1e150 or NaN. */
NFI_KERNEL void nfi_matching_costs(size_t dim, size_t n, size_t ld, const nf_real *draws, const nf_real *x,
                                   double *cost);

#endif
