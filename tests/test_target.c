/* Targets: callbacks of both kinds, finite differences, the checker, what they own, why they reject, and every way they
   can fail. */
#include "expect.h"
#include "fail_alloc.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>

enum { D = 3, N = 5 };
static const double points[N * D] = {0.3172, -1.8846, 0.7301,  1.2968, 0.0413,  -0.6627, -2.1739, 0.9184,
                                     1.4456, 0.1093,  -0.5571, 2.3318, -0.8025, -1.1467, -0.2289};

/* log p = -x0^4/4 + sin(x0 x1) - exp(x2)/2, rejected where x1 > limit. */
typedef struct bumps {
    double limit, flip;
    int code, calls, gradients;
} bumps;

static double bump(const double *x, double flip, double *g)
{
    if (g) {
        g[0] = -x[0] * x[0] * x[0] + x[1] * cos(x[0] * x[1]);
        g[1] = x[0] * cos(x[0] * x[1]);
        g[2] = flip * -exp(x[2]) / 2;
    }
    return -pow(x[0], 4) / 4 + sin(x[0] * x[1]) - exp(x[2]) / 2;
}

static int bumps_batch(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                       unsigned char *rejected)
{
    bumps *b = user;
    b->calls++;
    b->gradients += grad != NULL;
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(rejected[i], 0, "flags arrive cleared");
        log_p[i] = bump(x + i * d, b->flip, grad ? grad + i * d : NULL);
        rejected[i] = x[i * d + 1] > b->limit ? 7 : 0;
    }
    return b->code;
}

static int bumps_point(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    bumps *b = user;
    cr_assert_eq(d, D);
    b->calls++;
    *log_p = bump(x, b->flip, grad);
    return b->code ? b->code : x[1] > b->limit;
}

static bumps plain(void)
{
    return (bumps){.limit = 100, .flip = 1};
}

Test(target, callbacks_of_both_kinds_agree)
{
    bumps b = {.limit = 0.9, .flip = 1};
    nf_target *batch = nf_target_callback(D, bumps_batch, &b, NF_THREADSAFE);
    nf_target *point = nf_target_point_callback(D, bumps_point, &b, NF_SERIAL);
    cr_assert(batch && point);
    cr_assert_eq(nf_target_dim(batch), D);
    cr_assert_eq(nf_target_rule(batch), NF_THREADSAFE);
    cr_assert_eq(nf_target_rule(point), NF_SERIAL);
    double log_p[2][N], grad[2][N * D];
    unsigned char rejected[2][N];
    memset(rejected, 0xa5, sizeof rejected);
    cr_assert_eq(nf_target_eval(batch, N, points, log_p[0], grad[0], rejected[0]), NF_OK);
    cr_assert_eq(b.calls, 1);
    cr_assert_eq(nf_target_eval(point, N, points, log_p[1], grad[1], rejected[1]), NF_OK);
    cr_assert_eq(b.calls, 1 + N);
    cr_assert_arr_eq(log_p[0], log_p[1], sizeof log_p[0]);
    cr_assert_arr_eq(grad[0], grad[1], sizeof grad[0]);
    cr_assert_arr_eq(rejected[0], rejected[1], sizeof rejected[0]);
    size_t count = 0;
    for (size_t i = 0; i < N; i++) {
        double g[D], value = bump(points + i * D, 1, g);
        bool out = points[i * D + 1] > 0.9;
        count += out;
        cr_assert_eq(rejected[0][i], out);
        cr_assert_eq(log_p[0][i], out ? -INFINITY : value);
        for (size_t j = 0; j < D; j++)
            cr_assert_eq(grad[0][i * D + j], out ? 0 : g[j]);
    }
    cr_assert_eq(count, 1);
    /* gradient and flags are optional, and so is the batch */
    double again[N];
    cr_assert_eq(nf_target_eval(batch, N, points, again, NULL, NULL), NF_OK);
    cr_assert_arr_eq(again, log_p[0], sizeof again);
    cr_assert_eq(nf_target_eval(batch, 0, points, again, NULL, NULL), NF_OK);
    nf_target_free(batch);
    nf_target_free(point);
    nf_target_free(NULL);
}

