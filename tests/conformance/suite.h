/* How the conformance suite runs: rows dealt out to tests, cases counted, what is promised. */
#ifndef CONFORMANCE_SUITE_H
#define CONFORMANCE_SUITE_H
#include "subject.h"
#include <criterion/parameterized.h>
#include <unistd.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, huge = 1e15, tiny = 1e-30;
enum { is_double = false };
#else
static const double rounding = 2.3e-16, huge = 1e15, tiny = 1e-250;
enum { is_double = true };
#endif

/* What is promised: errors of round trips and of log-dets, absolute for numbers below 1 and relative above. The tests
   ask for rounding times a number that suits the property, and never for less than the promise. */
static const double promised_round_trip = is_double ? 1e-10 : 1e-4, promised_log_det = is_double ? 1e-9 : 1e-4;

/* Every test is a process of its own, so the cases are counted in a file, a line "row cases" a test. */
#define COUNTS "/tmp/nflow-conformance-%ld"
static FILE *counts(pid_t suite, const char *mode, char path[64])
{
    snprintf(path, 64, COUNTS, (long)suite);
    return fopen(path, mode);
}

static size_t n_skipped; /* cases that this test has left out */

static void count_cases(size_t index, size_t cases)
{
    char path[64];
    FILE *f = counts(getppid(), "a", path);
    cr_assert_not_null(f);
    fprintf(f, "%zu %zu\n", index, cases);
    fclose(f);
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    char path[64];
    snprintf(path, sizeof path, COUNTS, (long)getpid());
    remove(path);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    (void)stats;
    char path[64];
    size_t of_row[N_ROWS] = {0}, total = 0, index, cases;
    FILE *f = counts(getpid(), "r", path);
    while (f && fscanf(f, "%zu %zu", &index, &cases) == 2 && index < N_ROWS) {
        of_row[index] += cases;
        total += cases;
    }
    if (f) {
        fclose(f);
        remove(path);
    }
    for (size_t i = 0; i < N_ROWS; i++)
        printf("conformance: %s: %zu cases\n", rows[i].name, of_row[i]);
    printf("conformance: %zu cases in all, of %d rows, in %s\n", total, N_ROWS, is_double ? "double" : "float");
}

/* The rows, or those whose names contain $NFLOW_TEST_ROWS, are dealt out to tests, each a process of its own: one a
   row, or a few where sanitizers make processes dear. */
enum { SHARES = NFLOW_THIN ? 8 : N_ROWS };

static bool is_chosen(size_t row)
{
    const char *part = getenv("NFLOW_TEST_ROWS");
    return !part || strstr(rows[row].name, part);
}

static struct criterion_test_params shares(void)
{
    static size_t share[SHARES];
    size_t n = 0;
    for (size_t i = 0; i < SHARES; i++) {
        size_t k = i;
        while (k < N_ROWS && !is_chosen(k))
            k += SHARES;
        if (k < N_ROWS)
            share[n++] = i;
    }
    return cr_make_param_array(size_t, share, n);
}

static void run_share(size_t share, size_t most_dims, size_t points, visit_fn *property)
{
    for (size_t k = share; k < N_ROWS; k += SHARES) {
        n_skipped = 0;
        if (is_chosen(k)) {
            const size_t cases = for_subjects(k, most_dims, points, property);
            count_cases(k, cases - n_skipped);
        }
    }
}

/* The tests of a property. */
#define PROPERTY(property, most_dims, points)               \
    ParameterizedTestParameters(conformance, property)      \
    {                                                       \
        return shares();                                    \
    }                                                       \
    ParameterizedTest(size_t *share, conformance, property) \
    {                                                       \
        run_share(*share, most_dims, points, property);     \
    }

#endif
