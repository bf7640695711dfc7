/* Expectation-maximisation: one component against mean and covariance, the penalised likelihood that never falls,
   parameters of known mixtures within standard errors, held-out likelihood, weights, sources, units, threads, columns
   and rows that are degenerate, refusals. */
#include "expect.h"
#include "numbers.h"
#include <nflow/nflow.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

static nf_model *mixture_of(size_t dim, size_t K)
{
    nf_model *m = nf_model_of_dist(nf_gaussian_mixture(dim, K), &(nf_model_options){.seed = 3});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static nf_em_report fit(nf_model *m, const nf_data *data, const nf_em_options *options)
{
    nf_em_report r;
    cr_assert_eq(nf_fit_mixture(m, data, options, &r), NF_OK, "%s", nf_error_message());
    cr_assert(isfinite(r.log_likelihood) && r.penalty >= 0 && r.smallest_weight > 0);
    return r;
}

/* The mean of log q over n rows, with weights or none. */
static double mean_score(const nf_model *m, size_t n, const nf_real *x, const double *weight)
{
    double *p = malloc(n * sizeof *p), sum = 0, all = 0;
    cr_assert_eq(nf_log_prob(m, NULL, NULL, n, x, NULL, p), NF_OK);
    for (size_t i = 0; i < n; i++) {
        sum += (weight ? weight[i] : 1) * p[i];
        all += weight ? weight[i] : 1;
    }
    free(p);
    return sum / all;
}

/* L L^T of component k, at (i, j). */
static double covariance(const nf_real *theta, size_t K, size_t D, size_t k, size_t i, size_t j)
{
    const nf_real *s = theta + K + K * D + k * D, *l = theta + K + 2 * K * D + k * D * (D - 1) / 2;
    double sum = 0;
    for (size_t e = 0; e <= (i < j ? i : j); e++) {
        const double a = e == i ? exp((double)s[i]) : (double)l[i * (i - 1) / 2 + e];
        const double b = e == j ? exp((double)s[j]) : (double)l[j * (j - 1) / 2 + e];
        sum += a * b;
    }
    return sum;
}

/* Rows with correlated columns of very different units. */
static nf_real *uneven(size_t n, size_t D)
{
    nf_real *x = normals(8, n * D, 1);
    for (size_t i = 0; i < n; i++)
        for (size_t d = D; d-- > 0;) {
            const double at = (double)x[i * D + d] + (d ? 0.6 * (double)x[i * D + d - 1] : 0);
            x[i * D + d] = (nf_real)((at + 3) * pow(10, (double)d * 3 - 5));
        }
    return x;
}

/* ---- one component ---- */

Test(em, one_component_is_the_closed_form)
{
    enum { N = 301, D = 4 };
    nf_real *x = uneven(N, D);
    double weight[N];
    for (size_t i = 0; i < N; i++)
        weight[i] = i % 7 == 0 ? 0 : 0.3 + (double)(i % 5);
    for (int weighted = 0; weighted < 2; weighted++) {
        const nf_data data = {.n = N, .dim = D, .x = x, .weight = weighted ? weight : NULL};
        nf_model *m = mixture_of(D, 1);
        const double b = 0.03;
        const nf_em_report r = fit(m, &data, &(nf_em_options){.regularisation = b});
        cr_assert(r.converged && r.iterations <= 2 && r.smallest_weight == 1 && r.reseeded == 0, "%zu", r.iterations);
        double mean[D] = {0}, all = 0;
        for (size_t i = 0; i < N; i++)
            all += weighted ? weight[i] : 1;
        for (size_t i = 0; i < N; i++)
            for (size_t d = 0; d < D; d++)
                mean[d] += (weighted ? weight[i] : 1) * (double)x[i * D + d] / all;
        for (size_t c = 0; c < D; c++) {
            near((double)nf_model_theta(m)[1 + c] / mean[c], 1, 100 * rounding, "mean", c);
            for (size_t d = 0; d <= c; d++) {
                double sum = 0;
                for (size_t i = 0; i < N; i++)
                    sum += (weighted ? weight[i] : 1) * ((double)x[i * D + c] - mean[c]) *
                           ((double)x[i * D + d] - mean[d]) / all;
                sum *= c == d ? 1 + b : 1;
                const double unit = pow(10, (double)(c + d) * 3 - 10);
                near(covariance(nf_model_theta(m), 1, D, 0, c, d) / unit, sum / unit, 300 * rounding, "covariance", c);
            }
        }
        near(r.log_likelihood, mean_score(m, N, x, data.weight), 1000 * rounding, "mean log-likelihood", 0);
        nf_model_free(m);
    }
    free(x);
}

/* With S the covariance in units of the columns' deviations and C = S + b I, tr C^-1 S = D - b tr C^-1: the mean square
   of the whitened rows, which is in the log-likelihood, and the penalty are one number. More features than a panel of
   sums or a tile has. */
Test(em, the_penalty_is_that_of_the_covariance)
{
    enum { N = 400, D = 150 };
    nf_real *x = normals(9, N * D, 1);
    for (size_t i = 0; i < N * D; i++)
        x[i] += i % D ? NF_R(0.7) * x[i - 1] : 0;
    const double b = 0.1;
    nf_model *m = mixture_of(D, 1);
    const nf_em_report r = fit(m, &(nf_data){.n = N, .dim = D, .x = x}, &(nf_em_options){.regularisation = b});
    double constant = D * 0.5 * log(2 * M_PI);
    for (size_t d = 0; d < D; d++)
        constant += (double)nf_model_theta(m)[1 + D + d];
    const double square = -2 * (r.log_likelihood + constant);
    cr_assert(square < 0.8 * D, "%g", square);
    near(r.penalty, (D - square) / 2, 1e5 * rounding, "penalty", 0);
    nf_model_free(m);
    free(x);
}

/* ---- a step ---- */

/* The parameters after two iterations are those that the formulas make of the parameters after one. */
Test(em, a_step_is_that_of_the_formulas)
{
    enum { N = 311, D = 2, K = 3 };
    nf_real *x = normals(13, N * D, 1);
    for (size_t i = 0; i < N; i++) {
        x[i * D] = 3 * x[i * D] + NF_R(7);
        x[i * D + 1] += NF_R(0.1) * x[i * D] * x[i * D];
    }
    const double b = 0.02;
    const nf_data data = {.n = N, .dim = D, .x = x};
    nf_model *m[2] = {mixture_of(D, K), mixture_of(D, K)};
    for (size_t k = 0; k < 2; k++) {
        const nf_em_options options = {.iterations = k + 1, .tolerance = NF_ZERO, .regularisation = b};
        cr_assert_eq(fit(m[k], &data, &options).iterations, k + 1);
    }
    const nf_real *theta = nf_model_theta(m[0]), *next = nf_model_theta(m[1]);
    double r[N][K], moment[2][D] = {{0}}, count[K] = {0}, mean[K][D] = {{0}}, all = 0;
    for (size_t i = 0; i < N; i++) {
        double sum = 0;
        for (size_t k = 0; k < K; k++) {
            const double a = covariance(theta, K, D, k, 0, 0), c = covariance(theta, K, D, k, 0, 1),
                         e = covariance(theta, K, D, k, 1, 1), det = a * e - c * c;
            const double u = (double)(x[i * D] - theta[K + k * D]), v = (double)(x[i * D + 1] - theta[K + k * D + 1]);
            r[i][k] = exp((double)theta[k] - 0.5 * (e * u * u - 2 * c * u * v + a * v * v) / det) / sqrt(det);
            sum += r[i][k];
        }
        for (size_t k = 0; k < K; k++) {
            r[i][k] /= sum;
            count[k] += r[i][k];
        }
        for (size_t d = 0; d < D; d++) {
            moment[0][d] += (double)x[i * D + d] / N;
            moment[1][d] += (double)x[i * D + d] * (double)x[i * D + d] / N;
        }
    }
    for (size_t k = 0; k < K; k++)
        all += exp((double)next[k]);
    for (size_t k = 0; k < K; k++) {
        near(exp((double)next[k]) / all, count[k] / N, 1000 * rounding, "weight", k);
        for (size_t i = 0; i < N; i++)
            for (size_t d = 0; d < D; d++)
                mean[k][d] += r[i][k] * (double)x[i * D + d] / count[k];
        for (size_t d = 0; d < D; d++) {
            near((double)next[K + k * D + d], mean[k][d], 1000 * rounding, "mean", k);
            for (size_t e = 0; e <= d; e++) {
                double c = 0;
                for (size_t i = 0; i < N; i++)
                    c += r[i][k] * ((double)x[i * D + d] - mean[k][d]) * ((double)x[i * D + e] - mean[k][e]);
                c += d == e ? b * N / K * (moment[1][d] - moment[0][d] * moment[0][d]) : 0;
                near(covariance(next, K, D, k, d, e), c / count[k], 2000 * rounding, "covariance", k);
            }
        }
    }
    nf_model_free(m[0]);
    nf_model_free(m[1]);
    free(x);
}

Test(em, the_penalised_likelihood_never_falls)
{
    enum { N = 400, D = 3, K = 6, STEPS = NFLOW_THIN ? 8 : 25 };
    nf_real *x = normals(21, N * D, 1);
    for (size_t i = 0; i < N; i++) /* a banana, which no mixture is */
        x[i * D + 1] += x[i * D] * x[i * D];
    const nf_data data = {.n = N, .dim = D, .x = x};
    const double b[] = {1e-6, 0.01, 0.05};
    for (size_t k = 0; k < 3; k++) {
        double before = -INFINITY, first = 0;
        for (size_t steps = 1; steps <= STEPS; steps++) {
            nf_model *m = mixture_of(D, K);
            const nf_em_report r =
                fit(m, &data,
                    &(nf_em_options){
                        .iterations = steps, .tolerance = NF_ZERO, .regularisation = b[k], .restarts = 1, .seed = 5});
            cr_assert((r.converged || r.iterations == steps) && r.reseeded == 0);
            near(r.log_likelihood, mean_score(m, N, x, NULL), 3000 * rounding, "likelihood after step", steps);
            const double now = r.log_likelihood - r.penalty;
            cr_assert(now >= before - 300 * rounding, "step %zu: %.12g after %.12g", steps, now, before);
            before = now;
            first = steps == 1 ? now : first;
            nf_model_free(m);
        }
        cr_assert(before > first + 0.002, "nothing was gained: %g from %g", before, first);
    }
    free(x);
}

/* ---- known mixtures ---- */

static const double known_theta[] = {0.5,  -0.4, 0,    -1.5, 0.7, 2.1,  1.9, 1.4,  -2.2,
                                     -0.9, 0.1,  -0.2, -0.4, 0.2, -0.6, 0.5, -0.4, 0.3};

static nf_model *known(void)
{
    nf_model *m = mixture_of(2, 3);
    cr_assert_eq(nf_model_shape(m)->n_params, sizeof known_theta / sizeof *known_theta);
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        nf_model_theta(m)[i] = (nf_real)known_theta[i] * (i >= 3 && i < 9 ? 3 : 1);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

/* Components are so far apart that the errors of their parameters are those of separate samples. */
Test(em, finds_a_known_mixture)
{
    enum { N = 20000, D = 2, K = 3 };
    nf_model *truth = known(), *m = mixture_of(D, K);
    nf_real *x = reals(N * D), *fresh = reals(N * D);
    cr_assert_eq(nf_sample(truth, NULL, &(nf_noise){.seed = 31}, N, NULL, x, NULL), NF_OK);
    cr_assert_eq(nf_sample(truth, NULL, &(nf_noise){.seed = 32}, N, NULL, fresh, NULL), NF_OK);
    const nf_data data = {.n = N, .dim = D, .x = x};
    const nf_em_report r = fit(m, &data, NULL);
    cr_assert(r.converged && r.reseeded == 0 && r.iterations < 30, "%zu", r.iterations);
    const nf_real *a = nf_model_theta(truth), *t = nf_model_theta(m);
    double all = 0, all_t = 0;
    for (size_t k = 0; k < K; k++) {
        all += exp((double)a[k]);
        all_t += exp((double)t[k]);
    }
    for (size_t k = 0; k < K; k++) {
        size_t at = 0; /* the component found that is nearest */
        double least = INFINITY;
        for (size_t j = 0; j < K; j++) {
            const double far =
                hypot((double)(t[K + j * D] - a[K + k * D]), (double)(t[K + j * D + 1] - a[K + k * D + 1]));
            at = far < least ? j : at;
            least = fmin(far, least);
        }
        const double w = exp((double)a[k]) / all, rows = N * w;
        cr_assert_float_eq(exp((double)t[at]) / all_t, w, 4 * sqrt(w * (1 - w) / N));
        for (size_t i = 0; i < D; i++) {
            const double cii = covariance(a, K, D, k, i, i);
            cr_assert_float_eq((double)t[K + at * D + i], (double)a[K + k * D + i], 4 * sqrt(cii / rows));
            for (size_t j = 0; j <= i; j++) {
                const double cij = covariance(a, K, D, k, i, j), cjj = covariance(a, K, D, k, j, j);
                cr_assert_float_eq(covariance(t, K, D, at, i, j), cij, 4 * sqrt((cii * cjj + cij * cij) / rows),
                                   "covariance %zu (%zu, %zu): %g, not %g", k, i, j, covariance(t, K, D, at, i, j),
                                   cij);
            }
        }
    }
    /* On new rows the fit is worse than the truth by 17 / (2 N) on average, and on its own rows better by as much. */
    double *p = malloc(2 * N * sizeof *p), mean = 0, square = 0;
    cr_assert_eq(nf_log_prob(m, NULL, NULL, N, fresh, NULL, p), NF_OK);
    cr_assert_eq(nf_log_prob(truth, NULL, NULL, N, fresh, NULL, p + N), NF_OK);
    for (size_t i = 0; i < N; i++) {
        mean += (p[i] - p[N + i]) / N;
        square += (p[i] - p[N + i]) * (p[i] - p[N + i]) / N;
    }
    const double error = sqrt((square - mean * mean) / N);
    cr_assert(error < 1e-3);
    cr_assert(mean > -17. / (2 * N) - 4 * error, "%g +- %g", mean, error);
    cr_assert(r.log_likelihood > mean_score(truth, N, x, NULL), "the truth is likelier than the fit");
    free(p), free(x), free(fresh);
    nf_model_free(truth);
    nf_model_free(m);
}

/* Thirty small clusters on a lattice, of unequal weights: centres drawn without regard to distance would miss some. */
Test(em, finds_every_cluster)
{
    enum { SIDE = 6, K = 5 * SIDE, N = 6000, D = 2 };
    nf_model *truth = mixture_of(D, K), *m = mixture_of(D, K);
    nf_real *theta = nf_model_theta(truth), *x = reals(N * D);
    for (size_t k = 0; k < K; k++) {
        theta[k] = (nf_real)(k % 4) * NF_R(0.5);
        theta[K + k * D] = (nf_real)(k % SIDE);
        theta[K + k * D + 1] = (nf_real)(k / SIDE);
        for (size_t d = 0; d < D; d++)
            theta[K + (K + k) * D + d] = NF_R(-2.9);
    }
    cr_assert_eq(nf_model_update(truth, NF_EVAL), NF_OK);
    cr_assert_eq(nf_sample(truth, NULL, &(nf_noise){.seed = 51}, N, NULL, x, NULL), NF_OK);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        const nf_em_report r = fit(m, &(nf_data){.n = N, .dim = D, .x = x}, &(nf_em_options){.seed = seed});
        cr_assert(r.log_likelihood > mean_score(truth, N, x, NULL), "seed %d: %g", (int)seed, r.log_likelihood);
        cr_assert(r.reseeded == 0 && r.smallest_weight > 0.008, "%g", r.smallest_weight);
    }
    free(x);
    nf_model_free(truth);
    nf_model_free(m);
}

/* ---- the same result, however the rows come ---- */

static int read_array(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    (void)ctx;
    const nf_data *d = user;
    for (size_t i = 0; i < count; i++)
        memcpy(x + i * d->dim, d->x + rows[i] * d->dim, d->dim * sizeof *x);
    return 0;
}

/* Several blocks; equal bits for any number of threads, from memory or a source, and under AVX2 and AVX-512. */
Test(em, threads_sources_and_instruction_sets)
{
    enum { D = 100, K = 3, P = K * (1 + D * (D + 3) / 2) };
    const size_t N = NFLOW_THIN ? 10500 : 21000;
    nf_real *x = normals(17, N * D, 1);
    for (size_t i = 0; i < N; i++)
        for (size_t d = 1; d < D; d++)
            x[i * D + d] += NF_R(0.5) * x[i * D + d - 1] + (nf_real)(i % 3);
    nf_data data = {.n = N, .dim = D, .x = x};
    nf_source source = {.read = read_array, .user = &(nf_data){.n = N, .dim = D, .x = x}};
    nf_real *theta = NULL;
    nf_em_report first = {.iterations = 0};
    for (int k = 0; k < (NFLOW_THIN ? 3 : 6); k++) {
        nf_model *m = mixture_of(D, K);
        if (k >= 4 && nf_choose_instruction_set(k == 4 ? "avx2" : "avx512") != NF_OK)
            continue;
        const nf_data rows = {.n = N, .dim = D, .source = &source};
        const size_t threads[] = {1, 2, 3, 7, 2, 2};
        const nf_em_report r =
            fit(m, k == 2 ? &rows : &data,
                &(nf_em_options){.iterations = NFLOW_THIN ? 1 : 2, .threads = threads[k], .restarts = 1});
        cr_assert_eq(nf_model_shape(m)->n_params, P);
        first = k ? first : r;
        theta = theta ? theta : reals(P);
        if (k == 0)
            memcpy(theta, nf_model_theta(m), P * sizeof *theta);
        else if (k < 4 || strncmp(nf_instruction_set(), "avx", 3) == 0)
            same_numbers(P, nf_model_theta(m), theta, "parameter");
        cr_assert_float_eq(r.log_likelihood, first.log_likelihood, NFLOW_THIN ? 1e-9 : 0);
        nf_model_free(m);
    }
    cr_assert_eq(nf_choose_instruction_set(NULL), NF_OK);
    free(theta), free(x);
}

/* A row of weight 2 is two rows, one of weight 0 none, whatever it is; and the sum of the weights does not matter. */
Test(em, weights)
{
    enum { N = 900, D = 2, K = 3, MOST = 2 * N };
    nf_model *truth = known(), *a = mixture_of(D, K), *b = mixture_of(D, K);
    nf_real *x = reals(N * D), *y = reals(MOST * D);
    double weight[N];
    size_t n = 0;
    cr_assert_eq(nf_sample(truth, NULL, &(nf_noise){.seed = 33}, N, NULL, x, NULL), NF_OK);
    for (size_t i = 0; i < N; i++) {
        weight[i] = 7.5 * (double)(i % 3);
        for (size_t k = 0; k < i % 3; k++)
            memcpy(y + D * n++, x + D * i, D * sizeof *y);
        if (i % 3 == 0)
            x[i * D] = NF_R(1e5);
    }
    const nf_em_options options = {.tolerance = 1e-9, .iterations = 500};
    const nf_em_report r = fit(a, &(nf_data){.n = N, .dim = D, .x = x, .weight = weight}, &options);
    const nf_em_report s = fit(b, &(nf_data){.n = n, .dim = D, .x = y}, &options);
    near(r.log_likelihood, s.log_likelihood, 1e-5, "mean log-likelihood", 0);
    near(r.smallest_weight, s.smallest_weight, 1e-3, "smallest weight", 0);
    for (size_t i = 0; i < 20; i++) {
        const nf_real *at = y + D * i;
        near(mean_score(a, 1, at, NULL), mean_score(b, 1, at, NULL), 2e-3, "score", i);
    }
    free(x), free(y);
    nf_model_free(truth);
    nf_model_free(a);
    nf_model_free(b);
}

/* Other units change the fit by the units alone. */
Test(em, units_do_not_matter)
{
    enum { N = 500, D = 2, K = 3 };
    const double scale[D] = {1. / (1 << 20), 1 << 14}, shift[D] = {0, 1 << 17};
    nf_model *truth = known(), *a = mixture_of(D, K), *b = mixture_of(D, K);
    nf_real *x = reals(N * D), *y = reals(N * D);
    cr_assert_eq(nf_sample(truth, NULL, &(nf_noise){.seed = 34}, N, NULL, x, NULL), NF_OK);
    for (size_t i = 0; i < N * D; i++)
        y[i] = (nf_real)(shift[i % D] + scale[i % D] * (double)x[i]);
    const nf_em_report r = fit(a, &(nf_data){.n = N, .dim = D, .x = x}, NULL);
    const nf_em_report s = fit(b, &(nf_data){.n = N, .dim = D, .x = y}, NULL);
    cr_assert_eq(r.iterations, s.iterations);
    cr_assert_float_eq(s.log_likelihood + log(scale[0]) + log(scale[1]), r.log_likelihood, 1e5 * rounding);
    near(s.log_likelihood, mean_score(b, N, y, NULL), 1e5 * rounding, "mean log-likelihood", 0);
    free(x), free(y);
    nf_model_free(truth);
    nf_model_free(a);
    nf_model_free(b);
}

/* ---- degenerate data ---- */

/* Constant columns, copies, all rows equal, one row, as many components as rows, components that lose their rows: a
   finite fit, whose samples are as narrow as the regularisation. */
Test(em, degenerate_data)
{
    enum { N = 60, D = 4 };
    for (int kind = 0; kind < 5; kind++)
        for (size_t K = 1; K <= 5; K += 4) {
            const size_t n = kind == 3 ? K : N;
            nf_real *x = normals(41, N * D, 1), *y = reals(200 * D);
            for (size_t i = 0; i < N; i++) {
                x[i * D + 1] = kind != 4 ? NF_R(0.1) : x[i * D + 1];       /* constant */
                x[i * D + 2] = kind == 1 ? 3 * x[i * D] : x[i * D + 2];    /* a copy */
                for (size_t d = 0; d < D && (kind == 2 || kind == 4); d++) /* equal rows; three places */
                    x[i * D + d] = kind == 2 ? NF_R(0.7) : (nf_real)(i % 3 * (d + 1));
            }
            nf_model *m = mixture_of(D, K);
            const nf_em_report r = fit(m, &(nf_data){.n = n, .dim = D, .x = x}, &(nf_em_options){.seed = 2});
            near(r.log_likelihood, mean_score(m, n, x, NULL), sizeof(nf_real) == 8 ? 1e-7 : 2e-2, "likelihood", K);
            cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 1}, 200, NULL, y, NULL), NF_OK);
            cr_assert(all_finite(200 * D, y));
            for (size_t i = 0; i < 200 && kind < 2; i++) {
                cr_assert_float_eq((double)y[i * D + 1], 0.1, 0.05, "kind %d, %zu: %g", kind, K, (double)y[i * D + 1]);
                if (kind == 1)
                    cr_assert_float_eq((double)y[i * D + 2], 3 * (double)y[i * D], 0.2);
            }
            if (kind == 2 && K > 1)
                cr_assert(r.reseeded > 0);
            free(x), free(y);
            nf_model_free(m);
        }
}

