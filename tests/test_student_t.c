/* Student's t, the logistic and the uniform: constants and densities against GSL's, draws at the extremes of their
   uniforms, gradients of expectations in the degrees of freedom against quadrature, a fit of them, refusals. */
#include "dist/student_t.h"
#include <criterion/criterion.h>
#include <float.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_sf_gamma.h>
#include <gsl/gsl_sf_psi.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, vast = 3e38, most = (double)FLT_MAX;
#else
static const double rounding = 2.3e-16, vast = 1e308, most = DBL_MAX;
#endif

static const double dfs[] = {0.5, 0.713, 1, 1.5, 2, 3.7, 8.1, 29.3, 39.99, 40.01, 153.2, 4.1e3, 2.7e6};
enum { N_DFS = sizeof dfs / sizeof *dfs };

/* ---- the normalising constant ---- */

Test(student_t, constants)
{
    for (int i = 0; i < N_DFS; i++) {
        const double n = dfs[i];
        double slope;
        const double c = nfi_t_constant(n, &slope);
        const double up = gsl_sf_lngamma((n + 1) / 2), down = gsl_sf_lngamma(n / 2);
        cr_assert_float_eq(c, up - down - 0.5 * log(n * M_PI), 1e-14 * (1 + fabs(up) + fabs(down)), "%g: %.17g", n, c);
        const double psi = gsl_sf_psi((n + 1) / 2), psi_0 = gsl_sf_psi(n / 2);
        cr_assert_float_eq(slope, 0.5 * (psi - psi_0 - 1 / n), 1e-14 * (1 / n + fabs(psi) + fabs(psi_0)), "%g: %.17g",
                           n, slope);
        /* the difference above cancels; the trapezoid of slopes does not */
        double unused, other = 0;
        const double wide = 1e-3 * n, high = nfi_t_constant(n + wide, &unused), low = nfi_t_constant(n - wide, &other);
        cr_assert_float_eq((high - low) / (2 * wide), slope, 2e-5 * slope + 2e-16 / wide, "%g", n);
    }
}

/* ---- densities, far out as well ---- */

static nf_model *model_of(nf_dist *d)
{
    nf_model *m = nf_model_of_dist(d, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static double score_at(const nf_model *m, double x)
{
    const nf_real at = (nf_real)x;
    double log_p;
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, &at, NULL, &log_p), NF_OK);
    return log_p;
}

Test(student_t, densities)
{
    const double xs[] = {0, 1e-9, 0.317, -1, 1.00021, 2.385, -17.4, 301, 5.2e6};
    nf_model *logistic = model_of(nf_logistic(1));
    for (size_t k = 0; k < sizeof xs / sizeof *xs; k++) {
        const double x = (double)(nf_real)xs[k];
        for (int i = 0; i < N_DFS - 2; i++) { /* beyond those GSL's own loses digits */
            nf_model *m = model_of(nf_student_t(1, &(nf_student_t_options){.df = dfs[i]}));
            const double log_p = log(gsl_ran_tdist_pdf(x, (double)(nf_real)dfs[i]));
            if (isfinite(log_p))
                cr_assert_float_eq(score_at(m, x), log_p, 2e-13 + 5 * rounding * (1 + fabs(log_p)), "%g at %g", dfs[i],
                                   x);
            nf_model_free(m);
        }
        if (fabs(x) < 500) {
            const double log_p = log(gsl_ran_logistic_pdf(x, 1));
            cr_assert_float_eq(score_at(logistic, x), log_p, 10 * rounding * (1 + fabs(log_p)), "%g", x);
        }
    }
    /* -(n + 1) log |x| + const, where x^2 is beyond the numbers there are */
    nf_model *m = model_of(nf_student_t(1, &(nf_student_t_options){.df = 1.5}));
    double unused;
    for (int sign = -1; sign <= 1; sign += 2) {
        const double c = nfi_t_constant(1.5, &unused) + 1.25 * log(1.5);
        cr_assert_float_eq(score_at(m, sign * vast), c - 2.5 * log(vast), 10 * rounding * 2.5 * log(vast));
        cr_assert_float_eq(score_at(m, sign * 1e15), c - 2.5 * log(1e15), 10 * rounding * 100);
        cr_assert_float_eq(score_at(logistic, sign * 1e15), -1e15, 1e15 * rounding);
    }
    nf_model_free(m);
    nf_model_free(logistic);
}

