/* A masked net as an object: all times at once (the passes are in masked.c, the structure is in masked_layout.c),
   initial weights, names, model files, options. */
#include "base/memory.h"
#include "object/tree.h"
#include "nn/masked.h"
#include "nn/options.h"
#include "nn/types.h"
#include <stdio.h>
#include <string.h>

bool nfi_is_masked(const nf_object *net)
{
    return net && net->part == &nfi_masked_net_type.part;
}

/* ---- the net ---- */

static nf_status apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    nfi_masked_run *run = nf_arena_alloc(nfi_saving_arena(p), sizeof *run);
    if (!run || nfi_masked_begin(o, p, nfi_saving_arena(p), run) != NF_OK)
        return NF_ENOMEM;
    nfi_masked_times(o, p, run, 0, ((const nfi_masked *)nf_self(o))->dim, x, y);
    if (p->tape)
        *saved = run;
    else
        nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                     const nf_real *gy, nf_real *gx, const nf_grad *grad)
{
    (void)y;
    const nfi_masked *m = nf_self(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *g = nf_arena_reals(p->scratch, nfi_masked_gradients(o), p->ld);
    if (!g)
        return NF_ENOMEM;
    nfi_masked_back(o, p, saved, 0, m->dim, gy, g);
    for (size_t i = 0; gx && i < m->dim * p->ld; i++)
        gx[i] = 0;
    if (gx)
        nfi_masked_back_input(o, p, 0, m->dim, m->n_layers > 1 ? g : gy, gx);
    nf_status status = nfi_masked_back_numbers(o, p, saved, x, gy, g, grad);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* The rows of one time, from `first` on, are initialised like a dense layer. Its weights and biases are in two places.
 */
static void init_rows(const nfi_masked *m, const nfi_masked_layer *layer, size_t first, size_t rows,
                      nf_initialisation init, nf_activation unit, double factor, const nf_noise *noise, nf_real *theta)
{
    const size_t fan_in = layer->inputs.length[first] + (layer->context.n_rows ? m->n_ctx : 0), n = rows * fan_in;
    nf_noise of_biases = *noise;
    of_biases.first_sample += n;
    nfi_draw_weights(init, unit, fan_in, layer->inputs.n_rows, factor, noise, n, 0,
                     theta + layer->weights + layer->inputs.offset[first]);
    memset(theta + layer->biases + first, 0, rows * sizeof *theta);
    if (init == NF_INIT_TORCH)
        nfi_draw_weights(init, unit, fan_in, layer->inputs.n_rows, factor, &of_biases, 0, rows,
                         theta + layer->biases + first);
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const nfi_masked *m = nf_self(o);
    nf_noise name = *noise;
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_masked_layer *layer = &m->layer[l];
        const bool last = nfi_masked_last(m, l), second = m->residual && l > 0 && l % 2 == 0 && !last;
        const nf_activation unit = last ? NF_IDENTITY : m->activation;
        for (size_t t = 0; t < m->dim; t++, name.step++) {
            const size_t first = layer->start[t], rows = layer->start[t + 1] - first;
            if (!rows)
                continue;
            init_rows(m, layer, first, rows, second ? NF_INIT_SMALL : m->options.init, unit,
                      last ? m->options.last_scale : 1, &name, theta);
        }
        if (nfi_masked_has_beta(m, l))
            theta[layer->beta] = nfi_first_beta(m->activation);
        if (layer->gate.n_rows) {
            const nfi_dense gate = nfi_masked_gate(m, l);
            nfi_dense_init(&gate, m->options.init, NF_IDENTITY, gate.out, 1, &name, theta + layer->gate_weights);
            name.step++;
        }
    }
    return NF_OK;
}

static nf_status shift_output(const nf_object *o, const nf_real *shift, nf_real *theta)
{
    const nfi_masked *m = nf_self(o);
    const nfi_masked_layer *last = &m->layer[m->n_layers - 1];
    for (size_t i = 0; i < last->inputs.n_rows; i++)
        theta[last->biases + i] += shift[i];
    return NF_OK;
}

/* For the front of an nfi_masked: the options and per_dim. */
static const nf_option options_of_type[] = {
    {NFI_HIDDEN_OPTION(nf_masked_options)},
    {NF_OPTION(NF_OPTION_SIZE, nfi_masked, per_dim), .least = 1, .flags = NF_OPTION_REQUIRED,
     .help = "outputs an input"},
    {NF_OPTION(NF_OPTION_SIZE, nf_masked_options, n_blocks), .help = "residual blocks"},
    {NFI_UNIT_OPTION(nf_masked_options, activation, "of hidden units")},
    {NFI_INIT_OPTION(nf_masked_options)},
    {NFI_LAST_SCALE_OPTION(nf_masked_options)},
    {NFI_DROPOUT_OPTION(nf_masked_options)},
};
_Static_assert(offsetof(nfi_masked, options) == 0, "the table has offsets in nf_masked_options");
static const nfi_masked defaults = {.options = {.activation = NF_RELU, .last_scale = 1}};
static const nf_option_table table = NF_OPTION_TABLE("nf_masked_net", nfi_masked, options_of_type, &defaults);

/* The tables of a net have one number for each dimension and layer, and three for each unit. Up to TRUSTED numbers, a
   description is trusted. Beyond that, the tables may be at most TABLES_PER_NUMBER times as long as the numbers of the
   file, which has a bias for each unit. */
enum { TRUSTED = 1 << 24, TABLES_PER_NUMBER = 16 };

static bool has_room(nf_reader *r, size_t per_dim, size_t n_blocks, size_t n_hidden, const size_t *hidden)
{
    const size_t dim = nf_read_dim_in(r), numbers = nf_read_n_numbers(r);
    size_t rows, layers, tables;
    bool fits = nfi_mul(dim, per_dim, &rows) && nfi_mul(n_blocks, 2, &layers) && nfi_add(layers, n_hidden + 1, &layers);
    for (size_t l = 0; l < n_hidden && fits; l++) {
        size_t units;
        fits = nfi_mul(hidden[l], n_blocks ? layers - 1 : 1, &units) && nfi_add(rows, units, &rows);
    }
    fits = fits && nfi_add(dim, sizeof(nfi_masked_layer) / sizeof(size_t), &tables) &&
           nfi_mul(tables, layers, &tables) && rows <= numbers && nfi_add(tables, 3 * rows, &tables);
    if (fits && (tables <= TRUSTED || tables / TABLES_PER_NUMBER <= numbers))
        return true;
    nf_error(NF_EFORMAT, "more units than fit a description of %zu numbers", numbers);
    return false;
}

static nf_net *rebuild(nf_reader *r)
{
    const nfi_masked *q = nf_options_read(r, &table);
    if (!q || !has_room(r, q->per_dim, q->options.n_blocks, q->options.n_hidden, q->options.hidden))
        return NULL;
    return nf_masked_net(nf_read_dim_in(r), q->per_dim, nf_read_n_ctx(r), &q->options);
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const nfi_masked *m = nf_self(o);
    char name[48];
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_masked_layer *layer = &m->layer[l];
        const size_t n_weights = layer->biases - layer->weights;
        snprintf(name, sizeof name, "%zu.weight", l);
        each(user, name, layer->weights, 1, &n_weights);
        snprintf(name, sizeof name, "%zu.bias", l);
        each(user, name, layer->biases, 1, &layer->inputs.n_rows);
        if (nfi_masked_has_beta(m, l)) {
            snprintf(name, sizeof name, "%zu.beta", l);
            each(user, name, layer->beta, 1, (size_t[]){1});
        }
        if (layer->gate.n_rows) {
            const nfi_dense gate = nfi_masked_gate(m, l);
            snprintf(name, sizeof name, "%zu.gate", l);
            nfi_dense_slices(&gate, name, layer->gate_weights, each, user);
        }
    }
}

