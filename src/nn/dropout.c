/* Dropout (Srivastava et al. 2014, sec. 4), inverted, so that evaluation needs no change:

       h -> m h,   m = 0 with probability p, else 1 / (1 - p);   E m = 1.

   The mask is noise with a name (step, sample, site), so a repeated pass draws the same mask again. Between forward and
   backward the mask is kept. */
#include "nn/dropout.h"
#include "math/rows.h"

void nfi_dropout_mask(const nf_pass *p, size_t layer, double dropout, size_t rows, nf_real *mask)
{
    nf_noise noise = p->noise;
    noise.site += (uint32_t)layer;
    nf_noise_uniform(&noise, rows, p->n, p->ld, mask);
    nfi_dropout_threshold((nf_real)dropout, (nf_real)(1 / (1 - dropout)), rows * p->ld, mask);
}

void nfi_dropout_apply(size_t rows, size_t ld, const nf_real *mask, nf_real *h)
{
    nfi_multiply(rows * ld, mask, h);
}

void nfi_dropout(const nf_pass *p, size_t layer, double dropout, size_t rows, nf_real *mask, nf_real *h)
{
    nfi_dropout_mask(p, layer, dropout, rows, mask);
    nfi_dropout_apply(rows, p->ld, mask, h);
}
