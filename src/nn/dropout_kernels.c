/* The loops of dropout: see dropout.c. */
#include "nn/dropout.h"

void nfi_dropout_threshold(nf_real dropout, nf_real kept, size_t n, nf_real *mask)
{
    n = nfi_lanes(n);
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        mask[i] = mask[i] < dropout ? 0 : kept;
}

void nfi_dropout_vjp(double dropout, size_t rows, size_t ld, const nf_real *mask, const nf_real *h, nf_real *g,
                     nf_real *y)
{
    const nf_real keep = (nf_real)(1 - dropout);
    const size_t n = nfi_lanes(rows * ld);
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        g[i] *= mask[i];
        y[i] = keep * h[i];
    }
}
