/* Rows of the conformance table: residual flows of bounded nets, with exact log-dets. */
#ifndef CONFORMANCE_CONTRACTION_ROWS_H
#define CONFORMANCE_CONTRACTION_ROWS_H
#include <nflow/nflow.h>

static inline nf_flow *contraction(size_t dim, size_t n_ctx, nf_activation activation, size_t n_hidden, double bound)
{
    static const size_t widths[] = {9, 7};
    nf_net *mlp =
        nf_mlp(dim, dim, n_ctx, &(nf_mlp_options){.hidden = widths, .n_hidden = n_hidden, .activation = activation});
    return nf_residual_flow(nf_lipschitz(mlp, &(nf_lipschitz_options){.bound = bound}),
                            &(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT});
}

static inline nf_flow *build_contraction(size_t dim, size_t n_ctx)
{
    return contraction(dim, n_ctx, NF_LIPSWISH, 2, 0.91);
}

static inline nf_flow *build_elu_contraction(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return contraction(dim, 0, NF_ELU, 1, 0.83);
}

static inline nf_flow *build_inverted_contractions(size_t dim, size_t n_ctx)
{
    return nf_invert(nf_chain((nf_flow *[]){contraction(dim, n_ctx, NF_TANH, 1, 0.87), nf_affine(dim),
                                            contraction(dim, n_ctx, NF_LIPSWISH, 1, 0.79)},
                              3));
}

static inline nf_flow *build_residual_recipe(size_t dim, size_t n_ctx)
{
    static const size_t width[] = {11};
    return nf_residual(dim, &(nf_residual_options){.n_ctx = n_ctx,
                                                   .n_layers = 2,
                                                   .hidden = width,
                                                   .n_hidden = 1,
                                                   .last_scale = 1,
                                                   .bound = 0.8,
                                                   .block = &(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT}});
}

#define CONTRACTION_ROWS                                                                   \
    {"residual, LipSwish", build_contraction, 0.3, 100, true, COSTLY},                     \
        {"residual, ELU", build_elu_contraction, 0.3, 100, false, ROUGH + COSTLY},         \
        {"residual, inverted chain", build_inverted_contractions, 0.3, 100, true, COSTLY}, \
        {"residual, recipe", build_residual_recipe, 0.2, 100, true, COSTLY},

#endif
