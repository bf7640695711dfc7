/* x = mean + L e with standard normals e: the Cholesky root L gives e_j from x_0 .. x_j, so that the density of x_j
   given the features before it is N(e_j; 0, 1) / L_jj. */
#include "gaussian.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>

static const double half_log_2pi = 0.91893853320467274178;

/* The covariance's lower triangle becomes its Cholesky root in place. */
static void take_root(const char *what, size_t dim, double *a)
{
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j <= i; j++) {
            const double all = a[i * dim + j];
            double rest = all;
            for (size_t k = 0; k < j; k++)
                rest -= a[i * dim + k] * a[j * dim + k];
            if (i == j && !(rest > 1e-12 * all))
                cli_fail(1, "%s: column %zu of %zu is constant, or a linear function of those before it", what, i + 1,
                         dim);
            a[i * dim + j] = i == j ? sqrt(rest) : rest / a[j * dim + j];
        }
}

gaussian gaussian_fit(const char *what, size_t n, size_t dim, const double *x)
{
    gaussian g = {dim, cli_allocate(dim, sizeof(double)), cli_allocate(dim * dim, sizeof(double))};
    double *centred = cli_allocate(dim, sizeof *centred);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < dim; j++)
            g.mean[j] += x[i * dim + j] / (double)n;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < dim; j++)
            centred[j] = x[i * dim + j] - g.mean[j];
        for (size_t j = 0; j < dim; j++)
            for (size_t k = 0; k <= j; k++)
                g.root[j * dim + k] += centred[j] * centred[k] / (double)n;
    }
    free(centred);
    take_root(what, dim, g.root);
    return g;
}

double gaussian_log_p(const gaussian *g, size_t given, const double *x)
{
    double e[1024], log_p = 0;
    if (g->dim > sizeof e / sizeof *e)
        cli_fail(1, "a normal distribution of %zu features, but there is room for %zu", g->dim, sizeof e / sizeof *e);
    for (size_t j = 0; j < g->dim; j++) {
        const double *row = g->root + j * g->dim;
        e[j] = x[j] - g->mean[j];
        for (size_t k = 0; k < j; k++)
            e[j] -= row[k] * e[k];
        e[j] /= row[j];
        if (j >= given)
            log_p -= half_log_2pi + log(row[j]) + 0.5 * e[j] * e[j];
    }
    return log_p;
}

void gaussian_free(gaussian *g)
{
    free(g->mean);
    free(g->root);
}
