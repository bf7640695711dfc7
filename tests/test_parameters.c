/* Targets of named, constrained parameters, and outputs: the density against formulas of its own, gradients against
   differences, names, rejections, what is handed on, and every way in which they can fail. */
#include "expect.h"
#include "fail_alloc.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>

/* Stands for numbers beyond rounding: in nflowf the constraints compute in float. */
static const double close_to = sizeof(nf_real) == 8 ? 1e-11 : 2e-4;

static double log_normal(double x)
{
    return -0.5 * x * x - 0.5 * log(2 * 3.14159265358979323846);
}

/* Eight schools, non-centred, over (mu, tau, eta [8]) with tau > 0; half-Cauchy of scale 5 for tau. */
static const double effect[8] = {28, 8, -3, 7, -1, 1, 18, 12}, sigma[8] = {15, 10, 16, 11, 9, 11, 10, 18};

static int schools(void *user, size_t d, const double *v, double *log_p, double *grad)
{
    (void)user;
    cr_assert_eq(d, 10);
    const double mu = v[0], tau = v[1], *eta = v + 2;
    cr_assert(tau > 0 && isfinite(tau), "tau is %g", tau);
    double g[10] = {-mu / 25, -2 * tau / (25 + tau * tau)};
    *log_p = log_normal(mu / 5) - log1p(tau * tau / 25);
    for (size_t j = 0; j < 8; j++) {
        const double r = (effect[j] - mu - tau * eta[j]) / sigma[j];
        *log_p += log_normal(eta[j]) + log_normal(r);
        g[0] += r / sigma[j];
        g[1] += r / sigma[j] * eta[j];
        g[2 + j] = -eta[j] + r / sigma[j] * tau;
    }
    if (grad)
        memcpy(grad, g, sizeof g);
    return 0;
}

static nf_target *new_schools(nf_thread_rule rule)
{
    return nf_target_constrained(nf_target_point_callback(10, schools, NULL, rule),
                                 (nf_parameter[]){{"mu", nf_identity(1), NULL, 0},
                                                  {"tau", nf_lower(1, 0), NULL, 0},
                                                  {"eta", nf_identity(8), NULL, 0}},
                                 3);
}

static void fill(double *x, size_t n, double scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = scale * sin(1.7 * (double)i + 0.3) + 0.21 * cos(0.37 * (double)(i * i));
}

Test(parameters, eight_schools_by_hand)
{
    enum { N = 300 };
    static double x[N * 10], log_p[N], grad[N * 10], y[N * 10];
    fill(x, N * 10, 1.4);
    for (int rule = NF_SERIAL; rule <= NF_THREADSAFE; rule++) {
        nf_target *t = new_schools((nf_thread_rule)rule);
        cr_assert_not_null(t, "%s", nf_error_message());
        cr_assert_eq(nf_target_dim(t), 10);
        cr_assert_eq(nf_target_rule(t), (nf_thread_rule)rule);
        cr_assert_eq(nf_target_eval(t, N, x, log_p, grad, NULL), NF_OK);
        for (size_t i = 0; i < N; i++) {
            double v[10], inner, g[10];
            memcpy(v, x + i * 10, sizeof v);
            v[1] = exp(v[1]);
            schools(NULL, 10, v, &inner, g);
            cr_assert_float_eq(log_p[i], inner + x[i * 10 + 1], close_to * 30);
            g[1] = g[1] * v[1] + 1;
            for (size_t j = 0; j < 10; j++)
                cr_assert_float_eq(grad[i * 10 + j], g[j], close_to * (10 + fabs(g[j])));
        }
        /* the outputs */
        cr_assert_eq(nf_target_n_outputs(t), 10);
        const char *names[] = {"mu", "tau", "eta.1", "eta.2", "eta.3", "eta.4", "eta.5", "eta.6", "eta.7", "eta.8"};
        for (size_t k = 0; k < 10; k++)
            cr_assert_str_eq(nf_target_output_name(t, k), names[k]);
        cr_assert_null(nf_target_output_name(t, 10));
        cr_assert_eq(nf_target_outputs(t, N, x, y), NF_OK);
        for (size_t k = 0; k < N * 10; k++)
            cr_assert_float_eq(y[k], k % 10 == 1 ? exp(x[k]) : x[k], close_to * (1 + exp(x[k])));
        nf_target_free(t);
    }
}

