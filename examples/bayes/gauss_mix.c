/*
 * low_dim_gauss_mix: a mixture of two normals (posteriordb).
 *
 *     y_i ~ theta N(mu_1, sigma_1^2) + (1 - theta) N(mu_2, sigma_2^2),
 *     mu_k ~ N(0, 2^2) given that mu_1 < mu_2,   sigma_k ~ N+(0, 2^2),   theta ~ Beta(5, 5)
 */
#include "bayes_models.h"
#include "data.h"
#include "priors.h"
#include <stdlib.h>
#include <string.h>

enum { MU, SIGMA = 2, THETA = 4, MOST_ROWS = 100000 };

typedef struct rows {
    size_t n;
    double y[];
} rows;

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/low_dim_gauss_mix.json");
    const size_t n = data_count(&f, "N", 1, MOST_ROWS);
    const double *y = data_numbers(&f, "y", n);
    rows *d = y ? calloc(1, sizeof *d + n * sizeof *y) : NULL;
    if (d) {
        d->n = n;
        memcpy(d->y, y, n * sizeof *y);
    } else if (y)
        nf_error(NF_ENOMEM, "low_dim_gauss_mix: no memory for %zu rows", n);
    data_close(&f);
    return d;
}

static double log_p(const void *data, const double *x, double *g)
{
    const rows *d = data;
    const double *mu = x + MU, weight[2] = {1 / x[SIGMA], 1 / x[SIGMA + 1]};
    const double level[2] = {log(x[THETA] * weight[0]), log1p(-x[THETA]) + log(weight[1])};
    double sum = 0, count[2] = {0}, first[2] = {0}, square[2] = {0}; /* of z = (y - mu) / sigma, by component */
    for (size_t i = 0; i < d->n; i++) {
        const double z[2] = {(d->y[i] - mu[0]) * weight[0], (d->y[i] - mu[1]) * weight[1]};
        const double log_0 = level[0] - 0.5 * z[0] * z[0], log_1 = level[1] - 0.5 * z[1] * z[1];
        const double e = exp(-fabs(log_0 - log_1)), more = 1 / (1 + e); /* of the likelier component */
        const double share[2] = {log_0 > log_1 ? more : e * more, log_0 > log_1 ? e * more : more};
        sum += fmax(log_0, log_1) + log1p(e);
        for (size_t k = 0; k < 2; k++) {
            count[k] += share[k];
            first[k] += share[k] * z[k];
            square[k] += share[k] * z[k] * z[k];
        }
    }
    for (size_t k = 0; k < 2; k++) {
        g[MU + k] += first[k] * weight[k];
        g[SIGMA + k] += (square[k] - count[k]) * weight[k];
        sum += normal_log_p(mu[k], 0, 2, &g[MU + k]) + half_normal_log_p(x[SIGMA + k], 2, &g[SIGMA + k]);
    }
    g[THETA] += count[0] / x[THETA] - count[1] / (1 - x[THETA]);
    return sum + LN_2 + beta_log_p(x[THETA], 5, 5, &g[THETA]) - 0.5 * LN_2_PI * (double)d->n;
}

const bayes_model bayes_gauss_mix = {
    .name = "low_dim_gauss_mix",
    .posterior = "low_dim_gauss_mix-low_dim_gauss_mix",
    .about = "mixture of two normals",
    .parameters = {{.name = "mu", .n = 2, .constraint = nf_ordered},
                   {.name = "sigma", .n = 2, .constraint = bayes_positive},
                   {.name = "theta", .constraint = bayes_fraction}},
    .read = read,
    .log_p = log_p,
};