Test(target, finite_differences)
{
    bumps b = plain();
    nf_target *t = nf_target_finite_difference(D, bumps_batch, &b, NF_THREADSAFE, 0);
    double log_p[N], grad[N * D], g[D];
    cr_assert_eq(nf_target_eval(t, N, points, log_p, grad, NULL), NF_OK);
    cr_assert_eq(b.calls, 1 + 2 * D);
    cr_assert_eq(b.gradients, 0, "the callback is never asked for a gradient");
    for (size_t i = 0; i < N; i++) {
        cr_assert_eq(log_p[i], bump(points + i * D, 1, g));
        for (size_t j = 0; j < D; j++)
            cr_assert_float_eq(grad[i * D + j], g[j], 2e-8 * (1 + fabs(g[j])));
    }
    /* an edge of the support beside each point in turn: the difference becomes one-sided */
    for (size_t i = 0; i < N; i++) {
        b.limit = points[i * D + 1] + 1e-9;
        unsigned char rejected[N];
        cr_assert_eq(nf_target_eval(t, N, points, log_p, grad, rejected), NF_OK);
        bump(points + i * D, 1, g);
        cr_assert_eq(rejected[i], 0);
        cr_assert_float_eq(grad[i * D + 1], g[1], 3e-4);
        cr_assert(fabs(grad[i * D + 1] - g[1]) > 1e-12);
    }
    /* a coarse step has the error of its order, h^2 f'''/6 */
    nf_target *coarse = nf_target_finite_difference(D, bumps_batch, &b, NF_THREADSAFE, 0.01);
    b.limit = 100;
    cr_assert_eq(nf_target_eval(coarse, 1, points, log_p, grad, NULL), NF_OK);
    bump(points, 1, g);
    double h = 0.01 * (1 + points[2]), third = -exp(points[2]) / 2;
    cr_assert_float_eq(grad[2] - g[2], h * h / 6 * third, 1e-3 * h * h);
    nf_target_free(t);
    nf_target_free(coarse);
}

Test(target, checker)
{
    bumps b = plain();
    nf_target *t = nf_target_callback(D, bumps_batch, &b, NF_THREADSAFE);
    nf_target_report r;
    cr_assert_eq(nf_target_check(t, N, points, &r), NF_OK);
    cr_assert(r.worst_error > 0 && r.worst_error < 2e-8, "%g", r.worst_error);
    b.limit = 0.9;
    cr_assert_eq(nf_target_check(t, N, points, &r), NF_OK);
    cr_assert_eq(r.rejected, 1);
    b.flip = -1; /* the last component's sign is wrong: worst where exp(x2)/2 is largest among accepted points */
    cr_assert_eq(nf_target_check(t, N, points, &r), NF_OK);
    cr_assert_eq(r.row, 3);
    cr_assert_eq(r.column, 2);
    double size = exp(points[3 * D + 2]) / 2;
    cr_assert_float_eq(r.worst_error, 2 * size / (1 + size), 1e-7);
    b.flip = NAN;
    cr_assert_eq(nf_target_check(t, N, points, &r), NF_OK);
    cr_assert(isnan(r.worst_error));
    cr_assert_eq(r.column, 2);
    nf_target_free(t);
}

static int own_words(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                     unsigned char *rejected)
{
    (void)user, (void)n, (void)x, (void)log_p, (void)grad, (void)rejected;
    return (int)nf_error(NF_ETARGET, "own_words: stiff in %zu dimensions", d);
}

