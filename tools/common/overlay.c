#include "overlay.h"
#include "cli.h"
#include "contours.h"
#include "output.h"
#include <math.h>
#include <stdlib.h>

enum { SHARES = 3, LINE = 120, WIDEST = 880, PANEL = 250, LEFT = 62, BELOW = 44, EDGE = 8, GAP = 5 };
static const double shares[SHARES] = {0.95, 0.8, 0.5};
static const char *const orange = "#d95f02", *const blue = "#2b6ca3", *const grey = "#555555";

/* ---- places ---- */

void overlay_place(canvas c, box b)
{
    fprintf(c.plot,
            "set lmargin at screen %.5f; set rmargin at screen %.5f; set bmargin at screen %.5f; set tmargin at screen "
            "%.5f\n",
            b.left / c.width, (b.left + b.width) / c.width, b.bottom / c.height, (b.bottom + b.height) / c.height);
}

void overlay_text(canvas c, double left, double bottom, int points, const char *colour, const char *how,
                  const char *text)
{
    fputs("set label ", c.plot);
    plot_text(c.plot, text);
    fprintf(c.plot, " at screen %.5f,%.5f %s noenhanced font ',%d' tc rgb '%s' front\n", left / c.width,
            bottom / c.height, how, points, colour);
}

/* A few round numbers along an axis of so many pixels, or marks without numbers. */
static void put_tics(FILE *p, const char *axis, range r, double pixels, bool numbers)
{
    static const double round[] = {1, 2, 5, 10};
    const double edge = 0.05 * (r.high - r.low), least = (r.high - r.low) * 36 / pixels,
                 power = pow(10, floor(log10(least)));
    size_t k = 0;
    while (k < 3 && round[k] * power < least)
        k++;
    const double step = round[k] * power;
    fprintf(p, "set %stics %.9g,%.9g,%.9g nomirror scale 0.4 format '%s' font ',8' tc rgb 'black'\n", axis,
            ceil((r.low + edge) / step) * step, step, r.high - edge, numbers ? "%.8g" : "");
}

/* ---- panels ---- */

static void put_grid(FILE *p, size_t n, range x, range y, const char *with)
{
    const double dx = (x.high - x.low) / (double)n, dy = (y.high - y.low) / (double)n;
    fprintf(p, "'-' binary array=(%zu,%zu) format='%%float32' origin=(%.9g,%.9g%s) dx=%.9g dy=%.9g %s\n", n, n,
            x.low + dx / 2, y.low + dy / 2, with ? "" : ",0", dx, dy, with ? with : "");
}

/* Lines around the regions of a density, as gnuplot's data $lines. */
static void put_lines(FILE *p, size_t n, range x, range y, const float *density)
{
    fputs("set contour base; unset surface; set cntrparam levels discrete ", p);
    for (size_t k = 0; k < SHARES; k++)
        fprintf(p, "%s%.9g", k ? "," : "", density_level(n * n, density, shares[k]));
    fputs("\nset format '%.9g'; set table $lines\nsplot ", p);
    put_grid(p, n, x, y, NULL);
    fwrite(density, sizeof *density, n * n, p);
    fputs("unset table; unset contour; set surface\n", p);
}

/* The density as 0 outside all regions, 1 in the largest one alone, and so on. */
static void to_steps(size_t n, float *density)
{
    double level[SHARES];
    for (size_t k = 0; k < SHARES; k++)
        level[k] = density_level(n, density, shares[k]);
    for (size_t i = 0; i < n; i++) {
        float step = 0;
        for (size_t k = 0; k < SHARES; k++)
            step += (double)density[i] >= level[k];
        density[i] = step;
    }
}

void overlay_panel(canvas c, box where, const shown *reference, const shown *draws, size_t a, size_t b, bool numbers_a,
                   bool numbers_b)
{
    const range x = shown_range(reference, draws, a), y = shown_range(reference, draws, b);
    const size_t n = (size_t)where.width;
    float *density = cli_allocate(n * n, sizeof *density);
    overlay_place(c, where);
    plot_range(c.plot, "x", x);
    plot_range(c.plot, "y", y);
    smooth_plane(draws, a, b, x, y, n, density);
    put_lines(c.plot, n, x, y, density);
    put_tics(c.plot, "x", x, where.width, numbers_a);
    put_tics(c.plot, "y", y, where.height, numbers_b);
    smooth_plane(reference, a, b, x, y, n, density);
    to_steps(n * n, density);
    fputs("set palette maxcolors 4 defined (0 '#ffffff', 1 '#dce9f4', 2 '#b3cfe6', 3 '#86b3d8'); set cbrange "
          "[-0.5:3.5]; unset colorbox\nplot ",
          c.plot);
    char *with = cli_text("with image notitle, $lines using 1:2 with lines lw 1.2 lc rgb '%s' notitle", orange);
    put_grid(c.plot, n, x, y, with);
    fwrite(density, sizeof *density, n * n, c.plot);
    free(with);
    free(density);
}

