/* Elementary functions without branches, tables or calls, for loops over samples that the compiler vectorises.

     exp      x = k ln 2 + r, |r| <= ln(2)/2;  e^r = 1 + r + r^2 Q(r);  e^x = 2^k (1 + r + r^2 Q)
     expm1    2^k (r + r^2 Q) + (2^k - 1)
     log      x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2));  log x = k ln 2 + log(1 + f), where in double
              log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)), s = f / (2 + f), 2 s + s R = log((1 + s) / (1 - s)), and in
              float log(1 + f) = f - f^2/2 + f^3 P(f)
     log1p    k from 1 + x, but f = 2^-k x + (2^-k - 1) from x itself: exact for k = 0
     tanh     -t / (2 + t), t = expm1(-2 |x|)
     sigmoid  1 / (1 + e^-x)
     softplus max(x, 0) + log1p(e^-|x|), where log1p's k is 0 or 1
     atan     2 atan(t / 2), t = 2 r / (1 + sqrt(1 + r^2)), r = min(|x|, 1/|x|); pi/2 minus that for |x| > 1

   Splittings as in Muller et al., Handbook of Floating-Point Arithmetic, ch. 10; the polynomials are minimax (Remez;
   for atan, Chebyshev) in the relative error of the result, which they leave below 2^-57 in double and 2^-26 in float.
   Measured errors are in tests/test_vec.c: at most 2 ulp for exp, expm1, log, log1p and softplus, 3 for the others,
   with or without fused multiply-add.

   Edge cases: NaN gives NaN; infinities, poles and overflow as in C's functions. Results of exp below 2^-1021.5 (float
   2^-125.5) are 0, so exp never returns a denormal. Denormal arguments are taken as they are, except that expm1 loses
   their last bit. Only tanh and atan keep the sign of a zero. */
#ifndef NFI_VEC_H
#define NFI_VEC_H
#include "core/kernel.h"
#include <math.h>
#include <string.h>

#ifdef NF_SINGLE
#define NFI_VEC(name) name##_f
#else
#define NFI_VEC(name) name##_d
#endif
#define nfi_exp NFI_VEC(nfi_exp)
#define nfi_expm1 NFI_VEC(nfi_expm1)
#define nfi_log NFI_VEC(nfi_log)
#define nfi_log_normal NFI_VEC(nfi_log_normal)
#define nfi_log1p NFI_VEC(nfi_log1p)
#define nfi_tanh NFI_VEC(nfi_tanh)
#define nfi_sigmoid NFI_VEC(nfi_sigmoid)
#define nfi_softplus NFI_VEC(nfi_softplus)
#define nfi_atan NFI_VEC(nfi_atan)
#define nfi_sqrt NFI_VEC(nfi_sqrt)
#define nfi_abs NFI_VEC(nfi_abs)

/* ---- double ---------------------------------------------------------------------------------------------------- */

NFI_INLINE double nfi_sqrt_d(double x)
{
    return sqrt(x);
}

NFI_INLINE double nfi_abs_d(double x)
{
    return fabs(x);
}

