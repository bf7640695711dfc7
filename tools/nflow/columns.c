/*
 * One pass over the rows. Mean and sum of squares are updated row by row (Welford 1962), which loses no digits where
 * the mean is large. Columns are compared by a hash of their numbers, 64 bits.
 */
#include "columns.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct tally {
    double squares; /* sum of squared deviations from the mean */
    uint64_t hash;
    bool whole;
} tally;

static uint64_t mix(uint64_t hash, double value)
{
    uint64_t bits;
    value += 0.0; /* -0 becomes 0 */
    memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static void add(column *c, tally *t, double value, size_t row)
{
    const double delta = value - c->mean;
    c->mean += delta / ((double)row + 1);
    t->squares += delta * (value - c->mean);
    c->least = fmin(c->least, value);
    c->most = fmax(c->most, value);
    t->whole = t->whole && value == floor(value);
    t->hash = mix(t->hash, value);
}

/* Whole numbers are a sign of discrete data only if values repeat: a range below the number of rows says that some do.
   A 0 / 1 column is discrete in any case. */
static bool repeats(const column *c, size_t n)
{
    return c->most - c->least < 2 || c->most - c->least + 1 < (double)n / 2;
}

static void finish(column *c, const tally *t, size_t n)
{
    const double size = fmax(fabs(c->least), fabs(c->most));
    c->sd = sqrt(t->squares / (double)n);
    c->constant = c->most - c->least <= 1e-13 * size;
    c->whole = t->whole && !c->constant && repeats(c, n);
}

void survey_columns(const rows *r, size_t n_columns, const size_t *place, column *c)
{
    tally *t = cli_allocate(n_columns, sizeof *t);
    double *record = cli_allocate(ROWS_BLOCK, r->table->columns * sizeof *record);
    for (size_t j = 0; j < n_columns; j++) {
        c[j] = (column){.place = place[j], .least = INFINITY, .most = -INFINITY, .copy_of = j};
        t[j].whole = true;
    }
    for (size_t first = 0; first < r->n; first += ROWS_BLOCK) {
        const size_t n = rows_records(r, first, record);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n_columns; j++)
                add(&c[j], &t[j], record[i * r->table->columns + place[j]], first + i);
        cli_progress("reading", (double)first, (double)r->n, "%zu rows", first);
    }
    cli_progress_clear();
    for (size_t j = 0; j < n_columns; j++) {
        finish(&c[j], &t[j], r->n);
        for (size_t k = 0; k < j && c[j].copy_of == j && !c[j].constant; k++)
            if (t[k].hash == t[j].hash)
                c[j].copy_of = k;
    }
    free(record);
    free(t);
}
