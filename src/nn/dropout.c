/* Dropout (Srivastava et al. 2014, sec. 4), inverted so that evaluation needs no change:

       h -> m h,   m = 0 with probability p, else 1 / (1 - p);   E m = 1.

   The mask is noise with a name (step, sample, site), so that a repeated pass draws it again; between forward and
   backward it is kept. */
#include "nn/dropout.h"
#include "core/kernel.h"

NFI_CLONES static void compare(nf_real p, nf_real kept, size_t n, nf_real *mask)
{
    n = nfi_lanes(n);
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        mask[i] = mask[i] < p ? 0 : kept;
}

void nfi_dropout_mask(const nf_pass *p, size_t layer, double dropout, size_t rows, nf_real *mask)
{
    nf_noise noise = p->noise;
    noise.site += (uint32_t)layer;
    nf_noise_uniform(&noise, rows, p->n, p->ld, mask);
    compare((nf_real)dropout, (nf_real)(1 / (1 - dropout)), rows * p->ld, mask);
}

NFI_CLONES static void drop(size_t n, const nf_real *mask, nf_real *h)
{
    n = nfi_lanes(n);
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        h[i] *= mask[i];
}

void nfi_dropout_apply(size_t rows, size_t ld, const nf_real *mask, nf_real *h)
{
    drop(rows * ld, mask, h);
}

void nfi_dropout(const nf_pass *p, size_t layer, double dropout, size_t rows, nf_real *mask, nf_real *h)
{
    nfi_dropout_mask(p, layer, dropout, rows, mask);
    nfi_dropout_apply(rows, p->ld, mask, h);
}

NFI_CLONES static void drop_backward(nf_real keep, size_t n, const nf_real *mask, const nf_real *h, nf_real *g,
                                     nf_real *y)
{
    n = nfi_lanes(n);
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        g[i] *= mask[i];
        y[i] = keep * h[i];
    }
}

void nfi_dropout_vjp(double dropout, size_t rows, size_t ld, const nf_real *mask, const nf_real *h, nf_real *g,
                     nf_real *y)
{
    drop_backward((nf_real)(1 - dropout), rows * ld, mask, h, g, y);
}
