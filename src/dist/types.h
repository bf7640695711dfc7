/* The type tables of the built-in distributions, for model files. */
#ifndef NFI_DIST_TYPES_H
#define NFI_DIST_TYPES_H
#include <nflow/dist.h>

extern const nf_dist_type nfi_normal_type;
extern const nf_dist_type nfi_student_t_type;
extern const nf_dist_type nfi_logistic_type;
extern const nf_dist_type nfi_uniform_type;
extern const nf_dist_type nfi_mixture_type;
extern const nf_dist_type nfi_pushforward_type;

#endif
