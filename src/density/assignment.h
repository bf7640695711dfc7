/* The assignment problem: which column each row takes, each column once, so that the sum of the costs is the least. */
#ifndef NFI_ASSIGNMENT_H
#define NFI_ASSIGNMENT_H
#include "base/kernel.h"

typedef struct nfi_assignment {
    size_t n;
    double *cost;     /* [n x n], by rows: from the caller; at most 1e150 in size */
    double *u, *v;    /* [n] prices of rows and columns: u_i + v_j <= cost_ij, equal for the pairs */
    size_t *column;   /* [n] of each row: the result */
    size_t *row;      /* [n] of each column */
    size_t *from;     /* [n] the row from which the shortest path comes to a column */
    double *distance; /* [n] of the columns from the row at which a path search begins */
    double *done;     /* [n] infinity for the columns that the search is done with, 0 for the others */
} nfi_assignment;

/* An assignment of n rows; the costs are zeros. NF_ENOMEM: then there is nothing to release. */
nf_status nfi_assignment_begin(nfi_assignment *a, size_t n);
void nfi_assignment_end(nfi_assignment *a);
/* Solves it for the present costs, without allocating: a function of the costs alone, also where solutions tie. */
void nfi_assignment_solve(nfi_assignment *a);
/* For each column j that is not done, distance_j = min(distance_j, cost_j - v_j - before), and from_j = i where that is
   less; returns the least distance of those columns. */
NFI_KERNEL double nfi_assignment_relax(size_t n, const double *cost, const double *v, double before, size_t i,
                                       const double *done, double *distance, size_t *from);
/* The first column that is not done and has this distance. */
NFI_KERNEL size_t nfi_assignment_nearest(size_t n, const double *done, const double *distance, double least);

#endif
