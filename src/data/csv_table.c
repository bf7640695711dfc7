/* The table that a file of text becomes: the first record's fields are names or numbers, all others are numbers, and
   all records have equally many. The first record is kept as text, since it may have the names. */
#include "data/csv_table.h"
#include "base/memory.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MOST_COLUMNS = 1 << 20, SHOWN = 40, NAMES_FREE = 1 << 16 };

/* ---- memory ---- */

static nf_status append(nfi_growing *g, const void *data, size_t bytes)
{
    size_t needed, capacity;
    if (!nfi_add(g->bytes, bytes, &needed))
        return nf_error(NF_ENOMEM, "a table does not fit in memory");
    if (needed > g->capacity) {
        if (!nfi_mul(needed, 2, &capacity))
            capacity = needed;
        char *more = nfi_calloc(capacity, 1);
        if (!more)
            return NF_ENOMEM;
        if (g->bytes)
            memcpy(more, g->data, g->bytes);
        nfi_free(g->data);
        g->data = more;
        g->capacity = capacity;
    }
    memcpy(g->data + g->bytes, data, bytes);
    g->bytes = needed;
    return NF_OK;
}

/* ---- messages ---- */

/* The name of column i: the i-th text of the first record. NULL if there are no names. */
static const char *name_of(const nfi_csv_table *t, size_t i)
{
    const char *name = t->first.data;
    for (; t->has_names && i > 0; i--)
        name += strlen(name) + 1;
    return t->has_names ? name : NULL;
}

/* "nf_load_csv: x.csv: line 7, column 3 (age): " and what is wrong with the field. */
static nf_status wrong_field(const nfi_csv_table *t, const char *field, const char *what)
{
    const char *name = name_of(t, t->column);
    return nf_error(NF_EFORMAT, "%s: %s: line %zu, column %zu%s%.*s%s: %s%.*s%s%s", t->who, t->path, t->line,
                    t->column + 1, name ? " (" : "", SHOWN, name ? name : "", name ? ")" : "", field ? "'" : "", SHOWN,
                    field ? field : "", field ? "' " : "", what);
}

nf_status nfi_csv_wrong_line(const nfi_csv_table *t, const char *what)
{
    return nf_error(NF_EFORMAT, "%s: %s: line %zu: %s", t->who, t->path, t->line, what);
}

/* ---- fields ---- */

static bool is_missing(const char *field)
{
    static const char *const words[] = {"", "na", "n/a", "nan", "null", "none", "?", "-", "."};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(field, words[i]) == 0)
            return true;
    return false;
}

/* Whether the whole text is a number. */
static bool to_number(const nfi_csv_table *t, const char *field, double *value)
{
    char *end;
    *value = strtod_l(field, &end, t->c);
    return end > field && *end == 0;
}

static nf_status add_number(nfi_csv_table *t, const char *field)
{
    double value;
    if (is_missing(field))
        return wrong_field(t, NULL, "the value is missing");
    if (!to_number(t, field, &value))
        return wrong_field(t, field, "is no number");
    const nf_real x = (nf_real)value;
    if (!isfinite(value))
        return wrong_field(t, field, "is not finite");
    if (!isfinite(x))
        return wrong_field(t, field, "is too large for single precision");
    if (t->numbers.bytes + sizeof x > t->limit)
        return nf_error(NF_EFORMAT, "%s: %s: line %zu: more numbers than max_bytes, %zu, has room for", t->who, t->path,
                        t->line, t->limit);
    return append(&t->numbers, &x, sizeof x);
}

nf_status nfi_csv_field(nfi_csv_table *t, const char *field)
{
    nf_status status = NF_OK;
    if (t->records == 0 && t->first.bytes > NAMES_FREE && t->first.bytes - NAMES_FREE > t->limit)
        status = nf_error(NF_EFORMAT, "%s: %s: line %zu: more text than max_bytes, %zu, and 65536 have room for",
                          t->who, t->path, t->line, t->limit);
    else if (t->records == 0)
        status = append(&t->first, field, strlen(field) + 1);
    else if (t->column < t->dim)
        status = add_number(t, field);
    if (status == NF_OK && ++t->column > MOST_COLUMNS)
        status = nfi_csv_wrong_line(t, "more than a million columns");
    return status;
}

/* ---- records ---- */

/* Are the first record's fields names? If it is for the reader to find out, then unless all are numbers or missing. */
static nf_status end_first_record(nfi_csv_table *t)
{
    double value;
    bool all_numbers = true;
    t->dim = t->column;
    const char *field = t->first.data;
    for (size_t i = 0; i < t->dim; i++, field += strlen(field) + 1)
        all_numbers = all_numbers && (is_missing(field) || to_number(t, field, &value));
    t->has_names = t->header == NF_CSV_NAMES || (t->header == NF_CSV_DETECT && !all_numbers);
    nf_status status = NF_OK;
    t->column = 0;
    field = t->first.data;
    for (size_t i = 0; i < t->dim && !t->has_names && status == NF_OK; i++, t->column++, field += strlen(field) + 1)
        status = add_number(t, field);
    t->n += !t->has_names;
    return status;
}

nf_status nfi_csv_record(nfi_csv_table *t)
{
    nf_status status = NF_OK;
    if (t->records == 0)
        status = end_first_record(t);
    else if (t->column != t->dim)
        status = nf_error(NF_EFORMAT, "%s: %s: line %zu has %zu fields, but the first has %zu", t->who, t->path,
                          t->line, t->column, t->dim);
    else
        t->n++;
    t->records++;
    t->column = 0;
    return status;
}

/* ---- the table ---- */

nf_status nfi_csv_begin(nfi_csv_table *t)
{
    t->c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    return t->c ? NF_OK : nf_error(NF_ENOMEM, "%s: %s: no memory for the locale \"C\"", t->who, t->path);
}

/* Names point into the first record's text. */
nf_status nfi_csv_finish(nfi_csv_table *t, nf_table *out)
{
    if (t->n == 0)
        return nf_error(NF_EFORMAT, "%s: %s: there are no rows%s", t->who, t->path,
                        t->has_names ? " below the names" : "");
    char **name = t->has_names ? nfi_calloc(t->dim, sizeof *name) : NULL;
    if (t->has_names && !name)
        return NF_ENOMEM;
    char *text = t->first.data;
    for (size_t i = 0; name && i < t->dim; i++, text += strlen(text) + 1)
        name[i] = text;
    *out = (nf_table){.n = t->n, .dim = t->dim, .name = name, .data = (nf_real *)(void *)t->numbers.data};
    t->numbers.data = NULL;
    if (name)
        t->first.data = NULL;
    return NF_OK;
}

void nfi_csv_end(nfi_csv_table *t)
{
    if (t->c)
        freelocale(t->c);
    nfi_free(t->first.data);
    nfi_free(t->numbers.data);
}

void nf_table_free(nf_table *t)
{
    if (!t)
        return;
    if (t->name)
        nfi_free(t->name[0]);
    nfi_free(t->name);
    nfi_free(t->data);
    *t = (nf_table){0};
}
