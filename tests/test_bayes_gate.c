/* The gate of the example `bayes`: what passes and what does not, weights, quantiles, heavy tails. */
#include "gate.h"
#include "numbers.h"
#include <gsl/gsl_cdf.h>

enum { N = 4000, K = 3 };
static const char *const names[K] = {"mu", "theta.1", "theta.2"};

/* Reference draws [N x K] of N(1, 1), N(-20, 3^2) and an exponential law, in the order of the names. */
static reference_draws new_reference(uint64_t seed)
{
    reference_draws r = {.n = N, .k = K};
    nf_real *z = normals(seed, N * K, 1);
    r.name = calloc(K, sizeof *r.name);
    r.x = calloc(N * K, sizeof *r.x);
    cr_assert(r.name && r.x);
    for (size_t j = 0; j < K; j++)
        strcpy(r.name[j], names[j]);
    for (size_t i = 0; i < N; i++) {
        r.x[i * K] = 1 + (double)z[i * K];
        r.x[i * K + 1] = -20 + 3 * (double)z[i * K + 1];
        r.x[i * K + 2] = -log(gsl_cdf_ugaussian_P((double)z[i * K + 2]));
    }
    free(z);
    return r;
}

static gate judged(const reference_draws *r, size_t n, const double *x, const double *weight)
{
    gate g;
    cr_assert_eq(gate_draws(&g, r, n, K, names, x, weight), NF_OK, "%s", nf_error_message());
    cr_assert_eq(g.n, K);
    return g;
}

Test(gate, the_reference_itself_passes)
{
    reference_draws r = new_reference(1), other = new_reference(2);
    gate g = judged(&r, N, r.x, NULL);
    cr_expect(g.passed);
    cr_expect_eq(g.n_heavy, 0);
    cr_expect_eq(g.mean.worst, 0);
    cr_expect_eq(g.sd.worst, 0);
    gate_free(&g);
    g = judged(&r, N, other.x, NULL); /* other draws of the same law */
    cr_expect(g.passed);
    cr_expect_gt(g.mean.worst, 0);
    gate_free(&g);
    reference_free(&r);
    reference_free(&other);
}

/* theta.1 is moved by `shift` and stretched by `scale`, both of its sd's. */
static void one_is_off(double shift, double scale, bool passes)
{
    reference_draws r = new_reference(1), d = new_reference(1);
    gate g = judged(&r, N, r.x, NULL);
    const double mean = g.column[1].reference.mean, sd = g.column[1].reference.sd;
    gate_free(&g);
    for (size_t i = 0; i < N; i++)
        d.x[i * K + 1] = mean + shift * sd + scale * (r.x[i * K + 1] - mean);
    g = judged(&r, N, d.x, NULL);
    cr_expect_eq(g.passed, passes, "shift %g, scale %g", shift, scale);
    cr_expect_float_eq(g.column[1].mean_error, fabs(shift), 1e-12);
    cr_expect_float_eq(g.column[1].sd_error, fabs(scale - 1), 1e-12);
    cr_expect_float_eq(g.mean.worst, fabs(shift), 1e-12);
    cr_expect_float_eq(g.sd.worst, fabs(scale - 1), 1e-12);
    if (shift != 0)
        cr_expect_str_eq(g.mean.of, "theta.1");
    cr_expect_float_eq(g.mean.median, 0, 1e-12); /* of three, two are right */
    gate_free(&g);
    reference_free(&r);
    reference_free(&d);
}

Test(gate, a_parameter_that_is_off)
{
    one_is_off(0.14, 1, true);
    one_is_off(-0.14, 1, true);
    one_is_off(0.16, 1, false);
    one_is_off(-0.16, 1, false);
    one_is_off(0, 1.14, true);
    one_is_off(0, 1.16, false);
    one_is_off(0, 0.84, false);
}

