#include "write.h"
#include "cli.h"
#include <errno.h>
#include <math.h>
#include <nflow/draws.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    const char *path;
    FILE *file;
    bool npy;
    size_t columns;
};

static void check(const writer *w)
{
    if (ferror(w->file))
        cli_fail(1, "cannot write %s: %s", w->path, strerror(errno));
}

/* A field of csv; in quotes where it has to be. */
static void field(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    putc('"', file);
    for (; *text; text++) {
        if (*text == '"')
            putc('"', file);
        putc(*text, file);
    }
    putc('"', file);
}

writer *writer_open(const char *path, size_t n, size_t columns, char *const *name)
{
    const size_t length = strlen(path);
    const bool npy = length > 4 && strcmp(path + length - 4, ".npy") == 0, is_stdout = strcmp(path, "-") == 0;
    if (!npy && !is_stdout && (length < 4 || strcmp(path + length - 4, ".csv") != 0))
        cli_fail(2, "%s: the name of a table ends in .csv or .npy", path);
    writer *w = cli_allocate(1, sizeof *w);
    *w = (writer){.path = path, .file = is_stdout ? stdout : fopen(path, "wb"), .npy = npy, .columns = columns};
    if (!w->file)
        cli_fail(1, "cannot write %s: %s", path, strerror(errno));
    if (npy) {
        char header[NF_NPY_HEADER];
        nf_npy_header(n, columns, header);
        fwrite(header, 1, sizeof header, w->file);
    }
    for (size_t j = 0; !npy && j < columns; j++) {
        field(w->file, name[j]);
        putc(j + 1 < columns ? ',' : '\n', w->file);
    }
    return w;
}

/* 17 digits, or fewer if they give the same number. */
static void number(FILE *file, double x)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    fputs(text, file);
}

void writer_rows(writer *w, size_t n, const double *x)
{
    if (w->npy)
        fwrite(x, sizeof *x, n * w->columns, w->file);
    for (size_t i = 0; !w->npy && i < n; i++)
        for (size_t j = 0; j < w->columns; j++) {
            number(w->file, x[i * w->columns + j]);
            putc(j + 1 < w->columns ? ',' : '\n', w->file);
        }
    check(w);
}

void writer_close(writer *w)
{
    if (fflush(w->file) || (w->file != stdout && fclose(w->file)))
        cli_fail(1, "cannot write %s: %s", w->path, strerror(errno));
    free(w);
}
