/* See pairs.h. */
#include "density/pairs.h"
#include "base/memory.h"
#include "object/pack.h"
#include "density/matching.h"
#include <string.h>

nf_status nfi_pairs_begin(nfi_pairs *pairs, size_t n, size_t dim)
{
    const size_t ld = (n + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    *pairs = (nfi_pairs){.n = n, .dim = dim, .ld = ld};
    size_t numbers;
    if (nfi_mul(ld, dim, &numbers) && (pairs->draws = nfi_calloc(numbers, sizeof(nf_real))) &&
        (pairs->x0 = nfi_calloc(numbers, sizeof(nf_real))) && (pairs->x1 = nfi_calloc(numbers, sizeof(nf_real))) &&
        nfi_assignment_begin(&pairs->couple, n) == NF_OK)
        return NF_OK;
    nfi_pairs_end(pairs);
    return nf_error(NF_ENOMEM, "out of memory: %zu pairs of %zu numbers", n, dim);
}

void nfi_pairs_end(nfi_pairs *pairs)
{
    nfi_assignment_end(&pairs->couple);
    nfi_free(pairs->draws);
    nfi_free(pairs->x0);
    nfi_free(pairs->x1);
    *pairs = (nfi_pairs){.n = 0};
}

void nfi_pairs_put(nfi_pairs *pairs, size_t first, size_t n, size_t ld, const nf_real *draws, const nf_real *x1)
{
    for (size_t r = 0; r < pairs->dim; r++)
        memcpy(pairs->draws + r * pairs->ld + first, draws + r * ld, n * sizeof *draws);
    nfi_unpack(n, pairs->dim, x1, ld, pairs->x1 + first * pairs->dim, pairs->dim);
}

void nfi_pairs_solve(nfi_pairs *pairs)
{
    const size_t n = pairs->n, dim = pairs->dim;
    for (size_t i = 0; i < n; i++)
        nfi_matching_costs(dim, n, pairs->ld, pairs->draws, pairs->x1 + i * dim, pairs->couple.cost + i * n);
    nfi_assignment_solve(&pairs->couple);
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < dim; r++)
            pairs->x0[i * dim + r] = pairs->draws[r * pairs->ld + pairs->couple.column[i]];
}

void nfi_pairs_take(const nfi_pairs *pairs, const nf_pass *p, size_t first, nf_real *x0, nf_real *x1)
{
    nfi_pack_left(p, first, pairs->dim, pairs->x0, pairs->dim, x0);
    nfi_pack_left(p, first, pairs->dim, pairs->x1, pairs->dim, x1);
}
