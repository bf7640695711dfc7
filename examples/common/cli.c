#include "cli.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program = "example";
volatile sig_atomic_t cli_interrupted;
static bool line_drawn;

/* ---- errors ---- */

void cli_fail(int status, const char *format, ...)
{
    cli_progress_clear();
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    fflush(NULL);
    _Exit(status); /* without a search for leaks: what was in use just now was not lost */
}

void cli_ok(nf_status status)
{
    if (status != NF_OK)
        cli_fail(1, "%s", nf_error_message());
}

void *cli_made(void *p)
{
    if (!p)
        cli_fail(1, "%s", nf_error_message());
    return p;
}

void *cli_allocate(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        cli_fail(1, "out of memory");
    return p;
}

char *cli_text(const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        cli_fail(1, "out of memory");
    va_end(args);
    return text;
}

void cli_writable(const char *path)
{
    if (!path)
        return;
    bool existed = access(path, F_OK) == 0;
    FILE *f = fopen(path, "a");
    if (!f)
        cli_fail(1, "cannot write %s: %s", path, strerror(errno));
    fclose(f);
    if (!existed)
        remove(path);
}

/* ---- options ---- */

static double upper(const cli_option *o)
{
    return o->max != 0 ? o->max : 1e9;
}

static bool parse_size(const char *text, size_t length, const cli_option *o, size_t *value)
{
    char copy[32], *end;
    if (length == 0 || length >= sizeof copy || strspn(text, "0123456789") < length)
        return false;
    memcpy(copy, text, length);
    copy[length] = 0;
    errno = 0;
    unsigned long long v = strtoull(copy, &end, 10);
    if (errno || *end || (double)v < o->min || (double)v > upper(o))
        return false;
    *value = (size_t)v;
    return true;
}

static void set_size(const cli_option *o, const char *text)
{
    if (!parse_size(text, strlen(text), o, o->size))
        cli_fail(2, "--%s must be a whole number from %.0f to %.0f, not '%s'", o->name, o->min, upper(o), text);
}

static void set_seed(const cli_option *o, const char *text)
{
    char *end;
    errno = 0;
    uint64_t v = strtoull(text, &end, 10);
    if (errno || *end || *text < '0' || *text > '9')
        cli_fail(2, "--%s must be a whole number from 0 to 2^64 - 1, not '%s'", o->name, text);
    *o->seed = v;
}

static void set_number(const cli_option *o, const char *text)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v) || v < o->min || v > upper(o))
        cli_fail(2, "--%s must be a number from %g to %g, not '%s'", o->name, o->min, upper(o), text);
    *o->number = v;
}

static void set_choice(const cli_option *o, const char *text)
{
    size_t i = 0;
    for (const char *word = o->values; word; i++) {
        size_t length = strcspn(word, "|");
        if (strlen(text) == length && strncmp(word, text, length) == 0) {
            *o->choice = i;
            return;
        }
        word = word[length] ? word + length + 1 : NULL;
    }
    cli_fail(2, "--%s must be one of %s, not '%s'", o->name, o->values, text);
}

static void set_sizes(const cli_option *o, const char *text)
{
    cli_sizes v = {0};
    const size_t most = sizeof v.value / sizeof v.value[0];
    for (const char *word = text; word;) {
        size_t length = strcspn(word, ",");
        if (v.n == most || !parse_size(word, length, o, &v.value[v.n++]))
            cli_fail(2, "--%s must be up to %zu whole numbers from %.0f to %.0f with commas between them, not '%s'",
                     o->name, most, o->min, upper(o), text);
        word = word[length] ? word + length + 1 : NULL;
    }
    *o->sizes = v;
}

static void set(const cli_option *o, const char *text)
{
    if (o->size)
        set_size(o, text);
    else if (o->seed)
        set_seed(o, text);
    else if (o->number)
        set_number(o, text);
    else if (o->choice)
        set_choice(o, text);
    else if (o->sizes)
        set_sizes(o, text);
    else
        *o->text = text;
}

