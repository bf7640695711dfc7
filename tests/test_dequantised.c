/* nf_dequantised: its scores are an unbiased estimate of probabilities that are known, the gradient with the noise
   held, what it draws, where its parts begin, numbers that are none, refusals. */
#include "support/expect.h"
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LEVELS = 6 };
static const bool is_float = sizeof(nf_real) == sizeof(float);

/* Noise that a net draws for each x: a logistic pushed into the unit interval, uniform before the net moves it. */
static nf_dist *learnt_noise(size_t dim, size_t n_ctx)
{
    const size_t hidden[] = {5};
    nf_net *head = nf_mlp(dim + n_ctx, 2 * dim, 0,
                          &(nf_mlp_options){.hidden = hidden, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.5});
    static const double zeros[3] = {0, 0, 0}, ones[3] = {1, 1, 1};
    return nf_pushforward(nf_pushforward(nf_logistic(dim), nf_amortized(nf_affine(dim), head)),
                          nf_bounds(dim, zeros, ones));
}

/* The same with convolutions, of an image that is a row of pixels. */
static nf_dist *image_noise(size_t dim, size_t n_ctx)
{
    const nf_conv_options net = {.hidden = (size_t[]){2}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.5};
    return nf_image_dequantiser((nf_image){1, 1, dim},
                                &(nf_image_dequantiser_options){.n_ctx = n_ctx, .n_layers = 3, .net = &net});
}

static nf_dist *unit_noise(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_uniform(dim, 0, 1);
}

static nf_model *model_of(nf_dist *q)
{
    nf_model *m = nf_model_of_dist(q, &(nf_model_options){.seed = 8});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* A logistic density around 0.45 with scale 0.2, and the probability of each whole number below it. */
static nf_dist *logistic_density(size_t dim)
{
    return nf_pushforward(nf_logistic(dim), nf_affine(dim));
}

static void set_logistic(nf_model *m)
{
    memcpy(nf_model_theta(m), (nf_real[]){NF_R(0.45), (nf_real)log(0.2)}, 2 * sizeof(nf_real));
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
}

static double logistic_cdf(double v)
{
    return 1 / (1 + exp(-(v - 0.45) / 0.2));
}

/* E exp(score) = P(x), for any noise: an importance-sampling identity. */
Test(dequantised, scores_estimate_probabilities)
{
    enum { DRAWS = 20000 };
    nf_real *x = reals(DRAWS);
    double *log_p = calloc(DRAWS, sizeof *log_p);
    nf_dist *(*const noises[])(size_t, size_t) = {unit_noise, learnt_noise, image_noise};
    for (int which = 0; which < 3; which++) {
        nf_model *m = model_of(nf_dequantised(logistic_density(1), noises[which](1, 0),
                                              &(nf_dequantised_options){.levels = LEVELS, .step = 0.5}));
        set_logistic(m);
        for (int k = 0; k < LEVELS; k++) {
            const double wanted = logistic_cdf((k + 1.) / LEVELS) - logistic_cdf((double)k / LEVELS);
            double sum = 0, squares = 0, bound = 0;
            for (size_t i = 0; i < DRAWS; i++)
                x[i] = (nf_real)(0.5 * k);
            cr_assert_eq(nf_log_prob(m, NULL, &(nf_noise){.seed = 3, .step = (uint64_t)k}, DRAWS, x, NULL, log_p),
                         NF_OK);
            for (size_t i = 0; i < DRAWS; i++) {
                const double p = exp(log_p[i]);
                sum += p / DRAWS;
                squares += p * p / DRAWS;
                bound += log_p[i] / DRAWS;
            }
            const double se = sqrt((squares - sum * sum) / DRAWS);
            cr_assert_float_eq(sum, wanted, 4 * se + 1e-6, "P(%d) is %g +- %g, not %g", k, sum, se, wanted);
            cr_assert_lt(bound, log(wanted) + 4 * se / wanted + 1e-6, "the mean of scores is a lower bound");
        }
        nf_model_free(m);
    }
    free(x), free(log_p);
}

/* ---- gradients: the noise of a step is held, so differences see the same draws ---- */

enum { DIM = 3, CTX = 2, ROWS = 40 };

static double loss_of(nf_objective *o)
{
    nf_step_report report;
    cr_assert_eq(nf_model_update(nf_objective_model(o), NF_TRAIN), NF_OK);
    cr_assert_eq(nf_objective_value(o, NULL, 5, 6, &report), NF_OK, "%s", nf_error_message());
    return report.loss;
}

static void check_gradient(nf_dist *noise_part)
{
    nf_real x[ROWS * DIM], *ctx = normals(4, ROWS * CTX, 1);
    for (size_t i = 0; i < ROWS * DIM; i++)
        x[i] = (nf_real)(i * 7 % LEVELS);
    nf_net *head = nf_mlp(CTX, 2 * DIM, 0, &(nf_mlp_options){.last_scale = 0.5});
    nf_dist *density = nf_pushforward(nf_conditional_normal(DIM, head), nf_full_affine(DIM));
    nf_model *m = model_of(nf_dequantised(density, noise_part, &(nf_dequantised_options){.levels = LEVELS, .step = 1}));
    const nf_data data = {.n = ROWS, .dim = DIM, .x = x, .n_ctx = CTX, .ctx = ctx};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = ROWS});
    cr_assert_not_null(o, "%s", nf_error_message());
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *g = reals(n), *theta = nf_model_theta(m), g_x[ROWS * DIM], *g_ctx = reals(ROWS * CTX);
    nf_step_report report;
    cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
    cr_assert_eq(nf_objective_gradient(o, NULL, 5, 6, &report, g), NF_OK, "%s", nf_error_message());
    const double h = is_float ? 2e-2 : 1e-4, tolerance = is_float ? 2e-2 : 1e-6;
    for (size_t i = 0; i < n; i++) {
        const nf_real was = theta[i];
        theta[i] = (nf_real)((double)was + h);
        const double above = loss_of(o);
        theta[i] = (nf_real)((double)was - h);
        const double below = loss_of(o);
        theta[i] = was;
        near((double)g[i], (above - below) / (2 * h), tolerance, "parameter", i);
    }
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    const nf_noise noise = {.seed = 2};
    double log_p[ROWS];
    cr_assert_eq(nf_log_prob_gradient(m, NULL, &noise, ROWS, x, ctx, log_p, g_x, g_ctx), NF_OK, "%s",
                 nf_error_message());
    for (size_t i = 0; i < ROWS * DIM; i++)
        cr_assert_float_eq((double)g_x[i], 0, 0);
    for (size_t i = 0; i < ROWS * CTX; i += 3) {
        double side[2][ROWS];
        const nf_real was = ctx[i];
        for (int k = 0; k < 2; k++) {
            ctx[i] = (nf_real)((double)was + (k ? h : -h));
            cr_assert_eq(nf_log_prob(m, NULL, &noise, ROWS, x, ctx, side[k]), NF_OK);
        }
        ctx[i] = was;
        near((double)g_ctx[i], (side[1][i / CTX] - side[0][i / CTX]) / (2 * h), is_float ? 5e-2 : 1e-6, "context", i);
    }
    nf_objective_free(o);
    nf_model_free(m);
    free(ctx), free(g), free(g_ctx);
}

