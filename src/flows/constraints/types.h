/* The type tables of the constraints, for model files. */
#ifndef NFI_CONSTRAINT_TYPES_H
#define NFI_CONSTRAINT_TYPES_H
#include <nflow/constraints.h>

extern const nf_flow_type nfi_bounds_type;
extern const nf_flow_type nfi_ordered_type;
extern const nf_flow_type nfi_simplex_type;
extern const nf_flow_type nfi_sum_to_zero_type;
extern const nf_flow_type nfi_cholesky_corr_type;
extern const nf_flow_type nfi_cholesky_cov_type;
extern const nf_flow_type nfi_gram_type;

#define NFI_CONSTRAINT_TYPES                                                                                \
    &nfi_bounds_type, &nfi_ordered_type, &nfi_simplex_type, &nfi_sum_to_zero_type, &nfi_cholesky_corr_type, \
        &nfi_cholesky_cov_type, &nfi_gram_type

#endif
