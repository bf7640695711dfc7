/* Fingerprints of numbers. The bits are read as words of 64 bits, 16 at a time, each with a lane of its own. In step t

       lane[l] <- lane[l] + low(x) high(x) + word[l xor 8],   x = word[l] xor key_t,   modulo 2^64,

   where low and high are the halves of 32 bits, and key_t is a random number (the step of XXH3, Collet 2019). The
   product depends on the step and on both halves of a word, so that it matters where a word stands. The other word
   takes care that a change of one word always changes a lane, also where a product has a factor 0. Keys must not count
   up: where all numbers change alike, their signs say, products with the keys 1, 2, 3, 4 cancel as 1 - 2 - 3 + 4 does.
   At the end the lanes go through products of 64 bits into one number, in one order. The steps are the same in every
   instruction set, and so is the result. */
#include "object/fingerprint.h"
#include <string.h>

enum { LANES = 16, BYTES = LANES * 8, VECTORS = BYTES / NFI_VECTOR_BYTES };
static const uint64_t odd = 0x9e3779b97f4a7c15; /* 2^64 divided by the golden ratio */

typedef uint64_t words __attribute__((vector_size(NFI_VECTOR_BYTES)));
typedef words words_in_memory __attribute__((aligned(sizeof(nf_real)), may_alias));

/* The products of the low halves of 64 bits. gcc does not find the instruction for it. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define PRODUCTS(a, b) ((words)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#elif defined(__AVX2__)
#include <immintrin.h>
#define PRODUCTS(a, b) ((words)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#elif defined(__SSE2__)
#include <emmintrin.h>
#define PRODUCTS(a, b) ((words)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#else
#define PRODUCTS(a, b) (((a)&0xffffffff) * ((b)&0xffffffff))
#endif

typedef struct state {
    words lane[VECTORS];
    uint64_t key;
} state;

/* One to one, and never 0 if x is not. */
NFI_INLINE uint64_t mixed(uint64_t x)
{
    return (x ^ (x >> 32)) * odd;
}

NFI_INLINE void step(state *a, const unsigned char *block)
{
    a->key = mixed(a->key);
    const words none = {0}, key = none + a->key;
    for (size_t v = 0; v < VECTORS; v++) {
        const words word = *(const words_in_memory *)(block + v * NFI_VECTOR_BYTES), x = word ^ key;
        a->lane[v] += PRODUCTS(x, x >> 32);
        a->lane[(v + VECTORS / 2) % VECTORS] += word;
    }
}

uint64_t nfi_fingerprint(uint64_t before, size_t n, const nf_real *x)
{
    if (n == 0)
        return before;
    const unsigned char *at = (const unsigned char *)x;
    const size_t bytes = n * sizeof *x, whole = bytes - bytes % BYTES;
    state a = {.key = odd};
    for (size_t i = 0; i < whole; i += BYTES)
        step(&a, at + i);
    if (bytes > whole) {
        uint64_t last[LANES] = {0};
        memcpy(last, at + whole, bytes - whole); /* zeros fill the last block */
        step(&a, (const unsigned char *)last);
    }
    uint64_t lane[LANES], result = before + n;
    memcpy(lane, a.lane, sizeof lane);
    for (size_t l = 0; l < LANES; l++)
        result = mixed(result ^ lane[l]);
    return result;
}
