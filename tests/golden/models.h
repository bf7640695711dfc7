/* The models of the golden corpus that are no row of the conformance table: a builder each, and the table. A new flow
   needs no line here, since make.c takes its row; a new net or distribution, or a new name of a choice, is a builder
   and a line at the end of the table. */
#ifndef GOLDEN_MODELS_H
#define GOLDEN_MODELS_H
#include <math.h>
#include <nflow/nflow.h>

/* ---- nets ---- */

static const size_t widths[] = {5, 3};

static nf_net *perceptron(size_t in, size_t out, size_t n_ctx, nf_activation unit, nf_initialisation init)
{
    return nf_mlp(
        in, out, n_ctx,
        &(nf_mlp_options){.hidden = widths, .n_hidden = 2, .activation = unit, .init = init, .last_scale = 0.4});
}

static nf_object *make_mlp(void)
{
    return nf_net_object(
        nf_mlp(3, 2, 2,
               &(nf_mlp_options){
                   .hidden = widths, .n_hidden = 2, .activation = NF_TANH, .output = NF_SOFTPLUS, .dropout = 0.25}));
}

static nf_object *make_gated_mlp(void)
{
    return nf_net_object(
        nf_gated_mlp(3, 2, 2, &(nf_mlp_options){.hidden = widths, .n_hidden = 2, .output = NF_SIGMOID}));
}

static nf_object *make_maxout_mlp(void)
{
    return nf_net_object(nf_maxout_mlp(
        3, 2, 0, &(nf_maxout_options){.hidden = widths, .n_hidden = 2, .window = 3, .init = NF_INIT_TORCH}));
}

static nf_object *make_residual_mlp(void)
{
    return nf_net_object(nf_residual_mlp(
        3, 2, 2, &(nf_residual_mlp_options){.width = 4, .activation = NF_ELU, .block_scale = 0.3, .dropout = 0.1}));
}

static nf_object *make_squash_mlp(void)
{
    return nf_net_object(nf_squash_mlp(
        3, 2, 2,
        &(nf_mlp_options){
            .hidden = widths, .n_hidden = 2, .activation = NF_SWISH, .output = NF_TANH, .last_scale = 0.4}));
}

static nf_object *make_masked_net(void)
{
    return nf_net_object(nf_masked_net(
        3, 2, 0, &(nf_masked_options){.hidden = widths, .n_hidden = 2, .activation = NF_SIGMOID, .dropout = 0.3}));
}

static nf_object *make_masked_residual_net(void)
{
    return nf_net_object(nf_masked_net(3, 2, 2, &(nf_masked_options){.hidden = widths, .n_hidden = 1, .n_blocks = 2}));
}

static nf_object *make_conv_net(void)
{
    return nf_net_object(nf_conv_net((nf_image){2, 3, 4}, 3, 2,
                                     &(nf_conv_options){.hidden = widths,
                                                        .n_hidden = 2,
                                                        .activation = NF_ELU,
                                                        .norm = NF_CONV_ACTNORM,
                                                        .learnt_scale = true,
                                                        .in_pixels = NF_ODD_PIXELS,
                                                        .out_pixels = NF_EVEN_PIXELS}));
}

static nf_object *make_gated_conv_net(void)
{
    return nf_net_object(nf_conv_net(
        (nf_image){1, 2, 3}, 2, 0,
        &(nf_conv_options){
            .hidden = widths, .n_hidden = 2, .kernel = (const size_t[]){1, 5, 3}, .n_kernel = 3, .gated = true}));
}

static nf_object *make_residual_conv_net(void)
{
    return nf_net_object(nf_conv_net(
        (nf_image){1, 3, 3}, 2, 2,
        &(nf_conv_options){
            .hidden = widths, .n_hidden = 1, .n_blocks = 2, .activation = NF_SWISH, .norm = NF_CONV_WEIGHT_NORM}));
}

static nf_object *make_conv_net_of_image(void)
{
    return nf_net_object(nf_conv_net(
        (nf_image){1, 2, 3}, 2, 6 + 2,
        &(nf_conv_options){.hidden = widths, .n_hidden = 1, .n_blocks = 1, .activation = NF_ELU, .ctx_channels = 1}));
}

static nf_object *make_conv_net_of_features(void)
{
    return nf_net_object(nf_conv_net((nf_image){2, 2, 2}, 4, 0, &(nf_conv_options){.n_per_feature = 2}));
}

/* ---- flows ---- */

enum { DIM = 3 };

static nf_object *chain_of(size_t n, nf_flow *const *f)
{
    return nf_flow_object(nf_chain(f, n));
}

