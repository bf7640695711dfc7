/* Nets of convolutions: values and tangents (conv_layers.c has the formula). A layer's products are one convolution;
   units, gates and biases work on whole channels, which are rows of pixels times samples. For tangents of k directions
   a pixel has k ld numbers, and

       da_l = f'(s_l) ds_l,   ds_l = W_l * da_(l-1),   in the stream ds_(l-2) + gate (W_l * da_(l-1)).

   Biases of the stream are added where units read it, as in resnet.c. The tape of a tangent keeps ds of each hidden
   layer, and with gates W_l * da_(l-1). */
#include "math/rows.h"
#include "nn/conv_net.h"
#include "nn/directions.h"
#include "nn/dropout.h"
#include "nn/units.h"
#include "object/tree.h"
#include <string.h>

/* Adds the context of the first layer to z, the same at each pixel. */
static nf_status add_context(const nfi_conv_layer *s, const nf_pass *p, nf_real *z)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nfi_dense context = nfi_conv_context(s);
    nf_real *u = nf_arena_reals(p->scratch, s->c.out, p->ld);
    if (!u)
        return NF_ENOMEM;
    nfi_dense_apply(&context, p, p->theta + s->context, NULL, false, u);
    nfi_add_to_directions(s->c.out, s->c.grid.pixels, p->ld, u, z);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* h += gate (W * x + b), with the gate of the context. */
static void add_gated(const nfi_conv_net *m, const nfi_conv_layer *s, const nf_pass *p, const nfi_conv_block *b,
                      const nf_real *x, nf_real *h)
{
    const nfi_dense gate = nfi_conv_gate(m, s);
    const nf_real *w = p->theta;
    const size_t channels = s->units, pixels = s->c.grid.pixels, ld = p->ld;
    nfi_conv_apply(&s->c, ld, w + s->weight, x, false, b->t);
    nfi_activate(NF_IDENTITY, channels, pixels * ld, w + s->bias, b->t);
    nfi_dense_apply(&gate, p, w + s->gate, NULL, false, b->gate);
    nfi_activate(NF_SIGMOID, channels, ld, w + s->gate + nfi_dense_bias(&gate), b->gate);
    nfi_scale_directions(channels, pixels, ld, b->gate, b->t, true, h);
}

nf_status nfi_conv_products(const nfi_conv_net *m, const nfi_conv_layer *s, const nf_pass *p, const nfi_conv_block *b,
                            const nf_real *x, nf_real *z, nf_real *bias)
{
    const nf_real *w = p->theta;
    if (s->has_gate) {
        add_gated(m, s, p, b, x, z);
        return NF_OK;
    }
    nfi_conv_apply(&s->c, p->ld, w + s->weight, x, s->adds, z);
    for (size_t i = 0; i < s->c.out && s->in_stream; i++)
        bias[i] = (s->adds ? bias[i] : 0) + w[s->bias + i];
    return s->n_ctx ? add_context(s, p, z) : NF_OK;
}

void nfi_conv_units(const nfi_conv_net *m, const nfi_conv_layer *s, size_t ld, const nfi_conv_block *b,
                    const nf_real *bias, nf_real *z)
{
    const size_t plane = m->grid.pixels * ld;
    if (b->pair)
        nfi_gate(s->units, plane, bias, bias + s->units, z, z + s->units * plane, false, b->u.h);
    else
        nfi_hidden_apply(&b->u, plane, bias, z);
}

/* Room for the passes of a value: the blocks, the stream h and its bias, and a grid for x and for y. */
typedef struct room {
    nf_real *blocks, *h, *bias, *grid;
} room;

static bool take_room(const nfi_conv_net *m, const nf_pass *p, room *r, nf_mark *mark)
{
    const size_t channels = nfi_conv_is_residual(m) ? m->list[0] : 0, plane = m->grid.pixels * p->ld;
    const size_t outer = m->read > m->out_channels ? m->read : m->out_channels;
    r->blocks =
        nfi_keep(p, p->tape ? nfi_conv_kept_before(m, m->n_layers - 1) : 2 * nfi_conv_kept_most(m), p->ld, mark);
    r->h = nf_arena_reals(p->scratch, channels, plane);
    r->bias = nf_arena_reals(p->scratch, channels, 1);
    r->grid = nf_arena_reals(p->scratch, outer, plane);
    return r->blocks && r->h && r->bias && r->grid;
}

