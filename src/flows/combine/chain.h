/* What both kinds of chains share. */
#ifndef NFI_CHAIN_H
#define NFI_CHAIN_H
#include "object/tree.h"

/* The index of the k-th flow on the way in direction d. */
static inline size_t nfi_chain_place(const nf_object *o, nf_direction d, size_t k)
{
    return d == NF_FORWARD ? k : o->n_children - 1 - k;
}
/* The most features that enter or leave a flow. */
size_t nfi_chain_most_rows(const nf_object *o);
/* An nf_part.init: each flow is initialised from what the flows before it, in the batch's direction, make of the data.
 */
nf_status nfi_chain_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                         nf_real *state);
/* An nfi_link_fn. */
nf_status nfi_chain_link(nf_shape *own, const nf_shape *s, size_t i);

#endif
