#include "fit_data.h"
#include "cli.h"
#include "columns.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- which columns ---- */

static bool is_in(size_t value, size_t n, const size_t *list)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* The columns of x, in the list's order or all that have no other role, then those of the context. */
static void choose_columns(fit_data *d)
{
    const fit_request *q = d->request;
    const table *t = &d->all;
    size_t n_x = 0, n_ctx = 0;
    size_t *ctx = q->context ? table_columns(t, q->context, &n_ctx) : NULL;
    size_t *x = q->columns ? table_columns(t, q->columns, &n_x) : cli_allocate(t->columns, sizeof *x);
    const size_t weights = q->weights ? table_column(t, q->weights) : t->columns;
    for (size_t j = 0; !q->columns && j < t->columns; j++)
        if (j != weights && !is_in(j, n_ctx, ctx))
            x[n_x++] = j;
    for (size_t j = 0; j < n_x; j++)
        if (x[j] == weights || is_in(x[j], n_ctx, ctx))
            cli_fail(1, "column %s has two roles", t->name[x[j]]);
    if (is_in(weights, n_ctx, ctx))
        cli_fail(1, "column %s has two roles", t->name[weights]);
    if (n_x == 0)
        cli_fail(1, "no column is left for the density");
    d->dim = n_x;
    d->n_ctx = n_ctx;
    d->place = cli_allocate(n_x + n_ctx, sizeof *d->place);
    memcpy(d->place, x, n_x * sizeof *x);
    if (n_ctx)
        memcpy(d->place + n_x, ctx, n_ctx * sizeof *ctx);
    free(x);
    free(ctx);
}

/* ---- parts ---- */

static rows part(fit_data *d, const table *t, size_t first, size_t n, bool shuffled)
{
    return (rows){.table = t,
                  .n = n,
                  .first = first,
                  .shuffled = shuffled,
                  .seed = d->request->seed,
                  .dim = d->dim,
                  .n_ctx = d->n_ctx,
                  .place = d->place,
                  .shift = d->shift,
                  .scale = d->scale};
}

/* How many of n rows a share is: with few rows one at least, unless the share is 0. */
static size_t share_of(size_t n, double share)
{
    const size_t count = (size_t)floor(share * (double)n + 0.5);
    return share > 0 && count == 0 && n > 2 ? 1 : count;
}

static void read_part(table *t, const char *path, const fit_data *d)
{
    const fit_request *q = d->request;
    table_read(t, path, q->format);
    if (t->columns != d->all.columns)
        cli_fail(1, "%s: it has %zu columns, but %s has %zu", t->path, t->columns, d->all.path, d->all.columns);
    for (size_t j = 0; t->has_names && d->all.has_names && j < t->columns; j++)
        if (strcmp(t->name[j], d->all.name[j]) != 0)
            cli_fail(1, "%s: column %zu is %s, but in %s it is %s", t->path, j + 1, t->name[j], d->all.path,
                     d->all.name[j]);
}

/* Train, validation and test rows, in a random order. Where too few are there, all rows serve as all three. */
static void split(fit_data *d)
{
    const fit_request *q = d->request;
    const size_t n = d->all.n;
    size_t n_valid = q->valid_path ? 0 : share_of(n, q->valid_share),
           n_test = q->test_path ? 0 : share_of(n, q->test_share);
    if (n_valid + n_test >= n)
        n_valid = n_test = 0;
    d->held_back = n_valid || q->valid_path;
    d->train = part(d, &d->all, 0, n - n_valid - n_test, true);
    d->valid = n_valid ? part(d, &d->all, n - n_valid - n_test, n_valid, true) : d->train;
    if (q->valid_path) {
        read_part(&d->valid_table, q->valid_path, d);
        d->valid = part(d, &d->valid_table, 0, d->valid_table.n, false);
    }
    d->test_name = n_test || q->test_path ? "test" : d->held_back ? "validation" : "training";
    d->test = n_test ? part(d, &d->all, n - n_test, n_test, true) : d->valid;
    if (q->test_path) {
        read_part(&d->test_table, q->test_path, d);
        d->test = part(d, &d->test_table, 0, d->test_table.n, false);
    }
}

