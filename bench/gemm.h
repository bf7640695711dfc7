/* Row-major products by OpenBLAS, which the library does without: what its own are measured beside. By Fortran's
   symbols, read by columns: a row-major C is C^T, and C^T = alpha op(B)^T op(A)^T + beta C^T, so the operands change
   places. */
#ifndef BENCH_GEMM_H
#define BENCH_GEMM_H
#include <nflow/base.h>

#ifdef NF_SINGLE
#define GEMM sgemm_
#else
#define GEMM dgemm_
#endif
extern void GEMM(const char *transpose_a, const char *transpose_b, const int *m, const int *n, const int *k,
                 const nf_real *alpha, const nf_real *a, const int *lda, const nf_real *b, const int *ldb,
                 const nf_real *beta, nf_real *c, const int *ldc);

/* C = op(A) op(B) + beta C; op(A) [m x k], op(B) [k x n], C [m x n]; lda, ldb, ldc are row strides. */
static inline void gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const nf_real *a, size_t lda,
                        const nf_real *b, size_t ldb, nf_real beta, nf_real *c, size_t ldc)
{
    const int im = (int)m, in = (int)n, ik = (int)k, ia = (int)lda, ib = (int)ldb, ic = (int)ldc;
    const nf_real one = 1;
    GEMM(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &in, &im, &ik, &one, b, &ib, a, &ia, &beta, c, &ic);
}

#endif
