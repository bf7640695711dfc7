/* Matrix products, row-major, through BLAS's Fortran symbols (which a program that links gslcblas cannot take over). */
#ifndef NFI_BLAS_H
#define NFI_BLAS_H
#include <nflow/base.h>

/* C = alpha op(A) op(B) + beta C; op(A) [m x k], op(B) [k x n], C [m x n]; lda, ldb, ldc are row strides.
   Single-threaded when called inside the library's parallel regions. */
void nfi_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, nf_real alpha, const nf_real *a,
              size_t lda, const nf_real *b, size_t ldb, nf_real beta, nf_real *c, size_t ldc);

#endif
