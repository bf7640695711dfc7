/* Nets of convolutions as objects: PyTorch's numbers, initial weights, starts from data, names of tensors, shifts,
   options that are refused. */
#include "conv_fixture.h"
#include "fail_alloc.h"
#include "numbers.h"
#include "peers/conv2d-torch.h"
#include "slices.h"
#include <nflow/combine.h>
#include <nflow/elementwise.h>
#include <nflow/image.h>
#include <nflow/model.h>

static const bool is_double = sizeof(nf_real) == sizeof(double);

/* ---- PyTorch ---- */

enum { SAMPLES = 2, OUT = 2, HEIGHT = 4, WIDTH = 5, PIXELS = HEIGHT * WIDTH, LD = 16 };
static const size_t torch_hidden[] = {4, 3}, torch_channels[] = {3, 4, 3, 2}, torch_side[] = {3, 1, 3};

/* One layer's numbers, or their gradients, as PyTorch has them. */
typedef struct torch_layer {
    const double *weight, *bias, *gain;
} torch_layer;

/* Where PyTorch's W[o][c][a][b] is in ours. */
static size_t place_of(size_t layer, size_t o, size_t c, size_t a, size_t b)
{
    return ((o * torch_side[layer] + a) * torch_side[layer] + b) * torch_channels[layer] + c;
}

/* Compares or copies all numbers of the three layers; `gains` says whether there are scales. */
static void for_numbers(const torch_layer *torch, bool gains, bool copy, nf_real *theta, const char *what)
{
    for (size_t l = 0; l < 3; l++) {
        const size_t in = torch_channels[l], out = torch_channels[l + 1], side = torch_side[l];
        const double *w = torch[l].weight;
        for (size_t o = 0; o < out; o++)
            for (size_t c = 0; c < in; c++)
                for (size_t a = 0; a < side; a++)
                    for (size_t b = 0; b < side; b++, w++) {
                        nf_real *at = theta + place_of(l, o, c, a, b);
                        if (copy)
                            *at = (nf_real)*w;
                        else
                            near((double)*at, *w, is_double ? 1e-13 : 3e-5, what, (size_t)(at - theta));
                    }
        theta += out * in * side * side;
        for (size_t o = 0; o < (gains ? 2 * out : out); o++, theta++) {
            const double wanted = o < out ? torch[l].bias[o] : torch[l].gain[o - out];
            if (copy)
                *theta = (nf_real)wanted;
            else
                near((double)*theta, wanted, is_double ? 1e-13 : 3e-5, what, o);
        }
    }
}

static void to_tile(size_t features, const double *from, nf_real *tile)
{
    for (size_t r = 0; r < features; r++)
        for (size_t s = 0; s < SAMPLES; s++)
            tile[r * LD + s] = (nf_real)from[s * features + r];
}

/* With an image the last of x's three channels is the context's: torch.cat((x, image), 1). */
static void like_torch(bool normed, bool image, const double *y, const double *gx, const torch_layer *gradient)
{
    static const torch_layer numbers[] = {{torch_weight_0, torch_bias_0, torch_gain_0},
                                          {torch_weight_1, torch_bias_1, torch_gain_1},
                                          {torch_weight_2, torch_bias_2, torch_gain_2}};
    const conv_case c = {"PyTorch's",
                         {image ? 2 : 3, HEIGHT, WIDTH},
                         OUT,
                         image ? PIXELS : 0,
                         {.hidden = torch_hidden,
                          .n_hidden = 2,
                          .activation = NF_ELU,
                          .norm = normed ? NF_CONV_WEIGHT_NORM : NF_CONV_FREE,
                          .learnt_scale = normed,
                          .ctx_channels = image}};
    const size_t in = c.in.channels * PIXELS;
    fixture f;
    conv_set_up(&f, &c, SAMPLES);
    for_numbers(numbers, normed, true, f.theta, "");
    for (size_t i = 0; i < 3 * PIXELS; i++)
        for (size_t s = 0; s < SAMPLES; s++)
            (i < in ? f.x + i * LD : f.ctx + (i - in) * LD)[s] = (nf_real)torch_x[s * 3 * PIXELS + i];
    to_tile(OUT * PIXELS, torch_gy, f.gy);
    conv_prepare(&f);
    run(&f);
    conv_run_back(&f);
    for (size_t s = 0; s < SAMPLES; s++) {
        for (size_t o = 0; o < OUT * PIXELS; o++)
            near((double)f.y[o * LD + s], y[s * OUT * PIXELS + o], is_double ? 1e-13 : 1e-5, "y", o);
        for (size_t i = 0; i < 3 * PIXELS; i++)
            near((double)(i < in ? f.gx + i * LD : f.g.ctx + (i - in) * LD)[s], gx[s * 3 * PIXELS + i],
                 is_double ? 1e-13 : 1e-5, "gx", i);
    }
    for_numbers(gradient, normed, false, f.g.theta, "gradient");
    tear_down(&f);
}

