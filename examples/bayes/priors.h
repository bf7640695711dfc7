/*
 * Log densities of one number with all their constants. Each adds its derivative in x to *g.
 *
 * Scales that the likelihood depends on are parameters of the models, so the normal also adds its derivatives in mean
 * and sd where these pointers are not NULL.
 */
#ifndef EXAMPLES_BAYES_PRIORS_H
#define EXAMPLES_BAYES_PRIORS_H
#include <math.h>

#define LN_2 0.69314718055994530942
#define LN_PI 1.14472988584940017414
#define LN_2_PI 1.83787706640934548356

/* N(mean, sd^2) */
static inline double normal_log_p(double x, double mean, double sd, double *g)
{
    const double z = (x - mean) / sd;
    *g -= z / sd;
    return -0.5 * z * z - log(sd) - 0.5 * LN_2_PI;
}

/* The same, with derivatives in mean and sd. */
static inline double normal_log_p_all(double x, double mean, double sd, double *g, double *g_mean, double *g_sd)
{
    const double z = (x - mean) / sd;
    *g -= z / sd;
    *g_mean += z / sd;
    *g_sd += (z * z - 1) / sd;
    return -0.5 * z * z - log(sd) - 0.5 * LN_2_PI;
}

/* N(0, sd^2) of x > 0 */
static inline double half_normal_log_p(double x, double sd, double *g)
{
    return LN_2 + normal_log_p(x, 0, sd, g);
}

/* Student's t with df degrees of freedom. lgamma_r, since lgamma writes a global variable. */
static inline double student_t_log_p(double x, double df, double location, double scale, double *g)
{
    const double z = (x - location) / scale, half = 0.5 * (df + 1);
    int sign;
    *g -= (df + 1) * z / (scale * (df + z * z));
    return lgamma_r(half, &sign) - lgamma_r(0.5 * df, &sign) - 0.5 * (LN_PI + log(df)) - log(scale) -
           half * log1p(z * z / df);
}

/* Student's t around 0 of x > 0; df 1 is the half-Cauchy density. */
static inline double half_student_t_log_p(double x, double df, double scale, double *g)
{
    return LN_2 + student_t_log_p(x, df, 0, scale, g);
}

static inline double half_cauchy_log_p(double x, double scale, double *g)
{
    const double z = x / scale;
    *g -= 2 * z / (scale * (1 + z * z));
    return LN_2 - LN_PI - log(scale) - log1p(z * z);
}

/* That of a regression's deviation: Cauchy(0, 2.5), positive. */
static inline double half_cauchy_of_scale(double sigma)
{
    double unused = 0;
    return half_cauchy_log_p(sigma, 2.5, &unused);
}

/* ln x ~ N(m, s^2) */
static inline double lognormal_log_p(double x, double m, double s, double *g)
{
    double g_log = -1;
    const double value = normal_log_p(log(x), m, s, &g_log) - log(x);
    *g += g_log / x;
    return value;
}

/* Gamma, with mean shape / rate */
static inline double gamma_log_p(double x, double shape, double rate, double *g)
{
    int sign;
    *g += (shape - 1) / x - rate;
    return shape * log(rate) - lgamma_r(shape, &sign) + (shape - 1) * log(x) - rate * x;
}

static inline double beta_log_p(double x, double a, double b, double *g)
{
    int sign;
    *g += (a - 1) / x - (b - 1) / (1 - x);
    return lgamma_r(a + b, &sign) - lgamma_r(a, &sign) - lgamma_r(b, &sign) + (a - 1) * log(x) + (b - 1) * log1p(-x);
}

#endif
