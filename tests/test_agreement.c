/* One build's results against another's, as x86-64's against aarch64's: every case of the conformance suite at the same
   inputs. One build writes its inputs and outputs, a file a row, the other reads the inputs and compares its outputs:

     NFLOW_NUMBERS=DIR test_agreement --filter agreement/write
     NFLOW_NUMBERS=DIR test_agreement --filter agreement/compare

   The two may add in another order, and fuse other products with sums, so they agree to rounding: within MOST roundings
   of 1 plus what is compared, times three in badly conditioned rows, those with slack in the suite. Of a gradient in
   shared parameters, which is a sum over samples and may cancel, that is 1 plus the largest of its numbers. SSE2 fuses
   nothing, so every product is rounded otherwise, and at the worst points of a row that is worth more: MOST_UNFUSED. */
#include "conformance/both.h"
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <float.h>
#include <math.h>
#include <nflow/base.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
#define case_here case_in_float
static const double rounding = FLT_EPSILON;
static const char precision[] = "float";
#else
#define case_here case_in_double
static const double rounding = DBL_EPSILON;
static const char precision[] = "double";
#endif
static const double MOST = 50, MOST_UNFUSED = 5000;
enum { MOST_ROWS = 200, NAME = 64 };

static const char *const array_names[N_ARRAYS] = {[Y] = "row",
                                                  [LOG_DET] = "log-det",
                                                  [GX] = "gradient in x",
                                                  [G_CTX] = "gradient in context",
                                                  [G_THETA] = "gradient in parameter"};

static FILE *numbers(size_t row, const char *mode)
{
    char path[512];
    const char *folder = getenv("NFLOW_NUMBERS");
    if (!folder)
        cr_skip("NFLOW_NUMBERS is not set: where are the other build's numbers?");
    snprintf(path, sizeof path, "%s/%s-%zu", folder, precision, row);
    FILE *f = fopen(path, mode);
    cr_assert_not_null(f, "%s cannot be opened", path);
    return f;
}

/* A file begins with the row's name and the instruction set. */
typedef struct head {
    char row[NAME], set[NAME];
} head;

static head head_here(size_t row)
{
    head h = {"", ""};
    snprintf(h.row, NAME, "%s", both_row_name(row));
    snprintf(h.set, NAME, "%s", nf_instruction_set());
    return h;
}

static struct criterion_test_params each_row(void)
{
    static size_t index[MOST_ROWS];
    for (size_t i = 0; i < both_n_rows(); i++)
        index[i] = i;
    return cr_make_param_array(size_t, index, both_n_rows());
}

/* ---- write ---- */

static void put(FILE *f, size_t size, const void *items, size_t count)
{
    cr_assert_eq(fwrite(items, size, count, f), count);
}

static size_t write_case(both_case *c, FILE *f)
{
    const uint64_t exists = (uint64_t)case_here(c, true);
    put(f, sizeof exists, &exists, 1);
    for (int k = 0; exists && k < N_ARRAYS; k++) {
        const uint64_t size = c->size[k];
        put(f, sizeof size, &size, 1);
        put(f, sizeof(double), c->array[k], c->size[k]);
        free(c->array[k]);
    }
    return exists;
}

ParameterizedTestParameters(agreement, write)
{
    return each_row();
}

ParameterizedTest(size_t *row, agreement, write)
{
    FILE *f = numbers(*row, "wb");
    const head here = head_here(*row);
    size_t cases = 0;
    put(f, sizeof here, &here, 1);
    for (size_t k = 0; k < both_n_dims(); k++)
        for (int g = 0; g < both_n_guises(); g++)
            for (int d = 0; d < 2; d++)
                cases += write_case(&(both_case){.row = *row, .dim = k, .guise = g, .direction = d}, f);
    cr_assert_gt(cases, 0);
    cr_assert_eq(fclose(f), 0);
}

/* ---- compare ---- */

static void get(FILE *f, size_t size, void *items, size_t count)
{
    cr_assert_eq(fread(items, size, count, f), count, "the other build's numbers end early");
}

static double *get_array(FILE *f, size_t *count)
{
    uint64_t size;
    get(f, sizeof size, &size, 1);
    double *array = malloc((size + 1) * sizeof *array);
    cr_assert_not_null(array);
    get(f, sizeof *array, array, size);
    *count = size;
    return array;
}

/* The largest difference, in roundings of 1 plus the number. */
static double compare(const both_case *c, int which, const double *other, double most)
{
    const double *own = c->array[which];
    double largest = 0, worst = 0;
    for (size_t i = 0; which == G_THETA && i < c->size[which]; i++)
        largest = fmax(largest, fabs(other[i]));
    for (size_t i = 0; i < c->size[which]; i++) {
        const double scale = which == G_THETA ? largest : fabs(other[i]);
        const double apart = own[i] == other[i] ? 0 : fabs(own[i] - other[i]) / (rounding * (1 + scale));
        cr_assert(apart <= most, "%s: %s %zu is %.17g here, %.17g there: %.0f roundings apart", both_title(c),
                  array_names[which], i, own[i], other[i], apart);
        worst = fmax(worst, apart);
    }
    return worst;
}

static size_t compare_case(both_case *c, FILE *f, double most, double *worst)
{
    uint64_t exists;
    get(f, sizeof exists, &exists, 1);
    if (!exists)
        return 0;
    for (int k = 0; k < N_INPUTS; k++)
        c->array[k] = get_array(f, &c->size[k]);
    cr_assert(case_here(c, false), "%s: there is no such case here", both_title(c));
    for (int k = N_INPUTS; k < N_ARRAYS; k++) {
        size_t size;
        double *other = get_array(f, &size);
        cr_assert_eq(size, c->size[k]);
        *worst = fmax(*worst, compare(c, k, other, most * both_slack(c)));
        free(other);
    }
    for (int k = 0; k < N_ARRAYS; k++)
        free(c->array[k]);
    return 1;
}

ParameterizedTestParameters(agreement, compare)
{
    return each_row();
}

ParameterizedTest(size_t *row, agreement, compare)
{
    FILE *f = numbers(*row, "rb");
    const head here = head_here(*row);
    head there;
    get(f, sizeof there, &there, 1);
    cr_assert_str_eq(there.row, here.row, "the other build has another table of rows");
    const bool fused = strcmp(here.set, "sse2") != 0 && strcmp(there.set, "sse2") != 0;
    size_t cases = 0;
    double worst = 0;
    for (size_t k = 0; k < both_n_dims(); k++)
        for (int g = 0; g < both_n_guises(); g++)
            for (int d = 0; d < 2; d++)
                cases += compare_case(&(both_case){.row = *row, .dim = k, .guise = g, .direction = d}, f,
                                      fused ? MOST : MOST_UNFUSED, &worst);
    cr_assert_gt(cases, 0);
    cr_assert_eq(fgetc(f), EOF);
    fclose(f);
    printf("agreement: %s, %s: %zu cases, at most %.1f roundings apart\n", both_row_name(*row), precision, cases,
           worst);
}