/* All are off by less than 0.15: the median decides. */
Test(gate, parameters_that_are_all_off)
{
    for (int scaled = 0; scaled < 2; scaled++)
        for (int far = 0; far < 2; far++) {
            reference_draws r = new_reference(1), d = new_reference(1);
            gate g = judged(&r, N, r.x, NULL);
            for (size_t i = 0; i < N * K; i++) {
                const gate_column *c = &g.column[i % K];
                const double by = far ? 0.06 : 0.04;
                d.x[i] += by * (scaled ? d.x[i] - c->reference.mean : c->reference.sd);
            }
            gate_free(&g);
            g = judged(&r, N, d.x, NULL);
            cr_expect_eq(g.passed, !far);
            gate_free(&g);
            reference_free(&r);
            reference_free(&d);
        }
}

/* A draw of weight w counts as w equal draws, one of weight 0 not at all; columns are found by their names. */
Test(gate, weights_and_names)
{
    static const char *const order[4] = {"other", "theta.2", "mu", "theta.1"};
    static const size_t column[4] = {K, 2, 0, 1};
    enum { M = 3000 };
    reference_draws r = new_reference(1);
    double *few = calloc(4 * M, sizeof *few), *many = calloc(12 * M, sizeof *many), weight[M];
    size_t n = 0;
    for (size_t i = 0; i < M; i++) {
        const size_t times = i % 4;
        weight[i] = (double)times;
        for (size_t j = 0; j < 4; j++)
            few[4 * i + j] = times == 0 ? NAN : column[j] < K ? r.x[i * K + column[j]] : 7;
        for (size_t k = 0; k < times; k++)
            memcpy(many + 4 * n++, few + 4 * i, 4 * sizeof *few);
    }
    gate a, b;
    cr_assert_eq(gate_draws(&a, &r, M, 4, order, few, weight), NF_OK, "%s", nf_error_message());
    cr_assert_eq(gate_draws(&b, &r, n, 4, order, many, NULL), NF_OK, "%s", nf_error_message());
    for (size_t j = 0; j < K; j++) {
        cr_expect_str_eq(a.column[j].name, names[j]);
        cr_expect_float_eq(a.column[j].draws.mean, b.column[j].draws.mean, 1e-12 * fabs(b.column[j].draws.mean));
        cr_expect_float_eq(a.column[j].draws.sd, b.column[j].draws.sd, 1e-3 * b.column[j].draws.sd);
        cr_expect_lt(a.column[j].mean_error, 0.2);
        for (size_t q = 0; q < NF_QUANTILES; q++) /* between two draws quantiles depend on where these stand */
            cr_expect_float_eq(a.column[j].quantile_error[q], b.column[j].quantile_error[q], 0.02);
    }
    gate_free(&a);
    gate_free(&b);
    free(few);
    free(many);
    reference_free(&r);
}

/* mu becomes Student's t with df degrees of freedom, at evenly spaced probabilities. */
static reference_draws heavy_reference(double df)
{
    reference_draws r = new_reference(1);
    for (size_t i = 0; i < N; i++)
        r.x[i * K] = 3 + gsl_cdf_tdist_Pinv(((double)i + 0.5) / N, df);
    return r;
}

Test(gate, tail_indices)
{
    static const double df[4] = {1, 1.5, 3, 30};
    for (size_t i = 0; i < 4; i++) {
        reference_draws r = heavy_reference(df[i]);
        gate g = judged(&r, N, r.x, NULL);
        cr_expect_eq(g.column[0].heavy, df[i] <= 2, "df %g: tail index %g", df[i], g.column[0].reference.tail_index);
        if (df[i] < 2)
            cr_expect_float_eq(g.column[0].reference.tail_index, df[i], 0.1 * df[i], "df %g: tail index %g", df[i],
                               g.column[0].reference.tail_index);
        cr_expect_eq(g.n_heavy, df[i] <= 2);
        cr_expect_geq(g.column[1].reference.tail_index, 3, "normal: tail index %g", g.column[1].reference.tail_index);
        gate_free(&g);
        reference_free(&r);
    }
}

/* The largest draw at 1e7 ruins mean and sd, and says nothing of a law that has no sd. Quantiles are those of t with
   one degree of freedom: 3 + tan(pi (p - 1/2)), whose interquartile range is 2. */
