/*
 * Normal models with known evidence.
 *
 *     ill_conditioned     x ~ N(0, H S H), H = I - 2 v v^T / (v^T v), v = (1, 2, .., 100), S diagonal from 10^-3 to
 * 10^3 in equal ratios: dense, with condition number 10^6 hierarchical        y_j ~ N(theta_j, 1),   theta_j ~ N(mu,
 * tau^2), j = 1 .. 998,   mu ~ N(0, 5^2), tau ~ Cauchy+(0, 5); the data are the quantiles of N(1, 1 + 0.7^2) conjugate
 * y ~ N(X beta, 0.5^2 I),   beta ~ N(0, I), X [40 x 8] of the cosines cos(pi (i + 1/2) j / 16); the evidence is
 * linear_log_evidence()
 *
 * Evidence of the hierarchical model: given mu and tau the y_j are independent N(mu, 1 + tau^2). The integral over mu
 * is a normal one of (sum of y, sum of squares), that over tau is taken numerically.
 */
#include "bayes_models.h"
#include "integral.h"
#include "linear.h"
#include "priors.h"
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdlib.h>

enum { D = 100, J = 998, ROWS = 40, P = 8 };

/* ---- ill-conditioned ---- */

/* x -> H x */
static void reflect(const double *x, double *y)
{
    double dot = 0, square = 0;
    for (size_t i = 0; i < D; i++) {
        const double v = (double)(i + 1);
        dot += v * x[i];
        square += v * v;
    }
    for (size_t i = 0; i < D; i++)
        y[i] = x[i] - 2 * dot / square * (double)(i + 1);
}

static double ill_conditioned(const void *unused, const double *x, double *g)
{
    double z[D], slope[D], sum = 0;
    (void)unused;
    reflect(x, z);
    for (size_t i = 0; i < D; i++) {
        const double log_variance = (6.0 * (double)i / (D - 1) - 3) * log(10);
        slope[i] = -z[i] * exp(-log_variance);
        sum += 0.5 * (slope[i] * z[i] - log_variance - LN_2_PI);
    }
    reflect(slope, g);
    return sum;
}

/* ---- hierarchical: x is mu, tau, theta ---- */

typedef struct effects {
    double y[J];
} effects;

static void *effects_read(const char *unused)
{
    effects *d = calloc(1, sizeof *d);
    (void)unused;
    if (!d)
        nf_error(NF_ENOMEM, "hierarchical: no memory");
    for (size_t j = 0; d && j < J; j++)
        d->y[j] = 1 + sqrt(1 + 0.7 * 0.7) * gsl_cdf_ugaussian_Pinv(((double)j + 0.5) / J);
    return d;
}

static double effects_log_p(const void *data, const double *x, double *g)
{
    const effects *d = data;
    double sum = normal_log_p(x[0], 0, 5, &g[0]) + half_cauchy_log_p(x[1], 5, &g[1]);
    for (size_t j = 0; j < J; j++) {
        sum += normal_log_p_all(x[2 + j], x[0], x[1], &g[2 + j], &g[0], &g[1]);
        sum += normal_log_p(x[2 + j], d->y[j], 1, &g[2 + j]);
    }
    return sum;
}

static double log_p_of_log_tau(const void *data, double log_tau)
{
    const effects *d = data;
    const double tau = exp(log_tau), rate = 1 / (1 + tau * tau), w = 1.0 / 25 + J * rate;
    double unused = 0, sum = 0, square = 0;
    for (size_t j = 0; j < J; j++) {
        sum += d->y[j];
        square += d->y[j] * d->y[j];
    }
    return half_cauchy_log_p(tau, 5, &unused) + log_tau + 0.5 * J * (log(rate) - LN_2_PI) - log(5) - 0.5 * log(w) -
           0.5 * rate * (square - rate * sum * sum / w);
}

static double effects_log_z(const void *data)
{
    return log_integral(log_p_of_log_tau, data, -40, 20);
}

/* ---- conjugate ---- */

static const double noise = 0.5;

static void *conjugate_read(const char *unused)
{
    double X[ROWS * P], y[ROWS];
    (void)unused;
    for (size_t i = 0; i < ROWS; i++) {
        y[i] = noise * gsl_cdf_ugaussian_Pinv(((double)(7 * i % ROWS) + 0.5) / ROWS); /* in a mixed order */
        for (size_t j = 0; j < P; j++) {
            X[i * P + j] = cos(3.14159265358979323846 * ((double)i + 0.5) * (double)j / 16);
            y[i] += X[i * P + j] * (j % 2 ? -1 : 1) / (double)(j + 1);
        }
    }
    return linear_new(ROWS, P, X, y);
}

static double conjugate_log_p(const void *data, const double *x, double *g)
{
    double g_noise = 0, sum = linear_log_p(data, x, noise, g, &g_noise);
    for (size_t j = 0; j < P; j++)
        sum += normal_log_p(x[j], 0, 1, &g[j]);
    return sum;
}

static double conjugate_log_z(const void *data)
{
    return linear_log_evidence(data, noise, 1);
}

const bayes_model bayes_ill_conditioned = {
    .name = "ill_conditioned",
    .about = "normal, condition number 1e6",
    .parameters = {{.name = "x", .n = D}},
    .log_p = ill_conditioned,
    .log_z = bayes_normalised,
};

const bayes_model bayes_hierarchical = {
    .name = "hierarchical",
    .about = "998 effects, their mean and scale",
    .parameters = {{.name = "mu"}, {.name = "tau", .constraint = bayes_positive}, {.name = "theta", .n = J}},
    .read = effects_read,
    .log_p = effects_log_p,
    .log_z = effects_log_z,
};

const bayes_model bayes_conjugate = {
    .name = "conjugate",
    .about = "regression with known noise",
    .parameters = {{.name = "beta", .n = P}},
    .read = conjugate_read,
    .log_p = conjugate_log_p,
    .log_z = conjugate_log_z,
};
