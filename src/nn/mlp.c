/* Multilayer perceptron: h_0 = (x, context), z_l = W_l h_(l-1) + b_l, h_l = f(z_l). Back by the chain rule:

       g_l = f'(z_l)^T gh_l,   gW_l += g_l h_(l-1)^T,   gb_l += sum g_l,   gh_(l-1) = W_l^T g_l.

   f is a plain unit (hidden.c) or a unit of several products (units.c). Training may drop units (dropout.c). The tape
   keeps one block (nfi_mlp_block) for each hidden layer, from which f' follows. */
#include "nn/mlp.h"
#include "math/rows.h"
#include "nn/dropout.h"
#include "nn/units.h"

/* Where a layer's products are written. Gated units, and plain units that keep their arguments, keep them in the block.
   Other plain units overwrite their products. Maxout units read them from `products`. */
static nf_real *products_of(const nfi_mlp *m, const nfi_mlp_block *b, nf_real *products)
{
    if (m->kind == NFI_MAXOUT)
        return products;
    return m->kind == NFI_GATED || nfi_keeps_argument(m->activation) ? b->more : b->h;
}

/* Computes the hidden units of the layer d, whose numbers begin at w, from the layer's products z
   [pieces * width x ld]. */
static void units_apply(const nfi_mlp *m, size_t ld, const nfi_dense *d, const nf_real *w, nf_real *z,
                        const nfi_mlp_block *b)
{
    const nf_real *bias = w + nfi_dense_bias(d);
    const nfi_hidden plain = nfi_mlp_units(m, b, d, w);
    switch (m->kind) {
    case NFI_PLAIN:
        nfi_hidden_apply(&plain, ld, bias, z);
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
static void units_vjp(const nfi_mlp *m, size_t ld, const nfi_mlp_block *b, const nfi_hidden *plain, nf_real *spare,
                      nf_real *gh, nf_real *gz, nf_real *g_bias, nf_real *g_beta)
{
    const size_t size = b->width * ld;
    if (b->mask && m->kind != NFI_PLAIN)
        nfi_multiply(size, b->mask, gh);
    switch (m->kind) {
    case NFI_PLAIN:
        nfi_hidden_vjp(plain, ld, spare, gh, false, gz, g_bias, g_beta);
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

/* Computes all hidden layers; returns the units of the last one. `at` holds the block of every layer, or without a tape
   two blocks that are used by turns. products [pieces * widest x ld] is for maxout. *w moves on to the last layer's
   numbers. */
static const nf_real *hidden_apply(const nfi_mlp *m, const nf_pass *p, bool drops, nf_real *at, nf_real *products,
                                   const nf_real *x, const nf_real **w)
{
    const size_t kept = nfi_mlp_kept(m, drops);
    for (size_t l = 0, row = 0; l + 1 < m->n_layers; l++) {
        const nfi_dense d = nfi_mlp_layer(m, l);
        const nfi_mlp_block b = nfi_mlp_block_at(m, drops, at + row * p->ld, m->width[l + 1], p->ld);
        nf_real *z = products_of(m, &b, products);
        nfi_dense_apply(&d, p, *w, x, false, z);
        units_apply(m, p->ld, &d, *w, z, &b);
        if (drops)
            nfi_dropout(p, l, m->dropout, b.width, b.mask, b.h);
        x = b.h;
        row = p->tape ? row + kept * b.width : kept * m->widest - row;
        *w += nfi_dense_size(&d);
    }
    return x;
}

nf_status nfi_mlp_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    const nfi_mlp *m = nf_self(o);
    const bool hidden = m->n_layers > 1, drops = nfi_drops(p, m->dropout);
    const nf_real *w = p->theta, *h = x;
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
        h = hidden_apply(m, p, drops, blocks, products, x, &w);
    }
    const nfi_dense last = nfi_mlp_layer(m, m->n_layers - 1);
    nfi_dense_apply(&last, p, w, h, false, y);
    nfi_activate(m->output, last.out, p->ld, w + nfi_dense_bias(&last), y);
    if (hidden)
        nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

nf_status nfi_mlp_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                      const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    const nfi_mlp *m = nf_self(o);
    const bool drops = nfi_drops(p, m->dropout);
    const size_t ld = p->ld, kept = nfi_mlp_kept(m, drops);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gz = nf_arena_reals(p->scratch, m->pieces * m->widest, ld);
    nf_real *gh = nf_arena_reals(p->scratch, m->widest, ld);
    nf_real *spare = drops ? nf_arena_reals(p->scratch, m->widest, ld) : NULL;
    nf_real *g_beta = nfi_beta_row(p, m->activation);
    if (!gz || !gh || (drops && !spare) || (!g_beta && nfi_keeps_argument(m->activation))) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    nf_real *at = saved, *g_above = NULL;
    if (at)
        at += kept * m->n_hidden_units * ld; /* the end of the blocks; a single layer has none */
    size_t first = nf_object_shape(o)->n_params;
    nfi_mlp_block above = {0}, below = {0};
    nf_status status = NF_OK;
    for (size_t l = m->n_layers; l-- > 0 && status == NF_OK;) {
        const nfi_dense d = nfi_mlp_layer(m, l);
        first -= nfi_dense_size(&d);
        nf_real *g_bias = nfi_bias_gradient(g, first + nfi_dense_bias(&d), d.out);
        if (l)
            below = nfi_mlp_block_at(m, drops, at -= kept * d.in * ld, d.in, ld);
        nf_real *g_below = l ? gh : gx;
        if (l + 1 == m->n_layers) {
            nfi_activate_vjp(m->output, d.out, ld, y, gy, gz, g_bias);
        } else {
            const nfi_hidden plain = nfi_mlp_units(m, &above, &d, p->theta + first);
            units_vjp(m, ld, &above, &plain, spare, g_above, gz, g_bias, g_beta);
            nfi_beta_gradient(&plain, ld, g, first + nfi_dense_beta(&d), g_beta);
        }
        status = nfi_dense_vjp(&d, p, first, l ? below.h : x, gz, g_below, g);
        above = below;
        g_above = g_below;
        if (m->kind == NFI_PLAIN) { /* the next gz overwrites gh in place */
            gh = gz;
            gz = g_below;
        }
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}
