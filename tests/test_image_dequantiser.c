/* nf_image_dequantiser: noise that starts uniform and learns what a density wants, given the image and a label; the
   start of its nets, refusals. test_dequantised.c has its gradients and densities. */
#include "support/expect.h"
#include "support/fail_alloc.h"
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

enum { LEVELS = 3, DIM = 16, LABELS = 2 };
static const nf_image image = {1, 4, 4};
static const nf_dequantised_options levels = {.levels = LEVELS, .step = 1};
static const nf_image_dequantiser_options small = {.n_ctx = LABELS, .n_layers = 2, .hidden = 8, .n_blocks = 1};
static const bool is_float = sizeof(nf_real) == sizeof(float);

static nf_model *model_of(nf_dist *q, const nf_model_options *options)
{
    nf_model *m = nf_model_of_dist(q, options);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* A logistic in each pixel, around a mean that the label gives. */
static nf_dist *density(void)
{
    return nf_pushforward(nf_logistic(DIM), nf_amortized(nf_affine(DIM), nf_mlp(LABELS, 2 * DIM, 0, NULL)));
}

/* Images of two sorts, stripes of the extreme levels along and across, in which some pixels are others; their labels.
 */
static void stripes(uint64_t seed, size_t n, nf_real *x, nf_real *label)
{
    for (size_t s = 0; s < n; s++) {
        uint32_t draw[4];
        nf_philox((const uint32_t[4]){(uint32_t)s}, (const uint32_t[2]){(uint32_t)seed}, draw);
        const bool across = draw[0] & 1, begins = draw[0] & 2;
        label[s * LABELS] = across;
        label[s * LABELS + 1] = !across;
        for (size_t i = 0; i < DIM; i++) {
            const bool dark = ((across ? i / 4 : i % 4) + begins) % 2;
            const uint32_t other = i < 8 ? draw[1] >> 4 * i : draw[2] >> 4 * (i - 8);
            x[s * DIM + i] = (nf_real)(other % 16 < 2 ? other % 16 : dark ? 0 : LEVELS - 1);
        }
    }
}

/* As nf_dequantised gives it to noise: k / L, and then the label. */
static nf_real *context_of(size_t n, const nf_real *x, const nf_real *label)
{
    enum { ALL = DIM + LABELS };
    nf_real *ctx = reals(n * ALL);
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < ALL; i++)
            ctx[s * ALL + i] = i < DIM ? x[s * DIM + i] / LEVELS : label[s * LABELS + i - DIM];
    return ctx;
}

/* ---- the start ---- */

/* Whatever the image is, the noise is uniform: its log q is 0, and the score is the one that the same draws give
   without couplings. */
Test(image_dequantiser, starts_uniform)
{
    enum { N = 500 };
    nf_real *x = reals(N * DIM), *label = reals(N * LABELS), *u = reals(N * DIM);
    double log_q[N], log_p[2][N], mean = 0, square = 0, with_x = 0;
    stripes(1, N, x, label);
    nf_real *ctx = context_of(N, x, label);
    nf_model *noise = model_of(nf_image_dequantiser(image, &small), NULL);
    cr_assert_eq(nf_model_shape(noise)->n_ctx, DIM + LABELS);
    cr_assert_eq(nf_sample(noise, NULL, &(nf_noise){.seed = 7}, N, ctx, u, log_q), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < N * DIM; i++) {
        const double v = (double)u[i] - 0.5;
        mean += v / (N * DIM);
        square += v * v / (N * DIM);
        with_x += v * ((double)x[i] - 1) / (N * DIM);
        cr_assert(u[i] >= 0 && u[i] <= 1);
        cr_assert_float_eq(log_q[i / DIM], 0, is_float ? 1e-4 : 1e-12);
    }
    cr_assert_float_eq(mean, 0, 4 * sqrt(1. / 12 / (N * DIM)));
    cr_assert_float_eq(square, 1. / 12, 4 * sqrt(1. / 180 / (N * DIM)));
    cr_assert_float_eq(with_x, 0, 4 * sqrt(1. / 12 / (N * DIM)));
    nf_dist *const part[] = {nf_image_dequantiser(image, &small),
                             nf_pushforward(nf_logistic(DIM), nf_interval(DIM, 0, 1))};
    for (int k = 0; k < 2; k++) {
        nf_model *m = model_of(nf_dequantised(density(), part[k], &levels), NULL);
        cr_assert_eq(nf_log_prob(m, NULL, &(nf_noise){.seed = 9}, N, x, label, log_p[k]), NF_OK);
        nf_model_free(m);
    }
    for (size_t s = 0; s < N; s++)
        near(log_p[0][s], log_p[1][s], is_float ? 1e-5 : 1e-13, "score", s);
    nf_model_free(noise);
    free(x), free(label), free(ctx), free(u);
}

