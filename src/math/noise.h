/* How names of random numbers become counters and keys (see noise.c), and the random numbers themselves (see
   noise_kernels.c). */
#ifndef NFI_NOISE_H
#define NFI_NOISE_H
#include "base/kernel.h"
#include <nflow/noise.h>

/* The counter and the key of block `block` of sample `sample`. `sample` is a global index: noise->first_sample is not
   added. */
void nfi_noise_block(const nf_noise *noise, uint64_t sample, uint32_t block, uint32_t counter[4], uint32_t key[2]);
/* The numbers of nf_noise_uniform before rounding: odd multiples of 2^-53, symmetric about 1/2. */
void nfi_noise_uniform_d(const nf_noise *noise, size_t dim, size_t n, size_t ld, double *out);

/* Two 64-bit numbers for each of n samples: a[s] has words 0 and 1, b[s] words 2 and 3 of sample s's block. The block
   of sample 0 has this counter; the sample's word of the counter grows by one per sample. */
NFI_KERNEL void nfi_noise_numbers(const uint32_t *counter, const uint32_t *key, size_t n, uint64_t *a, uint64_t *b);
/* The same for n consecutive blocks of one sample, of which the first has this counter. Each block gives two of the
   sample's features. */
NFI_KERNEL void nfi_noise_blocks(const uint32_t *counter, const uint32_t *key, size_t n, uint64_t *a, uint64_t *b);
/* These turn n pairs of such numbers into two rows of n values each: of nf_real, or of double for the `wide` ones. */
NFI_KERNEL void nfi_noise_normals(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second);
NFI_KERNEL void nfi_noise_uniforms(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second);
NFI_KERNEL void nfi_noise_wide_uniforms(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second);

/* ---- permutations without an array: permuted.c ---- */

enum { NFI_PERMUTATION_ROUNDS = 32 }; /* at most */

/* A permutation of 0..n-1 that nfi_permuted computes value by value. */
typedef struct nfi_permutation {
    uint64_t n, low_mask, high_mask;
    unsigned low_bits, rounds;
    uint64_t key[NFI_PERMUTATION_ROUNDS];
} nfi_permutation;

/* The permutation of 0..n-1 that (seed, step, site) of `noise` name; n >= 1. */
nfi_permutation nfi_permutation_named(const nf_noise *noise, uint64_t n);
/* Value i of the permutation, i < n. */
uint64_t nfi_permuted(const nfi_permutation *p, uint64_t i);

#endif
