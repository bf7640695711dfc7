/* Tables of numbers as text (RFC 4180): a record a line, fields between separators, quotes around fields that contain
   separators or line breaks, a quote inside them doubled. Beyond the RFC: lines may end in LF, blank lines are skipped,
   spaces around fields do not count, and fields may be separated by any number of spaces.

   A reader takes one character after the other. The first record is kept as text, since it may have the names. */
#include "base/memory.h"
#include "data/elements.h"
#include "io/stream.h"
#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LONGEST_FIELD = 4096, BLOCK = 1 << 16, MOST_COLUMNS = 1 << 20, SHOWN = 40, NAMES_FREE = 1 << 16 };

/* An array that grows. */
typedef struct growing {
    char *data;
    size_t bytes, capacity;
} growing;

typedef struct reader {
    const char *who, *path;
    char separator, comment; /* comment 0: no line is one */
    nf_csv_header header;
    size_t limit;
    locale_t c; /* numbers are written as in C, whatever the program's locale is */
    /* where it is */
    size_t line, first_line, column, records; /* of the present record its first line, and its fields so far */
    bool in_comment;
    bool in_quotes, was_quoted, quote_open; /* quote_open: a quote inside quotes, the end or half of a doubled one */
    char field[LONGEST_FIELD + 1];
    size_t length;
    /* what it has read */
    size_t dim, n;
    bool has_names;
    growing first, numbers; /* the first record's fields, each with a 0 behind; the table */
} reader;

/* ---- memory ---- */

static nf_status append(growing *g, const void *data, size_t bytes)
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
static const char *name_of(const reader *r, size_t i)
{
    const char *name = r->first.data;
    for (; r->has_names && i > 0; i--)
        name += strlen(name) + 1;
    return r->has_names ? name : NULL;
}

/* "nf_load_csv: x.csv: line 7, column 3 (age): " and what is wrong with the field. */
static nf_status wrong_field(const reader *r, const char *field, const char *what)
{
    const char *name = name_of(r, r->column);
    return nf_error(NF_EFORMAT, "%s: %s: line %zu, column %zu%s%.*s%s: %s%.*s%s%s", r->who, r->path, r->first_line,
                    r->column + 1, name ? " (" : "", SHOWN, name ? name : "", name ? ")" : "", field ? "'" : "", SHOWN,
                    field ? field : "", field ? "' " : "", what);
}

