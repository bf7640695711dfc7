/* Rows of the conformance table: layers of images. */
#ifndef CONFORMANCE_IMAGE_ROWS_H
#define CONFORMANCE_IMAGE_ROWS_H
#include <nflow/nflow.h>

static inline size_t channels_of(size_t dim)
{
    return dim % 4 == 0 ? 4 : dim % 3 == 0 ? 3 : 1;
}

/* Glow's two layers before a coupling. */
static inline nf_flow *build_pixelwise(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    const size_t channels = channels_of(dim);
    nf_flow *f[] = {nf_actnorm(channels), nf_lu_linear(channels, 2385)};
    return nf_pixelwise(nf_chain(f, 2), dim / channels);
}

/* A flow of channels that reads the context, in every pixel the same. */
static inline nf_flow *build_pixelwise_of_context(size_t dim, size_t n_ctx)
{
    const size_t channels = channels_of(dim), hidden[] = {5};
    return nf_pixelwise(nf_realnvp(channels, &(nf_recipe_options){.n_ctx = n_ctx,
                                                                  .n_layers = 2,
                                                                  .hidden = hidden,
                                                                  .n_hidden = 1,
                                                                  .activation = NF_TANH,
                                                                  .last_scale = 0.5}),
                        dim / channels);
}

/* A squeezed image of a multiple of four features, others as they are. */
static inline nf_flow *build_squeezed(size_t dim, size_t n_ctx)
{
    if (dim % 4)
        return build_pixelwise(dim, n_ctx);
    const nf_image image = {.channels = dim / 4, .height = 2, .width = 2};
    nf_flow *f[] = {nf_pixelwise(nf_lu_linear(dim, 2385), 1), nf_invert(nf_squeeze(image)),
                    nf_pixelwise(nf_actnorm(dim / 4), 4)};
    return nf_chain(f, 3);
}

/* The k-th coupling over a checkerboard: a net of convolutions reads the pixels of one colour and steers those of the
   other. */
static inline nf_flow *build_checkerboard(size_t dim, size_t n_ctx, size_t k, nf_conv_options options)
{
    unsigned char mask[64];
    const size_t channels = channels_of(dim), pixels = dim / channels, height = pixels % 2 ? 1 : 2;
    const nf_image image = {channels, height, pixels / height};
    const size_t n_b = nf_mask_checkerboard(image, k, mask);
    const bool odd = k % 2 == 0 && pixels > 1; /* which pixels are steered */
    options.in_pixels = odd ? NF_EVEN_PIXELS : NF_ODD_PIXELS;
    options.out_pixels = odd ? NF_ODD_PIXELS : NF_EVEN_PIXELS;
    options.last_scale = 0.3;
    options.n_per_feature = 2;
    return nf_coupling(dim, mask, nf_scaled_affine(n_b, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH}),
                       nf_conv_net(image, 2 * channels, n_ctx, &options));
}

static inline nf_flow *build_glow_couplings(size_t dim, size_t n_ctx)
{
    const nf_conv_options options = {.hidden = (size_t[]){5, 4},
                                     .n_hidden = 2,
                                     .activation = NF_TANH,
                                     .norm = NF_CONV_ACTNORM,
                                     .learnt_scale = true};
    return nf_chain(
        (nf_flow *[]){build_checkerboard(dim, n_ctx, 0, options), build_checkerboard(dim, n_ctx, 1, options)}, 2);
}

static inline nf_flow *build_residual_couplings(size_t dim, size_t n_ctx)
{
    const nf_conv_options options = {
        .hidden = (size_t[]){4}, .n_hidden = 1, .n_blocks = 1, .activation = NF_SWISH, .norm = NF_CONV_WEIGHT_NORM};
    return nf_chain(
        (nf_flow *[]){build_checkerboard(dim, n_ctx, 1, options), build_checkerboard(dim, n_ctx, 0, options)}, 2);
}

