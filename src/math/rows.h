/* Kernels on rows of numbers that several parts of the library need. An array [rows x ld] is that of a tile; n may be
   any number. */
#ifndef NFI_ROWS_H
#define NFI_ROWS_H
#include "base/kernel.h"

/* y += a x */
NFI_KERNEL void nfi_add_scaled(size_t n, nf_real a, const nf_real *x, nf_real *y);
/* y = x + a d; y may be x. */
NFI_KERNEL void nfi_move(size_t n, nf_real a, const nf_real *x, const nf_real *d, nf_real *y);
/* x *= factor, number by number. */
NFI_KERNEL void nfi_multiply(size_t n, const nf_real *factor, nf_real *x);
/* y = x clipped to [-most, most]; NaN stays. */
NFI_KERNEL void nfi_clip(size_t n, nf_real most, const nf_real *x, nf_real *y);
/* g[r] += sign * the sum of row r. */
NFI_KERNEL void nfi_add_row_sums(size_t rows, size_t ld, nf_real sign, const nf_real *x, nf_real *g);
/* y = x + sign b[r] in row r; y may be x. */
NFI_KERNEL void nfi_add_to_rows(size_t rows, size_t ld, nf_real sign, const nf_real *b, const nf_real *x, nf_real *y);
/* x *= scale; returns the sum of the squares. */
NFI_KERNEL double nfi_scale_and_square(size_t n, nf_real scale, nf_real *x);
/* Sets mark[s] [ld] to NaN for each column s of x that has a NaN; leaves mark[s] as it is for the other columns. */
NFI_KERNEL void nfi_mark_nan(size_t rows, size_t ld, const nf_real *x, nf_real *mark);
/* The same for each column s that has a number that is not finite. mark [ld] must hold finite numbers at first. */
NFI_KERNEL void nfi_mark_not_finite(size_t rows, size_t ld, const nf_real *x, nf_real *mark);

#endif