/* ---- simplexes and covariance matrices ---- */

/* Over (pi [3], Sigma [2 x 2]): a Dirichlet of the first two entries of pi, and a Wishart of the lower triangle of
 * Sigma. */
static const double alpha[3] = {2.385, 1.127, 3.5}, df = 5.3;

static int dirichlet_wishart(void *user, size_t d, const double *v, double *log_p, double *grad)
{
    (void)user;
    cr_assert_eq(d, 7);
    const double *s = v + 3, det = s[0] * s[3] - s[1] * s[2]; /* scale matrix I */
    *log_p = lgamma(alpha[0] + alpha[1] + alpha[2]);
    for (size_t k = 0; k < 3; k++)
        *log_p += (alpha[k] - 1) * log(v[k]) - lgamma(alpha[k]);
    *log_p += (df - 3) / 2 * log(det) - (s[0] + s[3]) / 2 - df * log(2) - 0.5 * log(3.14159265358979323846) -
              lgamma(df / 2) - lgamma((df - 1) / 2);
    if (!grad)
        return 0;
    for (size_t k = 0; k < 3; k++)
        grad[k] = (alpha[k] - 1) / v[k];
    grad[3] = (df - 3) / 2 * s[3] / det - 0.5;
    grad[4] = -(df - 3) / 2 * s[2] / det;
    grad[5] = -(df - 3) / 2 * s[1] / det;
    grad[6] = (df - 3) / 2 * s[0] / det - 0.5;
    return 0;
}

static nf_target *new_blocks(void)
{
    const size_t square[] = {2, 2};
    return nf_target_constrained(
        nf_target_point_callback(7, dirichlet_wishart, NULL, NF_THREADSAFE),
        (nf_parameter[]){{"pi", nf_simplex_ilr(3), NULL, 0}, {"Sigma", nf_cov_matrix(2), square, 2}}, 2);
}

/* log|det| of the map from x to the chart (pi.1, pi.2, Sigma.1.1, Sigma.2.1, Sigma.2.2), by differences of the outputs.
 */
static double log_det_by_differences(const nf_target *t, const double *x)
{
    enum { D = 5 };
    const size_t chart[D] = {0, 1, 3, 4, 6};
    const double h = sizeof(nf_real) == 8 ? 1e-5 : 1e-2;
    double j[D][D], log_det = 0;
    for (size_t c = 0; c < D; c++) {
        double at[2 * D], y[2 * 7];
        memcpy(at, x, D * sizeof *at);
        memcpy(at + D, x, D * sizeof *at);
        at[c] += h;
        at[D + c] -= h;
        cr_assert_eq(nf_target_outputs(t, 2, at, y), NF_OK);
        for (size_t r = 0; r < D; r++)
            j[r][c] = (y[chart[r]] - y[7 + chart[r]]) / (2 * h);
    }
    for (size_t k = 0; k < D; k++) { /* elimination; the maps are near diagonal, and two blocks */
        size_t best = k;
        for (size_t r = k; r < D; r++)
            best = fabs(j[r][k]) > fabs(j[best][k]) ? r : best;
        for (size_t c = 0; c < D; c++) {
            const double other = j[k][c];
            j[k][c] = j[best][c];
            j[best][c] = other;
        }
        log_det += log(fabs(j[k][k]));
        for (size_t r = k + 1; r < D; r++)
            for (size_t c = D; c-- > k;)
                j[r][c] -= j[r][k] / j[k][k] * j[k][c];
    }
    return log_det;
}

