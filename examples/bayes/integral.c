#include "integral.h"
#include <math.h>

double log_integral(double (*f)(const void *user, double x), const void *user, double a, double b)
{
    enum { STEPS = 4096 };
    const double step = (b - a) / STEPS;
    double top = -INFINITY, sum = 0; /* the integral is exp(top) sum step */
    for (int i = 0; i <= STEPS; i++) {
        const double value = f(user, a + i * step), weight = i == 0 || i == STEPS ? 0.5 : 1;
        if (value > top) {
            sum *= exp(top - value);
            top = value;
        }
        sum += weight * exp(value - top);
    }
    return top + log(sum * step);
}
