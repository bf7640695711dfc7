/*
 * A table of numbers from a file: rows and columns, all of them in double.
 *
 * A file's format is told by the end of its name: .csv .tsv .txt .npy .idx .ubyte, each also with .gz behind; "-" is
 * stdin, as csv unless a format is given. A plain npy file is mapped, so that it may be larger than memory.
 */
#ifndef NFLOW_TOOL_TABLE_H
#define NFLOW_TOOL_TABLE_H
#include <nflow/nflow.h>

typedef struct table {
    const char *path; /* for messages */
    size_t n, columns;
    bool has_names;
    char **name;     /* [columns]; "x1", "x2", ... if the file has none */
    const double *x; /* [n x columns]; NULL: mapped */
    nf_mapped *mapped;
    nf_table text; /* who owns the numbers: this, or the array */
    nf_array array;
} table;

/* Reads a file. format: "csv", "npy", "idx" or NULL, by the name's end. Exits 1 with one line if anything is wrong. */
void table_read(table *t, const char *path, const char *format);
void table_free(table *t);
/* The number of the column that a word names: a name, or a number from 1. Exits 1 if there is none. */
size_t table_column(const table *t, const char *word);
/* The columns of these names [n], place [n]. false if one is not there, or if the table has no names. */
bool table_places(const table *t, size_t n, char *const *name, size_t *place);
/* The columns that a list names: names, numbers from 1 and ranges of either, "age,3,5-8", in this order. They are *n,
   to be released by free(). Exits 1 if one is not there or comes twice. */
size_t *table_columns(const table *t, const char *list, size_t *n);
/* Reads rows row[count] to x [count x columns]. Returns NULL, or a message about a number that is not finite. Any
   number of threads may call it at once. The message is the thread's own, until its next call. Many rows at once are
   read from disk faster than one by one. */
const char *table_rows(const table *t, size_t count, const size_t *row, double *x);

#endif
