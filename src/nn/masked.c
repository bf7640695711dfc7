/* MADE (Germain et al. 2015) with hidden units sorted by degree, and its residual form (Durkan et al. 2019).

       h_1 = f(W_1 (x, context) + b_1),   h_l = f(W_l h_(l-1) + b_l),   y = W_L h_(L-1) + b_L;
       residual: s = W_1 (x, context) + b_1; blocks add W_2 f(W_1 f(s) + b_1) + b_2 to s; y = W_L s + b_L.

   A unit of degree t sees x_0 .. x_(t-1) and, below it, the units of degree <= t; output rows t P .. t P + P - 1 see
   the units of degree <= t. Sorted, every unit sees the first so many rows below: matrices are ragged, only what is not
   masked is stored and multiplied, and units of degree t can be computed when x_(t-1) becomes known. */
#include "nn/masked.h"
#include "core/kernel.h"
#include "core/tiles.h"
#include "nn/activation.h"
#include "nn/dense.h"

static bool is_last(const nfi_masked *m, size_t l)
{
    return l + 1 == m->n_layers;
}

/* Residual: even hidden layers add to the stream; all but the last of them are read through a unit. */
static bool on_stream(const nfi_masked *m, size_t l)
{
    return m->residual && l % 2 == 0 && !is_last(m, l);
}
static bool has_units(const nfi_masked *m, size_t l)
{
    return !is_last(m, l) && !(m->residual && l + 2 == m->n_layers);
}

/* What layer l reads. */
static const nf_real *below(const nfi_masked *m, const nfi_masked_run *run, size_t l, size_t ld, const nf_real *x)
{
    if (l == 0)
        return x;
    return has_units(m, l - 1) ? run->unit + m->layer[l - 1].unit * ld : run->stream;
}

nf_status nfi_masked_begin(const nf_object *net, const nf_pass *p, nf_arena *a, nfi_masked_run *run)
{
    const nfi_masked *m = nf_self(net);
    run->unit = nf_arena_reals(a, m->n_units, p->ld);
    run->stream = m->residual ? nf_arena_reals(a, m->layer[0].inputs.n_rows, p->ld) : NULL;
    return run->unit && (run->stream || !m->residual) ? NF_OK : NF_ENOMEM;
}

/* ---- forward ---- */

/* Rows first .. last-1 of layer l. */
static void layer_rows(const nfi_masked *m, const nf_pass *p, const nfi_masked_run *run, size_t l, size_t first,
                       size_t last, const nf_real *x, nf_real *y)
{
    const nfi_masked_layer *layer = &m->layer[l];
    const size_t n = p->n, ld = p->ld, rows = last - first;
    const nf_real *w = p->theta + layer->weights, *bias = p->theta + layer->biases + first;
    const bool stream = on_stream(m, l);
    nf_real *unit = run->unit + layer->unit * ld, *z = is_last(m, l) ? y : stream ? run->stream : unit;
    nfi_times(&layer->inputs, w, first, last, n, ld, below(m, run, l, ld, x), stream && l > 0, z);
    if (layer->context.n_rows)
        nfi_times(&layer->context, w, first, last, n, ld, p->ctx, true, z);
    z += first * ld;
    unit += first * ld;
    nfi_pad(rows, n, ld, z);
    if (stream && has_units(m, l))
        nfi_activate_to(m->activation, rows, ld, bias, z, unit);
    nfi_activate(stream || is_last(m, l) ? NF_IDENTITY : m->activation, rows, ld, bias, z);
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

/* The gradient in what layer l computes before its unit; gy for the last. */
static const nf_real *gradient_of(const nfi_masked *m, size_t l, size_t ld, const nf_real *gy, const nf_real *g)
{
    return is_last(m, l) ? gy : g + m->layer[l].unit * ld;
}

NFI_CLONES static void masked_add(size_t n, const nf_real *from, nf_real *to)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void layer_rows_back(const nfi_masked *m, const nf_pass *p, const nfi_masked_run *run, size_t l, size_t first,
                            size_t last, const nf_real *gy, nf_real *g)
{
    const nfi_masked_layer *layer = &m->layer[l], *above = layer + 1;
    const size_t n = p->n, ld = p->ld, rows = last - first, at = (layer->unit + first) * ld;
    nf_real *gz = g + layer->unit * ld;
    nfi_times_transposed(&above->inputs, p->theta + above->weights, first, last, n, ld,
                         gradient_of(m, l + 1, ld, gy, g), false, gz);
    nfi_pad_zero(rows, n, ld, gz + first * ld);
    if (!has_units(m, l))
        return;
    nfi_activate_vjp(m->activation, rows, ld, run->unit + at, g + at, g + at, NULL);
    if (on_stream(m, l)) /* the stream goes on, to the layer after the next */
        masked_add(rows * ld, g + (m->layer[l + 2].unit + first) * ld, g + at);
}

void nfi_masked_back(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, size_t first, size_t last,
                     const nf_real *gy, nf_real *g)
{
    const nfi_masked *m = nf_self(net);
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

nf_status nfi_masked_back_numbers(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, const nf_real *x,
                                  const nf_real *gy, const nf_real *g, const nf_grad *grad)
{
    const nfi_masked *m = nf_self(net);
    nf_status status = NF_OK;
    for (size_t l = 0; l < m->n_layers && status == NF_OK; l++) {
        const nfi_masked_layer *layer = &m->layer[l];
        const nf_real *gz = gradient_of(m, l, p->ld, gy, g);
        if (layer->context.n_rows && grad->ctx)
            nfi_times_transposed(&layer->context, p->theta + layer->weights, 0, m->n_ctx, p->n, p->ld, gz, true,
                                 grad->ctx);
        if (!grad->theta)
            continue;
        nf_real *gw = grad->theta + layer->weights;
        nfi_dense_bias_vjp(layer->inputs.n_rows, p->ld, gz, grad->theta + layer->biases);
        if (layer->inputs.width)
            status = nfi_weight_gradient(p, &layer->inputs, layer->inputs.width, below(m, run, l, p->ld, x), gz, gw);
        if (layer->context.n_rows && status == NF_OK)
            status = nfi_weight_gradient(p, &layer->context, m->n_ctx, p->ctx, gz, gw);
    }
    return status;
}
