/* Flows of images with several scales (nf_glow, nf_realnvp_image): both directions with log-dets and gradients, for
   images of several sizes; what they are made of; the context; a short fit; refusals. */
#include "fail_alloc.h"
#include "push.h"
#include <nflow/nflow.h>
#include "support/expect.h"
#include "support/numbers.h"

#ifdef NF_SINGLE
static const double tolerance = 4e-3, rounding = 1.2e-7;
#else
static const double tolerance = 1e-6, rounding = 2.3e-16;
#endif

typedef nf_flow *recipe_fn(nf_image image, const nf_image_recipe_options *options);

/* A small net of smooth units, whose last layer is not 0. */
static const nf_conv_options smooth = {.hidden = (size_t[]){5, 4},
                                       .n_hidden = 2,
                                       .activation = NF_TANH,
                                       .norm = NF_CONV_ACTNORM,
                                       .last_scale = 0.3,
                                       .learnt_scale = true},
                             blocks = {.hidden = (size_t[]){4},
                                       .n_hidden = 1,
                                       .n_blocks = 1,
                                       .activation = NF_SWISH,
                                       .norm = NF_CONV_WEIGHT_NORM,
                                       .last_scale = 0.3};
static const nf_scaled_affine_options free_scale = {.scale = NF_SCALE_EXP};

static const struct {
    const char *name;
    recipe_fn *build;
    nf_image image;
    nf_image_recipe_options options;
} cases[] = {
    {"Glow", nf_glow, {1, 4, 4}, {.n_steps = 2, .net = &smooth}},
    {"Glow, colours", nf_glow, {3, 6, 4}, {.n_steps = 2, .net = &smooth, .mixing = NF_MIX_PERMUTE}},
    {"Glow of a context", nf_glow, {4, 4, 4}, {.n_ctx = 3, .n_steps = 1, .net = &smooth, .mixing = NF_MIX_NONE}},
    {"Glow, recomputed", nf_glow, {1, 8, 8}, {.n_steps = 2, .net = &smooth, .recompute = NF_RECOMPUTE_ALWAYS}},
    {"Glow, additive", nf_glow, {1, 4, 6}, {.n_steps = 2, .net = &smooth, .additive = true, .mixing = NF_MIX_REVERSE}},
    {"Glow, standard priors",
     nf_glow,
     {3, 4, 4},
     {.n_steps = 1, .net = &blocks, .scale = &free_scale, .prior = NF_PRIOR_STANDARD}},
    {"Real NVP", nf_realnvp_image, {1, 4, 4}, {.n_steps = 2, .net = &blocks}},
    {"Real NVP, colours", nf_realnvp_image, {3, 6, 4}, {.n_steps = 1, .net = &smooth}},
    {"Real NVP of a context",
     nf_realnvp_image,
     {1, 8, 8},
     {.n_ctx = 2, .n_steps = 1, .net = &blocks, .prior = NF_PRIOR_LEARNT, .recompute = NF_RECOMPUTE_ALWAYS}},
    {"Real NVP, additive",
     nf_realnvp_image,
     {4, 4, 4},
     {.n_levels = 1, .n_steps = 2, .net = &smooth, .additive = true}},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static nf_flow *build(size_t i)
{
    return cases[i].build(cases[i].image, &cases[i].options);
}

static nf_model *new_model(nf_flow *f)
{
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.seed = 24});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* ---- both directions ---- */

Test(glow, is_a_flow)
{
    for (size_t i = 0; i < N_CASES; i++) {
        nf_model *m = new_model(build(i));
        nf_check_report r;
        cr_assert_eq(nf_check_flow(m, &(nf_check_options){.seed = 3, .theta_scale = 0.1, .n = 3}, &r), NF_OK, "%s",
                     nf_error_message());
        const char *name = cases[i].name;
        for (int d = 0; d < 2; d++) {
            cr_assert_lt(r.inverse_error[d], tolerance, "%s: inverse %g", name, r.inverse_error[d]);
            cr_assert_lt(r.log_det_error[d], tolerance, "%s: log-det %g", name, r.log_det_error[d]);
            cr_assert_lt(r.x_error[d], tolerance, "%s: gradient in x %g", name, r.x_error[d]);
            cr_assert_lt(r.theta_error[d], tolerance, "%s: gradient in theta %g", name, r.theta_error[d]);
            cr_assert_lt(r.ctx_error[d], tolerance, "%s: gradient in the context %g", name, r.ctx_error[d]);
        }
        cr_assert_eq(r.untouched, 0, "%s: %zu features are never changed", name, r.untouched);
        nf_model_free(m);
    }
}

