#include "table.h"
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT_UNKNOWN, FORMAT_CSV, FORMAT_NPY, FORMAT_IDX };
static const size_t no_limit = (size_t)1 << 46;

/* ---- formats ---- */

static bool ends_with(const char *text, size_t length, const char *end)
{
    const size_t n = strlen(end);
    return length >= n && strncmp(text + length - n, end, n) == 0;
}

static int format_of(const char *path, const char *format)
{
    static const struct {
        const char *name;
        int format;
    } known[] = {{"csv", FORMAT_CSV}, {"tsv", FORMAT_CSV}, {"txt", FORMAT_CSV},  {"dat", FORMAT_CSV},
                 {"npy", FORMAT_NPY}, {"idx", FORMAT_IDX}, {"ubyte", FORMAT_IDX}};
    size_t length = strlen(path);
    if (ends_with(path, length, ".gz"))
        length -= 3;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (format ? strcmp(format, known[i].name) == 0 : ends_with(path, length, known[i].name))
            return known[i].format;
    }
    return FORMAT_UNKNOWN;
}

/* ---- reading ---- */

static void take_array(table *t)
{
    t->n = t->array.n;
    t->columns = t->array.dim;
    t->x = t->array.data;
}

/* Maps a plain file; what cannot be mapped (gzip, a pipe) is read. */
static void read_npy(table *t, const char *path, bool is_stdin)
{
    const bool plain = !is_stdin && !ends_with(path, strlen(path), ".gz");
    t->mapped = plain ? nf_map_npy(path) : NULL;
    if (t->mapped) {
        t->n = nf_mapped_rows(t->mapped);
        t->columns = nf_mapped_columns(t->mapped);
        return;
    }
    cli_ok(nf_load_npy(path, no_limit, &t->array));
    take_array(t);
}

static void name_columns(table *t)
{
    t->has_names = t->text.name != NULL;
    t->name = cli_allocate(t->columns, sizeof *t->name);
    for (size_t j = 0; j < t->columns; j++)
        t->name[j] = t->has_names && t->text.name[j][0] ? cli_text("%s", t->text.name[j]) : cli_text("x%zu", j + 1);
    for (size_t j = 0; t->has_names && j < t->columns; j++)
        for (size_t k = 0; k < j; k++)
            if (strcmp(t->name[j], t->name[k]) == 0)
                cli_fail(1, "%s: columns %zu and %zu have the same name, %s", t->path, k + 1, j + 1, t->name[j]);
}

void table_read(table *t, const char *path, const char *format)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    *t = (table){.path = is_stdin ? "stdin" : path};
    const char *file = is_stdin ? "/dev/stdin" : path;
    switch (is_stdin && !format ? FORMAT_CSV : format_of(path, format)) {
    case FORMAT_CSV:
        cli_ok(nf_load_csv(file, &(nf_csv_options){.max_bytes = no_limit}, &t->text));
        t->n = t->text.n;
        t->columns = t->text.dim;
        t->x = t->text.data;
        break;
    case FORMAT_NPY:
        read_npy(t, file, is_stdin);
        break;
    case FORMAT_IDX:
        cli_ok(nf_load_idx_array(file, no_limit, &t->array));
        take_array(t);
        break;
    default:
        cli_fail(1, "%s: what format is it? Names end in .csv, .tsv, .txt, .npy or .idx, or in one of these and .gz",
                 path);
    }
    if (t->n == 0 || t->columns == 0)
        cli_fail(1, "%s: there are no numbers in it (%zu rows, %zu columns)", t->path, t->n, t->columns);
    name_columns(t);
}

void table_free(table *t)
{
    for (size_t j = 0; t->name && j < t->columns; j++)
        free(t->name[j]);
    free(t->name);
    nf_table_free(&t->text);
    nf_array_free(&t->array);
    nf_mapped_free(t->mapped);
    *t = (table){0};
}

/* ---- columns ---- */

/* The column of that name or number, of `length` characters; t->columns if there is none. */
static size_t find(const table *t, const char *word, size_t length)
{
    for (size_t j = 0; j < t->columns; j++)
        if (strlen(t->name[j]) == length && strncmp(t->name[j], word, length) == 0)
            return j;
    size_t number = 0;
    for (size_t i = 0; i < length; i++) {
        if (word[i] < '0' || word[i] > '9' || number > t->columns)
            return t->columns;
        number = 10 * number + (size_t)(word[i] - '0');
    }
    return number >= 1 && number <= t->columns ? number - 1 : t->columns;
}

static _Noreturn void no_column(const table *t, const char *word, size_t length)
{
    cli_fail(1, "%s: there is no column '%.*s' among the %zu: %s%s%s ...", t->path, (int)length, word, t->columns,
             t->name[0], t->columns > 1 ? ", " : "", t->columns > 1 ? t->name[1] : "");
}

size_t table_column(const table *t, const char *word)
{
    const size_t j = find(t, word, strlen(word));
    if (j == t->columns)
        no_column(t, word, strlen(word));
    return j;
}

bool table_places(const table *t, size_t n, char *const *name, size_t *place)
{
    for (size_t i = 0; i < n; i++) {
        size_t j = 0;
        while (j < t->columns && strcmp(t->name[j], name[i]) != 0)
            j++;
        if (!t->has_names || j == t->columns)
            return false;
        place[i] = j;
    }
    return true;
}

/* The first and the last column of a word of the list, "b" or "b-d". A name may have a '-' in it. */
static void range(const table *t, const char *word, size_t length, size_t *first, size_t *last)
{
    *first = *last = find(t, word, length);
    for (size_t dash = 1; *first == t->columns && dash + 1 < length; dash++) {
        if (word[dash] != '-')
            continue;
        *first = find(t, word, dash);
        *last = find(t, word + dash + 1, length - dash - 1);
        if (*last == t->columns)
            *first = t->columns;
    }
    if (*first == t->columns || *last < *first)
        no_column(t, word, length);
}

size_t *table_columns(const table *t, const char *list, size_t *n)
{
    size_t *column = cli_allocate(t->columns, sizeof *column);
    bool *taken = cli_allocate(t->columns, sizeof *taken);
    *n = 0;
    for (const char *word = list; word;) {
        const size_t length = strcspn(word, ",");
        size_t first, last;
        range(t, word, length, &first, &last);
        for (size_t j = first; j <= last; j++) {
            if (taken[j])
                cli_fail(1, "column %s comes twice in '%s'", t->name[j], list);
            taken[j] = true;
            column[(*n)++] = j;
        }
        word = word[length] ? word + length + 1 : NULL;
    }
    free(taken);
    return column;
}

/* ---- rows ---- */

const char *table_rows(const table *t, size_t count, const size_t *row, double *x)
{
    static _Thread_local char message[512];
    const size_t columns = t->columns;
    if (t->mapped && nf_mapped_read(t->mapped, count, row, x) != NF_OK) {
        snprintf(message, sizeof message, "%s", nf_error_message());
        return message;
    }
    for (size_t i = 0; !t->mapped && i < count; i++)
        memcpy(x + i * columns, t->x + row[i] * columns, columns * sizeof *x);
    for (size_t k = 0; k < count * columns; k++)
        if (!isfinite(x[k])) {
            const size_t j = k % columns;
            snprintf(message, sizeof message, "%s: row %zu, column %zu%s%s%s: %g is not finite", t->path,
                     row[k / columns] + 1, j + 1, t->has_names ? " (" : "", t->has_names ? t->name[j] : "",
                     t->has_names ? ")" : "", x[k]);
            return message;
        }
    return NULL;
}