/* Boundaries belong to the support; NaN is not outside, nor inside. */
Test(uniform, edges)
{
    nf_model *m = model_of(nf_uniform(2, -0.25, 1.5));
    const nf_real x[] = {NF_R(-0.25), NF_R(1.5),  NF_R(0.3), NF_R(0.4), NF_R(-0.2501), NF_R(0.4),
                         NF_R(0.4),   NF_R(1.51), 0,         INFINITY,  NAN,           NF_R(0.3)};
    double log_p[6];
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 6, x, NULL, log_p), NF_OK);
    for (int i = 0; i < 2; i++)
        cr_assert_float_eq(log_p[i], -2 * log(1.75), 1e-14);
    for (int i = 2; i < 5; i++)
        cr_assert(isinf(log_p[i]) && log_p[i] < 0, "%d: %g", i, log_p[i]);
    cr_assert(isnan(log_p[5]));
    nf_model_free(m);
    /* bounds are rounded to nf_real, and no draw leaves them */
    const nf_real low = NF_R(0.1), high = NF_R(0.1) * (1 + 8 * (nf_real)rounding);
    enum { N = 4000 };
    nf_real draws[N];
    m = model_of(nf_uniform(1, 0.1, (double)high));
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 1}, N, NULL, draws, NULL), NF_OK);
    for (int i = 0; i < N; i++)
        cr_assert(draws[i] >= low && draws[i] <= high);
    nf_model_free(m);
}

/* ---- draws ---- */

/* Every uniform there is lies between these; x is monotone in u. */
Test(student_t, draws_do_not_overflow)
{
    const double us[] = {0x1p-53, 0x1p-32, 1e-3, 0.5, 1 - 0x1p-32, 1 - 0x1p-53};
    const double vs[] = {0x1p-53, 0.125, 0.25, 0.5 + 0x1p-53, 0.7, 1 - 0x1p-53};
    for (int i = 0; i < N_DFS; i++)
        for (int k = 0; k < 36; k++) {
            double slope;
            const double u = us[k / 6], v = vs[k % 6], n = dfs[i], x = nfi_t_draw(n, u, v, &slope);
            cr_assert(fabs(x) < 3.4e38 && isfinite((float)x) && isfinite((float)slope), "%g: %g, %g", n, x, slope);
            const long double L = -2 * logl((long double)u) / n;
            const long double R = sqrtl((long double)n * expm1l(L)), turn = cosl(2 * (long double)M_PI * v);
            cr_assert_float_eq(x, (double)(R * turn), 1e-14 * (double)R, "%g at %g, %g: %.17g", n, u, v, x);
            double high, low, unused;
            high = nfi_t_draw(n * 1.0001, u, v, &unused);
            low = nfi_t_draw(n * 0.9999, u, v, &unused);
            cr_assert_float_eq(slope, (high - low) / (2e-4 * n), 1e-4 * fabs(slope) + 1e-11 * fabs(x) / n,
                               "%g at %g, %g: %g", n, u, v, slope);
        }
    cr_assert(nfi_t_draw(0.5, 0x1p-53, 0x1p-53, &(double){0}) > 1e31, "the bound is not far from what there is");
}

/* Reparameterised: E[d f(x(n)) / dn] = d/dn E[f], f = log(1 + x^2 / 3); by the double exponential rule. */
static double f_of(double x)
{
    return log1p(x * x / 3);
}

static double expected_f(double n)
{
    double sum = 0, unused;
    const double c = nfi_t_constant(n, &unused), h = 1. / 64;
    for (double t = -4.3; t < 4.3; t += h) {
        const double w = M_PI_2 * sinh(t), x = sinh(w);
        sum += h * f_of(x) * exp(c - (n + 1) / 2 * log1p(x * x / n)) * cosh(w) * M_PI_2 * cosh(t);
    }
    return sum;
}

/* A "target" whose -log p is f: the ELBO's gradient without entropy is then that of E[f]. */
static int minus_f(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)user, (void)d;
    *log_p = -f_of(*x);
    if (grad)
        *grad = -2 * *x / (3 + *x * *x);
    return 0;
}

Test(student_t, gradients_of_expectations)
{
    const double ns[] = {0.9, 1.5, 4.2, 23};
    nf_target *t = nf_target_point_callback(1, minus_f, NULL, NF_THREADSAFE);
    for (int i = 0; i < 4; i++) {
        enum { STEPS = 400 };
        nf_student_t_options options = {.df = ns[i], .learn = true, .least = 0.6};
        nf_model *m = model_of(nf_student_t(1, &options));
        nf_elbo_options elbo = {.draws = 500, .kl = {.kind = NF_CONSTANT, .from = 1e-300}};
        nf_objective *o = nf_elbo(m, t, &elbo);
        double mean = 0, square = 0;
        for (uint64_t step = 0; step < STEPS; step++) {
            nf_real g;
            cr_assert_eq(nf_objective_gradient(o, NULL, 7, step, NULL, &g), NF_OK, "%s", nf_error_message());
            mean += (double)g / STEPS;
            square += (double)g * (double)g / STEPS;
        }
        const double h = 1e-4, slope = (expected_f(ns[i] + h) - expected_f(ns[i] - h)) / (2 * h);
        const double exact = slope * -expm1(-(ns[i] - 0.6)); /* softplus's derivative at that value */
        const double error = sqrt((square - mean * mean) / STEPS);
        cr_assert(error > 0 && error < 0.05 * fabs(exact), "%g: %g +- %g", ns[i], mean, error);
        cr_assert_float_eq(mean, exact, 4.2 * error, "%g: %g +- %g, but %g", ns[i], mean, error, exact);
        nf_objective_free(o);
        nf_model_free(m);
    }
    nf_target_free(t);
}

