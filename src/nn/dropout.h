/* Dropout on a tile, while training. */
#ifndef NFI_DROPOUT_H
#define NFI_DROPOUT_H
#include "core/kernel.h"
#include <nflow/net.h>

/* Whether units are dropped in this pass. */
static inline bool nfi_drops(const nf_pass *p, double dropout)
{
    return dropout > 0 && p->mode == NF_TRAIN;
}
/* Draws a mask [rows x ld], of 0 and 1 / (1 - dropout): the net's layer numbers its noise sites. */
void nfi_dropout_mask(const nf_pass *p, size_t layer, double dropout, size_t rows, nf_real *mask);
/* n uniform numbers become 0 where they are below `dropout`, else `kept`. */
NFI_KERNEL void nfi_dropout_threshold(nf_real dropout, nf_real kept, size_t n, nf_real *mask);
/* h [rows x ld] *= mask. */
void nfi_dropout_apply(size_t rows, size_t ld, const nf_real *mask, nf_real *h);
/* Both. */
void nfi_dropout(const nf_pass *p, size_t layer, double dropout, size_t rows, nf_real *mask, nf_real *h);
/* g *= mask. y [rows x ld], written: h before it was multiplied, where the mask is not 0. */
NFI_KERNEL void nfi_dropout_vjp(double dropout, size_t rows, size_t ld, const nf_real *mask, const nf_real *h,
                                nf_real *g, nf_real *y);

#endif
