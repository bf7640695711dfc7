/* What flows that consist of flows have in common. */
#ifndef NFI_COMPOSE_H
#define NFI_COMPOSE_H
#include "object/tree.h"

static inline nf_direction nfi_opposite(nf_direction d)
{
    return d == NF_FORWARD ? NF_INVERSE : NF_FORWARD;
}

/* Numbers of features that enter and that leave a flow in direction d. */
static inline size_t nfi_rows_in(const nf_object *flow, nf_direction d)
{
    return d == NF_FORWARD ? flow->total.dim_in : flow->total.dim_out;
}
static inline size_t nfi_rows_out(const nf_object *flow, nf_direction d)
{
    return nfi_rows_in(flow, nfi_opposite(d));
}

/* After y = f(x) in direction d, which left `saved` on p->tape: the gradient in y of <gx, x> + <g_log_det, log-det> of
   the opposite direction, x = f^-1(y), without gradients in parameters. gy is overwritten. See combine/opposite.c. */
nf_status nfi_flow_vjp_opposite(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                                const nf_real *y, void *saved, const nf_real *gx, const nf_real *g_log_det,
                                nf_real *gy);

/* [rows x ld] of zeros; NULL if there is no memory. */
static inline nf_real *nfi_zeros(nf_arena *a, size_t rows, size_t ld)
{
    nf_real *z = nf_arena_reals(a, rows, ld);
    for (size_t i = 0; z && i < rows * ld; i++)
        z[i] = 0;
    return z;
}

/* Used while a flow of flows is initialised from data: takes the batch through child i, which has just been
   initialised, so that the next child gets what this child makes of it. b->x is set to a new array of `memory`, whose
   former contents are lost. */
nf_status nfi_hand_on(const nf_object *o, size_t i, const nf_noise *noise, nf_batch *b, nf_real *theta, nf_real *state,
                      nf_arena *memory);

/* Of a flow made by nf_on_context: the first feature of context that its child reads. */
size_t nfi_on_context_first(const nf_object *o);

/* Adds what flow i of a list contributes to the shape of the whole: dimensions and memory. Returns an error if the
   flow does not fit. */
typedef nf_status nfi_link_fn(nf_shape *own, const nf_shape *s, size_t i);
/* Makes a flow of the n flows f, and takes them over. Messages call a flow of the list `part`. */
nf_flow *nfi_flow_of_list(const nf_flow_type *type, const char *part, nfi_link_fn *link, nf_flow *const *f, size_t n);
/* Reads all children of a description and passes them to the constructor `make`. */
nf_flow *nfi_read_list(nf_reader *r, nf_flow *(*make)(nf_flow *const *f, size_t n));

#endif
