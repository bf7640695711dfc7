/* Perceptrons as objects: options, initial weights, names, model files, and the three types.

       mlp         h = f(W h + b)
       gated_mlp   h = (W h + b) * sigmoid(V h + c)       van den Berg et al. 2018, sec. 5; van den Oord et al. 2016
       maxout_mlp  h_i = max_j (W_ij . h + b_ij)          Goodfellow et al. 2013, eq. 1-2

   A hidden layer with several products per unit is one affine map. For gated units, W stands above V; for maxout units,
   the pieces of a unit stand next to each other. */
#include "base/memory.h"
#include "object/tree.h"
#include "nn/mlp.h"
#include "nn/options.h"
#include "nn/types.h"
#include <stdio.h>

static nf_activation unit_of(const nfi_mlp *m, size_t layer)
{
    return layer + 1 == m->n_layers ? m->output : m->activation;
}

/* Each layer has noise of its own: the noise's step counts up, layer by layer. */
static nf_status mlp_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                          nf_real *state)
{
    (void)batch, (void)state;
    const nfi_mlp *m = nf_self(o);
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_dense d = nfi_mlp_layer(m, l);
        nf_noise layer = *noise;
        layer.step += l;
        nfi_dense_init(&d, m->init, unit_of(m, l), m->width[l + 1], l + 1 == m->n_layers ? m->last_scale : 1, &layer,
                       theta);
        nfi_init_beta(&d, m->activation, theta);
        theta += nfi_dense_size(&d);
    }
    return NF_OK;
}

static nf_status mlp_shift_output(const nf_object *o, const nf_real *shift, nf_real *theta)
{
    const nfi_mlp *m = nf_self(o);
    size_t out = m->width[m->n_layers];
    nf_real *bias = theta + nf_object_shape(o)->n_params - out; /* the last numbers of theta */
    for (size_t i = 0; m->output == NF_IDENTITY && i < out; i++)
        bias[i] += shift[i];
    return NF_OK;
}

static void mlp_slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const nfi_mlp *m = nf_self(o);
    char name[24];
    for (size_t l = 0, at = 0; l < m->n_layers; l++) {
        const nfi_dense d = nfi_mlp_layer(m, l);
        snprintf(name, sizeof name, "%zu", l);
        nfi_dense_slices(&d, name, at, each, user);
        at += nfi_dense_size(&d);
    }
}

/* ---- construction ---- */

static const nf_option plain_options[] = {
    {NFI_HIDDEN_OPTION(nf_mlp_options)},
    {NFI_UNIT_OPTION(nf_mlp_options, activation, "of hidden units")},
    {NFI_UNIT_OPTION(nf_mlp_options, output, "of the last layer")},
    {NFI_INIT_OPTION(nf_mlp_options)},
    {NFI_LAST_SCALE_OPTION(nf_mlp_options)},
    {NFI_DROPOUT_OPTION(nf_mlp_options)},
};
static const nf_option gated_options[] = {
    {NFI_HIDDEN_OPTION(nf_mlp_options)},  {NFI_UNIT_OPTION(nf_mlp_options, output, "of the last layer")},
    {NFI_INIT_OPTION(nf_mlp_options)},    {NFI_LAST_SCALE_OPTION(nf_mlp_options)},
    {NFI_DROPOUT_OPTION(nf_mlp_options)},
};
static const nf_option maxout_options[] = {
    {NFI_HIDDEN_OPTION(nf_maxout_options)},
    {NF_OPTION(NF_OPTION_SIZE, nf_maxout_options, window), .least = 1, .help = "affine pieces of each unit"},
    {NFI_UNIT_OPTION(nf_maxout_options, output, "of the last layer")},
    {NFI_INIT_OPTION(nf_maxout_options)},
    {NFI_LAST_SCALE_OPTION(nf_maxout_options)},
    {NFI_DROPOUT_OPTION(nf_maxout_options)},
};
static const nf_mlp_options defaults = {.activation = NF_RELU, .output = NF_IDENTITY, .last_scale = 1};
static const nf_maxout_options maxout_defaults = {.window = 4, .output = NF_IDENTITY, .last_scale = 1};
static const nf_option_table tables[] = {
    [NFI_PLAIN] = NF_OPTION_TABLE("nf_mlp", nf_mlp_options, plain_options, &defaults),
    [NFI_GATED] = NF_OPTION_TABLE("nf_gated_mlp", nf_mlp_options, gated_options, &defaults),
    [NFI_MAXOUT] = NF_OPTION_TABLE("nf_maxout_mlp", nf_maxout_options, maxout_options, &maxout_defaults),
};

/* Counts the sizes of all layers; false on overflow. */
static bool count(nfi_mlp *m, nf_shape *shape)
{
    bool fits = true;
    for (size_t l = 0; fits && l < m->n_layers; l++) {
        size_t out = m->width[l + 1], products;
        fits = nfi_mul(out, m->pieces, &products);
        const nfi_dense d = nfi_mlp_layer(m, l);
        fits = fits && nfi_dense_count(&d, &shape->n_params);
        if (l + 1 < m->n_layers)
            fits = fits && nfi_add(m->n_hidden_units, out, &m->n_hidden_units);
        m->widest = out > m->widest ? out : m->widest;
    }
    return fits && nfi_mul(m->n_hidden_units, nfi_mlp_kept(m, m->dropout > 0), &shape->n_saved);
}

