/* Random numbers with names. A name becomes the counter and the key of noise_kernels.c like this:

     counter = (sample, block, site, step), low 32 bits of each; key = seed, low word first.

   If the sample or the step is 2^32 or more, the key is instead made of the first two words of another block: that with
   the counter (sample >> 32, step >> 32, ~0, ~0) and the key `seed`. A block gives two numbers: block k those of the
   features 2k and 2k + 1. Block ~0 belongs to permutations, block ~0 - 1 to the keys of permuted.c. */
#include "math/noise.h"
#include <string.h>

enum { CHUNK = 256 }; /* samples whose numbers are kept on the stack; a multiple of NFI_LANES */
static const uint32_t PERMUTATION = UINT32_MAX;

void nf_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint64_t a, b;
    nfi_noise_numbers(counter, key, 1, &a, &b);
    out[0] = (uint32_t)a;
    out[1] = (uint32_t)(a >> 32);
    out[2] = (uint32_t)b;
    out[3] = (uint32_t)(b >> 32);
}

void nfi_noise_block(const nf_noise *noise, uint64_t sample, uint32_t block, uint32_t counter[4], uint32_t key[2])
{
    key[0] = (uint32_t)noise->seed;
    key[1] = (uint32_t)(noise->seed >> 32);
    if (sample >> 32 || noise->step >> 32) {
        uint32_t high[4] = {(uint32_t)(sample >> 32), (uint32_t)(noise->step >> 32), UINT32_MAX, UINT32_MAX};
        nf_philox(high, key, high);
        key[0] = high[0];
        key[1] = high[1];
    }
    counter[0] = (uint32_t)sample;
    counter[1] = block;
    counter[2] = noise->site;
    counter[3] = (uint32_t)noise->step;
}

/* Turns the two 64-bit numbers of each sample's block into the values of two features. */
typedef void pair_fn(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second);

/* Fills out [dim x ld] with numbers of `size` bytes. It works by chunks of samples, so that all arrays fit into the
   first-level cache. A chunk also ends where the low word of the sample number wraps. */
static void fill(const nf_noise *noise, size_t dim, size_t n, size_t ld, size_t size, void *out, pair_fn *pair)
{
    uint64_t a[CHUNK], b[CHUNK];
    union {
        nf_real rounded[CHUNK];
        double wide[CHUNK];
    } x, y;
    uint32_t counter[4], key[2];
    unsigned char *at = out;
    for (size_t s = 0, count; s < n; s += count) {
        const uint32_t *column = noise->column;
        uint64_t sample = noise->first_sample + (column ? column[s] : s);
        uint64_t until_wrap = (UINT64_C(1) << 32) - (sample & UINT32_MAX);
        count = n - s < CHUNK ? n - s : CHUNK;
        for (size_t k = 1; column && k < count; k++) /* up to the first sample that was left out */
            if (column[s + k] != column[s] + k)
                count = k;
        count = count < until_wrap ? count : (size_t)until_wrap;
        size_t lanes = nfi_lanes(count + NFI_LANES - 1);
        for (size_t row = 0; row < dim; row += 2) {
            nfi_noise_block(noise, sample, (uint32_t)(row / 2), counter, key);
            nfi_noise_numbers(counter, key, lanes, a, b);
            pair(lanes, a, b, &x, &y);
            memcpy(at + (row * ld + s) * size, &x, count * size);
            if (row + 1 < dim)
                memcpy(at + ((row + 1) * ld + s) * size, &y, count * size);
        }
    }
    for (size_t row = 0; row < dim; row++) {
        unsigned char *last = at + (row * ld + n - 1) * size;
        for (size_t k = 1; k <= ld - n; k++) /* with a constant size memcpy is a move, not a call */
            size == sizeof(float) ? memcpy(last + k * size, last, sizeof(float))
                                  : memcpy(last + k * size, last, sizeof(double));
    }
}

void nf_noise_normal(const nf_noise *noise, size_t dim, size_t n, size_t ld, nf_real *out)
{
    fill(noise, dim, n, ld, sizeof *out, out, nfi_noise_normals);
}

void nf_noise_uniform(const nf_noise *noise, size_t dim, size_t n, size_t ld, nf_real *out)
{
    fill(noise, dim, n, ld, sizeof *out, out, nfi_noise_uniforms);
}

void nfi_noise_uniform_d(const nf_noise *noise, size_t dim, size_t n, size_t ld, double *out)
{
    fill(noise, dim, n, ld, sizeof *out, out, nfi_noise_wide_uniforms);
}

/* floor(number n / 2^64): uniform on 0..n-1, up to a bias below n / 2^64. */
static size_t below(uint64_t number, size_t n)
{
    __extension__ typedef unsigned __int128 wide;
    return (size_t)((wide)number * n >> 64);
}

/* Draw i swaps the places i and j, j <= i. It uses number i % 2 of the permutation block of sample i / 2. */
void nf_noise_permutation(const nf_noise *noise, size_t n, size_t *order)
{
    uint32_t counter[4], key[2], word[4];
    for (size_t i = 0; i < n; i++) {
        if (i % 2 == 0) {
            nfi_noise_block(noise, i / 2, PERMUTATION, counter, key);
            nf_philox(counter, key, word);
        }
        const uint32_t *half = word + 2 * (i % 2);
        size_t j = below(half[0] | (uint64_t)half[1] << 32, i + 1);
        order[i] = order[j]; /* "inside-out" shuffle: place i gets what stood at j, j gets i */
        order[j] = i;
    }
}