const nf_net_type nfi_masked_net_type = {
    .part = {.name = "masked_net", .init = init, .slices = slices, .destroy = nfi_masked_free},
    .abi = sizeof(nf_net_type),
    .apply = apply,
    .vjp = vjp,
    .tangent = nfi_masked_tangent,
    .tangent_vjp = nfi_masked_tangent_vjp,
    .shift_output = shift_output,
    .rebuild = rebuild,
    .options = &table,
};

/* ---- construction ---- */

static nf_status check(size_t dim, size_t per_dim, const nf_masked_options *options)
{
    if (dim == 0 || per_dim == 0)
        return nf_error(NF_EARG, "nf_masked_net: `%s` is 0", dim ? "n_per_dim" : "dim");
    if (options->n_blocks && options->n_blocks != NF_NONE && options->n_hidden != 1)
        return nf_error(NF_EARG, "nf_masked_net: residual blocks have one width, but n_hidden is %zu",
                        options->n_hidden);
    return NF_OK;
}

nf_net *nf_masked_net(size_t dim, size_t n_per_dim, size_t n_ctx, const nf_masked_options *options)
{
    nfi_masked q = {.per_dim = n_per_dim};
    if (options)
        q.options = *options;
    if (check(dim, n_per_dim, &q.options) != NF_OK || nf_options_settle(&table, &q, &q) != NF_OK)
        return NULL;
    nfi_masked *m = nfi_masked_new(dim, n_per_dim, n_ctx, &q.options);
    if (!m)
        return NULL;
    nf_shape shape = {.dim_in = dim,
                      .dim_out = dim * n_per_dim,
                      .n_ctx = n_ctx,
                      .flags = NFI_WRITES_GRADIENT,
                      .n_params = m->n_params,
                      .n_saved = m->n_units * (nfi_keeps_argument(m->activation) ? 2 : 1) + 2 * m->n_gated +
                                 m->n_dropped + (m->residual ? m->widest : 0)};
    if (m->n_dropped)
        shape.n_sites = (uint32_t)m->n_drop_layers;
    return nf_net_new(&nfi_masked_net_type, &shape, m, NULL, 0);
}
