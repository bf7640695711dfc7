/* The permutation whose values are computed one by one: that it is one, for every small n and, where it can be looked
   at, for large ones; and that it is as good as a shuffled array, by counts with bounds in standard errors. */
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/noise.h>
#include <stdlib.h>
#include <string.h>

static nf_noise named(uint64_t seed, uint64_t step)
{
    return (nf_noise){.seed = seed, .step = step, .site = 5};
}

static int ascending(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* chi^2 of counts whose expectation is the same; within 5 standard deviations. */
static void check_even(size_t n, const int *count, double freedom, const char *what)
{
    double total = 0, chi2 = 0;
    for (size_t i = 0; i < n; i++)
        total += count[i];
    for (size_t i = 0; i < n; i++) {
        const double away = count[i] - total / (double)n;
        chi2 += away * away * (double)n / total;
    }
    cr_assert_lt(fabs(chi2 - freedom), 5 * sqrt(2 * freedom), "%s: chi^2 %g, not %g", what, chi2, freedom);
}

Test(permuted, is_a_permutation_for_every_small_n)
{
    static bool seen[300];
    for (size_t n = 1; n <= 300; n++)
        for (uint64_t step = 0; step < 5; step++) {
            const nf_noise noise = named(2385, step);
            memset(seen, 0, sizeof seen);
            for (size_t i = 0; i < n; i++) {
                const size_t row = nf_noise_permuted(&noise, n, i);
                cr_assert_lt(row, n);
                cr_assert(!seen[row], "%zu twice among %zu", row, n);
                seen[row] = true;
                cr_assert_eq(nf_noise_permuted(&noise, n, i), row, "a function of its name");
            }
            cr_assert_eq(nf_noise_permuted(&noise, n, n), n, "no such place");
        }
    const nf_noise noise = named(1, 1);
    cr_assert_eq(nf_noise_permuted(&noise, 0, 0), 0);
    cr_assert_eq(nf_noise_permuted(&noise, 0, 7), 7);
}

/* Places that lie side by side, and places far apart; both are distinct, below n, and evenly spread. */
Test(permuted, of_large_n)
{
    enum { PLACES = 1 << 16, CELLS = 64 };
    static size_t row[PLACES];
    const size_t sizes[] = {
        PLACES + 1,      1000003, (size_t)1 << 24, ((size_t)1 << 32) - 5, ((size_t)1 << 33) + 9, ((size_t)1 << 40) - 87,
        (size_t)1 << 40, SIZE_MAX};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int apart = 0; apart < 2; apart++) {
            const size_t n = sizes[k], stride = apart ? n / PLACES : 1, first = apart ? 0 : n - PLACES;
            const nf_noise noise = named(91, k);
            int count[CELLS] = {0};
            for (size_t i = 0; i < PLACES; i++) {
                row[i] = nf_noise_permuted(&noise, n, first + i * stride);
                cr_assert_lt(row[i], n);
                const size_t cell = (size_t)((double)row[i] / (double)n * CELLS);
                count[cell < CELLS ? cell : CELLS - 1]++;
            }
            qsort(row, PLACES, sizeof *row, ascending);
            for (size_t i = 1; i < PLACES; i++)
                cr_assert_neq(row[i - 1], row[i], "n %zu", n);
            if (n > 100 * (size_t)PLACES) /* else the places are most of n: they cannot be but even */
                check_even(CELLS, count, CELLS - 1, "cells");
        }
}

/* All orders of a few come equally often. */
Test(permuted, every_order_of_a_few)
{
    enum { TRIALS = 120000 };
    static const size_t factorial[] = {1, 1, 2, 6, 24, 120};
    for (size_t n = 2; n <= 5; n++) {
        int count[120] = {0};
        for (uint64_t step = 0; step < TRIALS; step++) {
            const nf_noise noise = named(17 + n, step);
            size_t p[5], rank = 0; /* Lehmer's code */
            for (size_t i = 0; i < n; i++)
                p[i] = nf_noise_permuted(&noise, n, i);
            for (size_t i = 0; i < n; i++) {
                size_t smaller = 0;
                for (size_t j = i + 1; j < n; j++)
                    smaller += p[j] < p[i];
                rank += smaller * factorial[n - 1 - i];
            }
            count[rank]++;
        }
        check_even(factorial[n], count, (double)factorial[n] - 1, "orders");
    }
}

