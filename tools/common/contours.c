#include "contours.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>

/* ---- smoothing ---- */

static double at(size_t n, const double *sorted, double share)
{
    return sorted[(size_t)(share * (double)(n - 1) + 0.5)];
}

/* The kernel's width for one column of draws in d dimensions. */
static double kernel_width(const shown *s, size_t column, size_t d)
{
    double *x = cli_allocate(s->n, sizeof *x), mean = 0, square = 0;
    for (size_t i = 0; i < s->n; i++) {
        x[i] = s->x[i * s->dim + column];
        mean += x[i] / (double)s->n;
    }
    for (size_t i = 0; i < s->n; i++)
        square += (x[i] - mean) * (x[i] - mean) / (double)s->n;
    cli_sort(s->n, x);
    const double robust = (at(s->n, x, 0.75) - at(s->n, x, 0.25)) / 1.34;
    free(x);
    return 1.25 * fmin(sqrt(square), robust) * pow((double)s->n, -1 / ((double)d + 4));
}

/* The cell of a value; n if it is outside. */
static size_t cell_of(double value, range r, size_t n)
{
    const double place = (value - r.low) / (r.high - r.low) * (double)n;
    return place >= 0 && place < (double)n ? (size_t)place : n;
}

/* Smooths n numbers, `stride` apart, by a normal kernel of a width in cells; w has room for n. */
static void blur(size_t n, size_t stride, double width, double *x, double *w)
{
    const size_t reach = (size_t)fmin(4 * width + 1, (double)n - 1);
    for (size_t i = 0; i < n; i++)
        w[i] = x[i * stride];
    for (size_t i = 0; i < n; i++) {
        double sum = 0, all = 0;
        for (size_t j = i > reach ? i - reach : 0; j < n && j <= i + reach; j++) {
            const double z = ((double)i - (double)j) / width, k = exp(-0.5 * z * z);
            sum += k * w[j];
            all += k;
        }
        x[i * stride] = sum / all;
    }
}

static double width_in_cells(const shown *s, size_t column, size_t d, range r, size_t n)
{
    return fmax(kernel_width(s, column, d) / (r.high - r.low) * (double)n, 0.5);
}

void smooth_line(const shown *s, size_t column, range r, size_t n, double *density)
{
    double *w = cli_allocate(n, sizeof *w);
    for (size_t i = 0; i < n; i++)
        density[i] = 0;
    for (size_t i = 0; i < s->n; i++) {
        const size_t c = cell_of(s->x[i * s->dim + column], r, n);
        if (c < n)
            density[c] += (double)n / ((r.high - r.low) * (double)s->n);
    }
    blur(n, 1, width_in_cells(s, column, 1, r, n), density, w);
    free(w);
}

void smooth_plane(const shown *s, size_t a, size_t b, range x, range y, size_t n, float *density)
{
    double *count = cli_allocate(n * n, sizeof *count), *w = cli_allocate(n, sizeof *w);
    for (size_t i = 0; i < s->n; i++) {
        const size_t column = cell_of(s->x[i * s->dim + a], x, n), row = cell_of(s->x[i * s->dim + b], y, n);
        if (column < n && row < n)
            count[row * n + column] += 1 / (double)s->n;
    }
    const double along = width_in_cells(s, a, 2, x, n), across = width_in_cells(s, b, 2, y, n);
    for (size_t i = 0; i < n; i++)
        blur(n, 1, along, count + i * n, w);
    for (size_t i = 0; i < n; i++)
        blur(n, n, across, count + i, w);
    for (size_t i = 0; i < n * n; i++)
        density[i] = (float)count[i];
    free(count);
    free(w);
}

/* ---- levels ---- */

double density_level(size_t n_cells, const float *density, double share)
{
    double *sorted = cli_allocate(n_cells, sizeof *sorted), all = 0, sum = 0;
    for (size_t i = 0; i < n_cells; i++) {
        sorted[i] = (double)density[i];
        all += sorted[i];
    }
    cli_sort(n_cells, sorted);
    size_t i = n_cells;
    while (i > 1 && sum < share * all)
        sum += sorted[--i];
    const double level = sorted[i > 0 ? i : 0];
    free(sorted);
    return level;
}
