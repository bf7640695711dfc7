/* For tests of the posterior plug-in: a model with parameters of both kinds, and what an encoder and a decoder give. */
#ifndef POSTERIOR_FIXTURE_H
#define POSTERIOR_FIXTURE_H
#include "numbers.h"
#include <nflow/nflow.h>

enum { D = 3, K = 2, FLOW_CTX = K * (2 * D + 1), HEAD = 2 * D + FLOW_CTX, MOST = 1000 };

/* Two planar layers with parameters from the context, then a linear layer that all samples share. */
static inline nf_dist *flow_posterior(void)
{
    nf_flow *planar[K] = {nf_planar(D), nf_planar(D)};
    nf_flow *parts[] = {nf_amortized_by_context(nf_chain(planar, K)), nf_lu_linear(D, 5)};
    return nf_posterior(D, nf_chain(parts, 2));
}

/* A model whose shared layer is no longer trivial. */
static inline nf_model *new_model(void)
{
    nf_model *m = nf_model_of_dist(flow_posterior(), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    draw(9, nf_model_shape(m)->n_params, 0.3, nf_model_theta(m));
    cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
    return m;
}

typedef struct inputs {
    nf_real mean[MOST * D], log_scale[MOST * D], ctx[MOST * FLOW_CTX], gz[MOST * D];
    double g_log_q[MOST];
} inputs;

/* To be freed. */
static inline inputs *new_inputs(uint64_t seed)
{
    inputs *in = calloc(1, sizeof *in);
    static nf_real g_log_q[MOST];
    draw(seed, MOST * D, 1.3, in->mean);
    draw(seed + 1, MOST * D, 0.4, in->log_scale);
    draw(seed + 2, MOST * FLOW_CTX, 0.9, in->ctx);
    draw(seed + 3, MOST * D, 1, in->gz);
    draw(seed + 4, MOST, 1, g_log_q);
    for (size_t i = 0; i < MOST; i++)
        in->g_log_q[i] = (double)g_log_q[i];
    return in;
}

/* Arguments of the two calls for the first n rows, whose arrays have no gaps; gradients are for the caller to ask for.
 */
static inline nf_posterior_rows rows_of(const inputs *in, size_t n, nf_real *z, double *log_q)
{
    return (nf_posterior_rows){
        .n = n, .mean = in->mean, .log_scale = in->log_scale, .ctx = in->ctx, .z = z, .log_q = log_q};
}
static inline nf_posterior_gradients cotangents(const inputs *in, size_t n)
{
    return (nf_posterior_gradients){.n = n, .gz = in->gz, .g_log_q = in->g_log_q};
}

#endif
