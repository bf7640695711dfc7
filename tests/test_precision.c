/* The float library against the double one, both in this program: every case of the conformance suite at the same
   inputs. Values and log-dets agree within 1e-4, gradients within 1e-3, of 1 plus what the double library says; a
   little more where the map itself magnifies rounding. */
#include "conformance/both.h"
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>

enum { MOST_ROWS = 200 };

/* Where a map stretches, it magnifies the inputs' own rounding: of one part in ten million, stretched by more than a
   thousand, up to ten times the tolerance is left. first .. last-1: the samples that a number depends on. */
static double magnified(const both_case *d, size_t first, size_t last)
{
    double most = 1;
    for (size_t s = first; s < last; s++)
        most = fmax(most, fmin(10, exp(d->array[LOG_DET][s]) / 1000));
    return most;
}

static void compare(const both_case *f, const both_case *d, int which, const char *what, double tolerance)
{
    const size_t n = d->size[LOG_DET], size = d->size[which];
    cr_assert_eq(f->size[which], size);
    for (size_t i = 0; i < size; i++) {
        const size_t s = i * n / size;
        const double m = which == G_THETA ? magnified(d, 0, n) : magnified(d, s, s + 1);
        cr_assert_float_eq(f->array[which][i], d->array[which][i], m * tolerance * (1 + fabs(d->array[which][i])),
                           "%s: %s %zu is %.9g in float, %.9g in double", both_title(d), what, i, f->array[which][i],
                           d->array[which][i]);
    }
}

static bool run_both(both_case *f)
{
    if (!case_in_float(f))
        return false;
    both_case d = *f;
    cr_assert(case_in_double(&d));
    compare(f, &d, Y, "row", 1e-4);
    compare(f, &d, LOG_DET, "log-det", 1e-4);
    compare(f, &d, GX, "gradient in x", 1e-3);
    compare(f, &d, G_CTX, "gradient in context", 1e-3);
    compare(f, &d, G_THETA, "gradient in parameter", 1e-3);
    for (int k = 0; k < N_ARRAYS; k++) {
        free(f->array[k]);
        if (k >= N_INPUTS)
            free(d.array[k]);
    }
    return true;
}

ParameterizedTestParameters(precision, float_agrees_with_double)
{
    static size_t index[MOST_ROWS];
    for (size_t i = 0; i < both_n_rows(); i++)
        index[i] = i;
    return cr_make_param_array(size_t, index, both_n_rows());
}

ParameterizedTest(size_t *index, precision, float_agrees_with_double)
{
    size_t cases = 0;
    for (size_t k = 0; k < both_n_dims(); k++)
        for (int g = 0; g < both_n_guises(); g++)
            for (int d = 0; d < 2; d++)
                cases += run_both(&(both_case){.row = *index, .dim = k, .guise = g, .direction = d});
    cr_assert_gt(cases, 0);
}
