/* Elementary functions in float: constants and polynomials. See vec.h. */
#ifndef NFI_VEC_FLOAT_H
#define NFI_VEC_FLOAT_H
#include "base/kernel.h"
#include <math.h>
#include <string.h>

#define NFI_LN2_HI_F 0x1.63p-1F
#define NFI_LN2_LO_F -0x1.bd0106p-13F
#define NFI_ROOT_HALF_F UINT32_C(0x3f3504f3)
#define NFI_ONE_F UINT32_C(0x3f800000)

NFI_INLINE float nfi_sqrt_f(float x)
{
    return sqrtf(x);
}

NFI_INLINE float nfi_abs_f(float x)
{
    return fabsf(x);
}

NFI_INLINE float nfi_sign_f(float x, float from)
{
    return copysignf(x, from);
}

NFI_INLINE uint32_t nfi_bits_f(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

NFI_INLINE float nfi_from_bits_f(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* As nfi_exp_parts_d; x must be in [-87.6, 89] or NaN. */
NFI_INLINE float nfi_exp_parts_f(float x, float *half, float *rest)
{
    const float magic = 0x1.8p23F + 126;
    float t = x * 0x1.715476p+0F + magic, k = t - magic;
    float r = x - k * NFI_LN2_HI_F - k * NFI_LN2_LO_F;
    float q = 0.00138147071F;
    q = q * r + 0.00836878177F;
    q = q * r + 0.041668389F;
    q = q * r + 0.166665196F;
    q = q * r + 0.49999994F;
    *half = nfi_from_bits_f(nfi_bits_f(t) << 23);
    *rest = r * r * q;
    return r;
}

NFI_INLINE float nfi_log_core_f(float k, float f)
{
    float h = 0.5F * f * f;
    float p = -0.0763887763F;
    p = p * f + 0.127667263F;
    p = p * f - 0.131609589F;
    p = p * f + 0.142011151F;
    p = p * f - 0.166232198F;
    p = p * f + 0.20001249F;
    p = p * f - 0.250008255F;
    p = p * f + 0.333333313F;
    return k * NFI_LN2_HI_F + (f - (h - (f * f * f * p + k * NFI_LN2_LO_F)));
}

NFI_INLINE uint32_t nfi_log_split_f(float x)
{
    return nfi_bits_f(x) + (NFI_ONE_F - NFI_ROOT_HALF_F);
}

NFI_INLINE float nfi_log_exponent_f(uint32_t split)
{
    return nfi_from_bits_f(split >> 23 | UINT32_C(0x4b000000)) - (0x1p23F + 127);
}

/* The p of atan(t) = t (1 + z p), where z = t^2 and t <= tan(pi / 8). */
NFI_INLINE float nfi_atan_core_f(float z)
{
    float p = -0.0645171887F;
    p = p * z + 0.107436683F;
    p = p * z - 0.142639498F;
    p = p * z + 0.199995403F;
    p = p * z - 0.333333318F;
    return p;
}

#define FN(name) nfi_##name##_f
#define LIT(x) x##F
#define REAL float
#define BITS uint32_t
#define ONE NFI_ONE_F
#define ROOT_HALF NFI_ROOT_HALF_F
#define FRACTION UINT32_C(0x7fffff)
#define EXP_LEAST -87.6F
#define EXP_MOST 88.73F
#define EXPM1_LEAST -20.F
#define LEAST_NORMAL 0x1p-126F
#define RAISED 0x1p25F
#define LOG_RAISED 25.F
#define LOG1P_FAR 0x1p30F
#define ROOT_2_LESS_1 0.414213562F
#define HALF_PI 1.57079637F
#include "math/vec_functions.h"

#endif
