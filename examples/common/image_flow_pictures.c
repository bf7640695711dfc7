#include "image_flow_pictures.h"
#include "cli.h"
#include "pictures.h"
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 10, ROWS = 8, NEIGHBOURS = 7 };

/* A table of pictures in the making. */
typedef struct table {
    const image_flow *f;
    const image_sets *d;
    const char *folder;
    size_t rows, columns;
    unsigned char *k; /* [rows columns x dim] */
    nf_real *z, *ctx; /* [rows columns x dim], [rows columns x n_labels]; NULL without labels */
} table;

static table new_table(const image_flow *f, const image_sets *d, const char *folder, size_t rows, size_t columns)
{
    const size_t n = rows * columns;
    table t = {f, d, folder, rows, columns, cli_allocate(n, f->dim), cli_allocate(n, f->dim * sizeof(nf_real)), NULL};
    t.ctx = d->n_labels ? cli_allocate(n, d->n_labels * sizeof(nf_real)) : NULL;
    return t;
}

/* The label of picture i is that of row `row` of a set. */
static void copy_label(table *t, size_t i, const nf_data *set, size_t row)
{
    const size_t n = t->d->n_labels;
    if (n)
        memcpy(t->ctx + i * n, set->ctx + row * n, n * sizeof *t->ctx);
}

/* Each column has a label of its own, as long as there are any. */
static void label_columns(table *t)
{
    for (size_t i = 0; t->ctx && i < t->rows * t->columns; i++)
        t->ctx[i * t->d->n_labels + i % t->columns % t->d->n_labels] = 1;
}

static void decode(table *t, size_t first, size_t n)
{
    const size_t dim = t->f->dim;
    image_flow_decode(t->f, n, t->z + first * dim, t->ctx ? t->ctx + first * t->d->n_labels : NULL, t->k + first * dim,
                      NULL);
}

/* Writes the table, with the numbers 0 .. levels - 1 as black to white, and releases it. */
static void finish(table *t, const char *name)
{
    char *path = cli_text("%s/%s.png", t->folder, name);
    const size_t most = t->f->levels - 1;
    for (size_t i = 0; i < t->rows * t->columns * t->f->dim; i++)
        t->k[i] = (unsigned char)((t->k[i] * 255 + most / 2) / most);
    picture_write_table(path, t->rows, t->columns, t->f->size, t->k);
    free(path);
    free(t->k);
    free(t->z);
    free(t->ctx);
}

static void scale(size_t n, double by, nf_real *z)
{
    for (size_t i = 0; i < n; i++)
        z[i] *= (nf_real)by;
}

/* The j-th of n test images from all over: the set may be sorted. */
static size_t spread(const nf_data *test, size_t j, size_t n)
{
    return j * test->n / n;
}

/* ---- the pictures ---- */

static void samples(table t, double temperature, uint64_t seed)
{
    const size_t n = t.rows * t.columns;
    image_flow_latents(t.f, n, seed, t.z);
    scale(n * t.f->dim, temperature, t.z);
    label_columns(&t);
    decode(&t, 0, n);
    finish(&t, "samples");
}

static const double temperatures[] = {0.25, 0.5, 0.7, 0.8, 0.9, 1};
enum { TEMPERATURES = sizeof temperatures / sizeof *temperatures };

static void temperature_rows(table t, uint64_t seed)
{
    const size_t row = t.columns * t.f->dim;
    for (size_t r = 0; r < t.rows; r++) {
        image_flow_latents(t.f, t.columns, seed, t.z + r * row);
        scale(row, temperatures[r], t.z + r * row);
    }
    label_columns(&t);
    decode(&t, 0, t.rows * t.columns);
    finish(&t, "temperature");
}

/* The first test image from number `from` on, round the end, that has the label of number `with` and is another one. */
static size_t partner(const image_sets *d, size_t with, size_t from)
{
    const size_t n = d->test.n, size = d->n_labels * sizeof(nf_real);
    for (size_t i = 0; i < n; i++) {
        const size_t other = (from + i) % n;
        const bool same =
            !size || memcmp(d->test.ctx + with * d->n_labels, d->test.ctx + other * d->n_labels, size) == 0;
        if (other != with && same)
            return other;
    }
    return with;
}