/* Nets with activation normalisation begin from the images. */
Test(image_dequantiser, nets_begin_from_the_images)
{
    enum { N = 1000 };
    double largest = 0;
    nf_real *x = reals(N * DIM), *label = reals(N * LABELS);
    stripes(2, N, x, label);
    nf_image_dequantiser_options q = {
        .n_ctx = LABELS,
        .n_layers = 1,
        .net = &(nf_conv_options){.hidden = (size_t[]){3}, .n_hidden = 1, .norm = NF_CONV_ACTNORM}};
    nf_model *m = model_of(nf_dequantised(nf_uniform(DIM, 0, 1), nf_image_dequantiser(image, &q), &levels),
                           &(nf_model_options){.n_init = N, .init_x = x, .init_ctx = label});
    /* The first layer: W [3][3][3][2], U [3][2], b [3], s [3]. Its products before scaling have mean -b and deviation
       exp(-3 s), and the image's part of them has a mean of its own. */
    const nf_real *theta = nf_model_theta(m), *b = theta + 3 * 9 * 2 + 3 * 2, *s = b + 3;
    for (size_t o = 0; o < 3; o++) {
        double mean = 0;
        for (size_t r = 0; r < N * DIM; r++) {
            const size_t row = r % DIM / 4, column = r % 4;
            for (size_t tap = 0; tap < 9; tap++) {
                const size_t i = row + tap / 3 - 1, j = column + tap % 3 - 1;
                if (i < 4 && j < 4)
                    mean += (double)theta[(o * 9 + tap) * 2 + 1] * (double)x[r / DIM * DIM + i * 4 + j] / LEVELS;
            }
            for (size_t k = 0; k < LABELS; k++)
                mean += (double)theta[54 + o * 2 + k] * (double)label[r / DIM * LABELS + k];
        }
        mean /= N * DIM;
        /* The rest of it is of logistic noise, with mean 0. */
        cr_assert_float_eq((double)b[o], -mean, 0.05, "channel %zu: %g, not %g", o, (double)b[o], -mean);
        cr_assert_neq((double)s[o], 0);
        largest = fmax(largest, fabs(mean));
    }
    cr_assert_gt(largest, 0.1, "%g", largest);
    nf_model_free(m);
    free(x), free(label);
}

/* ---- learning ---- */

static void fit(nf_model *m, const nf_data *data)
{
    nf_objective *o = nf_maximum_likelihood(m, data, &(nf_likelihood_options){.batch = 64});
    cr_assert_not_null(o, "%s", nf_error_message());
    nf_fit_report report;
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 300, .rate = 0.01, .threads = 2}, &report), NF_OK, "%s",
                 nf_error_message());
    nf_objective_free(o);
}

/* The noise of a model that was fitted: the mean of u over the pixels of each level. */
static void mean_noise(nf_model *fitted, size_t n, const nf_real *x, const nf_real *label, double mean[LEVELS])
{
    nf_model *m = model_of(nf_image_dequantiser(image, &small), NULL);
    const size_t n_params = nf_model_shape(m)->n_params, first = nf_model_shape(fitted)->n_params - n_params;
    memcpy(nf_model_theta(m), nf_model_theta(fitted) + first, n_params * sizeof(nf_real));
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    nf_real *ctx = context_of(n, x, label), *u = reals(n * DIM);
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 7}, n, ctx, u, NULL), NF_OK);
    double count[LEVELS] = {0}, sum[LEVELS] = {0};
    for (size_t i = 0; i < n * DIM; i++) {
        count[(size_t)x[i]]++;
        sum[(size_t)x[i]] += (double)u[i];
    }
    for (size_t k = 0; k < LEVELS; k++)
        mean[k] = sum[k] / count[k];
    nf_model_free(m);
    free(ctx), free(u);
}

/* Fitted alike, the bound with learnt noise is better than with uniform noise, on images that neither has seen. A
   logistic is densest in the middle: the noise of dark pixels moves up to it, that of bright ones down. */
