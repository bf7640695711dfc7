/* The type tables of the built-in flows, for model files. */
#ifndef NFI_FLOW_TYPES_H
#define NFI_FLOW_TYPES_H
#include <nflow/flow.h>

extern const nf_flow_type nfi_chain_type;
extern const nf_flow_type nfi_blocks_type;
extern const nf_flow_type nfi_invert_type;
extern const nf_flow_type nfi_amortized_type;
extern const nf_flow_type nfi_context_net_type;
extern const nf_flow_type nfi_coupling_type;
extern const nf_flow_type nfi_coupling_by_context_type;
extern const nf_flow_type nfi_autoregressive_type;
extern const nf_flow_type nfi_autoregressive_by_context_type;
extern const nf_flow_type nfi_on_context_type;
extern const nf_flow_type nfi_affine_type;
extern const nf_flow_type nfi_actnorm_type;
extern const nf_flow_type nfi_batch_norm_type;
extern const nf_flow_type nfi_full_affine_type;
extern const nf_flow_type nfi_low_rank_affine_type;
extern const nf_flow_type nfi_shift_type;
extern const nf_flow_type nfi_scaled_affine_type;
extern const nf_flow_type nfi_spline_type;
extern const nf_flow_type nfi_lu_linear_type;
extern const nf_flow_type nfi_permutation_type;
extern const nf_flow_type nfi_soft_log_type;
extern const nf_flow_type nfi_planar_type;
extern const nf_flow_type nfi_radial_type;
extern const nf_flow_type nfi_householder_type;
extern const nf_flow_type nfi_sylvester_type;

/* The options of recipe number i (nflow/recipes.h), in no particular order. NULL past the end. */
const nf_option_table *nfi_recipe_options(size_t i);

#endif
