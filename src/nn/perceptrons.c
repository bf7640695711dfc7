/* Perceptrons as objects: options, initial weights, names, model files, and the three types.

       mlp         h = f(W h + b)
       gated_mlp   h = (W h + b) * sigmoid(V h + c)       van den Berg et al. 2018, sec. 5; van den Oord et al. 2016
       maxout_mlp  h_i = max_j (W_ij . h + b_ij)          Goodfellow et al. 2013, eq. 1-2

   A hidden layer with several products per unit is one affine map. For gated units, W stands above V; for maxout units,
   the pieces of a unit stand next to each other. */
#include "object/fields.h"
#include "base/memory.h"
#include "object/tree.h"
#include "nn/mlp.h"
#include "nn/options.h"
#include "nn/types.h"
#include <stdio.h>

enum { WINDOW = 4 }; /* pieces per maxout unit, by default */

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

static nf_status check(const char *who, size_t out, const nf_mlp_options *options)
{
    if (out == 0)
        return nf_error(NF_EARG, "%s: `out` is 0", who);
    nf_status status = nfi_check_hidden(who, options->n_hidden, options->hidden);
    if (status == NF_OK)
        status = nfi_check_units(who, options->activation, options->output, options->init);
    if (status == NF_OK)
        status = nfi_check_scale(who, "last_scale", options->last_scale);
    return status == NF_OK ? nfi_check_dropout(who, options->dropout) : status;
}

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

static nf_net *perceptron(nfi_unit_kind kind, size_t pieces, size_t in, size_t out, size_t n_ctx,
                          const nf_mlp_options *options)
{
    static const char *const name[] = {
        [NFI_PLAIN] = "nf_mlp", [NFI_GATED] = "nf_gated_mlp", [NFI_MAXOUT] = "nf_maxout_mlp"};
    static const nf_net_type *const type[] = {
        [NFI_PLAIN] = &nfi_mlp_type, [NFI_GATED] = &nfi_gated_mlp_type, [NFI_MAXOUT] = &nfi_maxout_mlp_type};
    const char *who = name[kind];
    size_t bytes;
    if (check(who, out, options) != NF_OK)
        return NULL;
    if (!nfi_mul(options->n_hidden, sizeof(size_t), &bytes) ||
        !nfi_add(bytes, sizeof(nfi_mlp) + 2 * sizeof(size_t), &bytes)) {
        nf_error(NF_EARG, "%s: the sizes overflow", who);
        return NULL;
    }
    nfi_mlp *m = nfi_calloc(1, bytes);
    if (!m)
        return NULL;
    m->kind = kind;
    m->pieces = pieces;
    m->n_ctx = n_ctx;
    m->n_layers = options->n_hidden + 1;
    m->activation = kind == NFI_PLAIN ? options->activation : NF_IDENTITY;
    m->output = options->output == NF_RELU ? NF_IDENTITY : options->output;
    m->init = options->init;
    m->last_scale = nfi_scale_of(options->last_scale, 1);
    m->dropout = options->dropout;
    m->width[0] = in;
    for (size_t l = 0; l < options->n_hidden; l++)
        m->width[l + 1] = options->hidden[l];
    m->width[m->n_layers] = out;
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

static const nf_mlp_options affine;

nf_net *nf_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options)
{
    return perceptron(NFI_PLAIN, 1, in, out, n_ctx, options ? options : &affine);
}

nf_net *nf_gated_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options)
{
    if (options && options->activation) {
        nf_error(NF_EARG, "nf_gated_mlp: `activation` is %d, but hidden units are gated and have none",
                 (int)options->activation);
        return NULL;
    }
    return perceptron(NFI_GATED, 2, in, out, n_ctx, options ? options : &affine);
}

