/* Rows (x, y), to learn the density of y given x from: of a file, or of a law of which everything is known. */
#ifndef EXAMPLES_REGRESSION_ROWS_H
#define EXAMPLES_REGRESSION_ROWS_H
#include <stddef.h>
#include <stdint.h>

typedef struct regression_part {
    size_t n;
    double *raw;   /* [n x (n_x + 1)]: x and then y, in their own units */
    double *x, *y; /* [n x n_x], [n]: standardised */
} regression_part;

typedef struct regression_rows {
    size_t n_x;
    regression_part train, valid, test;
    double *shift, *scale; /* [n_x + 1]: means and deviations of the training rows */
} regression_rows;

/*
 * Reads what `data` names:
 *
 *     law              n_law rows of common/conditional_law.h, and others to validate and to test
 *     gas, protein     the files of gas turbines and of proteins in $NFLOW_DATA/uci
 *     a file           npy, plain or packed by gzip or xz: rows of real numbers
 *
 * Of a file a tenth tests and a tenth validates, after a shuffle by `seed`. y is column `target`, from 1; 0: the last
 * one. Exits 1 with one line if anything is missing or wrong.
 */
void regression_rows_read(regression_rows *d, const char *data, size_t target, size_t n_law, uint64_t seed);
void regression_rows_free(regression_rows *d);

#endif
