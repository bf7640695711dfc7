/* Targets from the functions of other programs: nutpie's signature, and what GSL's minimisers take. */
#include "expect.h"
#include "fail_alloc.h"
#include <math.h>
#include <nflow/gsl.h>
#include <nflow/nflow.h>
#include <string.h>

enum { D = 3, N = 6 };
static const double points[N * D] = {0.3172, -1.8846, 0.7301, 1.2968,  0.0413, -0.6627, -2.1739, 0.9184, 1.4456,
                                     0.1093, -0.5571, 2.3318, -0.8025, 1.1467, -0.2289, 0.7714,  1.0502, 0.6613};

/* log p = -x0^4/4 + sin(x0 x1) - exp(x2)/2 */
static double bump(const double *x, double *g)
{
    if (g) {
        g[0] = -x[0] * x[0] * x[0] + x[1] * cos(x[0] * x[1]);
        g[1] = x[0] * cos(x[0] * x[1]);
        g[2] = -exp(x[2]) / 2;
    }
    return -pow(x[0], 4) / 4 + sin(x[0] * x[1]) - exp(x[2]) / 2;
}

typedef struct answer {
    int64_t code; /* where x1 > 1 */
    bool words;
    size_t calls;
} answer;

static int64_t nutpie(uint64_t dim, const double *x, double *grad, double *logp, void *user)
{
    answer *a = user;
    cr_assert(dim == D && grad, "the gradient's place is never NULL");
    a->calls++;
    *logp = bump(x, grad);
    if (x[1] > 1 && a->code && a->words)
        nf_error(NF_ETARGET, "x1 is %.4f", x[1]);
    return x[1] > 1 ? a->code : 0;
}

static void compare(const nf_target *t, double beyond)
{
    double log_p[N], grad[N * D], alone[N], g[D];
    unsigned char rejected[N];
    cr_assert_eq(nf_target_eval(t, N, points, log_p, grad, rejected), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_target_eval(t, N, points, alone, NULL, NULL), NF_OK);
    cr_assert_arr_eq(log_p, alone, sizeof alone);
    for (size_t i = 0; i < N; i++) {
        const double value = bump(points + i * D, g);
        const bool out = points[i * D + 1] > beyond;
        cr_assert_eq(rejected[i], out);
        cr_assert_eq(log_p[i], out ? -INFINITY : value);
        for (size_t j = 0; j < D; j++)
            cr_assert_eq(grad[i * D + j], out ? 0 : g[j]);
    }
}

Test(foreign_targets, nutpie)
{
    answer a = {0};
    nf_target *t = nf_target_nutpie(D, nutpie, &a, NF_THREADSAFE);
    cr_assert_eq(nf_target_dim(t), D);
    cr_assert_eq(nf_target_rule(t), NF_THREADSAFE);
    compare(t, INFINITY);
    cr_assert_eq(a.calls, 2 * N);
    nf_target_free(t);
    /* any positive code rejects, also one that is a status of the library, or beyond an int */
    const int64_t codes[] = {1, 4, NF_ETARGET, (int64_t)1 << 40};
    for (size_t k = 0; k < 4; k++) {
        a = (answer){.code = codes[k]};
        t = nf_target_nutpie(D, nutpie, &a, NF_SERIAL);
        compare(t, 1);
        char words[96];
        snprintf(words, sizeof words, "the function returned %lld at (-0.8025, 1.1467, -0.2289)", (long long)codes[k]);
        cr_assert_str_eq(nf_target_rejection(t), words);
        nf_target_free(t);
    }
    a = (answer){.code = 3, .words = true};
    t = nf_target_nutpie(D, nutpie, &a, NF_SERIAL);
    compare(t, 1);
    cr_assert_str_eq(nf_target_rejection(t), "x1 is 1.1467");
    double log_p[N], grad[N * D];
    const int64_t fatal[] = {-1, -((int64_t)1 << 40)};
    for (size_t k = 0; k < 4; k++) {
        a = (answer){.code = fatal[k / 2], .words = k % 2};
        expect(nf_target_eval(t, N, points, log_p, grad, NULL), NF_ETARGET,
               a.words ? "x1 is 1.1467"
               : k     ? "the function returned -1099511627776 at (-0.8"
                       : "the function returned -1 at (");
        expect(nf_target_eval(t, N, points, log_p, NULL, NULL), NF_ETARGET,
               a.words ? "x1 is 1.1467" : "the function returned -1");
    }
    nf_target_free(t);
    expect_none(nf_target_nutpie(0, nutpie, &a, NF_SERIAL), NF_EARG, "nf_target_nutpie: d is 0");
    expect_none(nf_target_nutpie(D, NULL, &a, NF_SERIAL), NF_EARG, "nf_target_nutpie: f is NULL");
    expect_none(nf_target_nutpie(D, nutpie, &a, (nf_thread_rule)7), NF_EARG, "nf_target_nutpie: rule is 7");
}

