/* Elementary functions in double: constants and polynomials. See vec.h. */
#ifndef NFI_VEC_DOUBLE_H
#define NFI_VEC_DOUBLE_H
#include "base/kernel.h"
#include <math.h>
#include <string.h>

#define NFI_LN2_HI_D 0x1.62e42fefp-1
#define NFI_LN2_LO_D 0x1.473de6af278edp-34

/* The Q of e^r = 1 + r + r^2 Q(r), where |r| <= ln(2) / 2. */
NFI_INLINE double nfi_exp_core_d(double r)
{
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
    return q;
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

/* The p of atan(t) = t (1 + z p), where z = t^2 and t <= tan(pi / 8). */
NFI_INLINE double nfi_atan_core_d(double z)
{
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
    return p;
}

#define FN(name) nfi_##name##_d
#define MATH(name) name
#define LIT(x) x
#define REAL double
#define BITS uint64_t
#define FRACTION_BITS 52
#define BIAS 1023
#define ONE UINT64_C(0x3ff0000000000000)
#define ROOT_HALF UINT64_C(0x3fe6a09e667f3bcd)
#define WHOLE 0x1p52
#define LOG2_E 0x1.71547652b82fep+0
#define LN2_HI NFI_LN2_HI_D
#define LN2_LO NFI_LN2_LO_D
#define EXP_LEAST -708.7
#define EXP_MOST 709.79
#define EXPM1_LEAST -40.
#define LEAST_NORMAL 0x1p-1022
#define RAISED 0x1p54
#define LOG_RAISED 54.
#define LOG1P_FAR 0x1p60
#define ROOT_2_LESS_1 0.41421356237309505
#define HALF_PI 1.5707963267948966
#include "math/vec_functions.h"

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

/* sin(2 pi u) and cos(2 pi u) for |u| <= 2^50. u = n/2 + r exactly; the low bit of n gives the sign (-1)^n. */
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

#endif
