/* Minibatches from the inside; nflow/data.h declares the public functions. */
#ifndef NFI_MINIBATCH_H
#define NFI_MINIBATCH_H
#include <nflow/data.h>

/* nf_minibatches_new, with messages that begin with `who`. batch >= 1. */
nf_minibatches *nfi_minibatches_new(const nf_data *data, size_t batch, const char *who);
/* The same for a reader that takes the values for probabilities: those of an array must be in [0, 1]. */
nf_minibatches *nfi_minibatches_of_probabilities(const nf_data *data, size_t batch, const char *who);
/* As nf_minibatches_tile, but for the rows first .. first + p->n - 1 of the data set, in order. It needs no
   nf_minibatches_begin. Dynamic bits are those of (binarise_seed, row). */
nf_status nfi_minibatches_consecutive(const nf_minibatches *b, const nf_pass *p, size_t first, nf_real *x,
                                      nf_real *ctx);

#endif
