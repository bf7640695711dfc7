/* The assignment problem: which column each row takes, each column once, so that the sum of the costs is the least. */
#ifndef NFI_ASSIGNMENT_H
#define NFI_ASSIGNMENT_H
#include <nflow/base.h>

typedef struct nfi_assignment {
    size_t n;
    double *cost;     /* [n x n], by rows: from the caller, finite */
    double *u, *v;    /* [n] prices of rows and columns: u_i + v_j <= cost_ij, equal for the pairs */
    size_t *column;   /* [n] of each row: the result */
    size_t *row;      /* [n] of each column */
    size_t *from;     /* [n] the row from which the shortest path comes to a column */
    size_t *order;    /* [n] all columns, in the order of the path search */
    double *distance; /* [n] of the columns */
} nfi_assignment;

/* An assignment of n rows; the costs are zeros. NF_ENOMEM: then there is nothing to release. */
nf_status nfi_assignment_begin(nfi_assignment *a, size_t n);
void nfi_assignment_end(nfi_assignment *a);
/* Solves it for the present costs, without allocating: a function of the costs alone, also where solutions tie. */
void nfi_assignment_solve(nfi_assignment *a);

#endif
