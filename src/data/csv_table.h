/* The table that a file of text becomes, field by field. csv.c finds the fields. */
#ifndef NFI_CSV_TABLE_H
#define NFI_CSV_TABLE_H
#include <locale.h>
#include <nflow/data.h>

/* An array that grows. */
typedef struct nfi_growing {
    char *data;
    size_t bytes, capacity;
} nfi_growing;

/* A table in the making. Who reads a file sets the first five fields, and keeps `line` up to date. */
typedef struct nfi_csv_table {
    const char *who, *path; /* for messages */
    nf_csv_header header;
    size_t limit;           /* bytes of numbers */
    size_t line;            /* the first line of the present record, counted from 1 */
    locale_t c;             /* numbers are written as in C, whatever the program's locale is */
    size_t column, records; /* fields of the present record so far; records that are complete */
    size_t dim, n;          /* fields of each record; rows */
    bool has_names;
    nfi_growing first, numbers; /* the first record's fields, each with a 0 behind; the rows */
} nfi_csv_table;

/* The first call. NF_ENOMEM; end the table also then. */
nf_status nfi_csv_begin(nfi_csv_table *t);
/* NF_EFORMAT, with a message that says where the present record begins, and `what` is wrong with it. */
nf_status nfi_csv_wrong_line(const nfi_csv_table *t, const char *what);
/* The next field of the present record, a string. NF_EFORMAT (the message says where it stands and what is wrong),
   NF_ENOMEM. */
nf_status nfi_csv_field(nfi_csv_table *t, const char *field);
/* The present record is complete. */
nf_status nfi_csv_record(nfi_csv_table *t);
/* There are no more records: *out takes over names and numbers. NF_EFORMAT if there are no rows, NF_ENOMEM. */
nf_status nfi_csv_finish(nfi_csv_table *t, nf_table *out);
/* Releases what nfi_csv_finish has not handed over, and the locale. */
void nfi_csv_end(nfi_csv_table *t);

#endif