/* Recomputation changes gradients by no more than the rounding of inverses, and nothing else. */
Test(glow, recomputation_gives_the_same_gradients)
{
    enum { N = 5 };
    const nf_image image = {1, 8, 8};
    nf_real *x = normals(5, N * 64, 1), *g[2];
    double loss[2];
    size_t n = 0;
    for (int way = 0; way < 2; way++) {
        nf_image_recipe_options o = {.n_steps = 3, .net = &smooth};
        o.recompute = way ? NF_RECOMPUTE_ALWAYS : NF_RECOMPUTE_NEVER;
        nf_model *m =
            nf_model_of_dist(nf_pushforward(nf_normal(64), nf_glow(image, &o)), &(nf_model_options){.seed = 23});
        cr_assert_not_null(m, "%s", nf_error_message());
        n = nf_model_shape(m)->n_params;
        g[way] = reals(n);
        nf_objective *o_fit =
            nf_maximum_likelihood(m, &(nf_data){.n = N, .dim = 64, .x = x}, &(nf_likelihood_options){.batch = N});
        nf_step_report report;
        cr_assert_eq(nf_objective_gradient(o_fit, NULL, 1, 0, &report, g[way]), NF_OK, "%s", nf_error_message());
        loss[way] = report.loss;
        nf_objective_free(o_fit);
        nf_model_free(m);
    }
    cr_assert_float_eq(loss[0], loss[1], 10 * rounding * fabs(loss[0]));
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)g[0][i]));
    cr_assert_gt(largest, 0);
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq((double)g[0][i], (double)g[1][i], 3e4 * rounding * largest, "gradient %zu", i);
    free(x);
    free(g[0]);
    free(g[1]);
}

/* ---- what they are made of ---- */

static size_t convolution(size_t in, size_t out, size_t side)
{
    return side * side * in * out + out;
}

/* The papers' sizes without options, by the number of parameters, of an image of 3 x 32 x 32. */
Test(glow, has_the_sizes_of_the_paper)
{
    size_t wanted = 0;
    for (size_t l = 0; l < 3; l++) {
        const size_t c = (size_t)12 << l, half = c / 2;
        const size_t net =
            convolution(half, 512, 3) + 512 + convolution(512, 512, 1) + 512 + convolution(512, c, 3) + c;
        wanted += 32 * (net + c * c + c + 2 * c); /* with the 1x1 convolution, its bias, and actnorm */
        wanted += l < 2 ? convolution(half, c, 3) + c : 2 * c;
    }
    nf_flow *f = nf_glow((nf_image){3, 32, 32}, NULL);
    cr_assert_not_null(f, "%s", nf_error_message());
    cr_assert_eq(nf_flow_shape(f)->dim_in, 3 * 32 * 32);
    cr_assert_eq(nf_flow_shape(f)->n_params, wanted, "%zu, not %zu", nf_flow_shape(f)->n_params, wanted);
    nf_flow_free(f);
}

/* At the start couplings and priors do nothing, or next to nothing, and Real NVP has no permutation but squeezes. In
   Glow they move pixels and change signs; sigmoid(2) scales the changed half of the channels of each step. */