Test(parameters, blocks_by_the_change_of_variables)
{
    enum { N = 12 };
    double x[N * 5], log_p[N], y[N * 7];
    fill(x, N * 5, 0.9);
    nf_target *t = new_blocks();
    cr_assert_not_null(t, "%s", nf_error_message());
    cr_assert_eq(nf_target_dim(t), 5);
    const char *names[] = {"pi.1", "pi.2", "pi.3", "Sigma.1.1", "Sigma.2.1", "Sigma.1.2", "Sigma.2.2"};
    cr_assert_eq(nf_target_n_outputs(t), 7);
    for (size_t k = 0; k < 7; k++)
        cr_assert_str_eq(nf_target_output_name(t, k), names[k]);
    cr_assert_eq(nf_target_eval(t, N, x, log_p, NULL, NULL), NF_OK);
    cr_assert_eq(nf_target_outputs(t, N, x, y), NF_OK);
    for (size_t i = 0; i < N; i++) {
        const double *v = y + i * 7;
        double inner;
        cr_assert_float_eq(v[0] + v[1] + v[2], 1, close_to);
        cr_assert_float_eq(v[4], v[5], close_to);
        cr_assert(v[3] > 0 && v[3] * v[6] > v[4] * v[5]);
        dirichlet_wishart(NULL, 7, v, &inner, NULL);
        const double log_det = log_det_by_differences(t, x + i * 5);
        cr_assert_float_eq(log_p[i], inner + log_det, sizeof(nf_real) == 8 ? 1e-8 : 5e-3, "%g, not %g", log_p[i],
                           inner + log_det);
    }
    nf_target_report r;
    if (sizeof(nf_real) == 8) {
        cr_assert_eq(nf_target_check(t, N, x, &r), NF_OK);
        cr_assert(r.worst_error < 1e-7 && r.rejected == 0, "%g", r.worst_error);
    }
    nf_target_free(t);
}

/* exp(log p) integrates to 1, as the density of a scale and of two numbers whose sum is bounded: a grid in the
   unconstrained plane. */
static int gamma_beta(void *user, size_t d, const double *v, double *log_p, double *grad)
{
    (void)user, (void)d, (void)grad;
    *log_p = 1.385 * log(v[0]) - v[0] - lgamma(2.385); /* v0 ~ Gamma(2.385, 1); (v1 + 1) / 3.5 ~ Beta(2.1, 3.3) */
    const double u = (v[1] + 1) / 3.5;
    *log_p += 1.1 * log(u) + 2.3 * log1p(-u) + lgamma(5.4) - lgamma(2.1) - lgamma(3.3) - log(3.5);
    return 0;
}

Test(parameters, density_integrates_to_one)
{
    enum { N = 161 };
    static double x[N * 2], log_p[N];
    nf_target *t = nf_target_constrained(
        nf_target_point_callback(2, gamma_beta, NULL, NF_THREADSAFE),
        (nf_parameter[]){{"rate", nf_lower(1, 0), NULL, 0}, {"rho", nf_interval(1, -1, 2.5), NULL, 0}}, 2);
    cr_assert_not_null(t, "%s", nf_error_message());
    const double h = 0.15;
    double sum = 0;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < N; k++) {
            x[2 * k] = h * ((double)i - N / 2);
            x[2 * k + 1] = h * ((double)k - N / 2);
        }
        cr_assert_eq(nf_target_eval(t, N, x, log_p, NULL, NULL), NF_OK);
        for (size_t k = 0; k < N; k++)
            sum += isfinite(log_p[k]) ? h * h * exp(log_p[k]) : 0;
    }
    cr_assert_float_eq(sum, 1, sizeof(nf_real) == 8 ? 1e-9 : 1e-4, "%.12f", sum);
    nf_target_free(t);
}

/* ---- names ---- */

static int nothing(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                   unsigned char *rejected)
{
    (void)user, (void)d, (void)x, (void)rejected;
    memset(log_p, 0, n * sizeof *log_p);
    if (grad)
        memset(grad, 0, n * d * sizeof *grad);
    return 0;
}

