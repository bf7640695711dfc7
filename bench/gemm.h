/* Row-major products by OpenBLAS and BLIS, which the library does without: what its own are measured beside. Both are
   opened when a program runs, and told to use the kernels of one instruction set. */
#ifndef BENCH_GEMM_H
#define BENCH_GEMM_H
#include "output.h"
#include <nflow/base.h>

typedef enum gemm_library { GEMM_OPENBLAS, GEMM_BLIS, GEMM_LIBRARIES } gemm_library;

/* Opens what is installed and tells it the kernels of nf_instruction_set(); exits 1 if there is none. To be called
   once, before other threads are made. */
void gemm_open(void);
/* A file with an object that says what is measured, in it the array `list` that the results go to. */
js_file *gemm_report(const char *json_path, const char *list);
bool gemm_has(gemm_library which);
const char *gemm_name(gemm_library which);

/* C = op(A) op(B) + beta C on the calling thread; op(A) [m x k], op(B) [k x n], C [m x n]; lda, ldb, ldc are row
   strides. */
void gemm(gemm_library which, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const nf_real *a,
          size_t lda, const nf_real *b, size_t ldb, nf_real beta, nf_real *c, size_t ldc);

#endif
