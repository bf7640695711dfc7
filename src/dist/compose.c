/* Distributions that are compositions. A learnt or conditional normal is the standard normal pushed through an affine
   flow. A conditional mixture is a mixture whose parameters come from a net. A VAE's posterior is a conditional normal
   followed by a flow that reads the rest of the context. */
#include "object/parts.h"
#include <nflow/linear.h>
#include <nflow/elementwise.h>
#include <nflow/combine.h>
#include <nflow/dist.h>

/* Whether dim is not 0; otherwise sets an error message. */
static bool some(size_t dim, const char *who)
{
    if (dim == 0)
        nf_error(NF_EARG, "%s: `dim` is 0", who);
    return dim != 0;
}

nf_dist *nf_diagonal_normal(size_t dim)
{
    if (!some(dim, "nf_diagonal_normal"))
        return NULL;
    return nf_pushforward(nf_normal(dim), nf_affine(dim));
}

nf_dist *nf_full_normal(size_t dim)
{
    if (!some(dim, "nf_full_normal"))
        return NULL;
    return nf_pushforward(nf_normal(dim), nf_full_affine(dim));
}

nf_dist *nf_conditional_normal(size_t dim, nf_net *head)
{
    nf_object *const part[] = {nf_net_object(head)};
    if (!nfi_parts_given("nf_conditional_normal", 1, part, (const char *const[]){"head"}))
        return NULL;
    if (!some(dim, "nf_conditional_normal")) {
        nf_net_free(head);
        return NULL;
    }
    return nf_pushforward(nf_normal(dim), nf_amortized(nf_affine(dim), head));
}

nf_dist *nf_conditional_mixture(size_t dim, size_t n_components, nf_net *head)
{
    nf_object *const part[] = {nf_net_object(head)};
    if (!nfi_parts_given("nf_conditional_mixture", 1, part, (const char *const[]){"head"}))
        return NULL;
    return nf_amortized_dist(nf_mixture(dim, n_components), head);
}

nf_dist *nf_diagonal_posterior(size_t dim)
{
    if (!some(dim, "nf_diagonal_posterior"))
        return NULL;
    return nf_pushforward(nf_normal(dim), nf_amortized_by_context(nf_affine(dim)));
}

nf_dist *nf_posterior(size_t dim, nf_flow *flow)
{
    nf_object *const part[] = {nf_flow_object(flow)};
    if (!nfi_parts_given("nf_posterior", 1, part, (const char *const[]){"flow"}))
        return NULL;
    if (!some(dim, "nf_posterior")) {
        nf_flow_free(flow);
        return NULL;
    }
    size_t n_ctx = nf_flow_shape(flow)->n_ctx, all = 2 * dim + n_ctx;
    nf_flow *base = nf_on_context(nf_amortized_by_context(nf_affine(dim)), all, 0);
    return nf_pushforward(nf_pushforward(nf_normal(dim), base), n_ctx ? nf_on_context(flow, all, 2 * dim) : flow);
}