static nf_object *make_every_unit(void)
{
    static const nf_activation units[] = {NF_RELU,     NF_TANH,    NF_LEAKY_RELU, NF_ELU,
                                          NF_SOFTPLUS, NF_SIGMOID, NF_IDENTITY};
    static const nf_initialisation inits[] = {NF_INIT_AUTO,  NF_INIT_HE,    NF_INIT_GLOROT, NF_INIT_LECUN,
                                              NF_INIT_TORCH, NF_INIT_SMALL, NF_INIT_AUTO};
    nf_flow *f[7];
    for (size_t k = 0; k < 7; k++) {
        unsigned char mask[DIM];
        const size_t n_b = nf_mask_halves(DIM, k, mask);
        f[k] = nf_coupling(DIM, mask, nf_affine(n_b), perceptron(DIM - n_b, 2 * n_b, 0, units[k], inits[k]));
    }
    return chain_of(7, f);
}

static nf_object *make_every_scale(void)
{
    return chain_of(
        9,
        (nf_flow *[]){
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.bias = 0.172}),
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH, .limit = 0.83}),
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_CLAMP, .limit = 0.517, .lower = 0.7}),
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_SOFTSIGN}),
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_ATAN}),
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_ASYMMETRIC}),
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_SIGMOID, .bias = 2, .floor = 1e-3}),
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_SIGMOID, .bias = 1, .gated = true}),
            nf_scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_SOFTPLUS, .floor = 1e-3})});
}

static nf_object *make_every_sylvester(void)
{
    return chain_of(
        5, (nf_flow *[]){nf_sylvester(4, NULL), nf_sylvester(4, &(nf_sylvester_options){.columns = 2}),
                         nf_sylvester(4, &(nf_sylvester_options){.kind = NF_SYLVESTER_HOUSEHOLDER, .reflections = 3}),
                         nf_sylvester(4, &(nf_sylvester_options){.kind = NF_SYLVESTER_TRIANGULAR}),
                         nf_sylvester(4, &(nf_sylvester_options){.kind = NF_SYLVESTER_TRIANGULAR, .reversed = true})});
}

static nf_flow *continuous(nf_continuous_options options)
{
    return nf_continuous(perceptron(DIM + 1, DIM, 2, NF_TANH, NF_INIT_AUTO), &options);
}

static nf_object *make_continuous(void)
{
    return chain_of(3, (nf_flow *[]){continuous((nf_continuous_options){.rtol = 1e-6, .atol = 1e-7, .end = 0.75}),
                                     continuous((nf_continuous_options){.solver = NF_BOSH3, .gradient = NF_ADJOINT}),
                                     continuous((nf_continuous_options){.solver = NF_RK4, .steps = 7})});
}

/* A flow of one layer. */
#define LAYER(name, call)                 \
    static nf_object *make_##name(void)   \
    {                                     \
        return nf_flow_object(nf_##call); \
    }
LAYER(affine, affine(DIM))
LAYER(actnorm, actnorm(DIM))
LAYER(batch_norm, batch_norm(DIM, NULL))
LAYER(batch_norm_decay, batch_norm(DIM, &(nf_batch_norm_options){.decay = 0.75}))
LAYER(shift, shift(DIM))
LAYER(scaled_affine, scaled_affine(DIM, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH}))
LAYER(spline, spline(DIM, &(nf_spline_options){.bins = 4}))
LAYER(circular_spline, spline(DIM, &(nf_spline_options){.bins = 3, .box = 1.25, .circular = true}))
LAYER(lu_linear, lu_linear(DIM, UINT64_MAX - 6))
LAYER(full_affine, full_affine(DIM))
LAYER(low_rank_affine, low_rank_affine(DIM, 2))
LAYER(permutation, random_permutation(5, 7))
LAYER(soft_log, soft_log(DIM, &(nf_soft_log_options){.threshold = 0.75}))
LAYER(planar, planar(DIM))
LAYER(radial, radial(DIM))
LAYER(householder, householder(DIM, 2))
LAYER(ordered, ordered(DIM))
LAYER(positive_ordered, positive_ordered(DIM))
LAYER(simplex_stick, simplex_stick(DIM + 1))
LAYER(simplex_ilr, simplex_ilr(DIM + 1))
LAYER(row_stochastic, row_stochastic(2, DIM, NF_SIMPLEX_ILR))
LAYER(column_stochastic, column_stochastic(DIM, 2, NF_SIMPLEX_STICK))
LAYER(sum_to_zero, sum_to_zero(DIM + 1))
LAYER(cholesky_corr, cholesky_corr(DIM))
LAYER(cholesky_cov, cholesky_cov(DIM, 2))
LAYER(corr_matrix, corr_matrix(DIM))
LAYER(cov_matrix, cov_matrix(2))
LAYER(invert, invert(nf_planar(DIM)))
LAYER(chain, chain((nf_flow *[]){nf_affine(DIM), nf_planar(DIM), nf_chain((nf_flow *[]){nf_radial(DIM)}, 1)}, 3))
LAYER(blocks, blocks((nf_flow *[]){nf_affine(2), nf_lower(1, -0.5), nf_simplex_stick(3)}, 3))
/* A flow with parameters of its own that reads a context. */
static inline nf_flow *steered(size_t dim)
{
    return nf_chain((nf_flow *[]){nf_planar(dim), nf_amortized_by_context(nf_affine(dim))}, 2);
}
LAYER(amortized, amortized(nf_planar(DIM), perceptron(2, 2 * DIM + 1, 0, NF_TANH, NF_INIT_AUTO)))
LAYER(amortized_by_context, amortized_by_context(nf_radial(2)))
LAYER(on_context, on_context(nf_amortized_by_context(nf_affine(2)), 7, 2))
LAYER(coupling, coupling(DIM, (const unsigned char[]){0, 1, 1}, nf_spline(2, &(nf_spline_options){.bins = 2}),
                         perceptron(1, 10, 2, NF_TANH, NF_INIT_AUTO)))
