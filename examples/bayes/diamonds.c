/*
 * diamonds: prices of 5000 diamonds (posteriordb; a model that R's brms writes).
 *
 *     log price ~ N(Intercept + Xc b, sigma^2),   Xc: the columns of X but the first, less their means,
 *     b_j ~ N(0, 1),   Intercept ~ t_3(8, 10),   sigma ~ t_3+(0, 10)
 *
 * From sufficient statistics (linear.h) a gradient costs 25^2 operations, not 5000 x 24.
 */
#include "data.h"
#include "linear.h"
#include "bayes_models.h"
#include "priors.h"
#include <stdlib.h>

enum { B = 24, MOST_ROWS = 100000 };

/* X [n x (B + 1)] with ones in column 0 -> Z [n x (B + 1)]: centred columns 1 to B, then ones */
static void centre(size_t n, const double *X, double *Z)
{
    for (size_t j = 0; j < B; j++) {
        double mean = 0;
        for (size_t i = 0; i < n; i++)
            mean += X[i * (B + 1) + j + 1] / (double)n;
        for (size_t i = 0; i < n; i++)
            Z[i * (B + 1) + j] = X[i * (B + 1) + j + 1] - mean;
    }
    for (size_t i = 0; i < n; i++)
        Z[i * (B + 1) + B] = 1;
}

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/diamonds.json");
    data_count(&f, "K", B + 1, B + 1);
    const size_t n = data_count(&f, "N", B + 1, MOST_ROWS);
    const double *X = data_numbers(&f, "X", n * (B + 1)), *y = data_numbers(&f, "Y", n);
    double *Z = X ? calloc(n * (B + 1), sizeof *Z) : NULL;
    if (Z)
        centre(n, X, Z);
    else if (X)
        nf_error(NF_ENOMEM, "diamonds: no memory for %zu rows", n);
    linear *l = linear_new(n, B + 1, Z, y);
    free(Z);
    data_close(&f);
    return l;
}

static double log_p(const void *data, const double *x, double *g)
{
    double sum = half_student_t_log_p(x[B + 1], 3, 10, &g[B + 1]) + student_t_log_p(x[B], 3, 8, 10, &g[B]);
    for (size_t j = 0; j < B; j++)
        sum += normal_log_p(x[j], 0, 1, &g[j]);
    return sum + linear_log_p(data, x, x[B + 1], g, &g[B + 1]);
}

const bayes_model bayes_diamonds = {
    .name = "diamonds",
    .posterior = "diamonds-diamonds",
    .about = "regression with 24 correlated columns",
    .parameters = {{.name = "b", .n = B}, {.name = "Intercept"}, {.name = "sigma", .constraint = bayes_positive}},
    .read = read,
    .log_p = log_p,
};