static void print_default(const cli_option *o)
{
    if (o->size)
        printf(" (%zu)", *o->size);
    else if (o->seed)
        printf(" (%llu)", (unsigned long long)*o->seed);
    else if (o->number)
        printf(" (%g)", *o->number);
    else if (o->choice) {
        const char *word = o->values;
        for (size_t i = 0; i < *o->choice; i++)
            word += strcspn(word, "|") + 1;
        printf(" (%.*s)", (int)strcspn(word, "|"), word);
    } else if (o->sizes && o->sizes->n) {
        for (size_t i = 0; i < o->sizes->n; i++)
            printf("%s%zu", i ? "," : " (", o->sizes->value[i]);
        printf(")");
    } else if (o->text && *o->text)
        printf(" (%s)", *o->text);
}

static _Noreturn void help(const char *about, const cli_option *options)
{
    printf("%s\n\nUsage: %s [options]\n\n", about, program);
    for (const cli_option *o = options; o->name; o++) {
        int width = printf("  --%s %s", o->name, o->values ? o->values : "");
        if (width >= 32)
            width = printf("\n") - 1;
        printf("%*s%s", 32 - width, "", o->help);
        print_default(o);
        printf("\n");
    }
    printf("  %-30s%s\n", "--help", "this text");
    exit(0);
}

void cli_parse(int argc, char **argv, const char *about, const cli_option *options)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    if (argc > 0)
        program = slash ? slash + 1 : argv[0];
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0)
            help(about, options);
        const char *name = strncmp(arg, "--", 2) == 0 ? arg + 2 : "";
        const char *equals = strchr(name, '=');
        size_t length = equals ? (size_t)(equals - name) : strlen(name);
        const cli_option *o = options;
        while (o->name && (strlen(o->name) != length || strncmp(o->name, name, length) != 0))
            o++;
        if (!o->name)
            cli_fail(2, "unknown option '%s'; --help lists them", arg);
        if (o->flag) {
            if (equals)
                cli_fail(2, "--%s takes no value", o->name);
            *o->flag = true;
        } else if (equals) {
            set(o, equals + 1);
        } else if (i + 1 < argc) {
            set(o, argv[++i]);
        } else {
            cli_fail(2, "--%s needs a value: %s", o->name, o->values);
        }
    }
}

/* ---- Ctrl-C ---- */

static void on_interrupt(int signal_number)
{
    cli_interrupted = 1;
    signal(signal_number, SIG_DFL);
}

void cli_catch_interrupt(void)
{
    signal(SIGINT, on_interrupt);
}

/* ---- progress ---- */

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void cli_sort(size_t n, double *x)
{
    qsort(x, n, sizeof *x, ascending);
}

void cli_progress_clear(void)
{
    if (line_drawn)
        fputs("\r\033[K", stderr);
    line_drawn = false;
}

void cli_progress(const char *what, double done, double total, const char *note, ...)
{
    static int terminal = -1;
    static double start, drawn;
    static const char *last;
    if (terminal < 0)
        terminal = isatty(STDERR_FILENO);
    if (!terminal)
        return;
    double now = cli_seconds();
    if (!last || strcmp(last, what) != 0 || done <= 0)
        start = now;
    last = what;
    if (done >= total) {
        cli_progress_clear();
        return;
    }
    if (now - drawn < 0.1)
        return;
    drawn = now;
    enum { WIDTH = 24 };
    int full = (int)(WIDTH * done / total);
    double left = done > 0 ? (now - start) * (total - done) / done : 0;
    fprintf(stderr, "\r\033[K%s [%.*s%*s] %3.0f%%  %.0f:%02.0f left  ", what, full, "########################",
            WIDTH - full, "", 100 * done / total, floor(left / 60), fmod(floor(left), 60));
    va_list args;
    va_start(args, note);
    vfprintf(stderr, note, args);
    va_end(args);
    fflush(stderr);
    line_drawn = true;
}
