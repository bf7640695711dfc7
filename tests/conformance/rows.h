/* The table of the conformance suite: one row a layer. A new layer is one more row, and is put to every test there is.
 */
#ifndef CONFORMANCE_ROWS_H
#define CONFORMANCE_ROWS_H
#include <nflow/nflow.h>

typedef struct row {
    const char *name;
    nf_flow *(*build)(size_t dim); /* NULL where the dimension is not for it */
    double theta_scale;            /* N(0, theta_scale^2) is added to the initial parameters */
    double slack;                  /* multiplies tolerances */
} row;

static inline nf_flow *build_lu_linear(size_t dim)
{
    return nf_lu_linear(dim, 2385);
}

static inline nf_flow *build_permutation(size_t dim)
{
    size_t order[64];
    nf_noise_permutation(&(nf_noise){.seed = 91}, dim, order);
    return nf_permutation(dim, order);
}

static inline nf_flow *build_mixed_chain(size_t dim)
{
    return nf_chain((nf_flow *[]){nf_affine(dim), nf_planar(dim), build_lu_linear(dim), nf_radial(dim),
                                  build_permutation(dim), nf_planar(dim)},
                    6);
}

static inline nf_flow *build_per_sample_chain(size_t dim)
{
    return nf_chain((nf_flow *[]){nf_planar(dim), nf_affine(dim), nf_invert(nf_planar(dim)), nf_radial(dim)}, 4);
}

static inline nf_flow *build_inverted_planar(size_t dim)
{
    return nf_invert(nf_planar(dim));
}

static inline nf_flow *build_inverted_chain(size_t dim)
{
    return nf_invert(nf_chain((nf_flow *[]){build_mixed_chain(dim), nf_radial(dim)}, 2));
}

static const row rows[] = {
    {"affine", nf_affine, 0.5, 1},
    {"lu_linear", build_lu_linear, 0.15, 10},
    {"permutation", build_permutation, 0, 1},
    {"planar", nf_planar, 0.4, 1},
    {"radial", nf_radial, 0.4, 1},
    {"chain of mixed", build_mixed_chain, 0.15, 10},
    {"chain per sample", build_per_sample_chain, 0.3, 10},
    {"inverted planar", build_inverted_planar, 0.4, 1},
    {"inverted chain", build_inverted_chain, 0.15, 10},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

#endif
