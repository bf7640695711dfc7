/*
 * A picture of densities in the plane: a table of square panels, each of which shows [-w, w] x [-w, w], drawn by
 * gnuplot. Panels that are never added stay empty.
 */
#ifndef EXAMPLES_PANELS_H
#define EXAMPLES_PANELS_H
#include <nflow/base.h>

typedef struct panels panels;

/* A table that shows half_width w, in panels of so many pixels a side, which is also the number of points of the grid.
   png NULL: returns NULL, and the other functions do nothing. */
panels *panels_new(const char *png, size_t n_rows, size_t n_columns, size_t pixels, double half_width);
/* The number of points at which a panel's density is wanted: pixels^2. */
size_t panels_points(const panels *p);
/* The points, [panels_points() x 2]. */
const nf_real *panels_grid(const panels *p);
/* Fills a panel with exp(log_p - top), at most 1; log_p [panels_points()]. Over it come n dots, x [n x 2]. */
void panels_add(panels *p, size_t row, size_t column, const char *label, const double *log_p, double top, size_t n,
                const nf_real *x);
/* Draws the picture and releases it. */
void panels_finish(panels *p);

#endif
