/* The pairs of a batch for flow matching with optimal coupling: the draw that each row gets, so that the sum of the
   squared distances |x1 - x0|^2 is the least (Tong et al. 2024). A draw or a row that has no result, or that is so far
   away that its squared distance is above 1e150, counts as near to everything. */
#ifndef NFI_PAIRS_H
#define NFI_PAIRS_H
#include "density/assignment.h"
#include <nflow/object.h>

typedef struct nfi_pairs {
    size_t n, dim, ld;
    nf_real *draws;        /* [dim x ld], as they come */
    nf_real *x0, *x1;      /* [n x dim]: row i of the batch is x1[i], its draw x0[i] */
    nfi_assignment couple; /* of rows to draws */
} nfi_pairs;

/* For batches of n samples. NF_ENOMEM: then there is nothing to release. */
nf_status nfi_pairs_begin(nfi_pairs *pairs, size_t n, size_t dim);
void nfi_pairs_end(nfi_pairs *pairs);
/* Puts in a tile of n samples from `first` on, with draws and rows [dim x ld]. */
void nfi_pairs_put(nfi_pairs *pairs, size_t first, size_t n, size_t ld, const nf_real *draws, const nf_real *x1);
/* Pairs them, when all are in. */
void nfi_pairs_solve(nfi_pairs *pairs);
/* The rows of a tile and their draws. Any number of threads may call this at once. */
void nfi_pairs_take(const nfi_pairs *pairs, const nf_pass *p, size_t first, nf_real *x0, nf_real *x1);

#endif
