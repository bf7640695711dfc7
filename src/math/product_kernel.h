/* What the kernels of product.c and outer.c share: how large the blocks that stay in registers are, and how a matrix is
   laid out. A block is as large as the registers of an instruction set allow. They must hold the sums (R rows of V
   vectors), V vectors that have been read, and one weight. */
#ifndef NFI_PRODUCT_KERNEL_H
#define NFI_PRODUCT_KERNEL_H
#include "base/kernel.h"
#include "math/product.h"

#if NFI_VECTOR_BYTES == 64 || defined(__aarch64__)
enum { VECS = 4 }; /* 32 registers: 6 x 4 sums */
#else
enum { VECS = 2 }; /* 16 registers: 6 x 2 sums, or 4 x 2 where a product needs a register of its own (no FMA) */
#endif
enum { ROWS = 8, MOST_VECS = 4, VEC = NFI_WIDTH };
typedef nfi_vec vec;
typedef nfi_vec_in_memory vec_at;

#define LOAD(T, address) ((T) * (const T##_at *)(address))
#define STORE(T, address, value) (*(T##_at *)(address) = (value))
/* How many rows a block of V vectors has: enough sums for the processor to overlap them, and few enough for its
   registers. */
#define ROWS_OF(V) ((V) == 1 ? 8 : (V) > VECS ? 2 : NFI_VECTOR_BYTES == 16 && VECS == 2 ? 4 : 6)
#define EACH(i, count) for (size_t i = 0; i < (count); i++)

static inline size_t row_offset(const nfi_matrix *W, size_t r)
{
    return W->offset ? W->offset[r] : r * W->stride;
}

static inline size_t ld_of_result(const nfi_matrix *W, size_t ld)
{
    return W->ld_of_result ? W->ld_of_result : ld;
}

static const nfi_tap the_only_tap = {0, 0};

static inline size_t taps_of(const nfi_matrix *W)
{
    return W->tap ? W->n_taps : 1;
}
static inline nfi_tap tap_of(const nfi_matrix *W, size_t t)
{
    return W->tap ? W->tap[t] : the_only_tap;
}

static inline size_t row_length(const nfi_matrix *W, size_t r)
{
    return W->length ? W->length[r] : W->width;
}

/* The first row that has more than k columns; n_rows if there is none, 0 if the matrix is not ragged. */
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

#endif
