/* See text.h. */
#include "io/text.h"
#include "base/memory.h"
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BUFFER = 1 << 16, LONGEST_NUMBER = 32 };

struct nfi_text {
    nfi_atomic file;
    locale_t c, before;
    nf_status status;
    size_t used;
    char buffer[BUFFER];
};

nfi_text *nfi_text_open(const char *who, const char *path)
{
    nfi_text *t = nfi_calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!t->c)
        nf_error(NF_ENOMEM, "%s: no memory for a locale", who);
    if (!t->c || nfi_atomic_open(&t->file, who, path) != NF_OK) {
        if (t->c)
            freelocale(t->c);
        nfi_free(t);
        return NULL;
    }
    t->before = uselocale(t->c);
    return t;
}

static void flush(nfi_text *t)
{
    if (t->status == NF_OK)
        t->status = nfi_atomic_write(&t->file, t->buffer, t->used);
    t->used = 0;
}

void nfi_text_put_part(nfi_text *t, const char *text, size_t length)
{
    while (length > 0) {
        if (t->used == BUFFER)
            flush(t);
        const size_t part = length < BUFFER - t->used ? length : BUFFER - t->used;
        memcpy(t->buffer + t->used, text, part);
        t->used += part;
        text += part;
        length -= part;
    }
}

void nfi_text_put(nfi_text *t, const char *text)
{
    nfi_text_put_part(t, text, strlen(text));
}

void nfi_text_put_number(nfi_text *t, double x, const char *quote)
{
    char digits[LONGEST_NUMBER];
    if (isfinite(x)) {
        snprintf(digits, sizeof digits, "%.17g", x);
        nfi_text_put(t, digits);
        return;
    }
    nfi_text_put(t, quote);
    nfi_text_put(t, isnan(x) ? "NaN" : x > 0 ? "Inf" : "-Inf");
    nfi_text_put(t, quote);
}

nf_status nfi_text_close(nfi_text *t, nf_status status)
{
    flush(t);
    uselocale(t->before);
    freelocale(t->c);
    status = nfi_atomic_finish(&t->file, status == NF_OK ? t->status : status);
    nfi_free(t);
    return status;
}