Test(dequantised, gradient_with_the_noise_held)
{
    check_gradient(learnt_noise(DIM, CTX));
    check_gradient(image_noise(DIM, CTX));
}

/* ---- draws ---- */

Test(dequantised, draws_whole_numbers)
{
    enum { DRAWS = 30000 };
    nf_model *m =
        model_of(nf_dequantised(logistic_density(1), nf_uniform(1, 0, 1), &(nf_dequantised_options){.levels = LEVELS}));
    set_logistic(m);
    nf_real *x = reals(DRAWS);
    double *log_q = calloc(DRAWS, sizeof *log_q), *log_p = calloc(DRAWS, sizeof *log_p);
    size_t count[LEVELS] = {0};
    const nf_noise noise = {.seed = 12};
    cr_assert_eq(nf_sample(m, NULL, &noise, DRAWS, NULL, x, log_q), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_log_prob(m, NULL, &noise, DRAWS, x, NULL, log_p), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < DRAWS; i++) {
        const double k = (double)x[i] * (LEVELS - 1); /* the default: from 0 to 1 */
        cr_assert_float_eq(k, nearbyint(k), 1e-5, "%g", k);
        cr_assert(k > -0.5 && k < LEVELS - 0.5);
        count[(size_t)nearbyint(k)]++;
        cr_assert_float_eq(log_q[i], log_p[i], 0, "a draw's log q is its score");
    }
    for (int k = 0; k < LEVELS; k++) { /* what is beyond the ends is drawn as the ends */
        const double p =
            (k == LEVELS - 1 ? 1 : logistic_cdf((k + 1.) / LEVELS)) - (k ? logistic_cdf((double)k / LEVELS) : 0);
        cr_assert_float_eq((double)count[k] / DRAWS, p, 4 * sqrt(p * (1 - p) / DRAWS), "%d: %zu", k, count[k]);
    }
    cr_assert_null(nf_target_of_model(m, NULL)); /* a target that would draw noise */
    cr_assert_eq(nf_error_status(), NF_EUNSUPPORTED);
    nf_model_free(m);
    free(x), free(log_q), free(log_p);
}

/* ---- the start ---- */

