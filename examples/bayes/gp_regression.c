/*
 * gp_regr: a Gaussian process of eleven points (posteriordb, data gp_pois_regr).
 *
 *     y ~ N(0, C),   C_ij = alpha^2 exp(-(x_i - x_j)^2 / (2 rho^2)) + sigma [i = j],
 *     rho ~ Gamma(25, 4),   alpha ~ N+(0, 2^2),   sigma ~ N+(0, 1)
 *
 * (sigma is a variance.) With a = C^-1 y the derivative in a parameter is tr((a a^T - C^-1) dC) / 2.
 */
#include "bayes_models.h"
#include "data.h"
#include "priors.h"
#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <stdlib.h>
#include <string.h>

enum { RHO, ALPHA, SIGMA, MOST_POINTS = 32 };

typedef struct points {
    size_t n;
    double x[MOST_POINTS], y[MOST_POINTS];
} points;

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/gp_pois_regr.json");
    const size_t n = data_count(&f, "N", 1, MOST_POINTS);
    const double *x = data_numbers(&f, "x", n), *y = data_numbers(&f, "y", n);
    points *p = data_good(&f) ? calloc(1, sizeof *p) : NULL;
    if (p) {
        p->n = n;
        memcpy(p->x, x, n * sizeof *x);
        memcpy(p->y, y, n * sizeof *y);
    } else if (data_good(&f))
        nf_error(NF_ENOMEM, "gp_regr: no memory");
    data_close(&f);
    gsl_set_error_handler_off(); /* a matrix that is singular to rounding is an answer here, and not the end */
    return p;
}

static double log_p(const void *data, const double *x, double *g)
{
    const points *p = data;
    const size_t n = p->n;
    const double scale = x[ALPHA] * x[ALPHA], rate = 1 / (x[RHO] * x[RHO]);
    double smooth[MOST_POINTS][MOST_POINTS], matrix[MOST_POINTS * MOST_POINTS], a[MOST_POINTS];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            const double distance = p->x[i] - p->x[j];
            smooth[i][j] = scale * exp(-0.5 * rate * distance * distance);
            matrix[i * n + j] = smooth[i][j] + (i == j ? x[SIGMA] : 0);
        }
    gsl_matrix_view C = gsl_matrix_view_array(matrix, n, n);
    const gsl_vector_const_view y = gsl_vector_const_view_array(p->y, n);
    gsl_vector_view solved = gsl_vector_view_array(a, n);
    if (gsl_linalg_cholesky_decomp1(&C.matrix)) {
        nf_error(NF_ETARGET, "gp_regr: the covariance is not positive definite");
        return -INFINITY;
    }
    double log_det = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        log_det += 2 * log(matrix[i * n + i]);
    gsl_linalg_cholesky_solve(&C.matrix, &y.vector, &solved.vector);
    gsl_linalg_cholesky_invert(&C.matrix);
    for (size_t i = 0; i < n; i++)
        square += a[i] * p->y[i];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            const double distance = p->x[i] - p->x[j], both = i == j ? 0.5 : 1; /* the matrices are symmetric */
            const double slope = both * (a[i] * a[j] - matrix[i * n + j]);
            g[RHO] += slope * smooth[i][j] * distance * distance * rate / x[RHO];
            g[ALPHA] += slope * 2 * smooth[i][j] / x[ALPHA];
            g[SIGMA] += i == j ? slope : 0;
        }
    return gamma_log_p(x[RHO], 25, 4, &g[RHO]) + half_normal_log_p(x[ALPHA], 2, &g[ALPHA]) +
           half_normal_log_p(x[SIGMA], 1, &g[SIGMA]) - 0.5 * (square + log_det + (double)n * LN_2_PI);
}

const bayes_model bayes_gp_regression = {
    .name = "gp_regr",
    .posterior = "gp_pois_regr-gp_regr",
    .about = "Gaussian process of 11 points",
    .parameters = {{.name = "rho", .constraint = bayes_positive},
                   {.name = "alpha", .constraint = bayes_positive},
                   {.name = "sigma", .constraint = bayes_positive}},
    .read = read,
    .log_p = log_p,
};
