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

#define IMAGE_ROWS                                                                  \
    {"pixelwise", build_pixelwise, 0.15, 10, false, 0},                             \
        {"pixelwise, of a context", build_pixelwise_of_context, 0.15, 10, true, 0}, \
        {"squeezed", build_squeezed, 0.05, 10, false, 0},

#endif
