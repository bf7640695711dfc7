/*
 * Rows of a table as a model reads them: some of its columns as x, some as context, in the model's units, which are
 * (value - shift) / scale.
 *
 * A table may be split: of all its rows in a random order, each part has those at some places. The order is computed
 * and takes no memory.
 */
#ifndef NFLOW_TOOL_ROWS_H
#define NFLOW_TOOL_ROWS_H
#include "table.h"

typedef struct rows {
    const table *table;
    size_t n;                    /* rows of this part */
    size_t first;                /* the place of the first one in the order */
    bool shuffled;               /* false: the table's order */
    uint64_t seed;               /* of the random order */
    size_t dim, n_ctx;           /* features of x and of context */
    const size_t *place;         /* [dim + n_ctx] their columns in the table; borrowed, as are the next two */
    const double *shift, *scale; /* [dim + n_ctx]; NULL: 0 and 1 */
} rows;

enum { ROWS_BLOCK = 256 }; /* how many rows are read from a table at once */

/* The table's row that is row i of this part. */
size_t rows_number(const rows *r, size_t i);
/* Rows i[count], or first .. first + count - 1 if i is NULL: x [count x dim], ctx [count x n_ctx], or NULL if it is not
   wanted. Returns NULL, or a message as table_rows(). Any number of threads may call it at once. */
const char *rows_read(const rows *r, size_t count, const size_t *i, size_t first, double *x, double *ctx);
/* The same, but exits 1 with the message. */
void rows_must_read(const rows *r, size_t first, size_t n, double *x, double *ctx);
/* All columns of the table: at most ROWS_BLOCK rows from `first` on, record [ROWS_BLOCK x columns]. Returns how many
   rows these are. Exits 1 with one line if a number is not finite. */
size_t rows_records(const rows *r, size_t first, double *record);

#endif
