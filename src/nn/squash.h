/* Nets whose layers are gated by the time (concatsquash): what the object (squash_mlp.c) and the passes (squash.c)
   share. */
#ifndef NFI_SQUASH_H
#define NFI_SQUASH_H
#include "nn/hidden.h"

typedef struct nfi_squash {
    nf_mlp_options options; /* settled; the list of hidden widths is in `width` */
    size_t n_ctx, n_layers, n_hidden_units, widest;
    size_t width[]; /* [n_layers + 1]: features of x without the time, hidden widths, out */
} nfi_squash;

/* A layer's three affine maps, whose numbers follow each other: W h + b, the gate's argument and the shift. Time and
   context are features of the last two; the shift has no bias. */
typedef struct nfi_squash_layer {
    nfi_dense value, gate, shift;
    size_t at, gate_at, shift_at, end; /* where they begin, and where the next layer does */
} nfi_squash_layer;

static inline size_t nfi_squash_shift_size(const nfi_dense *d)
{
    return nfi_dense_bias(d);
}
/* Layer number `layer`, whose numbers begin at `at`. */
static inline nfi_squash_layer nfi_squash_layer_at(const nfi_squash *m, size_t layer, size_t at)
{
    const size_t out = m->width[layer + 1];
    nfi_squash_layer l = {.value = {.in = m->width[layer], .out = out},
                          .gate = {.in = 1, .n_ctx = m->n_ctx, .out = out},
                          .shift = {.in = 1, .n_ctx = m->n_ctx, .out = out},
                          .at = at};
    l.gate_at = l.at + nfi_dense_size(&l.value);
    l.shift_at = l.gate_at + nfi_dense_size(&l.gate);
    l.end = l.shift_at + nfi_squash_shift_size(&l.shift);
    if (layer + 1 < m->n_layers)
        l.end += nfi_unit_betas(m->options.activation); /* after the shift */
    return l;
}
/* The units of a layer. */
static inline nf_activation nfi_squash_unit(const nfi_squash *m, size_t layer)
{
    return layer + 1 < m->n_layers ? m->options.activation : m->options.output;
}

nf_status nfi_squash_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved);
nf_status nfi_squash_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         const nf_real *gy, nf_real *gx, const nf_grad *g);
nf_status nfi_squash_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
nf_status nfi_squash_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                 size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                 const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);

#endif
