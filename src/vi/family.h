/* The distributions that are fitted to a whitened target. */
#ifndef NFI_FAMILY_H
#define NFI_FAMILY_H
#include <nflow/inference.h>

static inline bool nfi_family_is_normal(nf_family f)
{
    return f == NF_FAMILY_MEAN_FIELD || f == NF_FAMILY_LOW_RANK || f == NF_FAMILY_FULL_RANK;
}

/* Steps and rate where nothing is asked for. */
static inline uint64_t nfi_family_steps(bool normal)
{
    return normal ? 300 : 2000;
}

static inline double nfi_family_rate(bool normal)
{
    return normal ? 0.02 : 0.01;
}

/* A base, the flow, and an affine map on top, whose parameters are the last ones: mean [d], log-scales [d] and, unless
   it is diagonal, the rows below the diagonal. o->family is not NF_FAMILY_DEFAULT. NULL with a message. */
nf_dist *nfi_family_dist(const nf_stage_options *o, size_t d, bool diagonal);

#endif
