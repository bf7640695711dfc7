/* What the columns of a table are like: moments, and what makes a density of them impossible or useless. */
#ifndef NFLOW_TOOL_COLUMNS_H
#define NFLOW_TOOL_COLUMNS_H
#include "rows.h"

typedef struct column {
    size_t place; /* its number in the table */
    double mean, sd, least, most;
    bool constant;  /* one value in all rows, or values that differ by rounding alone */
    bool whole;     /* whole numbers in all rows, of which some occur often: a density of real numbers would grow there
                       without bound */
    size_t copy_of; /* which earlier column of the list has the same numbers; its own index if there is none */
} column;

/* Looks at columns place[n_columns] of the rows. Exits 1 with one line if a number is not finite. c [n_columns]. */
void survey_columns(const rows *r, size_t n_columns, const size_t *place, column *c);

#endif
