/* Layers of images beside what the conformance suite puts to them: where pixels go, sums over pixels, the start from
   data, refusals. */
#include "support/expect.h"
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

static const double tolerance = sizeof(nf_real) == sizeof(float) ? 1e-5 : 1e-13;

static nf_model *model_of(nf_flow *f, const nf_model_options *options)
{
    nf_model *m = nf_model_of_flow(f, options);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* ---- where pixels go ---- */

/* Two channels of 2 x 4 pixels, as the figure in the paper has them. */
Test(image, squeezing_takes_blocks_of_pixels_apart)
{
    const nf_real x[] = {1, 2, 5, 6, 3, 4, 7, 8, 11, 12, 15, 16, 13, 14, 17, 18};
    const nf_real wanted[] = {1, 5, 2, 6, 3, 7, 4, 8, 11, 15, 12, 16, 13, 17, 14, 18};
    nf_real y[16];
    double log_det = 1;
    nf_model *m = model_of(nf_squeeze((nf_image){.channels = 2, .height = 2, .width = 4}), NULL);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
    cr_assert_arr_eq(y, wanted, sizeof y);
    cr_assert_float_eq(log_det, 0, 0);
    nf_model_free(m);
}

Test(image, squeezing_refuses_odd_images)
{
    expect_none(nf_squeeze((nf_image){1, 3, 2}), NF_EARG, "1 channels, 3 x 2, but height and width must be even");
    expect_none(nf_squeeze((nf_image){1, 2, 5}), NF_EARG, "must be even");
    expect_none(nf_squeeze((nf_image){0, 2, 2}), NF_EARG, "0 channels, 2 x 2");
    expect_none(nf_squeeze((nf_image){1, 0, 2}), NF_EARG, "1 channels, 0 x 2");
    expect_none(nf_squeeze((nf_image){SIZE_MAX / 2, 2, 2}), NF_EARG, "channels, 2 x 2");
    expect_none(nf_squeeze((nf_image){SIZE_MAX / 8, 2, 2}), NF_EARG, "channels, 2 x 2"); /* bytes, not features */
}

Test(image, checkerboards_are_complementary)
{
    const nf_image image = {.channels = 2, .height = 3, .width = 4};
    unsigned char even[24], odd[24];
    cr_assert_eq(nf_mask_checkerboard(image, 0, even), 12);
    cr_assert_eq(nf_mask_checkerboard(image, 7, odd), 12);
    for (size_t i = 0; i < 24; i++) {
        const size_t row = i % 12 / 4, column = i % 4;
        cr_assert_eq(even[i], (row + column) % 2, "feature %zu", i);
        cr_assert_eq(odd[i], !even[i], "feature %zu", i);
    }
    cr_assert_eq(nf_mask_checkerboard((nf_image){3, 1, 1}, 1, even), 3, "a single pixel is transformed by every layer");
    cr_assert(even[0] && even[1] && even[2]);
    cr_assert_eq(nf_mask_checkerboard(image, 0, NULL), 0);
    expect_none(NULL, NF_EARG, "`mask` is NULL");
    cr_assert_eq(nf_mask_checkerboard((nf_image){1, 2, 0}, 0, even), 0);
    expect_none(NULL, NF_EARG, "1 channels, 2 x 0");
}

/* ---- pixelwise ---- */

enum { CHANNELS = 3, PIXELS = 10, DIM = CHANNELS * PIXELS, ROWS = 37 };

/* The same flow on all pixels as rows of a table of their own. */
Test(image, pixelwise_is_the_flow_of_each_pixel)
{
    nf_model *one = model_of(nf_lu_linear(CHANNELS, 5), &(nf_model_options){.seed = 3});
    nf_model *all = model_of(nf_pixelwise(nf_lu_linear(CHANNELS, 5), PIXELS), &(nf_model_options){.seed = 3});
    const size_t n_params = nf_model_shape(one)->n_params;
    cr_assert_eq(nf_model_shape(all)->n_params, n_params);
    memcpy(nf_model_theta(all), nf_model_theta(one), n_params * sizeof(nf_real));
    memcpy(nf_model_state(all), nf_model_state(one), nf_model_shape(one)->n_state * sizeof(nf_real));
    cr_assert_eq(nf_model_update(all, NF_EVAL), NF_OK);
    nf_real *x = normals(4, ROWS * DIM, 1), *y = reals(ROWS * DIM), *pixels = reals(ROWS * DIM),
            *of_pixels = reals(ROWS * DIM);
    double log_det[ROWS], of_pixel[ROWS * PIXELS];
    for (size_t i = 0; i < ROWS * DIM; i++) {
        const size_t row = i / DIM, channel = i % DIM / PIXELS, pixel = i % PIXELS;
        pixels[(row * PIXELS + pixel) * CHANNELS + channel] = x[i];
    }
    cr_assert_eq(nf_transform(all, NULL, NULL, NF_FORWARD, ROWS, x, NULL, y, log_det), NF_OK);
    cr_assert_eq(nf_transform(one, NULL, NULL, NF_FORWARD, ROWS * PIXELS, pixels, NULL, of_pixels, of_pixel), NF_OK);
    for (size_t i = 0; i < ROWS * DIM; i++) {
        const size_t row = i / DIM, channel = i % DIM / PIXELS, pixel = i % PIXELS;
        near((double)y[i], (double)of_pixels[(row * PIXELS + pixel) * CHANNELS + channel], tolerance, "feature", i);
    }
    for (size_t i = 0; i < ROWS; i++)
        near(log_det[i], PIXELS * of_pixel[i * PIXELS], tolerance, "log-det", i);
    nf_model_free(one);
    nf_model_free(all);
    free(x), free(y), free(pixels), free(of_pixels);
}

/* Glow's actnorm: after it each channel has mean 0 and variance 1 over all pixels of all images. */
Test(image, pixelwise_begins_from_the_pixels_of_all_images)
{
    nf_real *x = normals(6, ROWS * DIM, 1), *z = reals(ROWS * DIM);
    for (size_t i = 0; i < ROWS * DIM; i++)
        x[i] = (nf_real)(i % DIM / PIXELS + 2) * x[i] + (nf_real)(3 * (i % DIM / PIXELS)) +
               NF_R(0.1) * (nf_real)(i % PIXELS);
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_pixelwise(nf_actnorm(CHANNELS), PIXELS)),
                                   &(nf_model_options){.n_init = ROWS, .init_x = x});
    cr_assert_not_null(q, "%s", nf_error_message());
    cr_assert_eq(nf_transform(q, NULL, NULL, NF_INVERSE, ROWS, x, NULL, z, NULL), NF_OK, "%s", nf_error_message());
    for (size_t c = 0; c < CHANNELS; c++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < ROWS * PIXELS; i++) {
            const double v = (double)z[i / PIXELS * DIM + c * PIXELS + i % PIXELS];
            sum += v;
            squares += v * v;
        }
        near(sum / (ROWS * PIXELS), 0, tolerance * 100, "mean", c);
        near(squares / (ROWS * PIXELS), 1, tolerance * 100, "variance", c);
    }
    nf_model_free(q);
    free(x), free(z);
}

