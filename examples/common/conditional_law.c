#include "conditional_law.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>

static const double half_log_2pi = 0.91893853320467274178;

static double weight(double c)
{
    return (3 + c) / 10;
}

static double width(double c)
{
    return 0.3 + 0.1 * c;
}

/* Where the branch b, 1 or -1, has its middle. */
static double middle(double c, double b)
{
    return sin(2 * c) + b * (1 + c / 2);
}

void conditional_law_rows(uint64_t seed, size_t n, nf_real *x)
{
    nf_real *uniform = cli_allocate(2 * n, sizeof *uniform), *e = cli_allocate(n, sizeof *e);
    nf_noise_uniform(&(nf_noise){.seed = seed}, 2, n, n, uniform);
    nf_noise_normal(&(nf_noise){.seed = seed, .site = 1}, 1, n, n, e);
    for (size_t i = 0; i < n; i++) {
        const double c = 4 * (double)uniform[i] - 2, b = (double)uniform[n + i] < weight(c) ? 1 : -1;
        x[2 * i] = NF_R(c);
        x[2 * i + 1] = NF_R(middle(c, b) + width(c) * (double)e[i]);
    }
    free(uniform);
    free(e);
}

double conditional_law_log_p(double c, double y)
{
    const double s = width(c), up = (y - middle(c, 1)) / s, down = (y - middle(c, -1)) / s;
    const double a = log(weight(c)) - 0.5 * up * up, b = log(1 - weight(c)) - 0.5 * down * down;
    return fmax(a, b) + log1p(exp(-fabs(a - b))) - log(s) - half_log_2pi;
}

/* The midpoint rule in c, the trapezoidal rule in y, which is exact to rounding for so smooth a function. */
double conditional_law_entropy(void)
{
    enum { CONTEXTS = 2000, POINTS = 2000 };
    double sum = 0;
    for (size_t i = 0; i < CONTEXTS; i++) {
        const double c = 4 * ((double)i + 0.5) / CONTEXTS - 2, s = width(c);
        const double low = middle(c, -1) - 9 * s, step = (middle(c, 1) + 9 * s - low) / POINTS;
        for (size_t k = 0; k <= POINTS; k++) {
            const double log_p = conditional_law_log_p(c, low + (double)k * step);
            sum -= exp(log_p) * log_p * step;
        }
    }
    return sum / CONTEXTS;
}
