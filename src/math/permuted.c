/* A random permutation of 0..n-1 whose values are computed one by one, without an array of n numbers.

   A Feistel network permutes the 2^b numbers of b bits, where b is the least with 2^b >= n. A number has a low part of
   b/2 bits and a high part of b - b/2 bits:

     low ^= F_1(high),  high ^= F_2(low),  low ^= F_3(high),  ...

   Every line can be undone, whatever the functions F_r are. If they are random, so is the permutation (Luby & Rackoff,
   How to construct pseudorandom permutations from pseudorandom functions, SIAM Journal on Computing 17, 1988). A result
   of n or more goes through the network again, until a result is below n. This gives a permutation of 0..n-1: it
   follows a cycle of the larger permutation from one number below n to the next (cycle walking: Black & Rogaway,
   Ciphers with arbitrary finite domains, CT-RSA 2002, their method 2). The mean number of turns is 2^b / n < 2.

   b may be odd. If b were always even, the mean number of turns could be up to 4. Also, 5 rows would then walk on 16
   numbers, where rounds with two halves of two bits make even permutations only. The 120 orders of 5 rows would then
   not be equally frequent, however many the rounds.

   F_r(v) is the output function of SplitMix64 (Steele, Lea, Flood, Fast splittable pseudorandom number generators,
   OOPSLA 2014) at v ^ key_r. The keys are Philox's words, named by (seed, step, site).

   The smaller n, the more rounds are needed. With random F_r, the chi^2 of the orders seen in m draws exceeds its
   degrees of freedom by m e. For n = 4, e is 5e-7 after 12 rounds; for n = 5, it is 2e-3 after 12 rounds and 3e-7 after
   32. In a million draws of three rows out of 9 to 33, no excess is seen after 12 rounds; of two rows out of 65 to 257,
   none after 8. */
#include "math/noise.h"

static const uint32_t KEYS = UINT32_MAX - 1; /* the block of the keys, see noise.c */

nfi_permutation nfi_permutation_named(const nf_noise *noise, uint64_t n)
{
    uint32_t counter[4], key[2];
    nfi_permutation p = {.n = n};
    unsigned bits = 0;
    while (bits < 64 && (n - 1) >> bits)
        bits++;
    p.low_bits = bits / 2;
    p.low_mask = (UINT64_C(1) << p.low_bits) - 1;
    p.high_mask = (UINT64_C(1) << (bits - p.low_bits)) - 1;
    p.rounds = bits <= 3 ? NFI_PERMUTATION_ROUNDS : bits <= 9 ? 12 : 8;
    nfi_noise_block(noise, 0, KEYS, counter, key);
    nfi_noise_numbers(counter, key, p.rounds / 2, p.key, p.key + p.rounds / 2);
    return p;
}

NFI_INLINE uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
    return v ^ v >> 31;
}

uint64_t nfi_permuted(const nfi_permutation *p, uint64_t i)
{
    do {
        uint64_t low = i & p->low_mask, high = i >> p->low_bits;
        for (size_t r = 0; r < p->rounds; r += 2) {
            low ^= mix(high ^ p->key[r]) & p->low_mask;
            high ^= mix(low ^ p->key[r + 1]) & p->high_mask;
        }
        i = high << p->low_bits | low;
    } while (i >= p->n);
    return i;
}

size_t nf_noise_permuted(const nf_noise *noise, size_t n, size_t i)
{
    if (i >= n)
        return i;
    const nfi_permutation p = nfi_permutation_named(noise, n);
    return (size_t)nfi_permuted(&p, i);
}
