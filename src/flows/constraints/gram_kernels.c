/* S = L L^T for lower triangular L with a positive diagonal: the step from a Cholesky factor to its matrix. As maps of
   the chart's entries, with j counted from 0,

       covariance    lower triangle to lower triangle                          log-det = K log 2 + sum (K - j) log L_jj
       correlation   strict lower triangle to the same, L's rows of length 1   log-det = sum (K - 1 - j) log L_jj.

   For a correlation matrix the forward direction writes S_jj = 1, and the inverse does not read S_jj but assumes 1.
   Forward VJP: gL = (gS + gS^T) L, lower triangle, and gL_jj += gl c_j / L_jj with the log-det's coefficient c_j.
   Inverse: Cholesky-Banachiewicz by columns, which reads S's lower triangle; its VJP goes through the same steps
   backwards (Murray 2016, arXiv:1602.07527, section 3.2).

   In products and in the log-det, entries of L beyond +-NFI_MOST are replaced by that limit. If a pivot is negative, S
   is outside the set. If a pivot is not above NFI_LEAST, the column below it becomes 0. Entry (i, j) is in feature
   j K + i. */
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"
#include <string.h>

/* Where entry (i, j) is in a tile. */
#define AT(i, j) (((j)*K + (i)) * ld)

NFI_INLINE nf_real limited(nf_real x)
{
    const nf_real least = x < -NFI_MOST ? -NFI_MOST : x;
    return least > NFI_MOST ? NFI_MOST : least;
}

/* to += sign a b, for features of a tile. */
NFI_INLINE void add_product(size_t ld, nf_real sign, const nf_real *a, const nf_real *b, nf_real *restrict to)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        to[s] += sign * limited(a[s]) * limited(b[s]);
}

/* The coefficient of log L_jj in the log-det. */
NFI_INLINE nf_real coefficient(size_t K, bool correlation, size_t j)
{
    return (nf_real)(K - j - correlation);
}

/* log_det += sign * the forward log-det at L. */
NFI_INLINE void add_log_det(size_t K, bool correlation, nf_real sign, size_t ld, const nf_real *restrict L,
                            double *restrict log_det)
{
    const double constant = (double)sign * (correlation ? 0 : (double)K * log(2));
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] += constant;
    for (size_t j = 0; j < K; j++) {
        const nf_real *restrict d = L + AT(j, j);
        const double c = (double)(sign * coefficient(K, correlation, j));
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += c * (double)nfi_log(d[s] < NFI_TINY ? NFI_TINY : limited(d[s]));
    }
}

/* gL_jj += sign gl c_j / L_jj */
NFI_INLINE void add_slopes(size_t K, bool correlation, nf_real sign, size_t ld, const nf_real *restrict L,
                           const nf_real *restrict gl, nf_real *restrict gL)
{
    for (size_t j = 0; j < K; j++) {
        const nf_real *restrict d = L + AT(j, j);
        nf_real *restrict g = gL + AT(j, j);
        const nf_real c = sign * coefficient(K, correlation, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            g[s] += d[s] > NFI_MOST || d[s] < NFI_TINY ? 0 : c * gl[s] / d[s];
    }
}

/* ---- forward ---- */

void nfi_gram_forward(size_t K, bool correlation, size_t ld, const nf_real *restrict L, nf_real *restrict S,
                      double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j <= i; j++) {
            nf_real *restrict to = S + AT(i, j);
            const bool one = correlation && i == j;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                to[s] = one ? 1 : 0;
            for (size_t k = 0; k <= j && !one; k++)
                add_product(ld, 1, L + AT(i, k), L + AT(j, k), to);
            if (i != j)
                memcpy(S + AT(j, i), to, ld * sizeof *to);
        }
    add_log_det(K, correlation, 1, ld, L, log_det);
}

