/* MADE (Germain et al. 2015) with hidden units sorted by degree, and its residual form (Durkan et al. 2019).

       h_1 = drop(f(W_1 (x, context) + b_1)),   h_l = drop(f(W_l h_(l-1) + b_l)),   y = W_L h_(L-1) + b_L.

   The residual form has a stream s = W_1 (x, context) + b_1. Its blocks compute t = W_2 drop(f(W_1 f(s) + b_1)) + b_2.
   Without context they add t to s; with context they add t sigmoid(Wc context + bc) (Dauphin et al. 2017, eq. 1). At
   the end y = W_L s + b_L.

   A unit of degree t sees x_0 .. x_(t-1) and, in the layer below, the units of degree <= t. The output features
   t P .. t P + P - 1 see the units of degree <= t. Since units are sorted by degree, every unit sees the first so many
   units of the layer below. So the matrices are ragged, only weights that are not masked are stored and multiplied, and
   the units of degree t can be computed when x_(t-1) becomes known. */
#include "nn/masked.h"
#include "math/rows.h"
#include "object/pack.h"
#include "nn/dropout.h"
#include "nn/units.h"
#include <string.h>

/* The array that layer l reads. */
static const nf_real *below(const nfi_masked *m, const nfi_masked_run *run, size_t l, size_t ld, const nf_real *x)
{
    if (l == 0)
        return x;
    return nfi_masked_has_units(m, l - 1) ? run->unit + m->layer[l - 1].unit * ld : run->stream;
}

/* The mask of a layer's rows from `first` on; NULL if nothing is dropped. */
static const nf_real *mask_of(const nfi_masked_layer *layer, const nfi_masked_run *run, size_t first, size_t ld)
{
    return run->mask && layer->drop_layer != NFI_KEPT ? run->mask + (layer->dropped + first) * ld : NULL;
}

nfi_hidden nfi_masked_units(const nfi_masked *m, const nf_pass *p, const nfi_masked_run *run, size_t l, size_t first,
                            size_t rows)
{
    const nfi_masked_layer *layer = &m->layer[l];
    const size_t at = (layer->unit + first) * p->ld;
    return (nfi_hidden){.f = m->activation,
                        .rows = rows,
                        .beta = nfi_masked_has_beta(m, l) ? p->theta + layer->beta : NULL,
                        .h = run->unit + at,
                        .z = run->argument ? run->argument + at : NULL,
                        .mask = mask_of(layer, run, first, p->ld),
                        .dropout = m->dropout};
}

static nf_status draw_masks(const nfi_masked *m, const nf_pass *p, nf_arena *a, nfi_masked_run *run)
{
    run->mask = nf_arena_reals(a, m->n_dropped, p->ld);
    if (!run->mask)
        return NF_ENOMEM;
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_masked_layer *layer = &m->layer[l];
        if (layer->drop_layer != NFI_KEPT)
            nfi_dropout_mask(p, layer->drop_layer, m->dropout, layer->inputs.n_rows,
                             run->mask + layer->dropped * p->ld);
    }
    return NF_OK;
}

nf_status nfi_masked_begin(const nf_object *net, const nf_pass *p, nf_arena *a, nfi_masked_run *run)
{
    const nfi_masked *m = nf_self(net);
    const size_t width = m->residual ? m->widest : 0;
    nf_real *none = nf_arena_reals(a, 1, width);
    const bool keeps = nfi_keeps_argument(m->activation);
    run->unit = nf_arena_reals(a, m->n_units, p->ld);
    run->argument = keeps ? nf_arena_reals(a, m->n_units, p->ld) : NULL;
    run->stream = nf_arena_reals(a, width, p->ld);
    run->value = nf_arena_reals(a, 2 * m->n_gated, p->ld);
    run->mask = NULL;
    if (!none || !run->unit || !run->stream || !run->value || (keeps && !run->argument))
        return NF_ENOMEM;
    run->open = run->value + m->n_gated * p->ld;
    run->no_bias = memset(none, 0, width * sizeof *none);
    return m->n_dropped && nfi_drops(p, m->dropout) ? draw_masks(m, p, a, run) : NF_OK;
}

/* ---- forward ---- */

