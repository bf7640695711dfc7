/* Rows of the conformance table: couplings of every sort of mask, steered by several nets; every transform in a
   coupling and in an autoregressive flow. */
#ifndef CONFORMANCE_CONDITIONED_ROWS_H
#define CONFORMANCE_CONDITIONED_ROWS_H
#include "autoregressive_rows.h"
#include "transform_rows.h"

typedef nf_flow *builder(size_t dim, size_t n_ctx);
typedef nf_net *net_builder(size_t in, size_t out, size_t n_ctx);
typedef enum mask_kind { HALVES, ALTERNATING, RANDOM } mask_kind;

/* Smooth nets; the residual one is not bounded, and needs a transform whose scale is. */
static inline nf_net *build_perceptron(size_t in, size_t out, size_t n_ctx)
{
    return nf_mlp(in, out, n_ctx,
                  &(nf_mlp_options){.hidden = (size_t[]){11}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.5});
}

static inline nf_net *build_residual(size_t in, size_t out, size_t n_ctx)
{
    return nf_residual_mlp(
        in, out, n_ctx,
        &(nf_residual_mlp_options){.width = 9, .n_blocks = 2, .activation = NF_TANH, .last_scale = 0.5});
}

/* The k-th coupling of a chain around a transform. */
static inline nf_flow *build_coupling(mask_kind kind, size_t k, size_t dim, size_t n_ctx, builder *transform,
                                      net_builder *net)
{
    unsigned char mask[64];
    const size_t n_b = kind == HALVES        ? nf_mask_halves(dim, k, mask)
                       : kind == ALTERNATING ? nf_mask_alternating(dim, k, mask)
                                             : nf_mask_random(dim, k, 57, mask);
    nf_flow *f = transform(n_b, 0);
    return nf_coupling(dim, mask, f, net(dim - n_b, nf_flow_shape(f)->n_params, n_ctx));
}