Test(parameters, names_of_arrays)
{
    const size_t three[] = {2, 1, 3}, one[] = {1};
    nf_target *t = nf_target_constrained(nf_target_callback(9, nothing, NULL, NF_SERIAL),
                                         (nf_parameter[]){{"a", nf_lower(6, 0.5), three, 3},
                                                          {"b", nf_identity(1), one, 1},
                                                          {"c", nf_simplex_stick(1), NULL, 0},
                                                          {"d", nf_identity(1), NULL, 0}},
                                         4);
    const char *names[] = {"a.1.1.1", "a.2.1.1", "a.1.1.2", "a.2.1.2", "a.1.1.3", "a.2.1.3", "b.1", "c", "d"};
    cr_assert_not_null(t, "%s", nf_error_message());
    cr_assert_eq(nf_target_dim(t), 8, "a simplex of one entry has no freedom");
    for (size_t k = 0; k < 9; k++)
        cr_assert_str_eq(nf_target_output_name(t, k), names[k]);
    nf_target_free(t);
    /* without any declaration, with as many digits as needed */
    t = nf_target_callback(1000, nothing, NULL, NF_SERIAL);
    cr_assert_str_eq(nf_target_output_name(t, 0), "x.1");
    cr_assert_str_eq(nf_target_output_name(t, 98), "x.99");
    cr_assert_str_eq(nf_target_output_name(t, 999), "x.1000");
    cr_assert_null(nf_target_output_name(t, 1000));
    nf_target_free(t);
    cr_assert_eq(nf_target_n_outputs(NULL), 0);
    cr_assert_null(nf_target_output_name(NULL, 0));
}

/* ---- outputs of one's own ---- */

typedef struct twice {
    int code;
    bool words;
} twice;

/* (x0 + x1, x0 - x1), nothing where x0 is above 3 */
static int sum_and_difference(void *user, size_t n, size_t d, const double *x, double *y)
{
    const twice *a = user;
    for (size_t i = 0; i < n; i++, x += d) {
        if (x[0] > 3)
            continue;
        y[2 * i] = x[0] + x[1];
        y[2 * i + 1] = x[0] - x[1];
    }
    if (a->words)
        nf_error(NF_ETARGET, "no outputs today");
    return a->code;
}

