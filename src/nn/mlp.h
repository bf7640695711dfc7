/* Multilayer perceptrons with plain, gated or maxout hidden units: what their constructors (perceptrons.c) and their
   passes (mlp.c) share. */
#ifndef NFI_MLP_H
#define NFI_MLP_H
#include "nn/dense.h"

typedef enum nfi_unit_kind { NFI_PLAIN, NFI_GATED, NFI_MAXOUT } nfi_unit_kind;

typedef struct nfi_mlp {
    nfi_unit_kind kind;
    size_t pieces; /* products a hidden unit: 1; 2, value and gate; the window */
    size_t n_ctx, n_layers;
    size_t n_hidden_units, widest; /* sum of hidden widths; the widest layer, hidden or last */
    nf_activation activation, output;
    nf_initialisation init;
    double last_scale, dropout;
    size_t width[]; /* [n_layers + 1]: in, hidden widths, out */
} nfi_mlp;

/* The affine map of a layer. */
static inline nfi_dense nfi_mlp_layer(const nfi_mlp *m, size_t layer)
{
    return (nfi_dense){.in = m->width[layer],
                       .n_ctx = layer ? 0 : m->n_ctx,
                       .out = m->width[layer + 1] * (layer + 1 < m->n_layers ? m->pieces : 1)};
}
/* Rows kept on the tape for each hidden unit. */
static inline size_t nfi_mlp_kept(const nfi_mlp *m, bool drops)
{
    static const size_t kept[] = {[NFI_PLAIN] = 1, [NFI_GATED] = 3, [NFI_MAXOUT] = 2};
    return kept[m->kind] + drops;
}

nf_status nfi_mlp_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved);
nf_status nfi_mlp_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                      const nf_real *gy, nf_real *gx, const nf_grad *g);

#endif
