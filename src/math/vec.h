/* Elementary functions without branches, tables or calls, for loops over samples that the compiler vectorises.

     exp      x = k ln 2 + r, |r| <= ln(2)/2;  e^r = 1 + r + r^2 Q(r);  e^x = 2^k (1 + r + r^2 Q)
     expm1    2^k (r + r^2 Q) + (2^k - 1)
     log      x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2));  log x = k ln 2 + log(1 + f). In double
              log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)), s = f / (2 + f), 2 s + s R = log((1 + s) / (1 - s));
              in float log(1 + f) = f - f^2/2 + f^3 P(f)
     log1p    k is that of 1 + x, but f = 2^-k x + (2^-k - 1) comes from x itself: exact for k = 0
     tanh     -t / (2 + t), t = expm1(-2 |x|)
     sigmoid  1 / (1 + e^-x)
     softplus max(x, 0) + log1p(e^-|x|), where log1p's k is 0 or 1
     atan     2 atan(t / 2), t = 2 r / (1 + sqrt(1 + r^2)), r = min(|x|, 1/|x|); pi/2 minus that for |x| > 1

   The formulas are in vec_functions.h. The constants and polynomials are in vec_double.h and vec_float.h, one file for
   each precision. The splittings are those of Muller et al., Handbook of Floating-Point Arithmetic, ch. 10. The
   polynomials are minimax (Remez; for atan, Chebyshev) in the relative error of the result; they leave an error below
   2^-57 in double and 2^-26 in float. Measured errors are in tests/test_vec.c: at most 2 ulp for exp, expm1, log, log1p
   and softplus, and 3 for the others, with or without fused multiply-add.

   Edge cases: NaN gives NaN. Infinities, poles and overflow are as in C's functions. Where the result of exp would be
   below 2^-1021.5 (float: 2^-125.5) it is 0, so exp never returns a denormal. Denormal arguments keep their value,
   except that expm1 loses their last bit. Only tanh and atan keep the sign of a zero. */
#ifndef NFI_VEC_H
#define NFI_VEC_H
#include "math/vec_double.h"
#include "math/vec_float.h"

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

#endif