Test(glow, starts_as_a_reordering_of_the_pixels)
{
    for (int additive = 0; additive < 2; additive++) {
        const nf_image image = {3, 8, 8};
        nf_real *x = normals(7, 192, 1), *y = reals(192);
        double log_det;
        const nf_image_recipe_options o = {.n_steps = 2, .hidden = 6, .additive = additive == 1};
        nf_model *m = new_model(nf_glow(image, &o));
        push(m, NF_FORWARD, 1, x, NULL, y, &log_det);
        /* levels have 96, 48, 24 changed features in each of two steps */
        const double each = log(1 / (1 + exp(-2.)));
        cr_assert_float_eq(log_det, additive ? 0 : 2 * (96 + 48 + 24) * each, 1e4 * rounding);
        double squares[2] = {0, 0};
        for (size_t i = 0; i < 192; i++) {
            squares[0] += (double)x[i] * (double)x[i];
            squares[1] += (double)y[i] * (double)y[i];
        }
        if (additive)
            cr_assert_float_eq(squares[0], squares[1], 1e3 * rounding * squares[0]);
        else
            cr_assert_lt(squares[1], squares[0]);
        nf_model_free(m);
        free(x);
        free(y);
    }
}

/* The features that are split off first stand last in the latent vector, as they are: with standard priors a change of
   them does not reach what the next level makes. */
Test(glow, latent_vectors_have_the_last_scale_first)
{
    const nf_image image = {1, 8, 8};
    const nf_image_recipe_options o = {.n_levels = 3, .n_steps = 1, .net = &smooth};
    nf_model *m = new_model(nf_glow(image, &o));
    nf_real *x = normals(8, 64, 1), *z = reals(64), *moved = reals(64), *back = reals(64);
    push(m, NF_INVERSE, 1, x, NULL, z, NULL);
    for (size_t first = 8; first < 64; first += first == 8 ? 8 : 16) { /* from 8 on: of all scales but the last one */
        memcpy(moved, z, 64 * sizeof *z);
        moved[first] += 1;
        push(m, NF_FORWARD, 1, moved, NULL, x, NULL);
        push(m, NF_INVERSE, 1, x, NULL, back, NULL);
        for (size_t i = 0; i < 64; i++)
            cr_assert_float_eq((double)back[i], (double)moved[i], 1e4 * rounding * (1 + fabs((double)moved[i])));
    }
    nf_model_free(m);
    free(x);
    free(z);
    free(moved);
    free(back);
}

Test(glow, seeds_draw_the_permutations)
{
    const nf_image image = {2, 4, 4};
    nf_real *x = normals(9, 32, 1), *y[4];
    for (size_t k = 0; k < 4; k++) {
        const nf_image_recipe_options o = {
            .n_steps = 2, .hidden = 3, .mixing = k < 2 ? NF_MIX_PERMUTE : NF_MIX_LU, .seed = k % 2 + 1};
        nf_model *m = new_model(nf_glow(image, &o));
        y[k] = reals(32);
        push(m, NF_FORWARD, 1, x, NULL, y[k], NULL);
        nf_model_free(m);
    }
    for (size_t k = 0; k < 4; k++)
        for (size_t j = 0; j < k; j++)
            cr_assert(memcmp(y[j], y[k], 32 * sizeof **y) != 0, "%zu and %zu are equal", j, k);
    for (size_t k = 0; k < 4; k++)
        free(y[k]);
    free(x);
}

/* ---- context ---- */

/* Each net reads the context: with another one, every latent feature of an image is another one. */
Test(glow, context_reaches_every_scale)
{
    for (int boards = 0; boards < 2; boards++) {
        const nf_image image = {1, 8, 8};
        const nf_image_recipe_options o = {
            .n_ctx = 2, .n_levels = 2, .n_steps = 1, .net = &smooth, .prior = NF_PRIOR_LEARNT};
        nf_model *m = new_model(boards ? nf_realnvp_image(image, &o) : nf_glow(image, &o));
        const size_t n = nf_model_shape(m)->n_params;
        nf_real *noise = normals(11, n, 0.2), *x = normals(12, 64, 1), *z[2] = {reals(64), reals(64)};
        for (size_t i = 0; i < n; i++)
            nf_model_theta(m)[i] += noise[i];
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        for (int c = 0; c < 2; c++)
            push(m, NF_INVERSE, 1, x, (nf_real[]){c == 0, c == 1}, z[c], NULL);
        for (size_t i = 0; i < 64; i++)
            cr_assert_neq(z[0][i], z[1][i], "feature %zu", i);
        nf_model_free(m);
        free(noise);
        free(x);
        free(z[0]);
        free(z[1]);
    }
}

