/* Tangents of masked nets, all times at once. The gates depend on the context alone, which does not move. For k
   directions, with d(stream) = ds, layer by layer,

       dh_l = drop'(f'(z_l) dz_l),   dz_l = W_l dh_(l-1),   dy = W_L dh_(L-1).

   In the residual form, dh = f'(s) ds. Blocks add to the stream ds += W_2 dh, or with context ds += open W_2 dh. At the
   end dy = W_L ds.

   The way back is the chain rule, as in masked.c, with the second derivatives of f (hidden.c) and of the gates
   (units.c). The gradients g of the layers are laid out as in masked.c, so that nfi_masked_back_numbers computes the
   parameters' gradients from them; the part of the directions is added here. Kept on the tape
   [n_units + n_gated x k ld]: for each hidden layer dz, or ds after that layer; for gated blocks W_2 dh. */
#include "math/rows.h"
#include "object/pack.h"
#include "nn/directions.h"
#include "nn/masked.h"
#include "nn/units.h"
#include <string.h>

/* What is kept of layer l: dz or ds. kept_value: what is kept of its gated value. */
static nf_real *kept_of(const nfi_masked *m, size_t l, size_t wide, nf_real *kept)
{
    return kept + m->layer[l].unit * wide;
}
static nf_real *kept_value(const nfi_masked *m, size_t l, size_t wide, nf_real *kept)
{
    return kept + (m->n_units + m->layer[l].gated) * wide;
}

/* What layer l reads. If there are units below, their dh [widest x k ld] is computed again from what is kept; spare
   [widest x ld]. */
static const nf_real *below(const nfi_masked *m, const nf_pass *p, const nfi_masked_run *run, size_t l, size_t k,
                            const nf_real *dx, nf_real *kept, nf_real *spare, nf_real *dh)
{
    if (l == 0)
        return dx;
    const nf_real *dz = kept_of(m, l - 1, k * p->ld, kept);
    if (!nfi_masked_has_units(m, l - 1))
        return dz;
    const nfi_hidden units = nfi_masked_units(m, p, run, l - 1, 0, m->layer[l - 1].inputs.n_rows);
    nfi_hidden_tangent(&units, p->ld, k, spare, dz, dh);
    return dh;
}

nf_status nfi_masked_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    (void)x, (void)y;
    const nfi_masked *m = nf_self(o);
    const nfi_masked_run *run = saved;
    const size_t ld = p->ld, wide = k * ld;
    nf_mark mark;
    nf_real *kept = nfi_keep(p, m->n_units + m->n_gated, wide, &mark);
    nf_real *dh = nf_arena_reals(p->scratch, m->widest, wide), *spare = nf_arena_reals(p->scratch, m->widest, ld);
    if (!kept || !dh || !spare) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_masked_layer *layer = &m->layer[l];
        const size_t rows = layer->inputs.n_rows;
        const bool gate = nfi_masked_has_gate(m, l), adds = nfi_masked_on_stream(m, l) && l > 0;
        const nf_real *in = below(m, p, run, l, k, dx, kept, spare, dh), *w = p->theta + layer->weights;
        nf_real *here = nfi_masked_last(m, l) ? dy : kept_of(m, l, wide, kept);
        nf_real *dz = gate ? kept_value(m, l, wide, kept) : here;
        if (adds)
            memcpy(here, kept_of(m, l - 2, wide, kept), rows * wide * sizeof *here);
        nfi_times(&layer->inputs, w, 0, rows, wide, wide, in, adds && !gate, dz);
        if (gate)
            nfi_scale_directions(rows, k, ld, run->open + layer->gated * ld, dz, true, here);
    }
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved_tangent = kept;
    return NF_OK;
}

/* The gradients on the way back. */
typedef struct back {
    nf_real *g;           /* [nfi_masked_gradients x ld], as for nfi_masked_back */
    nf_real *gu, *spare;  /* [widest x ld], for a layer's units; [3 widest x ld] */
    nf_real *gds;         /* [widest x k ld], for the stream's directions */
    nf_real *gdz, *gdu;   /* [widest x k ld], for the directions of a layer's product and of its units */
    nf_real *dh;          /* [widest x k ld] */
    const nf_real *gdy;   /* [dim P x k ld], for the last layer's directions */
    const nf_real *g_out; /* gy */
} back;

static bool begin_back(const nf_object *o, const nf_pass *p, size_t k, back *b)
{
    const nfi_masked *m = nf_self(o);
    const size_t widest = m->widest, size = widest * p->ld;
    b->g = nf_arena_reals(p->scratch, nfi_masked_gradients(o), p->ld);
    b->gu = nf_arena_reals(p->scratch, 4 * widest, p->ld);
    b->gds = nf_arena_reals(p->scratch, 4 * widest, k * p->ld);
    if (!b->g || !b->gu || !b->gds)
        return false;
    b->spare = b->gu + size;
    b->gdz = b->gds + k * size;
    b->gdu = b->gdz + k * size;
    b->dh = b->gdu + k * size;
    for (size_t l = 0; l < m->n_layers; l++)
        if (nfi_masked_has_beta(m, l))
            memset(nfi_masked_beta_row(m, l, p->ld, b->g), 0, p->ld * sizeof *b->g);
    return true;
}

