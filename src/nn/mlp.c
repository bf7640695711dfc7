/* Multilayer perceptron: h_0 = (x, context), z_l = W_l h_(l-1) + b_l, h_l = f(z_l). Back by the chain rule:

       g_l = f'(z_l)^T gh_l,   gW_l += g_l h_(l-1)^T,   gb_l += sum g_l,   gh_(l-1) = W_l^T g_l.

   f is a plain unit (hidden.c) or a unit of several products (units.c). Training may drop units (dropout.c). The tape
   keeps one block (nfi_mlp_block) for each hidden layer, from which f' follows. */
#include "nn/mlp.h"
#include "math/rows.h"
#include "nn/dropout.h"
#include "nn/units.h"

/* A layer whose block is at `block`. */
static nfi_mlp_stage stage_at(const nfi_mlp *m, const nf_pass *p, bool drops, nf_real *block, size_t layer)
{
    nfi_mlp_stage s = {.d = nfi_mlp_layer(m, layer)};
    for (size_t l = 0; l < layer; l++) {
        const nfi_dense before = nfi_mlp_layer(m, l);
        s.at += nfi_dense_size(&before);
    }
    if (layer + 1 == m->n_layers)
        return s;
    s.b = nfi_mlp_block_at(m, drops, block, m->width[layer + 1], p->ld);
    s.plain = (nfi_hidden){.f = m->activation,
                           .rows = s.b.width,
                           .beta = s.d.betas ? p->theta + s.at + nfi_dense_beta(&s.d) : NULL,
                           .h = s.b.h,
                           .z = nfi_keeps_argument(m->activation) ? s.b.more : NULL,
                           .mask = s.b.mask,
                           .dropout = m->dropout};
    return s;
}

nfi_mlp_stage nfi_mlp_stage_of(const nfi_mlp *m, const nf_pass *p, bool drops, nf_real *saved, size_t layer)
{
    if (layer + 1 < m->n_layers)
        saved += nfi_mlp_kept(m, drops) * nfi_mlp_units_before(m, layer) * p->ld;
    return stage_at(m, p, drops, saved, layer);
}

/* Where a layer's products are written. Gated units, and plain units that keep their arguments, keep them in the block.
   Other plain units overwrite their products. Maxout units read them from `products`. */
static nf_real *products_of(const nfi_mlp *m, const nfi_mlp_block *b, nf_real *products)
{
    if (m->kind == NFI_MAXOUT)
        return products;
    return m->kind == NFI_GATED || nfi_keeps_argument(m->activation) ? b->more : b->h;
}

/* Computes the hidden units of a layer from its products z [pieces * width x ld]. */
static void units_apply(const nfi_mlp *m, const nf_pass *p, const nfi_mlp_stage *s, nf_real *z)
{
    const nfi_mlp_block *b = &s->b;
    const nf_real *bias = p->theta + s->at + nfi_dense_bias(&s->d);
    const size_t ld = p->ld;
    switch (m->kind) {
    case NFI_PLAIN:
        nfi_hidden_apply(&s->plain, ld, bias, z);
        break;
    case NFI_GATED:
        nfi_gate(b->width, ld, bias, bias + b->width, z, z + b->width * ld, false, b->h);
        break;
    case NFI_MAXOUT:
        nfi_maxout(b->width, m->pieces, ld, bias, z, b->h, b->more);
        break;
    }
}

/* Computes gz, the gradient of the products, from gh, that of the units. gh is overwritten if units are dropped. */
static void units_vjp(const nfi_mlp *m, size_t ld, const nfi_mlp_stage *s, nf_real *spare, nf_real *gh, nf_real *gz,
                      nf_real *g_bias, nf_real *g_beta)
{
    const nfi_mlp_block *b = &s->b;
    const size_t size = b->width * ld;
    if (b->mask && m->kind != NFI_PLAIN)
        nfi_multiply(size, b->mask, gh);
    switch (m->kind) {
    case NFI_PLAIN:
        nfi_hidden_vjp(&s->plain, ld, spare, gh, false, gz, g_bias, g_beta);
        break;
    case NFI_GATED:
        nfi_gate_vjp(b->width, ld, b->more, b->more + size, gh, gz, gz + size, g_bias,
                     g_bias ? g_bias + b->width : NULL);
        break;
    case NFI_MAXOUT:
        nfi_maxout_vjp(b->width, m->pieces, ld, b->more, gh, gz, g_bias);
        break;
    }
}

