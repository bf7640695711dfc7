#include "output.h"
#include "cli.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* ---- JSON ---- */

enum { MOST_LEVELS = 16 };
struct js_file {
    FILE *file;
    const char *path;
    int level;
    char close[MOST_LEVELS]; /* how each open level ends */
    bool empty[MOST_LEVELS]; /* nothing in it yet */
};

js_file *js_open(const char *path)
{
    if (!path)
        return NULL;
    js_file *j = calloc(1, sizeof *j);
    FILE *file = fopen(path, "w");
    if (!j || !file)
        cli_fail(1, "cannot write %s: %s", path, strerror(errno));
    *j = (js_file){.file = file, .path = path, .empty = {true}};
    return j;
}

static void quote(FILE *file, const char *text)
{
    fputc('"', file);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(file, "\\%c", *c);
        else if (*c < 0x20)
            fprintf(file, "\\u%04x", *c);
        else
            fputc(*c, file);
    }
    fputc('"', file);
}

/* Whatever stands before a value: a comma, a new line for what is in the outermost arrays, the name. */
static void lead(js_file *j, const char *name)
{
    if (!j->empty[j->level])
        fputs(",", j->file);
    if (j->level > 0)
        fputs(j->close[j->level] == ']' ? "\n" : j->empty[j->level] ? "" : " ", j->file);
    j->empty[j->level] = false;
    if (name) {
        quote(j->file, name);
        fputs(": ", j->file);
    }
}

void js_begin(js_file *j, const char *name, char kind)
{
    if (!j || j->level + 1 == MOST_LEVELS)
        return;
    lead(j, name);
    fputc(kind, j->file);
    j->level++;
    j->close[j->level] = kind == '{' ? '}' : ']';
    j->empty[j->level] = true;
}

void js_end(js_file *j)
{
    if (j)
        fputc(j->close[j->level--], j->file);
}

void js_number(js_file *j, const char *name, double value)
{
    if (!j)
        return;
    lead(j, name);
    if (isfinite(value))
        fprintf(j->file, "%.10g", value);
    else
        fputs("null", j->file);
}

void js_integer(js_file *j, const char *name, uint64_t value)
{
    if (!j)
        return;
    lead(j, name);
    fprintf(j->file, "%llu", (unsigned long long)value);
}

void js_text(js_file *j, const char *name, const char *value)
{
    if (!j)
        return;
    lead(j, name);
    quote(j->file, value);
}

void js_truth(js_file *j, const char *name, bool value)
{
    if (!j)
        return;
    lead(j, name);
    fputs(value ? "true" : "false", j->file);
}

void js_close(js_file *j)
{
    if (!j)
        return;
    fputc('\n', j->file);
    bool failed = ferror(j->file);
    if (fclose(j->file) || failed)
        cli_fail(1, "cannot write %s: %s", j->path, strerror(errno));
    free(j);
}

/* ---- gnuplot ---- */

/* The name in gnuplot's single quotes, inside which a quote is doubled. */
static void put_name(FILE *plot, const char *name)
{
    fputs("set output '", plot);
    for (; *name; name++)
        fputs(*name == '\'' ? "''" : (char[]){*name, 0}, plot);
    fputs("'\n", plot);
}

FILE *plot_open(const char *picture, int width, int height)
{
    const size_t length = strlen(picture);
    const bool svg = length > 4 && strcmp(picture + length - 4, ".svg") == 0;
    signal(SIGPIPE, SIG_IGN); /* a gnuplot that is not there is reported by plot_close */
    FILE *plot = popen("gnuplot", "w");
    if (!plot)
        cli_fail(1, "cannot start gnuplot: %s", strerror(errno));
    fprintf(plot, "set terminal %s size %d,%d font 'sans,10' background 'white'\n", svg ? "svg" : "pngcairo", width,
            height);
    put_name(plot, picture);
    return plot;
}

void plot_close(FILE *plot)
{
    fflush(plot);
    bool failed = ferror(plot);
    int status = pclose(plot);
    if (failed || status != 0)
        cli_fail(1, WIFEXITED(status) && WEXITSTATUS(status) == 127 ? "gnuplot is not installed: no picture"
                                                                    : "gnuplot failed: no picture");
}
