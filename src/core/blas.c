/* Row-major products by Fortran's column-major BLAS: read by columns, a row-major C is C^T, and
   C^T = alpha op(B)^T op(A)^T + beta C^T, so the operands change places. */
#include "core/blas.h"

#ifdef NF_SINGLE
#define GEMM sgemm_
#else
#define GEMM dgemm_
#endif
extern void GEMM(const char *transpose_a, const char *transpose_b, const int *m, const int *n, const int *k,
                 const nf_real *alpha, const nf_real *a, const int *lda, const nf_real *b, const int *ldb,
                 const nf_real *beta, nf_real *c, const int *ldc);

/* Sizes and strides below 2^31: callers pass tiles and weights. */
void nfi_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, nf_real alpha, const nf_real *a,
              size_t lda, const nf_real *b, size_t ldb, nf_real beta, nf_real *c, size_t ldc)
{
    if (!m || !n)
        return;
    if (!k) { /* then BLAS would complain about strides of 0 */
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++)
                c[i * ldc + j] = beta != 0 ? beta * c[i * ldc + j] : 0;
        return;
    }
    const int im = (int)m, in = (int)n, ik = (int)k, ia = (int)lda, ib = (int)ldb, ic = (int)ldc;
    GEMM(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &in, &im, &ik, &alpha, b, &ib, a, &ia, &beta, c, &ic);
}