static nf_status wrong_line(const reader *r, const char *what)
{
    return nf_error(NF_EFORMAT, "%s: %s: line %zu: %s", r->who, r->path, r->first_line, what);
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
static bool to_number(const reader *r, const char *field, double *value)
{
    char *end;
    *value = strtod_l(field, &end, r->c);
    return end > field && *end == 0;
}

static nf_status add_number(reader *r, const char *field)
{
    double value;
    if (is_missing(field))
        return wrong_field(r, NULL, "the value is missing");
    if (!to_number(r, field, &value))
        return wrong_field(r, field, "is no number");
    const nf_real x = (nf_real)value;
    if (!isfinite(value))
        return wrong_field(r, field, "is not finite");
    if (!isfinite(x))
        return wrong_field(r, field, "is too large for single precision");
    if (r->numbers.bytes + sizeof x > r->limit)
        return nf_error(NF_EFORMAT, "%s: %s: line %zu: more numbers than max_bytes, %zu, has room for", r->who, r->path,
                        r->first_line, r->limit);
    return append(&r->numbers, &x, sizeof x);
}

/* The field without the spaces around it, unless they are in quotes, as a string. */
static const char *trim(reader *r)
{
    char *field = r->field;
    r->field[r->length] = 0;
    if (r->was_quoted)
        return field;
    while (r->length > 0 && isspace((unsigned char)field[r->length - 1]))
        field[--r->length] = 0;
    while (isspace((unsigned char)*field))
        field++;
    return field;
}

static nf_status end_field(reader *r)
{
    const char *field = trim(r);
    nf_status status = NF_OK;
    if (r->records == 0 && r->first.bytes > NAMES_FREE && r->first.bytes - NAMES_FREE > r->limit)
        status = nf_error(NF_EFORMAT, "%s: %s: line %zu: more text than max_bytes, %zu, and 65536 have room for",
                          r->who, r->path, r->first_line, r->limit);
    else if (r->records == 0)
        status = append(&r->first, field, strlen(field) + 1);
    else if (r->column < r->dim)
        status = add_number(r, field);
    if (status == NF_OK && ++r->column > MOST_COLUMNS)
        status = wrong_line(r, "more than a million columns");
    r->length = 0;
    r->in_quotes = r->was_quoted = r->quote_open = false;
    return status;
}

/* ---- records ---- */

/* Are the first record's fields names? If it is for the reader to find out, then unless all are numbers or missing. */
static nf_status end_first_record(reader *r)
{
    double value;
    bool all_numbers = true;
    r->dim = r->column;
    const char *field = r->first.data;
    for (size_t i = 0; i < r->dim; i++, field += strlen(field) + 1)
        all_numbers = all_numbers && (is_missing(field) || to_number(r, field, &value));
    r->has_names = r->header == NF_CSV_NAMES || (r->header == NF_CSV_DETECT && !all_numbers);
    nf_status status = NF_OK;
    r->column = 0;
    field = r->first.data;
    for (size_t i = 0; i < r->dim && !r->has_names && status == NF_OK; i++, r->column++, field += strlen(field) + 1)
        status = add_number(r, field);
    r->n += !r->has_names;
    return status;
}

static nf_status end_record(reader *r)
{
    const bool blank = r->column == 0 && r->length == 0 && !r->was_quoted;
    nf_status status = NF_OK;
    if (blank)
        return NF_OK;
    if (r->separator != ' ' || r->length > 0 || r->was_quoted)
        status = end_field(r);
    if (status == NF_OK && r->records == 0)
        status = end_first_record(r);
    else if (status == NF_OK && r->column != r->dim)
        status = nf_error(NF_EFORMAT, "%s: %s: line %zu has %zu fields, but the first has %zu", r->who, r->path,
                          r->first_line, r->column, r->dim);
    else if (status == NF_OK)
        r->n++;
    r->records++;
    r->column = 0;
    return status;
}

/* ---- characters ---- */

static nf_status put(reader *r, char c)
{
    if (c == 0)
        return wrong_line(r, "a zero byte: this is no text");
    if (r->length == LONGEST_FIELD)
        return wrong_line(r, "a field of more than 4096 bytes");
    r->field[r->length++] = c;
    return NF_OK;
}

static bool separates(const reader *r, char c)
{
    return r->separator == ' ' ? c == ' ' || c == '\t' || c == '\r' : c == r->separator;
}

static nf_status outside_quotes(reader *r, char c)
{
    const bool begins = r->length == 0 && !r->was_quoted;
    if (c == '\n') {
        const nf_status status = end_record(r);
        r->first_line = r->line;
        return status;
    }
    if (separates(r, c))
        return r->separator == ' ' && begins ? NF_OK : end_field(r);
    if (begins && c == '"') {
        r->in_quotes = r->was_quoted = true;
        return NF_OK;
    }
    if (isspace((unsigned char)c) && (begins || r->was_quoted))
        return NF_OK;
    return r->was_quoted ? wrong_line(r, "text behind a field in quotes") : put(r, c);
}

static bool begins_line(const reader *r)
{
    return r->column == 0 && r->length == 0 && !r->was_quoted && !r->in_quotes;
}

static nf_status take(reader *r, char c)
{
    r->line += c == '\n';
    if (r->in_comment || (r->comment && c == r->comment && begins_line(r))) {
        r->in_comment = c != '\n';
        if (!r->in_comment)
            r->first_line = r->line;
        return NF_OK;
    }
    if (r->quote_open) {
        r->quote_open = false;
        if (c == '"')
            return put(r, c);
        r->in_quotes = false;
    }
    if (!r->in_quotes)
        return outside_quotes(r, c);
    r->quote_open = c == '"';
    return r->quote_open ? NF_OK : put(r, c);
}

/* Of the first line that is neither blank nor a comment the most frequent one of tab, semicolon and comma; spaces if
   there is none. */
static char find_separator(const char *text, size_t n, char comment)
{
    static const char candidates[] = {'\t', ';', ','};
    size_t most = 0;
    char best = ' ';
    bool quoted = false;
    bool in_comment = false;
    while (n > 0 && (in_comment || isspace((unsigned char)*text) || (comment && *text == comment))) {
        in_comment = *text != '\n' && (in_comment || *text == comment);
        text++;
        n--;
    }
    for (size_t k = 0; k < sizeof candidates; k++) {
        size_t count = 0;
        for (size_t i = 0; i < n && (quoted || text[i] != '\n'); i++) {
            quoted = quoted != (text[i] == '"');
            count += !quoted && text[i] == candidates[k];
        }
        quoted = false;
        if (count > most) {
            most = count;
            best = candidates[k];
        }
    }
    return best;
}

static nf_status read_text(nfi_stream *s, reader *r, char *block)
{
    size_t got = 1;
    bool first = true;
    nf_status status = NF_OK;
    while (status == NF_OK && got > 0) {
        status = nfi_stream_read(s, (unsigned char *)block, BLOCK, &got);
        const size_t begin = first && got >= 3 && memcmp(block, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* UTF-8's mark */
        if (first && status == NF_OK && !r->separator)
            r->separator = find_separator(block + begin, got - begin, r->comment);
        for (size_t i = begin; i < got && status == NF_OK; i++)
            status = take(r, block[i]);
        first = false;
    }
    if (status == NF_OK && r->in_quotes && !r->quote_open)
        return wrong_line(r, "a quote that is not closed");
    if (status == NF_OK)
        status = end_record(r);
    if (status == NF_OK && r->n == 0)
        status = nf_error(NF_EFORMAT, "%s: %s: there are no rows%s", r->who, r->path,
                          r->has_names ? " below the names" : "");
    return status == NF_OK ? nfi_stream_expect_end(s) : status;
}

/* ---- the table ---- */

/* The table takes over the memory. Names point into the first record's text. */
static nf_status hand_over(reader *r, nf_table *out)
{
    char **name = r->has_names ? nfi_calloc(r->dim, sizeof *name) : NULL;
    if (r->has_names && !name)
        return NF_ENOMEM;
    char *text = r->first.data;
    for (size_t i = 0; name && i < r->dim; i++, text += strlen(text) + 1)
        name[i] = text;
    *out = (nf_table){.n = r->n, .dim = r->dim, .name = name, .data = (nf_real *)(void *)r->numbers.data};
    r->numbers.data = NULL;
    if (name)
        r->first.data = NULL;
    return NF_OK;
}

static nf_status read_table(nfi_stream *s, reader *r, nf_table *out)
{
    char *block = nfi_calloc(BLOCK, 1);
    nf_status status = block ? read_text(s, r, block) : NF_ENOMEM;
    nfi_free(block);
    if (status == NF_OK)
        status = hand_over(r, out);
    nfi_free(r->first.data);
    nfi_free(r->numbers.data);
    return status;
}

static nf_status check(const char *path, const nf_csv_options *q, const nf_table *out)
{
    if (!out || !path)
        return nf_error(NF_EARG, "nf_load_csv: %s is NULL", out ? "path" : "out");
    const char c = q->separator;
    if (c == '"' || c == '\n' || c == '\r' || isalnum((unsigned char)c) || (c && strchr("+-.", c)))
        return nf_error(NF_EARG, "nf_load_csv: `separator` is a character of numbers or of the format (code %d)", c);
    const char e = q->comment;
    if (e && (e == c || isspace((unsigned char)e) || isalnum((unsigned char)e) || strchr("+-.\"", e)))
        return nf_error(NF_EARG, "nf_load_csv: `comment` is a character of numbers or of the format (code %d)", e);
    if ((unsigned)q->header > NF_CSV_NO_NAMES)
        return nf_error(NF_EARG, "nf_load_csv: unknown header %d", (int)q->header);
    return NF_OK;
}

nf_status nf_load_csv(const char *path, const nf_csv_options *options, nf_table *out)
{
    static const nf_csv_options none;
    const nf_csv_options *q = options ? options : &none;
    nf_status status = check(path, q, out);
    if (status != NF_OK)
        return status;
    *out = (nf_table){0};
    nfi_stream *s = nfi_stream_open("nf_load_csv", path, true);
    if (!s)
        return nf_error_status();
    reader *r = nfi_calloc(1, sizeof *r);
    const locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    status = NF_ENOMEM;
    if (r && c) {
        *r = (reader){.who = "nf_load_csv",
                      .path = path,
                      .separator = q->separator,
                      .comment = q->comment,
                      .header = q->header,
                      .limit = nfi_limit_of(q->max_bytes),
                      .c = c,
                      .line = 1,
                      .first_line = 1};
        status = read_table(s, r, out);
    }
    if (c)
        freelocale(c);
    nfi_free(r);
    nfi_stream_close(s);
    return status;
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
