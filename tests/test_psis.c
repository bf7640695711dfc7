/* Pareto-smoothed importance sampling: R's loo on the same ratios, known shapes, known normalising constants, ratios
   that are no numbers, ties; the importance-weighted bound; the effective sample size. */
#include "fail_alloc.h"
#include "support/expect.h"
#include "vi/pareto.h"
#include "math/noise.h"
#include <math.h>
#include <nflow/importance.h>
#include <stdio.h>
#include <stdlib.h>

static double uniforms[40000], normals_of[40000];

/* n uniforms, n normals of other noise. */
static void draw_both(uint64_t seed, size_t n)
{
    double pair[2];
    nfi_noise_uniform_d(&(nf_noise){.seed = seed}, 1, n, n, uniforms);
    for (size_t i = 0; i < n; i++) {
        nfi_noise_uniform_d(&(nf_noise){.seed = seed, .site = 1, .first_sample = i}, 2, 1, 1, pair);
        normals_of[i] = sqrt(-2 * log(pair[0])) * cos(2 * M_PI * pair[1]);
    }
}

static nf_psis_report psis(size_t n, const double *log_ratio, double *log_weight)
{
    nf_psis_report r;
    cr_assert_eq(nf_psis(n, log_ratio, log_weight, &r), NF_OK, "%s", nf_error_message());
    return r;
}

/* ---- loo ---- */

static double lehmer;

static double uniform(void)
{
    lehmer = fmod(16807 * lehmer, 2147483647);
    return lehmer / 2147483647;
}

static double normal(void)
{
    const double u = uniform();
    return sqrt(-2 * log(u)) * cos(2 * M_PI * uniform());
}

/* A ratio of case number `which` of tests/psis_loo.R. */
static double ratio_of(int which)
{
    double x;
    switch (which) {
    case 0:
        return -0.3 * log(uniform());
    case 1:
        return -0.7 * log(uniform());
    case 2:
        return -1.2 * log(uniform());
    case 3:
        return normal();
    case 4:
        return 5 * normal();
    case 5:
        return 40 * normal();
    case 6:
        return log(uniform());
    case 7:
        return -51234.5 + 0.8 * normal();
    case 8:
        x = normal();
        return x * x / 2 - log(1 + x * x);
    case 9:
        return 1e-5 * normal();
    case 10:
    case 11:
        return normal();
    case 12:
        return floor(8 * normal()) / 8;
    case 13:
        x = normal();
        return x < -0.4 ? -INFINITY : x;
    default:
        return 1e4 * normal();
    }
}

static void close_to(const char *name, const char *what, double got, double wanted)
{
    cr_assert(got == wanted || fabs(got - wanted) <= 1e-7 * (1 + fabs(wanted)), "%s: %s is %.15g, but %.15g in loo",
              name, what, got, wanted);
}

Test(psis, is_that_of_loo)
{
    static const size_t counts[] = {1000, 4000, 1000, 2500, 1000, 1000, 1000, 500,
                                    5000, 1000, 21,   20,   1000, 1000, 1000};
    enum { CASES = sizeof counts / sizeof *counts };
    static double l[5000], w[5000];
    char name[64];
    double k, ess, log_mean, sum;
    FILE *table = fopen("tests/psis_loo.txt", "r");
    cr_assert_not_null(table);
    for (int c = 0; c < CASES; c++) {
        const size_t n = counts[c];
        cr_assert_eq(fscanf(table, "%63s %lf %lf %lf %lf", name, &k, &ess, &log_mean, &sum), 5);
        lehmer = 20261129 + c;
        double largest = -INFINITY, got = 0;
        for (size_t i = 0; i < n; i++)
            largest = fmax(largest, l[i] = ratio_of(c));
        const nf_psis_report r = psis(n, l, w);
        const double m = (double)r.finite;
        for (size_t i = 0; i < n; i++)
            if (isfinite(w[i]))
                got += cos((double)i + 1) * (w[i] + r.log_mean + log((double)n) - largest);
        close_to(name, "k", r.k_hat, k);
        close_to(name, "the effective sample size", r.ess, ess);
        close_to(name, "the log of the mean", r.log_mean, log_mean);
        close_to(name, "the sum of log weights", got, sum);
        cr_assert_eq(r.tail, isfinite(k) ? (size_t)ceil(fmin(0.2 * m, 3 * sqrt(m))) : 0, "%s", name);
    }
    cr_assert_eq(fscanf(table, "%63s", name), EOF);
    fclose(table);
}

/* ---- mathematics ---- */

