/* The built-in flows, by the names of their type tables: nfi_<name>_type. A new flow is a line here, which lets model
   files name it. The constraints are in constraints/types.h. */
#ifndef NFI_FLOW_TYPES_H
#define NFI_FLOW_TYPES_H
#include <nflow/flow.h>

#define NFI_FLOW_TYPES(DO)        \
    DO(chain)                     \
    DO(recomputed_chain)          \
    DO(blocks)                    \
    DO(invert)                    \
    DO(amortized)                 \
    DO(context_net)               \
    DO(coupling)                  \
    DO(coupling_by_context)       \
    DO(autoregressive)            \
    DO(autoregressive_by_context) \
    DO(on_context)                \
    DO(pixelwise)                 \
    DO(affine)                    \
    DO(actnorm)                   \
    DO(batch_norm)                \
    DO(full_affine)               \
    DO(low_rank_affine)           \
    DO(shift)                     \
    DO(scaled_affine)             \
    DO(spline)                    \
    DO(sos_polynomial)            \
    DO(monotone_net)              \
    DO(lu_linear)                 \
    DO(permutation)               \
    DO(soft_log)                  \
    DO(planar)                    \
    DO(radial)                    \
    DO(householder)               \
    DO(sylvester)                 \
    DO(continuous)                \
    DO(residual)

#define NFI_DECLARE(name) extern const nf_flow_type nfi_##name##_type;
NFI_FLOW_TYPES(NFI_DECLARE)
#undef NFI_DECLARE

/* The options of nf_residual, one of the recipes. */
extern const nf_option_table nfi_residual_recipe_options;

/* The options of recipe number i (nflow/recipes.h), in no particular order: of vectors, of images, of all. NULL past
   the end. */
const nf_option_table *nfi_vector_recipe_options(size_t i);
const nf_option_table *nfi_image_recipe_options(size_t i);
const nf_option_table *nfi_recipe_options(size_t i);

#endif
