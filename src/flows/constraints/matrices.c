/* Covariance and correlation matrices: a chain of a Cholesky factor and L L^T. */
#include "base/memory.h"
#include "flows/constraints/constraint.h"
#include <nflow/linear.h>
#include <nflow/combine.h>

nf_flow *nf_cov_matrix(size_t K)
{
    nf_flow *factor = nf_cholesky_cov(K, K); /* this call checks K */
    return factor ? nf_chain((nf_flow *[]){factor, nfi_gram(K, false)}, 2) : NULL;
}

/* A permutation. Entries of a correlation matrix are ordered column by column, those of its factor row by row. */
static nf_flow *rows_from_columns(size_t K)
{
    const size_t n = K * (K - 1) / 2;
    size_t *order = nfi_calloc(n, sizeof *order);
    if (!order)
        return NULL;
    for (size_t j = 0, k = 0; j < K; j++)
        for (size_t i = j + 1; i < K; i++)
            order[i * (i - 1) / 2 + j] = k++;
    nf_flow *f = nf_permutation(n, order);
    nfi_free(order);
    return f;
}

nf_flow *nf_corr_matrix(size_t K)
{
    nf_flow *factor = nf_cholesky_corr(K);
    if (factor && K == 1) /* nothing is to be permuted */
        return nf_chain((nf_flow *[]){factor, nfi_gram(K, true)}, 2);
    return factor ? nf_chain((nf_flow *[]){rows_from_columns(K), factor, nfi_gram(K, true)}, 3) : NULL;
}
