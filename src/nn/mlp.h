/* Multilayer perceptrons with plain, gated or maxout hidden units: what their constructors (perceptrons.c), their
   passes (mlp.c) and their tangents (mlp_tangent.c) share. */
#ifndef NFI_MLP_H
#define NFI_MLP_H
#include "nn/hidden.h"

typedef enum nfi_unit_kind { NFI_PLAIN, NFI_GATED, NFI_MAXOUT } nfi_unit_kind;

/* Options of any of the three constructors. */
typedef union nfi_mlp_options {
    nf_mlp_options mlp;
    nf_maxout_options maxout;
} nfi_mlp_options;

typedef struct nfi_mlp {
    nfi_mlp_options options; /* settled; the list of hidden widths is in `width` */
    nfi_unit_kind kind;
    size_t pieces; /* products per hidden unit: 1; 2 (value and gate); the window */
    size_t n_ctx, n_layers;
    size_t n_hidden_units, widest; /* sum of the hidden widths; the widest layer, hidden or last */
    nf_activation activation, output;
    nf_initialisation init;
    double last_scale, dropout;
    size_t width[]; /* [n_layers + 1]: in, hidden widths, out */
} nfi_mlp;

/* The affine map of a layer. */
static inline nfi_dense nfi_mlp_layer(const nfi_mlp *m, size_t layer)
{
    const bool hidden = layer + 1 < m->n_layers;
    return (nfi_dense){.in = m->width[layer],
                       .n_ctx = layer ? 0 : m->n_ctx,
                       .out = m->width[layer + 1] * (hidden ? m->pieces : 1),
                       .betas = hidden ? nfi_unit_betas(m->activation) : 0};
}
/* Rows that are kept on the tape per hidden unit. */
static inline size_t nfi_mlp_kept(const nfi_mlp *m, bool drops)
{
    static const size_t kept[] = {[NFI_PLAIN] = 1, [NFI_GATED] = 3, [NFI_MAXOUT] = 2};
    return kept[m->kind] + nfi_keeps_argument(m->activation) + drops;
}

/* How many hidden units the layers before `layer` have. */
static inline size_t nfi_mlp_units_before(const nfi_mlp *m, size_t layer)
{
    size_t n = 0;
    for (size_t l = 1; l <= layer; l++)
        n += m->width[l];
    return n;
}

/* What is kept of one hidden layer, in consecutive memory. First the units h [width x ld]. Then `more`: for gated units
   value and gate [2 width x ld], for maxout units the winners' numbers [width x ld], for plain units that keep them the
   arguments [width x ld]. Last the mask [width x ld]; NULL if no units are dropped. */
typedef struct nfi_mlp_block {
    size_t width;
    nf_real *h, *more, *mask;
} nfi_mlp_block;

static inline nfi_mlp_block nfi_mlp_block_at(const nfi_mlp *m, bool drops, nf_real *at, size_t width, size_t ld)
{
    nf_real *more = at + width * ld, *mask = at + (nfi_mlp_kept(m, drops) - 1) * width * ld;
    return (nfi_mlp_block){.width = width, .h = at, .more = more, .mask = drops ? mask : NULL};
}

/* A layer in a pass: its map, where its numbers begin in theta and, of a hidden layer, what is kept of it, and its
   units if they are plain. */
typedef struct nfi_mlp_stage {
    nfi_dense d;
    size_t at;
    nfi_mlp_block b;
    nfi_hidden plain;
} nfi_mlp_stage;

/* A layer, where `saved` has the blocks of all hidden layers, one after the other. */
nfi_mlp_stage nfi_mlp_stage_of(const nfi_mlp *m, const nf_pass *p, bool drops, nf_real *saved, size_t layer);
/* The units of the last layer d; y is only read. */
static inline nfi_hidden nfi_mlp_output(const nfi_mlp *m, const nfi_dense *d, const nf_real *y)
{
    return (nfi_hidden){.f = m->output, .rows = d->out, .h = (nf_real *)y};
}

nf_status nfi_mlp_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved);
nf_status nfi_mlp_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                      const nf_real *gy, nf_real *gx, const nf_grad *g);
nf_status nfi_mlp_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                          size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
nf_status nfi_mlp_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                              size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                              const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);

#endif