/* Fills in the fields that are copies of options, and the hidden widths. */
static void copy_options(nfi_mlp *m, size_t n_hidden, const size_t *hidden)
{
    nfi_mlp_options *q = &m->options;
    const bool maxout = m->kind == NFI_MAXOUT;
    m->activation = m->kind == NFI_PLAIN ? q->mlp.activation : NF_IDENTITY;
    m->output = maxout ? q->maxout.output : q->mlp.output;
    m->init = maxout ? q->maxout.init : q->mlp.init;
    m->last_scale = maxout ? q->maxout.last_scale : q->mlp.last_scale;
    m->dropout = maxout ? q->maxout.dropout : q->mlp.dropout;
    m->pieces = maxout ? q->maxout.window : m->kind == NFI_GATED ? 2 : 1;
    for (size_t l = 0; l < n_hidden; l++)
        m->width[l + 1] = hidden[l];
    *(maxout ? &q->maxout.hidden : &q->mlp.hidden) = m->width + 1;
}

/* `options` is a struct of the kind's own, or NULL. */
static nf_net *perceptron(nfi_unit_kind kind, size_t in, size_t out, size_t n_ctx, const void *options)
{
    static const nf_net_type *const type[] = {
        [NFI_PLAIN] = &nfi_mlp_type, [NFI_GATED] = &nfi_gated_mlp_type, [NFI_MAXOUT] = &nfi_maxout_mlp_type};
    const char *who = tables[kind].function;
    nfi_mlp_options q;
    size_t bytes;
    if (out == 0) {
        nf_error(NF_EARG, "%s: `out` is 0", who);
        return NULL;
    }
    if (nf_options_settle(&tables[kind], options, &q) != NF_OK ||
        nfi_check_output(who, kind == NFI_MAXOUT ? q.maxout.output : q.mlp.output) != NF_OK)
        return NULL;
    const size_t n_hidden = kind == NFI_MAXOUT ? q.maxout.n_hidden : q.mlp.n_hidden;
    if (!nfi_mul(n_hidden, sizeof(size_t), &bytes) || !nfi_add(bytes, sizeof(nfi_mlp) + 2 * sizeof(size_t), &bytes)) {
        nf_error(NF_EARG, "%s: the sizes overflow", who);
        return NULL;
    }
    nfi_mlp *m = nfi_calloc(1, bytes);
    if (!m)
        return NULL;
    m->options = q;
    m->kind = kind;
    m->n_ctx = n_ctx;
    m->n_layers = n_hidden + 1;
    m->width[0] = in;
    m->width[m->n_layers] = out;
    copy_options(m, n_hidden, kind == NFI_MAXOUT ? q.maxout.hidden : q.mlp.hidden);
    nf_shape shape = {.dim_in = in, .dim_out = out, .n_ctx = n_ctx, .flags = NFI_WRITES_GRADIENT};
    if (m->dropout > 0 && m->n_layers > 1)
        shape.n_sites = (uint32_t)(m->n_layers - 1); /* one for each hidden layer */
    if (!count(m, &shape)) {
        nf_error(NF_EARG, "%s: the sizes overflow", who);
        nfi_free(m);
        return NULL;
    }
    return nf_net_new(type[kind], &shape, m, NULL, 0);
}

nf_net *nf_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options)
{
    return perceptron(NFI_PLAIN, in, out, n_ctx, options);
}

nf_net *nf_gated_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options)
{
    if (options && options->activation) {
        nf_error(NF_EARG, "nf_gated_mlp: `activation` is %d, but hidden units are gated and have none",
                 (int)options->activation);
        return NULL;
    }
    return perceptron(NFI_GATED, in, out, n_ctx, options);
}

nf_net *nf_maxout_mlp(size_t in, size_t out, size_t n_ctx, const nf_maxout_options *options)
{
    return perceptron(NFI_MAXOUT, in, out, n_ctx, options);
}

static nf_net *rebuild(nf_reader *r, nfi_unit_kind kind)
{
    const void *q = nf_options_read(r, &tables[kind]);
    return q ? perceptron(kind, nf_read_dim_in(r), nf_read_dim_out(r), nf_read_n_ctx(r), q) : NULL;
}

#define TYPE(type_name, kind)                                                                      \
    static nf_net *type_name##_rebuild(nf_reader *r)                                               \
    {                                                                                              \
        return rebuild(r, kind);                                                                   \
    }                                                                                              \
    const nf_net_type nfi_##type_name##_type = {                                                   \
        .part = {.name = #type_name, .init = mlp_init, .slices = mlp_slices, .destroy = nfi_free}, \
        .abi = sizeof(nf_net_type),                                                                \
        .apply = nfi_mlp_apply,                                                                    \
        .vjp = nfi_mlp_vjp,                                                                        \
        .tangent = nfi_mlp_tangent,                                                                \
        .tangent_vjp = nfi_mlp_tangent_vjp,                                                        \
        .shift_output = mlp_shift_output,                                                          \
        .rebuild = type_name##_rebuild,                                                            \
        .options = &tables[kind],                                                                  \
    };
TYPE(mlp, NFI_PLAIN)
TYPE(gated_mlp, NFI_GATED)
TYPE(maxout_mlp, NFI_MAXOUT)
