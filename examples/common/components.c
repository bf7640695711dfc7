/* The eigenvectors of the covariance with the largest eigenvalues, by subspace iteration: vectors are multiplied by the
   covariance and made orthonormal again until they stay. Its rate is the ratio of the first eigenvalue left out to the
   one kept; components whose eigenvalues are nearly equal may end up mixed, which changes no density. */
#include "components.h"
#include "cli.h"
#include "estimate.h"
#include <math.h>
#include <nflow/noise.h>
#include <stdlib.h>

enum { ROUNDS = 60 };

static double dot(size_t n, const double *a, const double *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double *covariance(size_t m, size_t dim, const unsigned char *x, double *mean)
{
    double *a = cli_allocate(dim * dim, sizeof *a), *row = cli_allocate(dim, sizeof *row);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < dim; j++)
            mean[j] += x[i * dim + j] / (double)m;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < dim; j++)
            row[j] = x[i * dim + j] - mean[j];
        for (size_t j = 0; j < dim; j++)
            for (size_t k = 0; k <= j && x[i * dim + j];
                 k++) /* of x_j row_k and (x_j - mean_j) row_k the sums are equal */
                a[j * dim + k] += x[i * dim + j] * row[k] / (double)m;
    }
    for (size_t j = 0; j < dim; j++)
        for (size_t k = 0; k < j; k++)
            a[k * dim + j] = a[j * dim + k];
    free(row);
    return a;
}

/* Gram-Schmidt, twice for each vector, which makes it exact to rounding. */
static void make_orthonormal(size_t n, size_t dim, double *v)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < 2 * i; k++) {
            const double *other = v + k % i * dim, along = dot(dim, v + i * dim, other);
            for (size_t j = 0; j < dim; j++)
                v[i * dim + j] -= along * other[j];
        }
        const double length = sqrt(dot(dim, v + i * dim, v + i * dim));
        if (!(length > 1e-9))
            cli_fail(1, "the images differ in less than %zu directions: give fewer --components", n);
        for (size_t j = 0; j < dim; j++)
            v[i * dim + j] /= length;
    }
}

/* Before standardisation. */
static void numbers(const components *c, const unsigned char *x, double *y)
{
    double rest = 0;
    for (size_t i = 0; i + 1 < c->n; i++)
        y[i] = 0;
    for (size_t j = 0; j < c->dim; j++) {
        const double d = x[j] - c->mean[j];
        rest += d * d;
        for (size_t i = 0; i + 1 < c->n; i++)
            y[i] += d * c->vector[i * c->dim + j];
    }
    for (size_t i = 0; i + 1 < c->n; i++)
        rest -= y[i] * y[i];
    y[c->n - 1] = 0.5 * log(fmax(rest, 0) + 1);
}

components components_of(size_t n, size_t m, size_t dim, const unsigned char *x)
{
    const size_t vectors = n - 1;
    components c = {n,
                    dim,
                    cli_allocate(dim, sizeof(double)),
                    cli_allocate(vectors * dim, sizeof(double)),
                    cli_allocate(n, sizeof(double)),
                    cli_allocate(n, sizeof(double))};
    double *a = covariance(m, dim, x, c.mean), *next = cli_allocate(vectors * dim, sizeof *next);
    nf_real *start = cli_allocate(vectors * dim, sizeof *start);
    nf_noise_normal(&(nf_noise){.seed = 1}, vectors, dim, dim, start);
    for (size_t i = 0; i < vectors * dim; i++)
        c.vector[i] = (double)start[i];
    make_orthonormal(vectors, dim, c.vector);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < vectors; i++)
            for (size_t j = 0; j < dim; j++)
                next[i * dim + j] = dot(dim, a + j * dim, c.vector + i * dim);
        make_orthonormal(vectors, dim, next);
        double *old = c.vector;
        c.vector = next;
        next = old;
    }
    free(a);
    free(next);
    free(start);
    double *y = cli_allocate(m, n * sizeof *y), *one = cli_allocate(m, sizeof *one);
    for (size_t i = 0; i < m; i++)
        numbers(&c, x + i * dim, y + i * n);
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < m; i++)
            one[i] = y[i * n + j];
        const estimate e = mean_of(m, one);
        c.shift[j] = e.mean;
        c.scale[j] = e.se * sqrt((double)m) + 1e-9;
    }
    free(y);
    free(one);
    return c;
}

void components_of_image(const components *c, const unsigned char *x, nf_real *y)
{
    double *all = cli_allocate(c->n, sizeof *all);
    numbers(c, x, all);
    for (size_t j = 0; j < c->n; j++)
        y[j] = NF_R((all[j] - c->shift[j]) / c->scale[j]);
    free(all);
}

void components_free(components *c)
{
    free(c->mean);
    free(c->vector);
    free(c->shift);
    free(c->scale);
}
