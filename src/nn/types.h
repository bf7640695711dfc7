/* The type tables of the built-in nets, for model files. */
#ifndef NFI_NN_TYPES_H
#define NFI_NN_TYPES_H
#include <nflow/net.h>

extern const nf_net_type nfi_masked_net_type, nfi_lipschitz_type;
extern const nf_net_type nfi_mlp_type, nfi_gated_mlp_type, nfi_maxout_mlp_type, nfi_residual_mlp_type,
    nfi_squash_mlp_type, nfi_conv_net_type;

#endif
