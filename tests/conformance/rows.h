/* The table of the conformance suite: one row a layer. A new layer is one more row, and is put to every test there is.
 */
#ifndef CONFORMANCE_ROWS_H
#define CONFORMANCE_ROWS_H
#include "autoregressive_rows.h"
#include "recipe_rows.h"
#include "transform_rows.h"

enum {
    ROUGH = 1, /* derivatives jump, first or second: no slopes of Taylor remainders */
    COSTLY = 2 /* takes time as the fourth power of the features or so: see subject.h */
};

typedef struct row {
    const char *name;
    nf_flow *(*build)(size_t dim, size_t n_ctx); /* n_ctx is 0 unless it takes context */
    double theta_scale;                          /* N(0, theta_scale^2) is added to the initial parameters */
    double slack;                                /* multiplies tolerances */
    bool takes_context;                          /* itself, beside what amortisation gives it */
    unsigned traits;                             /* 0, or of these: */
} row;

/* A layer that takes no context, as a builder. */
#define WITHOUT_CONTEXT(layer)                                          \
    static inline nf_flow *build_##layer(size_t dim, size_t no_context) \
    {                                                                   \
        (void)no_context;                                               \
        return nf_##layer(dim);                                         \
    }
WITHOUT_CONTEXT(affine)
WITHOUT_CONTEXT(actnorm)
WITHOUT_CONTEXT(full_affine)
WITHOUT_CONTEXT(planar)
WITHOUT_CONTEXT(radial)

static inline nf_flow *build_batch_norm(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_batch_norm(dim, &(nf_batch_norm_options){.eps = 0.0173});
}

static inline nf_flow *build_low_rank_affine(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_low_rank_affine(dim, dim < 3 ? dim : 3);
}

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

static inline nf_flow *build_recomputed_chain(size_t dim, size_t n_ctx)
{
    nf_flow *f[] = {build_lu_linear(dim, 0),
                    nf_realnvp(dim, &(nf_recipe_options){.n_ctx = n_ctx,
                                                         .n_layers = 2,
                                                         .hidden = (size_t[]){6},
                                                         .n_hidden = 1,
                                                         .activation = NF_TANH,
                                                         .last_scale = 0.5}),
                    nf_affine(dim)};
    return nf_recomputed_chain(f, 3);
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

#include "conditioned_rows.h"
#include "constraint_rows.h"
#include "contraction_rows.h"
#include "image_rows.h"
#include "ode_rows.h"
#include "orthogonal_rows.h"

static const row rows[] = {{"affine", build_affine, 0.5, 1, false, 0},
                           {"actnorm", build_actnorm, 0.5, 1, false, 0},
                           {"batch_norm", build_batch_norm, 0, 1, false, 0},
                           {"full_affine", build_full_affine, 0.15, 10, false, 0},
                           {"low_rank_affine", build_low_rank_affine, 0.3, 10, false, 0},
                           {"lu_linear", build_lu_linear, 0.15, 10, false, 0},
                           {"permutation", build_permutation, 0, 1, false, 0},
                           {"planar", build_planar, 0.4, 1, false, 0},
                           {"radial", build_radial, 0.4, 1, false, 0},
                           {"chain of mixed", build_mixed_chain, 0.15, 10, false, 0},
                           {"chain, recomputed", build_recomputed_chain, 0.15, 30, true, 0},
                           {"chain per sample", build_per_sample_chain, 0.3, 10, false, 0},
                           {"inverted planar", build_inverted_planar, 0.4, 1, false, 0},
                           {"inverted chain", build_inverted_chain, 0.15, 10, false, 0},
                           IMAGE_ROWS TRANSFORM_ROWS CONDITIONED_ROWS AUTOREGRESSIVE_ROWS RECIPE_ROWS CONSTRAINT_ROWS
                               ORTHOGONAL_ROWS ODE_ROWS CONTRACTION_ROWS};
enum { N_ROWS = sizeof rows / sizeof *rows };

#endif
