#include "regression_rows.h"
#include "cli.h"
#include "conditional_law.h"
#include "estimate.h"
#include "npy.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TEST_SEED = 1000003, MOST_COLUMNS = 1024 };

static regression_part new_part(size_t n, size_t n_x)
{
    return (regression_part){n, cli_allocate(n, (n_x + 1) * sizeof(double)), cli_allocate(n, n_x * sizeof(double)),
                             cli_allocate(n, sizeof(double))};
}

static void make_law(regression_rows *d, size_t n, uint64_t seed)
{
    d->n_x = 1;
    d->train = new_part(n, d->n_x);
    d->valid = new_part(n / 5 + 1, d->n_x);
    d->test = new_part(20000, d->n_x);
    conditional_law_rows(seed, d->train.n, d->train.raw);
    conditional_law_rows(seed ^ 0x5555, d->valid.n, d->valid.raw);
    conditional_law_rows(TEST_SEED, d->test.n, d->test.raw);
}

/* A tenth tests and a tenth validates, in a random order. */
static void read_file(regression_rows *d, const char *data, size_t target, uint64_t seed)
{
    const char *root = getenv("NFLOW_DATA"), *file = strcmp(data, "gas") == 0 ? "gas_turbine_2011_2015.npy.xz"
                                                     : strcmp(data, "protein") == 0
                                                         ? "dropout_protein-tertiary-structure.npy.xz"
                                                         : NULL;
    if (file && !root)
        cli_fail(1, "%s: set NFLOW_DATA to the folder that has uci/%s", data, file);
    char *path = file ? cli_text("%s/uci/%s", root, file) : cli_text("%s", data);
    nf_array a = npy_numbers(path);
    const size_t y = target ? target - 1 : a.dim - 1, tenth = a.n / 10;
    if (a.dim < 2 || a.dim > MOST_COLUMNS || y >= a.dim || tenth < 10)
        cli_fail(1, "%s: %zu rows of %zu columns, but 100 of 2 to %d are wanted, and column %zu is to be y", path, a.n,
                 a.dim, MOST_COLUMNS, y + 1);
    d->n_x = a.dim - 1;
    regression_part *const parts[] = {&d->test, &d->valid, &d->train};
    d->test = new_part(tenth, d->n_x);
    d->valid = new_part(tenth, d->n_x);
    d->train = new_part(a.n - 2 * tenth, d->n_x);
    for (size_t k = 0, first = 0; k < 3; first += parts[k++]->n)
        for (size_t i = 0; i < parts[k]->n; i++) {
            const nf_real *from = a.data + nf_noise_permuted(&(nf_noise){.seed = seed}, a.n, first + i) * a.dim;
            double *to = parts[k]->raw + i * a.dim;
            memcpy(to, from, y * sizeof *to);
            memcpy(to + y, from + y + 1, (d->n_x - y) * sizeof *to);
            to[d->n_x] = from[y];
            for (size_t j = 0; j < a.dim; j++)
                if (!isfinite(to[j]))
                    cli_fail(1, "%s: a number is not finite", path);
        }
    nf_array_free(&a);
    free(path);
}

/* By the means and deviations of the training rows. */
static void standardise(regression_rows *d, const char *data)
{
    d->shift = cli_allocate(d->n_x + 1, sizeof *d->shift);
    d->scale = cli_allocate(d->n_x + 1, sizeof *d->scale);
    double *column = cli_allocate(d->train.n, sizeof *column);
    for (size_t j = 0; j <= d->n_x; j++) {
        for (size_t i = 0; i < d->train.n; i++)
            column[i] = d->train.raw[i * (d->n_x + 1) + j];
        const estimate e = mean_of(d->train.n, column);
        d->shift[j] = e.mean;
        d->scale[j] = e.se * sqrt((double)d->train.n);
        if (!(d->scale[j] > 0))
            cli_fail(1, "%s: column %zu of %zu (y is the last one) is constant", data, j + 1, d->n_x + 1);
    }
    free(column);
    regression_part *const parts[] = {&d->train, &d->valid, &d->test};
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < parts[k]->n; i++) {
            const double *row = parts[k]->raw + i * (d->n_x + 1);
            for (size_t j = 0; j < d->n_x; j++)
                parts[k]->x[i * d->n_x + j] = (row[j] - d->shift[j]) / d->scale[j];
            parts[k]->y[i] = (row[d->n_x] - d->shift[d->n_x]) / d->scale[d->n_x];
        }
}

void regression_rows_read(regression_rows *d, const char *data, size_t target, size_t n_law, uint64_t seed)
{
    *d = (regression_rows){0};
    if (strcmp(data, "law") == 0)
        make_law(d, n_law, seed);
    else
        read_file(d, data, target, seed);
    standardise(d, data);
}

void regression_rows_free(regression_rows *d)
{
    const regression_part parts[] = {d->train, d->valid, d->test};
    for (size_t k = 0; k < 3; k++) {
        free(parts[k].raw);
        free(parts[k].x);
        free(parts[k].y);
    }
    free(d->shift);
    free(d->scale);
}
