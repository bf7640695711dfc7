/* The table of the conformance suite: one row a layer. A new layer is one more row, and is put to every test there is.
 */
#ifndef CONFORMANCE_ROWS_H
#define CONFORMANCE_ROWS_H
#include <nflow/nflow.h>

typedef struct row {
    const char *name;
    nf_flow *(*build)(size_t dim, size_t n_ctx); /* n_ctx is 0 unless it takes context */
    double theta_scale;                          /* N(0, theta_scale^2) is added to the initial parameters */
    double slack;                                /* multiplies tolerances */
    bool takes_context;                          /* itself, beside what amortisation gives it */
    bool rough;                                  /* second derivatives jump: no slopes of Taylor remainders */
} row;

/* A layer that takes no context, as a builder. */
#define WITHOUT_CONTEXT(layer)                                          \
    static inline nf_flow *build_##layer(size_t dim, size_t no_context) \
    {                                                                   \
        (void)no_context;                                               \
        return nf_##layer(dim);                                         \
    }
WITHOUT_CONTEXT(affine)
WITHOUT_CONTEXT(planar)
WITHOUT_CONTEXT(radial)

static inline nf_flow *build_lu_linear(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_lu_linear(dim, 2385);
}

static inline nf_flow *build_permutation(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    size_t order[64];
    nf_noise_permutation(&(nf_noise){.seed = 91}, dim, order);
    return nf_permutation(dim, order);
}

static inline nf_flow *build_mixed_chain(size_t dim, size_t n_ctx)
{
    return nf_chain((nf_flow *[]){nf_affine(dim), nf_planar(dim), build_lu_linear(dim, n_ctx), nf_radial(dim),
                                  build_permutation(dim, n_ctx), nf_planar(dim)},
                    6);
}

static inline nf_flow *build_per_sample_chain(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_chain((nf_flow *[]){nf_planar(dim), nf_affine(dim), nf_invert(nf_planar(dim)), nf_radial(dim)}, 4);
}

static inline nf_flow *build_inverted_planar(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_invert(nf_planar(dim));
}

static inline nf_flow *build_inverted_chain(size_t dim, size_t n_ctx)
{
    return nf_invert(nf_chain((nf_flow *[]){build_mixed_chain(dim, n_ctx), nf_radial(dim)}, 2));
}

/* ---- couplings ---- */

/* A net that is smooth and not small. */
static inline nf_net *build_net(size_t in, size_t out, size_t n_ctx)
{
    return nf_mlp(in, out, n_ctx,
                  &(nf_mlp_options){.hidden = (size_t[]){11}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.5});
}

typedef enum mask_kind { HALVES, ALTERNATING, RANDOM } mask_kind;

/* The k-th coupling of a chain around a transform. */
static inline nf_flow *build_coupling(mask_kind kind, size_t k, size_t dim, size_t n_ctx,
                                      nf_flow *(*transform)(size_t dim, size_t n_ctx))
{
    unsigned char mask[64];
    const size_t n_b = kind == HALVES        ? nf_mask_halves(dim, k, mask)
                       : kind == ALTERNATING ? nf_mask_alternating(dim, k, mask)
                                             : nf_mask_random(dim, k, 57, mask);
    nf_flow *f = transform(n_b, 0);
    return nf_coupling(dim, mask, f, build_net(dim - n_b, nf_flow_shape(f)->n_params, n_ctx));
}

static inline nf_flow *build_affine_on_halves(size_t dim, size_t n_ctx)
{
    return build_coupling(HALVES, 0, dim, n_ctx, build_affine);
}

static inline nf_flow *build_affine_on_alternating(size_t dim, size_t n_ctx)
{
    return build_coupling(ALTERNATING, 1, dim, n_ctx, build_affine);
}

static inline nf_flow *build_affine_on_random(size_t dim, size_t n_ctx)
{
    return build_coupling(RANDOM, 0, dim, n_ctx, build_affine);
}

static inline nf_flow *build_planar_on_alternating(size_t dim, size_t n_ctx)
{
    return build_coupling(ALTERNATING, 0, dim, n_ctx, build_planar);
}

static inline nf_flow *build_chain_on_halves(size_t dim, size_t n_ctx)
{
    return build_coupling(HALVES, 1, dim, n_ctx, build_per_sample_chain);
}

/* Contexts of a chain's flows may be 0 or all equal: the planar coupling takes none. */
static inline nf_flow *build_chain_of_couplings(size_t dim, size_t n_ctx)
{
    return nf_chain((nf_flow *[]){build_coupling(HALVES, 0, dim, n_ctx, build_affine), build_permutation(dim, 0),
                                  build_coupling(HALVES, 1, dim, 0, build_planar),
                                  nf_invert(build_affine_on_random(dim, n_ctx)), nf_affine(dim),
                                  build_coupling(RANDOM, 1, dim, n_ctx, build_affine)},
                    6);
}

static const row rows[] = {
    {"affine", build_affine, 0.5, 1, false, false},
    {"lu_linear", build_lu_linear, 0.15, 10, false, false},
    {"permutation", build_permutation, 0, 1, false, false},
    {"planar", build_planar, 0.4, 1, false, false},
    {"radial", build_radial, 0.4, 1, false, false},
    {"chain of mixed", build_mixed_chain, 0.15, 10, false, false},
    {"chain per sample", build_per_sample_chain, 0.3, 10, false, false},
    {"inverted planar", build_inverted_planar, 0.4, 1, false, false},
    {"inverted chain", build_inverted_chain, 0.15, 10, false, false},
    {"affine coupling, halves", build_affine_on_halves, 0.15, 1, true, false},
    {"affine coupling, alternating", build_affine_on_alternating, 0.15, 1, true, false},
    {"affine coupling, random", build_affine_on_random, 0.15, 1, true, false},
    {"planar coupling", build_planar_on_alternating, 0.1, 1, true, false},
    {"coupling of a chain", build_chain_on_halves, 0.1, 10, true, false},
    {"chain of couplings", build_chain_of_couplings, 0.1, 10, true, false},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

#endif