Test(gate, heavy_tails_are_judged_by_quantiles)
{
    reference_draws r = heavy_reference(1), d = heavy_reference(1);
    d.x[(N - 1) * K] = 1e7;
    gate g = judged(&r, N, d.x, NULL);
    cr_expect(g.passed);
    cr_expect_gt(g.column[0].mean_error, 0.15);
    cr_expect_lt(g.quantile.worst, 1e-12);
    gate_free(&g);
    for (size_t i = 0; i < N; i++)
        d.x[i * K] = r.x[i * K] + 2 * 0.06; /* above the median's bound */
    g = judged(&r, N, d.x, NULL);
    cr_expect(!g.passed);
    cr_expect_float_eq(g.quantile.median, 0.06, 1e-3);
    cr_expect_str_eq(g.quantile.of, "mu");
    gate_free(&g);
    for (size_t i = 0; i < N; i++)
        d.x[i * K] = 3 + 1.04 * (r.x[i * K] - 3); /* 0.04 times 6.3 / 2 at 5 and 95 % */
    g = judged(&r, N, d.x, NULL);
    cr_expect(g.passed);
    cr_expect_float_eq(g.quantile.worst, 0.04 * tan(M_PI * 0.45) / 2, 1e-3);
    gate_free(&g);
    for (size_t i = 0; i < N; i++)
        d.x[i * K] = 3 + 1.06 * (r.x[i * K] - 3);
    g = judged(&r, N, d.x, NULL);
    cr_expect(!g.passed);
    gate_free(&g);
    reference_free(&r);
    reference_free(&d);
}

Test(gate, refusals)
{
    reference_draws r = new_reference(1);
    double x[2 * K] = {1, 2, 3, 4, 5, 6}, bad[2 * K] = {1, 2, 3, 4, NAN, 6}, none[2] = {0, 0}, negative[2] = {1, -1};
    gate g;
    cr_expect_eq(gate_draws(&g, &r, 0, K, names, x, NULL), NF_EARG);
    cr_expect_eq(gate_draws(&g, &r, 2, K - 1, names, x, NULL), NF_EARG);
    cr_expect(strstr(nf_error_message(), "theta.2"), "%s", nf_error_message());
    cr_expect_eq(gate_draws(&g, &r, 2, K, names, bad, NULL), NF_EARG);
    cr_expect(strstr(nf_error_message(), "theta.1"), "%s", nf_error_message());
    cr_expect_eq(gate_draws(&g, &r, 2, K, names, x, none), NF_EARG);
    cr_expect_eq(gate_draws(&g, &r, 2, K, names, x, negative), NF_EARG);
    reference_free(&r);
}

/* Every posterior of the folder: each half of its draws beside the whole. */
Test(gate, halves_of_reference_draws)
{
    static const char *const posterior[] = {"arK-arK",
                                            "diamonds-diamonds",
                                            "eight_schools-eight_schools_noncentered",
                                            "garch-garch11",
                                            "gp_pois_regr-gp_regr",
                                            "hmm_example-hmm_example",
                                            "hudson_lynx_hare-lotka_volterra",
                                            "kidiq-kidscore_interaction",
                                            "low_dim_gauss_mix-low_dim_gauss_mix",
                                            "mesquite-logmesquite",
                                            "nes1972-nes",
                                            "sblri-blr"};
    const char *folder = getenv("NFLOW_DATA");
    if (!folder)
        cr_skip("NFLOW_DATA is not set: there are no reference draws");
    for (size_t i = 0; i < sizeof posterior / sizeof *posterior; i++) {
        reference_draws r;
        cr_assert_eq(reference_read(&r, folder, posterior[i]), NF_OK, "%s", nf_error_message());
        const char *name[64];
        for (size_t j = 0; j < r.k; j++)
            name[j] = r.name[j];
        for (size_t half = 0; half < 2; half++) {
            gate g;
            cr_assert_eq(gate_draws(&g, &r, r.n / 2, r.k, name, r.x + half * (r.n / 2) * r.k, NULL), NF_OK);
            cr_expect(g.passed, "%s: %s %g, %s %g", posterior[i], g.mean.of, g.mean.worst, g.sd.of, g.sd.worst);
            cr_expect_eq(g.n_heavy, 0, "%s", posterior[i]);
            gate_free(&g);
        }
        reference_free(&r);
    }
}
