/* The residual flow of the paper (Chen et al. 2019, on vectors: appendix E.1) as a chain, from the base on

       block_0, actnorm_0, block_1, actnorm_1, ...,

   a block being x + g(x; context) of a bounded net, or its inverse where the explicit direction is that of scoring. */
#include <nflow/recipes.h>
#include "base/memory.h"
#include "flows/types.h"
#include "nn/options.h"

static const size_t hidden[] = {128, 128, 128};
static const char *const parallels[] = {[NF_PARALLEL_FORWARD] = "forward", [NF_PARALLEL_INVERSE] = "inverse"};
static const nf_choices parallel_choices = NFI_CHOICES("direction", parallels);
static const nf_option options_of_recipe[] = {
    {NF_OPTION(NF_OPTION_SIZE, nf_residual_options, n_ctx), .help = "features of context"},
    {NF_OPTION(NF_OPTION_SIZE, nf_residual_options, n_layers), .least = 1, .help = "residual blocks"},
    {NFI_HIDDEN_OPTION(nf_residual_options)},
    {NFI_UNIT_OPTION(nf_residual_options, activation, "of hidden units")},
    {NFI_LAST_SCALE_OPTION(nf_residual_options)},
    {NF_OPTION(NF_OPTION_REAL, nf_residual_options, bound), .most = 1, .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW,
     .help = "of the largest singular value of each layer"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_residual_options, parallel), .choices = &parallel_choices,
     .help = "the explicit direction"},
    {NF_OPTION(NF_OPTION_BOOL, nf_residual_options, no_actnorm), .help = "blocks alone"},
};
static const nf_residual_options defaults = {.n_layers = 10,
                                             .hidden = hidden,
                                             .n_hidden = 3,
                                             .activation = NF_LIPSWISH,
                                             .last_scale = 0.01,
                                             .bound = 0.97,
                                             .parallel = NF_PARALLEL_INVERSE};
const nf_option_table nfi_residual_recipe_options =
    NF_OPTION_TABLE("nf_residual", nf_residual_options, options_of_recipe, &defaults);

static nf_flow *block(size_t dim, const nf_residual_options *q)
{
    nf_net *mlp = nf_mlp(dim, dim, q->n_ctx,
                         &(nf_mlp_options){.hidden = q->hidden,
                                           .n_hidden = q->n_hidden,
                                           .activation = q->activation,
                                           .last_scale = q->last_scale > 0 ? q->last_scale : NF_ZERO});
    nf_flow *f = nf_residual_flow(nf_lipschitz(mlp, &(nf_lipschitz_options){.bound = q->bound}), q->block);
    return q->parallel == NF_PARALLEL_FORWARD ? f : nf_invert(f);
}

nf_flow *nf_residual(size_t dim, const nf_residual_options *options)
{
    nf_residual_options q;
    size_t room;
    if (dim == 0) {
        nf_error(NF_EARG, "nf_residual: `dim` is 0");
        return NULL;
    }
    if (nf_options_settle(&nfi_residual_recipe_options, options, &q) != NF_OK)
        return NULL;
    if (q.activation == NF_SWISH || !nfi_mul(q.n_layers, 2, &room)) {
        nf_error(NF_EARG, q.activation == NF_SWISH ? "nf_residual: `activation` is NF_SWISH, whose slope may exceed 1"
                                                   : "nf_residual: `n_layers` is too large");
        return NULL;
    }
    nf_flow **f = nfi_calloc(room, sizeof(nf_flow *)), *chain = NULL;
    if (f) {
        size_t n = 0;
        bool whole = true; /* after a failure nothing more is made, and nf_chain frees the flows that exist */
        for (size_t k = 0; k < q.n_layers && whole; k++) {
            whole = (f[n++] = block(dim, &q)) != NULL;
            if (whole && !q.no_actnorm)
                whole = (f[n++] = nf_actnorm(dim)) != NULL;
        }
        chain = nf_chain(f, n);
    }
    nfi_free(f);
    return chain;
}