/* z holds the rows first .. last-1 of a block. Adds to the stream the share of z that the gates let through. */
static void gate_rows(const nfi_masked_layer *layer, const nf_pass *p, const nfi_masked_run *run, size_t first,
                      size_t last, nf_real *z)
{
    const size_t ld = p->ld, rows = last - first;
    nf_real *open = run->open + layer->gated * ld;
    nfi_times(&layer->gate, p->theta + layer->gate_weights, first, last, p->n, ld, p->ctx, false, open);
    open += first * ld;
    nfi_pad(rows, p->n, ld, open);
    nfi_gate(rows, ld, p->theta + layer->biases + first, p->theta + layer->gate_biases + first, z, open, true,
             run->stream + first * ld);
}

/* Computes the rows first .. last-1 of layer l. */
static void layer_rows(const nfi_masked *m, const nf_pass *p, const nfi_masked_run *run, size_t l, size_t first,
                       size_t last, const nf_real *x, nf_real *y)
{
    const nfi_masked_layer *layer = &m->layer[l];
    const size_t n = p->n, ld = p->ld, rows = last - first;
    const nf_real *w = p->theta + layer->weights, *bias = p->theta + layer->biases + first;
    const bool stream = nfi_masked_on_stream(m, l), gate = nfi_masked_has_gate(m, l), output = nfi_masked_last(m, l);
    nf_real *z;
    if (stream)
        z = gate ? run->value + layer->gated * ld : run->stream;
    else if (output)
        z = y;
    else
        z = (run->argument ? run->argument : run->unit) + layer->unit * ld;
    nfi_times(&layer->inputs, w, first, last, n, ld, below(m, run, l, ld, x), stream && l > 0 && !gate, z);
    if (layer->context.n_rows)
        nfi_times(&layer->context, w, first, last, n, ld, p->ctx, true, z);
    z += first * ld;
    nfi_pad(rows, n, ld, z);
    if (gate) {
        gate_rows(layer, p, run, first, last, z);
        z = run->stream + first * ld;
        bias = run->no_bias;
    }
    if (nfi_masked_has_units(m, l)) {
        const nfi_hidden units = nfi_masked_units(m, p, run, l, first, rows);
        nfi_hidden_apply(&units, ld, bias, z);
        if (units.mask)
            nfi_dropout_apply(rows, ld, units.mask, units.h);
    }
    if ((stream && !gate) || output)
        nfi_activate(NF_IDENTITY, rows, ld, bias, z);
}

void nfi_masked_times(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, size_t first, size_t last,
                      const nf_real *x, nf_real *y)
{
    const nfi_masked *m = nf_self(net);
    for (size_t l = 0; l < m->n_layers; l++) {
        const size_t *start = m->layer[l].start;
        if (start[first] < start[last])
            layer_rows(m, p, run, l, start[first], start[last], x, y);
    }
}

/* ---- backward ---- */

/* The gradient of layer l's product. For the last layer it is gy. For a layer that adds to the stream without a gate,
   it is the gradient of the stream. */
static const nf_real *gradient_of(const nfi_masked *m, size_t l, size_t ld, const nf_real *gy, const nf_real *g)
{
    if (nfi_masked_last(m, l))
        return gy;
    return g + (nfi_masked_has_gate(m, l) ? m->n_units + m->layer[l].gated : m->layer[l].unit) * ld;
}
/* The gradient of the product inside layer l's gate. */
static const nf_real *gradient_of_gate(const nfi_masked *m, size_t l, size_t ld, const nf_real *g)
{
    return g + (m->n_units + m->n_gated + m->layer[l].gated) * ld;
}

static void layer_rows_back(const nfi_masked *m, const nf_pass *p, const nfi_masked_run *run, size_t l, size_t first,
                            size_t last, const nf_real *gy, nf_real *g)
{
    const nfi_masked_layer *layer = &m->layer[l], *above = layer + 1;
    const size_t n = p->n, ld = p->ld, rows = last - first, at = (layer->unit + first) * ld;
    const nfi_hidden units = nfi_masked_units(m, p, run, l, first, rows);
    const bool skips = nfi_masked_on_stream(m, l) && nfi_masked_has_units(m, l);
    nf_real *spare = g + (m->n_units + 2 * m->n_gated) * ld, *gu = skips ? spare : g + layer->unit * ld;
    nf_real *g_beta = nfi_masked_beta_row(m, l, ld, g);
    nfi_times_transposed(&above->inputs, p->theta + above->weights, first, last, n, ld,
                         gradient_of(m, l + 1, ld, gy, g), false, gu);
    gu += first * ld;
    nfi_pad_zero(rows, n, ld, gu);
    if (skips) { /* the stream also goes to the layer after the next */
        memcpy(g + at, g + (m->layer[l + 2].unit + first) * ld, rows * ld * sizeof *g);
        nfi_hidden_vjp(&units, ld, NULL, gu, true, g + at, NULL, g_beta);
    } else if (nfi_masked_has_units(m, l)) {
        nfi_hidden_vjp(&units, ld, spare, gu, false, gu, NULL, g_beta);
    }
    if (nfi_masked_has_gate(m, l)) {
        const size_t gated = (layer->gated + first) * ld;
        nf_real *g_value = g + m->n_units * ld + gated, *g_open = g_value + m->n_gated * ld;
        nfi_gate_vjp(rows, ld, run->value + gated, run->open + gated, g + at, g_value, g_open, NULL, NULL);
    }
}

