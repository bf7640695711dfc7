/* Kernels for tangents: k directions at once. A tile of directions has the same features as the tile that it displaces,
   but each feature is k ld long: direction j of sample s in feature r stands at [(r k + j) ld + s]. So a product with
   weights is one product of k ld columns, and a factor that belongs to a unit and a sample is used k times in a row.
   The pixels of a channel lie alike, so that these kernels serve what a context does to all pixels of a channel. */
#ifndef NFI_DIRECTIONS_H
#define NFI_DIRECTIONS_H
#include "base/kernel.h"
#include <nflow/net.h>

/* out = factor in, or out += factor in if `add`. factor [rows x ld], in and out [rows x k ld]. out may be in. */
NFI_KERNEL void nfi_scale_directions(size_t rows, size_t k, size_t ld, const nf_real *factor, const nf_real *in,
                                     bool add, nf_real *out);
/* sums [rows x ld] = the sum over the directions of a b; a and b [rows x k ld]. */
NFI_KERNEL void nfi_dot_directions(size_t rows, size_t k, size_t ld, const nf_real *a, const nf_real *b, nf_real *sums);
/* out += in, the same for every direction. in [rows x ld], out [rows x k ld]. */
NFI_KERNEL void nfi_add_to_directions(size_t rows, size_t k, size_t ld, const nf_real *in, nf_real *out);
/* sums [rows x ld] = the sum over the directions of a [rows x k ld]. */
NFI_KERNEL void nfi_sum_directions(size_t rows, size_t k, size_t ld, const nf_real *a, nf_real *sums);
/* out = a x + b y, or out += a x + b y if `add`, number by number [n]. out may be x or y. */
NFI_KERNEL void nfi_add_products(size_t n, const nf_real *a, const nf_real *x, const nf_real *b, const nf_real *y,
                                 bool add, nf_real *out);

/* A pass in which the k directions are one wide tile, for products. Its padding is computed like everything else. */
static inline nf_pass nfi_wide_pass(const nf_pass *p, size_t k)
{
    nf_pass wide = *p;
    wide.n = wide.ld = k * p->ld;
    return wide;
}

#endif
