/*
 * kidscore_interaction: children's test scores by their mothers' schooling and IQ (Gelman & Hill 2007, ch. 3;
 * posteriordb).
 *
 *     score ~ N(beta_1 + beta_2 hs + beta_3 iq + beta_4 hs iq, sigma^2),   beta flat,   sigma ~ Cauchy+(0, 2.5)
 *
 * beta has no proper prior: the integral is an evidence up to a factor.
 */
#include "data.h"
#include "linear.h"
#include "bayes_models.h"
#include "priors.h"
#include <stdlib.h>

enum { P = 4, MOST_ROWS = 100000 };

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/kidiq.json");
    const size_t n = data_count(&f, "N", P, MOST_ROWS);
    const double *y = data_numbers(&f, "kid_score", n), *hs = data_numbers(&f, "mom_hs", n);
    const double *iq = data_numbers(&f, "mom_iq", n);
    double *both = data_good(&f) ? calloc(n, sizeof *both) : NULL;
    for (size_t i = 0; both && i < n; i++)
        both[i] = hs[i] * iq[i];
    if (data_good(&f) && !both)
        nf_error(NF_ENOMEM, "kidscore_interaction: no memory for %zu rows", n);
    linear *l = both ? linear_of_columns(n, P, (const double *const[P]){NULL, hs, iq, both}, y) : NULL;
    free(both);
    data_close(&f);
    return l;
}

static double log_p(const void *data, const double *x, double *g)
{
    return half_cauchy_log_p(x[P], 2.5, &g[P]) + linear_log_p(data, x, x[P], g, &g[P]);
}

static double log_z(const void *data)
{
    return linear_log_z(data, INFINITY, half_cauchy_of_scale);
}

const bayes_model bayes_kidscore = {
    .name = "kidscore_interaction",
    .posterior = "kidiq-kidscore_interaction",
    .about = "regression with an interaction",
    .parameters = {{.name = "beta", .n = P}, {.name = "sigma", .constraint = bayes_positive}},
    .read = read,
    .log_p = log_p,
    .log_z = log_z,
};
