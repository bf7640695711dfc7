/*
 * Eight schools (Rubin 1981; posteriordb): effects of coaching in eight schools, y_j with known standard errors s_j.
 *
 *     y_j ~ N(theta_j, s_j^2),   theta_j ~ N(mu, tau^2),   mu ~ N(0, 5^2),   tau ~ Cauchy+(0, 5)
 *
 * The centred form has theta as a parameter; its conditional scale is tau, so the density is a funnel. The non-centred
 * form has eta_j ~ N(0, 1), posteriordb's theta_trans, and theta = mu + tau eta.
 *
 * Evidence: given tau, y is normal with covariance diag(s_j^2 + tau^2) + 5^2 1 1^T; one integral over tau is left.
 */
#include "bayes_models.h"
#include "data.h"
#include "integral.h"
#include "priors.h"
#include <stdlib.h>
#include <string.h>

enum { J = 8, MU = J, TAU = J + 1 };

typedef struct schools {
    double y[J], s[J];
} schools;

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/eight_schools.json");
    data_count(&f, "J", J, J);
    const double *y = data_numbers(&f, "y", J), *s = data_numbers(&f, "sigma", J);
    schools *d = data_good(&f) ? calloc(1, sizeof *d) : NULL;
    if (d) {
        memcpy(d->y, y, sizeof d->y);
        memcpy(d->s, s, sizeof d->s);
    } else if (data_good(&f))
        nf_error(NF_ENOMEM, "eight schools: no memory");
    data_close(&f);
    return d;
}

static double priors(const double *x, double *g)
{
    return normal_log_p(x[MU], 0, 5, &g[MU]) + half_cauchy_log_p(x[TAU], 5, &g[TAU]);
}

static double centred(const void *data, const double *x, double *g)
{
    const schools *d = data;
    double sum = priors(x, g);
    for (size_t j = 0; j < J; j++) {
        sum += normal_log_p_all(x[j], x[MU], x[TAU], &g[j], &g[MU], &g[TAU]);
        sum += normal_log_p(x[j], d->y[j], d->s[j], &g[j]);
    }
    return sum;
}

static double non_centred(const void *data, const double *x, double *g)
{
    const schools *d = data;
    double sum = priors(x, g);
    for (size_t j = 0; j < J; j++) {
        double g_theta = 0;
        sum += normal_log_p(x[MU] + x[TAU] * x[j], d->y[j], d->s[j], &g_theta);
        sum += normal_log_p(x[j], 0, 1, &g[j]);
        g[j] += x[TAU] * g_theta;
        g[MU] += g_theta;
        g[TAU] += x[j] * g_theta;
    }
    return sum;
}

static void theta(const double *x, double *y)
{
    for (size_t j = 0; j < J; j++)
        y[j] = x[MU] + x[TAU] * x[j];
}

static void eta(const double *y, double *x)
{
    for (size_t j = 0; j < J; j++)
        x[j] = (y[j] - x[MU]) / x[TAU];
}

/* ln p(y, log tau): mu ~ N(0, 25) against sum w_j (y_j - mu)^2, w_j = 1 / (s_j^2 + tau^2) */
static double log_p_of_log_tau(const void *data, double log_tau)
{
    const schools *d = data;
    const double tau = exp(log_tau);
    double unused = 0, sum = half_cauchy_log_p(tau, 5, &unused) + log_tau, w = 1.0 / 25, wy = 0, wyy = 0;
    for (size_t j = 0; j < J; j++) {
        const double weight = 1 / (d->s[j] * d->s[j] + tau * tau);
        w += weight;
        wy += weight * d->y[j];
        wyy += weight * d->y[j] * d->y[j];
        sum += 0.5 * log(weight) - 0.5 * LN_2_PI;
    }
    return sum - log(5) - 0.5 * log(w) - 0.5 * (wyy - wy * wy / w);
}

static double log_z(const void *data)
{
    return log_integral(log_p_of_log_tau, data, -40, 20);
}

const bayes_model bayes_eight_schools_centred = {
    .name = "eight_schools_centered",
    .posterior = "eight_schools-eight_schools_noncentered",
    .about = "hierarchical model, a funnel",
    .parameters = {{.name = "theta", .n = J}, {.name = "mu"}, {.name = "tau", .constraint = bayes_positive}},
    .read = read,
    .log_p = centred,
    .log_z = log_z,
};

const bayes_model bayes_eight_schools_non_centred = {
    .name = "eight_schools_noncentered",
    .posterior = "eight_schools-eight_schools_noncentered",
    .about = "the same in its non-centred form",
    .parameters = {{.name = "theta_trans", .n = J}, {.name = "mu"}, {.name = "tau", .constraint = bayes_positive}},
    .read = read,
    .log_p = non_centred,
    .log_z = log_z,
    .derived = {{.name = "theta", .n = J}},
    .derive = theta,
    .solve = eta,
};
