/**
 * @file noise.h
 * Counter-based noise: a number is a function of its name, not of the order in which numbers are drawn.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, SC 2011). A number's name is (seed, step, sample,
 * site, feature). The same name gives the same number for any number of threads, for any tiling, in both precisions (up
 * to rounding), and again in a backward pass.
 */
#ifndef NFLOW_NOISE_H
#define NFLOW_NOISE_H
#include <nflow/base.h>
NF_BEGIN_DECLS

/**
 * Which noise: the name of a tile's numbers, except for the feature. nf_philox's callers combine these fields into a
 * key and a counter.
 */
typedef struct nf_noise {
    uint64_t seed;         /**< chosen by the user */
    uint64_t step;         /**< the optimizer's step, or any number; another step gives other noise */
    uint64_t first_sample; /**< global index of column 0 */
    uint32_t site;         /**< the object's place in its tree: its pre-order index */
    /**
     * NULL: column s of a tile is sample first_sample + s. Otherwise [n]: column s is sample first_sample + column[s].
     * column[] ascends and has gaps where samples of the tile were left out (see nf_pass.failed). Borrowed.
     */
    const uint32_t *column;
} nf_noise;

/** The global index of the sample in column s of a tile. */
static inline uint64_t nf_noise_sample(const nf_noise *noise, size_t s)
{
    return noise->first_sample + (noise->column ? noise->column[s] : s);
}

/** One block of Philox4x32-10: out = bijection_key(counter). The function has no state and cannot fail. */
NF_API void nf_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/**
 * Writes standard normals to out[feature * ld + s] for feature < dim, s < ld; columns n..ld-1 repeat column n-1
 * (padding). Box-Muller on 53-bit uniforms, computed in double and rounded. n >= 1, ld >= n.
 */
NF_API void nf_noise_normal(const nf_noise *noise, size_t dim, size_t n, size_t ld, nf_real *out);

/**
 * Writes uniforms in the open interval (0, 1), with the layout of nf_noise_normal. They are never 0 or 1 in either
 * precision.
 */
NF_API void nf_noise_uniform(const nf_noise *noise, size_t dim, size_t n, size_t ld, nf_real *out);

/**
 * Writes a random permutation of 0..n-1 by Fisher-Yates, which is a function of (seed, step, site) of `noise` alone.
 * @param order [n], written.
 */
NF_API void nf_noise_permutation(const nf_noise *noise, size_t n, size_t *order);

/**
 * The i-th value of a random permutation of 0..n-1, which is a function of (seed, step, site) of `noise` alone. It is
 * another permutation than nf_noise_permutation's. Each value is computed without the others, without memory, and in
 * the same short time for every n. Any number of threads may call this at once. It is for orders of many rows, not for
 * secrets.
 * @param i below n; any other i is returned unchanged.
 */
NF_API size_t nf_noise_permuted(const nf_noise *noise, size_t n, size_t i);

NF_END_DECLS
#endif