/* A layer that begins from data below one that reads the context: the context goes along with each pixel. */
Test(image, pixelwise_begins_with_the_context)
{
    nf_flow *f[] = {nf_actnorm(CHANNELS), nf_amortized_by_context(nf_shift(CHANNELS))};
    nf_real *x = normals(6, ROWS * DIM, 1), *ctx = normals(7, ROWS * CHANNELS, 2), *z = reals(ROWS * DIM);
    for (size_t i = 0; i < ROWS * DIM; i++)
        x[i] += ctx[i / DIM * CHANNELS + i % DIM / PIXELS];
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_pixelwise(nf_chain(f, 2), PIXELS)),
                                   &(nf_model_options){.n_init = ROWS, .init_x = x, .init_ctx = ctx});
    cr_assert_not_null(q, "%s", nf_error_message());
    cr_assert_eq(nf_transform(q, NULL, NULL, NF_INVERSE, ROWS, x, ctx, z, NULL), NF_OK, "%s", nf_error_message());
    double squares = 0;
    for (size_t i = 0; i < ROWS * DIM; i++)
        squares += (double)z[i] * (double)z[i];
    near(squares / (ROWS * DIM), 1, tolerance * 100, "variance", 0);
    nf_model_free(q);
    free(x), free(ctx), free(z);
}

