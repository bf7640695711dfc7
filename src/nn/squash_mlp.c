/* Nets whose layers are gated by the time, as objects: options, initial weights, names, model files. */
#include "nn/options.h"
#include "nn/squash.h"
#include "nn/types.h"
#include "object/tree.h"
#include <stdio.h>

/* Each map has noise of its own: the noise's step counts up. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const nfi_squash *m = nf_self(o);
    nf_noise map = *noise;
    for (size_t i = 0, at = 0; i < m->n_layers; i++) {
        const nfi_squash_layer l = nfi_squash_layer_at(m, i, at);
        const bool last = i + 1 == m->n_layers;
        const double factor = last ? m->options.last_scale : 1;
        const nf_activation unit = nfi_squash_unit(m, i);
        nfi_dense_init(&l.value, m->options.init, unit, l.value.out, factor, &map, theta + l.at);
        map.step++;
        nfi_dense_init(&l.gate, m->options.init, NF_SIGMOID, l.gate.out, 1, &map, theta + l.gate_at);
        map.step++;
        /* The shift has no biases, which NF_INIT_TORCH would write. */
        nfi_dense_init(&l.shift, m->options.init == NF_INIT_TORCH ? NF_INIT_LECUN : m->options.init, unit, l.shift.out,
                       factor, &map, theta + l.shift_at);
        map.step++;
        if (nfi_keeps_argument(unit))
            theta[l.end - 1] = nfi_first_beta(unit);
        at = l.end;
    }
    return NF_OK;
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const nfi_squash *m = nf_self(o);
    char name[40];
    for (size_t i = 0, at = 0; i < m->n_layers; i++) {
        const nfi_squash_layer l = nfi_squash_layer_at(m, i, at);
        snprintf(name, sizeof name, "%zu", i);
        nfi_dense_slices(&l.value, name, l.at, each, user);
        snprintf(name, sizeof name, "%zu.gate", i);
        nfi_dense_slices(&l.gate, name, l.gate_at, each, user);
        snprintf(name, sizeof name, "%zu.shift.weight", i);
        each(user, name, l.shift_at, 2, (size_t[]){l.shift.out, nfi_dense_fan_in(&l.shift)});
        snprintf(name, sizeof name, "%zu.beta", i);
        if (nfi_keeps_argument(nfi_squash_unit(m, i)))
            each(user, name, l.end - 1, 1, (size_t[]){1});
        at = l.end;
    }
}

static const nf_option options_of_type[] = {
    {NFI_HIDDEN_OPTION(nf_mlp_options)},
    {NFI_UNIT_OPTION(nf_mlp_options, activation, "of hidden units")},
    {NFI_UNIT_OPTION(nf_mlp_options, output, "of the last layer")},
    {NFI_INIT_OPTION(nf_mlp_options)},
    {NFI_LAST_SCALE_OPTION(nf_mlp_options)},
};
static const nf_mlp_options defaults = {.activation = NF_TANH, .output = NF_IDENTITY, .last_scale = 1};
static const nf_option_table table = NF_OPTION_TABLE("nf_squash_mlp", nf_mlp_options, options_of_type, &defaults);
NFI_REBUILD(net, nf_mlp_options, nf_squash_mlp(nf_read_dim_in(r), nf_read_dim_out(r), nf_read_n_ctx(r), q))

const nf_net_type nfi_squash_mlp_type = {
    .abi = sizeof(nf_net_type),
    .part = {.name = "squash_mlp", .init = init, .slices = slices, .destroy = nfi_free},
    .apply = nfi_squash_apply,
    .vjp = nfi_squash_vjp,
    .tangent = nfi_squash_tangent,
    .tangent_vjp = nfi_squash_tangent_vjp,
    .rebuild = rebuild,
    .options = &table,
};

/* Counts the sizes of all layers; false on overflow. */
static bool count(nfi_squash *m, nf_shape *shape)
{
    bool fits = true;
    for (size_t i = 0; fits && i < m->n_layers; i++) {
        const nfi_squash_layer l = nfi_squash_layer_at(m, i, 0);
        fits = nfi_dense_count(&l.value, &shape->n_params) && nfi_dense_count(&l.gate, &shape->n_params) &&
               nfi_dense_count(&l.shift, &shape->n_params); /* with a bias more than there is, or a beta at most */
        const size_t out = m->width[i + 1];
        if (i + 1 < m->n_layers)
            fits = fits && nfi_add(m->n_hidden_units, out, &m->n_hidden_units);
        m->widest = out > m->widest ? out : m->widest;
    }
    size_t kept;
    fits = fits && nfi_add(m->n_hidden_units, m->width[m->n_layers], &kept) && nfi_mul(kept, 4, &shape->n_saved);
    size_t at = 0;
    for (size_t i = 0; fits && i < m->n_layers; i++)
        at = nfi_squash_layer_at(m, i, at).end;
    shape->n_params = at;
    return fits;
}

nf_net *nf_squash_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options)
{
    nf_mlp_options q;
    size_t bytes;
    if (in == 0 || out == 0) {
        nf_error(NF_EARG, "nf_squash_mlp: `%s` is 0", in ? "out" : "in");
        return NULL;
    }
    if (nf_options_settle(&table, options, &q) != NF_OK || nfi_check_output("nf_squash_mlp", q.output) != NF_OK)
        return NULL;
    if (options && options->dropout > 0) {
        nf_error(NF_EARG, "nf_squash_mlp: `dropout` is %g, but its units are not dropped", options->dropout);
        return NULL;
    }
    if (!nfi_mul(q.n_hidden, sizeof(size_t), &bytes) ||
        !nfi_add(bytes, sizeof(nfi_squash) + 2 * sizeof(size_t), &bytes)) {
        nf_error(NF_EARG, "nf_squash_mlp: the sizes overflow");
        return NULL;
    }
    nfi_squash *m = nfi_calloc(1, bytes);
    if (!m)
        return NULL;
    m->options = q;
    m->n_ctx = n_ctx;
    m->n_layers = q.n_hidden + 1;
    m->width[0] = in - 1;
    for (size_t i = 0; i < q.n_hidden; i++)
        m->width[i + 1] = q.hidden[i];
    m->width[m->n_layers] = out;
    m->options.hidden = m->width + 1;
    nf_shape shape = {.dim_in = in, .dim_out = out, .n_ctx = n_ctx};
    if (!count(m, &shape)) {
        nf_error(NF_EARG, "nf_squash_mlp: the sizes overflow");
        nfi_free(m);
        return NULL;
    }
    return nf_net_new(&nfi_squash_mlp_type, &shape, m, NULL, 0);
}
