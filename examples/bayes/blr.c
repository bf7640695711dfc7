/*
 * blr: linear regression (posteriordb, data sblri).
 *
 *     y ~ N(X beta, sigma^2 I),   beta_j ~ N(0, 10^2),   sigma ~ N+(0, 10^2)
 */
#include "data.h"
#include "linear.h"
#include "bayes_models.h"
#include "priors.h"
#include <stdlib.h>

enum { D = 5, MOST_ROWS = 100000 };

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/sblri.json");
    data_count(&f, "D", D, D);
    const size_t n = data_count(&f, "N", D, MOST_ROWS);
    const double *X = data_numbers(&f, "X", n * D), *y = data_numbers(&f, "y", n);
    linear *l = linear_new(n, D, X, y);
    data_close(&f);
    return l;
}

static double log_p(const void *data, const double *x, double *g)
{
    double sum = half_normal_log_p(x[D], 10, &g[D]);
    for (size_t j = 0; j < D; j++)
        sum += normal_log_p(x[j], 0, 10, &g[j]);
    return sum + linear_log_p(data, x, x[D], g, &g[D]);
}

static double sigma_prior(double sigma)
{
    double unused = 0;
    return half_normal_log_p(sigma, 10, &unused);
}

static double log_z(const void *data)
{
    return linear_log_z(data, 10, sigma_prior);
}

const bayes_model bayes_blr = {
    .name = "blr",
    .posterior = "sblri-blr",
    .about = "linear regression",
    .parameters = {{.name = "beta", .n = D}, {.name = "sigma", .constraint = bayes_positive}},
    .read = read,
    .log_p = log_p,
    .log_z = log_z,
};
