/*
 * Data of Bayesian models: Stan's JSON, plain or packed by gzip. Mistakes are kept until the end, so that a reader of a
 * model is a few lines:
 *
 *     data_file f = data_open(folder, "posteriordb/data/arK.json");
 *     const size_t n = data_count(&f, "T", 1, 1000);
 *     const double *y = data_numbers(&f, "y", n);          // NULL after a mistake
 *     ... make the model's struct from n and y ...
 *     data_close(&f);                                      // y is released
 *
 * After a mistake nf_error_message() is one line with the file's name, counts are 0, and arrays are NULL.
 */
#ifndef EXAMPLES_BAYES_DATA_H
#define EXAMPLES_BAYES_DATA_H
#include <stdbool.h>
#include <stddef.h>

enum { DATA_ARRAYS = 16 };

typedef struct data_file {
    char path[512];
    void *json; /* the top object; NULL after a mistake */
    double *array[DATA_ARRAYS];
    size_t n_arrays;
} data_file;

/* Writes folder/name to path [size]. false after nf_error(): no folder (NULL), or a name that is too long. */
bool data_path(size_t size, char *path, const char *folder, const char *name);
/* Opens folder/name, or folder/name.gz if the former is not there. */
data_file data_open(const char *folder, const char *name);
/* A whole number from least to most; 0 after a mistake. */
size_t data_count(data_file *f, const char *name, size_t least, size_t most);
/* A number, 0 after a mistake. */
double data_number(data_file *f, const char *name);
/* Exactly n finite numbers, of arrays within arrays row after row. Valid until data_close(); NULL after a mistake. */
const double *data_numbers(data_file *f, const char *name, size_t n);
/* Whether everything was there so far. */
bool data_good(const data_file *f);
/* Releases the file and its arrays. */
void data_close(data_file *f);

#endif
