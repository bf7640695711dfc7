/* A fingerprint of numbers: 64 bits that follow from the bits of all of them. If one number changes, the fingerprint
   changes; if several change, it stays the same only by a coincidence. */
#ifndef NFI_FINGERPRINT_H
#define NFI_FINGERPRINT_H
#include "base/kernel.h"

/* The fingerprint of x [n], which continues the fingerprint `before` of what came before. */
NFI_KERNEL uint64_t nfi_fingerprint(uint64_t before, size_t n, const nf_real *x);

#endif
