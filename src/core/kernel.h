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

#endif
