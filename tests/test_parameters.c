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