void nfi_masked_back(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, size_t first, size_t last,
                     const nf_real *gy, nf_real *g)
{
    const nfi_masked *m = nf_self(net);
    for (size_t l = 0; last == m->dim && l < m->n_layers; l++)
        if (nfi_masked_has_beta(m, l))
            memset(nfi_masked_beta_row(m, l, p->ld, g), 0, p->ld * sizeof *g);
    for (size_t l = m->n_layers - 1; l-- > 0;) {
        const size_t *start = m->layer[l].start;
        if (start[first] < start[last])
            layer_rows_back(m, p, run, l, start[first], start[last], gy, g);
    }
}

void nfi_masked_back_input(const nf_object *net, const nf_pass *p, size_t first, size_t last, const nf_real *g,
                           nf_real *gx)
{
    const nfi_masked *m = nf_self(net);
    const nfi_masked_layer *layer = &m->layer[0];
    nfi_times_transposed(&layer->inputs, p->theta + layer->weights, first, last, p->n, p->ld, g, true, gx);
}

static nf_status gate_numbers(const nfi_masked *m, size_t l, const nf_pass *p, const nf_real *g_open,
                              const nf_grad *grad)
{
    const nfi_masked_layer *layer = &m->layer[l];
    const nfi_dense gate = nfi_masked_gate(m, l);
    if (grad->theta)
        nfi_add_row_sums(gate.out, p->ld, 1, g_open, nfi_bias_gradient(grad, layer->gate_biases, gate.out));
    return nfi_dense_vjp(&gate, p, layer->gate_weights, NULL, g_open, NULL, grad);
}

nf_status nfi_masked_back_numbers(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, const nf_real *x,
                                  const nf_real *gy, nf_real *g, const nf_grad *grad)
{
    const nfi_masked *m = nf_self(net);
    nf_status status = NF_OK;
    for (size_t l = 0; l < m->n_layers && status == NF_OK; l++) {
        const nfi_masked_layer *layer = &m->layer[l];
        const nf_real *gz = gradient_of(m, l, p->ld, gy, g);
        if (layer->context.n_rows && grad->ctx)
            nfi_times_transposed(&layer->context, p->theta + layer->weights, 0, m->n_ctx, p->n, p->ld, gz, true,
                                 grad->ctx);
        if (nfi_masked_has_gate(m, l))
            status = gate_numbers(m, l, p, gradient_of_gate(m, l, p->ld, g), grad);
        if (!grad->theta || status != NF_OK)
            continue;
        if (nfi_masked_has_beta(m, l)) {
            const nfi_hidden units = nfi_masked_units(m, p, run, l, 0, layer->inputs.n_rows);
            nfi_beta_gradient(&units, p->ld, grad, layer->beta, nfi_masked_beta_row(m, l, p->ld, g));
        }
        nf_real *gw = grad->theta + layer->weights;
        nfi_add_row_sums(layer->inputs.n_rows, p->ld, 1, gz,
                         nfi_bias_gradient(grad, layer->biases, layer->inputs.n_rows));
        if (layer->inputs.width)
            status = nfi_weight_gradient(p, &layer->inputs, layer->inputs.width, below(m, run, l, p->ld, x), gz,
                                         !nfi_is_fresh(grad), gw);
        if (layer->context.n_rows && status == NF_OK)
            status = nfi_weight_gradient(p, &layer->context, m->n_ctx, p->ctx, gz, !nfi_is_fresh(grad), gw);
    }
    return status;
}
