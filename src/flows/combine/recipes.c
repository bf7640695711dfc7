/* The flows of papers, made of the layers of flow.h. A recipe is one entry of data: how the features are split (by
   couplings or in an order), what is done to each, and the options for those that are not given. From the base on, a
   recipe makes

       [mixing_0,] layer_0, [mixing_1,] layer_1, ..., layer_(K-1) [, mixing_K].

   NICE has its diagonal scaling before layer_0. Only NF_MIX_LU puts flows between the layers: reversed or random orders
   belong to the autoregressive layers themselves, random masks to the couplings. FFJORD's layers are continuous. */
#include <nflow/linear.h>
#include <nflow/ode.h>
#include <nflow/recipes.h>
#include "base/memory.h"
#include "flows/inference_sizes.h"
#include "flows/types.h"
#include "nn/options.h"
#include <stdio.h>

typedef size_t mask_fn(size_t dim, size_t k, unsigned char *mask);

typedef struct recipe {
    nf_option_table options; /* its defaults are `paper` */
    mask_fn *mask;           /* the mask of a coupling; NULL: the layers are autoregressive */
    bool scaling;            /* whether there is the diagonal scaling of NICE */
    bool continuous;         /* the layers are continuous flows */
    nf_recipe_options paper;
} recipe;

static const char *const mixings[] = {
    [NF_MIX_NONE] = "none", [NF_MIX_REVERSE] = "reverse", [NF_MIX_PERMUTE] = "permute", [NF_MIX_LU] = "lu"};
static const char *const parallels[] = {[NF_PARALLEL_FORWARD] = "forward", [NF_PARALLEL_INVERSE] = "inverse"};
static const nf_choices mixing_choices = NFI_CHOICES("mixing", mixings);
static const nf_choices parallel_choices = NFI_CHOICES("direction", parallels);
static const char *const sizes[] = {[NF_SIZES_PAPER] = "paper", [NF_SIZES_INFERENCE] = "inference"};
static const nf_choices sizes_choices = NFI_CHOICES("sizes", sizes);
static const nf_option options_of_all[] = {
    {NF_OPTION(NF_OPTION_SIZE, nf_recipe_options, n_ctx), .help = "features of context"},
    {NF_OPTION(NF_OPTION_SIZE, nf_recipe_options, n_layers), .least = 1, .help = "couplings or autoregressive flows"},
    {NFI_HIDDEN_OPTION(nf_recipe_options)},
    {NF_OPTION(NF_OPTION_SIZE, nf_recipe_options, n_blocks), .help = "residual blocks"},
    {NFI_UNIT_OPTION(nf_recipe_options, activation, "of hidden units")},
    {NFI_DROPOUT_OPTION(nf_recipe_options)},
    {NFI_LAST_SCALE_OPTION(nf_recipe_options)},
    {NFI_INIT_OPTION(nf_recipe_options)},
    {NF_OPTION(NF_OPTION_CHOICE, nf_recipe_options, mixing), .choices = &mixing_choices, .help = "between layers"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_recipe_options, parallel), .choices = &parallel_choices,
     .help = "the direction of one pass, of autoregressive flows"},
    {NF_OPTION(NF_OPTION_INTEGER, nf_recipe_options, seed), .help = "of permutations and random masks"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_recipe_options, sizes), .choices = &sizes_choices,
     .help = "what layers and nets are by default"},
};

static const size_t nice_hidden[] = {1000, 1000, 1000, 1000, 1000}, made_hidden[] = {500}, nvp_hidden[] = {256, 256},
                    maf_hidden[] = {512, 512}, iaf_hidden[] = {320, 320}, ode_hidden[] = {64, 64, 64};
/* The papers' MADE and MAF scale by exp(a). The next dimension of a draw is scaled by what a net makes of the
   dimensions before, and so in each layer. Of an untrained MAF (10 dimensions, last_scale 0.25) some in a hundred
   draws overflow. The scale exp(u tanh(a / u)) with u = ln 1000 keeps each factor between 1/1000 and 1000. With it
   the same draws stay below 1e12. It differs from exp(a) by 1 % only at |a| = 1.1. */
