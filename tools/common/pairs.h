/* Pair plots of two sets of points, drawn by gnuplot, and the parts of gnuplot's scripts that they are made of. */
#ifndef TOOLS_PAIRS_H
#define TOOLS_PAIRS_H
#include <stddef.h>
#include <stdio.h>

/* Points that a picture shows: rows of data, or draws. n 0: none. */
typedef struct shown {
    size_t n, dim;
    const double *x; /* [n x dim] */
} shown;

/* A square of panels of these n columns, whose names are name[column[..]]: on the diagonal histograms of both, below it
   the data, blue, and above it the draws, orange, two columns at a time. Exits 1 with one line on failure. */
void pairs_plot(const char *path, size_t n, const size_t *column, const char *const *name, const shown *data,
                const shown *draws);

/* ---- parts of scripts ---- */

extern const char *const plot_blue, *const plot_orange;

typedef struct range {
    double low, high;
} range;

/* Where nearly all points of one column are: from the 0.5 % to the 99.5 % quantile, and a tenth more on both sides. A
   single point far out would make the picture useless. */
range shown_range(const shown *data, const shown *draws, size_t column);
/* A text between double quotes, without what gnuplot would take for commands in it. */
void plot_text(FILE *plot, const char *text);
/* An axis's label and range; the axis is "x" or "y". */
void plot_label(FILE *plot, const char *axis, const char *text);
void plot_range(FILE *plot, const char *axis, range r);
/* Bars of a histogram that integrates to the share of points in the range: "x height" lines and "e". */
void plot_histogram(FILE *plot, const shown *s, size_t column, range r);
/* Points of columns a and b, and "e". */
void plot_dots(FILE *plot, const shown *s, size_t a, size_t b);

#endif
