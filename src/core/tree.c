/* Object trees: building nodes, counting their numbers, references. The walks that use the layout are in walk.c.
   Layout of a node's numbers: its own, then child 0's, child 1's, ... Its sites: its own (at least one), then theirs.
 */
#include "core/tree.h"
#include "core/memory.h"

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
    nfi_free(o);
}

/* Places child i behind what `total` holds so far, and adds the child's needs to it. */
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
    bool whole = true; /* a NULL child: its own constructor has written the message */
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

/* Checks a type table: it is there, of this library's size or larger, and has its first function. */
static bool type_is_bad(const void *type, size_t abi, size_t size, bool complete, const char *who)
{
    if (type && abi == size && complete)
        return false;
    if (!type)
        nf_error(NF_EARG, "%s: `type` is NULL", who);
    else if (abi != size)
        nf_error(NF_EARG, "%s: `type->abi` is %zu, but the library's table has %zu bytes", who, abi, size);
    else
        nf_error(NF_EARG, "%s: the type lacks a required hook", who);
    return true;
}

/* What nf_*_new share; a bad table is replaced by NULL, so that everything handed over is released. */
static nf_object *new_of_kind(nfi_kind kind, const nf_part *part, const void *type, bool bad, const nf_shape *own,
                              void *self, nf_object *const *children, size_t n_children, size_t n_detached,
                              const char *who)
{
    if (!bad)
        return nfi_object_new(kind, part, type, own, self, children, n_children, n_detached, who);
    for (size_t i = 0; children && i < n_children; i++)
        nf_object_free(children[i]);
    if (part && part->destroy && self)
        part->destroy(self);
    return NULL;
}

nf_net *nf_net_new(const nf_net_type *type, const nf_shape *own, void *self, nf_object *const *children,
                   size_t n_children)
{
    bool bad = type_is_bad(type, type ? type->abi : 0, sizeof *type, type && type->apply && type->vjp, "nf_net_new");
    return (nf_net *)new_of_kind(NFI_NET, type ? &type->part : NULL, type, bad, own, self, children, n_children, 0,
                                 "nf_net_new");
}

nf_flow *nfi_flow_new_detached(const nf_flow_type *type, const nf_shape *own, void *self, nf_object *const *children,
                               size_t n_children, size_t n_detached)
{
    bool bad = type_is_bad(type, type ? type->abi : 0, sizeof *type, type && type->apply && type->vjp, "nf_flow_new");
    return (nf_flow *)new_of_kind(NFI_FLOW, type ? &type->part : NULL, type, bad, own, self, children, n_children,
                                  n_detached, "nf_flow_new");
}

nf_flow *nf_flow_new(const nf_flow_type *type, const nf_shape *own, void *self, nf_object *const *children,
                     size_t n_children)
{
    return nfi_flow_new_detached(type, own, self, children, n_children, 0);
}

nf_dist *nf_dist_new(const nf_dist_type *type, const nf_shape *own, void *self, nf_object *const *children,
                     size_t n_children)
{
    bool bad =
        type_is_bad(type, type ? type->abi : 0, sizeof *type, type && (type->sample || type->score), "nf_dist_new");
    return (nf_dist *)new_of_kind(NFI_DIST, type ? &type->part : NULL, type, bad, own, self, children, n_children, 0,
                                  "nf_dist_new");
}

/* Every kind's view of the node that it begins with. */
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
