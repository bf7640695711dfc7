/* Multilayer perceptron: h_0 = (x, context), z_l = W_l h_(l-1) + b_l, h_l = f(z_l); and back by the chain rule:

       g_l = f'(z_l)^T gh_l,   gW_l += g_l h_(l-1)^T,   gb_l += sum g_l,   gh_(l-1) = W_l^T g_l.

   f is a plain unit (activation.c), or one of several products (units.c); training may drop units (dropout.c). Kept on
   the tape, a block a hidden layer: the units h [width x ld]; value and gate [2 width x ld] if gated, the winners'
   numbers [width x ld] of maxout; the mask [width x ld] if units are dropped. f' follows from these. */
#include "nn/mlp.h"
#include "nn/activation.h"
#include "nn/dropout.h"
#include "nn/units.h"

/* One hidden layer's block. */
typedef struct block {
    size_t width;
    nf_real *h, *more, *mask;
} block;

static block block_at(const nfi_mlp *m, bool drops, nf_real *at, size_t width, size_t ld)
{
    return (block){
        .width = width, .h = at, .more = at + width * ld, .mask = at + (nfi_mlp_kept(m, drops) - 1) * width * ld};
}

/* Hidden units from products z [pieces * width x ld], which stand in b->h if they are plain, in b->more if gated. */
static void units_apply(const nfi_mlp *m, size_t ld, const nf_real *bias, nf_real *z, const block *b)
{
    switch (m->kind) {
    case NFI_PLAIN:
        nfi_activate(m->activation, b->width, ld, bias, z);
        break;
    case NFI_GATED:
        nfi_gate(b->width, ld, bias, bias + b->width, z, z + b->width * ld, false, b->h);
        break;
    case NFI_MAXOUT:
        nfi_maxout(b->width, m->pieces, ld, bias, z, b->h, b->more);
        break;
    }
}

/* gz, the products' gradient, from the units'. h: the units before some were dropped. */
static void units_vjp(const nfi_mlp *m, size_t ld, const block *b, const nf_real *h, const nf_real *gh, nf_real *gz,
                      nf_real *g_bias)
{
    const size_t size = b->width * ld;
    switch (m->kind) {
    case NFI_PLAIN:
        nfi_activate_vjp(m->activation, b->width, ld, h, gh, gz, g_bias);
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

/* All hidden layers, up to the last's units, which it returns. `at`: every layer's block, or without a tape two by
   turns; products: [pieces * widest x ld] for maxout; *w moves on to the last layer. */
static const nf_real *hidden_apply(const nfi_mlp *m, const nf_pass *p, bool drops, nf_real *at, nf_real *products,
                                   const nf_real *x, const nf_real **w)
{
    const size_t kept = nfi_mlp_kept(m, drops);
    for (size_t l = 0, row = 0; l + 1 < m->n_layers; l++) {
        const nfi_dense d = nfi_mlp_layer(m, l);
        const block b = block_at(m, drops, at + row * p->ld, m->width[l + 1], p->ld);
        nf_real *z = m->kind == NFI_PLAIN ? b.h : m->kind == NFI_GATED ? b.more : products;
        nfi_dense_apply(&d, p, *w, x, false, z);
        units_apply(m, p->ld, *w + nfi_dense_bias(&d), z, &b);
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
        mark = nf_arena_mark(p->scratch);
        nf_real *blocks = nf_arena_reals(p->tape ? p->tape : p->scratch, rows, p->ld), *products = NULL;
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
    nf_real *undropped = drops ? nf_arena_reals(p->scratch, m->widest, ld) : NULL;
    if (!gz || !gh || (drops && !undropped)) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    nf_real *at = saved, *g_above = NULL;
    if (at)
        at += kept * m->n_hidden_units * ld; /* the end; a single layer keeps nothing */
    size_t first = nf_object_shape(o)->n_params;
    block above = {0}, below = {0};
    nf_status status = NF_OK;
    for (size_t l = m->n_layers; l-- > 0 && status == NF_OK;) {
        const nfi_dense d = nfi_mlp_layer(m, l);
        first -= nfi_dense_size(&d);
        nf_real *g_bias = nfi_bias_gradient(g, first + nfi_dense_bias(&d), d.out);
        if (l)
            below = block_at(m, drops, at -= kept * d.in * ld, d.in, ld);
        nf_real *g_below = l ? gh : gx;
        if (l + 1 == m->n_layers) {
            nfi_activate_vjp(m->output, d.out, ld, y, gy, gz, g_bias);
        } else {
            if (drops)
                nfi_dropout_vjp(m->dropout, above.width, ld, above.mask, above.h, g_above, undropped);
            units_vjp(m, ld, &above, drops ? undropped : above.h, g_above, gz, g_bias);
        }
        status = nfi_dense_vjp(&d, p, first, l ? below.h : x, gz, g_below, g);
        above = below;
        g_above = g_below;
        if (m->kind == NFI_PLAIN) { /* the next gz replaces gh in place */
            gh = gz;
            gz = g_below;
        }
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}
