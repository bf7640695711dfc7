/* Tables of numbers to files: csv or npy by the end of the name, "-" to stdout as csv. Row by row, so that a table may
   be larger than memory. */
#ifndef NFLOW_TOOL_WRITE_H
#define NFLOW_TOOL_WRITE_H
#include <stddef.h>
#include <stdint.h>

typedef struct writer writer;
/* A table of n rows with named columns. Exits 1 with one line on failure, here and below; 2 if the name ends in another
   way. */
writer *writer_open(const char *path, size_t n, size_t columns, char *const *name);
/* n more rows, x [n x columns]. */
void writer_rows(writer *w, size_t n, const double *x);
void writer_close(writer *w);

#endif
