#include "linear.h"
#include "integral.h"
#include "priors.h"
#include <gsl/gsl_linalg.h>
#include <gsl/gsl_multifit.h>
#include <nflow/base.h>
#include <stdlib.h>

/* b and R by a singular value decomposition of X. Returns whether there was memory. */
static bool least_squares(linear *l, const double *X, const double *y)
{
    gsl_multifit_linear_workspace *work = gsl_multifit_linear_alloc(l->n, l->p);
    gsl_matrix *covariance = gsl_matrix_alloc(l->p, l->p);
    if (work && covariance) {
        const gsl_matrix_const_view in = gsl_matrix_const_view_array(X, l->n, l->p);
        const gsl_vector_const_view out = gsl_vector_const_view_array(y, l->n);
        gsl_vector_view best = gsl_vector_view_array(l->best, l->p);
        gsl_multifit_linear(&in.matrix, &out.vector, &best.vector, covariance, &l->residual, work);
    }
    const bool good = work && covariance;
    gsl_multifit_linear_free(work);
    gsl_matrix_free(covariance);
    return good;
}

linear *linear_new(size_t n, size_t p, const double *X, const double *y)
{
    if (!X || !y)
        return NULL;
    linear *l = p <= LINEAR_MOST && n >= p ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        nf_error(p <= LINEAR_MOST ? NF_ENOMEM : NF_EARG, "linear_new: no room for [%zu x %zu] numbers", n, p);
        return NULL;
    }
    *l = (linear){.n = n, .p = p};
    if (!least_squares(l, X, y)) {
        nf_error(NF_ENOMEM, "linear_new: no memory for [%zu x %zu] numbers", n, p);
        free(l);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < p; j++)
            for (size_t k = 0; k < p; k++)
                l->cross[j * p + k] += X[i * p + j] * X[i * p + k];
    return l;
}

linear *linear_of_columns(size_t n, size_t p, const double *const *column, const double *y)
{
    double *X = n ? calloc(n * p, sizeof *X) : NULL; /* n is 0 after a mistake in the data */
    for (size_t i = 0; X && i < n; i++)
        for (size_t j = 0; j < p; j++)
            X[i * p + j] = column[j] ? column[j][i] : 1;
    linear *l = linear_new(n, p, X, y);
    if (n && !X)
        nf_error(NF_ENOMEM, "linear_of_columns: no memory for [%zu x %zu] numbers", n, p);
    free(X);
    return l;
}

double linear_log_p(const linear *l, const double *beta, double sigma, double *g_beta, double *g_sigma)
{
    const size_t p = l->p;
    const double n = (double)l->n, weight = 1 / (sigma * sigma);
    double away[LINEAR_MOST], square = l->residual;
    for (size_t j = 0; j < p; j++)
        away[j] = beta[j] - l->best[j];
    for (size_t j = 0; j < p; j++) {
        const double *row = l->cross + j * p;
        double sum = 0;
        for (size_t k = 0; k < p; k++)
            sum += row[k] * away[k];
        g_beta[j] -= weight * sum;
        square += away[j] * sum;
    }
    *g_sigma += (weight * square - n) / sigma;
    return -0.5 * weight * square - n * (log(sigma) + 0.5 * LN_2_PI);
}

/*
 * With A = X^T X / sigma^2 and B = A + I / sd^2 the exponent is that of the least squares and b^T (A - A B^-1 A) b =
 * (A b)^T B^-1 b / sd^2.
 */
double linear_log_evidence(const linear *l, double sigma, double sd)
{
    const size_t p = l->p;
    const double n = (double)l->n, weight = 1 / (sigma * sigma), rate = 1 / (sd * sd);
    double matrix[LINEAR_MOST * LINEAR_MOST], solved[LINEAR_MOST], square = weight * l->residual, log_det = 0;
    for (size_t i = 0; i < p * p; i++)
        matrix[i] = weight * l->cross[i] + (i % (p + 1) == 0 ? rate : 0);
    gsl_matrix_view B = gsl_matrix_view_array(matrix, p, p);
    const gsl_vector_const_view b = gsl_vector_const_view_array(l->best, p);
    gsl_vector_view u = gsl_vector_view_array(solved, p);
    gsl_linalg_cholesky_decomp1(&B.matrix);
    gsl_linalg_cholesky_solve(&B.matrix, &b.vector, &u.vector);
    for (size_t j = 0; j < p; j++) {
        log_det += 2 * log(matrix[j * p + j]);
        for (size_t k = 0; k < p; k++)
            square += rate * weight * l->cross[j * p + k] * l->best[k] * solved[j];
    }
    const double prior = isinf(sd) ? 0.5 * LN_2_PI : -log(sd);
    return (double)p * prior - 0.5 * (n * LN_2_PI + log_det + square) - n * log(sigma);
}

typedef struct margin {
    const linear *l;
    double sd, (*log_prior)(double sigma, double scale, double *g), scale;
} margin;

static double log_p_of_log_sigma(const void *user, double log_sigma)
{
    const margin *m = user;
    double unused = 0;
    const double sigma = exp(log_sigma), prior = m->log_prior ? m->log_prior(sigma, m->scale, &unused) : 0;
    return log_sigma + prior + linear_log_evidence(m->l, sigma, m->sd);
}

double linear_log_z(const linear *l, double sd, double (*log_prior)(double sigma, double scale, double *g),
                    double scale)
{
    const double centre = 0.5 * log(l->residual / (double)l->n);
    return log_integral(log_p_of_log_sigma, &(margin){l, sd, log_prior, scale}, centre - 10, centre + 10);
}

double linear_flat_log_p(const void *data, const double *x, double *g)
{
    const linear *l = data;
    return linear_log_p(l, x, x[l->p], g, &g[l->p]);
}

double linear_flat_log_z(const void *data)
{
    return linear_log_z(data, INFINITY, NULL, 0);
}
