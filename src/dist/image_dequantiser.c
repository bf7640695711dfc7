/* Variational dequantisation of images (Ho et al. 2019, "Flow++", section 3.1): noise in the unit cube, given the
   image,

       u = sigmoid(f_K(... f_1(e))),   e ~ logistic,

   where f_k is an affine coupling over a checkerboard, whose net reads the image beside the pixels of the other colour.
   The nets start at 0, and the sigmoid of a logistic is uniform. */
#include "base/memory.h"
#include "flows/image/image.h"
#include "object/options.h"
#include <nflow/combine.h>
#include <nflow/constraints.h>

typedef nf_image_dequantiser_options options;

static const nf_scaled_affine_options bounded = {.scale = NF_SCALE_TANH};
static const nf_option options_of_recipe[] = {
    {NF_OPTION(NF_OPTION_SIZE, options, n_ctx), .help = "features of context beside the image"},
    {NF_OPTION(NF_OPTION_SIZE, options, n_layers), .least = 1, .help = "couplings"},
    {NF_OPTION(NF_OPTION_SIZE, options, hidden), .least = 1, .help = "channels of hidden layers"},
    {NF_OPTION(NF_OPTION_SIZE, options, n_blocks), .least = 1, .help = "residual blocks"},
};
static const options defaults = {.n_layers = 4, .hidden = 32, .n_blocks = 2};
static const nf_option_table table = NF_OPTION_TABLE("nf_image_dequantiser", options, options_of_recipe, &defaults);

/* The noise of an image of dim features, with a context of n_ctx in all. */
static nf_dist *noise_of(nf_image image, size_t dim, size_t n_ctx, const options *q, nf_conv_options net)
{
    nf_flow **f = nfi_calloc(q->n_layers + 1, sizeof(nf_flow *)), *chain = NULL;
    if (!f)
        return NULL;
    net.ctx_channels = image.channels;
    bool whole = true; /* after a failure nothing more is made, and nf_chain frees the flows that exist */
    size_t n = 0;
    for (; n < q->n_layers && whole; n++)
        whole = (f[n] = nfi_image_coupling(image, true, n, n_ctx, net, q->scale)) != NULL;
    if (whole)
        f[n++] = nf_interval(dim, 0, 1);
    chain = nf_chain(f, n);
    nfi_free(f);
    return chain ? nf_pushforward(nf_logistic(dim), chain) : NULL;
}

nf_dist *nf_image_dequantiser(nf_image image, const nf_image_dequantiser_options *given)
{
    const char *who = table.function;
    options q;
    size_t dim, n_ctx;
    if (!nfi_count_features(&image, who, &dim) || nf_options_settle(&table, given, &q) != NF_OK)
        return NULL;
    if (given && given->net && (given->hidden || given->n_blocks)) {
        nf_error(NF_EARG, "%s: `net` is given, and so is `%s`, which is of the default nets", who,
                 given->hidden ? "hidden" : "n_blocks");
        return NULL;
    }
    if (!nfi_add(dim, q.n_ctx, &n_ctx)) {
        nf_error(NF_EARG, "%s: `n_ctx` is %zu", who, q.n_ctx);
        return NULL;
    }
    nf_conv_options net = {.hidden = &q.hidden,
                           .n_hidden = 1,
                           .n_blocks = q.n_blocks,
                           .norm = NF_CONV_WEIGHT_NORM,
                           .last_scale = NF_ZERO,
                           .learnt_scale = true};
    if (q.net)
        net = *q.net;
    net.ctx_channels = 0; /* until the other options are known to be good */
    q.scale = q.scale ? q.scale : &bounded;
    return nfi_check_image_coupling(who, &net, q.scale) == NF_OK ? noise_of(image, dim, n_ctx, &q, net) : NULL;
}
