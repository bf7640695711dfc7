/* What the ladder of nf_vi() consists of. */
#ifndef NFI_RUNGS_H
#define NFI_RUNGS_H
#include <nflow/inference.h>

/* A rung: how its stage is made. */
typedef struct nfi_rung {
    const char *name;
    nf_family family;
    bool t; /* the base is a t */
    size_t layers, width, draws;
    uint64_t steps; /* the most */
    double rate;
} nfi_rung;

enum { NFI_RUNGS = 3 };

/* Rung k of the ladder. `full`: the start's covariance is full. */
const nfi_rung *nfi_rung_of_ladder(size_t k, bool full);
/* The one rung of a family alone, or of a flow of the caller's on a t. */
nfi_rung nfi_rung_of_family(nf_family family, bool own_flow);

#endif