Test(parameters, outputs_of_ones_own)
{
    const double x[] = {0.5, -1.25, 4, 1, -2, 0.75};
    double y[3 * 4];
    twice a = {0};
    const char *const both[] = {"sum", "difference"}, *const coordinates[] = {"mu", "log tau"};
    nf_target *t =
        nf_target_with_outputs(nf_target_callback(2, nothing, NULL, NF_SERIAL), 2, both, sum_and_difference, &a);
    cr_assert_eq(nf_target_n_outputs(t), 2);
    cr_assert_str_eq(nf_target_output_name(t, 1), "difference");
    nf_error(NF_EDIM, "older words");
    cr_assert_eq(nf_target_outputs(t, 3, x, y), NF_OK);
    cr_assert(y[0] == -0.75 && y[1] == 1.75 && isnan(y[2]) && isnan(y[3]) && y[4] == -1.25 && y[5] == -2.75);
    a.words = true; /* not an error after all */
    cr_assert_eq(nf_target_outputs(t, 3, x, y), NF_OK);
    cr_assert_str_eq(nf_error_message(), "older words");
    a.code = 3;
    expect(nf_target_outputs(t, 3, x, y), NF_ETARGET, "no outputs today");
    a.words = false;
    expect(nf_target_outputs(t, 3, x, y), NF_ETARGET, "the target's outputs returned 3 for a batch of 3 points");
    expect(nf_target_outputs(NULL, 3, x, y), NF_EARG, "t is NULL");
    expect(nf_target_outputs(t, 3, NULL, y), NF_EARG, "x is NULL");
    expect(nf_target_outputs(t, 3, x, NULL), NF_EARG, "y is NULL");
    a.code = 0;
    cr_assert_eq(nf_target_outputs(t, 0, x, y), NF_OK);
    /* constrained: they follow the values, of which they are functions */
    t = nf_target_constrained(t, (nf_parameter[]){{"tau", nf_lower(1, 0), NULL, 0}, {"mu", nf_identity(1), NULL, 0}},
                              2);
    const char *four[] = {"tau", "mu", "sum", "difference"};
    cr_assert_eq(nf_target_n_outputs(t), 4);
    for (size_t k = 0; k < 4; k++)
        cr_assert_str_eq(nf_target_output_name(t, k), four[k]);
    cr_assert_eq(nf_target_outputs(t, 3, x, y), NF_OK);
    for (size_t i = 0; i < 3; i++) {
        const double tau = exp(x[2 * i]), mu = x[2 * i + 1];
        cr_assert_float_eq(y[4 * i], tau, close_to * tau);
        cr_assert_eq(y[4 * i + 1], mu);
        cr_assert(i == 1 ? isnan(y[4 * i + 2]) : fabs(y[4 * i + 2] - tau - mu) < close_to * 3);
    }
    a.code = -1;
    expect(nf_target_outputs(t, 3, x, y), NF_ETARGET, "the target's outputs returned -1");
    /* declared anew, in place of all those: functions of the unconstrained coordinates, or their names */
    a.code = 0;
    t = nf_target_with_outputs(t, 2, both, sum_and_difference, &a);
    cr_assert_eq(nf_target_outputs(t, 3, x, y), NF_OK);
    cr_assert(nf_target_n_outputs(t) == 2 && y[1] == 1.75);
    t = nf_target_with_outputs(t, 2, coordinates, NULL, NULL);
    cr_assert_str_eq(nf_target_output_name(t, 1), "log tau");
    cr_assert_eq(nf_target_outputs(t, 3, x, y), NF_OK);
    cr_assert_arr_eq(x, y, sizeof x);
    /* names alone are no outputs that would follow */
    t = nf_target_constrained(t, (nf_parameter[]){{"a", nf_identity(2), NULL, 0}}, 1);
    cr_assert_eq(nf_target_n_outputs(t), 2);
    cr_assert_str_eq(nf_target_output_name(t, 1), "a.2");
    nf_target_free(t);
}

/* ---- rejections and counts ---- */

static int fenced(void *user, size_t d, const double *v, double *log_p, double *grad)
{
    (void)user;
    *log_p = 0;
    for (size_t j = 0; j < d && grad; j++)
        grad[j] = 0;
    if (v[0] > 2 && v[1] > 0)
        return nf_error(NF_ETARGET, "tau is %.4f", v[0]), 1;
    return v[0] > 2;
}