/* The fit's shape is asymptotically normal about k, with variance (1 + k)^2 / n for k > -1/2; the prior moves it. */
Test(psis, the_shape_of_pareto_draws)
{
    enum { N = 2000, SEEDS = 5 };
    static const double shapes[] = {-0.4, 0, 0.3, 0.7, 1.5};
    for (size_t c = 0; c < sizeof shapes / sizeof *shapes; c++)
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            const double k = shapes[c], sigma = 3.7, error = (1 + k) / sqrt(N);
            double x[N];
            nfi_pareto fit;
            nf_status status;
            /* order statistics of uniforms: partial sums of exponentials over their whole */
            nfi_noise_uniform_d(&(nf_noise){.seed = seed, .site = (uint32_t)c}, 1, N, N, x);
            double sum = 0, last, total = 0;
            nfi_noise_uniform_d(&(nf_noise){.seed = seed, .site = (uint32_t)c, .first_sample = N}, 1, 1, 1, &last);
            for (size_t i = 0; i < N; i++)
                total -= log(x[i]);
            total -= log(last);
            for (size_t i = 0; i < N; i++) {
                sum -= log(x[i]);
                const double below = sum / total;
                x[i] = k == 0.0 ? -sigma * log1p(-below) : sigma * expm1(-k * log1p(-below)) / k;
            }
            cr_assert(nfi_pareto_fit(N, x, &fit, &status) && status == NF_OK);
            const double raw = (fit.k * (N + 10) - 5) / N;
            cr_assert_float_eq(raw, k, 4 * error, "k %g, seed %d: %g", k, (int)seed, raw);
            cr_assert_float_eq(fit.sigma / sigma, 1, 6 * error, "k %g, seed %d: sigma %g", k, (int)seed, fit.sigma);
            cr_assert_float_eq(nfi_pareto_quantile(&fit, 0.5), x[N / 2], 0.2 * x[N / 2]);
        }
}

Test(psis, the_quantiles_of_the_exponential_distribution)
{
    cr_assert_float_eq(nfi_pareto_quantile(&(nfi_pareto){0, 2.5}, 0.3), -2.5 * log(0.7), 1e-14);
    cr_assert_float_eq(nfi_pareto_quantile(&(nfi_pareto){1e-9, 2.5}, 0.3), -2.5 * log(0.7), 1e-7);
}

/* q is N(0, 1), p is exp(2.25) N(m, s): the log of the mean weight is 2.25 within its standard errors, which are those
   of many repetitions. */
Test(psis, the_evidence_is_estimated)
{
    enum { N = 400, REPEATS = 50 };
    const double m = 0.3, s = 0.8, log_z = 2.25;
    static double l[N], w[N];
    double mean = 0, squares = 0, se = 0;
    draw_both(71, N * REPEATS);
    for (size_t r = 0; r < REPEATS; r++) {
        for (size_t i = 0; i < N; i++) {
            const double x = normals_of[r * N + i], z = (x - m) / s;
            l[i] = log_z - log(s) - z * z / 2 + x * x / 2;
        }
        const nf_psis_report report = psis(N, l, w);
        cr_assert_leq(report.k_hat, 0.7);
        cr_assert_float_eq(report.log_mean, log_z, 4.5 * report.log_mean_se);
        cr_assert_float_eq(report.log_mean, report.log_mean_raw, report.log_mean_se);
        double sum = 0;
        for (size_t i = 0; i < N; i++)
            sum += exp(w[i]);
        cr_assert_float_eq(sum, 1, 1e-12);
        cr_assert_float_eq(nf_effective_size(N, w), report.ess, 1e-9 * report.ess);
        const double e = report.log_mean - log_z;
        mean += e / REPEATS;
        squares += e * e / REPEATS;
        se += report.log_mean_se / REPEATS;
    }
    cr_assert_float_eq(mean, 0, 4 * se / sqrt(REPEATS));
    cr_assert_float_eq(sqrt(squares) / se, 1, 0.35, "%g beside %g", sqrt(squares), se);
}

/* exp(e E), E exponential, has the tail index 1 / e: k is e. */
Test(psis, the_shape_of_the_weights)
{
    enum { N = 40000 };
    static double l[N];
    static const double shapes[] = {0.2, 0.5, 0.9};
    draw_both(5, N);
    for (size_t c = 0; c < sizeof shapes / sizeof *shapes; c++) {
        for (size_t i = 0; i < N; i++)
            l[i] = -shapes[c] * log(uniforms[i]);
        const nf_psis_report r = psis(N, l, NULL);
        cr_assert_eq(r.tail, 600);
        cr_assert_eq(r.k_limit, 0.7);
        cr_assert_float_eq(r.k_hat, (shapes[c] * 600 + 5) / 610, 4 * (1 + shapes[c]) / sqrt(600));
    }
    cr_assert_float_eq(psis(100, l, NULL).k_limit, 0.5, 1e-12);
}