static void panel_of_one(canvas c, box where, const overlay *o, size_t j)
{
    const range x = shown_range(&o->reference, &o->draws, j);
    const shown *const both[] = {&o->reference, &o->draws};
    overlay_place(c, where);
    plot_range(c.plot, "x", x);
    put_tics(c.plot, "x", x, where.width, j + 1 == o->n);
    fprintf(c.plot,
            "set yrange [0:*]\nunset ytics\nplot '-' using 1:2 with filledcurves y1=0 fc rgb '#b3cfe6' notitle, '-' "
            "using 1:2 with "
            "lines lw 1.5 lc rgb '%s' notitle\n",
            orange);
    for (size_t k = 0; k < 2; k++) {
        double density[LINE];
        smooth_line(both[k], j, x, LINE, density);
        for (size_t i = 0; i < LINE; i++)
            fprintf(c.plot, "%.9g %.6g\n", x.low + (x.high - x.low) * ((double)i + 0.5) / LINE, density[i]);
        fputs("e\n", c.plot);
    }
}

/* ---- the picture ---- */

/* Words, and the trace below them. */
static void corner(canvas c, box b, const overlay *o)
{
    double top = b.bottom + b.height - 12;
    char *reference = cli_text("filled: %zu reference draws", o->reference.n);
    char *draws = cli_text("lines: %zu draws of the fit", o->draws.n);
    const struct {
        const char *text, *colour;
        int points;
    } line[] = {{o->title, "black", 12},
                {o->note[0], grey, 9},
                {o->note[1], grey, 9},
                {reference, blue, 9},
                {draws, orange, 9}};
    for (size_t i = 0; i < sizeof line / sizeof *line; i++)
        if (line[i].text) {
            overlay_text(c, b.left, top, line[i].points, line[i].colour, "left", line[i].text);
            top -= 17;
        }
    free(reference);
    free(draws);
    b.height = top - b.bottom;
    if (!o->trace || o->trace->n == 0 || b.height < 60)
        return;
    const range x = {0, 1.02 * (double)o->trace->point[o->trace->n - 1].step},
                y = elbo_trace_heights(o->trace, o->result);
    const box where = {b.left + 52, b.bottom + 38, b.width - 60, b.height - 38};
    overlay_place(c, where);
    plot_range(c.plot, "x", x);
    plot_range(c.plot, "y", y);
    put_tics(c.plot, "x", x, where.width, true);
    put_tics(c.plot, "y", y, where.height, true);
    fputs("set xlabel 'steps' font ',8' offset 0,0.6; set label 'ELBO' at graph 0.02,0.93 font ',8'; set key bottom "
          "right font ',8' samplen 1.5; set grid lw 0.5 lc rgb '#dddddd'\n",
          c.plot);
    elbo_trace_draw(c.plot, o->trace, o->result);
}

void overlay_plot(const char *path, const overlay *o)
{
    const size_t n = o->n;
    const double side = fmin(PANEL, floor(WIDEST / (double)n));
    canvas c = {.width = LEFT + (double)n * side + EDGE, .height = BELOW + (double)n * side + EDGE};
    c.plot = plot_open(path, (int)c.width, (int)c.height);
    fputs("set multiplot\nset border lc rgb '#888888'\n", c.plot);
    for (size_t j = 0; j < n; j++) {
        overlay_text(c, LEFT + ((double)j + 0.5) * side, 9, 9, "black", "center", o->name[j]);
        overlay_text(c, 10, BELOW + ((double)(n - j) - 0.5) * side, 9, "black", "center rotate", o->name[j]);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            const box where = {LEFT + (double)j * side, BELOW + (double)(n - 1 - i) * side, side - GAP, side - GAP};
            if (i == j)
                panel_of_one(c, where, o, j);
            else
                overlay_panel(c, where, &o->reference, &o->draws, j, i, i + 1 == n, j == 0);
            fputs("unset label\n", c.plot);
        }
    const double k = n == 3 ? 2 : (double)(n / 2); /* the first k rows have room from column k on */
    corner(c,
           (box){LEFT + k * side + GAP, BELOW + ((double)n - k) * side, ((double)n - k) * side - GAP, k * side - GAP},
           o);
    fputs("unset multiplot\n", c.plot);
    plot_close(c.plot);
}