/* Where a row comes in an epoch; (n - 1)^2 degrees of freedom, since rows and columns of the table have known sums. */
Test(permuted, every_place_of_a_row)
{
    enum { TRIALS = 20000 };
    const size_t sizes[] = {16, 37, 64};
    for (size_t k = 0; k < 3; k++) {
        const size_t n = sizes[k];
        int *count = calloc(n * n, sizeof *count);
        for (uint64_t step = 0; step < TRIALS; step++) {
            const nf_noise noise = named(5 + k, step);
            for (size_t i = 0; i < n; i++)
                count[i * n + nf_noise_permuted(&noise, n, i)]++;
        }
        check_even(n * n, count, (double)((n - 1) * (n - 1)), "places");
        free(count);
    }
}

/* Rows that stand side by side: every ordered pair equally often. */
Test(permuted, every_pair_of_neighbours)
{
    enum { N = 13, TRIALS = 60000 };
    for (size_t at = 0; at + 1 < N; at += 5) {
        int count[N * (N - 1)] = {0};
        for (uint64_t step = 0; step < TRIALS; step++) {
            const nf_noise noise = named(77, step);
            const size_t a = nf_noise_permuted(&noise, N, at), b = nf_noise_permuted(&noise, N, at + 1);
            count[a * (N - 1) + (b > a ? b - 1 : b)]++;
        }
        check_even(N * (N - 1), count, N * (N - 1) - 1, "pairs");
    }
}

/* The correlation of two lists of row numbers, which are 0..n-1 each. */
static double correlation(size_t n, size_t count, const size_t *a, const size_t *b)
{
    const double middle = ((double)n - 1) / 2, variance = ((double)n * (double)n - 1) / 12;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)a[i] - middle) * ((double)b[i] - middle);
    return sum / (double)count / variance;
}

/* In a long epoch: neighbours, rows some places apart, a row and its place, and the same place of the next epoch, of
   another seed, of another site: nothing is correlated, and one number in n is where it was, as in any two orders. */
Test(permuted, long_epochs_have_no_pattern)
{
    enum { N = 100003, EPOCHS = 20 };
    size_t *p = malloc(N * sizeof *p), *q = malloc(N * sizeof *q), *place = malloc(N * sizeof *place);
    const double error = 1 / sqrt(N);
    double fixed = 0, same = 0;
    for (size_t i = 0; i < N; i++)
        place[i] = i;
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        const nf_noise noise = named(4, epoch),
                       others[] = {{.seed = 4, .step = epoch + 1, .site = 5},
                                   {.seed = 5, .step = epoch, .site = 5},
                                   {.seed = 4, .step = epoch, .site = 6},
                                   {.seed = 4, .step = epoch + (UINT64_C(1) << 32), .site = 5}};
        for (size_t i = 0; i < N; i++) {
            p[i] = nf_noise_permuted(&noise, N, i);
            fixed += p[i] == i;
        }
        for (size_t lag = 1; lag <= 512; lag = lag < 3 ? lag + 1 : 2 * lag + lag % 2)
            cr_assert_lt(fabs(correlation(N, N - lag, p, p + lag)), 5 * error, "lag %zu", lag);
        cr_assert_lt(fabs(correlation(N, N, p, place)), 5 * error);
        for (size_t k = 0; k < 4; k++) {
            for (size_t i = 0; i < N; i++) {
                q[i] = nf_noise_permuted(&others[k], N, i);
                same += q[i] == p[i];
            }
            cr_assert_lt(fabs(correlation(N, N, p, q)), 5 * error, "other %zu", k);
        }
    }
    cr_assert_lt(fabs(fixed / EPOCHS - 1), 5 / sqrt(EPOCHS), "%g rows stay where they were", fixed);
    cr_assert_lt(fabs(same / (4 * EPOCHS) - 1), 5 / sqrt(4 * EPOCHS), "%g rows are where they were", same);
    free(p);
    free(q);
    free(place);
}
