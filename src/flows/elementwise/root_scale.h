/* A scale e^s as the square of e^(s/2). x e^s is computed as (x e^(s/2)) e^(s/2), so that no factor overflows or
   vanishes if the product does not. */
#ifndef NFI_ROOT_SCALE_H
#define NFI_ROOT_SCALE_H
#include "math/vec.h"

#ifdef NF_SINGLE
#define NFI_MOST_HALF_LOG NF_R(86.9) /* e^this and e^-this are normal numbers, not flushed to 0 */
#else
#define NFI_MOST_HALF_LOG 708
#endif

/* e^(s/2) */
NFI_INLINE nf_real nfi_root_scale(nf_real s)
{
    const nf_real half = NF_R(0.5) * s, least = half < -NFI_MOST_HALF_LOG ? -NFI_MOST_HALF_LOG : half;
    return nfi_exp(least > NFI_MOST_HALF_LOG ? NFI_MOST_HALF_LOG : least);
}

/* root[i] = e^(sign s[i] / 2) */
NFI_INLINE void nfi_root_scales(size_t count, nf_real sign, const nf_real *restrict s, nf_real *restrict root)
{
    NFI_SIMD
    for (size_t i = 0; i < count; i++)
        root[i] = nfi_root_scale(sign * s[i]);
}

#endif