Test(target, failures)
{
    bumps b = plain();
    double log_p[N], grad[N * D];
    nf_target_report r;
    cr_assert_null(nf_target_callback(0, bumps_batch, &b, NF_SERIAL));
    expect(nf_error_status(), NF_EARG, "d is 0");
    cr_assert_null(nf_target_callback(D, NULL, &b, NF_SERIAL));
    expect(nf_error_status(), NF_EARG, "f is NULL");
    cr_assert_null(nf_target_point_callback(D, NULL, &b, NF_SERIAL));
    expect(nf_error_status(), NF_EARG, "nf_target_point_callback");
    cr_assert_null(nf_target_callback(D, bumps_batch, &b, (nf_thread_rule)5));
    expect(nf_error_status(), NF_EARG, "rule is 5");
    const double steps[] = {-1e-3, 1.5, NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        nf_error(NF_OK, "-");
        cr_assert_null(nf_target_finite_difference(D, bumps_batch, &b, NF_SERIAL, steps[i]));
        expect(nf_error_status(), NF_EARG, "step");
    }
    nf_target *t = nf_target_callback(D, bumps_batch, &b, NF_SERIAL);
    nf_target *p = nf_target_point_callback(D, bumps_point, &b, NF_SERIAL);
    nf_target *f = nf_target_finite_difference(D, bumps_batch, &b, NF_SERIAL, 0);
    expect(nf_target_eval(NULL, N, points, log_p, grad, NULL), NF_EARG, "t is NULL");
    expect(nf_target_eval(t, N, NULL, log_p, grad, NULL), NF_EARG, "x is NULL");
    expect(nf_target_eval(t, N, points, NULL, grad, NULL), NF_EARG, "log_p is NULL");
    expect(nf_target_check(NULL, N, points, &r), NF_EARG, "t is NULL");
    expect(nf_target_check(t, N, NULL, &r), NF_EARG, "x is NULL");
    expect(nf_target_check(t, N, points, NULL), NF_EARG, "report is NULL");
    expect(nf_target_check(t, 0, points, &r), NF_EARG, "n is 0");
    b.code = -3;
    expect(nf_target_eval(t, N, points, log_p, grad, NULL), NF_ETARGET, "returned -3 for a batch of 5 points");
    expect(nf_target_eval(p, N, points, log_p, grad, NULL), NF_ETARGET, "returned -3");
    expect(nf_target_eval(f, N, points, log_p, grad, NULL), NF_ETARGET, "returned -3");
    expect(nf_target_check(t, N, points, &r), NF_ETARGET, "returned -3");
    b.code = 2; /* fatal from a batch, a rejection from a point */
    expect(nf_target_eval(t, N, points, log_p, grad, NULL), NF_ETARGET, "returned 2");
    unsigned char rejected[N];
    cr_assert_eq(nf_target_eval(p, N, points, log_p, grad, rejected), NF_OK);
    for (size_t i = 0; i < N; i++)
        cr_assert(rejected[i] == 1 && log_p[i] == -INFINITY && grad[i * D + 2] == 0);
    nf_target *own = nf_target_callback(D, own_words, NULL, NF_SERIAL);
    expect(nf_target_eval(own, N, points, log_p, grad, NULL), NF_ETARGET, "own_words: stiff in 3 dimensions");
    nf_target_free(own);
    nf_target_free(t);
    nf_target_free(p);
    nf_target_free(f);
    cr_assert_eq(nf_target_dim(NULL), 0);
}

/* ---- what a target owns ---- */

static int closed[8];
static size_t n_closed;
static void close_library(void *user)
{
    closed[n_closed++] = *(const int *)user;
}

Test(target, owns_what_it_is_given)
{
    bumps b = plain();
    int first = 1, second = 2, third = 3;
    nf_target *t = nf_target_own(nf_target_callback(D, bumps_batch, &b, NF_SERIAL), &first, close_library);
    cr_assert_not_null(t);
    cr_assert_eq(nf_target_own(t, &second, close_library), t);
    cr_assert_eq(n_closed, 0);
    double log_p[N];
    cr_assert_eq(nf_target_eval(t, N, points, log_p, NULL, NULL), NF_OK);
    nf_target_free(t);
    cr_assert(n_closed == 2 && closed[0] == 2 && closed[1] == 1, "the last one first");
    /* a constructor that fails: its message stays, and the library is closed at once */
    cr_assert_null(nf_target_own(nf_target_callback(0, bumps_batch, &b, NF_SERIAL), &third, close_library));
    expect(nf_error_status(), NF_EARG, "nf_target_callback: d is 0");
    cr_assert(n_closed == 3 && closed[2] == 3);
    t = nf_target_own(nf_target_callback(D, bumps_batch, &b, NF_SERIAL), &first, close_library);
    cr_assert_null(nf_target_own(t, &second, NULL));
    expect(nf_error_status(), NF_EARG, "destroy is NULL");
    cr_assert(n_closed == 4 && closed[3] == 1, "the target went with what it had");
    cr_assert_null(nf_target_own(NULL, &second, NULL));
    cr_assert_eq(n_closed, 4);
}

