/* Tables of numbers as text (RFC 4180): a record a line, fields between separators, quotes around fields that contain
   separators or line breaks, a quote inside them doubled. Beyond the RFC: lines may end in LF, blank lines are skipped,
   spaces around fields do not count, and fields may be separated by any number of spaces.

   The reader takes one character after the other and finds the fields. What becomes of them is csv_table.c. */
#include "base/memory.h"
#include "data/csv_table.h"
#include "data/elements.h"
#include "io/stream.h"
#include <ctype.h>
#include <string.h>

enum { LONGEST_FIELD = 4096, BLOCK = 1 << 16 };

typedef struct reader {
    nfi_csv_table table;
    char separator, comment; /* comment 0: no line is one */
    /* where it is */
    size_t line; /* counted from 1 */
    bool in_comment;
    bool in_quotes, was_quoted, quote_open; /* quote_open: a quote inside quotes, the end or half of a doubled one */
    char field[LONGEST_FIELD + 1];
    size_t length;
} reader;

/* ---- fields ---- */

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

/* Nothing has come of the present record. */
static bool begins_record(const reader *r)
{
    return r->table.column == 0 && r->length == 0 && !r->was_quoted;
}

static nf_status end_field(reader *r)
{
    const nf_status status = nfi_csv_field(&r->table, trim(r));
    r->length = 0;
    r->in_quotes = r->was_quoted = r->quote_open = false;
    return status;
}

/* A line without any field is no record. */
static nf_status end_record(reader *r)
{
    nf_status status = NF_OK;
    if (begins_record(r))
        return NF_OK;
    if (r->separator != ' ' || r->length > 0 || r->was_quoted)
        status = end_field(r);
    return status == NF_OK ? nfi_csv_record(&r->table) : status;
}

/* ---- characters ---- */

static nf_status put(reader *r, char c)
{
    if (c == 0)
        return nfi_csv_wrong_line(&r->table, "a zero byte: this is no text");
    if (r->length == LONGEST_FIELD)
        return nfi_csv_wrong_line(&r->table, "a field of more than 4096 bytes");
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
        r->table.line = r->line;
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
    return r->was_quoted ? nfi_csv_wrong_line(&r->table, "text behind a field in quotes") : put(r, c);
}

static nf_status take(reader *r, char c)
{
    r->line += c == '\n';
    if (r->in_comment || (r->comment && c == r->comment && begins_record(r))) {
        r->in_comment = c != '\n';
        if (!r->in_comment)
            r->table.line = r->line;
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
        return nfi_csv_wrong_line(&r->table, "a quote that is not closed");
    status = status == NF_OK ? end_record(r) : status;
    return status == NF_OK ? nfi_stream_expect_end(s) : status;
}

/* ---- the file ---- */

static nf_status read_table(nfi_stream *s, reader *r, nf_table *out)
{
    nf_status status = nfi_csv_begin(&r->table);
    char *block = status == NF_OK ? nfi_calloc(BLOCK, 1) : NULL;
    if (status == NF_OK)
        status = block ? read_text(s, r, block) : NF_ENOMEM;
    nfi_free(block);
    if (status == NF_OK)
        status = nfi_csv_finish(&r->table, out);
    nfi_csv_end(&r->table);
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
    status = NF_ENOMEM;
    if (r) {
        *r = (reader){.table = {.who = "nf_load_csv",
                                .path = path,
                                .header = q->header,
                                .limit = nfi_limit_of(q->max_bytes),
                                .line = 1},
                      .separator = q->separator,
                      .comment = q->comment,
                      .line = 1};
        status = read_table(s, r, out);
    }
    nfi_free(r);
    nfi_stream_close(s);
    return status;
}