void nfi_gram_forward_vjp(size_t K, bool correlation, size_t ld, const nf_real *restrict L, const nf_real *restrict gS,
                          const nf_real *restrict gl, nf_real *restrict gL, nf_real *restrict sum)
{
    ld = nfi_lanes(ld);
    nfi_clear(gL, K * K, ld);
    for (size_t i = 0; i < K; i++)
        for (size_t k = 0; k < K; k++) {
            const nf_real *a = gS + AT(i, k), *b = gS + AT(k, i);
            const bool given = correlation && i == k; /* S_ii is 1, so it is no entry of the chart */
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                sum[s] = given ? 0 : a[s] + b[s];
            for (size_t j = 0; j <= i && j <= k; j++)
                add_product(ld, 1, sum, L + AT(k, j), gL + AT(i, j));
        }
    add_slopes(K, correlation, 1, ld, L, gl, gL);
}

/* ---- inverse ---- */

/* Column j of the factor. L_jj holds the pivot before: L_jj = sqrt(pivot), L_ij /= L_jj. */
NFI_INLINE void divide_column(size_t K, size_t j, size_t ld, nf_real *restrict L, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    nf_real *restrict d = L + AT(j, j);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        log_det[s] += nfi_support(d[s]);
        d[s] = nfi_sqrt(nfi_inside(d[s]));
    }
    const nf_real least = nfi_sqrt(NFI_LEAST);
    for (size_t i = j + 1; i < K; i++) {
        nf_real *restrict below = L + AT(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            below[s] = d[s] > least ? below[s] / d[s] : 0;
    }
}

void nfi_gram_inverse(size_t K, bool correlation, size_t ld, const nf_real *restrict S, nf_real *restrict L,
                      double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t j = 0; j < K; j++) {
        for (size_t i = 0; i < K; i++) {
            nf_real *restrict to = L + AT(i, j);
            const nf_real *restrict from = S + AT(i, j);
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                to[s] = i < j ? 0 : correlation && i == j ? 1 : from[s];
            for (size_t k = 0; k < j && i >= j; k++)
                add_product(ld, -1, L + AT(i, k), L + AT(j, k), to);
        }
        divide_column(K, j, ld, L, log_det);
    }
    add_log_det(K, correlation, -1, ld, L, log_det);
}

/* g /= L_jj; g = 0 if the pivot was too small, as in divide_column. */
NFI_INLINE void divide(size_t ld, const nf_real *restrict d, nf_real *restrict g)
{
    const nf_real least = nfi_sqrt(NFI_LEAST);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        g[s] = d[s] > least ? g[s] / d[s] : 0;
}

/* g holds the cotangent of L, lower triangle, and becomes that of S's entries. */
NFI_INLINE void backwards(size_t K, size_t ld, const nf_real *restrict L, nf_real *restrict g)
{
    for (size_t j = K; j-- > 0;) {
        nf_real *pivot = g + AT(j, j);
        for (size_t i = j + 1; i < K; i++) {
            divide(ld, L + AT(j, j), g + AT(i, j));
            add_product(ld, -1, L + AT(i, j), g + AT(i, j), pivot);
        }
        divide(ld, L + AT(j, j), pivot);
        for (size_t k = 0; k < j; k++)
            for (size_t i = j; i < K; i++) {
                add_product(ld, -1, g + AT(i, j), L + AT(i, k), g + AT(j, k));
                if (i > j)
                    add_product(ld, -1, g + AT(i, j), L + AT(j, k), g + AT(i, k));
            }
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            pivot[s] *= NF_R(0.5);
    }
}

void nfi_gram_inverse_vjp(size_t K, bool correlation, size_t ld, const nf_real *restrict L, const nf_real *restrict gL,
                          const nf_real *restrict gl, nf_real *restrict gS)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j < K; j++) {
            if (j <= i)
                memcpy(gS + AT(i, j), gL + AT(i, j), ld * sizeof *gS);
            else
                nfi_clear(gS + AT(i, j), 1, ld);
        }
    add_slopes(K, correlation, -1, ld, L, gl, gS);
    backwards(K, ld, L, gS);
    for (size_t j = 0; j < K && correlation; j++)
        nfi_clear(gS + AT(j, j), 1, ld);
}
