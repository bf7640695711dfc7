/* Mixtures of normals with full covariances: one component is nf_full_normal, without what is below the diagonal they
   are nf_mixture, draws have the mixture's mean and covariance, far and collapsed inputs, refusals. The conformance
   rows have the gradients. */
#include "expect.h"
#include "model/batch.h"
#include "numbers.h"
#include <nflow/nflow.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, largest = 3.4e38;
#else
static const double rounding = 2.3e-16, largest = 1.7e308;
#endif

/* A model with these parameters beside N(0, scale^2) noise. */
static nf_model *model_of(nf_dist *q, double scale)
{
    nf_model *m = nf_model_of_dist(q, &(nf_model_options){.seed = 7});
    cr_assert_not_null(m, "%s", nf_error_message());
    draw(11, nf_model_shape(m)->n_params, scale, nf_model_theta(m));
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

static void put(nf_model *m, size_t at, const nf_real *from, size_t n)
{
    memcpy(nf_model_theta(m) + at, from, n * sizeof *from);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
}

enum { N = 70 };

Test(gaussian_mixture, of_one_component_is_the_full_normal)
{
    for (size_t dim = 1; dim <= 19; dim += 3) {
        nf_model *one = model_of(nf_full_normal(dim), 0.4), *m = model_of(nf_gaussian_mixture(dim, 1), 1);
        const size_t P = dim * (dim + 3) / 2;
        cr_assert_eq(nf_model_shape(m)->n_params, P + 1);
        put(m, 1, nf_model_theta(one), P);
        nf_real *x = normals(3, N * dim, 1.7), *gx = reals(N * dim), *gy = reals(N * dim), *g = reals(P),
                *h = reals(P + 1);
        double p[N], q[N];
        cr_assert_eq(nf_log_prob(one, NULL, NULL, N, x, NULL, p), NF_OK);
        cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, q), NF_OK);
        nf_data data = {.n = N, .dim = dim, .x = x};
        nf_objective *a = nf_maximum_likelihood(one, &data, &(nf_likelihood_options){.batch = N});
        nf_objective *b = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = N});
        cr_assert_eq(nf_objective_gradient(a, NULL, 1, 0, NULL, g), NF_OK);
        cr_assert_eq(nf_objective_gradient(b, NULL, 1, 0, NULL, h), NF_OK);
        for (size_t i = 0; i < N; i++)
            near(q[i], p[i], 1000 * rounding, "score", i);
        cr_assert_float_eq(h[0], 0, 100 * rounding);
        for (size_t i = 0; i < P; i++)
            near((double)h[1 + i], (double)g[i], 1e4 * rounding, "gradient", i);
        nf_objective_free(a);
        nf_objective_free(b);
        nf_model_free(one);
        nf_model_free(m);
        free(x), free(gx), free(gy), free(g), free(h);
    }
}

Test(gaussian_mixture, without_correlations_is_the_diagonal_mixture)
{
    enum { D = 5, K = 3 };
    nf_model *diagonal = model_of(nf_mixture(D, K), 0.6), *m = model_of(nf_gaussian_mixture(D, K), 0);
    put(m, 0, nf_model_theta(diagonal), K + 2 * K * D);
    nf_real *x = normals(5, N * D, 2);
    double p[N], q[N];
    cr_assert_eq(nf_log_prob(diagonal, NULL, NULL, N, x, NULL, p), NF_OK);
    cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, q), NF_OK);
    for (size_t i = 0; i < N; i++)
        near(q[i], p[i], 200 * rounding, "score", i);
    nf_model_free(diagonal);
    nf_model_free(m);
    free(x);
}

/* L_ij of component k. */
static double factor(const nf_real *theta, size_t K, size_t D, size_t k, size_t i, size_t j)
{
    if (i == j)
        return exp((double)theta[K + K * D + k * D + i]);
    return j > i ? 0 : (double)theta[K + 2 * K * D + k * D * (D - 1) / 2 + i * (i - 1) / 2 + j];
}

/* Means of x_i and x_i x_j over draws, in standard errors. */
Test(gaussian_mixture, draws_have_its_moments)
{
    enum { D = 4, K = 3, DRAWS = 40000 };
    nf_model *m = model_of(nf_gaussian_mixture(D, K), 0.8);
    const nf_real *theta = nf_model_theta(m);
    nf_real *x = reals(DRAWS * D);
    double *log_q = malloc(DRAWS * sizeof *log_q), *again = malloc(DRAWS * sizeof *again), all = 0;
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 12}, DRAWS, NULL, x, log_q), NF_OK);
    cr_assert_eq(nf_log_prob(m, NULL, NULL, DRAWS, x, NULL, again), NF_OK);
    for (size_t k = 0; k < K; k++)
        all += exp((double)theta[k]);
    for (size_t i = 0; i < DRAWS; i++)
        near(log_q[i], again[i], 1000 * rounding, "score of draw", i);
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j <= D; j++) { /* j = D: the mean of x_i itself */
            double exact = 0, mean = 0, square = 0;
            for (size_t k = 0; k < K; k++) {
                const double mi = (double)theta[K + k * D + i], mj = j < D ? (double)theta[K + k * D + j] : 1;
                double moment = mi * mj;
                for (size_t e = 0; e < D && j < D; e++)
                    moment += factor(theta, K, D, k, i, e) * factor(theta, K, D, k, j, e);
                exact += exp((double)theta[k]) / all * moment;
            }
            for (size_t r = 0; r < DRAWS; r++) {
                const double v = (double)x[r * D + i] * (j < D ? (double)x[r * D + j] : 1);
                mean += v / DRAWS;
                square += v * v / DRAWS;
            }
            const double error = sqrt((square - mean * mean) / DRAWS);
            cr_assert(error < 0.2, "%g", error);
            cr_assert_float_eq(mean, exact, 4.5 * error, "%zu, %zu: %g +- %g, not %g", i, j, mean, error, exact);
        }
    free(x), free(log_q), free(again);
    nf_model_free(m);
}