/* Returns the gradient of the directions of layer l's product. *gz is the gradient of the product itself, laid out as
   b->g. */
static const nf_real *product_gradient(const nfi_masked *m, size_t l, size_t k, size_t ld, const nfi_masked_run *run,
                                       nf_real *kept, const back *b, const nf_real **gz)
{
    const nfi_masked_layer *layer = &m->layer[l];
    const size_t gated = layer->gated * ld;
    if (nfi_masked_last(m, l)) {
        *gz = b->g_out;
        return b->gdy;
    }
    *gz = b->g + layer->unit * ld;
    if (!nfi_masked_has_gate(m, l))
        return nfi_masked_on_stream(m, l) ? b->gds : b->gdz;
    nf_real *g_value = b->g + m->n_units * ld + gated, *g_open = g_value + m->n_gated * ld;
    nfi_gate_tangent_vjp(layer->inputs.n_rows, k, ld, run->value + gated, run->open + gated,
                         kept_value(m, l, k * ld, kept), NULL, *gz, b->gds, g_value, g_open, b->gdz, NULL);
    *gz = g_value;
    return b->gdz;
}

/* From the gradients of layer l's product computes those of the layer below, l > 0. */
static void layer_back(const nfi_masked *m, const nf_pass *p, size_t l, size_t k, const nfi_masked_run *run,
                       nf_real *kept, const nf_real *gz, const nf_real *gdz, const back *b)
{
    const nfi_masked_layer *layer = &m->layer[l], *under = layer - 1;
    const size_t ld = p->ld, wide = k * ld, rows = under->inputs.n_rows;
    const bool stream = nfi_masked_on_stream(m, l - 1), units = nfi_masked_has_units(m, l - 1);
    nf_real *g_under = b->g + under->unit * ld, *gu = units ? b->gu : g_under, *gdu = units ? b->gdu : b->gds;
    nfi_times_transposed(&layer->inputs, p->theta + layer->weights, 0, rows, p->n, ld, gz, false, gu);
    nfi_pad_zero(rows, p->n, ld, gu);
    nfi_times_transposed(&layer->inputs, p->theta + layer->weights, 0, rows, wide, wide, gdz, false, gdu);
    if (!units)
        return;
    if (stream) /* goes on to the layer after the next; its directions' gradient is in b->gds */
        memcpy(g_under, b->g + m->layer[l + 1].unit * ld, rows * ld * sizeof *g_under);
    const nfi_hidden h = nfi_masked_units(m, p, run, l - 1, 0, rows);
    nfi_hidden_tangent_vjp(&h, ld, k, b->spare, kept_of(m, l - 1, wide, kept), gu, gdu, stream, g_under,
                           stream ? b->gds : b->gdz, NULL, nfi_masked_beta_row(m, l - 1, ld, b->g));
}

nf_status nfi_masked_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                 size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                 const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    (void)y, (void)dy;
    const nfi_masked *m = nf_self(o);
    const nfi_masked_run *run = saved;
    const nfi_masked_layer *first = &m->layer[0];
    const nf_pass wide = nfi_wide_pass(p, k);
    const nf_mark mark = nf_arena_mark(p->scratch);
    back b = {.gdy = gdy, .g_out = gy};
    if (!begin_back(o, p, k, &b)) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    nf_grad all = *g; /* the directions' part is written before the rest, so both add */
    all.internal &= ~NFI_FRESH;
    if (g->theta && nfi_is_fresh(g))
        memset(g->theta, 0, m->n_params * sizeof *g->theta);
    nf_status status = NF_OK;
    const nf_real *gz = NULL, *gdz = NULL;
    for (size_t l = m->n_layers; l-- > 0 && status == NF_OK;) {
        const nfi_masked_layer *layer = &m->layer[l];
        gdz = product_gradient(m, l, k, p->ld, run, saved_tangent, &b, &gz);
        if (g->theta && layer->inputs.width)
            status = nfi_weight_gradient(&wide, &layer->inputs, layer->inputs.width,
                                         below(m, p, run, l, k, dx, saved_tangent, b.spare, b.dh), gdz, true,
                                         g->theta + layer->weights);
        if (l > 0)
            layer_back(m, p, l, k, run, saved_tangent, gz, gdz, &b);
    }
    if (gx && status == NF_OK) {
        nfi_times_transposed(&first->inputs, p->theta + first->weights, 0, m->dim, p->n, p->ld, gz, false, gx);
        nfi_pad_zero(m->dim, p->n, p->ld, gx);
    }
    if (gdx && status == NF_OK)
        nfi_times_transposed(&first->inputs, p->theta + first->weights, 0, m->dim, wide.n, wide.ld, gdz, false, gdx);
    if (status == NF_OK)
        status = nfi_masked_back_numbers(o, p, run, x, gy, b.g, &all);
    nf_arena_rewind(p->scratch, mark);
    return status;
}
