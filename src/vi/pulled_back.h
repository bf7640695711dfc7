/* A target pulled back through a flow. */
#ifndef NFI_PULLED_BACK_H
#define NFI_PULLED_BACK_H
#include <nflow/target.h>

/* nf_target_pulled_back, for a function whose messages begin with `who`. */
nf_target *nfi_pulled_back(const char *who, const nf_target *t, const nf_model *flow);

#endif
