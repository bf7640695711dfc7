#include "picture.h"
#include "cli.h"
#include "output.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CURVE = 500, GRID = 250, IMAGE_COLUMNS = 10 };

/* log-densities of n points that share a context. */
static double *score(const density *d, size_t n, const double *x, const double *ctx)
{
    double *log_p = cli_allocate(n, sizeof *log_p), *all = ctx ? cli_allocate(n, d->n_ctx * sizeof *all) : NULL;
    for (size_t i = 0; ctx && i < n; i++)
        memcpy(all + i * d->n_ctx, ctx, d->n_ctx * sizeof *all);
    cli_ok(nf_log_prob(d->m, d->ws, &(nf_noise){0}, n, x, all, log_p));
    free(all);
    return log_p;
}

/* ---- one column ---- */

void picture_line(const density *d, const char *path, const double *ctx, const shown *data, const shown *draws)
{
    const range r = shown_range(data, draws, 0);
    double x[CURVE];
    for (size_t i = 0; i < CURVE; i++)
        x[i] = r.low + (r.high - r.low) * ((double)i + 0.5) / CURVE;
    double *log_p = score(d, CURVE, x, ctx);
    FILE *p = plot_open(path, 720, 440);
    plot_label(p, "x", d->name[0]);
    plot_label(p, "y", "density");
    plot_range(p, "x", r);
    fputs("set yrange [0:*]\nset key top right\nset style fill solid 0.35 noborder\nplot ", p);
    if (data->n)
        fprintf(p, "'-' using 1:2 with boxes lc rgb '%s' title 'data', ", plot_blue);
    fprintf(p, "'-' using 1:2 with lines lw 2 lc rgb '%s' title 'density'\n", plot_orange);
    if (data->n)
        plot_histogram(p, data, 0, r);
    for (size_t i = 0; i < CURVE; i++)
        fprintf(p, "%.17g %.17g\n", x[i], exp(log_p[i]));
    fputs("e\n", p);
    plot_close(p);
    free(log_p);
}

/* ---- two columns ---- */

void picture_surface(const density *d, const char *path, const double *ctx, const shown *data, const shown *draws)
{
    const range a = shown_range(data, draws, 0), b = shown_range(data, draws, 1);
    const size_t n = (size_t)GRID * GRID;
    double *x = cli_allocate(n, 2 * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[2 * i] = a.low + (a.high - a.low) * ((double)(i % GRID) + 0.5) / GRID;
        x[2 * i + 1] = b.low + (b.high - b.low) * ((double)(i / GRID) + 0.5) / GRID;
    }
    double *log_p = score(d, n, x, ctx);
    FILE *p = plot_open(path, 720, 620);
    plot_label(p, "x", d->name[0]);
    plot_label(p, "y", d->name[1]);
    plot_label(p, "cb", "density");
    plot_range(p, "x", a);
    plot_range(p, "y", b);
    fputs("unset key\nset palette defined (0 '#000004', 0.25 '#51127c', 0.5 '#b73779', 0.75 '#fc8961', 1 '#fcfdbf')\n",
          p);
    fputs("plot '-' using 1:2:3 with image", p);
    if (data->n)
        fputs(", '-' using 1:2 with dots lc rgb '#60ffffff'", p);
    putc('\n', p);
    for (size_t i = 0; i < n; i++)
        fprintf(p, "%.17g %.17g %.9g\n", x[2 * i], x[2 * i + 1], exp(log_p[i]));
    fputs("e\n", p);
    if (data->n)
        plot_dots(p, data, 0, 1);
    plot_close(p);
    free(log_p);
    free(x);
}

void picture_pairs(const density *d, const char *path, size_t n, const size_t *column, const shown *data,
                   const shown *draws)
{
    pairs_plot(path, n, column, (const char *const *)d->name, data, draws);
}

/* ---- images ---- */

/* From 0 to 1 between the least and the largest number of all images. */
void picture_images(const density *d, const char *path, const shown *draws)
{
    const json_t *image = json_object_get(d->note, "image");
    const size_t channels = (size_t)json_integer_value(json_array_get(image, 0)),
                 height = (size_t)json_integer_value(json_array_get(image, 1)),
                 width = (size_t)json_integer_value(json_array_get(image, 2));
    if (height == 0 || width == 0 || channels * height * width != d->dim)
        cli_fail(1, "%s: its note says that images have other extents than the model", d->path);
    const size_t lines = draws->n < 100 ? (draws->n + IMAGE_COLUMNS - 1) / IMAGE_COLUMNS : 10,
                 n = draws->n < lines * IMAGE_COLUMNS ? draws->n : lines * IMAGE_COLUMNS;
    const shown first = {.n = n * d->dim, .dim = 1, .x = draws->x};
    const range r = shown_range(&first, &first, 0);
    const int zoom = width < 16 ? 8 : 3;
    FILE *p = plot_open(path, (int)(IMAGE_COLUMNS * (width + 1)) * zoom, (int)(lines * (height + 1)) * zoom);
    fprintf(p,
            "unset key; unset colorbox; unset tics; unset border\nset margins 0,0,0,0\nset palette gray\nset cbrange "
            "[0:255]\n"
            "set xrange [-0.5:%zu.5]; set yrange [%zu.5:-0.5] reverse\nset yrange [*:*]\n"
            "plot '-' using 1:2:3:4:5 with rgbimage\n",
            IMAGE_COLUMNS * (width + 1), lines * (height + 1));
    for (size_t i = 0; i < lines * (height + 1); i++)
        for (size_t j = 0; j < IMAGE_COLUMNS * (width + 1); j++) {
            const size_t k = i / (height + 1) * IMAGE_COLUMNS + j / (width + 1), row = i % (height + 1),
                         col = j % (width + 1);
            double rgb[3] = {255, 255, 255};
            for (size_t c = 0; c < 3 && k < n && row < height && col < width; c++) {
                const size_t channel = c < channels ? c : channels - 1;
                const double value = draws->x[k * d->dim + (channel * height + row) * width + col];
                rgb[c] = 255 * fmin(fmax((value - r.low) / (r.high - r.low), 0), 1);
            }
            fprintf(p, "%zu %zu %.0f %.0f %.0f\n", j, lines * (height + 1) - i, rgb[0], rgb[1], rgb[2]);
        }
    fputs("e\n", p);
    plot_close(p);
}