Test(image, pixelwise_refuses)
{
    expect_none(nf_pixelwise(NULL, 2), NF_EARG, "`f`");
    expect_none(nf_pixelwise(nf_affine(2), 0), NF_EARG, "a flow of 2 features for 0 pixels");
    expect_none(nf_pixelwise(nf_affine(2), SIZE_MAX), NF_EARG, "features for");
    nf_flow *chain[] = {nf_affine(2), nf_batch_norm(2, NULL)};
    expect_none(nf_pixelwise(nf_chain(chain, 2), 3), NF_EUNSUPPORTED, "`chain` has noise or running statistics");
    nf_net *field = nf_mlp(3, 2, 0, &(nf_mlp_options){.activation = NF_TANH});
    nf_flow *probed =
        nf_continuous(field, &(nf_continuous_options){.trace = NF_TRACE_RADEMACHER, .score_by_probes = true});
    expect_none(nf_pixelwise(probed, 3), NF_EUNSUPPORTED, "noise");
}

/* ---- recomputation ---- */

static nf_flow *glow(nf_image image, size_t depth, size_t hidden, nf_recompute recompute)
{
    return nf_glow(image, &(nf_image_recipe_options){
                              .n_levels = 2, .n_steps = depth, .hidden = hidden, .seed = 8, .recompute = recompute});
}

/* In both directions, up to the rounding errors of the inverses; additive couplings and affine ones. */
Test(image, gradients_of_recomputed_layers_are_those_of_kept_ones)
{
    enum { FEATURES = 64, IMAGES = 19 };
    nf_real *x = normals(11, IMAGES * FEATURES, 1), *gy = normals(12, IMAGES * FEATURES, 1),
            *g_log_det = normals(13, IMAGES, 1), *gx[2], *g[2];
    for (int additive = 0; additive < 2; additive++)
        for (int d = 0; d < 2; d++) {
            size_t n = 0;
            for (int k = 0; k < 2; k++) {
                const nf_image_recipe_options options = {.n_levels = 2,
                                                         .n_steps = 3,
                                                         .hidden = 16,
                                                         .additive = additive,
                                                         .recompute = k ? NF_RECOMPUTE_ALWAYS : NF_RECOMPUTE_NEVER};
                nf_model *m = model_of(nf_glow((nf_image){1, 8, 8}, &options), NULL);
                n = nf_model_shape(m)->n_params;
                nf_real *noise = normals(14, n, 0.03);
                for (size_t i = 0; i < n; i++)
                    nf_model_theta(m)[i] += noise[i];
                gx[k] = reals(IMAGES * FEATURES);
                g[k] = reals(nf_model_gradient_size(m));
                cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
                cr_assert_eq(nf_transform_vjp(m, NULL, NULL, d ? NF_FORWARD : NF_INVERSE, IMAGES, x, NULL, gy,
                                              g_log_det, gx[k], NULL, g[k]),
                             NF_OK, "%s", nf_error_message());
                free(noise);
                nf_model_free(m);
            }
            const double of_x = sqrt(dot(IMAGES * FEATURES, gx[0], gx[0])), of_theta = sqrt(dot(n, g[0], g[0]));
            for (size_t i = 0; i < IMAGES * FEATURES; i++)
                near((double)gx[1][i], (double)gx[0][i], 10 * tolerance * of_x, "gx", i);
            for (size_t i = 0; i < n; i++)
                near((double)g[1][i], (double)g[0][i], 10 * tolerance * of_theta, "g", i);
            free(gx[0]), free(gx[1]), free(g[0]), free(g[1]);
        }
    free(x), free(gy), free(g_log_det);
}