Test(conv_net, computes_what_pytorch_computes)
{
    static const torch_layer plain[] = {{torch_plain_g_weight_0, torch_plain_g_bias_0, NULL},
                                        {torch_plain_g_weight_1, torch_plain_g_bias_1, NULL},
                                        {torch_plain_g_weight_2, torch_plain_g_bias_2, NULL}};
    static const torch_layer normed[] = {{torch_normed_g_weight_0, torch_normed_g_bias_0, torch_normed_g_gain_0},
                                         {torch_normed_g_weight_1, torch_normed_g_bias_1, torch_normed_g_gain_1},
                                         {torch_normed_g_weight_2, torch_normed_g_bias_2, torch_normed_g_gain_2}};
    for (int image = 0; image < 2; image++) {
        like_torch(false, image, torch_plain_y, torch_plain_gx, plain);
        like_torch(true, image, torch_normed_y, torch_normed_gx, normed);
    }
}

/* ---- an image in the context ---- */

/* Copies of a tile's features, `before` of them from the first array and the others from the second. */
static void join(size_t before, size_t after, size_t ld, const nf_real *a, const nf_real *b, nf_real *both)
{
    memcpy(both, a, before * ld * sizeof *a);
    memcpy(both + before * ld, b, after * ld * sizeof *a);
}

/* With the same numbers, a net that reads x and an image of the context is, bit for bit, the net of an x that has both;
   also where the features after the image are context. */
Test(conv_net, an_image_in_the_context_is_more_channels_of_x)
{
    enum { N = 21, ROWS = 32, IMAGE = 12 };
    static const size_t hidden[] = {5, 4};
    for (size_t blocks = 0; blocks < 2; blocks++)
        for (size_t others = 0; others < 4; others += 3) {
            const conv_case whole = {"one image",
                                     {5, 3, 4},
                                     3,
                                     others,
                                     {.hidden = hidden,
                                      .n_hidden = blocks ? 1 : 2,
                                      .n_blocks = blocks,
                                      .norm = NF_CONV_WEIGHT_NORM,
                                      .activation = NF_ELU}};
            conv_case parted = whole;
            parted.in.channels = 3;
            parted.n_ctx += 2 * IMAGE;
            parted.q.ctx_channels = 2;
            fixture a, b;
            conv_set_up(&a, &parted, N);
            conv_set_up(&b, &whole, N);
            cr_assert(a.p.ld == ROWS && a.shape->n_params == b.shape->n_params);
            join(3 * IMAGE, 2 * IMAGE, ROWS, a.x, a.ctx, b.x);
            memcpy(b.ctx, a.ctx + 2 * IMAGE * ROWS, others * ROWS * sizeof *b.ctx);
            run(&a), run(&b);
            conv_run_back(&a), conv_run_back(&b);
            nf_real *wanted = reals((5 * IMAGE + others) * ROWS), *got = reals((5 * IMAGE + others) * ROWS);
            join(3 * IMAGE, 2 * IMAGE + others, ROWS, a.gx, a.g.ctx, got);
            join(5 * IMAGE, others, ROWS, b.gx, b.g.ctx, wanted);
            cr_assert_arr_eq(a.y, b.y, 3 * IMAGE * ROWS * sizeof *a.y);
            cr_assert_arr_eq(a.g.theta, b.g.theta, a.shape->n_params * sizeof *a.y);
            cr_assert_arr_eq(got, wanted, (5 * IMAGE + others) * ROWS * sizeof *a.y);
            tear_down(&a);
            tear_down(&b);
            free(wanted), free(got);
        }
}