nf_net *nf_maxout_mlp(size_t in, size_t out, size_t n_ctx, const nf_maxout_options *options)
{
    static const nf_maxout_options defaults;
    const nf_maxout_options *o = options ? options : &defaults;
    return perceptron(NFI_MAXOUT, o->window ? o->window : WINDOW, in, out, n_ctx,
                      &(nf_mlp_options){.hidden = o->hidden,
                                        .n_hidden = o->n_hidden,
                                        .output = o->output,
                                        .init = o->init,
                                        .last_scale = o->last_scale,
                                        .dropout = o->dropout});
}

/* ---- model files ---- */

static nf_status mlp_describe(const nf_object *o, nf_writer *w)
{
    const nfi_mlp *m = nf_self(o);
    nf_status status = nf_write_integers(w, "hidden", m->n_layers - 1, m->width + 1);
    if (status == NF_OK && m->kind == NFI_PLAIN)
        status = nfi_write_unit(w, "activation", m->activation);
    if (status == NF_OK && m->kind == NFI_MAXOUT)
        status = nf_write_integer(w, "window", m->pieces);
    if (status == NF_OK)
        status = nfi_write_unit(w, "output", m->output);
    if (status == NF_OK)
        status = nfi_write_init(w, m->init);
    if (status == NF_OK)
        status = nf_write_number(w, "last_scale", m->last_scale);
    return status == NF_OK ? nf_write_number(w, "dropout", m->dropout) : status;
}

static nf_net *rebuild(nf_reader *r, nfi_unit_kind kind)
{
    static const size_t pieces[] = {[NFI_PLAIN] = 1, [NFI_GATED] = 2, [NFI_MAXOUT] = WINDOW};
    size_t window = pieces[kind];
    nf_mlp_options q = {.output = NF_IDENTITY, .last_scale = 1};
    nf_net *net = NULL;
    size_t *hidden = nfi_read_hidden(r, &q.n_hidden);
    if (hidden && (kind != NFI_PLAIN || nfi_read_unit(r, "activation", &q.activation) == NF_OK) &&
        (kind != NFI_MAXOUT || nfi_maybe_size(r, "window", &window) == NF_OK) &&
        nfi_read_unit(r, "output", &q.output) == NF_OK && nfi_read_init(r, &q.init) == NF_OK &&
        nfi_maybe_number(r, "last_scale", &q.last_scale) == NF_OK &&
        nfi_maybe_number(r, "dropout", &q.dropout) == NF_OK) {
        q.hidden = hidden;
        q.last_scale = nfi_option_of(q.last_scale);
        if (window == 0)
            nf_error(NF_EFORMAT, "the window is 0");
        else if (q.output == NF_RELU) /* NF_RELU as an option means the identity */
            nf_error(NF_EFORMAT, "the field 'output' is 'relu', which a last layer cannot have");
        else
            net = perceptron(kind, window, nf_read_dim_in(r), nf_read_dim_out(r), nf_read_n_ctx(r), &q);
    }
    nfi_free(hidden);
    return net;
}

#define TYPE(type_name, kind)                        \
    static nf_net *type_name##_rebuild(nf_reader *r) \
    {                                                \
        return rebuild(r, kind);                     \
    }                                                \
    const nf_net_type nfi_##type_name##_type = {     \
        .part = {.name = #type_name,                 \
                 .init = mlp_init,                   \
                 .describe = mlp_describe,           \
                 .slices = mlp_slices,               \
                 .destroy = nfi_free},               \
        .abi = sizeof(nf_net_type),                  \
        .apply = nfi_mlp_apply,                      \
        .vjp = nfi_mlp_vjp,                          \
        .tangent = nfi_mlp_tangent,                  \
        .tangent_vjp = nfi_mlp_tangent_vjp,          \
        .shift_output = mlp_shift_output,            \
        .rebuild = type_name##_rebuild,              \
    };
TYPE(mlp, NFI_PLAIN)
TYPE(gated_mlp, NFI_GATED)
TYPE(maxout_mlp, NFI_MAXOUT)
