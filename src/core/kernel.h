/* How kernels are compiled: bare loops over the samples of a tile, one copy of the code per instruction set. */
#ifndef NFI_KERNEL_H
#define NFI_KERNEL_H
#include <nflow/base.h>

/* Run-time choice of instruction set: put NFI_CLONES before the definition of a (static) function with NFI_SIMD loops.
   Bodies shared by two specialisations are NFI_INLINE, so that each clone gets its own copy. */
#if defined(__x86_64__) && defined(NFI_USE_CLONES) && defined(__clang__)
/* clang 14 accepts arch=x86-64-v4, but its resolver then always takes the default. */
#define NFI_CLONES __attribute__((target_clones("avx512dq", "avx2", "default")))
#elif defined(__x86_64__) && defined(NFI_USE_CLONES)
#define NFI_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define NFI_CLONES
#endif
#define NFI_INLINE static inline __attribute__((always_inline))

#define NFI_PRAGMA(x) _Pragma(#x)
#define NFI_SIMD NFI_PRAGMA(omp simd)
#define NFI_SIMD_SUM(...) NFI_PRAGMA(omp simd reduction(+ : __VA_ARGS__))

enum { NFI_LANES = 16 }; /* ld is a multiple of this */

/* Tells the compiler that a row stride has no remainder. */
NFI_INLINE size_t nfi_lanes(size_t ld)
{
    return ld & ~(size_t)(NFI_LANES - 1);
}

/* All lanes of a row at once, for sums: a `reduction` clause adds its lanes one after the other at the end, which for
   short rows costs more than the row. */
typedef nf_real nfi_vec __attribute__((vector_size(NFI_LANES * sizeof(nf_real))));
typedef nfi_vec nfi_vec_in_memory __attribute__((aligned(sizeof(nf_real)), may_alias));

/* The lanes at an address, to read and to write. (Vectors do not pass through functions: that would be another ABI in
   every instruction set.) */
#define NFI_LANES_AT(address) (*(nfi_vec_in_memory *)(address))
#define NFI_CONST_LANES_AT(address) ((nfi_vec) * (const nfi_vec_in_memory *)(address))

/* The sum of the lanes, by halves. */
NFI_INLINE nf_real nfi_vec_sum(const nfi_vec *v)
{
    typedef nf_real half __attribute__((vector_size(8 * sizeof(nf_real))));
    typedef nf_real quarter __attribute__((vector_size(4 * sizeof(nf_real))));
    half h = __builtin_shufflevector(*v, *v, 0, 1, 2, 3, 4, 5, 6, 7) +
             __builtin_shufflevector(*v, *v, 8, 9, 10, 11, 12, 13, 14, 15);
    quarter q = __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
    return (q[0] + q[2]) + (q[1] + q[3]);
}

#endif