/* build_<name>: the one coupling of those arguments. */
#define COUPLING(name, kind, k, transform, net)                                     \
    static inline nf_flow *build_##name(size_t dim, size_t n_ctx)                   \
    {                                                                               \
        return build_coupling(kind, k, dim, n_ctx, build_##transform, build_##net); \
    }
COUPLING(affine_on_halves, HALVES, 0, affine, perceptron)
COUPLING(affine_on_alternating, ALTERNATING, 1, affine, perceptron)
COUPLING(affine_on_random, RANDOM, 0, affine, perceptron)
COUPLING(planar_on_alternating, ALTERNATING, 0, planar, perceptron)
COUPLING(chain_on_halves, HALVES, 1, per_sample_chain, perceptron)
COUPLING(tanh_by_residual, HALVES, 1, scale_tanh, residual)

/* A flow that reads 3 features of context and has numbers of its own, some of them prepared: what a net may steer by
 * context.
 */
enum { READ = 3 };
static inline nf_flow *build_reader(size_t dim)
{
    nf_net *head =
        nf_mlp(READ, 2 * dim, 0,
               &(nf_mlp_options){.hidden = (size_t[]){7}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.4});
    return nf_chain((nf_flow *[]){nf_planar(dim), nf_amortized(nf_affine(dim), head), nf_lu_linear(dim, 71)}, 3);
}

static inline nf_flow *build_coupling_by_context(size_t dim, size_t n_ctx)
{
    unsigned char mask[64];
    const size_t n_b = nf_mask_alternating(dim, 1, mask);
    return nf_coupling_by_context(dim, mask, build_reader(n_b), build_perceptron(dim - n_b, READ, n_ctx));
}

static inline nf_flow *build_autoregressive_by_context(size_t dim, size_t n_ctx)
{
    return nf_autoregressive_by_context(build_reader(1), build_masked(dim, READ, n_ctx, 0), NULL,
                                        dim % 2 ? NF_FORWARD : NF_INVERSE);
}

/* Without a context there is nothing to embed. */
static inline nf_flow *build_context_net(size_t dim, size_t n_ctx)
{
    return n_ctx ? nf_context_net(build_reader(dim), build_perceptron(n_ctx, READ, 0)) : nf_planar(dim);
}

#define CONDITIONED_BUILDERS(transform, name, rough, parallel)                                                \
    COUPLING(coupled_##transform, RANDOM, 1, transform, perceptron)                                           \
    static inline nf_flow *build_autoregressive_##transform(size_t dim, size_t n_ctx)                         \
    {                                                                                                         \
        nf_flow *f = build_##transform(1, 0);                                                                 \
        return nf_autoregressive(f, build_masked(dim, nf_flow_shape(f)->n_params, n_ctx, 0), NULL, parallel); \
    }
CONDITIONED_TRANSFORMS(CONDITIONED_BUILDERS)

/* A monotone net and what steers it by context: for each feature b and two numbers of the integrand's. */
static inline nf_flow *monotone_net(size_t dim, size_t signal)
{
    nf_net *net =
        nf_mlp(1, 1, signal,
               &(nf_mlp_options){.hidden = (size_t[]){7, 5}, .n_hidden = 2, .activation = NF_TANH, .last_scale = 0.5});
    return nf_monotone_net(dim, net, &(nf_monotone_net_options){.nodes = 11});
}

static inline nf_flow *build_monotone_net(size_t dim, size_t n_ctx)
{
    return n_ctx ? nf_context_net(monotone_net(dim, 2), build_perceptron(n_ctx, 3 * dim, 0)) : monotone_net(dim, 0);
}

static inline nf_flow *build_coupled_monotone_net(size_t dim, size_t n_ctx)
{
    unsigned char mask[64];
    const size_t n_b = nf_mask_alternating(dim, 1, mask);
    return nf_coupling_by_context(dim, mask, monotone_net(n_b, 2), build_perceptron(dim - n_b, 3 * n_b, n_ctx));
}

static inline nf_flow *build_autoregressive_monotone_net(size_t dim, size_t n_ctx)
{
    return nf_autoregressive_by_context(monotone_net(1, 2), build_masked(dim, 3, n_ctx, 0), NULL,
                                        dim % 2 ? NF_FORWARD : NF_INVERSE);
}

/* Contexts of a chain's flows may be 0 or all equal: the planar coupling takes none. */
static inline nf_flow *build_chain_of_couplings(size_t dim, size_t n_ctx)
{
    return nf_chain((nf_flow *[]){build_affine_on_halves(dim, n_ctx), build_permutation(dim, 0),
                                  build_coupling(HALVES, 1, dim, 0, build_planar, build_perceptron),
                                  nf_invert(build_affine_on_random(dim, n_ctx)), nf_affine(dim),
                                  build_coupling(RANDOM, 1, dim, n_ctx, build_scale_atan, build_residual)},
                    6);
}

#define TWO_ROWS(transform, name, rough, parallel)                                      \
    {"coupling, " name, build_coupled_##transform, 0.15, (rough) ? 2 : 1, true, rough}, \
        {"autoregressive, " name, build_autoregressive_##transform, 0.1, 10, true, rough},
#define CONDITIONED_ROWS                                                                                              \
    {"coupling of halves, affine", build_affine_on_halves, 0.15, 1, true, 0},                                         \
        {"coupling of alternating features, affine", build_affine_on_alternating, 0.15, 1, true, 0},                  \
        {"coupling of random features, affine", build_affine_on_random, 0.15, 1, true, 0},                            \
        {"coupling, planar", build_planar_on_alternating, 0.1, 3, true, 0},                                           \
        {"coupling, chain per sample", build_chain_on_halves, 0.1, 10, true, 0},                                      \
        {"coupling by a residual net, tanh scale", build_tanh_by_residual, 0.1, 1, true, 0},                          \
        {"coupling by context", build_coupling_by_context, 0.1, 10, true, 0},                                         \
        {"autoregressive by context", build_autoregressive_by_context, 0.1, 10, true, 0},                             \
        {"context net", build_context_net, 0.1, 10, true, 0}, {"monotone net", build_monotone_net, 0.1, 10, true, 0}, \
        {"coupling, monotone net", build_coupled_monotone_net, 0.1, 10, true, 0},                                     \
        {"autoregressive, monotone net", build_autoregressive_monotone_net, 0.1, 10, true, 0},                        \
        CONDITIONED_TRANSFORMS(TWO_ROWS){"chain of couplings", build_chain_of_couplings, 0.1, 10, true, 0},

#endif
