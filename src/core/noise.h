/* Names of random numbers as counters and keys; see noise.c for the mapping, noise_kernels.c for the numbers. */
#ifndef NFI_NOISE_H
#define NFI_NOISE_H
#include "core/kernel.h"
#include <nflow/noise.h>

/* The counter and key of block `block` of sample `sample` (a global index; noise->first_sample is not added). */
void nfi_noise_block(const nf_noise *noise, uint64_t sample, uint32_t block, uint32_t counter[4], uint32_t key[2]);
/* nf_noise_uniform's numbers as they are before rounding: odd multiples of 2^-53, symmetric about 1/2. */
void nfi_noise_uniform_d(const nf_noise *noise, size_t dim, size_t n, size_t ld, double *out);

/* The two 64-bit numbers of the block with this counter and those of the n - 1 samples after it: words 0, 1 and 2, 3.
 */
NFI_KERNEL void nfi_noise_numbers(const uint32_t *counter, const uint32_t *key, size_t n, uint64_t *a, uint64_t *b);
/* The same of the block with this counter and the n - 1 blocks after it, all of one sample: its rows two by two. */
NFI_KERNEL void nfi_noise_blocks(const uint32_t *counter, const uint32_t *key, size_t n, uint64_t *a, uint64_t *b);
/* What n pairs of such numbers become, two rows [n]: of nf_real, but `wide` ones of double. */
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

/* The one that (seed, step, site) of `noise` name; n >= 1. */
nfi_permutation nfi_permutation_named(const nf_noise *noise, uint64_t n);
/* Its value number i < n. */
uint64_t nfi_permuted(const nfi_permutation *p, uint64_t i);

#endif
