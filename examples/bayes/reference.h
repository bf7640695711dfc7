/* Reference draws of posteriordb: draws of a posterior by long runs of Hamiltonian Monte Carlo, thinned until they are
   as good as independent. */
#ifndef EXAMPLES_BAYES_REFERENCE_H
#define EXAMPLES_BAYES_REFERENCE_H
#include <nflow/base.h>

enum { REFERENCE_NAME = 64 };

typedef struct reference_draws {
    size_t n, k;
    char (*name)[REFERENCE_NAME]; /* [k], as this library names outputs: theta.1, where posteriordb has theta[1] */
    double *x;                    /* [n x k], on the constrained scale */
} reference_draws;

/* Reads folder/posteriordb/draws/POSTERIOR.npy and the names beside it. Release by reference_free(). */
nf_status reference_read(reference_draws *r, const char *folder, const char *posterior);
void reference_free(reference_draws *r);
/* The column with this name; k if there is none. */
size_t reference_column(const reference_draws *r, const char *name);

#endif
