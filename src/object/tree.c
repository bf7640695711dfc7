/* Object trees: building nodes, counting their numbers, references. The walks that use the layout are in walk.c. A
   node's numbers are laid out like this: its own, then child 0's, child 1's, ... Its sites likewise: its own (at least
   one), then the children's. */
#include "object/tree.h"
#include "base/memory.h"
#include "object/table.h"

const void *nf_self(const nf_object *o)
{
    return o ? o->self : NULL;
}

const nf_shape *nf_object_shape(const nf_object *o)
{
    static const nf_shape none;
    return o ? &o->total : &none;
}

const char *nf_object_name(const nf_object *o)
{
    return o ? o->part->name : "";
}

size_t nf_n_children(const nf_object *o)
{
    return o ? o->n_children : 0;
}

const nf_object *nf_child(const nf_object *o, size_t i)
{
    return o && i < o->n_children ? o->children[i] : NULL;
}

nf_object *nf_object_ref(nf_object *o)
{
    if (o)
        atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void nf_object_free(nf_object *o)
{
    if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < o->n_children; i++)
        nf_object_free(o->children[i]);
    if (o->part->destroy && o->self)
        o->part->destroy(o->self);
    nfi_free(o->children);
    nfi_free(o->place);
    nfi_free(o->completed);
    nfi_free(o);
}

/* Places child i behind what `total` holds so far, and adds the child's sizes to `total`. */
static bool place_child(nf_object *o, size_t i)
{
    const nf_shape *c = &o->children[i]->total;
    nf_shape *t = &o->total;
    nfi_place *at = &o->place[i];
    at->site = t->n_sites;
    t->flags |= c->flags & NF_STOCHASTIC;
    if (!nfi_add(t->n_saved, c->n_saved, &t->n_saved) || __builtin_add_overflow(t->n_sites, c->n_sites, &t->n_sites))
        return false;
    if (at->detached)
        return true;
    at->theta = t->n_params;
    at->state = t->n_state;
    at->prep = t->n_prep;
    return nfi_add(t->n_params, c->n_params, &t->n_params) && nfi_add(t->n_state, c->n_state, &t->n_state) &&
           nfi_add(t->n_prep, c->n_prep, &t->n_prep);
}

static nf_status check_new(const nf_part *part, const nf_shape *own, nf_object *const *children, size_t n_children,
                           const char *who)
{
    if (!part || !part->name || !part->name[0])
        return nf_error(NF_EARG, "%s: the type has no name", who);
    for (size_t i = 0; i < NF_RESERVED_HOOKS; i++)
        if (part->reserved[i])
            return nf_error(
                NF_EARG,
                "%s: reserved[%zu] of type %s is not NULL: the type was compiled for a later version, or its "
                "table was not zero-initialised",
                who, i, part->name);
    if (!own)
        return nf_error(NF_EARG, "%s: `own` (the shape) of type %s is NULL", who, part->name);
    if (n_children && !children)
        return nf_error(NF_EARG, "%s: `children` of type %s is NULL, but n_children is %zu", who, part->name,
                        n_children);
    if ((own->flags & NF_PER_SAMPLE) && own->n_prep)
        return nf_error(NF_EARG, "%s: type %s claims NF_PER_SAMPLE, but prepares %zu numbers", who, part->name,
                        own->n_prep);
    if ((own->flags & NF_IMPLICIT_FORWARD) && (own->flags & NF_IMPLICIT_INVERSE))
        return nf_error(NF_EARG, "%s: type %s leaves the VJP of both directions to the library", who, part->name);
    return NF_OK;
}

static nf_object *build(nfi_kind kind, const nf_part *part, const void *type, const nf_shape *own, void *self,
                        nf_object *const *children, size_t n_children, size_t n_detached)
{
    nf_object *o = nfi_calloc(1, sizeof *o);
    nf_object **copy = nfi_calloc(n_children, sizeof(nf_object *));
    nfi_place *place = nfi_calloc(n_children, sizeof *place);
    if (!o || !copy || !place) {
        nfi_free(o);
        nfi_free(copy);
        nfi_free(place);
        return NULL;
    }
    atomic_init(&o->refs, 1);
    o->kind = kind;
    o->part = part;
    o->type = type;
    o->own = o->total = *own;
    o->own.n_sites = o->total.n_sites = own->n_sites ? own->n_sites : 1;
    o->n_children = n_children;
    o->children = copy;
    o->place = place;
    for (size_t i = 0; i < n_children; i++) {
        copy[i] = children[i];
        place[i].detached = i < n_detached;
    }
    for (size_t i = 0; i < n_children; i++)
        if (!place_child(o, i)) {
            nf_error(NF_EARG, "%s: the sizes of its parts overflow", part->name);
            nfi_free(copy);
            nfi_free(place);
            nfi_free(o);
            return NULL;
        }
    o->self = self;
    return o;
}

nf_object *nfi_object_new(nfi_kind kind, const nf_part *part, const void *type, const nf_shape *own, void *self,
                          nf_object *const *children, size_t n_children, size_t n_detached, const char *who)
{
    nf_object *o = NULL;
    bool whole = true; /* if a child is NULL, its own constructor has written the message */
    for (size_t i = 0; children && i < n_children; i++)
        whole = whole && children[i];
    if (whole && check_new(part, own, children, n_children, who) == NF_OK)
        o = build(kind, part, type, own, self, children, n_children, n_detached);
    if (o)
        return o;
    for (size_t i = 0; children && i < n_children; i++)
        nf_object_free(children[i]);
    if (part && part->destroy && self)
        part->destroy(self);
    return NULL;
}

