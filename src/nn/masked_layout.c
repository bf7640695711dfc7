/* The structure of a masked net: degrees, ragged layers, and where the numbers of each layer are.

   The degrees are t = 1 .. dim-1, or 0 .. dim-1 if there is context (or one dimension). They are shared out evenly
   among a layer's units, in ascending order; if the division leaves a remainder, the first degrees get one unit more.
   theta holds layer by layer: weights, biases, the parameter of the units if they have one, and, if there is a gate,
   its weights and biases. */
#include "base/memory.h"
#include "nn/masked.h"
#include <string.h>

static size_t width_of(const nf_masked_options *options, size_t l)
{
    return options->hidden[options->n_blocks ? 0 : l];
}

/* start[t] = the first row of time t in a hidden layer of `width` units. */
static void share_out(const nfi_masked *m, size_t width, size_t *start)
{
    const size_t t0 = m->n_ctx || m->dim == 1 ? 0 : 1, degrees = m->dim - t0;
    for (size_t t = 0; t <= m->dim; t++) {
        const size_t c = t < t0 ? 0 : t - t0, more = width % degrees;
        start[t] = c * (width / degrees) + (c < more ? c : more);
    }
}

/* Lays out the rows of layer l, whose numbers begin at `at`. Returns where they end, 0 on overflow. */
static size_t lay_out(nfi_masked *m, size_t l, size_t n_rows, size_t at, size_t *offset, size_t *length,
                      size_t *ctx_offset)
{
    nfi_masked_layer *layer = &m->layer[l];
    const size_t *under = l ? m->layer[l - 1].start : NULL, n_ctx = l == 0 ? m->n_ctx : 0;
    layer->weights = at;
    layer->drop_layer = NFI_KEPT;
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
    fits = fits && nfi_add(at, weights, &layer->biases) && nfi_add(layer->biases, n_rows, &layer->beta) &&
           nfi_add(layer->beta, nfi_masked_has_beta(m, l), &at);
    layer->inputs = (nfi_matrix){.n_rows = n_rows, .width = length[n_rows - 1], .offset = offset, .length = length};
    if (n_ctx)
        layer->context = (nfi_matrix){.n_rows = n_rows, .width = n_ctx, .offset = ctx_offset};
    return fits ? at : 0;
}

/* Lays out what a hidden layer has besides its masked map: a gate, and units that are dropped. Returns where the
   layer's numbers end, 0 on overflow. */
static size_t lay_out_rest(nfi_masked *m, size_t l, size_t n_rows, size_t at)
{
    nfi_masked_layer *layer = &m->layer[l];
    const bool second = m->residual && l > 0 && l % 2 == 0, first = m->residual && l % 2 == 1;
    layer->unit = m->n_units;
    layer->gated = m->n_gated;
    layer->dropped = m->n_dropped;
    m->n_units += n_rows;
    m->widest = n_rows > m->widest ? n_rows : m->widest;
    if (second && m->n_ctx) {
        layer->gate = (nfi_matrix){.n_rows = n_rows, .width = m->n_ctx, .stride = m->n_ctx};
        const nfi_dense gate = nfi_masked_gate(m, l);
        layer->gate_weights = at;
        layer->gate_biases = at + nfi_dense_bias(&gate);
        m->n_gated += n_rows;
        if (!nfi_dense_count(&gate, &at))
            return 0;
    }
    if (m->dropout > 0 && (!m->residual || first)) {
        layer->drop_layer = m->n_drop_layers++;
        m->n_dropped += n_rows;
    }
    return at;
}

/* Fills in the tables of all layers. Returns the number of parameters, 0 on overflow. */
static size_t lay_out_all(nfi_masked *m, const nf_masked_options *options)
{
    size_t *table = m->tables, at = 0;
    for (size_t l = 0; l < m->n_layers; l++) {
        const bool last = nfi_masked_last(m, l);
        const size_t n_rows = last ? m->dim * m->per_dim : width_of(options, l);
        m->layer[l].start = table;
        if (last)
            for (size_t t = 0; t <= m->dim; t++)
                table[t] = t * m->per_dim;
        else
            share_out(m, n_rows, table);
        size_t *offset = table + m->dim + 1, *length = offset + n_rows, *end = length + n_rows;
        size_t *ctx_offset = l == 0 && m->n_ctx ? end : NULL;
        at = lay_out(m, l, n_rows, at, offset, length, ctx_offset);
        if (at && !last)
            at = lay_out_rest(m, l, n_rows, at);
        if (!at)
            return 0;
        table = ctx_offset ? end + n_rows : end;
    }
    return at;
}

/* *count = how many numbers all tables have together; false on overflow. */
static bool count_tables(size_t dim, size_t out, size_t n_layers, const nf_masked_options *options, size_t *count)
{
    size_t rows = 0, per_layer;
    for (size_t l = 0; l < n_layers; l++)
        if (!nfi_add(rows, l + 1 < n_layers ? width_of(options, l) : out, &rows))
            return false;
    return nfi_mul(rows, 3, &rows) && nfi_add(dim, 1, &per_layer) && nfi_mul(per_layer, n_layers, count) &&
           nfi_add(*count, rows, count);
}

void nfi_masked_free(void *self)
{
    nfi_masked *m = self;
    if (m)
        nfi_free(m->tables);
    nfi_free(m);
}

nfi_masked *nfi_masked_new(size_t dim, size_t n_per_dim, size_t n_ctx, const nf_masked_options *options)
{
    size_t n_layers, out, bytes, count, hidden;
    const bool fits = nfi_mul(options->n_blocks, 2, &n_layers) &&
                      nfi_add(n_layers, options->n_blocks ? 2 : options->n_hidden + 1, &n_layers) &&
                      nfi_mul(dim, n_per_dim, &out) && nfi_mul(n_layers, sizeof(nfi_masked_layer), &bytes) &&
                      nfi_add(bytes, sizeof(nfi_masked), &bytes) &&
                      nfi_mul(options->n_hidden, sizeof(size_t), &hidden) && nfi_add(bytes, hidden, &bytes) &&
                      count_tables(dim, out, n_layers, options, &count);
    nfi_masked *m = fits ? nfi_calloc(1, bytes) : NULL;
    if (m) {
        m->options = *options;
        m->options.hidden = (const size_t *)&m->layer[n_layers];
        if (hidden)
            memcpy(&m->layer[n_layers], options->hidden, hidden);
        m->dim = dim;
        m->per_dim = n_per_dim;
        m->n_ctx = n_ctx;
        m->n_layers = n_layers;
        m->residual = options->n_blocks > 0;
        m->activation = options->activation;
        m->dropout = options->dropout;
        m->tables = nfi_calloc(count, sizeof *m->tables);
        m->n_params = m->tables ? lay_out_all(m, options) : 0;
    }
    if (!fits || (m && m->tables && !m->n_params))
        nf_error(NF_EARG, "nf_masked_net: the sizes overflow");
    if (m && m->n_params)
        return m;
    nfi_masked_free(m);
    return NULL;
}
