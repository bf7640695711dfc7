/*
 * Draws of a fit over reference draws: a pair plot whose panels have both, so that one sees whether they agree. In
 * blue, filled, regions of highest density that hold 50, 80 and 95 % of the reference; in orange the lines around these
 * regions of the fit's draws. Both are smoothed alike (contours.h). On the diagonal there are the densities of each
 * column. The upper right has words, and room for a trace.
 */
#ifndef TOOLS_OVERLAY_H
#define TOOLS_OVERLAY_H
#include "elbo_trace.h"
#include "pairs.h"

enum { OVERLAY_COLUMNS = 8 /* at most */ };

/* What a picture shows. Column j of both sets of points is called name[j]. */
typedef struct overlay {
    const char *title, *note[2]; /* a name, and lines below it; NULL: none */
    size_t n;                    /* columns, from 2 to OVERLAY_COLUMNS */
    const char *const *name;     /* [n] */
    shown reference, draws;
    const elbo_trace *trace; /* with the result that it is of; NULL: none */
    const nf_vi_result *result;
} overlay;

/* Exits 1 with one line on failure. */
void overlay_plot(const char *path, const overlay *o);

/* ---- parts ---- */

/* A place in a picture, in pixels from its lower left corner. */
typedef struct box {
    double left, bottom, width, height;
} box;
typedef struct canvas {
    FILE *plot;
    double width, height; /* pixels */
} canvas;

/* The next plot is drawn there. */
void overlay_place(canvas c, box b);
/* A panel of columns a (to the right) and b, with numbers along the axes where they are wanted. */
void overlay_panel(canvas c, box where, const shown *reference, const shown *draws, size_t a, size_t b, bool numbers_a,
                   bool numbers_b);
/* A text at a place, of so many points, in a colour. How: "left" (it begins there), "center", "center rotate". */
void overlay_text(canvas c, double left, double bottom, int points, const char *colour, const char *how,
                  const char *text);

#endif