Test(image_dequantiser, learns_a_better_bound)
{
    enum { N = 1000, TESTED = 1500 };
    nf_real *x = reals(N * DIM), *label = reals(N * LABELS), *seen[2] = {reals(TESTED * DIM), reals(TESTED * LABELS)};
    stripes(11, N, x, label);
    stripes(12, TESTED, seen[0], seen[1]);
    const nf_data data = {.n = N, .dim = DIM, .x = x, .n_ctx = LABELS, .ctx = label};
    static double score[2][TESTED];
    double mean = 0, square = 0;
    for (int learnt = 0; learnt < 2; learnt++) {
        nf_dist *noise = learnt ? nf_image_dequantiser(image, &small) : nf_uniform(DIM, 0, 1);
        nf_model *m = model_of(nf_dequantised(density(), noise, &levels), &(nf_model_options){.seed = 3});
        fit(m, &data);
        cr_assert_eq(nf_log_prob(m, NULL, &(nf_noise){.seed = 5}, TESTED, seen[0], seen[1], score[learnt]), NF_OK);
        if (learnt) {
            double u[LEVELS];
            mean_noise(m, TESTED, seen[0], seen[1], u);
            cr_assert(u[0] > 0.55 && u[LEVELS - 1] < 0.45, "mean noise: dark %g, bright %g", u[0], u[LEVELS - 1]);
        }
        nf_model_free(m);
    }
    for (size_t s = 0; s < TESTED; s++) {
        const double gain = score[1][s] - score[0][s];
        mean += gain / TESTED;
        square += gain * gain / TESTED;
    }
    const double error = sqrt((square - mean * mean) / TESTED);
    cr_assert_gt(mean, 4 * error, "%g +- %g nats", mean, error);
    free(x), free(label), free(seen[0]), free(seen[1]);
}

/* Another label, or another image, is another noise in every pixel: couplings change both colours. */
Test(image_dequantiser, every_pixel_reads_image_and_label)
{
    nf_real x[3][DIM] = {{0, 1, 2, 1, 0}, {0, 1, 2, 1, 0}, {0, 1, 2, 1, 1}}, u[3][DIM];
    nf_real label[3][LABELS] = {{1, 0}, {0, 1}, {1, 0}};
    const nf_image_dequantiser_options wide = {
        .n_ctx = LABELS,
        .n_layers = 2,
        .net = &(nf_conv_options){.kernel = (size_t[]){7}, .n_kernel = 1, .last_scale = 0.5}};
    nf_model *m = model_of(nf_image_dequantiser(image, &wide), NULL);
    for (int k = 0; k < 3; k++) {
        nf_real *ctx = context_of(1, x[k], label[k]);
        cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 5}, 1, ctx, u[k], NULL), NF_OK);
        free(ctx);
    }
    for (size_t i = 0; i < DIM; i++) {
        cr_assert_neq(u[1][i], u[0][i], "pixel %zu: another label", i);
        cr_assert(u[2][i] != u[0][i], "pixel %zu: another image", i);
    }
    nf_model_free(m);
}

/* ---- refusals ---- */

Test(image_dequantiser, every_allocation_may_fail)
{
    for (size_t k = 0;; k++) {
        const size_t before = alloc_live();
        fail_alloc_after(k);
        nf_dist *q = nf_image_dequantiser(image, &small);
        const bool failed = fail_alloc_off();
        cr_assert(failed ? !q && nf_error_status() == NF_ENOMEM : q != NULL, "allocation %zu: %s", k,
                  nf_error_message());
        nf_dist_free(q);
        cr_assert_eq(alloc_live(), before, "allocation %zu: memory is kept", k);
        if (!failed)
            break;
    }
}

Test(image_dequantiser, refuses)
{
    const nf_conv_options even = {.kernel = (size_t[]){2}, .n_kernel = 1};
    const nf_scaled_affine_options bad = {.limit = -1};
#define REFUSED(words, ...) \
    expect_none(nf_image_dequantiser(image, &(nf_image_dequantiser_options){__VA_ARGS__}), NF_EARG, words)
    expect_none(nf_image_dequantiser((nf_image){0, 4, 4}, NULL), NF_EARG, "nf_image_dequantiser: ");
    expect_none(nf_image_dequantiser((nf_image){1, SIZE_MAX, 4}, NULL), NF_EARG, "nf_image_dequantiser: ");
    REFUSED("nf_image_dequantiser: `n_layers` is 0", .n_layers = NF_NONE);
    REFUSED("`n_blocks` is 0", .n_blocks = NF_NONE);
    REFUSED("`hidden` is 0", .hidden = NF_NONE);
    REFUSED("`n_ctx` is ", .n_ctx = SIZE_MAX - 3);
    REFUSED("`net` is given, and so is `hidden`", .net = &even, .hidden = 3);
    REFUSED("`net` is given, and so is `n_blocks`", .net = &even, .n_blocks = 3);
    REFUSED("nf_image_dequantiser: `net`: nf_conv_net: kernel[0] is 2", .net = &even);
    REFUSED("nf_image_dequantiser: `scale`: nf_scaled_affine", .scale = &bad);
#undef REFUSED
}
