/* A random permutation of 0..n-1 whose values are computed one by one, without an array of n.

   A Feistel network permutes the 2^b numbers of b bits, b the least with 2^b >= n. With the low b/2 bits and the high
   b - b/2 bits of a number,

     low ^= F_1(high),  high ^= F_2(low),  low ^= F_3(high),  ...

   where every line can be undone, whatever functions F_r are; if they are random, so is the permutation (Luby &
   Rackoff, How to construct pseudorandom permutations from pseudorandom functions, SIAM Journal on Computing 17, 1988).
   A result of n or more goes through the network again, until one is below n. This is a permutation of 0..n-1, since it
   follows a cycle of the larger one from one number below n to the next (cycle walking: Black & Rogaway, Ciphers with
   arbitrary finite domains, CT-RSA 2002, their method 2). The mean number of turns is 2^b / n < 2. Were b always even,
   it would be up to 4, and 5 rows would walk on 16 numbers, of which rounds with two halves of two bits make even
   permutations only: their 120 orders would not come equally often, however many the rounds.

   F_r(v) is the output function of SplitMix64 (Steele, Lea, Flood, Fast splittable pseudorandom number generators,
   OOPSLA 2014) at v ^ key_r; the keys are Philox's words, named by (seed, step, site). Few numbers need the most
   rounds. With random F_r, chi^2 of the orders seen in m draws exceeds its degrees of freedom by m times: n = 4, 5e-7
   after 12 rounds; n = 5, 2e-3 after 12 and 3e-7 after 32. In a million draws of three of 9 to 33 rows nothing is seen
   after 12 rounds, and of two of 65 to 257 rows nothing after 8. */
#include "core/noise.h"

static const uint32_t KEYS = UINT32_MAX - 1; /* the block, see noise.c */

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
