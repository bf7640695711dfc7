/* The kinds of objects: constructors from the tables of types, which begin with their sizes (table.h), conversions
   between a kind and the node that it begins with, and parts of a kind that a description has. */
#include "object/parts.h"
#include "base/memory.h"
#include "object/table.h"

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
    if (children)
        nfi_parts_release(n_children, children);
    if (type && self && nfi_table_reaches(*(const size_t *)type, t->part + sizeof(nf_part))) {
        const nf_part *part = (const nf_part *)((const char *)type + t->part);
        if (part->destroy)
            part->destroy(self);
    }
    return NULL;
}

nf_net *nfi_net_new_detached(const nf_net_type *type, const nf_shape *own, void *self, nf_object *const *children,
                             size_t n_children, size_t n_detached)
{
    return (nf_net *)new_of_kind(&net_table, type, own, self, children, n_children, n_detached);
}

nf_net *nf_net_new(const nf_net_type *type, const nf_shape *own, void *self, nf_object *const *children,
                   size_t n_children)
{
    return nfi_net_new_detached(type, own, self, children, n_children, 0);
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

nf_dist *nfi_dist_new_detached(const nf_dist_type *type, const nf_shape *own, void *self, nf_object *const *children,
                               size_t n_children, size_t n_detached)
{
    return (nf_dist *)new_of_kind(&dist_table, type, own, self, children, n_children, n_detached);
}

nf_dist *nf_dist_new(const nf_dist_type *type, const nf_shape *own, void *self, nf_object *const *children,
                     size_t n_children)
{
    return nfi_dist_new_detached(type, own, self, children, n_children, 0);
}

/* Child i of a description, an object of this kind, which messages call `noun`. */
static nf_object *read_part(nf_reader *r, size_t i, nfi_kind kind, const char *noun, const char *whose)
{
    nf_object *o = nf_read_child(r, i);
    const char *of = whose ? " of " : "", *whole = whose ? whose : "";
    if (o && o->kind == kind)
        return o;
    if (o)
        nf_error(NF_EFORMAT, "part %zu%s%s is a %s where a %s is needed", i, of, whole, nf_object_name(o), noun);
    else
        nf_error(NF_EFORMAT, "part %zu%s%s, a %s, is missing", i, of, whole, noun);
    nf_object_free(o);
    return NULL;
}

/* For each kind, its node and its references; for those that are parts of others, also the kind of a node, and how it
   is read. */
#define KIND(noun)                                         \
    nf_object *nf_##noun##_object(nf_##noun *k)            \
    {                                                      \
        return (nf_object *)k;                             \
    }                                                      \
    nf_##noun *nf_##noun##_ref(nf_##noun *k)               \
    {                                                      \
        return (nf_##noun *)nf_object_ref((nf_object *)k); \
    }                                                      \
    void nf_##noun##_free(nf_##noun *k)                    \
    {                                                      \
        nf_object_free((nf_object *)k);                    \
    }
#define PART(noun, tag, words)                                            \
    KIND(noun)                                                            \
    nf_##noun *nfi_as_##noun(nf_object *o)                                \
    {                                                                     \
        return o && o->kind == tag ? (nf_##noun *)o : NULL;               \
    }                                                                     \
    nf_##noun *nfi_read_##noun(nf_reader *r, size_t i, const char *whose) \
    {                                                                     \
        return (nf_##noun *)read_part(r, i, tag, words, whose);           \
    }
PART(net, NFI_NET, "net")
PART(flow, NFI_FLOW, "flow")
PART(dist, NFI_DIST, "distribution")
KIND(vae)

const nf_shape *nf_flow_shape(const nf_flow *flow)
{
    return nf_object_shape((const nf_object *)flow);
}

const nf_shape *nf_dist_shape(const nf_dist *dist)
{
    return nf_object_shape((const nf_object *)dist);
}