/* The gradient in the context's image is wanted though that in x is not, and is added to what is there. */
Test(conv_net, the_gradient_of_the_image_alone)
{
    enum { N = 5, IMAGE = 6 };
    const conv_case c = {"an image", {1, 2, 3}, 1, IMAGE + 1, {.ctx_channels = 1}};
    fixture f;
    conv_set_up(&f, &c, N);
    run(&f);
    nf_real *g = fixture_draw(&f, IMAGE + 1, N, LD, 61), *before = fixture_draw(&f, IMAGE + 1, N, LD, 61);
    cr_assert_eq(nf_net_vjp(nf_net_object(f.net), &f.p, f.x, f.y, f.saved, f.gy, NULL, &(nf_grad){.ctx = g}), NF_OK);
    conv_run_back(&f);
    for (size_t i = 0; i < (IMAGE + 1) * LD; i++)
        near((double)g[i], (double)before[i] + (double)f.g.ctx[i], is_double ? 1e-14 : 1e-6, "feature", i);
    tear_down(&f);
}

/* ---- the beginning ---- */

static nf_real *initial(const nf_net *net)
{
    const nf_object *o = (const nf_object *)net;
    nf_real *theta = reals(nf_object_shape(o)->n_params);
    cr_assert_eq(nfi_tree_init(o, &(nf_noise){.seed = 4711}, NULL, theta, NULL), NF_OK);
    return theta;
}

/* n numbers have mean 0 and deviation sigma, within 4.5 standard errors of normal draws. */
static void check_draws(size_t n, const nf_real *w, double sigma, const char *what)
{
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        mean += (double)w[i] / (double)n;
        square += (double)w[i] * (double)w[i] / (double)n;
    }
    cr_assert_float_eq(mean, 0, 4.5 * sigma / sqrt((double)n), "%s: mean %g", what, mean);
    cr_assert_float_eq(square / (sigma * sigma), 1, 4.5 * sqrt(2 / (double)n), "%s: deviation %g, not %g", what,
                       sqrt(square), sigma);
}

Test(conv_net, initial_weights_have_the_variance_of_their_fans)
{
    static const size_t hidden[] = {24, 32};
    const nf_image image = {5, 3, 3};
    nf_net *net = nf_conv_net(image, 7, 3, &(nf_conv_options){.hidden = hidden, .n_hidden = 2, .last_scale = 0.5});
    nf_real *theta = initial(net), *at = theta;
    check_draws(24 * 48, at, sqrt(2 / 48.), "3 x 3 and context"); /* He, fan in 9 * 5 + 3 */
    at += 24 * 48 + 24;
    check_draws(32 * 24, at, sqrt(2 / 24.), "1 x 1");
    at += 32 * 25;
    check_draws(7 * 9 * 32, at, 0.5 * sqrt(2 / (9 * 32. + 9 * 7)), "last"); /* Glorot */
    free(theta);
    nf_net_free(net);
    net = nf_conv_net(image, 7, 3,
                      &(nf_conv_options){.hidden = hidden, .n_hidden = 1, .n_blocks = 1, .last_scale = NF_ZERO});
    theta = initial(net), at = theta + 24 * 49;
    check_draws(24 * 9 * 24, at, sqrt(2 / (9 * 24.)), "first of a block");
    at += 24 * (9 * 24 + 1);
    check_draws(24 * 9 * 24, at, 0.001, "second of a block");
    at += 24 * (9 * 24 + 1);
    check_draws(24 * 3, at, sqrt(2 / (24 + 3.)), "gate");
    at += 24 * 4;
    for (size_t i = 0; i < 7 * (9 * 24 + 1); i++)
        cr_assert_eq((double)at[i], 0, "the last layer");
    free(theta);
    nf_net_free(net);
}