static inline nf_flow *build_gated_couplings(size_t dim, size_t n_ctx)
{
    return build_checkerboard(dim, n_ctx, 0, (nf_conv_options){.hidden = (size_t[]){6}, .n_hidden = 1, .gated = true});
}

/* The net's image, and for residual nets more context, comes from a net that reads the context of the flow. */
static inline nf_flow *build_image_context(size_t dim, size_t n_ctx, size_t k, nf_conv_options options, size_t more)
{
    const size_t pixels = dim / channels_of(dim);
    options.ctx_channels = 2;
    if (!n_ctx)
        return nf_affine(dim);
    return nf_context_net(build_checkerboard(dim, 2 * pixels + more, k, options),
                          nf_mlp(n_ctx, 2 * pixels + more, 0, &(nf_mlp_options){.last_scale = 0.8}));
}

static inline nf_flow *build_glow_of_image(size_t dim, size_t n_ctx)
{
    const nf_conv_options options = {
        .hidden = (size_t[]){5, 4}, .n_hidden = 2, .activation = NF_TANH, .norm = NF_CONV_ACTNORM};
    return build_image_context(dim, n_ctx, 1, options, 0);
}

static inline nf_flow *build_residual_of_image(size_t dim, size_t n_ctx)
{
    const nf_conv_options options = {
        .hidden = (size_t[]){4}, .n_hidden = 1, .n_blocks = 1, .activation = NF_SWISH, .norm = NF_CONV_WEIGHT_NORM};
    return build_image_context(dim, n_ctx, 0, options, 2);
}

/* Images of 64 features; other numbers of features have no such flow, and get a checkerboard. */
static inline nf_flow *build_glow(size_t dim, size_t n_ctx)
{
    const nf_conv_options net = {.hidden = (size_t[]){4},
                                 .n_hidden = 1,
                                 .activation = NF_TANH,
                                 .norm = NF_CONV_ACTNORM,
                                 .last_scale = 0.3,
                                 .learnt_scale = true};
    if (dim != 64)
        return build_glow_couplings(dim, n_ctx);
    return nf_glow((nf_image){4, 4, 4}, &(nf_image_recipe_options){.n_ctx = n_ctx, .n_steps = 1, .net = &net});
}

/* ROUGH: its actnorms, whose statistics the suite chooses, make images so small that differences need small steps. */
static inline nf_flow *build_realnvp_image(size_t dim, size_t n_ctx)
{
    const nf_conv_options net = {.hidden = (size_t[]){4},
                                 .n_hidden = 1,
                                 .n_blocks = 1,
                                 .activation = NF_TANH,
                                 .norm = NF_CONV_WEIGHT_NORM,
                                 .last_scale = 0.1};
    if (dim != 64)
        return build_residual_couplings(dim, n_ctx);
    return nf_realnvp_image(
        (nf_image){1, 8, 8},
        &(nf_image_recipe_options){.n_ctx = n_ctx, .n_steps = 1, .net = &net, .recompute = NF_RECOMPUTE_ALWAYS});
}

#define IMAGE_ROWS                                                                                                  \
    {"pixelwise", build_pixelwise, 0.15, 10, false, 0},                                                             \
        {"pixelwise, of a context", build_pixelwise_of_context, 0.15, 10, true, 0},                                 \
        {"squeezed", build_squeezed, 0.05, 10, false, 0},                                                           \
        {"checkerboards, Glow's nets", build_glow_couplings, 0.1, 10, true, 0},                                     \
        {"checkerboards, residual convolutions", build_residual_couplings, 0.1, 10, true, 0},                       \
        {"checkerboard, gated convolutions", build_gated_couplings, 0.1, 3, true, 0},                               \
        {"Glow", build_glow, 0.1, 30, true, 0}, {"Real NVP of images", build_realnvp_image, 0.03, 30, true, ROUGH}, \
        {"checkerboard, of an image in the context", build_glow_of_image, 0.1, 10, true, 0},                        \
        {"checkerboard, of an image and context", build_residual_of_image, 0.1, 10, true, 0},

#endif