/* ---- the kinds ---- */

/* What this library expects of a kind's table. The table begins with its size. */
typedef struct table {
    nfi_kind kind;
    const char *who;
    size_t part, size, least; /* where nf_part stands; all bytes; where what the first version required ends */
} table;

static const table net_table = {NFI_NET, "nf_net_new", offsetof(nf_net_type, part), sizeof(nf_net_type),
                                NFI_END_OF(nf_net_type, vjp)};
static const table flow_table = {NFI_FLOW, "nf_flow_new", offsetof(nf_flow_type, part), sizeof(nf_flow_type),
                                 NFI_END_OF(nf_flow_type, vjp)};
static const table dist_table = {NFI_DIST, "nf_dist_new", offsetof(nf_dist_type, part), sizeof(nf_dist_type),
                                 NFI_END_OF(nf_dist_type, sample)};

static bool has_required_hooks(nfi_kind kind, const void *type)
{
    const nf_net_type *net = type;
    const nf_flow_type *flow = type;
    const nf_dist_type *dist = type;
    return kind == NFI_NET    ? net->apply && net->vjp
           : kind == NFI_FLOW ? flow->apply && flow->vjp
                              : dist->sample || dist->score;
}

/* Returns the table in this library's size: the type's own table, or a copy, which *copy then points to as well. NULL
   if the table is bad. */
static const void *complete(const table *t, const void *type, void **copy)
{
    *copy = NULL;
    if (!type) {
        nf_error(NF_EARG, "%s: `type` is NULL", t->who);
        return NULL;
    }
    const size_t abi = *(const size_t *)type;
    if (nfi_check_abi(t->who, "type", abi, t->least, t->size) != NF_OK)
        return NULL;
    if (abi < t->size) {
        *copy = nfi_calloc(1, t->size);
        if (!*copy)
            return NULL;
        nfi_complete_table(*copy, type, abi, t->size);
    }
    const void *whole = *copy ? *copy : type;
    if (has_required_hooks(t->kind, whole))
        return whole;
    nf_error(NF_EARG, "%s: the type lacks a required hook", t->who);
    nfi_free(*copy);
    *copy = NULL;
    return NULL;
}

/* What all nf_*_new share. If the table is bad, everything handed over is released, as far as the table says how. */
static nf_object *new_of_kind(const table *t, const void *type, const nf_shape *own, void *self,
                              nf_object *const *children, size_t n_children, size_t n_detached)
{
    void *copy;
    const void *whole = complete(t, type, &copy);
    if (whole) {
        const nf_part *part = (const nf_part *)((const char *)whole + t->part);
        nf_object *o = nfi_object_new(t->kind, part, whole, own, self, children, n_children, n_detached, t->who);
        if (o)
            o->completed = copy;
        else
            nfi_free(copy);
        return o;
    }
    for (size_t i = 0; children && i < n_children; i++)
        nf_object_free(children[i]);
    if (type && self && nfi_table_reaches(*(const size_t *)type, t->part + sizeof(nf_part))) {
        const nf_part *part = (const nf_part *)((const char *)type + t->part);
        if (part->destroy)
            part->destroy(self);
    }
    return NULL;
}

nf_net *nf_net_new(const nf_net_type *type, const nf_shape *own, void *self, nf_object *const *children,
                   size_t n_children)
{
    return (nf_net *)new_of_kind(&net_table, type, own, self, children, n_children, 0);
}

nf_flow *nfi_flow_new_detached(const nf_flow_type *type, const nf_shape *own, void *self, nf_object *const *children,
                               size_t n_children, size_t n_detached)
{
    return (nf_flow *)new_of_kind(&flow_table, type, own, self, children, n_children, n_detached);
}

nf_flow *nf_flow_new(const nf_flow_type *type, const nf_shape *own, void *self, nf_object *const *children,
                     size_t n_children)
{
    return nfi_flow_new_detached(type, own, self, children, n_children, 0);
}

nf_dist *nf_dist_new(const nf_dist_type *type, const nf_shape *own, void *self, nf_object *const *children,
                     size_t n_children)
{
    return (nf_dist *)new_of_kind(&dist_table, type, own, self, children, n_children, 0);
}

/* For each kind, conversions between it and the node that it begins with, and its references. */
#define KIND(noun, tag)                                     \
    nf_object *nf_##noun##_object(nf_##noun *k)             \
    {                                                       \
        return (nf_object *)k;                              \
    }                                                       \
    nf_##noun *nf_##noun##_ref(nf_##noun *k)                \
    {                                                       \
        return (nf_##noun *)nf_object_ref((nf_object *)k);  \
    }                                                       \
    void nf_##noun##_free(nf_##noun *k)                     \
    {                                                       \
        nf_object_free((nf_object *)k);                     \
    }                                                       \
    nf_##noun *nfi_as_##noun(nf_object *o)                  \
    {                                                       \
        return o && o->kind == tag ? (nf_##noun *)o : NULL; \
    }
KIND(net, NFI_NET)
KIND(flow, NFI_FLOW)
KIND(dist, NFI_DIST)
KIND(vae, NFI_VAE)

const nf_shape *nf_flow_shape(const nf_flow *flow)
{
    return nf_object_shape((const nf_object *)flow);
}

const nf_shape *nf_dist_shape(const nf_dist *dist)
{
    return nf_object_shape((const nf_object *)dist);
}
