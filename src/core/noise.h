/* Names of random numbers as counters and keys; see noise.c for the mapping. */
#ifndef NFI_NOISE_H
#define NFI_NOISE_H
#include <nflow/noise.h>

/* The counter and key of block `block` of sample `sample` (a global index; noise->first_sample is not added). */
void nfi_noise_block(const nf_noise *noise, uint64_t sample, uint32_t block, uint32_t counter[4], uint32_t key[2]);
/* nf_noise_uniform's numbers as they are before rounding: odd multiples of 2^-53, symmetric about 1/2. */
void nfi_noise_uniform_d(const nf_noise *noise, size_t dim, size_t n, size_t ld, double *out);

#endif
