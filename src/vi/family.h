/* The distributions that are fitted to a whitened target. */
#ifndef NFI_FAMILY_H
#define NFI_FAMILY_H
#include <nflow/inference.h>

static inline bool nfi_family_is_normal(nf_family f)
{
    return f == NF_FAMILY_MEAN_FIELD || f == NF_FAMILY_LOW_RANK || f == NF_FAMILY_FULL_RANK;
}

/* Steps and rate where nothing is asked for; of a flow of the caller's those of NF_FAMILY_REALNVP. By measurement: how
   far the ELBO of posteriordb's posteriors comes with half and with twice as much (docs/posterior.md). */
uint64_t nfi_family_steps(nf_family f);
double nfi_family_rate(nf_family f);

/* A base, the flow, and an affine map on top, whose parameters are the last ones: mean [d], log-scales [d] and, unless
   it is diagonal, the rows below the diagonal. o->family is not NF_FAMILY_DEFAULT. NULL with a message. */
nf_dist *nfi_family_dist(const nf_stage_options *o, size_t d, bool diagonal);

#endif
