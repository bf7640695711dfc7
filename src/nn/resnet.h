/* Residual nets: what their structure (residual_mlp.c) and their passes (resnet.c) share. */
#ifndef NFI_RESNET_H
#define NFI_RESNET_H
#include "nn/dense.h"

typedef struct nfi_resnet {
    nfi_dense initial, context, block, final; /* context: of each block; block: W1 and W2, [width x width] */
    size_t n_blocks, block_size;              /* a block's numbers: Wc, bc if there is context, W1, b1, W2, b2 */
    nf_activation activation;
    nf_initialisation init;
    double block_scale, last_scale, dropout;
} nfi_resnet;

/* Rows [ld] that a block keeps on the tape. */
static inline size_t nfi_resnet_kept(const nfi_resnet *r, bool drops)
{
    const size_t arrays = (r->context.n_ctx ? 4u : 2u) + (drops ? 1u : 0u);
    return arrays * r->block.out;
}

nf_status nfi_resnet_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved);
nf_status nfi_resnet_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         const nf_real *gy, nf_real *gx, const nf_grad *g);

#endif
