/* Integrals over a line, of densities that are far below their top at both ends. */
#ifndef EXAMPLES_BAYES_INTEGRAL_H
#define EXAMPLES_BAYES_INTEGRAL_H

/* ln of the integral of exp(f) from a to b, by the trapezoidal rule with 4096 steps, which for smooth functions that
   vanish at both ends converges faster than any power of the step. */
double log_integral(double (*f)(const void *user, double x), const void *user, double a, double b);

#endif
