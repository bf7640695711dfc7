/* The structure of a masked net (masked.c has its passes): degrees, ragged layers, initial weights, and the net that
   computes all times at once.

   Degrees t = 1 .. dim-1, or 0 .. dim-1 where there is context (or one dimension), are shared out evenly among a
   layer's units in ascending order; the first degrees get one more where it does not divide. */
#include "core/memory.h"
#include "nn/dense.h"
#include "nn/masked.h"
#include "nn/options.h"
#include "nn/types.h"
#include <stdio.h>

bool nfi_is_masked(const nf_object *net)
{
    return net && net->part == &nfi_masked_net_type.part;
}

/* ---- the net ---- */

static nf_status apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    nfi_masked_run here, *run = p->tape ? nf_arena_alloc(p->tape, sizeof *run) : &here;
    if (!run || nfi_masked_begin(o, p, p->tape ? p->tape : p->scratch, run) != NF_OK)
        return NF_ENOMEM;
    nfi_masked_times(o, p, run, 0, ((const nfi_masked *)nf_self(o))->dim, x, y);
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = run;
    return NF_OK;
}

static nf_status vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                     const nf_real *gy, nf_real *gx, const nf_grad *grad)
{
    (void)y;
    const nfi_masked *m = nf_self(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *g = nf_arena_reals(p->scratch, m->n_units, p->ld);
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

/* The rows of one time are a dense layer without biases. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const nfi_masked *m = nf_self(o);
    nf_noise name = *noise;
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_masked_layer *layer = &m->layer[l];
        const bool last = l + 1 == m->n_layers, second = m->residual && l > 0 && l % 2 == 0 && !last;
        const nf_activation unit = last ? NF_IDENTITY : m->activation;
        for (size_t t = 0; t < m->dim; t++, name.step++) {
            const size_t first = layer->start[t], rows = layer->start[t + 1] - first;
            if (!rows)
                continue;
            const nfi_dense block = {layer->inputs.length[first], layer->context.n_rows ? m->n_ctx : 0, rows};
            nfi_dense_init(&block, second ? NF_INIT_SMALL : m->init, unit, layer->inputs.n_rows,
                           last ? m->last_scale : 1, &name, theta + layer->weights + layer->inputs.offset[first]);
        }
        for (size_t r = 0; r < layer->inputs.n_rows; r++)
            theta[layer->biases + r] = 0;
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

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const nfi_masked *m = nf_self(o);
    const size_t n_hidden = m->n_layers - 1;
    size_t *width = nfi_calloc(n_hidden + 1, sizeof *width);
    if (!width)
        return NF_ENOMEM;
    for (size_t l = 0; l < n_hidden; l++)
        width[l] = m->layer[l].inputs.n_rows;
    nf_status status = nf_write_integers(w, "hidden", m->residual ? 1 : n_hidden, width);
    nfi_free(width);
    if (status == NF_OK)
        status = nf_write_integer(w, "per_dim", m->per_dim);
    if (status == NF_OK)
        status = nf_write_integer(w, "n_blocks", m->residual ? n_hidden / 2 : 0);
    if (status == NF_OK)
        status = nf_write_integer(w, "activation", m->activation);
    if (status == NF_OK)
        status = nf_write_integer(w, "init", m->init);
    if (status == NF_OK)
        status = nf_write_number(w, "last_scale", m->last_scale);
    return status;
}

static nf_net *rebuild(nf_reader *r)
{
    uint64_t per_dim = 0, n_blocks = 0;
    unsigned activation = 0, initialisation = 0;
    double scale = 0;
    const size_t n_hidden = nf_read_length(r, "hidden");
    size_t *hidden = nfi_calloc(n_hidden, sizeof *hidden);
    nf_net *net = NULL;
    if (hidden && nf_read_integers(r, "hidden", n_hidden, hidden) == NF_OK &&
        nf_read_integer(r, "per_dim", &per_dim) == NF_OK && nf_read_integer(r, "n_blocks", &n_blocks) == NF_OK &&
        nfi_read_choice(r, "activation", NF_IDENTITY, &activation) &&
        nfi_read_choice(r, "init", NF_INIT_SMALL, &initialisation) &&
        nf_read_number(r, "last_scale", &scale) == NF_OK) {
        const nf_masked_options options = {.hidden = hidden,
                                           .n_hidden = n_hidden,
                                           .n_blocks = (size_t)n_blocks,
                                           .activation = (nf_activation)activation,
                                           .init = (nf_initialisation)initialisation,
                                           .last_scale = nfi_option_of(scale)};
        net = nf_masked_net(nf_read_dim_in(r), (size_t)per_dim, nf_read_n_ctx(r), &options);
    }
    nfi_free(hidden);
    return net;
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
    }
}

static void destroy(void *self)
{
    nfi_masked *m = self;
    nfi_free(m->tables);
    nfi_free(m);
}

const nf_net_type nfi_masked_net_type = {
    .part = {.name = "masked_net", .init = init, .describe = describe, .slices = slices, .destroy = destroy},
    .abi = sizeof(nf_net_type),
    .apply = apply,
    .vjp = vjp,
    .shift_output = shift_output,
    .rebuild = rebuild,
};

/* ---- structure ---- */

static size_t width_of(const nf_masked_options *options, size_t l)
{
    return options->hidden[options->n_blocks ? 0 : l];
}

/* First rows of the times, in a hidden layer of `width` units. */
static void share_out(const nfi_masked *m, size_t width, size_t *start)
{
    const size_t t0 = m->n_ctx || m->dim == 1 ? 0 : 1, degrees = m->dim - t0;
    for (size_t t = 0; t <= m->dim; t++) {
        const size_t c = t < t0 ? 0 : t - t0, more = width % degrees;
        start[t] = c * (width / degrees) + (c < more ? c : more);
    }
}

/* Lays out layer l, whose numbers begin at `at`; returns where they end, 0 on overflow. */
static size_t lay_out(nfi_masked *m, size_t l, size_t n_rows, size_t at, size_t *offset, size_t *length,
                      size_t *ctx_offset)
{
    nfi_masked_layer *layer = &m->layer[l];
    const size_t *under = l ? m->layer[l - 1].start : NULL, n_ctx = l == 0 ? m->n_ctx : 0;
    layer->weights = at;
    size_t weights = 0;
    bool fits = true;
    for (size_t t = 0; t < m->dim; t++) {
        for (size_t r = layer->start[t]; r < layer->start[t + 1]; r++) {
            offset[r] = weights;
            length[r] = under ? under[t + 1] : t;
            if (ctx_offset)
                ctx_offset[r] = weights + length[r];
            fits = fits && nfi_add(weights, length[r], &weights) && nfi_add(weights, n_ctx, &weights);
        }
    }
    fits = fits && nfi_add(at, weights, &layer->biases) && nfi_add(layer->biases, n_rows, &at);
    layer->inputs = (nfi_matrix){.n_rows = n_rows, .width = length[n_rows - 1], .offset = offset, .length = length};
    if (n_ctx)
        layer->context = (nfi_matrix){.n_rows = n_rows, .width = n_ctx, .offset = ctx_offset};
    return fits ? at : 0;
}

/* All layers' tables; the number of parameters, 0 on overflow. */
static size_t lay_out_all(nfi_masked *m, const nf_masked_options *options)
{
    size_t *table = m->tables, at = 0;
    for (size_t l = 0; l < m->n_layers; l++) {
        const bool last = l + 1 == m->n_layers;
        const size_t n_rows = last ? m->dim * m->per_dim : width_of(options, l);
        m->layer[l].start = table;
        m->layer[l].unit = m->n_units;
        if (last)
            for (size_t t = 0; t <= m->dim; t++)
                table[t] = t * m->per_dim;
        else
            share_out(m, n_rows, table);
        size_t *offset = table + m->dim + 1, *length = offset + n_rows, *end = length + n_rows;
        size_t *ctx_offset = l == 0 && m->n_ctx ? end : NULL;
        at = lay_out(m, l, n_rows, at, offset, length, ctx_offset);
        if (!at)
            return 0;
        m->n_units += last ? 0 : n_rows;
        table = ctx_offset ? end + n_rows : end;
    }
    return at;
}

/* How many numbers all tables have; false on overflow. */
static bool count_tables(size_t dim, size_t out, size_t n_layers, const nf_masked_options *options, size_t *count)
{
    size_t rows = 0, per_layer;
    for (size_t l = 0; l < n_layers; l++)
        if (!nfi_add(rows, l + 1 < n_layers ? width_of(options, l) : out, &rows))
            return false;
    return nfi_mul(rows, 3, &rows) && nfi_add(dim, 1, &per_layer) && nfi_mul(per_layer, n_layers, count) &&
           nfi_add(*count, rows, count);
}

static nf_status check(size_t dim, size_t per_dim, const nf_masked_options *options)
{
    if (dim == 0 || per_dim == 0)
        return nf_error(NF_EARG, "nf_masked_net: `%s` is 0", dim ? "n_per_dim" : "dim");
    if (options->n_blocks && options->n_hidden != 1)
        return nf_error(NF_EARG, "nf_masked_net: residual blocks have one width, but n_hidden is %zu",
                        options->n_hidden);
    nf_status status = nfi_check_hidden("nf_masked_net", options->n_hidden, options->hidden);
    if (status == NF_OK)
        status = nfi_check_units("nf_masked_net", options->activation, NF_IDENTITY, options->init);
    if (status == NF_OK)
        status = nfi_check_scale("nf_masked_net", "last_scale", options->last_scale);
    return status;
}

nf_net *nf_masked_net(size_t dim, size_t n_per_dim, size_t n_ctx, const nf_masked_options *options)
{
    static const nf_masked_options defaults;
    if (!options)
        options = &defaults;
    if (check(dim, n_per_dim, options) != NF_OK)
        return NULL;
    size_t n_layers, out, bytes, count;
    const bool fits = nfi_mul(options->n_blocks, 2, &n_layers) &&
                      nfi_add(n_layers, options->n_blocks ? 2 : options->n_hidden + 1, &n_layers) &&
                      nfi_mul(dim, n_per_dim, &out) && nfi_mul(n_layers, sizeof(nfi_masked_layer), &bytes) &&
                      nfi_add(bytes, sizeof(nfi_masked), &bytes) && count_tables(dim, out, n_layers, options, &count);
    if (!fits) {
        nf_error(NF_EARG, "nf_masked_net: the sizes overflow");
        return NULL;
    }
    nfi_masked *m = nfi_calloc(1, bytes);
    if (!m || !(m->tables = nfi_calloc(count, sizeof *m->tables))) {
        nfi_free(m);
        return NULL;
    }
    m->dim = dim;
    m->per_dim = n_per_dim;
    m->n_ctx = n_ctx;
    m->n_layers = n_layers;
    m->residual = options->n_blocks > 0;
    m->activation = options->activation;
    m->init = options->init;
    m->last_scale = nfi_scale_of(options->last_scale, 1);
    const size_t n_params = lay_out_all(m, options);
    if (!n_params) {
        nf_error(NF_EARG, "nf_masked_net: the sizes overflow");
        destroy(m);
        return NULL;
    }
    const nf_shape shape = {.dim_in = dim, .dim_out = out, .n_ctx = n_ctx, .n_params = n_params, .n_saved = m->n_units};
    return nf_net_new(&nfi_masked_net_type, &shape, m, NULL, 0);
}
