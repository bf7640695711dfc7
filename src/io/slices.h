/* The named tensors of an object's parameters, in the order of theta. */
#ifndef NFI_SLICES_H
#define NFI_SLICES_H
#include "base/memory.h"

enum { NFI_MAX_RANK = 4 };

typedef struct nfi_slice {
    const char *name;
    size_t offset, count, rank, extents[NFI_MAX_RANK];
} nfi_slice;

typedef struct nfi_slices {
    size_t n;
    nfi_slice *slice; /* [n] */
    nf_arena memory;
} nfi_slices;

/* Collects the tensors of o. NF_EARG, in the name of `who`, if they do not cover theta exactly once: then a type's
   `slices` hook is wrong. NF_ENOMEM. */
nf_status nfi_slices_of(const nf_object *o, const char *who, nfi_slices *out);
void nfi_slices_free(nfi_slices *s);

#endif
