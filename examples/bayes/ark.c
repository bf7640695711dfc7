/*
 * arK: an autoregression of order K = 5 (posteriordb).
 *
 *     y_t ~ N(alpha + sum_k beta_k y_(t-k), sigma^2), t = K + 1 .. T,
 *     alpha, beta_k ~ N(0, 10^2),   sigma ~ Cauchy+(0, 2.5)
 *
 * Given the first K values it is a linear regression.
 */
#include "data.h"
#include "linear.h"
#include "bayes_models.h"
#include "priors.h"
#include <stdlib.h>

enum { K = 5, MOST_ROWS = 100000 };

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/arK.json");
    data_count(&f, "K", K, K);
    const size_t T = data_count(&f, "T", 2 * K + 1, MOST_ROWS);
    const double *y = data_numbers(&f, "y", T);
    const double *column[1 + K] = {NULL};
    for (size_t k = 1; y && k <= K; k++)
        column[k] = y + K - k;
    linear *l = y ? linear_of_columns(T - K, 1 + K, column, y + K) : NULL;
    data_close(&f);
    return l;
}

static double log_p(const void *data, const double *x, double *g)
{
    double sum = half_cauchy_log_p(x[1 + K], 2.5, &g[1 + K]);
    for (size_t i = 0; i <= K; i++)
        sum += normal_log_p(x[i], 0, 10, &g[i]);
    return sum + linear_log_p(data, x, x[1 + K], g, &g[1 + K]);
}

static double log_z(const void *data)
{
    return linear_log_z(data, 10, half_cauchy_of_scale);
}

const bayes_model bayes_ark = {
    .name = "arK",
    .posterior = "arK-arK",
    .about = "autoregression of order 5",
    .parameters = {{.name = "alpha"}, {.name = "beta", .n = K}, {.name = "sigma", .constraint = bayes_positive}},
    .read = read,
    .log_p = log_p,
    .log_z = log_z,
};
