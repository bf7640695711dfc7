/* Optimizers from the inside. */
#ifndef NFI_OPTIMIZERS_H
#define NFI_OPTIMIZERS_H
#include <nflow/fit.h>

/* The coefficients in force: 0 stands for the type's default, negative for 0. `options` may be NULL: all defaults. */
nf_optimizer_options nfi_resolve(const nf_optimizer_type *type, const nf_optimizer_options *options);

#endif