/* The weights [r->n] of a part; NULL if rows have none. */
static double *read_weights(const fit_data *d, const rows *r)
{
    const char *name = d->request->weights;
    if (!name)
        return NULL;
    const size_t place = table_column(&d->all, name);
    double *record = cli_allocate(ROWS_BLOCK, d->all.columns * sizeof *record),
           *weight = cli_allocate(r->n, sizeof *weight), sum = 0;
    for (size_t first = 0; first < r->n; first += ROWS_BLOCK)
        for (size_t i = first, end = first + rows_records(r, first, record); i < end; i++) {
            weight[i] = record[(i - first) * d->all.columns + place];
            sum += weight[i];
            if (weight[i] < 0)
                cli_fail(1, "%s: row %zu: the weight %s is %g", r->table->path, rows_number(r, i) + 1, name, weight[i]);
        }
    if (sum <= 0)
        cli_fail(1, "%s: the weights %s of %zu rows are all 0", r->table->path, name, r->n);
    free(record);
    return weight;
}

/* Exits 1 if any number of these rows is not finite: better now than at the end of the fit. */
static void check_rows(const rows *r)
{
    double *record = cli_allocate(ROWS_BLOCK, r->table->columns * sizeof *record);
    for (size_t first = 0; first < r->n; first += ROWS_BLOCK)
        rows_records(r, first, record);
    free(record);
}

/* ---- units ---- */

/* Of column j of x the column that tells it: an earlier one of x or one of the context with the same numbers; j if
   there is none. */
static size_t told_by(const fit_data *d, const column *c, size_t j)
{
    for (size_t k = d->dim; k < d->dim + d->n_ctx; k++)
        if (c[k].copy_of == j && !c[k].constant)
            return k;
    return c[j].copy_of;
}

/* Of x whose density would be infinite; all pixels of images stay. Says why it is left out. */
static bool has_no_density(const fit_data *d, const column *c, size_t j)
{
    const size_t other = told_by(d, c, j);
    if (d->image.channels)
        return false;
    if (c[j].constant)
        printf("Column %s is %g in all rows: left out.\n", d->all.name[c[j].place], c[j].mean);
    else if (other != j)
        printf("Column %s equals column %s: left out.\n", d->all.name[c[j].place], d->all.name[c[other].place]);
    return c[j].constant || other != j;
}

/* Leaves out columns of x that have no density of their own. c and d->place become those of the others. */
static void drop_columns(fit_data *d, column *c)
{
    bool *drop = cli_allocate(d->dim + d->n_ctx, sizeof *drop);
    size_t n = 0, dropped = 0;
    for (size_t j = 0; j < d->dim; j++)
        dropped += drop[j] = has_no_density(d, c, j);
    if (dropped == d->dim)
        cli_fail(1, "%s: all columns are constant or equal: there is no density to fit", d->all.path);
    for (size_t j = 0; j < d->dim + d->n_ctx; j++) {
        if (drop[j])
            continue;
        c[n] = c[j];
        d->place[n++] = c[j].place;
    }
    d->dim -= dropped;
    free(drop);
}

static void name_whole_numbers(const fit_data *d, const column *c)
{
    size_t whole = 0, shown = 0;
    for (size_t j = 0; j < d->dim; j++)
        whole += c[j].whole;
    if (!whole || d->request->dequantise)
        return;
    printf("%zu column%s whole numbers alone (", whole, whole == 1 ? " has" : "s have");
    for (size_t j = 0; j < d->dim && shown < 4; j++)
        if (c[j].whole)
            printf("%s%s", shown++ ? ", " : "", d->all.name[c[j].place]);
    printf("%s): their density has peaks without end; --dequantise spreads them.\n", whole > 4 ? " ..." : "");
}