/* ---- ratios of every sort ---- */

static void same_report(const nf_psis_report *a, const nf_psis_report *b, double shift)
{
    cr_assert_float_eq(a->k_hat, b->k_hat, 1e-9);
    cr_assert_float_eq(a->log_mean, b->log_mean + shift, 1e-9);
    cr_assert_float_eq(a->ess, b->ess, 1e-6);
    cr_assert_eq(a->tail, b->tail);
}

Test(psis, order_and_scale_do_not_matter)
{
    enum { N = 1000 };
    static double l[N], other[N], w[N], v[N];
    draw_both(6, N);
    for (size_t i = 0; i < N; i++) {
        l[i] = 1.3 * normals_of[i];
        other[(i * 7) % N] = l[i] + 700;
    }
    const nf_psis_report r = psis(N, l, w), s = psis(N, other, v);
    same_report(&s, &r, 700);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(v[(i * 7) % N], w[i], 1e-9);
    const nf_psis_report t = psis(N, other, other); /* in place */
    same_report(&t, &s, 0);
    cr_assert_arr_eq(other, v, sizeof v);
}

Test(psis, what_is_no_number_is_left_out)
{
    enum { N = 1000 };
    static double l[N + 40], w[N + 40], plain[N];
    draw_both(7, N);
    for (size_t i = 0; i < N; i++)
        plain[i] = 0.7 * normals_of[i];
    for (size_t i = 0, k = 0; i < N + 40; i++)
        l[i] = i % 26 == 3 ? NAN : plain[k++];
    const nf_psis_report r = psis(N, plain, NULL), with = psis(N + 40, l, w);
    same_report(&with, &r, 0);
    cr_assert(with.left_out == 40 && with.infinite == 0 && with.finite == N && with.zero == 0);
    cr_assert(w[3] == -INFINITY && isfinite(w[2]));
    l[3] = INFINITY;
    const nf_psis_report infinite = psis(N + 40, l, w);
    cr_assert(infinite.left_out == 40 && infinite.infinite == 1 && infinite.k_hat == INFINITY);
    cr_assert_eq(infinite.ess, with.ess);
    cr_assert_eq(w[3], -INFINITY);
}

/* A draw of weight 0 halves the mean if half the draws are such, and has no weight afterwards. */
Test(psis, rejected_draws_have_the_weight_0)
{
    enum { N = 600 };
    static double l[2 * N], w[2 * N], accepted[N];
    draw_both(8, N);
    for (size_t i = 0; i < N; i++) {
        l[2 * i] = accepted[i] = 0.1 * normals_of[i];
        l[2 * i + 1] = -INFINITY;
    }
    const nf_psis_report r = psis(2 * N, l, w);
    cr_assert(r.finite == N && r.zero == N && r.left_out == 0);
    cr_assert_float_eq(r.log_mean, log(0.5) + 0.005, 3 * r.log_mean_se);
    cr_assert_float_eq(r.log_mean_se, 1 / sqrt(2 * N), 0.02 / sqrt(2 * N)); /* that of a share of 1/2 */
    for (size_t i = 0; i < N; i++)
        cr_assert(isfinite(w[2 * i]) && w[2 * i + 1] == -INFINITY);
    /* they do not change the tail */
    const nf_psis_report alone = psis(N, memcpy(w, accepted, sizeof accepted), w);
    cr_assert(alone.tail == r.tail && alone.k_hat == r.k_hat && alone.k_limit == r.k_limit);
    cr_assert_float_eq(alone.ess, r.ess, 1e-9);
    cr_assert_float_eq(alone.log_mean, r.log_mean + log(2), 1e-12);
}

