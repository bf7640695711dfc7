/* What the kernels of product.c and outer.c share: vectors of 64 bytes, blocks of rows that stay in registers, and how
   a matrix is laid out. */
#ifndef NFI_PRODUCT_KERNEL_H
#define NFI_PRODUCT_KERNEL_H
#include "core/kernel.h"
#include "core/product.h"

enum { ROWS = 6, VECS = 4, VEC = 64 / sizeof(nf_real) };
typedef nf_real vec __attribute__((vector_size(64)));
typedef vec vec_at __attribute__((aligned(sizeof(nf_real)), may_alias));

#define LOAD(T, address) ((T) * (const T##_at *)(address))
#define STORE(T, address, value) (*(T##_at *)(address) = (value))
#define EACH(i, count) for (size_t i = 0; i < (count); i++)

static inline size_t row_offset(const nfi_matrix *W, size_t r)
{
    return W->offset ? W->offset[r] : r * W->stride;
}

static inline size_t row_length(const nfi_matrix *W, size_t r)
{
    return W->length ? W->length[r] : W->width;
}

/* The first row with more than k columns; n_rows if there is none. */
static inline size_t first_longer(const nfi_matrix *W, size_t k)
{
    size_t low = 0, high = W->length ? W->n_rows : 0;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (W->length[middle] > k)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Vectors of columns that a block may have. */
static inline size_t most_vectors(void)
{
#ifdef __x86_64__
    return __builtin_cpu_supports("avx512f") ? VECS : 1;
#else
    return VECS;
#endif
}

#endif
