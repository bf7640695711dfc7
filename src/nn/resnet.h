/* Residual nets: what their structure (residual_mlp.c), their passes (resnet.c) and their tangents (resnet_tangent.c)
   share. */
#ifndef NFI_RESNET_H
#define NFI_RESNET_H
#include "nn/hidden.h"

typedef struct nfi_resnet {
    nf_residual_mlp_options options;          /* settled */
    nfi_dense initial, context, block, final; /* context: that of each block; block: W1 and W2, [width x width] */
    size_t n_blocks, block_size;              /* a block's numbers: Wc, bc if there is context, W1, b1, W2, b2; with a
                                                 parameter of the units that W1 and W2 read, if they have one, after b1
                                                 and after b2 */
    nf_activation activation;
    double dropout;
} nfi_resnet;

/* Rows [ld] that are kept on the tape for each block. */
static inline size_t nfi_resnet_kept(const nfi_resnet *r, bool drops)
{
    const size_t arrays =
        (r->context.n_ctx ? 4u : 2u) + (nfi_keeps_argument(r->activation) ? 2u : 0u) + (drops ? 1u : 0u);
    return arrays * r->block.out;
}

/* Where a block's layers and their biases begin in theta, and where the parameters of the units are that these layers
   read. */
typedef struct nfi_resnet_places {
    size_t context, first, second, bias_c, bias_1, bias_2, beta_1, beta_2;
} nfi_resnet_places;
nfi_resnet_places nfi_resnet_places_of(const nfi_resnet *r, size_t block);

/* One block on the tape, arrays [width x ld]: a = f(h) and u; with context also t and the gate. */
typedef struct nfi_resnet_block {
    nfi_hidden a, u;
    nf_real *t, *gate, *mask; /* mask: NULL if nothing is dropped */
} nfi_resnet_block;
/* Block number `block`. The blocks stand behind h [width x ld], block after block at slots 0, 1, 2 ... If nothing is
   kept, all blocks use slot 0. */
nfi_resnet_block nfi_resnet_block_at(const nfi_resnet *r, const nf_pass *p, bool drops, nf_real *h, size_t block,
                                     size_t slot);

nf_status nfi_resnet_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved);
nf_status nfi_resnet_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         const nf_real *gy, nf_real *gx, const nf_grad *g);
nf_status nfi_resnet_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
nf_status nfi_resnet_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                 size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                 const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);

#endif
