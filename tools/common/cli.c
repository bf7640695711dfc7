#include "cli.h"
#include "cli_pages.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program = "example"; /* its name, in a command the two words */
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

void cli_show_default(const cli_option *o, FILE *file)
{
    if (o->size)
        fprintf(file, " (%zu)", *o->size);
    else if (o->seed)
        fprintf(file, " (%llu)", (unsigned long long)*o->seed);
    else if (o->number)
        fprintf(file, " (%g)", *o->number);
    else if (o->choice) {
        const char *word = o->values;
        for (size_t i = 0; i < *o->choice; i++)
            word += strcspn(word, "|") + 1;
        fprintf(file, " (%.*s)", (int)strcspn(word, "|"), word);
    } else if (o->sizes && o->sizes->n) {
        for (size_t i = 0; i < o->sizes->n; i++)
            fprintf(file, "%s%zu", i ? "," : " (", o->sizes->value[i]);
        fprintf(file, ")");
    } else if (o->text && *o->text)
        fprintf(file, " (%s)", *o->text);
}

static void print_option(const cli_option *o)
{
    int width = o->letter ? printf("  -%c, --%s", o->letter, o->name) : printf("  --%s", o->name);
    width += printf(" %s", o->values ? o->values : "");
    if (width >= 32)
        width = printf("\n") - 1;
    printf("%*s%s", 32 - width, "", o->help);
    cli_show_default(o, stdout);
    printf("\n");
}

static void print_help(const cli_command *c)
{
    printf("%s\n\nUsage: %s [options]%s%s\n\n", c->about, program, c->arguments ? " " : "",
           c->arguments ? c->arguments : "");
    if (c->text)
        printf("%s\n\n", c->text);
    for (const cli_option *o = c->options; o->name; o++)
        print_option(o);
    printf("  %-30s%s\n", "--help", "this text");
}

/* The option of an argument that begins with '-'. *value is what stands behind '=', or NULL. */
static const cli_option *find_option(const char *arg, const cli_option *options, const char **value)
{
    const bool is_long = arg[1] == '-';
    const char *name = arg + (is_long ? 2 : 1), *equals = strchr(name, '=');
    const size_t length = equals ? (size_t)(equals - name) : strlen(name);
    *value = equals ? equals + 1 : NULL;
    for (const cli_option *o = options; o->name; o++)
        if (is_long ? strlen(o->name) == length && strncmp(o->name, name, length) == 0
                    : length == 1 && o->letter && o->letter == *name)
            return o;
    cli_fail(2, "unknown option '%s'; --help lists them", arg);
}

/* Reads options; the other arguments move to the front of argv, *n of them. "-" alone is no option, and behind "--"
   there are none. */
static void parse(int argc, char **argv, const cli_command *c, size_t *n)
{
    bool options_end = false;
    *n = 0;
    for (int i = 0; i < argc; i++) {
        char *arg = argv[i];
        if (options_end || arg[0] != '-' || arg[1] == 0) {
            if (*n == c->most)
                cli_fail(2, c->most ? "too many arguments: '%s'; usage: %s [options] %s" : "unknown argument '%s'", arg,
                         program, c->arguments);
            argv[(*n)++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            options_end = true;
            continue;
        }
        if (strcmp(arg, "--help") == 0) {
            print_help(c);
            exit(0);
        }
        const char *value;
        const cli_option *o = find_option(arg, c->options, &value);
        if (o->flag) {
            if (value)
                cli_fail(2, "--%s takes no value", o->name);
            *o->flag = true;
        } else if (value) {
            set(o, value);
        } else if (i + 1 < argc) {
            set(o, argv[++i]);
        } else {
            cli_fail(2, "--%s needs a value: %s", o->name, o->values);
        }
    }
    if (*n < c->least)
        cli_fail(2, "an argument is missing; usage: %s [options] %s", program, c->arguments);
}

static void name_program(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    if (argc > 0)
        program = slash ? slash + 1 : argv[0];
}

void cli_parse(int argc, char **argv, const char *about, const cli_option *options)
{
    size_t n;
    name_program(argc, argv);
    parse(argc - 1, argv + 1, &(cli_command){.about = about, .options = options}, &n);
}

/* ---- commands ---- */

static const cli_command *find_command(const cli_command *const *commands, const char *name)
{
    for (; *commands; commands++)
        if (strcmp((*commands)->name, name) == 0)
            return *commands;
    cli_fail(2, "unknown command '%s'; --help lists them", name);
}

static int general_help(const char *about, const char *text, const cli_command *const *commands)
{
    printf("%s\n\nUsage: %s COMMAND [options] [arguments]\n\n", about, program);
    for (; *commands; commands++)
        printf("  %-10s%s\n", (*commands)->name, (*commands)->about);
    printf("  %-10s%s\n\n%s\n", "help", "what a command does: help COMMAND, or COMMAND --help", text);
    return 0;
}

/* "program command", for messages and help; kept until the program ends. */
static void enter(const cli_command *c)
{
    program = cli_text("%s %s", program, c->name);
}

static int run_help(int n, char **arg, const char *about, const char *text, const cli_command *const *commands)
{
    if (n == 1 && strcmp(arg[0], "--bash") == 0)
        return cli_print_completion(program, commands);
    if (n == 1 && strcmp(arg[0], "--man") == 0)
        return cli_print_program_manual(program, about, text, commands);
    if (n == 2 && strcmp(arg[0], "--man") == 0)
        return cli_print_manual(program, find_command(commands, arg[1]));
    if (n != 1)
        return general_help(about, text, commands);
    const cli_command *c = find_command(commands, arg[0]);
    enter(c);
    print_help(c);
    return 0;
}

int cli_run(int argc, char **argv, const char *about, const char *text, const cli_command *const *commands)
{
    name_program(argc, argv);
    if (argc < 2)
        cli_fail(2, "a command is missing; --help lists them");
    if (strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", program, nf_version());
        return 0;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0)
        return run_help(argc - 2, argv + 2, about, text, commands);
    const cli_command *c = find_command(commands, argv[1]);
    size_t n;
    enter(c);
    parse(argc - 2, argv + 2, c, &n);
    return c->run(n, argv + 2);
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
