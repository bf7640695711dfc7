/* Masks for couplings: which features are transformed. Layers k and k + 1 (k even) transform complementary features, so
   that two such layers together transform every feature. If there is only one feature, every layer transforms it. */
#include <nflow/combine.h>

static size_t check(size_t dim, const unsigned char *mask, const char *who)
{
    if (!mask)
        nf_error(NF_EARG, "%s: `mask` is NULL", who);
    return mask ? dim : 0;
}

size_t nf_mask_halves(size_t dim, size_t k, unsigned char *mask)
{
    const size_t first = dim - dim / 2;
    size_t count = 0;
    dim = check(dim, mask, "nf_mask_halves");
    for (size_t i = 0; i < dim; i++)
        count += mask[i] = dim == 1 || (i >= first) == (k % 2 == 0);
    return count;
}

size_t nf_mask_alternating(size_t dim, size_t k, unsigned char *mask)
{
    size_t count = 0;
    dim = check(dim, mask, "nf_mask_alternating");
    for (size_t i = 0; i < dim; i++)
        count += mask[i] = dim == 1 || (i + k) % 2 == 1;
    return count;
}

/* Knuth's algorithm S (The Art of Computer Programming 2, 3.4.2): each feature is chosen with probability (features
   still wanted) / (features still to come). */
size_t nf_mask_random(size_t dim, size_t k, uint64_t seed, unsigned char *mask)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    size_t count = 0, wanted = dim / 2;
    dim = check(dim, mask, "nf_mask_random");
    for (size_t i = 0; i < dim; i++) {
        const uint64_t pair = k / 2, row = i;
        const uint32_t counter[4] = {(uint32_t)row, (uint32_t)(row >> 32), (uint32_t)pair, (uint32_t)(pair >> 32)};
        uint32_t out[4];
        nf_philox(counter, key, out);
        const double uniform = ((double)out[0] + 0.5) / 4294967296.0;
        const bool chosen = uniform * (double)(dim - i) < (double)wanted;
        wanted -= chosen;
        count += mask[i] = dim == 1 || chosen == (k % 2 == 0);
    }
    return count;
}
