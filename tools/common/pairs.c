#include "pairs.h"
#include "cli.h"
#include "output.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BARS = 40 };
const char *const plot_blue = "#1f77b4", *const plot_orange = "#ff7f0e";

/* ---- ranges ---- */

static double quantile(size_t n, const double *sorted, double share)
{
    return sorted[(size_t)(share * (double)(n - 1) + 0.5)];
}

range shown_range(const shown *data, const shown *draws, size_t j)
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

void plot_text(FILE *p, const char *text)
{
    putc('"', p);
    for (; *text; text++)
        if (*text == '"' || *text == '\\' || *text == '`')
            fprintf(p, "\\%c", *text);
        else
            putc((unsigned char)*text < ' ' ? ' ' : *text, p);
    putc('"', p);
}

void plot_label(FILE *p, const char *axis, const char *text)
{
    fprintf(p, "set %slabel ", axis);
    plot_text(p, text);
    fputs(" noenhanced\n", p);
}

void plot_range(FILE *p, const char *axis, range r)
{
    fprintf(p, "set %srange [%.17g:%.17g]\n", axis, r.low, r.high);
}

void plot_histogram(FILE *p, const shown *s, size_t j, range r)
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

void plot_dots(FILE *p, const shown *s, size_t a, size_t b)
{
    for (size_t i = 0; i < s->n; i++)
        fprintf(p, "%.17g %.17g\n", s->x[i * s->dim + a], s->x[i * s->dim + b]);
    fputs("e\n", p);
}

/* ---- pairs ---- */

static void panel_of_one(FILE *p, const shown *data, const shown *draws, size_t j, range r)
{
    fputs("set yrange [0:*]\nset style fill solid 0.35 noborder\nplot ", p);
    if (data->n)
        fprintf(p, "'-' using 1:2 with boxes lc rgb '%s' notitle, ", plot_blue);
    fprintf(p, "'-' using 1:2 with histeps lw 1.5 lc rgb '%s' notitle\n", plot_orange);
    if (data->n)
        plot_histogram(p, data, j, r);
    plot_histogram(p, draws, j, r);
}

void pairs_plot(const char *path, size_t n, const size_t *column, const char *const *name, const shown *data,
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
            const range x = shown_range(data, draws, column[j]), y = shown_range(data, draws, column[i]);
            plot_label(p, "x", i + 1 == n ? name[column[j]] : "");
            plot_label(p, "y", j == 0 ? name[column[i]] : "");
            plot_range(p, "x", x);
            if (i == j) {
                panel_of_one(p, data, draws, column[i], x);
                continue;
            }
            const bool of_data = i > j && data->n;
            plot_range(p, "y", y);
            fprintf(p, "plot '-' using 1:2 with points pt 7 ps 0.15 lc rgb '%s' notitle\n",
                    of_data ? plot_blue : plot_orange);
            plot_dots(p, of_data ? data : draws, column[j], column[i]);
        }
    fputs("unset multiplot\n", p);
    plot_close(p);
}
