/* Counter-based random numbers: Philox4x32-10, after Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
   1, 2, 3", SC 2011, section 4.3. A round maps (c0, c1, c2, c3) with key (k0, k1) to

     (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),

   and the key grows by (W0, W1) between rounds. Words (0, 1) of a block make one 64-bit number, words (2, 3) another;
   the low word comes first. The upper 52 bits m of such a number make u = (2m + 1) 2^-53, which is exact, symmetric
   about 1/2 and never 0 or 1. Uniforms are u0 and u1. Normals are those of Box and Muller: sqrt(-2 log u0) times cos(2
   pi u1) and times sin(2 pi u1). */
#include "math/noise.h"
#include "math/vec.h"

/* The words are 32-bit numbers in 64-bit lanes, so that each product is a single instruction. */
typedef struct words {
    uint64_t c0, c1, c2, c3;
} words;

NFI_INLINE words round_of(words c, uint32_t k0, uint32_t k1)
{
    uint64_t p = UINT64_C(0xD2511F53) * c.c0, q = UINT64_C(0xCD9E8D57) * c.c2;
    return (words){q >> 32 ^ c.c1 ^ k0, q & UINT32_MAX, p >> 32 ^ c.c3 ^ k1, p & UINT32_MAX};
}

/* Written out without an inner loop, because gcc vectorises over samples only then. */
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

void nfi_noise_numbers(const uint32_t *counter, const uint32_t *key, size_t n, uint64_t *a, uint64_t *b)
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

void nfi_noise_blocks(const uint32_t *counter, const uint32_t *key, size_t n, uint64_t *a, uint64_t *b)
{
    const uint64_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    const uint32_t k0 = key[0], k1 = key[1];
    NFI_SIMD
    for (uint64_t k = 0; k < n; k++) {
        words c = ten_rounds((words){c0, (c1 + k) & UINT32_MAX, c2, c3}, k0, k1);
        a[k] = c.c0 | c.c1 << 32;
        b[k] = c.c2 | c.c3 << 32;
    }
}

/* (2m + 1) 2^-53. The bits of 1 put above the 52 bits of m make 1 + m 2^-52. */
NFI_INLINE double open_unit(uint64_t number)
{
    return nfi_from_bits_d(number >> 12 | nfi_bits_d(1)) - (1 - 0x1p-53);
}

void nfi_noise_normals(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second)
{
    nf_real *x = first, *y = second;
    NFI_SIMD
    for (size_t s = 0; s < n; s++) {
        double radius = sqrt(-2 * nfi_log_d(open_unit(a[s]))), turns = open_unit(b[s]);
        x[s] = (nf_real)(radius * nfi_cos2pi_d(turns));
        y[s] = (nf_real)(radius * nfi_sin2pi_d(turns));
    }
}

void nfi_noise_uniforms(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second)
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

void nfi_noise_wide_uniforms(size_t n, const uint64_t *a, const uint64_t *b, void *first, void *second)
{
    double *x = first, *y = second;
    NFI_SIMD
    for (size_t s = 0; s < n; s++) {
        x[s] = open_unit(a[s]);
        y[s] = open_unit(b[s]);
    }
}
