/*
 * A learning curve of a fit that may be interrupted: a text file with a line for each validation, "step seconds
 * training validation", to which a continued fit adds.
 */
#ifndef TOOLS_LEARNING_CURVE_H
#define TOOLS_LEARNING_CURVE_H
#include "output.h"
#include <stddef.h>

typedef struct learning_point {
    uint64_t step;
    double seconds, training, validation;
} learning_point;

typedef struct learning_curve {
    const char *path, *title;
    size_t n, room;
    learning_point *point; /* [n] */
} learning_curve;

/* The curve up to step `step`, which is what `path` has of it; 0: a new one. Later points leave the file. The file's
   first line is the title, of one line; a file with another title is of another fit. Exits 1 then, or if the file
   cannot be written. title NULL: there is none. */
void learning_curve_begin(learning_curve *c, const char *path, uint64_t step, const char *title);
/* Adds a point to curve and file. */
void learning_curve_add(learning_curve *c, learning_point p);
/* An array of the points in the JSON file. */
void learning_curve_write(const learning_curve *c, js_file *j, const char *name);
/* Draws it: `y` by minutes, or by steps if the points have no times. With less than two points, nothing. */
void learning_curve_draw(const learning_curve *c, const char *png, const char *y);
void learning_curve_free(learning_curve *c);

#endif