static size_t saved_by(nf_flow *f)
{
    cr_assert_not_null(f, "%s", nf_error_message());
    const size_t n = nf_flow_shape(f)->n_saved;
    nf_flow_free(f);
    return n;
}

/* Small scales keep what gradients need, and large ones do not; here the first scale has more than NF_RECOMPUTE_FROM
   numbers, and the second one has not. */
Test(image, large_scales_recompute_by_default)
{
    const nf_image image = {1, 28, 28};
    size_t saved[2][3];
    for (size_t k = 0; k < 2; k++)
        for (nf_recompute r = NF_RECOMPUTE_DEFAULT; r <= NF_RECOMPUTE_ALWAYS; r++)
            saved[k][r] = saved_by(glow(image, k ? 24 : 8, 64, r));
    cr_assert_eq(saved[0][NF_RECOMPUTE_DEFAULT], saved[0][NF_RECOMPUTE_NEVER]);
    cr_assert_gt(saved[1][NF_RECOMPUTE_NEVER], 3 * saved[1][NF_RECOMPUTE_ALWAYS]);
    cr_assert_gt(saved[1][NF_RECOMPUTE_DEFAULT], saved[1][NF_RECOMPUTE_ALWAYS]);
    cr_assert_gt(saved[1][NF_RECOMPUTE_NEVER], saved[1][NF_RECOMPUTE_DEFAULT] + NF_RECOMPUTE_FROM);
}

/* ---- recipes ---- */

/* Moves the first feature of the base, which is at the first pixel of the last scale. Pixels in row or column `far` of
   the image and beyond are further away than the convolutions reach, so that they stay; the first one moves. */
static void expect_local(nf_flow *f, size_t far, const char *what)
{
    enum { SIDE = 16 };
    nf_model *m = model_of(f, NULL);
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *noise = normals(17, n, 0.3), *x = normals(18, SIDE * SIDE, 1), *y = reals(SIDE * SIDE),
            *moved = reals(SIDE * SIDE);
    for (size_t i = 0; i < n; i++)
        nf_model_theta(m)[i] += noise[i];
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
    x[0] += NF_R(0.7);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, moved, NULL), NF_OK);
    for (size_t i = 0; i < SIDE * SIDE; i++)
        if (i / SIDE >= far || i % SIDE >= far)
            cr_assert_eq((double)moved[i], (double)y[i], "%s: pixel (%zu, %zu)", what, i / SIDE, i % SIDE);
    cr_assert_neq((double)moved[0], (double)y[0]);
    nf_model_free(m);
    free(noise), free(x), free(y), free(moved);
}

/* A coupling's parameters are those that its net makes at the same pixel. Kernels of side 3 reach one pixel at each
   scale: Glow's coupling and prior, Real NVP's couplings over checkerboards and of channels. */
Test(image, recipes_are_local)
{
    const nf_image image = {1, 16, 16};
    const nf_conv_options net = {.last_scale = 0.5};
    expect_local(nf_glow(image, &(nf_image_recipe_options){.n_levels = 1, .n_steps = 1, .net = &net}), 4, "Glow");
    expect_local(nf_glow(image, &(nf_image_recipe_options){.n_levels = 2, .n_steps = 1, .net = &net}), 12,
                 "Glow, two levels");
    expect_local(nf_realnvp_image(image, &(nf_image_recipe_options){.n_levels = 1, .n_steps = 1, .net = &net}), 9,
                 "Real NVP");
}
