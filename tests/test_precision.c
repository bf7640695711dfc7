/* The float library against the double one, both in this program: every case of the conformance suite at the same
   inputs. Values and log-dets agree within 1e-4, gradients within 1e-3, of 1 plus what the double library says;
   badly conditioned rows, those with slack in the suite, within three times that: there one rounding of an input is
   worth as much, and which way it goes depends on the compiler. */
#include "conformance/both.h"
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>

enum { MOST_ROWS = 200 };

static void compare(const both_case *f, const both_case *d, int which, const char *what, double tolerance)
{
    cr_assert_eq(f->size[which], d->size[which]);
    tolerance *= both_slack(d);
    for (size_t i = 0; i < f->size[which]; i++)
        cr_assert_float_eq(f->array[which][i], d->array[which][i], tolerance * (1 + fabs(d->array[which][i])),
                           "%s: %s %zu is %.9g in float, %.9g in double", both_title(d), what, i, f->array[which][i],
                           d->array[which][i]);
}

static bool run_both(both_case *f)
{
    if (!case_in_float(f, true))
        return false;
    both_case d = *f;
    cr_assert(case_in_double(&d, false));
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
