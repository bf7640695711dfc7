/*
 * Densities of draws, smoothed, and the regions of highest density that hold given shares of them.
 *
 * A histogram on a fine grid is smoothed by a normal kernel (Scott 1992, section 6.3.1). Its width along an axis is
 * 1.25 min(sd, interquartile range / 1.34) n^(-1/(d + 4)): a quarter more than is best for a normal, so that the lines
 * around few draws are calm.
 */
#ifndef TOOLS_CONTOURS_H
#define TOOLS_CONTOURS_H
#include "pairs.h"

/* The density of one column at the middles of n equal cells of a range, [n]. */
void smooth_line(const shown *s, size_t column, range r, size_t n, double *density);
/* The density of two columns at the middles of n x n cells, [n x n], the first column's cells beside each other. */
void smooth_plane(const shown *s, size_t a, size_t b, range x, range y, size_t n, float *density);
/* The height above which cells hold a share of what all cells hold. */
double density_level(size_t n_cells, const float *density, double share);

#endif
