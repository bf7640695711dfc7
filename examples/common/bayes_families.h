/* Every family of nf_vi(), one by one, beside the ladder: a table of models and families. */
#ifndef EXAMPLES_BAYES_FAMILIES_H
#define EXAMPLES_BAYES_FAMILIES_H
#include "bayes_fit.h"
#include "families.h"

/* Fits of a model by a family, with several seeds. */
typedef struct family_cell {
    size_t fits, failed; /* failed: without finite numbers, these are no part of the sums */
    size_t passed;       /* of the gate */
    double elbo, cpu;    /* sums over the fits */
} family_cell;

typedef struct family_row {
    const bayes_model *model;
    bool has_gate;
    double log_z; /* the model's; else by the weights of the fit with the largest ELBO */
    double best;  /* this ELBO; -INFINITY before the first fit */
    family_cell cell[N_FAMILIES];
} family_row;

/* Counts a fit by a family. */
void family_row_add(family_row *row, nf_family family, const bayes_fit *f);
/* Prints how far the ELBOs are below ln Z, with a mark where the gate failed, and processor seconds. */
void family_rows_print(size_t n, const family_row *row);

#endif
