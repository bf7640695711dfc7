/* The data of a fit: which columns and rows of a table have which part in it, and their units. */
#ifndef NFLOW_TOOL_FIT_DATA_H
#define NFLOW_TOOL_FIT_DATA_H
#include "flows.h"
#include "rows.h"

/* What the command line says. Texts are NULL where it says nothing. */
typedef struct fit_request {
    const char *path, *format;
    const char *columns, *context; /* lists, see table_columns() */
    const char *weights;           /* a column */
    const char *dequantise;        /* a list, or "all" */
    const char *valid_path, *test_path;
    double valid_share, test_share;
    const char *image; /* "CxHxW" */
    flow_family family;
    uint64_t seed;
} fit_request;

enum { N_PARTS = 3 };

typedef struct fit_data {
    const fit_request *request;
    table all, valid_table, test_table;
    size_t dim, n_ctx;
    size_t *place;           /* [dim + n_ctx] */
    double *shift, *scale;   /* [dim + n_ctx] */
    double *blur;            /* [dim], in standard units; NULL: no column is dequantised */
    double *weight[N_PARTS]; /* of train, valid and test, [n] each; NULL: rows have none */
    double log_scale;        /* sum of log scale over x */
    rows train, valid, test; /* in standard units */
    const char *test_name;   /* which rows `test` has: "test", "validation" or "training" */
    bool held_back;          /* false: too few rows, so that validation and test have the training rows */
    nf_image image;
} fit_data;

/* Reads the data and says on stdout what is odd about them. Exits 1 with one line if nothing can be fitted to them.
 *q is borrowed. */
void fit_data_read(fit_data *d, const fit_request *q);
void fit_data_free(fit_data *d);

#endif