LAYER(coupling_by_context, coupling_by_context(DIM, (const unsigned char[]){0, 1, 1}, steered(2),
                                               perceptron(1, 4, 2, NF_TANH, NF_INIT_AUTO)))
LAYER(context_net, context_net(steered(DIM), perceptron(2, 2 * DIM, 0, NF_SWISH, NF_INIT_AUTO)))
LAYER(autoregressive_by_context,
      autoregressive_by_context(
          steered(1),
          nf_masked_net(DIM, 2, 0, &(nf_masked_options){.hidden = widths, .n_hidden = 1, .activation = NF_LIPSWISH}),
          NULL, NF_INVERSE))
LAYER(autoregressive_forward,
      autoregressive(nf_affine(1), nf_masked_net(DIM, 2, 2, &(nf_masked_options){.hidden = widths, .n_hidden = 1}),
                     (const size_t[]){2, 0, 1}, NF_FORWARD))
LAYER(autoregressive_inverse, autoregressive(nf_scaled_affine(1, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH}),
                                             nf_masked_net(DIM, 2, 0, NULL), NULL, NF_INVERSE))

/* Every kind of bound. */
static nf_object *make_bounds(void)
{
    return chain_of(
        2, (nf_flow *[]){nf_offset_multiplier(4, (const double[]){0.25, -1, 0, 2}, (const double[]){0.5, 1, 2, 0.125}),
                         nf_bounds(4, (const double[]){-1, -(double)INFINITY, -(double)INFINITY, -0.5},
                                   (const double[]){2, 1, (double)INFINITY, (double)INFINITY})});
}

/* The recipes, small. */
#define RECIPE(recipe, layers, ...)                                                          \
    static nf_object *make_##recipe(void)                                                    \
    {                                                                                        \
        return nf_flow_object(nf_##recipe(DIM, &(nf_recipe_options){.n_layers = layers,      \
                                                                    .hidden = (size_t[]){4}, \
                                                                    .n_hidden = 1,           \
                                                                    .last_scale = 0.5,       \
                                                                    .seed = 83,              \
                                                                    __VA_ARGS__}));          \
    }
RECIPE(nice, 2, .n_ctx = 1)
RECIPE(realnvp, 2, .n_ctx = 1)
RECIPE(made, 1, .mixing = NF_MIX_NONE)
RECIPE(maf, 2, .mixing = NF_MIX_PERMUTE)
RECIPE(iaf, 2, .n_ctx = 1)
RECIPE(nsf_coupling, 2, .n_blocks = 1)
RECIPE(nsf_autoregressive, 2, .n_blocks = 1, .n_ctx = 1)
RECIPE(ffjord, 1, .n_ctx = 1)

/* ---- distributions and VAEs ---- */