/* Wherever memory ends, each is closed once. */
Test(target, owns_also_when_memory_ends)
{
    size_t before = alloc_live(), failures = 0;
    for (size_t k = 0;; k++) {
        bumps b = plain();
        int library = 7, data = 8;
        n_closed = 0;
        fail_alloc_after(k);
        nf_target *t = nf_target_own(nf_target_point_callback(D, bumps_point, &b, NF_SERIAL), &library, close_library);
        t = nf_target_own(t, &data, close_library);
        nf_status st = t ? NF_OK : nf_error_status();
        bool failed = fail_alloc_off();
        cr_assert_eq(n_closed, failed ? 2 : 0);
        nf_target_free(t);
        cr_assert(n_closed == 2 && closed[0] + closed[1] == 15);
        cr_assert_eq(alloc_live(), before);
        cr_assert_eq(st, failed ? NF_ENOMEM : NF_OK);
        if (!failed)
            break;
        failures++;
    }
    cr_assert_eq(failures, 3);
}

/* ---- why the first draw was rejected ---- */

/* Rejects x0 > limit and says where; without words where x1 > limit. */
static int fenced_point(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    const bumps *b = user;
    *log_p = 0;
    for (size_t j = 0; j < d; j++) {
        *log_p -= 0.5 * x[j] * x[j];
        if (grad)
            grad[j] = -x[j];
    }
    if (b->code && x[0] > b->limit)
        return nf_error(NF_ETARGET, "stuck at %.6f", x[0]), b->code;
    if (x[0] > b->limit)
        return nf_error(NF_ETARGET, "%.6f is beyond the fence", x[0]), 1;
    if (x[0] < -b->limit)
        nf_error(NF_ETARGET, "not rejected after all");
    return x[1] > b->limit;
}

static int fenced_batch(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                        unsigned char *rejected)
{
    bool said = false;
    for (size_t i = 0; i < n; i++) {
        const double *at = x + i * d;
        log_p[i] = -0.5 * (at[0] * at[0] + at[1] * at[1]);
        if (grad) {
            grad[i * d] = -at[0];
            grad[i * d + 1] = -at[1];
        }
        rejected[i] = at[0] > ((const bumps *)user)->limit;
        if (rejected[i] && !said)
            said = nf_error(NF_ETARGET, "%.6f is beyond the fence", at[0]) != NF_OK;
    }
    return 0;
}

Test(target, first_rejection)
{
    bumps b = {.limit = 1};
    const double x[] = {0.3, 0.1, -1.7, 0.2, 0.4, 1.4, 1.25, 0.6, 1.75, 0.9}, y[] = {3.5, 0}, z[] = {0.3, 0.1};
    double log_p[5], grad[10];
    unsigned char rejected[5];
    nf_error(NF_EDIM, "older words");
    nf_target *t = nf_target_point_callback(2, fenced_point, &b, NF_SERIAL);
    cr_assert_str_eq(nf_target_rejection(t), "");
    cr_assert_str_eq(nf_target_rejection(NULL), "");
    cr_assert_eq(nf_target_eval(t, 1, z, log_p, NULL, NULL), NF_OK);
    cr_assert_str_eq(nf_target_rejection(t), "");
    cr_assert_eq(nf_target_eval(t, 5, x, log_p, grad, rejected), NF_OK);
    cr_assert(!rejected[0] && !rejected[1] && rejected[2] && rejected[3] && rejected[4]);
    cr_assert_eq(nf_target_eval(t, 1, y, log_p, NULL, NULL), NF_OK);
    cr_assert_str_eq(nf_target_rejection(t), "1.250000 is beyond the fence", "of the first call, the first with words");
    cr_assert_str_eq(nf_error_message(), "older words", "success leaves them");
    cr_assert_eq(nf_error_status(), NF_EDIM);
    nf_target_free(t);
    /* fatal, with the point's own words and not those of the rejection before it */
    b = (bumps){.limit = 1, .code = -2};
    t = nf_target_point_callback(2, fenced_point, &b, NF_SERIAL);
    expect(nf_target_eval(t, 5, x, log_p, grad, rejected), NF_ETARGET, "stuck at 1.25");
    nf_target_free(t);
    /* the points that differences ask for are no draws */
    b = (bumps){.limit = 1};
    const double edge[] = {1 - 1e-9, 0};
    t = nf_target_finite_difference(2, fenced_batch, &b, NF_SERIAL, 0);
    cr_assert_eq(nf_target_eval(t, 1, edge, log_p, grad, rejected), NF_OK);
    cr_assert_eq(rejected[0], 0);
    cr_assert_str_eq(nf_target_rejection(t), "");
    cr_assert_eq(nf_target_eval(t, 5, x, log_p, grad, rejected), NF_OK);
    cr_assert_str_eq(nf_target_rejection(t), "1.250000 is beyond the fence");
    nf_target_free(t);
}

