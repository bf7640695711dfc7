/*
 * hmm_example: a hidden Markov chain of two states (posteriordb).
 *
 *     y_t ~ N(mu_(z_t), 1),   p(z_t = k | z_(t-1) = j) = theta_j[k],   z_1 uniform,
 *     theta_1, theta_2 uniform on the simplex,   mu_1 ~ N(3, 1) and mu_2 ~ N(10, 1) given that 0 < mu_1 < mu_2
 *
 * The states are summed over by the forward recursion a_t[k] = b_t[k] sum_j a_(t-1)[j] theta_j[k] / c_t, where b_t[k] =
 * N(y_t; mu_k, 1) and c_t makes the sum of a_t 1; the likelihood is the product of the c_t. The backward recursion is
 * its adjoint, r_(t-1)[j] = sum_k theta_j[k] b_t[k] r_t[k] / c_t from r_T = 1:
 *
 *     d ln p / d theta_j[k] = sum_t a_(t-1)[j] b_t[k] r_t[k] / c_t,   d ln p / d mu_k = sum_t a_t[k] r_t[k] (y_t -
 * mu_k)
 */
#include "bayes_models.h"
#include "data.h"
#include "integral.h"
#include "priors.h"
#include <gsl/gsl_cdf.h>
#include <stdlib.h>
#include <string.h>

enum { K = 2, THETA = 0, MU = K * K, MOST_ROWS = 1000 };

typedef struct chain {
    size_t n;
    double log_share; /* ln of the normal priors' probability of 0 < mu_1 < mu_2 */
    double y[MOST_ROWS];
} chain;

static double log_share_at(const void *unused, double mu)
{
    double g = 0;
    (void)unused;
    return normal_log_p(mu, 3, 1, &g) + log(gsl_cdf_ugaussian_Q(mu - 10));
}

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/hmm_example.json");
    data_count(&f, "K", K, K);
    const size_t n = data_count(&f, "N", 1, MOST_ROWS);
    const double *y = data_numbers(&f, "y", n);
    chain *d = y ? calloc(1, sizeof *d) : NULL;
    if (d) {
        d->n = n;
        memcpy(d->y, y, n * sizeof *y);
        d->log_share = log_integral(log_share_at, NULL, 0, 13);
    } else if (y)
        nf_error(NF_ENOMEM, "hmm_example: no memory");
    data_close(&f);
    return d;
}

static double log_p(const void *data, const double *x, double *g)
{
    const chain *d = data;
    const double *theta = x + THETA, *mu = x + MU; /* theta [from x to] */
    double a[MOST_ROWS][K], b[MOST_ROWS][K], c[MOST_ROWS];
    double sum = -d->log_share - 0.5 * LN_2_PI * (double)d->n - log(K);
    for (size_t t = 0; t < d->n; t++) {
        double log_b[K], top = -INFINITY;
        for (size_t k = 0; k < K; k++) {
            log_b[k] = -0.5 * (d->y[t] - mu[k]) * (d->y[t] - mu[k]);
            top = fmax(top, log_b[k]);
        }
        c[t] = 0;
        for (size_t k = 0; k < K; k++) {
            b[t][k] = exp(log_b[k] - top); /* the larger is 1, so that no row vanishes */
            a[t][k] = t == 0 ? 1 : 0;
            for (size_t j = 0; t > 0 && j < K; j++)
                a[t][k] += a[t - 1][j] * theta[j * K + k];
            a[t][k] *= b[t][k];
            c[t] += a[t][k];
        }
        for (size_t k = 0; k < K; k++)
            a[t][k] /= c[t];
        sum += top + log(c[t]);
    }
    double r[K] = {1, 1};
    for (size_t t = d->n; t-- > 0;) {
        double before[K] = {0};
        for (size_t k = 0; k < K; k++)
            g[MU + k] += a[t][k] * r[k] * (d->y[t] - mu[k]);
        for (size_t j = 0; t > 0 && j < K; j++)
            for (size_t k = 0; k < K; k++) {
                const double slope = b[t][k] * r[k] / c[t];
                g[THETA + j * K + k] += a[t - 1][j] * slope;
                before[j] += theta[j * K + k] * slope;
            }
        memcpy(r, before, sizeof r);
    }
    return sum + normal_log_p(mu[0], 3, 1, &g[MU]) + normal_log_p(mu[1], 10, 1, &g[MU + 1]);
}

const bayes_model bayes_hmm = {
    .name = "hmm_example",
    .posterior = "hmm_example-hmm_example",
    .about = "hidden Markov chain of two states",
    .parameters = {{.name = "theta1", .n = K, .constraint = nf_simplex_stick},
                   {.name = "theta2", .n = K, .constraint = nf_simplex_stick},
                   {.name = "mu", .n = K, .constraint = nf_positive_ordered}},
    .read = read,
    .log_p = log_p,
};