#define DIST(name, call)                  \
    static nf_object *make_##name(void)   \
    {                                     \
        return nf_dist_object(nf_##call); \
    }
DIST(normal, normal(DIM))
DIST(diagonal_normal, diagonal_normal(DIM))
DIST(full_normal, full_normal(DIM))
DIST(conditional_normal, conditional_normal(DIM, perceptron(2, 2 * DIM, 0, NF_TANH, NF_INIT_AUTO)))
DIST(student_t, student_t(DIM, &(nf_student_t_options){.each = (const double[]){1.5, 0.75, 30}}))
DIST(learnt_student_t, student_t(DIM, &(nf_student_t_options){.df = 2.5, .learn = true, .least = 0.75}))
DIST(logistic, logistic(DIM))
DIST(uniform, uniform(DIM, -2.5, 2.25))
DIST(mixture, mixture(DIM, 2))
DIST(conditional_mixture, conditional_mixture(DIM, 2, perceptron(2, 2 + 4 * DIM, 0, NF_TANH, NF_INIT_AUTO)))
DIST(gaussian_mixture, gaussian_mixture(DIM, 2))
DIST(joint, joint(nf_diagonal_normal(2), nf_conditional_normal(1, perceptron(2 + 2, 2, 0, NF_TANH, NF_INIT_AUTO))))
DIST(dequantised, dequantised(nf_pushforward(nf_logistic(1), nf_affine(1)), nf_uniform(1, 0, 1),
                              &(nf_dequantised_options){.levels = 128, .step = 1. / 32}))
DIST(image_dequantiser,
     image_dequantiser((nf_image){1, 1, DIM},
                       &(nf_image_dequantiser_options){.n_ctx = 1, .n_layers = 2, .hidden = 3, .n_blocks = 1}))
DIST(pushforward, pushforward(nf_mixture(DIM, 2), nf_planar(DIM)))
DIST(posterior, posterior(DIM, nf_amortized_by_context(nf_planar(DIM))))
DIST(diagonal_posterior, diagonal_posterior(2))

static nf_vae *small_vae(nf_likelihood likelihood, size_t rows)
{
    return nf_vae_new(perceptron(4, 4 + 5, 0, NF_RELU, NF_INIT_AUTO),
                      nf_posterior(2, nf_amortized_by_context(nf_planar(2))),
                      perceptron(2, rows, 0, NF_RELU, NF_INIT_AUTO), likelihood);
}

static nf_object *make_vae(void)
{
    return nf_vae_object(small_vae(NF_BERNOULLI, 4));
}

static nf_object *make_gaussian_vae(void)
{
    return nf_vae_object(small_vae(NF_GAUSSIAN, 8));
}

/* ---- the table ---- */

typedef struct golden {
    const char *name;
    nf_object *(*build)(void);
    bool single; /* also in single precision */
} golden;

#define ROW(name, single)          \
    {                              \
#name, make_##name, single \
    }
static const golden corpus[] = {
    ROW(mlp, true),
    ROW(gated_mlp, false),
    ROW(maxout_mlp, false),
    ROW(residual_mlp, false),
    ROW(masked_net, false),
    ROW(masked_residual_net, false),
    ROW(conv_net, true),
    ROW(gated_conv_net, false),
    ROW(residual_conv_net, false),
    ROW(conv_net_of_features, false),
    ROW(every_unit, false),
    ROW(every_scale, true),
    ROW(every_sylvester, false),
    ROW(affine, true),
    ROW(actnorm, false),
    ROW(batch_norm, true),
    ROW(shift, false),
    ROW(scaled_affine, false),
    ROW(spline, true),
    ROW(circular_spline, false),
    ROW(lu_linear, true),
    ROW(full_affine, false),
    ROW(low_rank_affine, false),
    ROW(permutation, false),
    ROW(soft_log, false),
    ROW(planar, true),
    ROW(radial, false),
    ROW(householder, false),
    ROW(ordered, false),
    ROW(positive_ordered, false),
    ROW(simplex_stick, false),
    ROW(simplex_ilr, false),
    ROW(row_stochastic, false),
    ROW(column_stochastic, false),
    ROW(sum_to_zero, false),
    ROW(cholesky_corr, false),
    ROW(cholesky_cov, false),
    ROW(corr_matrix, false),
    ROW(cov_matrix, false),
    ROW(bounds, true),
    ROW(invert, false),
    ROW(chain, false),
    ROW(blocks, false),
    ROW(amortized, false),
    ROW(amortized_by_context, false),
    ROW(on_context, false),
    ROW(coupling, false),
    ROW(coupling_by_context, false),
    ROW(context_net, false),
    ROW(autoregressive_by_context, false),
    ROW(autoregressive_forward, false),
    ROW(autoregressive_inverse, false),
    ROW(nice, false),
    ROW(realnvp, false),
    ROW(made, false),
    ROW(maf, false),
    ROW(iaf, false),
    ROW(nsf_coupling, false),
    ROW(nsf_autoregressive, false),
    ROW(normal, true),
    ROW(diagonal_normal, false),
    ROW(full_normal, false),
    ROW(conditional_normal, false),
    ROW(student_t, false),
    ROW(learnt_student_t, true),
    ROW(logistic, false),
    ROW(uniform, false),
    ROW(mixture, false),
    ROW(pushforward, false),
    ROW(posterior, false),
    ROW(diagonal_posterior, false),
    ROW(vae, true),
    ROW(gaussian_vae, false),
    ROW(batch_norm_decay, true),
    ROW(squash_mlp, false),
    ROW(continuous, true),
    ROW(ffjord, false),
    ROW(conditional_mixture, true),
    ROW(joint, false),
    ROW(dequantised, true),
    ROW(conv_net_of_image, false),
    ROW(image_dequantiser, false),
    ROW(gaussian_mixture, false),
};

#endif
