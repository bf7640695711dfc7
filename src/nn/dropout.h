/* Dropout on a tile, while training. */
#ifndef NFI_DROPOUT_H
#define NFI_DROPOUT_H
#include "base/kernel.h"
#include <nflow/net.h>

/* Whether this pass drops units. */
static inline bool nfi_drops(const nf_pass *p, double dropout)
{
    return dropout > 0 && p->mode == NF_TRAIN;
}
/* Draws a mask [rows x ld] of 0 and 1 / (1 - dropout). `layer` is the layer's number in the net; each layer has a noise
   site of its own. */
void nfi_dropout_mask(const nf_pass *p, size_t layer, double dropout, size_t rows, nf_real *mask);
/* Turns n uniform numbers into 0 where they are below `dropout`, and into `kept` elsewhere. */
NFI_KERNEL void nfi_dropout_threshold(nf_real dropout, nf_real kept, size_t n, nf_real *mask);
/* h [rows x ld] *= mask. */
void nfi_dropout_apply(size_t rows, size_t ld, const nf_real *mask, nf_real *h);
/* nfi_dropout_mask, then nfi_dropout_apply. */
void nfi_dropout(const nf_pass *p, size_t layer, double dropout, size_t rows, nf_real *mask, nf_real *h);
/* g *= mask. Also writes y [rows x ld]: where the mask is not 0, y is h as it was before the mask. */
NFI_KERNEL void nfi_dropout_vjp(double dropout, size_t rows, size_t ld, const nf_real *mask, const nf_real *h,
                                nf_real *g, nf_real *y);

#endif