static void find_units(fit_data *d, const column *c)
{
    for (size_t j = 0; j < d->dim + d->n_ctx; j++) {
        d->shift[j] = c[j].mean;
        d->scale[j] = c[j].constant ? 1 : c[j].sd;
    }
    if (d->image.channels) /* all pixels of a channel have one unit */
        for (size_t k = 0, pixels = d->dim / d->image.channels; k < d->image.channels; k++) {
            double mean = 0, square = 0;
            for (size_t i = k * pixels; i < (k + 1) * pixels; i++) {
                mean += c[i].mean / (double)pixels;
                square += (c[i].sd * c[i].sd + c[i].mean * c[i].mean) / (double)pixels;
            }
            for (size_t i = k * pixels; i < (k + 1) * pixels; i++) {
                d->shift[i] = mean;
                d->scale[i] = square > mean * mean ? sqrt(square - mean * mean) : 1;
            }
        }
    d->log_scale = 0;
    for (size_t j = 0; j < d->dim; j++)
        d->log_scale += log(d->scale[j]);
}

static void find_blur(fit_data *d)
{
    const fit_request *q = d->request;
    if (!q->dequantise)
        return;
    size_t n = d->dim;
    const bool all = strcmp(q->dequantise, "all") == 0;
    size_t *list = all ? NULL : table_columns(&d->all, q->dequantise, &n);
    d->blur = cli_allocate(d->dim, sizeof *d->blur);
    for (size_t j = 0; j < d->dim; j++)
        if (all || is_in(d->place[j], n, list))
            d->blur[j] = 1 / d->scale[j];
    free(list);
}

static void read_image(fit_data *d)
{
    const fit_request *q = d->request;
    if (!q->image) {
        if (flow_is_of_images(q->family))
            cli_fail(2, "--flow %s needs --image CxHxW", flow_names[q->family]);
        return;
    }
    d->image = flow_image(q->image);
    if (d->image.channels * d->image.height * d->image.width != d->dim)
        cli_fail(1, "%s: %zu columns are no images of %s", d->all.path, d->dim, q->image);
}

void fit_data_read(fit_data *d, const fit_request *q)
{
    *d = (fit_data){.request = q};
    table_read(&d->all, q->path, q->format);
    choose_columns(d);
    read_image(d);
    split(d);
    column *c = cli_allocate(d->dim + d->n_ctx, sizeof *c);
    check_rows(&d->valid);
    check_rows(&d->test);
    survey_columns(&d->train, d->dim + d->n_ctx, d->place, c);
    drop_columns(d, c);
    name_whole_numbers(d, c);
    d->shift = cli_allocate(d->dim + d->n_ctx, sizeof *d->shift);
    d->scale = cli_allocate(d->dim + d->n_ctx, sizeof *d->scale);
    find_units(d, c);
    find_blur(d);
    free(c);
    rows *parts[N_PARTS] = {&d->train, &d->valid, &d->test};
    for (size_t k = 0; k < N_PARTS; k++) {
        parts[k]->dim = d->dim;
        parts[k]->shift = d->shift;
        parts[k]->scale = d->scale;
    }
    for (size_t k = 0; k < N_PARTS; k++)
        d->weight[k] = read_weights(d, parts[k]);
    if (d->held_back)
        printf("%zu rows: %zu to train, %zu to validate, %zu to test; ", d->all.n, d->train.n, d->valid.n,
               strcmp(d->test_name, "test") == 0 ? d->test.n : 0);
    else
        printf("%zu row%s, too few to hold some back: the figures below are those of the training rows themselves; ",
               d->all.n, d->all.n == 1 ? "" : "s");
    printf("%zu column%s", d->dim, d->dim == 1 ? "" : "s");
    if (d->n_ctx)
        printf(" given %zu", d->n_ctx);
    puts(".");
}

void fit_data_free(fit_data *d)
{
    free(d->place);
    free(d->shift);
    free(d->scale);
    free(d->blur);
    for (size_t k = 0; k < N_PARTS; k++)
        free(d->weight[k]);
    table_free(&d->all);
    table_free(&d->valid_table);
    table_free(&d->test_table);
}