Test(parameters, rejections_and_counts)
{
    nf_target_counts c;
    for (int rule = NF_SERIAL; rule <= NF_THREADSAFE; rule++)
        for (int quiet = 0; quiet < 3; quiet++) {
            /* the second is rejected by the density, the third overflows */
            double x[] = {0.1, 0.2, 0.9, quiet ? -0.3 : 0.3, 1e3, 0.4, -0.5, 0.2};
            double log_p[4], grad[8], y[8];
            unsigned char rejected[4];
            if (quiet == 2)
                x[2] = 0;
            nf_target *t = nf_target_constrained(
                nf_target_point_callback(2, fenced, NULL, (nf_thread_rule)rule),
                (nf_parameter[]){{"tau", nf_lower(1, 0), NULL, 0}, {"mu", nf_identity(1), NULL, 0}}, 2);
            cr_assert_eq(nf_target_eval(t, 4, x, log_p, grad, rejected), NF_OK);
            cr_assert(!rejected[0] && rejected[1] == (quiet < 2) && rejected[2] && !rejected[3]);
            cr_assert(log_p[2] == -INFINITY && grad[4] == 0 && grad[5] == 0);
            cr_assert_float_eq(log_p[3], -0.5, close_to);
            cr_assert_float_eq(grad[6], 1, close_to);
            const char *words[] = {"tau is 2.4596", "rejected at (2.4596, -0.3)",
                                   "the flow has no finite result at (1000, 0.4)"};
            cr_assert_str_eq(nf_target_rejection(t), words[quiet]);
            nf_target_count(t, &c);
            cr_assert(c.calls == 1 && c.gradients == 4 && c.values == 0 && c.rejected == (quiet < 2 ? 2 : 1));
            cr_assert_eq(nf_target_eval(t, 4, x, log_p, NULL, NULL), NF_OK);
            nf_target_count(t, &c);
            cr_assert(c.calls == 2 && c.gradients == 4 && c.values == 4);
            cr_assert_eq(nf_target_outputs(t, 4, x, y), NF_OK);
            cr_assert(isnan(y[4]) && isnan(y[5]) && fabs(y[7] - 0.2) < close_to && fabs(y[6] - exp(-0.5)) < close_to);
            nf_target_free(t);
        }
    nf_target_count(NULL, &c);
    cr_assert_eq(c.calls + c.gradients + c.values + c.rejected, 0);
    nf_target_count(NULL, NULL);
}

/* Finite differences behind constraints count what they cost. */
Test(parameters, without_a_gradient)
{
    double x[5 * 2], log_p[5], grad[5 * 2];
    fill(x, 10, 0.7);
    nf_target *inner = nf_target_finite_difference(2, nothing, NULL, NF_SERIAL, 0);
    nf_model *m = nf_model_of_flow(nf_lower(2, 0), NULL);
    nf_target *t = nf_target_pulled_back(inner, m);
    nf_target_counts c, behind;
    cr_assert_eq(nf_target_eval(t, 5, x, log_p, grad, NULL), NF_OK);
    for (size_t i = 0; i < 10; i++)
        cr_assert_float_eq(grad[i], 1, close_to);
    nf_target_count(t, &c);
    nf_target_count(inner, &behind);
    cr_assert(c.gradients == 5 && c.values == 0 && behind.gradients == 0 && behind.values == 5 * (1 + 2 * 2));
    nf_target_free(t);
    nf_model_free(m);
    nf_target_free(inner);
}

/* ---- failures ---- */

static nf_target *refuse(nf_target *inner, nf_parameter a, nf_parameter b)
{
    return nf_target_constrained(inner, (nf_parameter[]){a, b}, 2);
}

static nf_target *two(void)
{
    return nf_target_callback(2, nothing, NULL, NF_SERIAL);
}

