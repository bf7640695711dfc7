/* What flows that consist of flows have in common: they are made from a list, or read from a description, and a batch
   goes from child to child while they are initialised. */
#include "flows/compose.h"
#include "base/memory.h"
#include "object/parts.h"
#include <stdio.h>

/* Adds flow i's shape to that of the whole: first `link` adds what depends on the type, then context and flags
   follow. */
static nf_status link_flow(const char *type, const char *part, nfi_link_fn *link, nf_shape *own, const nf_shape *s,
                           size_t i)
{
    nf_status status = link(own, s, i);
    if (status != NF_OK)
        return status;
    if (s->n_ctx && own->n_ctx && s->n_ctx != own->n_ctx)
        return nf_error(NF_EDIM, "nf_%s: %s %zu reads %zu features of context, but an earlier one reads %zu", type,
                        part, i, s->n_ctx, own->n_ctx);
    own->n_ctx = s->n_ctx ? s->n_ctx : own->n_ctx;
    own->flags = (own->flags & ((s->flags & NF_PER_SAMPLE) | NFI_RECOMPUTES)) | NFI_WRITES_GRADIENT;
    return NF_OK;
}

/* The nodes of a list of flows; NULL when out of memory, and the caller's references to the flows are then released. A
   flow may occur twice, so all are held meanwhile. */
static nf_object **nodes_of(nf_flow *const *f, size_t n)
{
    nf_object **node = nfi_calloc(n, sizeof(nf_object *));
    for (size_t i = 0; node && i < n; i++)
        node[i] = nf_flow_object(f[i]);
    for (size_t i = 0; !node && i < n; i++)
        if (f[i])
            nfi_part_hold(nf_flow_object(f[i]));
    for (size_t i = 0; !node && i < n; i++)
        nf_flow_free(f[i]);
    for (size_t i = 0; !node && i < n; i++)
        if (f[i])
            nfi_parts_drop(1, (nf_object *[]){nf_flow_object(f[i])});
    return node;
}

nf_flow *nfi_flow_of_list(const nf_flow_type *type, const char *part, nfi_link_fn *link, nf_flow *const *f, size_t n)
{
    const char *name = type->part.name;
    if (!f || n == 0) {
        nf_error(NF_EARG, f ? "nf_%s: `n` is 0" : "nf_%s: `f` is NULL", name);
        return NULL;
    }
    char who[32];
    snprintf(who, sizeof who, "nf_%s", name);
    nf_object **children = nodes_of(f, n);
    nf_shape own = {.flags = NF_PER_SAMPLE};
    nf_flow *flow = NULL;
    if (children && nfi_parts_given(who, n, children, NULL)) {
        nf_status status = NF_OK;
        for (size_t i = 0; i < n && status == NF_OK; i++)
            status = link_flow(name, part, link, &own, nf_flow_shape(f[i]), i);
        if (status == NF_OK)
            flow = nf_flow_new(type, &own, NULL, children, n);
        else
            nfi_parts_release(n, children);
    }
    nfi_free(children);
    return flow;
}

nf_flow *nfi_read_list(nf_reader *r, nf_flow *(*make)(nf_flow *const *f, size_t n))
{
    const size_t n = nf_read_n_children(r);
    nf_flow **f = nfi_calloc(n, sizeof(nf_flow *));
    if (!f)
        return NULL;
    for (size_t i = 0; i < n; i++)
        f[i] = nfi_read_flow(r, i, NULL);
    nf_flow *flow = make(f, n);
    nfi_free(f);
    return flow;
}

nf_status nfi_hand_on(const nf_object *o, size_t i, const nf_noise *noise, nf_batch *b, nf_real *theta, nf_real *state,
                      nf_arena *memory)
{
    const nf_object *flow = o->children[i];
    memory->end = (nf_mark){0};
    nf_real *y = nf_arena_reals(memory, nfi_rows_out(flow, b->direction), b->ld);
    double *log_det = nfi_zero_doubles(memory, b->ld);
    if (!y || !log_det)
        return NF_ENOMEM;
    nf_pass p;
    void *none = NULL;
    nf_status status = nfi_init_pass(o, i, noise, b, theta, state, memory, &p);
    if (status == NF_OK)
        status = nf_flow_apply(flow, b->direction, &p, b->x, y, log_det, &none);
    b->x = y;
    return status;
}
