/* The one list of the library's types. */
#include "model/types.h"
#include "object/table.h"
#include <nflow/vae.h>
#include <string.h>

static const nf_net_type *const nets[] = {
    &nfi_mlp_type,        &nfi_gated_mlp_type,  &nfi_maxout_mlp_type, &nfi_residual_mlp_type,
    &nfi_masked_net_type, &nfi_squash_mlp_type, &nfi_lipschitz_type,  &nfi_conv_net_type,
};
static const nf_flow_type *const flows[] = {NFI_CONSTRAINT_TYPES,
#define NFI_ROW(name) &nfi_##name##_type,
                                            NFI_FLOW_TYPES(NFI_ROW)
#undef NFI_ROW
};
static const nf_dist_type *const dists[] = {
    &nfi_normal_type,  &nfi_student_t_type,        &nfi_logistic_type,    &nfi_uniform_type,
    &nfi_mixture_type, &nfi_gaussian_mixture_type, &nfi_pushforward_type, &nfi_amortized_dist_type,
    &nfi_joint_type,   &nfi_dequantised_type,
};

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* The table of type number i, and its kind. NULL past the end, and for the VAE, which has none. */
static const void *type_at(size_t i, nfi_kind *kind)
{
    const size_t n_nets = LENGTH(nets), n_flows = LENGTH(flows), n_dists = LENGTH(dists);
    *kind = i < n_nets                       ? NFI_NET
            : i < n_nets + n_flows           ? NFI_FLOW
            : i < n_nets + n_flows + n_dists ? NFI_DIST
                                             : NFI_VAE;
    return *kind == NFI_NET    ? (const void *)nets[i]
           : *kind == NFI_FLOW ? (const void *)flows[i - n_nets]
           : *kind == NFI_DIST ? (const void *)dists[i - n_nets - n_flows]
                               : NULL;
}

const char *nfi_type_name(size_t i, nfi_kind *kind)
{
    const void *type = type_at(i, kind);
    switch (*kind) {
    case NFI_NET:
        return ((const nf_net_type *)type)->part.name;
    case NFI_FLOW:
        return ((const nf_flow_type *)type)->part.name;
    case NFI_DIST:
        return ((const nf_dist_type *)type)->part.name;
    case NFI_VAE:
        break;
    }
    return i == LENGTH(nets) + LENGTH(flows) + LENGTH(dists) ? "vae" : NULL;
}

const nf_option_table *nfi_options_of(nfi_kind kind, const void *type)
{
    return kind == NFI_NET    ? ((const nf_net_type *)type)->options
           : kind == NFI_FLOW ? ((const nf_flow_type *)type)->options
           : kind == NFI_DIST ? ((const nf_dist_type *)type)->options
                              : NULL;
}

const nf_option_table *nfi_type_options(size_t i)
{
    nfi_kind kind;
    const void *type = type_at(i, &kind);
    return nfi_options_of(kind, type);
}

/* Finds the type of that name: first among the caller's n types, whose tables may be smaller than the library's, then
   among the library's own. */
#define FIND(noun)                                                                                                \
    static const nf_##noun##_type *find_##noun(const char *name, const nf_##noun##_type *const *theirs, size_t n) \
    {                                                                                                             \
        for (size_t i = 0; theirs && i < n; i++)                                                                  \
            if (theirs[i] && nfi_table_reaches(theirs[i]->abi, NFI_END_OF(nf_##noun##_type, part)) &&             \
                theirs[i]->part.name && strcmp(theirs[i]->part.name, name) == 0)                                  \
                return theirs[i];                                                                                 \
        for (size_t i = 0; i < LENGTH(noun##s); i++)                                                              \
            if (strcmp(noun##s[i]->part.name, name) == 0)                                                         \
                return noun##s[i];                                                                                \
        return NULL;                                                                                              \
    }
FIND(net)
FIND(flow)
FIND(dist)

#define CAN_REBUILD(noun, t) ((t) && nfi_table_reaches((t)->abi, NFI_END_OF(nf_##noun##_type, rebuild)) && (t)->rebuild)

static nf_object *cannot(const char *name, bool found)
{
    nf_error(NF_EFORMAT, found ? "the type '%s' has no rebuild hook" : "no type '%s' is known; pass it in nf_types",
             name);
    return NULL;
}

nf_object *nfi_rebuild_type(const char *kind, const char *name, const nf_types *types, nf_reader *r)
{
    static const nf_types none;
    types = types ? types : &none;
    if (strcmp(kind, "net") == 0) {
        const nf_net_type *t = find_net(name, types->nets, types->n_nets);
        return CAN_REBUILD(net, t) ? nf_net_object(t->rebuild(r)) : cannot(name, t != NULL);
    }
    if (strcmp(kind, "flow") == 0) {
        const nf_flow_type *t = find_flow(name, types->flows, types->n_flows);
        return CAN_REBUILD(flow, t) ? nf_flow_object(t->rebuild(r)) : cannot(name, t != NULL);
    }
    if (strcmp(kind, "dist") == 0) {
        const nf_dist_type *t = find_dist(name, types->dists, types->n_dists);
        return CAN_REBUILD(dist, t) ? nf_dist_object(t->rebuild(r)) : cannot(name, t != NULL);
    }
    if (strcmp(kind, "vae") == 0 && strcmp(name, "vae") == 0)
        return nf_vae_object(nfi_vae_rebuild(r));
    if (strcmp(kind, "vae") == 0)
        return cannot(name, false);
    nf_error(NF_EFORMAT, "no kind '%s' is known", kind);
    return NULL;
}
