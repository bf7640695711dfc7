/* How kernels are written: they are bare loops over the samples of a tile, in files that are compiled once for each
   instruction set (docs/design.md, "Instruction sets"). */
#ifndef NFI_KERNEL_H
#define NFI_KERNEL_H
#include <nflow/base.h>

/* Marks the declaration of a kernel in a header. The file that defines the kernel is compiled once for each instruction
   set. A caller outside the kernels gets the copy for the set in use (base/instruction_set.h); a kernel calls the
   kernels of its own set. scripts/kernel-table finds kernels by this word. */
#define NFI_KERNEL

/* For a function body that two specialisations share: NFI_INLINE gives each of them its own copy. */
#define NFI_INLINE static inline __attribute__((always_inline))
#define NFI_PRAGMA(x) _Pragma(#x)
/* Marks a loop for the compiler to vectorise: no turn of the loop depends on another one. The compiler vectorises no
   other loop of a kernel file (meson.build says why). Sums over samples use nfi_row_sum. */
#define NFI_SIMD NFI_PRAGMA(omp simd)

/* The width of this instruction set's registers in bytes. No vector type is wider: gcc would take a wider one apart
   through memory. */
#if defined(__AVX512F__)
#define NFI_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define NFI_VECTOR_BYTES 32
#else
#define NFI_VECTOR_BYTES 16
#endif

enum {
    NFI_LANES = 16,                                 /* ld is a multiple of this, in every instruction set */
    NFI_WIDTH = NFI_VECTOR_BYTES / sizeof(nf_real), /* numbers in a vector */
    NFI_PARTS = 64 / NFI_VECTOR_BYTES,              /* vectors in 64 bytes */
    NFI_SUMS = 64 / sizeof(nf_real)                 /* numbers in 64 bytes: the lanes of a sum, in every set */
};

/* Rounds ld down to a multiple of NFI_LANES. Since ld is such a multiple already, the value stays; the compiler learns
   that no remainder is left. */
NFI_INLINE size_t nfi_lanes(size_t ld)
{
    return ld & ~(size_t)(NFI_LANES - 1);
}

/* A register full of numbers. Vectors are passed only to functions that are inlined: other calls would pass them by a
   different ABI in each instruction set. */
typedef nf_real nfi_vec __attribute__((vector_size(NFI_VECTOR_BYTES)));
typedef nfi_vec nfi_vec_in_memory __attribute__((aligned(sizeof(nf_real)), may_alias));

/* The vector at an address, to read and to write. */
#define NFI_VEC_AT(address) (*(nfi_vec_in_memory *)(address))
#define NFI_CONST_VEC_AT(address) ((nfi_vec) * (const nfi_vec_in_memory *)(address))

/* ---- sums over samples: one order in every instruction set ---- */

/* NFI_SUMS running sums: sample s is added to lane s % NFI_SUMS. nfi_wide_sum adds the lanes up by halves. A
   `reduction` clause would use as many lanes as a register has, so its result would depend on the processor. */
typedef struct nfi_wide {
    nfi_vec part[NFI_PARTS];
} nfi_wide;

#if NFI_VECTOR_BYTES == 64 && defined(NF_SINGLE)
#define NFI_SWAP_HALVES(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define NFI_SWAP_QUARTERS(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#elif NFI_VECTOR_BYTES == 64
#define NFI_SWAP_HALVES(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
#define NFI_SWAP_QUARTERS(v) __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
#elif NFI_VECTOR_BYTES == 32 && defined(NF_SINGLE)
#define NFI_SWAP_QUARTERS(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
#elif NFI_VECTOR_BYTES == 32
#define NFI_SWAP_QUARTERS(v) __builtin_shufflevector(v, v, 2, 3, 0, 1)
#endif

NFI_INLINE nf_real nfi_wide_sum(const nfi_wide *w)
{
#if NFI_VECTOR_BYTES == 16
    nfi_vec v = (w->part[0] + w->part[2]) + (w->part[1] + w->part[3]);
#elif NFI_VECTOR_BYTES == 32
    nfi_vec v = w->part[0] + w->part[1];
#else
    nfi_vec v = w->part[0];
    v += NFI_SWAP_HALVES(v);
#endif
#if NFI_VECTOR_BYTES > 16
    v += NFI_SWAP_QUARTERS(v);
#endif
#ifdef NF_SINGLE
    return (v[0] + v[2]) + (v[1] + v[3]);
#else
    return v[0] + v[1];
#endif
}

/* The sum of n numbers. n must be a multiple of NFI_SUMS, as a tile's ld is. */
NFI_INLINE nf_real nfi_row_sum(size_t n, const nf_real *x)
{
    nfi_wide sum = {0};
    for (size_t s = 0; s < n; s += NFI_SUMS)
        for (size_t v = 0; v < NFI_PARTS; v++)
            sum.part[v] += NFI_CONST_VEC_AT(x + s + v * NFI_WIDTH);
    return nfi_wide_sum(&sum);
}

/* The sum of the products of two rows of n numbers, for any n. The numbers after the last whole 64 bytes are added one
   by one. */
NFI_INLINE nf_real nfi_dot(size_t n, const nf_real *x, const nf_real *y)
{
    const size_t whole = n - n % NFI_SUMS;
    nfi_wide sum = {0};
    for (size_t s = 0; s < whole; s += NFI_SUMS)
        for (size_t v = 0; v < NFI_PARTS; v++)
            sum.part[v] += NFI_CONST_VEC_AT(x + s + v * NFI_WIDTH) * NFI_CONST_VEC_AT(y + s + v * NFI_WIDTH);
    nf_real total = whole ? nfi_wide_sum(&sum) : 0;
    for (size_t s = whole; s < n; s++)
        total += x[s] * y[s];
    return total;
}

#endif