/* ---- maximum likelihood of the degrees of freedom: within 4 standard errors by the observed information ---- */

Test(student_t, fitted_degrees_of_freedom)
{
    enum { N = 20000 };
    const double truth[2] = {2.7, 1.4};
    nf_real *x = calloc(2 * N, sizeof *x);
    nf_model *data_model = model_of(nf_student_t(2, &(nf_student_t_options){.each = truth}));
    cr_assert_eq(nf_sample(data_model, NULL, &(nf_noise){.seed = 12}, N, NULL, x, NULL), NF_OK);
    nf_model *m = model_of(nf_student_t(2, &(nf_student_t_options){.learn = true}));
    nf_data data = {.n = N, .dim = 2, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = N});
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 250, .rate = 0.05}, NULL), NF_OK);
    for (int d = 0; d < 2; d++) {
        const double fitted = 1 + log1p(exp((double)nf_model_theta(m)[d])), h = 0.1;
        double sum[3] = {0};
        for (int k = 0; k < 3; k++)
            for (size_t i = 0; i < N; i++) {
                const double n = fitted + (k - 1) * h, v = (double)x[2 * i + (size_t)d];
                double unused;
                sum[k] += nfi_t_constant(n, &unused) - (n + 1) / 2 * log1p(v * v / n);
            }
        const double error = 1 / sqrt(-(sum[2] - 2 * sum[1] + sum[0]) / (h * h));
        cr_assert_lt(error, 0.1);
        cr_assert_float_eq(fitted, truth[d], 4 * error, "%g +- %g", fitted, error);
        cr_assert(sum[1] > sum[0] && sum[1] > sum[2], "the fit is at the top");
    }
    free(x);
    nf_objective_free(o);
    nf_model_free(m);
    nf_model_free(data_model);
}

/* ---- options ---- */

Test(student_t, initial_degrees_of_freedom)
{
    const double each[] = {1.3, 7.9, 300};
    const nf_real x[] = {NF_R(0.4), NF_R(-2.1), NF_R(1.2)};
    double learnt, fixed;
    for (int k = 0; k < 3; k++) {
        nf_student_t_options o = {.df = k == 1 ? 2.6 : 0, .each = k == 2 ? each : NULL};
        nf_model *f = model_of(nf_student_t(3, &o));
        o.learn = true;
        nf_model *l = model_of(nf_student_t(3, &o));
        cr_assert_eq(nf_model_shape(f)->n_params, 0);
        cr_assert_eq(nf_model_shape(l)->n_params, 3);
        cr_assert_eq(nf_log_prob(f, NULL, NULL, 1, x, NULL, &fixed), NF_OK);
        cr_assert_eq(nf_log_prob(l, NULL, NULL, 1, x, NULL, &learnt), NF_OK);
        cr_assert_float_eq(learnt, fixed, 40 * rounding);
        double sum = 0, unused;
        for (int d = 0; d < 3; d++) {
            const double n = k == 0 ? 4 : k == 1 ? 2.6 : each[d];
            sum += nfi_t_constant(n, &unused) - (n + 1) / 2 * log1p((double)x[d] * (double)x[d] / n);
        }
        cr_assert_float_eq(fixed, sum, 40 * rounding);
        nf_model_free(f);
        nf_model_free(l);
    }
}

Test(student_t, arguments)
{
    const double low[] = {2, 0.4}, inf[] = {INFINITY, 2}, equal[] = {2, 1}, nothing[] = {1.2, 0};
    const nf_student_t_options bad[] = {{.df = 0.49},
                                        {.df = -3},
                                        {.df = NAN},
                                        {.df = 1e10},
                                        {.each = low},
                                        {.each = inf},
                                        {.learn = true, .df = 1},
                                        {.learn = true, .each = equal},
                                        {.learn = true, .least = 0.3},
                                        {.each = nothing},
                                        {.learn = true, .least = NAN},
                                        {.learn = true, .least = 5}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_null(nf_student_t(2, &bad[i]), "%zu", i);
        cr_assert_eq(nf_error_status(), NF_EARG);
        cr_assert_not_null(strstr(nf_error_message(), "nf_student_t"));
    }
    cr_assert_null(nf_student_t(0, NULL));
    cr_assert_null(nf_student_t(SIZE_MAX / 2, NULL));
    cr_assert_null(nf_logistic(0));
    cr_assert_null(nf_uniform(0, 0, 1));
    const double bounds[][2] = {{1, 1}, {2, 1}, {NAN, 1}, {0, NAN}, {-INFINITY, 0}, {0, INFINITY}, {-most, most}};
    for (size_t i = 0; i < 7; i++) {
        cr_assert_null(nf_uniform(1, bounds[i][0], bounds[i][1]), "%zu", i);
        cr_assert_eq(nf_error_status(), NF_EARG);
    }
}
