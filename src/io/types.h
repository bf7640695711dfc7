/* Which types a model file may name: the library's own and the caller's. */
#ifndef NFI_TYPES_H
#define NFI_TYPES_H
#include "core/tree.h"
#include <nflow/model.h>

/* The tables, which stand in the files of the layers. */
extern const nf_net_type nfi_mlp_type;
extern const nf_flow_type nfi_chain_type, nfi_invert_type, nfi_amortized_type, nfi_coupling_type;
extern const nf_flow_type nfi_on_context_type, nfi_planar_type, nfi_radial_type;
extern const nf_flow_type nfi_affine_type, nfi_lu_linear_type, nfi_permutation_type;
extern const nf_dist_type nfi_normal_type, nfi_pushforward_type;
nf_vae *nfi_vae_rebuild(nf_reader *r);

/* The key of a kind in model files: "net", "flow", "dist", "vae". */
const char *nfi_kind_name(nfi_kind kind);
/* Calls the rebuild hook of the type of that kind and name, the caller's types first. NULL with NF_EFORMAT if there is
   none, or what the hook left. */
nf_object *nfi_rebuild_type(const char *kind, const char *name, const nf_types *types, nf_reader *r);

#endif