/* ---- a fit ---- */

enum { SIDE = 4, DIM = SIDE * SIDE, N = 2000 };

/* Images [n x DIM] whose pixels go on from those above and to the left: x = 1.7 + 2.3 u, u_rc = (u_up + u_left) / 2
   + 0.4 z. They are normal, of entropy DIM (log(2 pi e) / 2 + log(0.4 x 2.3)). */
static nf_real *images(uint64_t seed, size_t n)
{
    nf_real *x = normals(seed, n * DIM, 1);
    for (size_t i = 0; i < n; i++) {
        double u[SIDE][SIDE];
        for (size_t r = 0; r < SIDE; r++)
            for (size_t c = 0; c < SIDE; c++) {
                nf_real *at = x + i * DIM + r * SIDE + c;
                u[r][c] = ((r ? u[r - 1][c] : 0) + (c ? u[r][c - 1] : 0)) / 2 + 0.4 * (double)*at;
                *at = (nf_real)(1.7 + 2.3 * u[r][c]);
            }
    }
    return x;
}
static const double entropy = DIM * (1.4189385332046727 - 0.083381608939051);

static double loss_of(const nf_model *m, const nf_real *x)
{
    double *log_p = malloc(N * sizeof *log_p), sum = 0;
    cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, log_p), NF_OK);
    for (size_t i = 0; i < N; i++)
        sum -= log_p[i] / N;
    free(log_p);
    return sum;
}

/* Trained for a few steps, the loss of fresh images falls, towards the entropy and not below it; and the same numbers
   come out for any number of threads. */
Test(glow, learns_a_density)
{
    const nf_conv_options net = {.hidden = (size_t[]){8}, .n_hidden = 1, .last_scale = NF_ZERO, .learnt_scale = true};
    for (int boards = 0; boards < 2; boards++) {
        nf_real *x = images(31, N), *fresh = images(32, N), *theta = NULL;
        for (size_t threads = 1; threads <= 2; threads++) {
            const nf_image image = {1, SIDE, SIDE};
            const nf_image_recipe_options o = {.n_levels = 2, .n_steps = 2, .net = &net};
            nf_flow *f = boards ? nf_realnvp_image(image, &o) : nf_glow(image, &o);
            nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), f),
                                           &(nf_model_options){.seed = 11, .n_init = N, .init_x = x});
            cr_assert_not_null(m, "%s", nf_error_message());
            const size_t n = nf_model_shape(m)->n_params;
            const double before = loss_of(m, fresh);
            nf_objective *fit = nf_maximum_likelihood(m, &(nf_data){.n = N, .dim = DIM, .x = x},
                                                      &(nf_likelihood_options){.batch = 125});
            cr_assert_eq(nf_fit(fit, &(nf_fit_options){.steps = 300, .rate = 0.006, .threads = threads}, NULL), NF_OK,
                         "%s", nf_error_message());
            const double after = loss_of(m, fresh);
            cr_assert_lt(after, before - 1.5, "%g, then %g; entropy %g", before, after, entropy);
            cr_assert_gt(after, entropy - 4 * sqrt(DIM / 2. / N)); /* a sample's -log p has the variance DIM / 2 */
            cr_assert_lt(after, entropy + 0.9, "%g, entropy %g", after, entropy);
            if (threads == 1) {
                theta = reals(n);
                memcpy(theta, nf_model_theta(m), n * sizeof *theta);
            } else
                same_numbers(n, theta, nf_model_theta(m), "parameter");
            nf_objective_free(fit);
            nf_model_free(m);
        }
        free(theta);
        free(x);
        free(fresh);
    }
}

/* ---- refusals ---- */