nf_status nfi_conv_net_apply(const nf_object *o, const nf_pass *pass, const nf_real *x, nf_real *y, void **saved)
{
    const nfi_conv_net *m = nf_self(o);
    const nf_pass q = nfi_conv_numbers_pass(m, pass), *p = &q;
    const size_t ld = p->ld, turn = nfi_conv_kept_most(m) * ld;
    nf_mark mark;
    room r;
    nf_status status = take_room(m, p, &r, &mark) ? NF_OK : NF_ENOMEM;
    const nf_real *in = r.grid;
    if (status == NF_OK)
        nfi_conv_read(m, ld, x, pass->ctx, r.grid);
    for (size_t l = 0; l + 1 < m->n_layers && status == NF_OK; l++) {
        const nfi_conv_layer s = nfi_conv_layer_of(m, l);
        nf_real *at = r.blocks + (p->tape ? nfi_conv_kept_before(m, l) * ld : l % 2 * turn);
        const nfi_conv_block b = nfi_conv_block_at(m, &s, p, at);
        nf_real *z = nfi_conv_target(&s, &b, r.h);
        status = nfi_conv_products(m, &s, p, &b, in, z, r.bias);
        nfi_conv_units(m, &s, ld, &b, s.in_stream ? r.bias : p->theta + s.bias, z);
        if (b.mask)
            nfi_dropout(p, l, m->options.dropout, s.units * m->grid.pixels, b.mask, b.u.h);
        in = b.u.h;
    }
    if (status == NF_OK) {
        const nfi_conv_layer s = nfi_conv_layer_of(m, m->n_layers - 1);
        nf_real *z = nf_arena_reals(p->scratch, s.c.out, m->grid.pixels * ld);
        status = z ? nfi_conv_products(m, &s, p, NULL, in, z, NULL) : NF_ENOMEM;
        if (status == NF_OK) {
            nfi_activate(NF_IDENTITY, s.c.out, m->grid.pixels * ld, p->theta + s.bias, z);
            nfi_from_grid(&m->grid, m->options.out_pixels, m->options.n_per_feature, s.c.out, ld, z, y);
        }
    }
    nf_arena_rewind(p->scratch, mark);
    if (p->tape && status == NF_OK)
        *saved = r.blocks;
    return status;
}

/* ---- tangents ---- */

size_t nfi_conv_kept_tangent(const nfi_conv_net *m, const nfi_conv_layer *s)
{
    return (s->units * m->pieces + (s->has_gate ? s->units : 0)) * m->grid.pixels;
}

void nfi_conv_units_tangent(const nfi_conv_net *m, const nfi_conv_block *b, size_t ld, size_t k, const nf_real *ds,
                            nf_real *spare, nf_real *da)
{
    nfi_hidden u = b->u;
    u.rows *= m->grid.pixels;
    const size_t size = u.rows * ld;
    if (!b->pair) {
        nfi_hidden_tangent(&u, ld, k, spare, ds, da);
        return;
    }
    nfi_gate_tangent(u.rows, k, ld, b->pair, b->pair + size, ds, ds + k * size, da);
    if (b->mask)
        nfi_scale_directions(u.rows, k, ld, b->mask, da, false, da);
}

/* ds of a hidden layer to where it is kept, from da of the layer below. dh is the stream's. */
static void products_tangent(const nfi_conv_layer *s, size_t ld, size_t k, const nf_real *w, const nfi_conv_block *b,
                             const nf_real *da, nf_real *dh, nf_real *kept)
{
    const size_t size = s->units * s->c.grid.pixels * k * ld;
    if (s->has_gate) {
        nfi_conv_apply(&s->c, k * ld, w + s->weight, da, false, kept + size);
        nfi_scale_directions(s->units, s->c.grid.pixels * k, ld, b->gate, kept + size, true, dh);
    } else {
        nfi_conv_apply(&s->c, k * ld, w + s->weight, da, s->adds, s->in_stream ? dh : kept);
    }
    if (s->in_stream)
        memcpy(kept, dh, size * sizeof *kept);
}

nf_status nfi_conv_net_tangent(const nf_object *o, const nf_pass *pass, const nf_real *x, const nf_real *y, void *saved,
                               size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    (void)x, (void)y;
    const nfi_conv_net *m = nf_self(o);
    const nf_pass q = nfi_conv_numbers_pass(m, pass), *p = &q;
    const size_t ld = p->ld, wide = k * ld, pixels = m->grid.pixels;
    size_t rows = 0, most = 0;
    for (size_t l = 0; l + 1 < m->n_layers; l++) {
        const nfi_conv_layer s = nfi_conv_structure(m, l);
        const size_t kept = nfi_conv_kept_tangent(m, &s);
        rows += kept;
        most = kept > most ? kept : most;
    }
    nf_mark mark;
    nf_real *kept = nfi_keep(p, p->tape ? rows : most, wide, &mark);
    nf_real *spare = nf_arena_reals(p->scratch, m->widest * pixels, ld);
    nf_real *da = nf_arena_reals(p->scratch, m->widest * pixels, wide);
    nf_real *dh = nf_arena_reals(p->scratch, (nfi_conv_is_residual(m) ? m->list[0] : 0) * pixels, wide);
    nf_real *dz = nf_arena_reals(p->scratch, m->out_channels * pixels, wide);
    if (!kept || !spare || !da || !dh || !dz) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    if (p->tape)
        *saved_tangent = kept;
    nf_real *at = saved;
    nfi_conv_read(m, wide, dx, NULL, da); /* the context does not move */
    for (size_t l = 0; l + 1 < m->n_layers; l++) {
        const nfi_conv_layer s = nfi_conv_layer_of(m, l);
        const nfi_conv_block b = nfi_conv_block_at(m, &s, p, at + nfi_conv_kept_before(m, l) * ld);
        products_tangent(&s, ld, k, p->theta, &b, da, dh, kept);
        nfi_conv_units_tangent(m, &b, ld, k, kept, spare, da);
        kept += p->tape ? nfi_conv_kept_tangent(m, &s) * wide : 0;
    }
    const nfi_conv_layer s = nfi_conv_layer_of(m, m->n_layers - 1);
    nfi_conv_apply(&s.c, wide, p->theta + s.weight, da, false, dz);
    nfi_from_grid(&m->grid, m->options.out_pixels, m->options.n_per_feature, s.c.out, wide, dz, dy);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}
