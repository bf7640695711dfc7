/* Student's t in one dimension: its normalising constant, and a draw with its derivative in the degrees of
   freedom. */
#ifndef NFI_STUDENT_T_H
#define NFI_STUDENT_T_H
#include "math/vec.h"
#include "dist/types.h"

/* The fewest degrees of freedom. With fewer a draw from the smallest uniform, 2^-53, would overflow a float:
   R < sqrt(df) 2^(53 / df). */
#define NFI_LEAST_DF 0.5

/* c(df) = log Gamma((df + 1) / 2) - log Gamma(df / 2) - log(df pi) / 2, and its derivative. Gamma's recurrence gives

       c(df) = c(df + 2) + log(1 - 1/m^2) / 2,    c'(df) = c'(df + 2) + 1 / (m (m^2 - 1)),    m = df + 1.

   The recurrence is applied until df is so large that the asymptotic series in 1/df (Abramowitz & Stegun 6.1.47) is
   exact to rounding. All terms of c' have one sign; a difference of digamma functions would cancel. */
static inline double nfi_t_constant(double df, double *slope)
{
    double c = -NFI_HALF_LOG_2PI, dc = 0;
    for (; df < 40; df += 2) {
        double m = df + 1;
        c += 0.5 * log1p(-1 / (m * m));
        dc += 1 / (m * df * (df + 2));
    }
    double r = 1 / df, q = r * r;
    *slope = dc + q * (0.25 + q * (-0.125 + q * (0.25 - q * 17 / 16)));
    return c + r * (-0.25 + q * (1. / 24 + q * (-0.05 + q * 17 / 112)));
}

/* Bailey 1994, Mathematics of Computation 62, 779: with two uniforms u and v, x = R cos(2 pi v),
   R^2 = df (u^(-2/df) - 1), has exactly the t distribution with df degrees of freedom. x is smooth in df: with
   L = -2 log(u) / df, dx/d df = x / (2 df) (1 - L / (1 - e^-L)). */
NFI_INLINE double nfi_t_draw(double df, double u, double v, double *slope)
{
    double L = -2 * nfi_log_normal_d(u) / df, rest = -nfi_expm1_d(-L);
    double x = nfi_sqrt_d(df * rest) * nfi_exp_d(0.5 * L) * nfi_cos2pi_d(v);
    *slope = 0.5 * x / df * (1 - L / rest);
    return x;
}

#endif