/* In a fit: of the first step that has any, the lowest sample's, for any number of threads and either rule. */
Test(target, first_rejection_of_a_fit)
{
    enum { DRAWS = 700, SEED = 4, STEP = 11 };
    static nf_real draws[DRAWS * 2];
    const nf_noise noise = {.seed = SEED, .step = STEP};
    nf_model *m = nf_model_of_dist(nf_normal(2), NULL);
    bumps b = {.limit = 2.6};
    char words[64] = "";
    cr_assert_eq(nf_sample(m, NULL, &noise, DRAWS, NULL, draws, NULL), NF_OK);
    size_t beyond = 0;
    for (size_t i = 0; i < DRAWS; i++)
        if (!((double)draws[2 * i] <= b.limit) && beyond++ == 0)
            snprintf(words, sizeof words, "%.6f is beyond the fence", (double)draws[2 * i]);
    cr_assert_geq(beyond, 2, "%zu", beyond);
    for (int rule = NF_SERIAL; rule <= NF_THREADSAFE; rule++)
        for (size_t threads = 1; threads <= 8; threads *= 2) {
            nf_workspace *ws = nf_workspace_new(threads);
            for (int again = 0; again < 20; again++) {
                nf_target *t = again % 2 ? nf_target_callback(2, fenced_batch, &b, (nf_thread_rule)rule)
                                         : nf_target_point_callback(2, fenced_point, &b, (nf_thread_rule)rule);
                nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = DRAWS});
                nf_step_report r;
                for (uint64_t step = STEP; step < STEP + 3; step++) {
                    cr_assert_eq(nf_objective_value(o, ws, SEED, step, &r), NF_OK, "%s", nf_error_message());
                    cr_assert(step > STEP || r.rejected >= beyond);
                }
                cr_assert_str_eq(nf_target_rejection(t), words, "%s, not %s", nf_target_rejection(t), words);
                nf_objective_free(o);
                nf_target_free(t);
            }
            nf_workspace_free(ws);
        }
    nf_model_free(m);
}

Test(target, failing_allocations)
{
    double log_p[N], grad[N * D];
    size_t before = alloc_live(), failures = 0;
    for (size_t k = 0;; k++) {
        bumps b = plain();
        nf_target_report r;
        fail_alloc_after(k);
        nf_target *t = nf_target_finite_difference(D, bumps_batch, &b, NF_SERIAL, 0);
        nf_status st = t ? nf_target_eval(t, N, points, log_p, grad, NULL) : nf_error_status();
        if (!st)
            st = nf_target_check(t, N, points, &r);
        bool failed = fail_alloc_off();
        nf_target_free(t);
        cr_assert_eq(alloc_live(), before);
        cr_assert_eq(st, failed ? NF_ENOMEM : NF_OK);
        if (!failed)
            break;
        failures++;
    }
    cr_assert_geq(failures, 5);
}