/* Computes all hidden layers; returns the units of the last one. `blocks` holds the block of every layer, or without a
   tape two blocks that are used by turns. products [pieces * widest x ld] is for maxout. */
static const nf_real *hidden_apply(const nfi_mlp *m, const nf_pass *p, bool drops, nf_real *blocks, nf_real *products,
                                   const nf_real *x)
{
    nf_real *turn[2] = {blocks, blocks + nfi_mlp_kept(m, drops) * m->widest * p->ld};
    for (size_t l = 0; l + 1 < m->n_layers; l++) {
        const nfi_mlp_stage s =
            p->tape ? nfi_mlp_stage_of(m, p, drops, blocks, l) : stage_at(m, p, drops, turn[l % 2], l);
        nf_real *z = products_of(m, &s.b, products);
        nfi_dense_apply(&s.d, p, p->theta + s.at, x, false, z);
        units_apply(m, p, &s, z);
        if (drops)
            nfi_dropout(p, l, m->dropout, s.b.width, s.b.mask, s.b.h);
        x = s.b.h;
    }
    return x;
}

nf_status nfi_mlp_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    const nfi_mlp *m = nf_self(o);
    const bool hidden = m->n_layers > 1, drops = nfi_drops(p, m->dropout);
    nf_mark mark = {0};
    if (hidden) {
        const size_t rows = nfi_mlp_kept(m, drops) * (p->tape ? m->n_hidden_units : 2 * m->widest);
        nf_real *blocks = nfi_keep(p, rows, p->ld, &mark), *products = NULL;
        if (m->kind == NFI_MAXOUT)
            products = nf_arena_reals(p->scratch, m->pieces * m->widest, p->ld);
        if (!blocks || (m->kind == NFI_MAXOUT && !products)) {
            nf_arena_rewind(p->scratch, mark);
            return NF_ENOMEM;
        }
        if (p->tape)
            *saved = blocks;
        x = hidden_apply(m, p, drops, blocks, products, x);
    }
    const nfi_mlp_stage last = nfi_mlp_stage_of(m, p, drops, NULL, m->n_layers - 1);
    const nf_real *w = p->theta + last.at;
    nfi_dense_apply(&last.d, p, w, x, false, y);
    nfi_activate(m->output, last.d.out, p->ld, w + nfi_dense_bias(&last.d), y);
    if (hidden)
        nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

nf_status nfi_mlp_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                      const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    const nfi_mlp *m = nf_self(o);
    const bool drops = nfi_drops(p, m->dropout);
    const size_t ld = p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gz = nf_arena_reals(p->scratch, m->pieces * m->widest, ld);
    nf_real *gh = nf_arena_reals(p->scratch, m->widest, ld);
    nf_real *spare = drops ? nf_arena_reals(p->scratch, m->widest, ld) : NULL;
    nf_real *g_beta = nfi_beta_row(p, m->activation);
    if (!gz || !gh || (drops && !spare) || (!g_beta && nfi_keeps_argument(m->activation))) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    nf_real *g_above = NULL;
    nf_status status = NF_OK;
    for (size_t l = m->n_layers; l-- > 0 && status == NF_OK;) {
        const nfi_mlp_stage s = nfi_mlp_stage_of(m, p, drops, saved, l);
        const nf_real *in = l ? nfi_mlp_stage_of(m, p, drops, saved, l - 1).b.h : x;
        nf_real *g_bias = nfi_bias_gradient(g, s.at + nfi_dense_bias(&s.d), s.d.out), *g_below = l ? gh : gx;
        if (l + 1 == m->n_layers) {
            nfi_activate_vjp(m->output, s.d.out, ld, y, gy, gz, g_bias);
        } else {
            units_vjp(m, ld, &s, spare, g_above, gz, g_bias, g_beta);
            nfi_beta_gradient(&s.plain, ld, g, s.at + nfi_dense_beta(&s.d), g_beta);
        }
        status = nfi_dense_vjp(&s.d, p, s.at, in, gz, g_below, g);
        g_above = g_below;
        if (m->kind == NFI_PLAIN) { /* the next gz overwrites gh in place */
            gh = gz;
            gz = g_below;
        }
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}