static void interpolations(table t)
{
    const size_t dim = t.f->dim, last = t.columns - 1;
    for (size_t r = 0; r < t.rows; r++) {
        const size_t from = spread(&t.d->test, r, t.rows);
        const size_t end[2] = {from, partner(t.d, from, from + t.d->test.n / (2 * t.rows))};
        nf_real *z = t.z + r * t.columns * dim;
        for (size_t c = 0; c < t.columns; c++)
            copy_label(&t, r * t.columns + c, &t.d->test, from);
        for (size_t e = 0; e < 2; e++)
            image_flow_encode(t.f, 1, t.d->test.bytes + end[e] * dim,
                              t.ctx ? t.ctx + r * t.columns * t.d->n_labels : NULL, z + e * last * dim);
        for (size_t c = 1; c < last; c++)
            for (size_t i = 0; i < dim; i++)
                z[c * dim + i] = z[i] + (nf_real)c / (nf_real)last * (z[last * dim + i] - z[i]);
    }
    decode(&t, 0, t.rows * t.columns);
    finish(&t, "interpolations");
}

static void reconstructions(table t)
{
    const size_t dim = t.f->dim, row = t.columns * dim;
    for (size_t r = 0; r < t.rows; r += 2) {
        for (size_t c = 0; c < t.columns; c++) {
            const size_t i = spread(&t.d->test, r / 2 * t.columns + c, t.rows / 2 * t.columns);
            memcpy(t.k + r * row + c * dim, t.d->test.bytes + i * dim, dim);
            copy_label(&t, r * t.columns + c, &t.d->test, i);
        }
        image_flow_round_trip(t.f, t.columns, t.k + r * row, t.ctx ? t.ctx + r * t.columns * t.d->n_labels : NULL,
                              t.k + (r + 1) * row);
    }
    finish(&t, "reconstructions");
}

static double squared_distance(size_t dim, const unsigned char *a, const unsigned char *b)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

/* The n nearest training images to image k[0] become images k[1], ... */
static void find_nearest(const nf_data *train, size_t n, unsigned char *k)
{
    double best[NEIGHBOURS];
    size_t which[NEIGHBOURS], found = 0;
    for (size_t i = 0; i < train->n; i++) {
        const double distance = squared_distance(train->dim, k, train->bytes + i * train->dim);
        if (found == n && distance >= best[n - 1])
            continue;
        size_t at = found < n ? found++ : n - 1;
        for (; at > 0 && best[at - 1] > distance; at--) {
            best[at] = best[at - 1];
            which[at] = which[at - 1];
        }
        best[at] = distance;
        which[at] = i;
    }
    for (size_t j = 0; j < found; j++)
        memcpy(k + (1 + j) * train->dim, train->bytes + which[j] * train->dim, train->dim);
}

static void nearest(table t, double temperature, uint64_t seed)
{
    const size_t dim = t.f->dim;
    for (size_t r = 0; r < t.rows; r++) {
        const size_t first = r * t.columns;
        nf_noise_normal(&(nf_noise){.seed = seed, .first_sample = r}, dim, 1, 1, t.z + first * dim);
        scale(dim, temperature, t.z + first * dim);
        if (t.ctx)
            t.ctx[first * t.d->n_labels + r % t.d->n_labels] = 1;
        decode(&t, first, 1);
        find_nearest(&t.d->train, t.columns - 1, t.k + first * dim);
    }
    finish(&t, "nearest");
}

void image_flow_pictures(const image_flow *f, const image_sets *d, const char *folder, double temperature,
                         uint64_t seed)
{
    samples(new_table(f, d, folder, ROWS, COLUMNS), temperature, seed);
    temperature_rows(new_table(f, d, folder, TEMPERATURES, COLUMNS), seed);
    interpolations(new_table(f, d, folder, ROWS, COLUMNS));
    reconstructions(new_table(f, d, folder, ROWS, COLUMNS));
    nearest(new_table(f, d, folder, ROWS, 1 + NEIGHBOURS), temperature, seed);
}
