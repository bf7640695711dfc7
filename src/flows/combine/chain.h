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
/* Of a chain that has saved its pass, not of a recomputed one: see nfi_flow_vjp_opposite. */
nf_status nfi_chain_vjp_opposite(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                 const nf_real *y, void *saved, const nf_real *gx, const nf_real *g_log_det,
                                 nf_real *gy);
/* An nf_part.init: each flow is initialised from what the flows before it, in the batch's direction, make of the data.
 */
nf_status nfi_chain_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                         nf_real *state);
/* An nfi_link_fn. */
nf_status nfi_chain_link(nf_shape *own, const nf_shape *s, size_t i);

#endif
