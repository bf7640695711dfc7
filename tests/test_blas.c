/* Matrix products against a naive loop in long double, the BLAS that is really loaded, and the same bits inside and
   outside a parallel region. */
#include "core/blas.h"
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <nflow/noise.h>
#include <omp.h>
#include <stdlib.h>

#ifdef NF_SINGLE
#define EPSILON FLT_EPSILON
#else
#define EPSILON DBL_EPSILON
#endif

extern int openblas_get_parallel(void); /* 0 serial, 1 threads, 2 OpenMP */
extern void openblas_set_num_threads(int n);

Test(blas, is_the_openmp_build)
{
    cr_assert_eq(openblas_get_parallel(), 2);
}

static nf_real *draw(uint32_t site, size_t n)
{
    nf_real *x = malloc((n + 1) * sizeof *x);
    nf_noise_normal(&(nf_noise){.seed = 8, .site = site}, 1, n + 1, n + 1, x);
    return x;
}

/* One product; strides exceed the rows' lengths by `slack`, and what lies between is untouched. */
static void check(bool ta, bool tb, size_t m, size_t n, size_t k, nf_real alpha, nf_real beta, size_t slack)
{
    size_t lda = (ta ? m : k) + slack, ldb = (tb ? k : n) + slack, ldc = n + slack;
    nf_real *a = draw(1, (ta ? k : m) * lda), *b = draw(2, (tb ? n : k) * ldb);
    nf_real *before = draw(3, m * ldc), *c = draw(3, m * ldc);
    nfi_gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < ldc; j++) {
            long double old = before[i * ldc + j], sum = 0, size = 0;
            if (j >= n) {
                cr_assert_eq(c[i * ldc + j], before[i * ldc + j]);
                continue;
            }
            for (size_t l = 0; l < k; l++) {
                long double term = (long double)(ta ? a[l * lda + i] : a[i * lda + l]);
                term *= tb ? b[j * ldb + l] : b[l * ldb + j];
                sum += term;
                size += fabsl(term);
            }
            long double expected = alpha * sum + beta * old, bound = fabsl(alpha * size) + fabsl(beta * old);
            cr_assert_leq(fabsl(c[i * ldc + j] - expected), (long double)(k + 2) * EPSILON * bound,
                          "%d %d %zu %zu %zu: [%zu, %zu]", ta, tb, m, n, k, i, j);
        }
    free(a);
    free(b);
    free(before);
    free(c);
}

Test(blas, products)
{
    static const size_t sizes[][3] = {{1, 1, 1},  {1, 7, 5},  {7, 1, 5},   {7, 5, 1},    {3, 16, 2},
                                      {0, 3, 2},  {3, 0, 2},  {3, 4, 0},   {17, 33, 19}, {64, 48, 80},
                                      {1, 48, 9}, {9, 16, 1}, {40, 1, 40}, {2, 112, 32}};
    static const double factors[][2] = {{1, 0}, {1, 1}, {-0.731, 1}, {2.385, -0.617}, {1.291, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof factors / sizeof *factors; j++)
            for (int t = 0; t < 4; t++)
                check(t & 1, t & 2, sizes[i][0], sizes[i][1], sizes[i][2], (nf_real)factors[j][0],
                      (nf_real)factors[j][1], j);
}

/* beta = 0 overwrites whatever was there. */
Test(blas, zero_beta_ignores_c)
{
    const nf_real a[] = {(nf_real)1.25, (nf_real)-0.5}, b[] = {(nf_real)3, (nf_real)0.75};
    nf_real c = (nf_real)NAN;
    nfi_gemm(false, false, 1, 1, 2, 1, a, 2, b, 1, 0, &c, 1);
    cr_assert_eq(c, (nf_real)3.375);
    c = (nf_real)NAN;
    nfi_gemm(false, false, 1, 1, 0, 1, a, 0, b, 1, 0, &c, 1);
    cr_assert_eq(c, 0);
}

/* In a team of one, omp_in_parallel() is false, so the region itself must ask for one thread. */
Test(blas, same_bits_in_a_team_of_one)
{
    enum { n = 257 };
    nf_real *a = draw(1, n * n), *b = draw(2, n * n), *outside = draw(3, n * n), *inside = draw(4, n * n);
    int threads = omp_get_max_threads();
    openblas_set_num_threads(1);
    nfi_gemm(false, true, n, n, n, 1, a, n, b, n, 0, outside, n);
    openblas_set_num_threads(threads > 1 ? threads : 2);
#pragma omp parallel num_threads(1)
    {
        omp_set_num_threads(1);
        nfi_gemm(false, true, n, n, n, 1, a, n, b, n, 0, inside, n);
    }
    for (size_t i = 0; i < n * n; i++)
        cr_assert_eq(outside[i], inside[i]);
    cr_assert_eq(omp_get_max_threads(), threads > 1 ? threads : 2);
    free(a);
    free(b);
    free(outside);
    free(inside);
}
