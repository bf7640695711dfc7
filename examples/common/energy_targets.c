#include "energy_targets.h"
#include <math.h>

/* -((x - mean) / sd)^2 / 2 and its derivative in x */
typedef struct bump {
    double value, slope;
} bump;

static bump gauss(double x, double mean, double sd)
{
    double q = (x - mean) / sd;
    return (bump){-0.5 * q * q, -q / sd};
}

/* ln(e^a + e^b); *share: e^a / (e^a + e^b) */
static double log_add(double a, double b, double *share)
{
    double e = exp(-fabs(a - b));
    *share = (a > b ? 1 : e) / (1 + e);
    return fmax(a, b) + log1p(e);
}

static double ring(double x, double y, double *g)
{
    double r = hypot(x, y), left, share;
    bump circle = gauss(r, 2, 0.4), a = gauss(x, 2, 0.6), b = gauss(x, -2, 0.6);
    left = log_add(a.value, b.value, &share);
    g[0] = (r > 0 ? circle.slope * x / r : 0) + share * a.slope + (1 - share) * b.slope;
    g[1] = r > 0 ? circle.slope * y / r : 0;
    return circle.value + left;
}

/* U2, U3, U4: one or two ridges along z2 = sin(pi z1 / 2), the second lower by `drop`, which depends on z1. */
static double waves(int number, double x, double y, double *g)
{
    const double half_pi = 1.57079632679489661923;
    double wave = sin(half_pi * x), d_wave = half_pi * cos(half_pi * x), drop, d_drop, share;
    bump upper = gauss(y, wave, number == 3 ? 0.35 : 0.4);
    if (number == 2) {
        g[0] = -upper.slope * d_wave;
        g[1] = upper.slope;
        return upper.value;
    }
    if (number == 3) {
        bump b = gauss(x, 1, 0.6);
        drop = 3 * exp(b.value);
        d_drop = drop * b.slope;
    } else {
        double s = 1 / (1 + exp(-(x - 1) / 0.3));
        drop = 3 * s;
        d_drop = 10 * s * (1 - s);
    }
    bump lower = gauss(y, wave - drop, 0.35);
    double log_p = log_add(upper.value, lower.value, &share);
    g[0] = -share * upper.slope * d_wave - (1 - share) * lower.slope * (d_wave - d_drop);
    g[1] = share * upper.slope + (1 - share) * lower.slope;
    return log_p;
}

static double log_p_at(energy e, double x, double y, double *g)
{
    double log_p = e.number == 1 ? ring(x, y, g) : waves(e.number, x, y, g);
    double beyond = e.wall ? fmax(fabs(x) - 4, 0) / 0.1 : 0;
    g[0] -= copysign(beyond / 0.1, x);
    return log_p - 0.5 * beyond * beyond;
}

int energy_log_p(void *user, size_t n, size_t d, const double *z, double *log_p, double *grad, unsigned char *rejected)
{
    (void)rejected;
    const energy *e = user;
    for (size_t i = 0; i < n; i++) {
        double g[2];
        log_p[i] = log_p_at(*e, z[i * d], z[i * d + 1], g);
        if (grad) {
            grad[i * d] = g[0];
            grad[i * d + 1] = g[1];
        }
    }
    return 0;
}

/* The trapezoidal rule on a grid far wider than the density is exact to rounding for a smooth integrand; the wall's
   kinks are in the second derivative and cost about step^3. */
double energy_log_z(energy e)
{
    if (e.number != 1 && !e.wall)
        return NAN;
    const double step = 0.01;
    double sum = 0;
    for (int i = -700; i <= 700; i++)
        for (int j = -800; j <= 600; j++) {
            double g[2];
            sum += exp(log_p_at(e, step * i, step * j, g));
        }
    return log(sum * step * step);
}