/* Huge and tiny inputs have a finite score or -infinity; gradients are finite up to where they overflow. */
Test(gaussian_mixture, far_inputs)
{
    enum { D = 3, K = 2 };
    nf_model *m = model_of(nf_gaussian_mixture(D, K), 0.5);
    nf_model_theta(m)[K + K * D] = -30; /* a component that is nearly flat in a direction */
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    const double sizes[] = {0, 1e-300, 1e-38, 1e-5, 1, 1e3, 1e10, 1e18, 1e30, largest, INFINITY};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int sign = 0; sign < 8; sign++) {
            nf_real x[D], gx[D];
            double p;
            for (int d = 0; d < D; d++)
                x[d] = (nf_real)(sign & (1 << d) ? -sizes[i] : sizes[i]);
            cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, x, NULL, &p), NF_OK);
            cr_assert(p < INFINITY, "%g at %g, signs %d", p, sizes[i], sign);
            if (sizes[i] < 1e15) {
                cr_assert(isfinite(p));
                cr_assert_eq(nf_log_prob_gradient(m, NULL, NULL, 1, x, NULL, &p, gx, NULL), NF_OK);
                cr_assert(all_finite(D, gx), "at %g", sizes[i]);
            }
        }
    nf_model_free(m);
}

/* NaN is not far away: a layer that has no result for a sample gives it. */
Test(gaussian_mixture, not_a_number)
{
    enum { D = 3, LD = 16 };
    nf_model *m = model_of(nf_gaussian_mixture(D, 2), 0.5);
    nfi_thread memory = {.tape = {.n_chunks = 0}};
    for (size_t d = 0; d < D; d++) {
        const nf_pass p = nfi_model_pass(m, &memory, &(nf_noise){.seed = 5}, 0, LD, LD, NF_EVAL, false);
        nf_real x[D * LD];
        double log_q[LD] = {0};
        void *saved = NULL;
        draw(7, D * LD, 1, x);
        x[d * LD + 3] = (nf_real)NAN;
        cr_assert_eq(nf_dist_score(nf_model_object(m), &p, x, log_q, &saved), NF_OK);
        for (size_t s = 0; s < LD; s++)
            cr_assert_eq(isnan(log_q[s]) != 0, s == 3, "%zu: %g", s, log_q[s]);
    }
    nfi_arena_clear(&memory.scratch);
    nf_model_free(m);
}

/* A component without a weight has no part in anything, even where its own solve overflows. */
Test(gaussian_mixture, a_component_that_overflows_leaves_the_others)
{
    enum { D = 2 };
    const double s = sizeof(nf_real) == 8 ? -700 : -80;
    const double theta[2 * (1 + D * (D + 3) / 2)] = {0, 0, 0, 0, 5, 5, 0, 0, s, s, 0.3, -0.7};
    nf_model *m = nf_model_of_dist(nf_gaussian_mixture(D, 2), NULL);
    for (size_t i = 0; i < sizeof theta / sizeof *theta; i++)
        nf_model_theta(m)[i] = (nf_real)theta[i];
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    const nf_real x[D] = {NF_R(1e6), NF_R(-1e6)};
    nf_real gx[D], g[sizeof theta / sizeof *theta];
    double p;
    cr_assert_eq(nf_log_prob_gradient(m, NULL, NULL, 1, x, NULL, &p, gx, NULL), NF_OK);
    near(p, -0.5 * (1e12 + 1.69e12) - log(2 * M_PI) - log(2), 1e-6, "score", 0);
    const double z[D] = {1e6, -1e6 - 0.3e6}, back[D] = {z[0] - 0.3 * z[1], z[1]};
    for (size_t d = 0; d < D; d++)
        near((double)gx[d], -back[d], 1e-6, "gradient", d);
    const nf_data data = {.n = 1, .dim = D, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, NULL);
    cr_assert_eq(nf_objective_gradient(o, NULL, 1, 0, NULL, g), NF_OK, "%s", nf_error_message());
    cr_assert(all_finite(sizeof theta / sizeof *theta, g));
    nf_objective_free(o);
    nf_model_free(m);
}

Test(gaussian_mixture, arguments)
{
    expect_none(nf_gaussian_mixture(0, 2), NF_EARG, "nf_gaussian_mixture: 2 components in 0 dimensions");
    expect_none(nf_gaussian_mixture(2, 0), NF_EARG, "nf_gaussian_mixture: 0 components");
    expect_none(nf_gaussian_mixture(SIZE_MAX / 2, 1), NF_EARG, "nf_gaussian_mixture: 1 components");
    expect_none(nf_gaussian_mixture((size_t)1 << 31, (size_t)1 << 8), NF_EARG, "nf_gaussian_mixture: 256 components");
    expect_none(nf_gaussian_mixture(1, (size_t)UINT32_MAX + 1), NF_EARG, "nf_gaussian_mixture: 4294967296 components");
}
