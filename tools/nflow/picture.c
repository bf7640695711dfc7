#include "picture.h"
#include "cli.h"
#include "output.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CURVE = 500, GRID = 250, BARS = 40, IMAGE_COLUMNS = 10 };
static const char *const blue = "#1f77b4", *const orange = "#ff7f0e";

/* ---- ranges ---- */

typedef struct range {
    double low, high;
} range;

static double quantile(size_t n, const double *sorted, double share)
{
    return sorted[(size_t)(share * (double)(n - 1) + 0.5)];
}

/* Where nearly all points of one column are: from the 0.5 % to the 99.5 % quantile, and a tenth more on both sides. A
   single point far out would make the picture useless. */
static range range_of(const shown *data, const shown *draws, size_t j)
{
    range all = {INFINITY, -INFINITY};
    const shown *both[] = {data, draws};
    for (size_t k = 0; k < 2; k++) {
        const shown *s = both[k];
        if (s->n == 0)
            continue;
        double *x = cli_allocate(s->n, sizeof *x);
        for (size_t i = 0; i < s->n; i++)
            x[i] = s->x[i * s->dim + j];
        cli_sort(s->n, x);
        all.low = fmin(all.low, quantile(s->n, x, 0.005));
        all.high = fmax(all.high, quantile(s->n, x, 0.995));
        free(x);
    }
    const double more = all.high > all.low ? 0.1 * (all.high - all.low) : 1;
    return (range){all.low - more, all.high + more};
}

/* ---- parts of scripts ---- */

/* A text between double quotes, without what gnuplot would take for commands in it. */
static void put_text(FILE *p, const char *text)
{
    putc('"', p);
    for (; *text; text++)
        if (*text == '"' || *text == '\\' || *text == '`')
            fprintf(p, "\\%c", *text);
        else
            putc((unsigned char)*text < ' ' ? ' ' : *text, p);
    putc('"', p);
}

static void put_label(FILE *p, const char *axis, const char *text)
{
    fprintf(p, "set %slabel ", axis);
    put_text(p, text);
    fputs(" noenhanced\n", p);
}

static void put_range(FILE *p, const char *axis, range r)
{
    fprintf(p, "set %srange [%.17g:%.17g]\n", axis, r.low, r.high);
}

/* Bars of a histogram that integrates to the share of points in the range: "x height" lines and "e". */
static void put_histogram(FILE *p, const shown *s, size_t j, range r)
{
    size_t count[BARS] = {0};
    const double width = (r.high - r.low) / BARS;
    for (size_t i = 0; i < s->n; i++) {
        const double place = (s->x[i * s->dim + j] - r.low) / width;
        if (place >= 0 && place < BARS)
            count[(size_t)place]++;
    }
    for (size_t k = 0; k < BARS; k++)
        fprintf(p, "%.17g %.17g\n", r.low + ((double)k + 0.5) * width, (double)count[k] / ((double)s->n * width));
    fputs("e\n", p);
}

static void put_dots(FILE *p, const shown *s, size_t a, size_t b)
{
    for (size_t i = 0; i < s->n; i++)
        fprintf(p, "%.17g %.17g\n", s->x[i * s->dim + a], s->x[i * s->dim + b]);
    fputs("e\n", p);
}

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
    const range r = range_of(data, draws, 0);
    double x[CURVE];
    for (size_t i = 0; i < CURVE; i++)
        x[i] = r.low + (r.high - r.low) * ((double)i + 0.5) / CURVE;
    double *log_p = score(d, CURVE, x, ctx);
    FILE *p = plot_open(path, 720, 440);
    put_label(p, "x", d->name[0]);
    put_label(p, "y", "density");
    put_range(p, "x", r);
    fputs("set yrange [0:*]\nset key top right\nset style fill solid 0.35 noborder\nplot ", p);
    if (data->n)
        fprintf(p, "'-' using 1:2 with boxes lc rgb '%s' title 'data', ", blue);
    fprintf(p, "'-' using 1:2 with lines lw 2 lc rgb '%s' title 'density'\n", orange);
    if (data->n)
        put_histogram(p, data, 0, r);
    for (size_t i = 0; i < CURVE; i++)
        fprintf(p, "%.17g %.17g\n", x[i], exp(log_p[i]));
    fputs("e\n", p);
    plot_close(p);
    free(log_p);
}

/* ---- two columns ---- */

void picture_surface(const density *d, const char *path, const double *ctx, const shown *data, const shown *draws)
{
    const range a = range_of(data, draws, 0), b = range_of(data, draws, 1);
    const size_t n = (size_t)GRID * GRID;
    double *x = cli_allocate(n, 2 * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[2 * i] = a.low + (a.high - a.low) * ((double)(i % GRID) + 0.5) / GRID;
        x[2 * i + 1] = b.low + (b.high - b.low) * ((double)(i / GRID) + 0.5) / GRID;
    }
    double *log_p = score(d, n, x, ctx);
    FILE *p = plot_open(path, 720, 620);
    put_label(p, "x", d->name[0]);
    put_label(p, "y", d->name[1]);
    put_label(p, "cb", "density");
    put_range(p, "x", a);
    put_range(p, "y", b);
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
        put_dots(p, data, 0, 1);
    plot_close(p);
    free(log_p);
    free(x);
}

/* ---- pairs ---- */

static void panel_of_one(FILE *p, const shown *data, const shown *draws, size_t j, range r)
{
    fputs("set yrange [0:*]\nset style fill solid 0.35 noborder\nplot ", p);
    if (data->n)
        fprintf(p, "'-' using 1:2 with boxes lc rgb '%s' notitle, ", blue);
    fprintf(p, "'-' using 1:2 with histeps lw 1.5 lc rgb '%s' notitle\n", orange);
    if (data->n)
        put_histogram(p, data, j, r);
    put_histogram(p, draws, j, r);
}

void picture_pairs(const density *d, const char *path, size_t n, const size_t *column, const shown *data,
                   const shown *draws)
{
    const int side = n <= 3 ? 220 : 170;
    FILE *p = plot_open(path, side * (int)n, side * (int)n);
    fprintf(p,
            "set multiplot layout %zu,%zu margins 0.06,0.99,0.06,0.98 spacing 0.012,0.012\nunset key\nset format ''\n"
            "set tics scale 0.3\n",
            n, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            const range x = range_of(data, draws, column[j]), y = range_of(data, draws, column[i]);
            put_label(p, "x", i + 1 == n ? d->name[column[j]] : "");
            put_label(p, "y", j == 0 ? d->name[column[i]] : "");
            put_range(p, "x", x);
            if (i == j) {
                panel_of_one(p, data, draws, column[i], x);
                continue;
            }
            const bool of_data = i > j && data->n;
            put_range(p, "y", y);
            fprintf(p, "plot '-' using 1:2 with points pt 7 ps 0.15 lc rgb '%s' notitle\n", of_data ? blue : orange);
            put_dots(p, of_data ? data : draws, column[j], column[i]);
        }
    fputs("unset multiplot\n", p);
    plot_close(p);
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
    const range r = range_of(&first, &first, 0);
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
