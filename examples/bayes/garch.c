/*
 * garch11: a GARCH(1, 1) model of a series (posteriordb).
 *
 *     y_t ~ N(mu, v_t),   v_1 = sigma1^2 given,   v_t = alpha0 + alpha1 (y_(t-1) - mu)^2 + beta1 v_(t-1),
 *     mu and alpha0 > 0 flat,   (alpha1, beta1) uniform on alpha1, beta1 > 0, alpha1 + beta1 < 1
 *
 * The parameters are mu, alpha0, alpha1 and phi, beta1 = (1 - alpha1) phi with phi in (0, 1): d(alpha1, beta1) = (1 -
 * alpha1) d(alpha1, phi). Derivatives of v_t follow the recursion. mu and alpha0 have no proper prior: the integral
 * is an evidence up to a factor.
 */
#include "bayes_models.h"
#include "data.h"
#include "priors.h"
#include <stdlib.h>
#include <string.h>

enum { MU, ALPHA0, ALPHA1, PHI, N_PARAMETERS, MOST_ROWS = 100000 };

typedef struct series {
    size_t n;
    double first; /* v_1 */
    double y[];
} series;

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/garch.json");
    const size_t n = data_count(&f, "T", 1, MOST_ROWS);
    const double sigma = data_number(&f, "sigma1"), *y = data_numbers(&f, "y", n);
    series *s = y ? calloc(1, sizeof *s + n * sizeof *y) : NULL;
    if (s) {
        s->n = n;
        s->first = sigma * sigma;
        memcpy(s->y, y, n * sizeof *y);
    } else if (y)
        nf_error(NF_ENOMEM, "garch11: no memory for %zu rows", n);
    data_close(&f);
    return s;
}

static double log_p(const void *data, const double *x, double *g)
{
    const series *s = data;
    const double rest = 1 - x[ALPHA1], beta = rest * x[PHI];
    double v = s->first, dv[N_PARAMETERS] = {0}; /* dv: derivatives in mu, alpha0, alpha1 and beta1 */
    double sum = LN_2 - 0.5 * LN_2_PI * (double)s->n, g_beta = 0;
    for (size_t t = 0; t < s->n; t++) {
        if (t > 0) {
            const double before = s->y[t - 1] - x[MU];
            for (size_t i = 0; i < N_PARAMETERS; i++)
                dv[i] *= beta;
            dv[MU] -= 2 * x[ALPHA1] * before;
            dv[ALPHA0] += 1;
            dv[ALPHA1] += before * before;
            dv[PHI] += v;
            v = x[ALPHA0] + x[ALPHA1] * before * before + beta * v;
        }
        const double e = s->y[t] - x[MU], weight = 1 / v, slope = 0.5 * weight * (e * e * weight - 1);
        sum -= 0.5 * (log(v) + e * e * weight);
        g[MU] += slope * dv[MU] + e * weight;
        g[ALPHA0] += slope * dv[ALPHA0];
        g[ALPHA1] += slope * dv[ALPHA1];
        g_beta += slope * dv[PHI];
    }
    g[ALPHA1] -= x[PHI] * g_beta + 1 / rest;
    g[PHI] += rest * g_beta;
    return sum + log(rest);
}

static void beta1(const double *x, double *y)
{
    *y = (1 - x[ALPHA1]) * x[PHI];
}

static void phi(const double *y, double *x)
{
    x[PHI] = *y / (1 - x[ALPHA1]);
}

const bayes_model bayes_garch = {
    .name = "garch11",
    .posterior = "garch-garch11",
    .about = "volatility of a series",
    .parameters = {{.name = "mu"},
                   {.name = "alpha0", .constraint = bayes_positive},
                   {.name = "alpha1", .constraint = bayes_fraction},
                   {.name = "phi", .constraint = bayes_fraction}},
    .read = read,
    .log_p = log_p,
    .derived = {{.name = "beta1"}},
    .derive = beta1,
    .solve = phi,
};