Test(dequantised, the_density_begins_from_filled_gaps)
{
    enum { N = 3000 };
    nf_real *x = reals(N);
    double mean = 0, squares = 0, sum = 0, *log_p = calloc(N, sizeof *log_p);
    for (size_t i = 0; i < N; i++) {
        x[i] = (nf_real)(i * i % 7 % LEVELS);
        mean += (double)x[i] / N;
        squares += (double)x[i] * (double)x[i] / N;
    }
    nf_model *m = nf_model_of_dist(nf_dequantised(nf_pushforward(nf_normal(1), nf_actnorm(1)), learnt_noise(1, 0),
                                                  &(nf_dequantised_options){.levels = LEVELS, .step = 1}),
                                   &(nf_model_options){.n_init = N, .init_x = x});
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_model *uniform =
        nf_model_of_dist(nf_dequantised(nf_pushforward(nf_normal(1), nf_actnorm(1)), nf_uniform(1, 0, 1),
                                        &(nf_dequantised_options){.levels = LEVELS, .step = 1}),
                         &(nf_model_options){.n_init = N, .init_x = x});
    cr_assert_not_null(uniform, "%s", nf_error_message());
    cr_assert_eq(nf_log_prob(uniform, NULL, &(nf_noise){.seed = 1}, N, x, NULL, log_p), NF_OK);
    for (size_t i = 0; i < N; i++)
        sum += log_p[i] / N;
    const double variance = squares - mean * mean + 1. / 12; /* of k + u */
    cr_assert_float_eq(sum, -0.5 * log(2 * M_PI * M_E * variance), 0.02, "%g", sum);
    nf_model_free(m);
    nf_model_free(uniform);
    free(x), free(log_p);
}

/* The context at which the density starts well, though the noise, too, reads as many features: those of x. */
Test(dequantised, starts_at_the_context_of_the_density)
{
    nf_dist *density = nf_pushforward(nf_normal(DIM), nf_amortized_by_context(nf_householder(DIM, 1)));
    nf_dist *noise = nf_pushforward(nf_uniform(DIM, 0, 1), nf_amortized_by_context(nf_householder(DIM, 1)));
    nf_dist *q = nf_dequantised(density, noise, NULL);
    cr_assert_not_null(q, "%s", nf_error_message());
    nf_real start[DIM], wanted[DIM];
    const nf_noise name = {.seed = 31}, of_density = {.seed = 31, .site = 1};
    cr_assert_eq(nf_start_context(nf_dist_object(q), &name, start), NF_OK);
    cr_assert_eq(nf_start_context(nf_child(nf_dist_object(q), 0), &of_density, wanted), NF_OK);
    cr_assert_arr_eq(start, wanted, sizeof start);
    cr_assert(fabs((double)start[0]) + fabs((double)start[1]) + fabs((double)start[2]) > 0);
    nf_dist_free(q);
}

/* ---- what is no number, and refusals ---- */

Test(dequantised, other_numbers_have_no_probability)
{
    nf_model *m =
        model_of(nf_dequantised(logistic_density(2), nf_uniform(2, 0, 1), &(nf_dequantised_options){.levels = 256}));
    const nf_real inside = NF_R(77.) / 255;
    const nf_real x[] = {inside, 0,      inside,       1,      inside,      NF_R(1.004), NF_R(-0.004),
                         inside, inside, NF_R(0.0021), inside, (nf_real)NAN};
    double log_p[6];
    cr_assert_eq(nf_log_prob(m, NULL, &(nf_noise){.seed = 1}, 6, x, NULL, log_p), NF_OK);
    for (int i = 0; i < 6; i++)
        cr_assert(i < 2   ? isfinite(log_p[i])
                  : i < 5 ? log_p[i] < 0 && isinf(log_p[i])
                          : isnan(log_p[i]),
                  "row %d: %g", i, log_p[i]);
    nf_model_free(m);
    m = model_of(nf_dequantised(logistic_density(2), nf_uniform(2, 1, 2), NULL)); /* noise in another's place */
    cr_assert_eq(nf_log_prob(m, NULL, &(nf_noise){.seed = 1}, 1, x, NULL, log_p), NF_OK);
    cr_assert(isnan(log_p[0]), "%g", log_p[0]);
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, x, NULL, log_p), NF_EARG, "a score without noise");
    nf_model_free(m);
}

Test(dequantised, refuses_what_does_not_fit)
{
    expect_none(nf_dequantised(NULL, nf_uniform(2, 0, 1), NULL), NF_EARG, "`density`");
    expect_none(nf_dequantised(nf_normal(2), NULL, NULL), NF_EARG, "`noise`");
    expect_none(nf_dequantised(nf_normal(2), nf_uniform(3, 0, 1), NULL), NF_EDIM, "dimension 2, but `noise` 3");
    expect_none(nf_dequantised(nf_normal(2), nf_conditional_normal(2, nf_mlp(1, 4, 0, NULL)), NULL), NF_EDIM,
                "reads 1 features of context, but must read none or the 2 of x");
    expect_none(nf_dequantised(nf_normal(1), nf_uniform(1, 0, 1), &(nf_dequantised_options){.levels = 1}), NF_EARG,
                "levels");
    expect_none(nf_dequantised(nf_normal(1), nf_uniform(1, 0, 1), &(nf_dequantised_options){.step = -1}), NF_EARG,
                "step");
}

Test(dequantised, counts_bits)
{
    cr_assert_float_eq(nf_bits_per_dimension(-6 * log(2), 3), 2, 1e-12);
}