Test(parameters, failures)
{
    const size_t before = alloc_live(), dims[] = {3, 1}, huge[] = {(size_t)1 << 40, (size_t)1 << 40};
#define OK {"ok", nf_identity(1), NULL, 0}
    nf_error(NF_OK, "-");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"tau", NULL, NULL, 0}), NF_EARG,
                "the constraint of `tau` is NULL");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"tau", nf_lower(1, NAN), NULL, 0}), NF_EARG,
                "nf_target_constrained: the constraint of `tau` is NULL (the last error before this call: nf_lower");
    nf_error(NF_OK, "-");
    expect_none(refuse(NULL, (nf_parameter)OK, (nf_parameter)OK), NF_EARG, "`inner` is NULL");
    expect_none(nf_target_constrained(two(), NULL, 1), NF_EARG, "`parameters` is NULL");
    expect_none(nf_target_constrained(two(), (nf_parameter[]){{"b", NULL, NULL, 0}}, 0), NF_EARG, "n is 0");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){NULL, nf_identity(1), NULL, 0}), NF_EARG,
                "the name of parameter 2 is NULL");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"", nf_identity(1), NULL, 0}), NF_EARG,
                "the name of parameter 2 is empty");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"a,b", nf_identity(1), NULL, 0}), NF_EARG,
                "`a,b`, has a comma");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter)OK), NF_EARG, "two outputs have the name `ok`");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"b", nf_identity(1), NULL, 1}), NF_EARG,
                "`b` has 1 dims, but `dims` is NULL");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"b", nf_identity(1), dims, 2}), NF_EDIM,
                "`b` has 3 values by its dims, but its constraint gives 1");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"b", nf_identity(1), huge, 2}), NF_EDIM,
                "its constraint gives 1");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"b", nf_identity(2), NULL, 0}), NF_EDIM,
                "the parameters have 3 values, but `inner` has 2 dimensions");
    expect_none(
        refuse(two(), (nf_parameter){"a", nf_simplex_ilr(1), NULL, 0}, (nf_parameter){"b", nf_simplex_ilr(1), NULL, 0}),
        NF_EARG, "takes 0 features");
    expect_none(refuse(two(), (nf_parameter)OK, (nf_parameter){"b", nf_amortized_by_context(nf_affine(1)), NULL, 0}),
                NF_EDIM, "reads a context of");
    const char *const names[] = {"a", NULL}, *const bad[] = {"a", "b\n"}, *const same[] = {"a", "a"};
    nf_error(NF_OK, "-");
    expect_none(nf_target_with_outputs(NULL, 2, same, NULL, NULL), NF_EARG, "`t` is NULL");
    expect_none(nf_target_with_outputs(two(), 0, same, NULL, NULL), NF_EARG, "n is 0");
    expect_none(nf_target_with_outputs(two(), 2, NULL, NULL, NULL), NF_EARG, "`names` is NULL");
    expect_none(nf_target_with_outputs(two(), 1, same, NULL, NULL), NF_EDIM, "1 names without `f`, but a point has 2");
    expect_none(nf_target_with_outputs(two(), 2, names, NULL, NULL), NF_EARG, "name 2 is NULL");
    expect_none(nf_target_with_outputs(two(), 2, bad, NULL, NULL), NF_EARG, "a control character");
    expect_none(nf_target_with_outputs(two(), 2, same, NULL, NULL), NF_EARG, "two outputs have the name `a`");
    cr_assert_eq(alloc_live(), before, "everything was consumed");
}

static int closed;
static void close_data(void *user)
{
    (void)user;
    closed++;
}

Test(parameters, failing_allocations)
{
    const size_t before = alloc_live();
    size_t failures = 0;
    const size_t square[] = {2, 2};
    for (size_t k = 0;; k++) {
        double x[5] = {0.3, -0.2, 0.1, 0.4, -0.6}, log_p, grad[5], y[9];
        const char *const names[] = {"sum", "difference"};
        twice a = {0};
        closed = 0;
        nf_target *inner = nf_target_point_callback(7, dirichlet_wishart, NULL, NF_SERIAL);
        nf_flow *pi = nf_simplex_ilr(3), *sigma = nf_cov_matrix(2);
        inner = nf_target_own(inner, NULL, close_data);
        fail_alloc_after(k);
        inner = nf_target_with_outputs(inner, 2, names, sum_and_difference, &a);
        nf_target *t =
            nf_target_constrained(inner, (nf_parameter[]){{"pi", pi, NULL, 0}, {"Sigma", sigma, square, 2}}, 2);
        nf_status st = t ? NF_OK : nf_error_status();
        if (st == NF_OK)
            st = nf_target_eval(t, 1, x, &log_p, grad, NULL);
        if (st == NF_OK)
            st = nf_target_outputs(t, 1, x, y);
        const bool failed = fail_alloc_off();
        cr_assert_eq(st == NF_OK, !failed, "%s", nf_error_message());
        cr_assert(!failed || st == NF_ENOMEM || (st == NF_ETARGET && strstr(nf_error_message(), "out of memory")), "%s",
                  nf_error_message());
        cr_assert_eq(closed, t ? 0 : 1);
        nf_target_free(t);
        cr_assert_eq(closed, 1);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
        failures++;
    }
    cr_assert_geq(failures, 20);
}
