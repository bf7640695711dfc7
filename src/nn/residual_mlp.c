/* Residual nets as objects: the order of the layers in theta, initial weights, names, model files, options. Tensors
   have the names and the order of the authors' code (Durkan et al. 2019, ResidualNet). */
#include "object/fields.h"
#include "base/memory.h"
#include "object/tree.h"
#include "nn/options.h"
#include "nn/resnet.h"
#include "nn/types.h"
#include <stdio.h>

#define BLOCK_SCALE 0.001 /* bound of the blocks' second layers, by default */

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
        nfi_dense_init_uniform(d, r->block_scale, &s->noise, s->theta + at);
    else
        nfi_dense_init(d, r->init, which == INITIAL || which == FIRST ? r->activation : NF_IDENTITY, d->out,
                       which == FINAL ? r->last_scale : 1, &s->noise, s->theta + at);
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

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const nfi_resnet *r = nf_self(o);
    nf_status status = nf_write_integer(w, "width", r->block.out);
    if (status == NF_OK)
        status = nf_write_integer(w, "n_blocks", r->n_blocks);
    if (status == NF_OK)
        status = nfi_write_unit(w, "activation", r->activation);
    if (status == NF_OK)
        status = nfi_write_init(w, r->init);
    if (status == NF_OK)
        status = nf_write_number(w, "block_scale", r->block_scale);
    if (status == NF_OK)
        status = nf_write_number(w, "last_scale", r->last_scale);
    return status == NF_OK ? nf_write_number(w, "dropout", r->dropout) : status;
}

static nf_net *rebuild(nf_reader *reader)
{
    nf_residual_mlp_options q = {.block_scale = BLOCK_SCALE, .last_scale = 1};
    if (nfi_maybe_size(reader, "width", &q.width) != NF_OK ||
        nfi_maybe_size(reader, "n_blocks", &q.n_blocks) != NF_OK ||
        nfi_read_unit(reader, "activation", &q.activation) != NF_OK || nfi_read_init(reader, &q.init) != NF_OK ||
        nfi_maybe_number(reader, "block_scale", &q.block_scale) != NF_OK ||
        nfi_maybe_number(reader, "last_scale", &q.last_scale) != NF_OK ||
        nfi_maybe_number(reader, "dropout", &q.dropout) != NF_OK)
        return NULL;
    q.block_scale = nfi_option_of(q.block_scale);
    q.last_scale = nfi_option_of(q.last_scale);
    return nf_residual_mlp(nf_read_dim_in(reader), nf_read_dim_out(reader), nf_read_n_ctx(reader), &q);
}

const nf_net_type nfi_residual_mlp_type = {
    .part = {.name = "residual_mlp", .init = init, .describe = describe, .slices = slices, .destroy = nfi_free},
    .abi = sizeof(nf_net_type),
    .apply = nfi_resnet_apply,
    .vjp = nfi_resnet_vjp,
    .tangent = nfi_resnet_tangent,
    .tangent_vjp = nfi_resnet_tangent_vjp,
    .shift_output = shift_output,
    .rebuild = rebuild,
};

static nf_status check(size_t out, const nf_residual_mlp_options *options)
{
    static const char who[] = "nf_residual_mlp";
    if (out == 0)
        return nf_error(NF_EARG, "%s: `out` is 0", who);
    nf_status status = nfi_check_units(who, options->activation, NF_IDENTITY, options->init);
    if (status == NF_OK)
        status = nfi_check_scale(who, "block_scale", options->block_scale);
    if (status == NF_OK)
        status = nfi_check_scale(who, "last_scale", options->last_scale);
    return status == NF_OK ? nfi_check_dropout(who, options->dropout) : status;
}

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
    static const nf_residual_mlp_options defaults;
    const nf_residual_mlp_options *q = options ? options : &defaults;
    if (check(out, q) != NF_OK)
        return NULL;
    nfi_resnet *r = nfi_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    const size_t width = q->width ? q->width : 64;
    *r = (nfi_resnet){.initial = {.in = in, .n_ctx = n_ctx, .out = width},
                      .context = {.n_ctx = n_ctx, .out = width},
                      .block = {.in = width, .out = width, .betas = nfi_unit_betas(q->activation)},
                      .final = {.in = width, .out = out},
                      .n_blocks = q->n_blocks ? q->n_blocks : 2,
                      .activation = q->activation,
                      .init = q->init,
                      .block_scale = nfi_scale_of(q->block_scale, BLOCK_SCALE),
                      .last_scale = nfi_scale_of(q->last_scale, 1),
                      .dropout = q->dropout};
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
