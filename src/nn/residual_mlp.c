/* Residual nets as objects: the order of the layers in theta, initial weights, names, model files, options. Tensors
   have the names and the order of the authors' code (Durkan et al. 2019, ResidualNet). */
#include "base/memory.h"
#include "object/tree.h"
#include "nn/options.h"
#include "nn/resnet.h"
#include "nn/types.h"
#include <stdio.h>

typedef enum layer { INITIAL, CONTEXT, FIRST, SECOND, FINAL } layer;
/* Called for every layer: which layer it is, in which block, and where its numbers begin. */
typedef void layer_fn(void *user, const nfi_resnet *r, layer which, size_t block, const nfi_dense *d, size_t at);

static void for_layers(const nfi_resnet *r, layer_fn *f, void *user)
{
    f(user, r, INITIAL, 0, &r->initial, 0);
    size_t at = nfi_dense_size(&r->initial);
    for (size_t k = 0; k < r->n_blocks; k++) {
        if (r->context.n_ctx) {
            f(user, r, CONTEXT, k, &r->context, at);
            at += nfi_dense_size(&r->context);
        }
        f(user, r, FIRST, k, &r->block, at);
        f(user, r, SECOND, k, &r->block, at + nfi_dense_size(&r->block));
        at += 2 * nfi_dense_size(&r->block);
    }
    f(user, r, FINAL, 0, &r->final, at);
}

typedef struct start {
    nf_noise noise; /* its step counts up, layer by layer */
    nf_real *theta;
} start;

static void init_layer(void *user, const nfi_resnet *r, layer which, size_t block, const nfi_dense *d, size_t at)
{
    (void)block;
    start *s = user;
    if (which == SECOND)
        nfi_dense_init_uniform(d, r->options.block_scale, &s->noise, s->theta + at);
    else
        nfi_dense_init(d, r->options.init, which == INITIAL || which == FIRST ? r->activation : NF_IDENTITY, d->out,
                       which == FINAL ? r->options.last_scale : 1, &s->noise, s->theta + at);
    nfi_init_beta(d, r->activation, s->theta + at);
    s->noise.step++;
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    for_layers(nf_self(o), init_layer, &(start){.noise = *noise, .theta = theta});
    return NF_OK;
}

static nf_status shift_output(const nf_object *o, const nf_real *shift, nf_real *theta)
{
    const nf_shape *s = nf_object_shape(o);
    for (size_t i = 0; i < s->dim_out; i++)
        theta[s->n_params - s->dim_out + i] += shift[i];
    return NF_OK;
}

typedef struct naming {
    nf_slice_fn *each;
    void *user;
} naming;

static void name_layer(void *user, const nfi_resnet *r, layer which, size_t block, const nfi_dense *d, size_t at)
{
    (void)r;
    static const char *const name[] = {[INITIAL] = "initial_layer",
                                       [CONTEXT] = "context_layer",
                                       [FIRST] = "linear_layers.0",
                                       [SECOND] = "linear_layers.1",
                                       [FINAL] = "final_layer"};
    const naming *n = user;
    char inside[64];
    snprintf(inside, sizeof inside, "blocks.%zu.%s", block, name[which]);
    nfi_dense_slices(d, which == INITIAL || which == FINAL ? name[which] : inside, at, n->each, n->user);
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    for_layers(nf_self(o), name_layer, &(naming){.each = each, .user = user});
}

static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_SIZE, nf_residual_mlp_options, width), .least = 1, .help = "of all hidden layers"},
    {NF_OPTION(NF_OPTION_SIZE, nf_residual_mlp_options, n_blocks), .least = 1, .help = "residual blocks"},
    {NFI_UNIT_OPTION(nf_residual_mlp_options, activation, "of hidden units")},
    {NFI_INIT_OPTION(nf_residual_mlp_options)},
    {NF_OPTION(NF_OPTION_REAL, nf_residual_mlp_options, block_scale), .help = "bound of the blocks' first numbers"},
    {NFI_LAST_SCALE_OPTION(nf_residual_mlp_options)},
    {NFI_DROPOUT_OPTION(nf_residual_mlp_options)},
};
static const nf_residual_mlp_options defaults = {
    .width = 64, .n_blocks = 2, .activation = NF_RELU, .block_scale = 0.001, .last_scale = 1};
static const nf_option_table table =
    NF_OPTION_TABLE("nf_residual_mlp", nf_residual_mlp_options, options_of_type, &defaults);

NFI_REBUILD(net, nf_residual_mlp_options, nf_residual_mlp(nf_read_dim_in(r), nf_read_dim_out(r), nf_read_n_ctx(r), q))

const nf_net_type nfi_residual_mlp_type = {
    .part = {.name = "residual_mlp", .init = init, .slices = slices, .destroy = nfi_free},
    .abi = sizeof(nf_net_type),
    .apply = nfi_resnet_apply,
    .vjp = nfi_resnet_vjp,
    .tangent = nfi_resnet_tangent,
    .tangent_vjp = nfi_resnet_tangent_vjp,
    .shift_output = shift_output,
    .rebuild = rebuild,
    .options = &table,
};

/* Counts all sizes and the rows on the tape; false on overflow. Noise sites are counted in 32 bits. */
static bool count(nfi_resnet *r, nf_shape *s)
{
    size_t rows;
    bool fits = r->n_blocks <= UINT32_MAX && (!r->context.n_ctx || nfi_dense_count(&r->context, &r->block_size)) &&
                nfi_dense_count(&r->block, &r->block_size) && nfi_dense_count(&r->block, &r->block_size) &&
                nfi_mul(r->block_size, r->n_blocks, &s->n_params) && nfi_dense_count(&r->initial, &s->n_params) &&
                nfi_dense_count(&r->final, &s->n_params) && nfi_mul(r->block.out, 7, &rows);
    return fits && nfi_mul(nfi_resnet_kept(r, r->dropout > 0), r->n_blocks, &s->n_saved) &&
           nfi_add(s->n_saved, r->block.out, &s->n_saved);
}

nf_net *nf_residual_mlp(size_t in, size_t out, size_t n_ctx, const nf_residual_mlp_options *options)
{
    nf_residual_mlp_options q;
    if (out == 0) {
        nf_error(NF_EARG, "nf_residual_mlp: `out` is 0");
        return NULL;
    }
    if (nf_options_settle(&table, options, &q) != NF_OK)
        return NULL;
    nfi_resnet *r = nfi_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    const size_t width = q.width;
    *r = (nfi_resnet){.options = q,
                      .initial = {.in = in, .n_ctx = n_ctx, .out = width},
                      .context = {.n_ctx = n_ctx, .out = width},
                      .block = {.in = width, .out = width, .betas = nfi_unit_betas(q.activation)},
                      .final = {.in = width, .out = out},
                      .n_blocks = q.n_blocks,
                      .activation = q.activation,
                      .dropout = q.dropout};
    nf_shape shape = {.dim_in = in, .dim_out = out, .n_ctx = n_ctx, .flags = NFI_WRITES_GRADIENT};
    if (!count(r, &shape)) {
        nf_error(NF_EARG, "nf_residual_mlp: the sizes overflow");
        nfi_free(r);
        return NULL;
    }
    if (r->dropout > 0)
        shape.n_sites = (uint32_t)r->n_blocks; /* one for each block */
    return nf_net_new(&nfi_residual_mlp_type, &shape, r, NULL, 0);
}