/* ---- refusals ---- */

static int failing(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    (void)rows, (void)ctx;
    for (size_t i = 0; i < 2 * count; i++)
        x[i] = user ? (nf_real)NAN : 0;
    return user ? 0 : 7;
}

Test(em, refusals)
{
    const nf_real x[8] = {1, 2, 3, 5, 4, 8, 5, 1}, broken[8] = {1, 2, 3, (nf_real)NAN};
    const double weight[4] = {1, 0, 0, 1}, negative[4] = {1, -1, 1, 1};
    nf_model *m = mixture_of(2, 3), *other = nf_model_of_dist(nf_mixture(2, 3), NULL);
    const nf_data data = {.n = 4, .dim = 2, .x = x}, wide = {.n = 2, .dim = 4, .x = x},
                  few = {.n = 2, .dim = 2, .x = x};
    nf_em_report r;
    nf_real *before = reals(nf_model_shape(m)->n_params);
    memcpy(before, nf_model_theta(m), nf_model_shape(m)->n_params * sizeof *before);
    expect(nf_fit_mixture(NULL, &data, NULL, &r), NF_EARG, "`model`");
    expect(nf_fit_mixture(m, NULL, NULL, &r), NF_EARG, "nf_fit_mixture: data is NULL");
    expect(nf_fit_mixture(other, &data, NULL, &r), NF_EARG, "the model is of `mixture`, but must be");
    expect(nf_fit_mixture(m, &wide, NULL, &r), NF_EDIM, "data has 4 columns and 0 of context, but the model 2 and 0");
    expect(nf_fit_mixture(m, &few, NULL, &r), NF_EARG, "data has 2 rows, but the mixture 3 components");
    nf_data d = data;
    d.weight = weight;
    expect(nf_fit_mixture(m, &d, NULL, &r), NF_EARG, "2 rows with a weight");
    d.weight = negative;
    expect(nf_fit_mixture(m, &d, NULL, &r), NF_EARG, "data->weight is -1 in row 1");
    d = data;
    d.x = broken;
    expect(nf_fit_mixture(m, &d, NULL, &r), NF_EARG, "row 1, column 1");
    d = (nf_data){.n = 4, .dim = 2};
    expect(nf_fit_mixture(m, &d, NULL, &r), NF_EARG, "neither");
    nf_source source = {.read = failing};
    d.source = &source;
    expect(nf_fit_mixture(m, &d, NULL, &r), NF_EIO, "returned 7");
    source.user = &source;
    expect(nf_fit_mixture(m, &d, NULL, &r), NF_ENOTFINITE, "column 0 has no finite variance");
    expect(nf_fit_mixture(m, &data, &(nf_em_options){.tolerance = 2000}, &r), NF_EARG, "tolerance");
    expect(nf_fit_mixture(m, &data, &(nf_em_options){.tolerance = NAN}, &r), NF_EARG, "tolerance");
    expect(nf_fit_mixture(m, &data, &(nf_em_options){.regularisation = 1.5}, &r), NF_EARG, "regularisation");
    expect(nf_fit_mixture(m, &data, &(nf_em_options){.regularisation = NF_ZERO}, &r), NF_EARG, "regularisation");
    same_numbers(nf_model_shape(m)->n_params, nf_model_theta(m), before, "parameter");
    cr_assert_eq(nf_fit_mixture(m, &data, NULL, NULL), NF_OK);
    free(before);
    nf_model_free(m);
    nf_model_free(other);
}
