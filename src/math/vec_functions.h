/* The functions of vec.h for numbers of type REAL. vec_double.h and vec_float.h both include this file, after they have
   defined their polynomials, exp_core, log_core and atan_core, and what else depends on the precision:

     FN, MATH, LIT         the precision's names, those of <math.h>, and literals
     BITS                  integers of REAL's size. ONE and ROOT_HALF are the bits of 1 and sqrt(1/2)
     FRACTION_BITS, BIAS   the number of bits below the exponent; what is added to the exponent
     WHOLE                 2^FRACTION_BITS: from there on, numbers are whole, and their low bits count
     LOG2_E                1 / ln 2; LN2_HI + LN2_LO is ln 2, and k LN2_HI is exact
     EXP_LEAST, EXP_MOST   exp is 0 below the one and infinite above the other
     EXPM1_LEAST           expm1 is -1 below it
     LEAST_NORMAL          below it, log multiplies x by RAISED and subtracts LOG_RAISED from k
     LOG_RAISED            the base 2 logarithm of RAISED
     LOG1P_FAR             above it, 1 + x is x
     ROOT_2_LESS_1, HALF_PI */

#define FRACTION (((BITS)1 << FRACTION_BITS) - 1) /* ones in the bits below the exponent */

NFI_INLINE REAL FN(sqrt)(REAL x)
{
    return MATH(sqrt)(x);
}

NFI_INLINE REAL FN(abs)(REAL x)
{
    return MATH(fabs)(x);
}

NFI_INLINE REAL FN(sign)(REAL x, REAL from)
{
    return MATH(copysign)(x, from);
}

NFI_INLINE BITS FN(bits)(REAL x)
{
    BITS u;
    memcpy(&u, &x, sizeof u);
    return u;
}

NFI_INLINE REAL FN(from_bits)(BITS u)
{
    REAL x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Splits x = k ln 2 + r. Returns r, and writes *rest = r^2 Q(r) and *half = 2^(k - 1). *half is half of 2^k, so that in
   double k = 1024 does not overflow and k = -1022 gives 0. Adding 1.5 WHOLE rounds to an integer; it leaves
   k + BIAS - 1, the biased exponent of 2^(k - 1), in the low bits. x must be in [-708.7, 709.9], in float
   [-87.6, 89], or NaN. */
NFI_INLINE REAL FN(exp_parts)(REAL x, REAL *half, REAL *rest)
{
    const REAL magic = LIT(1.5) * WHOLE + (BIAS - 1);
    REAL t = x * LOG2_E + magic, k = t - magic;
    REAL r = x - k * LN2_HI - k * LN2_LO, q = FN(exp_core)(r);
    *half = FN(from_bits)(FN(bits)(t) << FRACTION_BITS);
    *rest = r * r * q;
    return r;
}

/* Splits x = 2^k m, m in [sqrt(1/2), sqrt(2)): the result has k + BIAS, the biased exponent, where an exponent stands.
   The bits below belong to m. */
NFI_INLINE BITS FN(log_split)(REAL x)
{
    return FN(bits)(x) + (ONE - ROOT_HALF);
}

/* k as a number. The biased exponent is put into the low bits of WHOLE; then WHOLE + BIAS is subtracted. */
NFI_INLINE REAL FN(log_exponent)(BITS split)
{
    return FN(from_bits)(split >> FRACTION_BITS | (BITS)(BIAS + FRACTION_BITS) << FRACTION_BITS) - (WHOLE + BIAS);
}

NFI_INLINE REAL FN(exp)(REAL x)
{
    REAL half, rest, r = FN(exp_parts)(x, &half, &rest), y = 2 * (half * (rest + r) + half);
    y = x < EXP_LEAST ? 0 : y;
    return x > EXP_MOST ? (REAL)INFINITY : y;
}

NFI_INLINE REAL FN(expm1)(REAL x)
{
    REAL half, rest, r = FN(exp_parts)(x, &half, &rest), y = 2 * (half * rest + (half * r + (half - LIT(0.5))));
    y = x < EXPM1_LEAST ? -1 : y;
    return x > EXP_MOST ? (REAL)INFINITY : y;
}

NFI_INLINE REAL FN(log)(REAL x)
{
    bool denormal = x < LEAST_NORMAL;
    BITS split = FN(log_split)(denormal ? x * RAISED : x);
    REAL k = FN(log_exponent)(split) - (denormal ? LOG_RAISED : 0);
    REAL y = FN(log_core)(k, FN(from_bits)((split & FRACTION) + ROOT_HALF) - 1);
    y = x < (REAL)INFINITY ? y : x;
    return x > 0 ? y : x == 0 ? -(REAL)INFINITY : (REAL)NAN;
}

/* log x for an x that is positive, normal and finite: without the special cases of log. */
NFI_INLINE REAL FN(log_normal)(REAL x)
{
    BITS split = FN(log_split)(x);
    return FN(log_core)(FN(log_exponent)(split), FN(from_bits)((split & FRACTION) + ROOT_HALF) - 1);
}

NFI_INLINE REAL FN(log1p)(REAL x)
{
    BITS split = FN(log_split)(1 + x), k = (split & ~FRACTION) - ONE;
    REAL c = x > LOG1P_FAR ? -1 : FN(from_bits)(ONE - k) - 1;
    REAL y = FN(log_core)(FN(log_exponent)(split), FN(from_bits)(FN(bits)(x) - k) + c);
    y = x < (REAL)INFINITY ? y : x;
    return x > -1 ? y : x == -1 ? -(REAL)INFINITY : (REAL)NAN;
}

NFI_INLINE REAL FN(tanh)(REAL x)
{
    REAL a = -2 * FN(abs)(x), half, rest, r = FN(exp_parts)(a, &half, &rest);
    REAL t = 2 * (half * (rest + r) + (half - LIT(0.5)));
    t = a < EXPM1_LEAST ? -1 : t;
    return FN(sign)(-t / (2 + t), x);
}

NFI_INLINE REAL FN(sigmoid)(REAL x)
{
    return 1 / (1 + FN(exp)(-x));
}

NFI_INLINE REAL FN(softplus)(REAL x)
{
    REAL a = -FN(abs)(x), half, rest, r = FN(exp_parts)(a, &half, &rest), z = 2 * (half * (rest + r) + half);
    bool halve = z > ROOT_2_LESS_1;
    REAL y = FN(log_core)(halve ? LIT(1.) : LIT(0.), halve ? LIT(0.5) * z - LIT(0.5) : z);
    return (x < 0 ? 0 : x) + (a < EXP_LEAST ? 0 : y);
}

NFI_INLINE REAL FN(atan)(REAL x)
{
    REAL a = FN(abs)(x), r = a > 1 ? 1 / a : a, t = 2 * r / (1 + FN(sqrt)(1 + r * r)), z = LIT(0.25) * t * t;
    REAL y = t + t * z * FN(atan_core)(z);
    return FN(sign)(a > 1 ? HALF_PI - y : y, x);
}

#undef FN
#undef MATH
#undef LIT
#undef REAL
#undef BITS
#undef FRACTION_BITS
#undef BIAS
#undef ONE
#undef ROOT_HALF
#undef WHOLE
#undef LOG2_E
#undef LN2_HI
#undef LN2_LO
#undef FRACTION
#undef EXP_LEAST
#undef EXP_MOST
#undef EXPM1_LEAST
#undef LEAST_NORMAL
#undef RAISED
#undef LOG_RAISED
#undef LOG1P_FAR
#undef ROOT_2_LESS_1
#undef HALF_PI
