/* Counter-based noise: Philox4x32-10, after Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
   SC 2011, section 4.3. A round maps (c0, c1, c2, c3) with key (k0, k1) to

     (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),

   and the key grows by (W0, W1) between rounds. Names become counters and keys thus:

     counter = (sample, block, site, step), low 32 bits of each; key = seed, low word first.

   Where a sample or a step passes 2^32, the key is instead the first two words of the block with counter (sample >> 32,
   step >> 32, ~0, ~0) and key `seed`. Block k holds rows 2k and 2k + 1: words (0, 1) make one 64-bit number, words
   (2, 3) another, low word first; a number's upper 52 bits m make u = (2m + 1) 2^-53: exact, symmetric, never 0 or 1.
   Uniforms are u0 and u1; normals are Box and Muller's sqrt(-2 log u0) times cos(2 pi u1) and sin(2 pi u1). Block ~0
   belongs to permutations. */
#include "core/noise.h"
#include "core/vec.h"

enum { CHUNK = 256 }; /* samples whose words are kept on the stack; a multiple of NFI_LANES */
static const uint32_t PERMUTATION = UINT32_MAX;

/* Words are 32-bit numbers in 64-bit lanes, so that products are single instructions. */
typedef struct words {
    uint64_t c0, c1, c2, c3;
} words;

NFI_INLINE words round_of(words c, uint32_t k0, uint32_t k1)
{
    uint64_t p = UINT64_C(0xD2511F53) * c.c0, q = UINT64_C(0xCD9E8D57) * c.c2;
    return (words){q >> 32 ^ c.c1 ^ k0, q & UINT32_MAX, p >> 32 ^ c.c3 ^ k1, p & UINT32_MAX};
}

/* Written out, because gcc vectorises over samples only without an inner loop. */
NFI_INLINE words ten_rounds(words c, uint32_t k0, uint32_t k1)
{
    const uint32_t w0 = UINT32_C(0x9E3779B9), w1 = UINT32_C(0xBB67AE85);
    c = round_of(c, k0, k1);
    c = round_of(c, k0 + w0, k1 + w1);
    c = round_of(c, k0 + 2 * w0, k1 + 2 * w1);
    c = round_of(c, k0 + 3 * w0, k1 + 3 * w1);
    c = round_of(c, k0 + 4 * w0, k1 + 4 * w1);
    c = round_of(c, k0 + 5 * w0, k1 + 5 * w1);
    c = round_of(c, k0 + 6 * w0, k1 + 6 * w1);
    c = round_of(c, k0 + 7 * w0, k1 + 7 * w1);
    c = round_of(c, k0 + 8 * w0, k1 + 8 * w1);
    return round_of(c, k0 + 9 * w0, k1 + 9 * w1);
}

void nf_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    words c = ten_rounds((words){counter[0], counter[1], counter[2], counter[3]}, key[0], key[1]);
    out[0] = (uint32_t)c.c0;
    out[1] = (uint32_t)c.c1;
    out[2] = (uint32_t)c.c2;
    out[3] = (uint32_t)c.c3;
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

/* The two numbers of the blocks of n consecutive samples. */
NFI_CLONES static void numbers(const uint32_t counter[4], const uint32_t key[2], size_t n, uint64_t *a, uint64_t *b)
{
    const uint64_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    const uint32_t k0 = key[0], k1 = key[1];
    NFI_SIMD
    for (uint64_t s = 0; s < n; s++) {
        words c = ten_rounds((words){(c0 + s) & UINT32_MAX, c1, c2, c3}, k0, k1);
        a[s] = c.c0 | c.c1 << 32;
        b[s] = c.c2 | c.c3 << 32;
    }
}

/* (2m + 1) 2^-53: the bits of 1 above those of m make 1 + m 2^-52. */
NFI_INLINE double open_unit(uint64_t number)
{
    return nfi_from_bits_d(number >> 12 | NFI_ONE_D) - (1 - 0x1p-53);
}

typedef void pair_fn(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second);

NFI_CLONES static void normals(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second)
{
    nf_real *x = first, *y = second;
    NFI_SIMD
    for (size_t s = 0; s < n; s++) {
        double radius = sqrt(-2 * nfi_log_d(open_unit(a[s]))), turns = open_unit(b[s]);
        x[s] = (nf_real)(radius * nfi_cos2pi_d(turns));
        y[s] = (nf_real)(radius * nfi_sin2pi_d(turns));
    }
}

NFI_CLONES static void uniforms(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second)
{
    nf_real *x = first, *y = second;
    const double largest = sizeof(nf_real) == sizeof(double) ? 1 - 0x1p-53 : 1 - 0x1p-24; /* nf_real below 1 */
    NFI_SIMD
    for (size_t s = 0; s < n; s++) {
        double u = open_unit(a[s]), v = open_unit(b[s]);
        x[s] = (nf_real)(u < largest ? u : largest);
        y[s] = (nf_real)(v < largest ? v : largest);
    }
}

NFI_CLONES static void wide_uniforms(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second)
{
    double *x = first, *y = second;
    NFI_SIMD
    for (size_t s = 0; s < n; s++) {
        x[s] = open_unit(a[s]);
        y[s] = open_unit(b[s]);
    }
}

/* Numbers of `size` bytes, chunk by chunk, so that all fits in the first cache; a chunk ends where the low word of the
   sample wraps. */
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
        uint64_t sample = noise->first_sample + s, until_wrap = (UINT64_C(1) << 32) - (sample & UINT32_MAX);
        count = n - s < CHUNK ? n - s : CHUNK;
        count = count < until_wrap ? count : (size_t)until_wrap;
        size_t lanes = nfi_lanes(count + NFI_LANES - 1);
        for (size_t row = 0; row < dim; row += 2) {
            nfi_noise_block(noise, sample, (uint32_t)(row / 2), counter, key);
            numbers(counter, key, lanes, a, b);
            pair(lanes, a, b, &x, &y);
            memcpy(at + (row * ld + s) * size, &x, count * size);
            if (row + 1 < dim)
                memcpy(at + ((row + 1) * ld + s) * size, &y, count * size);
        }
    }
    for (size_t row = 0; row < dim; row++) {
        unsigned char *last = at + (row * ld + n - 1) * size;
        for (size_t k = 1; k <= ld - n; k++) /* a size that is known is a move, not a call */
            size == sizeof(float) ? memcpy(last + k * size, last, sizeof(float))
                                  : memcpy(last + k * size, last, sizeof(double));
    }
}

void nf_noise_normal(const nf_noise *noise, size_t dim, size_t n, size_t ld, nf_real *out)
{
    fill(noise, dim, n, ld, sizeof *out, out, normals);
}

void nf_noise_uniform(const nf_noise *noise, size_t dim, size_t n, size_t ld, nf_real *out)
{
    fill(noise, dim, n, ld, sizeof *out, out, uniforms);
}

void nfi_noise_uniform_d(const nf_noise *noise, size_t dim, size_t n, size_t ld, double *out)
{
    fill(noise, dim, n, ld, sizeof *out, out, wide_uniforms);
}

/* floor(number n / 2^64): uniform on 0..n-1 up to a bias below n / 2^64. */
static size_t below(uint64_t number, size_t n)
{
    __extension__ typedef unsigned __int128 wide;
    return (size_t)((wide)number * n >> 64);
}

/* Draw i (swapping places i and j <= i) uses half i & 1 of the block of sample i / 2. */
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
        order[i] = order[j]; /* the inside-out form: place i takes what stood at j, and j takes i */
        order[j] = i;
    }
}
