/* Elementary functions in float: constants and polynomials. See vec.h. */
#ifndef NFI_VEC_FLOAT_H
#define NFI_VEC_FLOAT_H
#include "base/kernel.h"
#include <math.h>
#include <string.h>

#define NFI_LN2_HI_F 0x1.63p-1F
#define NFI_LN2_LO_F -0x1.bd0106p-13F

/* The Q of e^r = 1 + r + r^2 Q(r), where |r| <= ln(2) / 2. */
NFI_INLINE float nfi_exp_core_f(float r)
{
    float q = 0.00138147071F;
    q = q * r + 0.00836878177F;
    q = q * r + 0.041668389F;
    q = q * r + 0.166665196F;
    q = q * r + 0.49999994F;
    return q;
}

/* k ln 2 + log(1 + f) */
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
#define MATH(name) name##f
#define LIT(x) x##F
#define REAL float
#define BITS uint32_t
#define FRACTION_BITS 23
#define BIAS 127
#define ONE UINT32_C(0x3f800000)
#define ROOT_HALF UINT32_C(0x3f3504f3)
#define WHOLE 0x1p23F
#define LOG2_E 0x1.715476p+0F
#define LN2_HI NFI_LN2_HI_F
#define LN2_LO NFI_LN2_LO_F
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
