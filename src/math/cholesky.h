/* Cholesky factors of small symmetric matrices, in double whatever nf_real is. Matrices are [d x d] by rows. */
#ifndef NFI_CHOLESKY_H
#define NFI_CHOLESKY_H
#include <stdbool.h>
#include <stddef.h>

/* Replaces the lower triangle of a by L with a = L L^T; what is above the diagonal is neither read nor written. Returns
   false, and leaves a half done, if a is not positive definite or not finite. */
bool nfi_cholesky(size_t d, double *a);
/* Replaces the lower triangle of p by L with p^-1 = L L^T; otherwise as nfi_cholesky. */
bool nfi_cholesky_of_inverse(size_t d, double *p);
/* y = mean + L z */
void nfi_lower_times(size_t d, const double *mean, const double *l, const double *z, double *y);

#endif
