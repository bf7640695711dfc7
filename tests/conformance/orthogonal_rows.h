/* Rows of the conformance table: Householder chains and Sylvester flows. */
#ifndef CONFORMANCE_ORTHOGONAL_ROWS_H
#define CONFORMANCE_ORTHOGONAL_ROWS_H
#include <nflow/nflow.h>

/* An odd number of reflections, more of them than rows where there are few. */
static inline nf_flow *build_householder(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_householder(dim, 5);
}

#define ORTHOGONAL_ROWS {"Householder", build_householder, 0.1, 1, false, false},

#endif
