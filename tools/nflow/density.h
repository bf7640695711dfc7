/*
 * A fitted density: a model file, and what its note "nflow" says of the columns of the data that it was fitted to. A
 * model without this note (from a program, or from Python) has columns x1, x2, ... and contexts c1, c2, ...
 */
#ifndef NFLOW_TOOL_DENSITY_H
#define NFLOW_TOOL_DENSITY_H
#include "rows.h"
#include <jansson.h>

#define DENSITY_NOTE "nflow"

typedef struct density {
    const char *path;
    nf_model *m;
    nf_workspace *ws;
    size_t dim, n_ctx;
    char **name;         /* [dim + n_ctx] of the columns, those of x first */
    size_t *place;       /* [dim + n_ctx] where they stood in the data, from 0; in a new model 0, 1, ... */
    size_t file_columns; /* columns that the data had */
    json_t *note;        /* the whole note; an empty object if there is none */
} density;

/* Reads a model of a distribution. Exits 1 with one line if it is none. threads 0: as many as there are. */
void density_load(density *d, const char *path, size_t threads);
void density_free(density *d);
/* Where the model's columns are in a table: by name, if both have names; by place, if the table has as many columns as
   the data had; else in the model's order, if there are as many as the model's. [dim + n_ctx], released by free().
   Exits 1 with one line if it cannot be known. */
size_t *density_columns(const density *d, const table *t);
/* A context from text, "dose=2.5,age=40", in the model's order: ctx [n_ctx]. Exits 2 with one line if it is not that.
 */
void density_context(const density *d, const char *text, double *ctx);
/* The same model without its last layer, the units of the data: as it was trained. Of a model that `nflow fit` has not
   made, the model itself, borrowed (own_it false). The parameters are those of d. */
nf_model *density_in_standard_units(const density *d, bool *own_it);
/* log p [n] of all rows, in the units of the data. `noise` for models that draw when they score. */
void density_score(const density *d, const rows *r, uint64_t seed, double *log_p);

#endif
