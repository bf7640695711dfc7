/*
 * german_credit: whether a loan goes bad, by logistic regression on 24 columns (UCI, Statlog, the numeric form).
 *
 *     p(bad) = 1 / (1 + exp(-(beta_0 + z^T beta))),   beta_j ~ N(0, 1),   z: the columns, standardised
 *
 * The columns of the design stand in blocks of 64 rows, so that loops run along rows. With s = 1 for bad loans and -1
 * for good ones and m = s (X beta), a row has -ln(1 + e^-m) and the slope s / (1 + e^m) in X beta.
 */
#include "bayes_models.h"
#include "data.h"
#include "priors.h"
#include <math.h>
#include <nflow/data.h>
#include <stdlib.h>

enum { COLUMNS = 24, P = COLUMNS + 1, BLOCK = 64 };

typedef struct block {
    double x[P][BLOCK], sign[BLOCK]; /* 0 in rows that there are not */
} block;

typedef struct loans {
    size_t n_blocks;
    block b[];
} loans;

static double mean_of(const nf_table *t, size_t column)
{
    double sum = 0;
    for (size_t i = 0; i < t->n; i++)
        sum += (double)t->data[i * t->dim + column];
    return sum / (double)t->n;
}

static double sd_of(const nf_table *t, size_t column)
{
    const double mean = mean_of(t, column);
    double square = 0;
    for (size_t i = 0; i < t->n; i++)
        square += pow((double)t->data[i * t->dim + column] - mean, 2);
    return sqrt(square / (double)t->n);
}

static void fill(loans *d, const nf_table *t)
{
    for (size_t j = 0; j < P; j++) {
        const double mean = j ? mean_of(t, j - 1) : 0, sd = j ? sd_of(t, j - 1) : 1;
        for (size_t i = 0; i < t->n; i++)
            d->b[i / BLOCK].x[j][i % BLOCK] = j ? ((double)t->data[i * t->dim + j - 1] - mean) / sd : 1;
    }
    for (size_t i = 0; i < t->n; i++) /* the last column is 2 for bad loans, 1 for good ones */
        d->b[i / BLOCK].sign[i % BLOCK] = t->data[i * t->dim + COLUMNS] > NF_R(1.5) ? 1 : -1;
}

static void *read(const char *folder)
{
    char path[512];
    nf_table t;
    loans *d = NULL;
    if (!data_path(sizeof path, path, folder, "credit/german_credit_numeric.csv") || nf_load_csv(path, NULL, &t))
        return NULL;
    const size_t n_blocks = (t.n + BLOCK - 1) / BLOCK;
    if (t.dim != COLUMNS + 1)
        nf_error(NF_EDIM, "%s: has %zu columns, not %d", path, t.dim, COLUMNS + 1);
    else if (!(d = calloc(1, sizeof *d + n_blocks * sizeof *d->b)))
        nf_error(NF_ENOMEM, "german_credit: no memory for %zu rows", t.n);
    else {
        d->n_blocks = n_blocks;
        fill(d, &t);
    }
    nf_table_free(&t);
    return d;
}

static double log_p(const void *data, const double *x, double *g)
{
    const loans *d = data;
    double sum = 0;
    for (size_t j = 0; j < P; j++)
        sum += normal_log_p(x[j], 0, 1, &g[j]);
    for (size_t k = 0; k < d->n_blocks; k++) {
        const block *b = &d->b[k];
        double margin[BLOCK] = {0}, slope[BLOCK];
        for (size_t j = 0; j < P; j++)
            for (size_t i = 0; i < BLOCK; i++)
                margin[i] += x[j] * b->x[j][i];
        for (size_t i = 0; i < BLOCK; i++) {
            const double m = b->sign[i] * margin[i], e = exp(-fabs(m));
            sum += b->sign[i] == 0 ? 0 : fmin(m, 0) - log1p(e);
            slope[i] = b->sign[i] * (m > 0 ? e : 1) / (1 + e);
        }
        for (size_t j = 0; j < P; j++) {
            double part[4] = {0}; /* sums that do not wait for each other */
            for (size_t i = 0; i < BLOCK; i += 4)
                for (size_t l = 0; l < 4; l++)
                    part[l] += b->x[j][i + l] * slope[i + l];
            g[j] += part[0] + part[1] + (part[2] + part[3]);
        }
    }
    return sum;
}

const bayes_model bayes_german_credit = {
    .name = "german_credit",
    .about = "logistic regression on 1000 loans",
    .parameters = {{.name = "beta", .n = P}},
    .read = read,
    .log_p = log_p,
};