static const nf_scaled_affine_options bounded = {.scale = NF_SCALE_TANH},
                                      nearly_free = {.scale = NF_SCALE_TANH, .limit = 6.907755278982137},
                                      gated = {.scale = NF_SCALE_SIGMOID, .bias = 2, .gated = true};
static const nf_spline_options spline = {.bins = 8, .box = 3};

/* The options that are left out are the recipe's own: `paper`. The nets of all recipes start small. */
#define RECIPE(of, mask_, scaling_, unit, ...)                                                                     \
    static const recipe of = {.options = NF_OPTION_TABLE("nf_" #of, nf_recipe_options, options_of_all, &of.paper), \
                              .mask = mask_,                                                                       \
                              .scaling = scaling_,                                                                 \
                              .paper = {.activation = unit, .last_scale = 0.01, __VA_ARGS__}}
RECIPE(nice, nf_mask_halves, true, NF_RELU, .n_layers = 4, .hidden = nice_hidden, .n_hidden = 5, .mixing = NF_MIX_NONE);
RECIPE(realnvp, nf_mask_alternating, false, NF_RELU, .n_layers = 10, .hidden = nvp_hidden, .n_hidden = 2,
       .scale = &bounded, .mixing = NF_MIX_NONE);
RECIPE(made, NULL, false, NF_RELU, .n_layers = 1, .hidden = made_hidden, .n_hidden = 1, .scale = &nearly_free,
       .mixing = NF_MIX_REVERSE, .parallel = NF_PARALLEL_INVERSE);
RECIPE(maf, NULL, false, NF_RELU, .n_layers = 5, .hidden = maf_hidden, .n_hidden = 2, .scale = &nearly_free,
       .mixing = NF_MIX_REVERSE, .parallel = NF_PARALLEL_INVERSE);
RECIPE(iaf, NULL, false, NF_ELU, .n_layers = 8, .hidden = iaf_hidden, .n_hidden = 2, .scale = &gated,
       .mixing = NF_MIX_REVERSE, .parallel = NF_PARALLEL_FORWARD);
RECIPE(nsf_coupling, nf_mask_alternating, false, NF_RELU, .n_layers = 10, .hidden = nvp_hidden, .n_hidden = 1,
       .n_blocks = 2, .spline = &spline, .mixing = NF_MIX_LU);
RECIPE(nsf_autoregressive, NULL, false, NF_RELU, .n_layers = 10, .hidden = nvp_hidden, .n_hidden = 1, .n_blocks = 2,
       .spline = &spline, .mixing = NF_MIX_LU, .parallel = NF_PARALLEL_INVERSE);
/* FFJORD's toy models: one continuous flow, whose net is gated by the time. */
static const recipe ffjord = {.options = NF_OPTION_TABLE("nf_ffjord", nf_recipe_options, options_of_all, &ffjord.paper),
                              .continuous = true,
                              .paper = {.activation = NF_TANH,
                                        .last_scale = 0.01,
                                        .n_layers = 1,
                                        .hidden = ode_hidden,
                                        .n_hidden = 3,
                                        .mixing = NF_MIX_NONE}};

/* ---- options ---- */

const size_t *nfi_inference_hidden(size_t dim)
{
    static const size_t widths[][NFI_INFERENCE_HIDDEN] = {{16, 16}, {32, 32}, {64, 64}, {128, 128}};
    return widths[dim <= 32 ? 0 : dim <= 64 ? 1 : dim <= 128 ? 2 : 3];
}

static void for_inference(nf_recipe_options *q, size_t dim)
{
    q->n_layers = q->n_layers ? q->n_layers : NFI_INFERENCE_LAYERS;
    if (q->n_hidden)
        return;
    q->hidden = nfi_inference_hidden(dim);
    q->n_hidden = q->n_blocks && q->n_blocks != NF_NONE ? 1 : NFI_INFERENCE_HIDDEN;
}

/* The options that were given, with the recipe's own for those that were not. Residual blocks have one width, so where
   several are given, or none, there are no blocks, and where blocks are asked for there is one width. */
static nf_status settle(const recipe *r, size_t dim, const nf_recipe_options *given, nf_recipe_options *q)
{
    *q = *given;
    if (q->sizes == NF_SIZES_INFERENCE)
        for_inference(q, dim);
    if (q->n_blocks == 0 && q->n_hidden > 1)
        q->n_blocks = NF_NONE;
    nf_status status = nf_options_settle(&r->options, q, q);
    if (q->n_blocks && given->n_hidden == 0)
        q->n_hidden = 1;
    q->scale = q->scale ? q->scale : r->paper.scale;
    q->spline = q->spline ? q->spline : r->paper.spline;
    if (q->spline && q->spline->free_ends && given->mixing == NF_MIX_DEFAULT)
        q->mixing = NF_MIX_PERMUTE;
    return status;
}

/* The one-dimensional transforms of a layer, side by side. */
static nf_flow *make_transform(const nf_recipe_options *q, size_t dim)
{
    return q->spline ? nf_spline(dim, q->spline) : q->scale ? nf_scaled_affine(dim, q->scale) : nf_shift(dim);
}

/* Refuses what the constructor of the transform refuses, with a message that begins with the recipe's name. */
static nf_status check_transform(const char *who, const nf_recipe_options *q)
{
    nf_flow *t = make_transform(q, 1);
    nf_flow_free(t);
    if (t)
        return NF_OK;
    char why[200];
    snprintf(why, sizeof why, "%s", nf_error_message());
    return nf_error(nf_error_status(), "%s: `%s`: %s", who, q->spline ? "spline" : "scale", why);
}

static nf_status check_continuous(const char *who, const nf_recipe_options *given, const nf_recipe_options *q)
{
    if (q->n_blocks || q->dropout > 0)
        return nf_error(NF_EARG, "%s: `%s` is given, but the net of a continuous flow has none", who,
                        q->n_blocks ? "n_blocks" : "dropout");
    if (given->parallel || (q->mixing != NF_MIX_NONE && q->mixing != NF_MIX_LU))
        return nf_error(NF_EARG, "%s: `%s` is given, but continuous flows have no order", who,
                        given->parallel ? "parallel" : "mixing");
    return NF_OK;
}

static nf_status check(const recipe *r, const nf_recipe_options *given, const nf_recipe_options *q)
{
    const char *who = r->options.function;
    const bool stray_scale = q->scale && !r->paper.scale, stray_spline = q->spline && !r->paper.spline;
    if (stray_scale || stray_spline)
        return nf_error(NF_EARG, "%s: `%s` is given, but its layers are %s", who, stray_scale ? "scale" : "spline",
                        r->continuous     ? "continuous"
                        : r->paper.spline ? "splines"
                        : r->paper.scale  ? "affine"
                                          : "shifts");
    if (r->continuous)
        return check_continuous(who, given, q);
    if (q->ode)
        return nf_error(NF_EARG, "%s: `ode` is given, but its layers are not continuous", who);
    if (r->mask && q->mixing == NF_MIX_REVERSE)
        return nf_error(NF_EARG, "%s: `mixing` is NF_MIX_REVERSE, but couplings have no order", who);
    if (r->mask && given->parallel)
        return nf_error(NF_EARG, "%s: `parallel` is given, but both directions of a coupling are one pass", who);
    if (q->spline && q->spline->free_ends && q->mixing == NF_MIX_LU)
        return nf_error(NF_EARG, "%s: `mixing` is NF_MIX_LU, which does not keep the box of splines with free ends",
                        who);
    if (q->n_blocks && q->n_hidden != 1)
        return nf_error(NF_EARG, "%s: `n_hidden` is %zu, but residual blocks (`n_blocks` is %zu) have one width", who,
                        q->n_hidden, q->n_blocks);
    return check_transform(who, q);
}

/* ---- layers ---- */

static nf_net *coupling_net(const nf_recipe_options *q, size_t in, size_t out)
{
    if (q->n_blocks)
        return nf_residual_mlp(in, out, q->n_ctx,
                               &(nf_residual_mlp_options){.width = q->hidden[0],
                                                          .n_blocks = q->n_blocks,
                                                          .activation = q->activation,
                                                          .init = q->init,
                                                          .dropout = q->dropout,
                                                          .last_scale = q->last_scale});
    return nf_mlp(in, out, q->n_ctx,
                  &(nf_mlp_options){.hidden = q->hidden,
                                    .n_hidden = q->n_hidden,
                                    .activation = q->activation,
                                    .init = q->init,
                                    .dropout = q->dropout,
                                    .last_scale = q->last_scale});
}

static nf_flow *coupling(const recipe *r, const nf_recipe_options *q, size_t dim, size_t k)
{
    unsigned char *mask = nfi_calloc(dim, 1);
    if (!mask)
        return NULL;
    const size_t n_b = q->mixing == NF_MIX_PERMUTE ? nf_mask_random(dim, k, q->seed, mask) : r->mask(dim, k, mask);
    nf_flow *t = make_transform(q, n_b), *f = NULL;
    if (t)
        f = nf_coupling(dim, mask, t, coupling_net(q, dim - n_b, nf_flow_shape(t)->n_params));
    nfi_free(mask);
    return f;
}

static nf_noise order_noise(const nf_recipe_options *q, size_t k)
{
    return (nf_noise){.seed = q->seed, .step = k};
}

static nf_flow *autoregressive(const nf_recipe_options *q, size_t dim, size_t k)
{
    const nf_masked_options net = {.hidden = q->hidden,
                                   .n_hidden = q->n_hidden,
                                   .n_blocks = q->n_blocks,
                                   .activation = q->activation,
                                   .init = q->init,
                                   .last_scale = q->last_scale,
                                   .dropout = q->dropout};
    const nf_direction parallel = q->parallel == NF_PARALLEL_FORWARD ? NF_FORWARD : NF_INVERSE;
    const nf_noise noise = order_noise(q, k);
    size_t *order = nfi_calloc(dim, sizeof *order);
    if (!order)
        return NULL;
    if (q->mixing == NF_MIX_PERMUTE)
        nf_noise_permutation(&noise, dim, order);
    else
        for (size_t t = 0; t < dim; t++)
            order[t] = q->mixing == NF_MIX_REVERSE && k % 2 == 1 ? dim - 1 - t : t;
    nf_flow *t = make_transform(q, 1), *f = NULL;
    if (t)
        f = nf_autoregressive(t, nf_masked_net(dim, nf_flow_shape(t)->n_params, q->n_ctx, &net), order, parallel);
    nfi_free(order);
    return f;
}

static nf_flow *continuous(const nf_recipe_options *q, size_t dim)
{
    const nf_mlp_options net = {.hidden = q->hidden,
                                .n_hidden = q->n_hidden,
                                .activation = q->activation,
                                .init = q->init,
                                .last_scale = q->last_scale};
    return nf_continuous(nf_squash_mlp(dim + 1, dim, q->n_ctx, &net), q->ode);
}

static nf_flow *layer(const recipe *r, const nf_recipe_options *q, size_t dim, size_t k)
{
    return r->continuous ? continuous(q, dim) : r->mask ? coupling(r, q, dim, k) : autoregressive(q, dim, k);
}

/* The k-th permutation; the last one undoes the others. rows [dim]: for each present feature, which feature of the
   first layer's input it is. */
static nf_flow *permutation(const nf_recipe_options *q, size_t dim, size_t k, size_t *rows)
{
    const nf_noise noise = order_noise(q, k);
    size_t *order = nfi_calloc(dim, sizeof *order), *moved = nfi_calloc(dim, sizeof *moved);
    nf_flow *f = NULL;
    if (order && moved) {
        if (k < q->n_layers)
            nf_noise_permutation(&noise, dim, order);
        else
            for (size_t i = 0; i < dim; i++)
                order[rows[i]] = i;
        for (size_t i = 0; i < dim; i++)
            moved[i] = rows[order[i]];
        for (size_t i = 0; i < dim; i++)
            rows[i] = moved[i];
        f = nf_permutation(dim, order);
    }
    nfi_free(order);
    nfi_free(moved);
    return f;
}

static nf_flow *build(const recipe *r, size_t dim, const nf_recipe_options *given)
{
    static const nf_recipe_options none;
    nf_recipe_options q;
    size_t room, rows_bytes;
    given = given ? given : &none;
    if (dim == 0) {
        nf_error(NF_EARG, "%s: `dim` is 0", r->options.function);
        return NULL;
    }
    if (settle(r, dim, given, &q) != NF_OK || check(r, given, &q) != NF_OK)
        return NULL;
    q.last_scale = q.last_scale > 0 ? q.last_scale : NF_ZERO; /* as the nets are asked for it */
    if (!nfi_mul(q.n_layers, 3, &room) || !nfi_add(room, 3, &room) || !nfi_mul(dim, sizeof(size_t), &rows_bytes)) {
        nf_error(NF_EARG, "%s: `n_layers` is %zu, `dim` %zu", r->options.function, q.n_layers, dim);
        return NULL;
    }
    nf_flow **f = nfi_calloc(room, sizeof(nf_flow *)), *chain = NULL;
    size_t *rows = nfi_calloc(dim, sizeof *rows), n = 0;
    for (size_t i = 0; rows && i < dim; i++)
        rows[i] = i;
    if (f && rows) {
        bool whole = true; /* after a failure nothing more is made, and nf_chain frees the flows that exist */
        if (r->scaling)
            whole = (f[n++] = nf_affine(dim)) != NULL;
        for (size_t k = 0; k <= q.n_layers && whole; k++) {
            if (q.mixing == NF_MIX_LU) {
                whole = (f[n++] = permutation(&q, dim, k, rows)) != NULL;
                whole = whole && (f[n++] = nf_lu_linear(dim, NF_LU_IDENTITY)) != NULL;
            }
            if (k < q.n_layers && whole)
                whole = (f[n++] = layer(r, &q, dim, k)) != NULL;
        }
        chain = nf_chain(f, n);
    }
    nfi_free(f);
    nfi_free(rows);
    return chain;
}

const nf_option_table *nfi_vector_recipe_options(size_t i)
{
    static const nf_option_table *const all[] = {&nice.options,
                                                 &realnvp.options,
                                                 &made.options,
                                                 &maf.options,
                                                 &iaf.options,
                                                 &nsf_coupling.options,
                                                 &nsf_autoregressive.options,
                                                 &ffjord.options,
                                                 &nfi_residual_recipe_options};
    return i < sizeof all / sizeof *all ? all[i] : NULL;
}

nf_flow *nf_nice(size_t dim, const nf_recipe_options *options)
{
    return build(&nice, dim, options);
}

nf_flow *nf_realnvp(size_t dim, const nf_recipe_options *options)
{
    return build(&realnvp, dim, options);
}

nf_flow *nf_made(size_t dim, const nf_recipe_options *options)
{
    return build(&made, dim, options);
}

nf_flow *nf_maf(size_t dim, const nf_recipe_options *options)
{
    return build(&maf, dim, options);
}

nf_flow *nf_iaf(size_t dim, const nf_recipe_options *options)
{
    return build(&iaf, dim, options);
}

nf_flow *nf_nsf_coupling(size_t dim, const nf_recipe_options *options)
{
    return build(&nsf_coupling, dim, options);
}

nf_flow *nf_nsf_autoregressive(size_t dim, const nf_recipe_options *options)
{
    return build(&nsf_autoregressive, dim, options);
}

nf_flow *nf_ffjord(size_t dim, const nf_recipe_options *options)
{
    return build(&ffjord, dim, options);
}