Test(glow, refuses)
{
    const nf_image image = {1, 28, 28};
    const nf_image_recipe_options three = {.n_levels = 3}, both = {.hidden = 4, .net = &smooth},
                                  stray_blocks = {.n_blocks = 2}, scaled = {.additive = true, .scale = &free_scale},
                                  mixed = {.mixing = NF_MIX_LU}, many = {.n_levels = 21};
    expect_none(nf_glow(image, &three), NF_EARG,
                "nf_glow: the image is 28 x 28, but with 3 levels height and width must be multiples of 8");
    expect_none(nf_glow((nf_image){1, 5, 4}, NULL), NF_EARG,
                "the image is 5 x 4, but with 1 level height and width must be multiples of 2");
    expect_none(nf_realnvp_image((nf_image){1, 4, 7}, NULL), NF_EARG, "nf_realnvp_image: the image is 4 x 7");
    expect_none(nf_glow((nf_image){0, 4, 4}, NULL), NF_EARG, "nf_glow: an image of 0 channels, 4 x 4");
    expect_none(nf_glow(image, &many), NF_EARG, "n_levels");
    expect_none(nf_glow(image, &both), NF_EARG, "`net` is given, and so is `hidden`");
    expect_none(nf_glow(image, &stray_blocks), NF_EARG, "nf_glow: `n_blocks` is given");
    expect_none(nf_glow(image, &scaled), NF_EARG, "nf_glow: `scale` is given, but the couplings are additive");
    expect_none(nf_realnvp_image(image, &mixed), NF_EARG, "nf_realnvp_image: `mixing` is given");
    const nf_conv_options even = {.kernel = (size_t[]){2}, .n_kernel = 1};
    const nf_image_recipe_options even_net = {.net = &even};
    expect_none(nf_glow(image, &even_net), NF_EARG, "nf_glow: `net`: nf_conv_net");
    const nf_scaled_affine_options wrong = {.scale = NF_SCALE_TANH, .limit = -1};
    const nf_image_recipe_options wrong_scale = {.scale = &wrong};
    expect_none(nf_glow(image, &wrong_scale), NF_EARG, "nf_glow: `scale`: nf_scaled_affine");
    unsigned char mask[8];
    cr_assert_eq(nf_mask_channels((nf_image){1, 2, 2}, 0, mask), 0);
    expect_none(NULL, NF_EARG, "nf_mask_channels: an image of one channel, 2 x 2, has no half");
    cr_assert_eq(nf_mask_channels((nf_image){2, 2, 2}, 0, NULL), 0);
    expect_none(NULL, NF_EARG, "`mask` is NULL");
    cr_assert_eq(nf_mask_channels((nf_image){2, 0, 2}, 0, mask), 0);
    expect_none(NULL, NF_EARG, "2 channels, 0 x 2");
    cr_assert_eq(nf_mask_channels((nf_image){3, 1, 2}, 0, mask), 2);
    cr_assert(!mask[0] && !mask[3] && mask[4] && mask[5]);
    cr_assert_eq(nf_mask_channels((nf_image){3, 1, 2}, 1, mask), 4);
    cr_assert(mask[0] && mask[3] && !mask[4] && !mask[5]);
}

/* Each allocation fails in turn: nothing is made, nothing leaks. */
Test(glow, survives_failing_allocations)
{
    const nf_image_recipe_options o = {
        .n_ctx = 1, .n_levels = 2, .n_steps = 1, .net = &smooth, .prior = NF_PRIOR_LEARNT};
    for (int boards = 0; boards < 2; boards++) {
        const size_t before = alloc_live();
        bool failed = true;
        for (size_t k = 0; failed; k++) {
            fail_alloc_after(k);
            nf_flow *f = boards ? nf_realnvp_image((nf_image){1, 4, 4}, &o) : nf_glow((nf_image){1, 4, 4}, &o);
            failed = fail_alloc_off();
            cr_assert(failed == (f == NULL), "allocation %zu", k);
            if (failed)
                cr_assert_eq(nf_error_status(), NF_ENOMEM, "allocation %zu: %s", k, nf_error_message());
            nf_flow_free(f);
            cr_assert_eq(alloc_live(), before, "allocation %zu: something is left", k);
        }
    }
}
