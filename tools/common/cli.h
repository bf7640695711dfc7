/*
 * What the tool, the examples and the benchmarks share: options, commands, errors, Ctrl-C, a progress bar. Programs may
 * exit, so these do.
 *
 *     static size_t length = 8;
 *     static double rate = 0.001;
 *     enum { PLANAR, RADIAL };
 *     static size_t flow = PLANAR;
 *     static const cli_option options[] = {
 *         {"length", "K", "layers of the flow", .size = &length, .max = 1000},
 *         {"rate", "R", "learning rate", .number = &rate, .min = 1e-9, .max = 1},
 *         {"flow", "planar|radial", "kind of layer", .choice = &flow},
 *         {0},
 *     };
 *     cli_parse(argc, argv, "Fits a flow.", options);
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H
#include <nflow/base.h>
#include <signal.h>

/* A list of whole numbers: --hidden 400,400,400. */
typedef struct cli_sizes {
    size_t n, value[16];
} cli_sizes;

/* One option. Exactly one of the pointers says where the value goes and what type it has; what stands there before is
   the default. */
typedef struct cli_option {
    const char *name;   /* without the dashes */
    const char *values; /* how the help shows the value; for a choice, all of them: "a|b|c"; NULL for a flag */
    const char *help;   /* one line */
    bool *flag;         /* true if given */
    size_t *size;       /* a whole number from min to max */
    uint64_t *seed;     /* any whole number from 0 to 2^64 - 1 */
    double *number;     /* a finite number from min to max */
    size_t *choice;     /* the place of the word in `values`, from 0 */
    cli_sizes *sizes;   /* whole numbers from min to max, separated by commas */
    const char **text;  /* the argument itself */
    double min, max;    /* max 0: 1e9 */
    char letter;        /* the option may also be written -o; 0: it has no short form */
} cli_option;

/* A program, or one of the commands of a program: "nflow fit --steps 100 DATA". */
typedef struct cli_command {
    const char *name;
    const char *arguments; /* how the help shows what is no option: "DATA"; NULL: the command takes nothing else */
    size_t least, most;    /* how many of these there are */
    const char *about;     /* one line */
    const char *text;      /* paragraphs of the help and of the manual page; NULL: none */
    const cli_option *options;
    int (*run)(size_t n, char **argument); /* does the work on the arguments that are no options; the exit status */
} cli_command;

/* Reads the command line into the variables; the table ends with a zero entry. --help prints the table and exits 0; a
   mistake prints one line and exits 2. */
void cli_parse(int argc, char **argv, const char *about, const cli_option *options);

/*
 * Runs the command that the first argument names; `commands` ends with NULL. "help NAME" and "NAME --help" print a
 * command's help; "help --man NAME" its manual page (roff), "help --man" that of the program, and "help --bash" what
 * bash completes the program's command line with, all of them from the same tables. `text` is the end of the program's
 * own help.
 */
int cli_run(int argc, char **argv, const char *about, const char *text, const cli_command *const *commands);

/* "program: message" on stderr, then exit(status). */
_Noreturn void cli_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Exits 1 with nf_error_message() unless the status is NF_OK. (Of the precision for which the caller is compiled.) */
static inline void cli_ok(nf_status status)
{
    if (status != NF_OK)
        cli_fail(1, "%s", nf_error_message());
}
/* Exits 1 with nf_error_message() if p is NULL; returns p. */
static inline void *cli_made(void *p)
{
    if (!p)
        cli_fail(1, "%s", nf_error_message());
    return p;
}
/* n zeroed numbers or structs of so many bytes, to be released by free(). Exits 1 if there is no memory. */
void *cli_allocate(size_t n, size_t size);
/* The text that printf would print, to be released by free(). */
char *cli_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Exits 1 unless a file can be written there; to be called before the work that it is to hold. NULL is allowed. */
void cli_writable(const char *path);

/* Set by Ctrl-C once cli_catch_interrupt() was called. A second Ctrl-C ends the program at once. */
extern volatile sig_atomic_t cli_interrupted;
void cli_catch_interrupt(void);

/* Redraws one line on a terminal's stderr, ten times a second at most: a bar, time left, and the note. Nothing if
   stderr is no terminal. done == total ends the line's life. */
void cli_progress(const char *what, double done, double total, const char *note, ...)
    __attribute__((format(printf, 4, 5)));
/* Wipes the line, to print something else. */
void cli_progress_clear(void);

/* Seconds since some fixed time. */
double cli_seconds(void);
/* Sorts n numbers, the least first. */
void cli_sort(size_t n, double *x);

#endif