/* With g = |v| the weights are v. */
Test(conv_net, weight_norm_starts_as_the_free_net)
{
    const nf_image image = {3, 4, 4};
    static const size_t hidden[] = {6, 5};
    nf_real *x = normals(5, 7 * 48, 1), *y[2];
    for (int k = 0; k < 2; k++) {
        nf_model *m = nf_model_of_net(nf_conv_net(image, 2, 0,
                                                  &(nf_conv_options){.hidden = hidden,
                                                                     .n_hidden = 2,
                                                                     .last_scale = 0.3,
                                                                     .norm = k ? NF_CONV_WEIGHT_NORM : NF_CONV_FREE}),
                                      &(nf_model_options){.seed = 31});
        cr_assert_not_null(m, "%s", nf_error_message());
        y[k] = reals(7 * 32);
        cr_assert_eq(nf_evaluate(m, NULL, NULL, 7, x, NULL, y[k]), NF_OK);
        nf_model_free(m);
    }
    for (size_t i = 0; i < 7 * 32; i++)
        near((double)y[1][i], (double)y[0][i], is_double ? 1e-14 : 1e-6, "y", i);
    free(x), free(y[0]), free(y[1]);
}

/* Channel by channel, mean 0 and deviation 1 of z over the samples; z [n]. */
static void check_standard(const conv_case *c, size_t channels, size_t n, const conv_map *z, const char *what)
{
    const size_t pixels = c->in.height * c->in.width;
    const double count = (double)(n * pixels);
    for (size_t o = 0; o < channels; o++) {
        double mean = 0, square = 0;
        for (size_t s = 0; s < n; s++)
            for (size_t p = 0; p < pixels; p++) {
                mean += z[s].at[o][p] / count;
                square += z[s].at[o][p] * z[s].at[o][p] / count;
            }
        cr_assert_float_eq(mean, 0, is_double ? 1e-12 : 1e-5, "%s, channel %zu: mean %g", what, o, mean);
        cr_assert_float_eq(square, 1, is_double ? 1e-12 : 1e-4, "%s, channel %zu: variance %g", what, o, square);
    }
}

/* The first two layers with activation normalisation, for rows x of the pixels that the net reads. */
static void check_start(const conv_case *c, size_t n, const nf_real *theta, size_t n_params, const nf_real *x,
                        size_t dim, const nf_real *ctx)
{
    static double numbers[MOST_NUMBERS];
    static conv_map in, a, z[2][40];
    const bool residual = c->q.n_blocks > 0;
    const size_t width[2] = {c->q.hidden[0], c->q.hidden[residual ? 0 : 1]}, pieces = c->q.gated ? 2 : 1;
    cr_assert(n_params <= MOST_NUMBERS && n <= 40);
    for (size_t i = 0; i < n_params; i++)
        numbers[i] = (double)theta[i];
    for (size_t s = 0; s < n; s++) {
        double context[32], row[32];
        for (size_t i = 0; i < c->n_ctx; i++)
            context[i] = (double)ctx[s * c->n_ctx + i];
        for (size_t i = 0; i < dim; i++)
            row[i] = (double)x[s * dim + i];
        conv_reader r = conv_begin(c, numbers, row, context, &in);
        conv_formula_layer(&r, conv_read(c), width[0] * pieces, 3, r.n_ctx, true, false, &in, &z[0][s]);
        conv_formula_units(&r, width[0], conv_beta(&r), &z[0][s], &a);
        conv_formula_layer(&r, width[0], width[1] * pieces, residual ? 3 : 1, 0, true, false, &a, &z[1][s]);
    }
    for (size_t l = 0; l < 2; l++)
        check_standard(c, width[l] * pieces, n, z[l], l ? "second layer" : "first layer");
}

