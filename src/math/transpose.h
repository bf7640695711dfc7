/* Transposition: from rows of samples to tiles and back, and of tiles for products that sum over samples. */
#ifndef NFI_TRANSPOSE_H
#define NFI_TRANSPOSE_H
#include "base/kernel.h"

/* out[c * ld_out + r] = in[r * ld_in + c] for r < rows, c < columns. */
NFI_KERNEL void nfi_transpose(size_t rows, size_t columns, const nf_real *in, size_t ld_in, nf_real *out,
                              size_t ld_out);

#endif