NFI_INLINE uint64_t nfi_bits_d(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

NFI_INLINE double nfi_from_bits_d(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#define NFI_LN2_HI_D 0x1.62e42fefp-1
#define NFI_LN2_LO_D 0x1.473de6af278edp-34

/* r, *rest = r^2 Q(r), and *half = 2^(k - 1): half as much, so that k = 1024 does not overflow and k = -1022 gives
   0. Adding 1.5 2^52 rounds to an integer and leaves k + 1022, the biased exponent, in the low bits. x in [-708.7,
   709.9] or NaN. */
NFI_INLINE double nfi_exp_parts_d(double x, double *half, double *rest)
{
    const double magic = 0x1.8p52 + 1022;
    double t = x * 0x1.71547652b82fep+0 + magic, k = t - magic;
    double r = x - k * NFI_LN2_HI_D - k * NFI_LN2_LO_D;
    double q = 2.5000220505169073e-08;
    q = q * r + 2.763038071786555e-07;
    q = q * r + 2.7557586520739979e-06;
    q = q * r + 2.480149275707748e-05;
    q = q * r + 1.9841269505693093e-04;
    q = q * r + 1.3888888943928044e-03;
    q = q * r + 8.333333333495202e-03;
    q = q * r + 4.166666666652917e-02;
    q = q * r + 0.1666666666666641;
    q = q * r + 0.50000000000000111;
    *half = nfi_from_bits_d(nfi_bits_d(t) << 52);
    *rest = r * r * q;
    return r;
}

NFI_INLINE double nfi_exp_d(double x)
{
    double half, rest, r = nfi_exp_parts_d(x, &half, &rest), y = 2 * (half * (rest + r) + half);
    y = x < -708.7 ? 0 : y;
    return x > 709.79 ? (double)INFINITY : y;
}

NFI_INLINE double nfi_expm1_d(double x)
{
    double half, rest, r = nfi_exp_parts_d(x, &half, &rest), y = 2 * (half * rest + (half * r + (half - 0.5)));
    y = x < -40. ? -1 : y;
    return x > 709.79 ? (double)INFINITY : y;
}

/* k ln 2 + log(1 + f) */
NFI_INLINE double nfi_log_core_d(double k, double f)
{
    double s = f / (2 + f), z = s * s, h = 0.5 * f * f;
    double p = 0.14797436158786154;
    p = p * z + 0.15313911399122213;
    p = p * z + 0.1818356938184566;
    p = p * z + 0.22222198483630926;
    p = p * z + 0.28571428743180211;
    p = p * z + 0.39999999999411517;
    p = p * z + 0.66666666666667351;
    return k * NFI_LN2_HI_D + (f - (h - (s * (h + z * p) + k * NFI_LN2_LO_D)));
}

#define NFI_ROOT_HALF_D UINT64_C(0x3fe6a09e667f3bcd)
#define NFI_ONE_D UINT64_C(0x3ff0000000000000)

/* The biased exponent k + 1023 in place, of x = 2^k m with m in [sqrt(1/2), sqrt(2)); the low 52 bits belong to m. */
NFI_INLINE uint64_t nfi_log_split_d(double x)
{
    return nfi_bits_d(x) + (NFI_ONE_D - NFI_ROOT_HALF_D);
}

/* k as a double: its bits below those of 2^52. */
NFI_INLINE double nfi_log_exponent_d(uint64_t split)
{
    return nfi_from_bits_d(split >> 52 | UINT64_C(0x4330000000000000)) - (0x1p52 + 1023);
}

NFI_INLINE double nfi_log_d(double x)
{
    bool denormal = x < 0x1p-1022;
    uint64_t split = nfi_log_split_d(denormal ? x * 0x1p54 : x);
    double k = nfi_log_exponent_d(split) - (denormal ? 54. : 0.);
    double y = nfi_log_core_d(k, nfi_from_bits_d((split & UINT64_C(0xfffffffffffff)) + NFI_ROOT_HALF_D) - 1);
    y = x < (double)INFINITY ? y : x;
    return x > 0 ? y : x == 0 ? -(double)INFINITY : (double)NAN;
}

/* log x for x positive, normal and finite: without the cases. */
NFI_INLINE double nfi_log_normal_d(double x)
{
    uint64_t split = nfi_log_split_d(x);
    return nfi_log_core_d(nfi_log_exponent_d(split),
                          nfi_from_bits_d((split & UINT64_C(0xfffffffffffff)) + NFI_ROOT_HALF_D) - 1);
}

NFI_INLINE double nfi_log1p_d(double x)
{
    uint64_t split = nfi_log_split_d(1 + x), k = (split & ~UINT64_C(0xfffffffffffff)) - NFI_ONE_D;
    double c = x > 0x1p60 ? -1 : nfi_from_bits_d(NFI_ONE_D - k) - 1;
    double y = nfi_log_core_d(nfi_log_exponent_d(split), nfi_from_bits_d(nfi_bits_d(x) - k) + c);
    y = x < (double)INFINITY ? y : x;
    return x > -1 ? y : x == -1 ? -(double)INFINITY : (double)NAN;
}

NFI_INLINE double nfi_tanh_d(double x)
{
    double a = -2 * fabs(x), half, rest, r = nfi_exp_parts_d(a, &half, &rest);
    double t = 2 * (half * (rest + r) + (half - 0.5));
    t = a < -40. ? -1 : t;
    return copysign(-t / (2 + t), x);
}

NFI_INLINE double nfi_sigmoid_d(double x)
{
    return 1 / (1 + nfi_exp_d(-x));
}

NFI_INLINE double nfi_softplus_d(double x)
{
    double a = -fabs(x), half, rest, r = nfi_exp_parts_d(a, &half, &rest), z = 2 * (half * (rest + r) + half);
    bool halve = z > 0.41421356237309505;
    double y = nfi_log_core_d(halve ? 1. : 0., halve ? 0.5 * z - 0.5 : z);
    return (x < 0 ? 0 : x) + (a < -708.7 ? 0 : y);
}

NFI_INLINE double nfi_atan_d(double x)
{
    double a = fabs(x), r = a > 1 ? 1 / a : a, t = 2 * r / (1 + sqrt(1 + r * r)), z = 0.25 * t * t;
    double p = -0.019175404711104934;
    p = p * z + 0.039230447784793095;
    p = p * z - 0.050854078345894843;
    p = p * z + 0.058581409048663283;
    p = p * z - 0.066645105255089366;
    p = p * z + 0.076921831253768921;
    p = p * z - 0.090909045753064891;
    p = p * z + 0.11111111015187019;
    p = p * z - 0.14285714284665681;
    p = p * z + 0.19999999999995517;
    p = p * z - 0.3333333333333333;
    double y = t + t * z * p;
    return copysign(a > 1 ? 1.5707963267948966 - y : y, x);
}

/* sin(2 pi r) for |r| <= 1/4 */
NFI_INLINE double nfi_sin2pi_core_d(double r)
{
    double z = r * r, p = 0.10085623925226626;
    p = p * z - 0.71772355841906321;
    p = p * z + 3.8199270484253103;
    p = p * z - 15.094641620412505;
    p = p * z + 42.058693923782847;
    p = p * z - 76.705859752798474;
    p = p * z + 81.605249276073408;
    p = p * z - 41.341702240399755;
    return r * (p * z + 6.2831853071795862);
}

/* sin(2 pi u) and cos(2 pi u) for |u| <= 2^50: u = n/2 + r exactly, and (-1)^n comes from the low bit of n. */
NFI_INLINE double nfi_sin2pi_d(double u)
{
    const double magic = 0x1.8p52;
    double t = 2 * u + magic, r = u - 0.5 * (t - magic);
    return nfi_from_bits_d(nfi_bits_d(nfi_sin2pi_core_d(r)) ^ nfi_bits_d(t) << 63);
}

NFI_INLINE double nfi_cos2pi_d(double u)
{
    const double magic = 0x1.8p52;
    double t = 2 * u + magic, r = u - 0.5 * (t - magic);
    return nfi_from_bits_d(nfi_bits_d(nfi_sin2pi_core_d(0.25 - fabs(r))) ^ nfi_bits_d(t) << 63);
}

/* ---- float: the same with 24 bits ------------------------------------------------------------------------------- */

NFI_INLINE float nfi_sqrt_f(float x)
{
    return sqrtf(x);
}

NFI_INLINE float nfi_abs_f(float x)
{
    return fabsf(x);
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

#define NFI_LN2_HI_F 0x1.63p-1F
#define NFI_LN2_LO_F -0x1.bd0106p-13F

/* x in [-87.6, 89] or NaN */
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

NFI_INLINE float nfi_exp_f(float x)
{
    float half, rest, r = nfi_exp_parts_f(x, &half, &rest), y = 2 * (half * (rest + r) + half);
    y = x < -87.6F ? 0 : y;
    return x > 88.73F ? INFINITY : y;
}

NFI_INLINE float nfi_expm1_f(float x)
{
    float half, rest, r = nfi_exp_parts_f(x, &half, &rest), y = 2 * (half * rest + (half * r + (half - 0.5F)));
    y = x < -20.F ? -1 : y;
    return x > 88.73F ? INFINITY : y;
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

#define NFI_ROOT_HALF_F UINT32_C(0x3f3504f3)
#define NFI_ONE_F UINT32_C(0x3f800000)

NFI_INLINE uint32_t nfi_log_split_f(float x)
{
    return nfi_bits_f(x) + (NFI_ONE_F - NFI_ROOT_HALF_F);
}

NFI_INLINE float nfi_log_exponent_f(uint32_t split)
{
    return nfi_from_bits_f(split >> 23 | UINT32_C(0x4b000000)) - (0x1p23F + 127);
}

NFI_INLINE float nfi_log_f(float x)
{
    bool denormal = x < 0x1p-126F;
    uint32_t split = nfi_log_split_f(denormal ? x * 0x1p25F : x);
    float k = nfi_log_exponent_f(split) - (denormal ? 25.F : 0.F);
    float y = nfi_log_core_f(k, nfi_from_bits_f((split & UINT32_C(0x7fffff)) + NFI_ROOT_HALF_F) - 1);
    y = x < INFINITY ? y : x;
    return x > 0 ? y : x == 0 ? -INFINITY : NAN;
}

NFI_INLINE float nfi_log_normal_f(float x)
{
    uint32_t split = nfi_log_split_f(x);
    return nfi_log_core_f(nfi_log_exponent_f(split),
                          nfi_from_bits_f((split & UINT32_C(0x7fffff)) + NFI_ROOT_HALF_F) - 1);
}

NFI_INLINE float nfi_log1p_f(float x)
{
    uint32_t split = nfi_log_split_f(1 + x), k = (split & ~UINT32_C(0x7fffff)) - NFI_ONE_F;
    float c = x > 0x1p30F ? -1 : nfi_from_bits_f(NFI_ONE_F - k) - 1;
    float y = nfi_log_core_f(nfi_log_exponent_f(split), nfi_from_bits_f(nfi_bits_f(x) - k) + c);
    y = x < INFINITY ? y : x;
    return x > -1 ? y : x == -1 ? -INFINITY : NAN;
}

NFI_INLINE float nfi_tanh_f(float x)
{
    float a = -2 * fabsf(x), half, rest, r = nfi_exp_parts_f(a, &half, &rest);
    float t = 2 * (half * (rest + r) + (half - 0.5F));
    t = a < -20.F ? -1 : t;
    return copysignf(-t / (2 + t), x);
}

NFI_INLINE float nfi_sigmoid_f(float x)
{
    return 1 / (1 + nfi_exp_f(-x));
}

NFI_INLINE float nfi_softplus_f(float x)
{
    float a = -fabsf(x), half, rest, r = nfi_exp_parts_f(a, &half, &rest), z = 2 * (half * (rest + r) + half);
    bool halve = z > 0.414213562F;
    float y = nfi_log_core_f(halve ? 1.F : 0.F, halve ? 0.5F * z - 0.5F : z);
    return (x < 0 ? 0 : x) + (a < -87.6F ? 0 : y);
}

NFI_INLINE float nfi_atan_f(float x)
{
    float a = fabsf(x), r = a > 1 ? 1 / a : a, t = 2 * r / (1 + sqrtf(1 + r * r)), z = 0.25F * t * t;
    float p = -0.0645171887F;
    p = p * z + 0.107436683F;
    p = p * z - 0.142639498F;
    p = p * z + 0.199995403F;
    p = p * z - 0.333333318F;
    float y = t + t * z * p;
    return copysignf(a > 1 ? 1.57079637F - y : y, x);
}

#endif