Test(conv_net, activation_normalisation_starts_from_data)
{
    enum { N = 37 };
    const nf_image image = {2, 3, 4};
    static const size_t hidden[] = {5, 4};
    const conv_case cases[] = {
        {"plain", image, 3, 2, {.hidden = hidden, .n_hidden = 2, .activation = NF_TANH, .norm = NF_CONV_ACTNORM}},
        {"gated",
         image,
         3,
         0,
         {.hidden = hidden, .n_hidden = 2, .gated = true, .norm = NF_CONV_ACTNORM, .in_pixels = NF_EVEN_PIXELS}},
        {"residual",
         image,
         3,
         2,
         {.hidden = hidden, .n_hidden = 1, .n_blocks = 2, .activation = NF_SWISH, .norm = NF_CONV_ACTNORM}},
        {"of an image",
         image,
         3,
         14,
         {.hidden = hidden, .n_hidden = 2, .activation = NF_ELU, .norm = NF_CONV_ACTNORM, .ctx_channels = 1}}};
    nf_real *x = normals(8, N * 24, 2.5), *ctx = normals(9, N * 14, 1);
    for (size_t i = 0; i < N * 24; i++)
        x[i] += NF_R(1.5);
    for (size_t k = 0; k < 4; k++) {
        const conv_case *c = &cases[k];
        nf_model *m = nf_model_of_net(nf_conv_net(c->in, c->out, c->n_ctx, &c->q), NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        const nf_shape *s = nf_model_shape(m);
        cr_assert_eq(nf_model_init(m, 5, N, x, c->n_ctx ? ctx : NULL), NF_OK, "%s", nf_error_message());
        check_start(c, N, nf_model_theta(m), s->n_params, x, s->dim_in, ctx);
        nf_model_free(m);
    }
    free(x), free(ctx);
}

/* A coupling gives its net the data that it reads, whichever way they come. */
Test(conv_net, a_coupling_hands_the_data_on)
{
    enum { N = 23, DIM = 24 };
    const nf_image image = {2, 3, 4};
    static const size_t hidden[] = {5, 4};
    const conv_case c = {"in a coupling",
                         image,
                         4,
                         0,
                         {.hidden = hidden,
                          .n_hidden = 2,
                          .activation = NF_ELU,
                          .norm = NF_CONV_ACTNORM,
                          .in_pixels = NF_EVEN_PIXELS,
                          .out_pixels = NF_ODD_PIXELS}};
    unsigned char mask[DIM];
    const size_t n_b = nf_mask_checkerboard(image, 0, mask);
    nf_flow *f = nf_coupling(DIM, mask, nf_affine(n_b), nf_conv_net(c.in, c.out, 0, &c.q));
    nf_model *m = nf_model_of_flow(f, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_real *x = normals(8, N * DIM, 2), read[N * DIM / 2];
    for (size_t s = 0, at = 0; s < N; s++)
        for (size_t i = 0; i < DIM; i++)
            if (!mask[i])
                read[at++] = x[s * DIM + i];
    cr_assert_eq(nf_model_init(m, 5, N, x, NULL), NF_OK, "%s", nf_error_message());
    check_start(&c, N, nf_model_theta(m), nf_model_shape(m)->n_params, read, DIM / 2, NULL);
    nf_model_free(m);
    free(x);
}

/* A channel that is the same everywhere has its mean taken away and no scale; what is not finite is refused. */
Test(conv_net, data_without_spread)
{
    static const size_t hidden[] = {3}, sides[] = {1, 1};
    const nf_conv_options options = {
        .hidden = hidden, .n_hidden = 1, .kernel = sides, .n_kernel = 2, .norm = NF_CONV_ACTNORM};
    nf_model *m = nf_model_of_net(nf_conv_net((nf_image){1, 2, 3}, 1, 0, &options), NULL);
    nf_real x[5 * 6];
    for (size_t i = 0; i < 30; i++)
        x[i] = NF_R(2.385);
    cr_assert_eq(nf_model_init(m, 5, 5, x, NULL), NF_OK);
    const nf_real *theta = nf_model_theta(m); /* W [3], b [3], s [3] */
    for (size_t i = 0; i < 3; i++) {
        near((double)theta[3 + i], -2.385 * (double)theta[i], is_double ? 1e-14 : 1e-6, "bias", i);
        cr_assert_eq((double)theta[6 + i], 0, "scale %zu", i);
    }
    x[7] = NF_R(INFINITY);
    cr_assert_eq(nf_model_init(m, 5, 5, x, NULL), NF_ENOTFINITE);
    nf_model_free(m);
}

/* ---- structure ---- */

static void check_names(nf_net *net, size_t n_params, const char *names)
{
    char text[1000] = "";
    cr_assert_not_null(net, "%s", nf_error_message());
    cr_assert_eq(nf_object_shape(nf_net_object(net))->n_params, n_params);
    nfi_tree_slices(nf_net_object(net), list_slice, text);
    cr_assert_str_eq(text, names);
    nf_net_free(net);
}

Test(conv_net, names_of_tensors)
{
    static const size_t hidden[] = {4, 2};
    check_names(
        nf_conv_net((nf_image){3, 5, 4}, 1, 2,
                    &(nf_conv_options){.hidden = hidden, .n_hidden = 2, .activation = NF_SWISH, .learnt_scale = true}),
        152,
        "0.weight@0:4x3x3x3 0.context@108:4x2 0.bias@116:4 0.beta@120:1 1.weight@121:2x1x1x4 1.bias@129:2 "
        "1.beta@131:1 2.weight@132:1x3x3x2 2.bias@150:1 2.scale@151:1 ");
    check_names(
        nf_conv_net((nf_image){1, 2, 3}, 2, 8, &(nf_conv_options){.hidden = hidden, .n_hidden = 1, .ctx_channels = 1}),
        158, "0.weight@0:4x3x3x2 0.context@72:4x2 0.bias@80:4 1.weight@84:2x3x3x4 1.bias@156:2 ");
    check_names(
        nf_conv_net(
            (nf_image){1, 5, 4}, 2, 2,
            &(nf_conv_options){.hidden = hidden + 1, .n_hidden = 1, .n_blocks = 2, .norm = NF_CONV_WEIGHT_NORM}),
        238,
        "initial_layer.weight@0:2x3x3x1 initial_layer.context@18:2x2 initial_layer.bias@22:2 initial_layer.scale@24:2 "
        "blocks.0.layers.0.weight@26:2x3x3x2 blocks.0.layers.0.bias@62:2 blocks.0.layers.0.scale@64:2 "
        "blocks.0.layers.1.weight@66:2x3x3x2 blocks.0.layers.1.bias@102:2 blocks.0.layers.1.scale@104:2 "
        "blocks.0.layers.1.gate.weight@106:2x2 blocks.0.layers.1.gate.bias@110:2 "
        "blocks.1.layers.0.weight@112:2x3x3x2 blocks.1.layers.0.bias@148:2 blocks.1.layers.0.scale@150:2 "
        "blocks.1.layers.1.weight@152:2x3x3x2 blocks.1.layers.1.bias@188:2 blocks.1.layers.1.scale@190:2 "
        "blocks.1.layers.1.gate.weight@192:2x2 blocks.1.layers.1.gate.bias@196:2 "
        "final_layer.weight@198:2x3x3x2 final_layer.bias@234:2 final_layer.scale@236:2 ");
}

/* The channels of a feature stand beside one another at each pixel: the numbers of a transform. Channel 3 f + k at
   pixel p is row 3 (pixels f + p) + k. */
Test(conv_net, channels_of_a_feature_together)
{
    enum { FEATURES = 2, EACH = 3, ODD = 4 }; /* pixels of a channel: the odd ones of 2 x 4 */
    const conv_case apart = {"apart", {2, 2, 4}, FEATURES * EACH, 0, {.out_pixels = NF_ODD_PIXELS}};
    conv_case together = apart;
    together.q.n_per_feature = EACH;
    fixture f[2];
    conv_set_up(&f[0], &apart, 3);
    conv_set_up(&f[1], &together, 3);
    run(&f[0]);
    run(&f[1]);
    for (size_t c = 0; c < FEATURES * EACH; c++)
        for (size_t p = 0; p < ODD; p++)
            for (size_t s = 0; s < 3; s++)
                cr_assert_eq(f[1].y[(EACH * (ODD * (c / EACH) + p) + c % EACH) * LD + s],
                             f[0].y[(ODD * c + p) * LD + s], "channel %zu, pixel %zu", c, p);
    tear_down(&f[0]);
    tear_down(&f[1]);
}

/* A channel moves where all its pixels are to move alike. */
Test(conv_net, shifts_of_whole_channels)
{
    for (int scaled = 0; scaled < 2; scaled++) {
        const conv_case c = {"shifted", {2, 2, 2}, 3, 0, {.learnt_scale = scaled > 0, .out_pixels = NF_ODD_PIXELS}};
        static const nf_real shift[6] = {NF_R(0.75), NF_R(0.75), NF_R(0.5), NF_R(-0.5), -2, -2};
        fixture f;
        conv_set_up(&f, &c, 3);
        run(&f);
        nf_real before[6 * LD];
        memcpy(before, f.y, sizeof before);
        const nf_object *o = nf_net_object(f.net);
        cr_assert_eq(((const nf_net_type *)o->type)->shift_output(o, shift, f.theta), NF_OK);
        conv_prepare(&f);
        run(&f);
        for (size_t i = 0; i < 6; i++)
            for (size_t s = 0; s < 3; s++)
                near((double)f.y[i * LD + s],
                     (double)before[i * LD + s] + (shift[i] == shift[i ^ 1] ? (double)shift[i] : 0),
                     is_double ? 1e-13 : 1e-5, "feature", i);
        tear_down(&f);
    }
}

/* The same where the channels stand together: rows 0 and 2 are the pixels of the first one. */
Test(conv_net, shifts_of_channels_together)
{
    const conv_case c = {"shifted", {2, 2, 2}, 2, 0, {.out_pixels = NF_ODD_PIXELS, .n_per_feature = 2}};
    static const nf_real shift[4] = {NF_R(0.75), NF_R(0.5), NF_R(0.75), -2};
    fixture f;
    conv_set_up(&f, &c, 3);
    run(&f);
    nf_real before[4 * LD];
    memcpy(before, f.y, sizeof before);
    const nf_object *o = nf_net_object(f.net);
    cr_assert_eq(((const nf_net_type *)o->type)->shift_output(o, shift, f.theta), NF_OK);
    run(&f);
    for (size_t i = 0; i < 4; i++)
        for (size_t s = 0; s < 3; s++)
            near((double)f.y[i * LD + s], (double)before[i * LD + s] + (i % 2 == 0 ? 0.75 : 0),
                 is_double ? 1e-13 : 1e-5, "feature", i);
    tear_down(&f);
}

/* ---- what is refused ---- */

static void refused(nf_image in, size_t out, size_t n_ctx, nf_conv_options options, const char *words)
{
    const size_t live = alloc_live();
    cr_assert_null(nf_conv_net(in, out, n_ctx, &options), "%s was accepted", words);
    cr_assert_eq(alloc_live(), live, "%s: memory is kept", words);
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_not_null(strstr(nf_error_message(), words), "'%s' lacks '%s'", nf_error_message(), words);
    cr_assert_eq(strncmp(nf_error_message(), "nf_conv_net: ", 13), 0, "%s", nf_error_message());
}

Test(conv_net, bad_options_are_refused)
{
    static const size_t hidden[] = {7, 0, 5}, huge[] = {SIZE_MAX / 2, 3}, large[] = {(size_t)1 << 32, (size_t)1 << 32};
    static const size_t even[] = {3, 2}, long_side[] = {9}, three[] = {3, 3, 3};
    const nf_image image = {2, 4, 4};
    const size_t half = (size_t)1 << 40;
    refused((nf_image){0, 4, 4}, 1, 0, (nf_conv_options){0}, "`in` has 0 channels of 4 x 4 pixels");
    refused((nf_image){1, 0, 4}, 1, 0, (nf_conv_options){0}, "0 x 4");
    refused((nf_image){1, 4, 0}, 1, 0, (nf_conv_options){0}, "4 x 0");
    refused(image, 0, 0, (nf_conv_options){0}, "`out_channels` is 0");
    refused(image, 3, 0, (nf_conv_options){.n_per_feature = 2},
            "`out_channels` is 3, which is no multiple of `n_per_feature`, 2");
    refused(image, 1, 0, (nf_conv_options){.hidden = hidden, .n_hidden = 3}, "hidden[1] is 0");
    refused(image, 1, 0, (nf_conv_options){.n_hidden = 2}, "`hidden` is NULL");
    refused(image, 1, 0, (nf_conv_options){.hidden = hidden, .n_hidden = 1, .kernel = even, .n_kernel = 2},
            "kernel[1] is 2, but sides must be odd");
    refused(image, 1, 0, (nf_conv_options){.kernel = long_side, .n_kernel = 1}, "kernel[0] is 9");
    refused(image, 1, 0, (nf_conv_options){.hidden = hidden, .n_hidden = 1, .kernel = three, .n_kernel = 3},
            "`n_kernel` is 3, but the net has kernels of 2 sides");
    refused(image, 1, 0, (nf_conv_options){.n_blocks = 2}, "`n_hidden` is 0, but with residual blocks it must be 1");
    refused(image, 1, 0, (nf_conv_options){.hidden = hidden, .n_hidden = 1, .n_blocks = 2, .gated = true}, "`gated`");
    refused(image, 1, 0, (nf_conv_options){.hidden = hidden, .n_hidden = 1, .gated = true, .activation = NF_ELU},
            "`activation` is 4, but hidden units are gated");
    refused(image, 1, 0, (nf_conv_options){.activation = (nf_activation)10}, "unknown activation 10");
    refused(image, 1, 0, (nf_conv_options){.norm = (nf_conv_norm)3}, "unknown norm 3");
    refused(image, 1, 0, (nf_conv_options){.in_pixels = (nf_pixels)3}, "unknown pixels 3");
    refused(image, 1, 0, (nf_conv_options){.init = (nf_initialisation)6}, "unknown initialisation 6");
    refused(image, 1, 0, (nf_conv_options){.last_scale = NAN}, "last_scale");
    refused((nf_image){3, 1, 1}, 1, 0, (nf_conv_options){.out_pixels = NF_ODD_PIXELS},
            "an image of one pixel has none");
    refused(image, 1, 0, (nf_conv_options){.dropout = 1}, "`dropout` is 1");
    refused(image, 1, 31, (nf_conv_options){.ctx_channels = 2},
            "`ctx_channels` is 2, of 4 x 4 pixels each, but `n_ctx` is 31");
    refused(image, 1, 16, (nf_conv_options){.ctx_channels = SIZE_MAX / 8 + 2}, "`n_ctx` is 16");
    refused((nf_image){half, half, half}, 1, 16, (nf_conv_options){.ctx_channels = 1}, "`n_ctx` is 16");
    refused((nf_image){SIZE_MAX, 1, 1}, 1, 16, (nf_conv_options){.ctx_channels = 1}, "overflow");
    refused((nf_image){1, SIZE_MAX, 2}, 1, 0, (nf_conv_options){0}, "overflow");
    refused((nf_image){1, SIZE_MAX, 1}, 1, 0, (nf_conv_options){0}, "overflow");
    refused((nf_image){half, half, 1}, 1, 0, (nf_conv_options){0}, "overflow");
    refused((nf_image){1, half, 1}, half, 0, (nf_conv_options){0}, "overflow");
    refused(image, SIZE_MAX / 8, 0, (nf_conv_options){0}, "overflow");
    refused(image, 1, SIZE_MAX, (nf_conv_options){0}, "overflow");
    refused(image, 1, 0, (nf_conv_options){.hidden = huge, .n_hidden = 2}, "overflow");
    refused(image, 1, 0, (nf_conv_options){.hidden = large, .n_hidden = 2}, "overflow");
    refused(image, 1, 0, (nf_conv_options){.hidden = huge, .n_hidden = 1, .gated = true}, "overflow");
    refused(image, 1, 0, (nf_conv_options){.hidden = hidden, .n_hidden = 1, .n_blocks = SIZE_MAX / 2}, "overflow");
    refused(image, 1, 0, (nf_conv_options){.hidden = hidden, .n_hidden = 1, .n_blocks = SIZE_MAX / 64}, "overflow");
    /* No pixels of x are none too few. */
    nf_net *net = nf_conv_net((nf_image){3, 1, 1}, 2, 1, &(nf_conv_options){.in_pixels = NF_ODD_PIXELS});
    cr_assert_eq(nf_object_shape(nf_net_object(net))->dim_in, 0);
    nf_net_free(net);
}
