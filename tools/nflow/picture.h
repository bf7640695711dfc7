/* The pictures of `nflow plot`, drawn by gnuplot. Exit 1 with one line on failure. */
#ifndef NFLOW_TOOL_PICTURE_H
#define NFLOW_TOOL_PICTURE_H
#include "density.h"
#include "pairs.h"

/* A density of one column as a curve, over a histogram of the data. ctx [n_ctx]: its context, or NULL, here and below.
 */
void picture_line(const density *d, const char *path, const double *ctx, const shown *data, const shown *draws);
/* A density of two columns as a surface, with the data as dots. */
void picture_surface(const density *d, const char *path, const double *ctx, const shown *data, const shown *draws);
/* A square of panels: on the diagonal histograms, below it data and above it draws of two columns each. */
void picture_pairs(const density *d, const char *path, size_t n, const size_t *column, const shown *data,
                   const shown *draws);
/* Draws as images, whose extents the model's note has. */
void picture_images(const density *d, const char *path, const shown *draws);

#endif
