/* The program around tests without Criterion: every test, or each of its parameters, runs in a child of its own, one
   after the other. A child that ends well ends by exit(), so that LeakSanitizer looks for what it leaks. Closes with
   the line that Criterion closes with, so that scripts/count-tests reads both.

     usage: test_<name> [--filter PATTERN] [--jobs N] [--color=WHEN]

   PATTERN is of "suite/test", in Criterion's notation; the other options are Criterion's and change nothing. */
#include <criterion/criterion.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PASSED, FAILED, SKIPPED }; /* a child's exit status */

static plain_test *first, **last = &first;
static void (*pre_all)(struct criterion_test_set *);
static void (*post_all)(struct criterion_global_stats *);
/* Of the running test, in its child. */
static const plain_test *current, *current_suite;
static bool failed;

void plain_add(plain_test *test)
{
    *last = test;
    last = &test->next;
}

void plain_add_pre_all(void (*hook)(struct criterion_test_set *))
{
    pre_all = hook;
}

void plain_add_post_all(void (*hook)(struct criterion_global_stats *))
{
    post_all = hook;
}

/* ---- in the child ---- */

_Noreturn static void finish(int status)
{
    if (current->fini)
        current->fini();
    if (current_suite && current_suite->fini)
        current_suite->fini();
    if (status == PASSED)
        exit(status);
    fflush(NULL);
    _exit(status);
}

static void say(const char *file, int line, const char *text, const char *message, va_list arguments)
{
    fprintf(stderr, "[----] %s:%d: Assertion failed: %s\n", file, line, text);
    if (*message) {
        fputs("[----]   ", stderr);
        vfprintf(stderr, message, arguments);
        fputc('\n', stderr);
    }
}

void plain_assert_failed(const char *file, int line, const char *text, const char *message, ...)
{
    va_list arguments;
    va_start(arguments, message);
    say(file, line, text, message, arguments);
    va_end(arguments);
    finish(FAILED);
}

void plain_expect_failed(const char *file, int line, const char *text, const char *message, ...)
{
    va_list arguments;
    va_start(arguments, message);
    say(file, line, text, message, arguments);
    va_end(arguments);
    failed = true;
}

void plain_skip(const char *message, ...)
{
    va_list arguments;
    va_start(arguments, message);
    printf("[SKIP] %s/%s: ", current->suite, current->name);
    vprintf(message, arguments);
    putchar('\n');
    va_end(arguments);
    finish(SKIPPED);
}

_Noreturn static void run(size_t *parameter)
{
    if (current_suite && current_suite->init)
        current_suite->init();
    if (current->init)
        current->init();
    if (parameter)
        current->body_at(parameter);
    else
        current->body();
    finish(failed ? FAILED : PASSED);
}

/* ---- in the parent ---- */

static void run_in_child(size_t *parameter, struct criterion_global_stats *stats)
{
    int status;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        run(parameter);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        exit(2);
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "[----] %s/%s: signal %d\n", current->suite, current->name, WTERMSIG(status));
        stats->tests_crashed++;
    } else if (WEXITSTATUS(status) == PASSED)
        stats->tests_passed++;
    else if (WEXITSTATUS(status) != SKIPPED) {
        fprintf(stderr, "[FAIL] %s/%s\n", current->suite, current->name);
        stats->tests_failed++;
    }
}

static bool is_chosen(const plain_test *test, const char *pattern)
{
    char name[256];
    if (!test->name || test->disabled)
        return false;
    snprintf(name, sizeof name, "%s/%s", test->suite, test->name);
    return !pattern || fnmatch(pattern, name, FNM_EXTMATCH) == 0;
}

static const plain_test *suite_of(const plain_test *test)
{
    for (const plain_test *suite = first; suite; suite = suite->next)
        if (!suite->name && strcmp(suite->suite, test->suite) == 0)
            return suite;
    return NULL;
}

int main(int n_arguments, char **arguments)
{
    const char *pattern = NULL;
    struct criterion_global_stats stats = {0};
    for (int i = 1; i < n_arguments; i++) {
        const bool has_value = i + 1 < n_arguments;
        if (strcmp(arguments[i], "--filter") == 0 && has_value)
            pattern = arguments[++i];
        else if (strcmp(arguments[i], "--jobs") == 0 && has_value)
            i++;
        else if (strncmp(arguments[i], "--color", 7) != 0) {
            fprintf(stderr, "%s: what is '%s'?\n", arguments[0], arguments[i]);
            return 2;
        }
    }
    if (pre_all)
        pre_all(&(struct criterion_test_set){0});
    for (current = first; current; current = current->next) {
        if (!is_chosen(current, pattern))
            continue;
        current_suite = suite_of(current);
        if (!current->parameters) {
            run_in_child(NULL, &stats);
            continue;
        }
        const struct criterion_test_params p = current->parameters();
        for (size_t i = 0; i < p.length; i++)
            run_in_child((size_t *)p.params + i, &stats);
    }
    if (post_all)
        post_all(&stats);
    const size_t bad = stats.tests_failed + stats.tests_crashed;
    printf("[====] Synthesis: Tested: %zu | Passing: %zu | Failing: %zu | Crashing: %zu\n", stats.tests_passed + bad,
           stats.tests_passed, stats.tests_failed, stats.tests_crashed);
    return bad != 0;
}
