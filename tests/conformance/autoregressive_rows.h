/* Rows of the conformance table: autoregressive flows, plain and residual nets, both parallel directions, orders. */
#ifndef CONFORMANCE_AUTOREGRESSIVE_ROWS_H
#define CONFORMANCE_AUTOREGRESSIVE_ROWS_H
#include <nflow/nflow.h>

/* Nets that are not bounded need scales that are: elsewhere an input of 1e15 has no finite image. */
static inline nf_flow *bounded_affine(void)
{
    return nf_scaled_affine(1, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH});
}

/* Widths that the degrees do not divide. */
static inline nf_net *build_masked(size_t dim, size_t per_dim, size_t n_ctx, size_t n_blocks)
{
    return nf_masked_net(dim, per_dim, n_ctx,
                         &(nf_masked_options){.hidden = (size_t[]){n_blocks ? 13 : 17, 11},
                                              .n_hidden = n_blocks ? 1 : 2,
                                              .n_blocks = n_blocks,
                                              .activation = NF_TANH,
                                              .last_scale = 0.3});
}

static inline nf_flow *build_iaf(size_t dim, size_t n_ctx)
{
    return nf_autoregressive(nf_affine(1), build_masked(dim, 2, n_ctx, 0), NULL, NF_FORWARD);
}

static inline nf_flow *build_maf_in_order(size_t dim, size_t n_ctx)
{
    size_t order[64];
    nf_noise_permutation(&(nf_noise){.seed = 47}, dim, order);
    return nf_autoregressive(bounded_affine(), build_masked(dim, 2, n_ctx, 2), order, NF_INVERSE);
}

/* The context gates the blocks; the sequential direction is the inverse. */
static inline nf_flow *build_residual_iaf(size_t dim, size_t n_ctx)
{
    return nf_autoregressive(bounded_affine(), build_masked(dim, 2, n_ctx, 1), NULL, NF_FORWARD);
}

static inline nf_flow *build_linear_iaf(size_t dim, size_t n_ctx)
{
    nf_net *net = nf_masked_net(dim, 2, n_ctx, &(nf_masked_options){.last_scale = 0.3});
    return nf_autoregressive(bounded_affine(), net, NULL, NF_FORWARD);
}

/* Units that keep their argument and have a parameter. */
static inline nf_flow *build_swish_maf(size_t dim, size_t n_ctx)
{
    nf_net *net = nf_masked_net(
        dim, 2, n_ctx,
        &(nf_masked_options){.hidden = (size_t[]){17, 11}, .n_hidden = 2, .activation = NF_SWISH, .last_scale = 0.3});
    return nf_autoregressive(bounded_affine(), net, NULL, NF_INVERSE);
}

static inline nf_flow *build_lipswish_iaf(size_t dim, size_t n_ctx)
{
    nf_net *net = nf_masked_net(
        dim, 2, n_ctx,
        &(nf_masked_options){
            .hidden = (size_t[]){13}, .n_hidden = 1, .n_blocks = 2, .activation = NF_LIPSWISH, .last_scale = 0.3});
    return nf_autoregressive(bounded_affine(), net, NULL, NF_FORWARD);
}

#define AUTOREGRESSIVE_ROWS                                                                        \
    {"IAF", build_iaf, 0.1, 10, true, 0}, {"MAF, residual", build_maf_in_order, 0.1, 10, true, 0}, \
        {"IAF, residual", build_residual_iaf, 0.1, 10, true, 0},                                   \
        {"IAF without hidden layers", build_linear_iaf, 0.1, 10, true, 0},                         \
        {"MAF, swish", build_swish_maf, 0.1, 10, true, 0},                                         \
        {"IAF, residual, LipSwish", build_lipswish_iaf, 0.1, 10, true, 0},

#endif