Test(psis, nothing_has_a_weight)
{
    const double l[] = {-INFINITY, NAN, -INFINITY};
    double w[3];
    const nf_psis_report r = psis(3, l, w);
    cr_assert(r.k_hat == INFINITY && r.log_mean == -INFINITY && r.log_mean_raw == -INFINITY && isnan(r.log_mean_se));
    cr_assert(r.ess == 0.0 && r.finite == 0 && r.zero == 2 && r.left_out == 1 && r.tail == 0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(w[i], -INFINITY);
    const nf_psis_report none = psis(1, l + 1, w);
    cr_assert(none.k_hat == INFINITY && none.log_mean == -INFINITY && none.left_out == 1);
}

Test(psis, one_draw)
{
    double w;
    const nf_psis_report r = psis(1, (double[]){-3.5}, &w);
    cr_assert(r.k_hat == INFINITY && r.log_mean == -3.5 && isnan(r.log_mean_se) && r.ess == 1 && w == 0.0);
    cr_assert_eq(r.k_limit, -INFINITY);
}

Test(psis, ties)
{
    enum { N = 1000, TAIL = 95 };
    static double l[N], w[N];
    for (size_t i = 0; i < N; i++)
        l[i] = -2.385;
    nf_psis_report r = psis(N, l, w);
    cr_assert(r.k_hat == -INFINITY && r.tail == 0 && r.log_mean_se == 0.0);
    cr_assert_float_eq(r.log_mean, -2.385, 1e-12);
    cr_assert_float_eq(r.ess, N, 1e-6);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(w[i], -log(N), 1e-12);
    /* the tail alone is flat */
    for (size_t i = 0; i < N - TAIL; i++)
        l[i] = -3 - (double)i / N;
    r = psis(N, l, w);
    cr_assert(r.k_hat == -INFINITY && r.tail == 0);
    /* four draws above the ties: too few to know */
    for (size_t i = 0; i < N; i++)
        l[i] = i % 250 ? -2.385 : (double)i / N;
    r = psis(N, l, w);
    cr_assert(r.k_hat == INFINITY && r.tail == 0);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(w[i] + r.log_mean + log(N), l[i], 1e-12);
    /* forty draws above them are the tail */
    draw_both(9, N);
    for (size_t i = 0; i < N; i++)
        l[i] = -2.385 - (i % 25 ? 0 : 0.4 * log(uniforms[i]));
    r = psis(N, l, w);
    cr_assert_eq(r.tail, 40);
    cr_assert_float_eq(r.k_hat, 0.4, 0.5);
    for (size_t i = 0; i < N; i++)
        cr_assert(i % 25 == 0 || fabs(w[i] + r.log_mean + log(N) + 2.385) < 1e-12);
    /* equal but for rounding */
    for (size_t i = 0; i < N; i++)
        l[i] = 1e-16 * (double)(i % 5);
    r = psis(N, l, w);
    cr_assert(r.k_hat < 0.5);
    cr_assert_float_eq(r.ess, N, 1e-6);
}

/* Weights that differ by more than double has room for. */
Test(psis, ratios_of_any_size)
{
    enum { N = 200 };
    static double l[N], w[N];
    for (size_t i = 0; i < N; i++)
        l[i] = 1e305 * (double)i;
    nf_psis_report r = psis(N, l, w);
    cr_assert(r.k_hat == INFINITY && fabs(r.ess - 1) < 1e-12 && fabs(w[N - 1]) < 1e-12, "%.17g %.17g %.17g", r.k_hat,
              r.ess, w[N - 1]);
    for (size_t i = 0; i < N; i++)
        l[i] = 10 * (double)i;
    r = psis(N, l, w);
    cr_assert(r.k_hat > 5 && isfinite(r.log_mean) && r.ess >= 1);
}

/* ---- the bound ---- */

static nf_bound bound(size_t n, const double *l, size_t draws)
{
    nf_bound b;
    cr_assert_eq(nf_importance_bound(n, l, draws, &b), NF_OK, "%s", nf_error_message());
    return b;
}

Test(psis, the_bound_by_its_formula)
{
    const double l[] = {0.5, -1.25, 2, 0.75, -3, 1.5, 99};
    nf_bound b = bound(7, l, 1);
    cr_assert_float_eq(b.mean, (0.5 - 1.25 + 2 + 0.75 - 3 + 1.5 + 99) / 7, 1e-12);
    b = bound(7, l, 3);
    const double first = log((exp(0.5) + exp(-1.25) + exp(2)) / 3), second = log((exp(0.75) + exp(-3) + exp(1.5)) / 3);
    cr_assert_float_eq(b.mean, (first + second) / 2, 1e-12);
    cr_assert_float_eq(b.se, fabs(first - second) / 2, 1e-12);
    cr_assert(b.groups == 2 && b.rejected == 0 && b.left_out == 0);
    b = bound(7, l, 7);
    cr_assert(b.groups == 1 && isnan(b.se));
    cr_assert_float_eq(b.mean, 99 - log(7), 1e-9);
}

/* With K draws the bound of N(0, 1) for exp(log Z) N(0, s) grows towards log Z; with one draw it is log Z - KL(q|p). */
Test(psis, the_bound_grows_to_the_evidence)
{
    enum { N = 20000 };
    static double l[N];
    const double s = 1.4, log_z = -7, kl = log(s) + 1 / (2 * s * s) - 0.5;
    double before = -INFINITY;
    draw_both(10, N);
    for (size_t i = 0; i < N; i++) {
        const double x = normals_of[i];
        l[i] = log_z - log(s) - x * x / (2 * s * s) + x * x / 2;
    }
    const nf_bound elbo = bound(N, l, 1);
    cr_assert_float_eq(elbo.mean, log_z - kl, 4 * elbo.se);
    cr_assert_float_eq(elbo.se, (1 - 1 / (s * s)) / sqrt(2) / sqrt(N), 0.1 * elbo.se);
    for (size_t k = 1; k <= 100; k *= 10) {
        const nf_bound b = bound(N, l, k);
        cr_assert(b.mean > before && b.mean < log_z + 3 * b.se, "%zu: %g", k, b.mean);
        before = b.mean;
    }
    cr_assert_float_eq(before, log_z, 0.05);
}

/* q is uniform on (0, 1), p is exp(2) on (0, 1/4): the bound for q on (0, 1/4) is exact, whatever K. */
Test(psis, the_bound_of_the_accepted_region)
{
    enum { N = 8000 };
    static double l[N];
    draw_both(11, N);
    for (size_t i = 0; i < N; i++)
        l[i] = i % 100 == 7 ? NAN : uniforms[i] < 0.25 ? 2 : -INFINITY;
    for (size_t k = 1; k <= 4; k++) {
        const nf_bound b = bound(N, l, k);
        cr_assert_eq(b.left_out, N / 100);
        const double all = N - N / 100, share = 1 - (double)b.rejected / all;
        cr_assert_float_eq(b.mean, 2 + log(share), 1e-9);
        cr_assert_float_eq(b.mean, 2 + log(0.25), 4 * b.se);
        cr_assert_float_eq(b.se, sqrt(3 / all), 0.1 * b.se);
    }
    nf_bound b = bound(2, (double[]){-INFINITY, NAN}, 1);
    cr_assert(b.mean == -INFINITY && isnan(b.se) && b.groups == 0 && b.rejected == 1 && b.left_out == 1);
    b = bound(2, (double[]){NAN, INFINITY}, 1);
    cr_assert(isnan(b.mean) && b.left_out == 2);
    b = bound(3, (double[]){1, -INFINITY, -INFINITY}, 2);
    cr_assert(isnan(b.mean) && b.groups == 0);
}

Test(psis, effective_sizes)
{
    const double l[] = {700, 700 + log(3), NAN, -INFINITY, INFINITY};
    cr_assert_float_eq(nf_effective_size(5, l), 16.0 / 10, 1e-12);
    cr_assert_eq(nf_effective_size(3, l + 2), 0);
    cr_assert_eq(nf_effective_size(0, l), 0);
    cr_assert_eq(nf_effective_size(5, NULL), 0);
}

/* ---- refusals ---- */

Test(psis, arguments)
{
    const double l[] = {1, 2};
    nf_psis_report r;
    nf_bound b;
    expect(nf_psis(0, l, NULL, &r), NF_EARG, "nf_psis: n is 0");
    expect(nf_psis(2, NULL, NULL, &r), NF_EARG, "nf_psis: `log_ratio` is NULL");
    expect(nf_psis(2, l, NULL, NULL), NF_EARG, "nf_psis: `report` is NULL");
    expect(nf_importance_bound(0, l, 1, &b), NF_EARG, "nf_importance_bound: n is 0");
    expect(nf_importance_bound(2, NULL, 1, &b), NF_EARG, "nf_importance_bound: `log_ratio` is NULL");
    expect(nf_importance_bound(2, l, 1, NULL), NF_EARG, "nf_importance_bound: `bound` is NULL");
    expect(nf_importance_bound(2, l, 0, &b), NF_EARG, "groups of 0 draws, but there are 2");
    expect(nf_importance_bound(2, l, 3, &b), NF_EARG, "groups of 3 draws, but there are 2");
}

Test(psis, failing_allocations)
{
    double l[100], w[100];
    nf_psis_report r;
    size_t failures = 0;
    for (int i = 0; i < 100; i++)
        l[i] = sin(i);
    for (size_t k = 0;; k++, failures++) {
        const size_t before = alloc_live();
        fail_alloc_after(k);
        const nf_status status = nf_psis(100, l, w, &r);
        const bool failed = fail_alloc_off();
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
        cr_assert_eq(status, NF_ENOMEM);
    }
    cr_assert_eq(failures, 3);
}
