/* Object trees: a node of any kind and its layout. References are in parts.c, the kinds in kinds.c, the walks that use
   the layout in walk.c. A node's numbers are laid out like this: its own, then child 0's, child 1's, ... Its sites
   likewise: its own (at least one), then the children's. */
#include "object/tree.h"
#include "base/memory.h"
#include "object/parts.h"

const void *nf_self(const nf_object *o)
{
    return o ? o->self : NULL;
}

const nf_shape *nf_object_shape(const nf_object *o)
{
    static const nf_shape none;
    return o ? &o->total : &none;
}

const char *nfi_kind_name(nfi_kind kind)
{
    static const char *const name[] = {[NFI_NET] = "net", [NFI_FLOW] = "flow", [NFI_DIST] = "dist", [NFI_VAE] = "vae"};
    return name[kind];
}

const char *nf_object_kind(const nf_object *o)
{
    return o ? nfi_kind_name(o->kind) : "";
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

/* Places child i behind what `total` holds so far, and adds the child's sizes to `total`. */
static bool place_child(nf_object *o, size_t i)
{
    const nf_shape *c = &o->children[i]->total;
    nf_shape *t = &o->total;
    nfi_place *at = &o->place[i];
    at->site = t->n_sites;
    t->flags |= c->flags & NF_STOCHASTIC;
    if (o->own.flags & NFI_RECOMPUTES)
        t->n_saved = c->n_saved > t->n_saved ? c->n_saved : t->n_saved;
    else if (!nfi_add(t->n_saved, c->n_saved, &t->n_saved))
        return false;
    if (__builtin_add_overflow(t->n_sites, c->n_sites, &t->n_sites))
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
    const bool listed = n_children == 0 || children; /* if not, check_new says so */
    if (!listed || nfi_parts_take(who, n_children, children, NULL)) {
        if (check_new(part, own, children, n_children, who) == NF_OK)
            o = build(kind, part, type, own, self, children, n_children, n_detached);
        if (o)
            return o;
        if (listed)
            nfi_parts_drop(n_children, children);
    }
    if (part && part->destroy && self)
        part->destroy(self);
    return NULL;
}
