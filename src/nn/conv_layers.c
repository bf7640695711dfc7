/* The layers of a net of convolutions, and where their numbers are.

   Every net is one list of layers. With s_l the products of layer l, their bias and their context,

       a_l = f(s_l),   s_l = W_l * a_(l-1) + b_l   (a_(-1) is x),

   and in residual nets the second layer of a block adds: s_l = s_(l-2) + W_l * a_(l-1) + b_l, or with context its gate
   times the last two. So a residual net has layer 0, two layers for each block, and the last one, and its units f(h)
   belong to the layer whose sum h they read. */
#include "nn/conv_net.h"
#include "nn/dropout.h"
#include <string.h>

/* Which of the sides of kernels is a layer's. */
static size_t side_of(const nfi_conv_net *m, size_t layer)
{
    const size_t *side = m->list + m->options.n_hidden;
    if (nfi_conv_is_residual(m))
        return side[layer == 0 ? 0 : layer + 1 == m->n_layers ? 2 : 1];
    return side[layer];
}

nfi_conv_layer nfi_conv_structure(const nfi_conv_net *m, size_t l)
{
    const size_t *hidden = m->list;
    const bool residual = nfi_conv_is_residual(m), last = l + 1 == m->n_layers;
    const nf_conv_options *q = &m->options;
    nfi_conv_layer s = {.is_last = last, .in_stream = residual && !last && l % 2 == 0};
    s.adds = s.in_stream && l > 0;
    s.units = last ? 0 : hidden[residual ? 0 : l];
    s.c = (nfi_conv){.in = l ? hidden[residual ? 0 : l - 1] : m->read,
                     .out = last ? m->out_channels : s.units * m->pieces,
                     .side = side_of(m, l),
                     .grid = m->grid};
    s.n_ctx = l ? 0 : m->n_ctx;
    s.has_gate = s.adds && m->n_ctx;
    s.drops = q->dropout > 0 && !last && !s.in_stream;
    if (last ? q->learnt_scale : q->norm == NF_CONV_ACTNORM && !s.adds)
        s.scale_kind = NFI_EXP_SCALE;
    else if (q->norm == NF_CONV_WEIGHT_NORM)
        s.scale_kind = NFI_WEIGHT_NORM;
    return s;
}

bool nfi_conv_place(const nfi_conv_net *m, nfi_conv_layer *s, size_t at)
{
    const nfi_dense gate = nfi_conv_gate(m, s);
    const size_t out = s->c.out;
    size_t size;
    bool fits = nfi_mul(s->c.side * s->c.side, s->c.in, &size) && nfi_mul(size, out, &size);
    s->weight = at;
    fits = fits && nfi_add(at, size, &s->context) && nfi_mul(s->n_ctx, out, &size) &&
           nfi_add(s->context, size, &s->bias) && nfi_add(s->bias, out, &s->scale) &&
           nfi_add(s->scale, s->scale_kind ? out : 0, &s->beta) &&
           nfi_add(s->beta, s->is_last ? 0 : nfi_unit_betas(m->options.activation), &s->gate);
    s->end = s->gate;
    return fits && (!s->has_gate || nfi_dense_count(&gate, &s->end));
}

static size_t numbers_of(const nfi_conv_net *m, size_t layer)
{
    nfi_conv_layer s = nfi_conv_structure(m, layer);
    (void)nfi_conv_place(m, &s, 0);
    return s.end;
}

/* Numbers that the block of a hidden layer takes for each sample. */
static size_t kept_of(const nfi_conv_net *m, size_t layer)
{
    const nfi_conv_layer s = nfi_conv_structure(m, layer);
    const size_t of_units = m->pieces == 2 ? 3 : nfi_keeps_argument(m->options.activation) ? 2 : 1;
    const size_t arrays = of_units + (s.has_gate ? 1 : 0) + (s.drops ? 1 : 0);
    return s.units * (arrays * m->grid.pixels + (s.has_gate ? 1 : 0));
}

/* The sum of size(layer) over the layers before `layer`. All blocks of a residual net are alike. */
static size_t sum_before(const nfi_conv_net *m, size_t layer, size_t (*size)(const nfi_conv_net *m, size_t layer))
{
    size_t sum = layer ? size(m, 0) : 0;
    if (layer > 1 && nfi_conv_is_residual(m))
        return sum + (layer - 1) / 2 * (size(m, 1) + size(m, 2)) + (layer - 1) % 2 * size(m, 1);
    for (size_t l = 1; l < layer; l++)
        sum += size(m, l);
    return sum;
}

nfi_conv_layer nfi_conv_layer_of(const nfi_conv_net *m, size_t layer)
{
    nfi_conv_layer s = nfi_conv_structure(m, layer);
    (void)nfi_conv_place(m, &s, sum_before(m, layer, numbers_of));
    return s;
}

size_t nfi_conv_kept_before(const nfi_conv_net *m, size_t layer)
{
    return sum_before(m, layer, kept_of);
}

/* Beyond layer 2 the layers of a residual net repeat. */
static size_t different_layers(const nfi_conv_net *m)
{
    return nfi_conv_is_residual(m) ? 3 : m->n_layers - 1;
}

size_t nfi_conv_kept_most(const nfi_conv_net *m)
{
    size_t most = 0;
    for (size_t l = 0; l < different_layers(m); l++)
        most = kept_of(m, l) > most ? kept_of(m, l) : most;
    return most;
}

nfi_conv_block nfi_conv_block_at(const nfi_conv_net *m, const nfi_conv_layer *s, const nf_pass *p, nf_real *at)
{
    const nf_activation f = m->options.activation;
    const size_t size = s->units * m->grid.pixels * p->ld;
    nfi_conv_block b = {.u = {.f = f, .rows = s->units, .h = at, .dropout = m->options.dropout}};
    if (s->drops && nfi_drops(p, m->options.dropout))
        b.u.mask = b.mask = at += size;
    if (m->pieces == 2)
        b.pair = at += size;
    if (m->pieces == 1 && nfi_keeps_argument(f)) {
        b.u.z = at += size;
        b.u.beta = p->theta + s->beta;
    }
    if (s->has_gate) {
        b.t = at += size;
        b.gate = at + size;
    }
    return b;
}

nf_pass nfi_conv_numbers_pass(const nfi_conv_net *m, const nf_pass *p)
{
    nf_pass q = *p;
    q.theta = m->is_scaled ? p->prep : p->theta;
    if (m->options.ctx_channels)
        q.ctx += nfi_conv_image_features(m) * p->ld;
    return q;
}

nf_grad nfi_conv_numbers_grad(const nfi_conv_net *m, size_t ld, const nf_grad *g)
{
    nf_grad q = m->is_scaled ? (nf_grad){.theta = g->prep, .ctx = g->ctx} : *g;
    if (m->options.ctx_channels && q.ctx)
        q.ctx += nfi_conv_image_features(m) * ld;
    return q;
}

void nfi_conv_read(const nfi_conv_net *m, size_t ld, const nf_real *x, const nf_real *ctx, nf_real *grid)
{
    nf_real *image = grid + m->in.channels * m->grid.pixels * ld;
    nfi_to_grid(&m->grid, m->options.in_pixels, 1, m->in.channels, ld, x, grid);
    if (ctx)
        nfi_to_grid(&m->grid, NF_ALL_PIXELS, 1, m->options.ctx_channels, ld, ctx, image);
    else
        memset(image, 0, m->options.ctx_channels * m->grid.pixels * ld * sizeof *image);
}