static double minus(const gsl_vector *x, void *limit)
{
    cr_assert(x->size == D && x->stride == 1);
    const double edge = *(const double *)limit;
    return gsl_vector_get(x, 1) > fabs(edge) ? edge > 0 ? NAN : -INFINITY : -bump(x->data, NULL);
}

static void minus_both(const gsl_vector *x, void *limit, double *f, gsl_vector *g)
{
    *f = minus(x, limit);
    bump(x->data, g->data);
    for (size_t j = 0; j < D; j++)
        gsl_vector_set(g, j, -gsl_vector_get(g, j));
}

Test(foreign_targets, gsl)
{
    double limit = 100;
    gsl_multimin_function_fdf f = {.f = minus, .fdf = minus_both, .n = D, .params = &limit};
    nf_target *t = nf_target_gsl_multimin(&f, NF_THREADSAFE);
    const gsl_multimin_function_fdf kept = f;
    f = (gsl_multimin_function_fdf){0}; /* it was copied */
    cr_assert_eq(nf_target_dim(t), D);
    cr_assert_eq(nf_target_rule(t), NF_THREADSAFE);
    compare(t, INFINITY);
    limit = 1; /* NaN, and then infinite of the sign that would be the best of all */
    compare(t, 1);
    cr_assert(strstr(nf_target_rejection(t), "log p is nan at (-0.8025, 1.1467"), "%s", nf_target_rejection(t));
    limit = -1;
    compare(t, 1);
    nf_target_free(t);
    f = kept;
    f.fdf = NULL;
    expect_none(nf_target_gsl_multimin(&f, NF_SERIAL), NF_EARG, "`f->fdf` is NULL");
    f.f = NULL;
    expect_none(nf_target_gsl_multimin(&f, NF_SERIAL), NF_EARG, "`f->f` is NULL");
    expect_none(nf_target_gsl_multimin(NULL, NF_SERIAL), NF_EARG, "`f` is NULL");
    f = kept;
    f.n = 0;
    expect_none(nf_target_gsl_multimin(&f, NF_SERIAL), NF_EARG, "nf_target_gsl_multimin: d is 0");
}

Test(foreign_targets, failing_allocations)
{
    for (int gsl = 0; gsl < 2; gsl++) {
        size_t failures = 0;
        const size_t before = alloc_live();
        for (size_t k = 0;; k++) {
            double limit = 100, log_p[N];
            answer a = {0};
            fail_alloc_after(k);
            nf_target *t =
                gsl ? nf_target_gsl_multimin(
                          &(gsl_multimin_function_fdf){.f = minus, .fdf = minus_both, .n = D, .params = &limit},
                          NF_SERIAL)
                    : nf_target_nutpie(D, nutpie, &a, NF_SERIAL);
            const bool made = t;
            nf_error(NF_OK, "-");
            const nf_status st = t ? nf_target_eval(t, N, points, log_p, NULL, (unsigned char[N]){0}) : NF_ENOMEM;
            const bool failed = fail_alloc_off();
            cr_assert_eq(st, !failed ? NF_OK : made ? NF_ETARGET : NF_ENOMEM, "%s", nf_error_message());
            cr_assert(!made || !failed || strstr(nf_error_message(), "nf_target_nutpie: out of memory"));
            nf_target_free(t);
            cr_assert_eq(alloc_live(), before);
            if (!failed)
                break;
            failures++;
        }
        cr_assert_geq(failures, gsl ? 3 : 5);
    }
}
