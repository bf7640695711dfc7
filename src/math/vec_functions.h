/* The functions of vec.h for numbers of type REAL. vec_double.h and vec_float.h both include this file, after they have
   defined what depends on the precision:

     FN, LIT               the precision's names and literals
     BITS                  integers of REAL's size. ONE and ROOT_HALF are the bits of 1 and sqrt(1/2); FRACTION has ones
                           in the bits below the exponent
     EXP_LEAST, EXP_MOST   exp is 0 below the one and infinite above the other
     EXPM1_LEAST           expm1 is -1 below it
     LEAST_NORMAL          below it, log multiplies x by RAISED and subtracts LOG_RAISED from k
     LOG_RAISED            the base 2 logarithm of RAISED
     LOG1P_FAR             above it, 1 + x is x
     ROOT_2_LESS_1, HALF_PI */

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
#undef LIT
#undef REAL
#undef BITS
#undef ONE
#undef ROOT_HALF
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
