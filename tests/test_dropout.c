/* Dropout: means against the net without it, the same mask forward and backward, other masks for other names, no
   dependence on tiles and threads. */
#include "net_fixture.h"
#include <nflow/image.h>
#include <nflow/model.h>

static void train(fixture *f, uint64_t step)
{
    f->p.mode = NF_TRAIN;
    f->p.noise = (nf_noise){.seed = 815, .step = step, .first_sample = 1234, .site = 6};
}

/* Nets whose outputs are linear in what is dropped: identity units, one layer of them. */
static nf_net *linear_net(net_kind kind, double dropout)
{
    static const size_t hidden[] = {9};
    const nf_mlp_options o = {.hidden = hidden, .n_hidden = 1, .dropout = dropout};
    nf_mlp_options plain = o;
    plain.activation = NF_IDENTITY;
    switch (kind) {
    case MLP:
        return nf_mlp(3, 2, 2, &plain);
    case GATED:
        return nf_gated_mlp(3, 2, 2, &o);
    case MAXOUT:
        return nf_maxout_mlp(3, 2, 2, &(nf_maxout_options){.hidden = hidden, .n_hidden = 1, .dropout = dropout});
    default:
        return nf_residual_mlp(
            3, 2, 2,
            &(nf_residual_mlp_options){
                .width = 9, .n_blocks = 1, .block_scale = 1, .init = NF_INIT_TORCH, .dropout = dropout});
    }
}

/* The same sample many times over: the mean of its outputs. */
Test(dropout, mean_is_the_net_without_it)
{
    enum { N = 20000, LD = 20000 };
    for (net_kind kind = MLP; kind < N_KINDS; kind++) {
        nf_net *net = linear_net(kind, 0.3), *none = linear_net(kind, 0);
        const nf_object *o = nf_net_object(net);
        nf_arena numbers = {0}, scratch = {0};
        nf_real *theta = nf_arena_reals(&numbers, 1, nf_object_shape(o)->n_params);
        nf_real *x = nf_arena_reals(&numbers, 5, LD), *y = nf_arena_reals(&numbers, 2, LD), sure[2 * LD];
        const nf_noise noise = {.seed = 7};
        memset(theta, 0, nf_object_shape(o)->n_params * sizeof *theta);
        cr_assert_eq(nfi_tree_init(o, &noise, NULL, theta, NULL), NF_OK);
        for (size_t i = 0; i < 5 * LD; i++)
            x[i] = NF_R(0.3) + NF_R(0.4) * (nf_real)(i / LD);
        nf_pass p = {.n = N, .ld = LD, .theta = theta, .ctx = x + 3 * LD, .scratch = &scratch, .mode = NF_TRAIN};
        p.noise = (nf_noise){.seed = 99, .step = 3};
        cr_assert_eq(nf_net_apply(o, &p, x, y, NULL), NF_OK);
        cr_assert_eq(nf_net_apply(nf_net_object(none), &p, x, sure, NULL), NF_OK);
        for (size_t r = 0; r < 2; r++) {
            double mean = 0, square = 0;
            for (size_t s = 0; s < N; s++) {
                double e = (double)y[r * LD + s] - (double)sure[r * LD];
                mean += e / N;
                square += e * e / N;
            }
            cr_assert_gt(square, 1e-3, "%s: nothing is dropped", kind_names[kind]);
            cr_assert_lt(fabs(mean), 4.5 * sqrt(square / N), "%s, feature %zu: mean is off by %g of %g",
                         kind_names[kind], r, mean, sqrt(square / N));
        }
        /* Evaluation drops nothing. */
        p.mode = NF_EVAL;
        cr_assert_eq(nf_net_apply(o, &p, x, y, NULL), NF_OK);
        cr_assert_arr_eq(y, sure, sizeof sure);
        nfi_arena_clear(&numbers);
        nfi_arena_clear(&scratch);
        nf_net_free(net);
        nf_net_free(none);
    }
}

/* A unit is 0 or scaled by 1 / (1 - p), as often as it should be: read off a net that copies x through one layer. */
Test(dropout, masks_of_layers_samples_and_steps_differ)
{
    enum { W = 8, N = 4000, LD = 4000 };
    static const double p = 0.25;
    static const size_t hidden[] = {W, W};
    nf_net *net =
        nf_mlp(W, W, 0, &(nf_mlp_options){.hidden = hidden, .n_hidden = 2, .activation = NF_IDENTITY, .dropout = p});
    static nf_real x[W * LD], y[W * LD], again[W * LD], other[W * LD], theta[3 * W * (W + 1)];
    nf_arena scratch = {0};
    for (size_t l = 0; l < 3; l++)
        for (size_t i = 0; i < W; i++)
            theta[l * W * (W + 1) + i * W + i] = 1;
    for (size_t i = 0; i < W * LD; i++)
        x[i] = 1;
    nf_pass pass = {.n = N, .ld = LD, .theta = theta, .scratch = &scratch, .mode = NF_TRAIN};
    pass.noise = (nf_noise){.seed = 4, .step = 17, .first_sample = 100};
    cr_assert_eq(nf_net_apply(nf_net_object(net), &pass, x, y, NULL), NF_OK);
    cr_assert_eq(nf_net_apply(nf_net_object(net), &pass, x, again, NULL), NF_OK);
    cr_assert_arr_eq(y, again, sizeof y);
    /* Two independent layers: (1 - p)^2 survive. One mask for both would leave 1 - p. */
    size_t alive = 0, columns_equal = 0;
    for (size_t i = 0; i < W * N; i++) {
        cr_assert((double)y[i] == 0 || fabs((double)y[i] - 1 / ((1 - p) * (1 - p))) < 1e-6, "%g", (double)y[i]);
        alive += (double)y[i] != 0;
    }
    const double share = (1 - p) * (1 - p), error = sqrt(share * (1 - share) * W * N);
    cr_assert_lt(fabs((double)alive - share * W * N), 4.5 * error, "%zu of %d", alive, W * N);
    for (size_t s = 1; s < N; s++) {
        size_t same = 0;
        for (size_t r = 0; r < W; r++)
            same += (double)y[r * LD + s] == (double)y[r * LD + s - 1];
        columns_equal += same == W;
    }
    cr_assert_lt(columns_equal, N / 20, "samples share masks");
    /* A new name gives a new mask; the sample's own index is its name. */
    const nf_noise names[] = {{.seed = 5, .step = 17, .first_sample = 100},
                              {.seed = 4, .step = 18, .first_sample = 100},
                              {.seed = 4, .step = 17, .first_sample = 100, .site = 2}};
    for (size_t k = 0; k < 3; k++) {
        pass.noise = names[k];
        cr_assert_eq(nf_net_apply(nf_net_object(net), &pass, x, other, NULL), NF_OK);
        size_t same = 0;
        for (size_t i = 0; i < W * N; i++)
            same += (double)y[i] == (double)other[i];
        const double expected = share * share + (1 - share) * (1 - share);
        cr_assert_lt(fabs((double)same / (W * N) - expected), 0.02, "name %zu: %zu alike", k, same);
    }
    pass.noise = (nf_noise){.seed = 4, .step = 17, .first_sample = 100 + 32};
    pass.n = pass.ld = 64;
    cr_assert_eq(nf_net_apply(nf_net_object(net), &pass, x, other, NULL), NF_OK);
    for (size_t r = 0; r < W; r++)
        for (size_t s = 0; s < 64; s++)
            cr_assert_eq((double)other[r * 64 + s], (double)y[r * LD + s + 32]);
    nfi_arena_clear(&scratch);
    nf_net_free(net);
}

/* Blocks of a residual net: with h = 0 but for its biases, each block's t is its mask. */
Test(dropout, residual_blocks_have_masks_of_their_own)
{
    enum { W = 6, N = 2000, LD = 2000 };
    static const double p = 0.5;
    nf_net *net = nf_residual_mlp(
        0, W, 0, &(nf_residual_mlp_options){.width = W, .n_blocks = 2, .activation = NF_RELU, .dropout = p});
    static nf_real y[W * LD], theta[W + 4 * W * (W + 1) + W * (W + 1)];
    nf_arena scratch = {0};
    const size_t size = W * (W + 1), final = W + 4 * size;
    for (size_t i = 0; i < W; i++) {
        for (size_t k = 0; k < 2; k++) {
            theta[W + 2 * k * size + W * W + i] = k ? 2 : 1;       /* b1: u = 1, then 2 */
            theta[W + (2 * k + 1) * size + i * W + i] = NF_R(0.5); /* W2: t = u / 2 = mask / 2, then mask */
        }
        theta[final + i * W + i] = 1;
    }
    nf_pass pass = {.n = N, .ld = LD, .theta = theta, .scratch = &scratch, .mode = NF_TRAIN, .noise = {.seed = 3}};
    cr_assert_eq(nf_net_apply(nf_net_object(net), &pass, NULL, y, NULL), NF_OK);
    size_t count[4] = {0};
    for (size_t i = 0; i < W * N; i++) { /* 1 from the first block, 2 from the second */
        cr_assert((double)y[i] == 0 || (double)y[i] == 1 || (double)y[i] == 2 || (double)y[i] == 3);
        count[(size_t)y[i]]++;
    }
    for (size_t k = 0; k < 4; k++)
        cr_assert_lt(fabs((double)count[k] - W * N / 4.), 4.5 * sqrt(W * N * 3 / 16.), "%zu has %zu", k, count[k]);
    nfi_arena_clear(&scratch);
    nf_net_free(net);
}

/* Probability 0 in training is bit-equal to evaluation; so is evaluation with dropout. */
Test(dropout, none_is_none)
{
    for (net_kind kind = MLP; kind < N_KINDS; kind++) {
        fixture none, some;
        set_up_dropping(&none, kind, 6, 4, 3, NF_TANH, NF_IDENTITY, 20, 0);
        set_up_dropping(&some, kind, 6, 4, 3, NF_TANH, NF_IDENTITY, 20, 0.4);
        run(&some);
        run_back(&some, some.gx, &some.g);
        train(&none, 1);
        run(&none);
        run_back(&none, none.gx, &none.g);
        cr_assert_arr_eq(none.y, some.y, 4 * none.p.ld * sizeof *none.y);
        cr_assert_arr_eq(none.gx, some.gx, 6 * none.p.ld * sizeof *none.gx);
        cr_assert_arr_eq(none.g.theta, some.g.theta, none.shape->n_params * sizeof *none.gx);
        train(&some, 1);
        run(&some);
        cr_assert_arr_neq(none.y, some.y, 4 * none.p.ld * sizeof *none.y);
        tear_down(&none);
        tear_down(&some);
    }
}

/* ---- convolutions ---- */

enum { CONVOLUTIONS, GATED_CONVOLUTIONS, RESIDUAL_CONVOLUTIONS, N_CONVOLUTIONS };

static void set_up_convolutions(fixture *f, int kind, size_t n, double dropout)
{
    static const size_t hidden[] = {4, 3};
    const nf_conv_options options[] = {{.hidden = hidden, .n_hidden = 2, .activation = NF_TANH, .dropout = dropout},
                                       {.hidden = hidden, .n_hidden = 2, .gated = true, .dropout = dropout},
                                       {.hidden = hidden,
                                        .n_hidden = 1,
                                        .n_blocks = 2,
                                        .activation = NF_SWISH,
                                        .dropout = dropout,
                                        .init = NF_INIT_GLOROT}};
    memset(f, 0, sizeof *f);
    f->net = nf_conv_net((nf_image){2, 2, 3}, 2, 3, &options[kind]);
    cr_assert_not_null(f->net, "%s", nf_error_message());
    draw_numbers(f, n);
}

/* With weights that copy x through two layers, y shows the masks: each pixel of a channel is dropped by itself. */
Test(dropout, pixels_are_units)
{
    enum { C = 3, PIXELS = 4, N = 2000, LD = 2000 };
    static const double p = 0.25;
    static const size_t hidden[] = {C, C}, sides[] = {1, 1, 1};
    nf_net *net = nf_conv_net(
        (nf_image){C, 2, 2}, C, 0,
        &(nf_conv_options){
            .hidden = hidden, .n_hidden = 2, .kernel = sides, .n_kernel = 3, .activation = NF_IDENTITY, .dropout = p});
    static nf_real x[C * PIXELS * LD], y[C * PIXELS * LD], theta[3 * C * (C + 1)];
    nf_arena scratch = {0};
    for (size_t l = 0; l < 3; l++)
        for (size_t i = 0; i < C; i++)
            theta[l * C * (C + 1) + i * C + i] = 1;
    for (size_t i = 0; i < C * PIXELS * LD; i++)
        x[i] = 1;
    nf_pass pass = {.n = N, .ld = LD, .theta = theta, .scratch = &scratch, .mode = NF_TRAIN, .noise = {.seed = 6}};
    cr_assert_eq(nf_net_apply(nf_net_object(net), &pass, x, y, NULL), NF_OK);
    size_t alive = 0, both = 0;
    const double share = (1 - p) * (1 - p);
    for (size_t i = 0; i < C * PIXELS * LD; i++) {
        cr_assert((double)y[i] == 0 || fabs((double)y[i] * share - 1) < 1e-6, "%g", (double)y[i]);
        alive += (double)y[i] != 0;
        both += i / LD % PIXELS > 0 && (double)y[i] != 0 && (double)y[i - LD] != 0; /* neighbours in a channel */
    }
    const double count = C * PIXELS * LD, pairs = C * (PIXELS - 1) * LD;
    cr_assert_lt(fabs((double)alive - share * count), 4.5 * sqrt(share * (1 - share) * count), "%zu", alive);
    cr_assert_lt(fabs((double)both - share * share * pairs), 9 * sqrt(share * share * (1 - share * share) * pairs),
                 "%zu neighbours", both);
    nfi_arena_clear(&scratch);
    nf_net_free(net);
}

/* Evaluation drops nothing; training drops the same with and without a tape, in every sort of net. */
Test(dropout, convolutions_drop_in_training_alone)
{
    for (int kind = 0; kind < N_CONVOLUTIONS; kind++) {
        fixture none, some;
        set_up_convolutions(&none, kind, 20, 0);
        set_up_convolutions(&some, kind, 20, 0.4);
        const size_t size = 12 * none.p.ld * sizeof *none.y;
        run(&some);
        run_back(&some, some.gx, &some.g);
        train(&none, 1);
        run(&none);
        run_back(&none, none.gx, &none.g);
        cr_assert_arr_eq(none.y, some.y, size);
        cr_assert_arr_eq(none.gx, some.gx, size);
        cr_assert_arr_eq(none.g.theta, some.g.theta, none.shape->n_params * sizeof *none.gx);
        train(&some, 1);
        run(&some);
        cr_assert_arr_neq(none.y, some.y, size, "net %d", kind);
        nf_real *again = fixture_draw(&some, 12, 20, some.p.ld, 3);
        some.p.tape = NULL;
        cr_assert_eq(nf_net_apply(nf_net_object(some.net), &some.p, some.x, again, NULL), NF_OK);
        cr_assert_arr_eq(again, some.y, size, "net %d: without a tape", kind);
        tear_down(&none);
        tear_down(&some);
    }
}

/* Forward draws the same mask with and without a tape, and for the samples of a tile cut in two. */
Test(dropout, mask_does_not_depend_on_tape_or_tile)
{
    for (net_kind kind = MLP; kind < N_KINDS; kind++) {
        enum { N = 300 };
        nf_net *net = fixture_net(kind, 4, 3, 0, NF_ELU, NF_IDENTITY, 0.4);
        nf_arena scratch = {0};
        nf_model *m = nf_model_of_net(net, &(nf_model_options){.seed = 5});
        fixture f = {0};
        nf_real *x = fixture_draw(&f, 4, N, 304, 1), y[3 * 304], part[3 * 304];
        nf_arena tape = {0};
        void *saved;
        nf_pass p = {.n = N, .ld = 304, .theta = nf_model_theta(m), .scratch = &scratch, .mode = NF_TRAIN};
        p.noise = (nf_noise){.seed = 1, .step = 2, .first_sample = 3};
        cr_assert_eq(nf_net_apply(nf_model_object(m), &p, x, y, NULL), NF_OK);
        p.tape = &tape;
        cr_assert_eq(nf_net_apply(nf_model_object(m), &p, x, part, &saved), NF_OK);
        cr_assert_arr_eq(y, part, sizeof y);
        /* Samples 160 .. 299 on their own. */
        nf_real *tail = nf_arena_reals(&f.numbers, 4, 144);
        for (size_t i = 0; i < 4 * 144; i++)
            tail[i] = x[i / 144 * 304 + 160 + i % 144];
        p.n = N - 160;
        p.ld = 144;
        p.noise.first_sample += 160;
        cr_assert_eq(nf_net_apply(nf_model_object(m), &p, tail, part, &saved), NF_OK);
        for (size_t r = 0; r < 3; r++)
            for (size_t s = 0; s < N - 160; s++)
                cr_assert_float_eq((double)part[r * 144 + s], (double)y[r * 304 + 160 + s], 1e-5, "%s, sample %zu",
                                   kind_names[kind], s);
        nfi_arena_clear(&scratch);
        nfi_arena_clear(&tape);
        nfi_arena_clear(&f.numbers);
        nf_model_free(m);
    }
}

#ifndef NF_SINGLE
/* Taylor's theorem holds with the mask held: forward passes at displaced points, and the gradient, draw the same. */
Test(dropout, gradient_is_that_of_the_same_mask)
{
    static const nf_activation smooth[] = {NF_TANH, NF_SOFTPLUS, NF_SIGMOID};
    for (net_kind kind = MLP; kind < N_KINDS; kind++)
        for (int a = 0; a < 3; a++) {
            fixture f;
            direction v[3];
            double d[3];
            set_up_dropping(&f, kind, 6, 4, 3, smooth[a], smooth[a], 37, 0.3);
            train(&f, 5);
            derivatives(&f, v, d);
            for (int k = 0; k < 3; k++) {
                if (kind == MAXOUT) { /* piecewise linear but for its last layer: the difference is enough */
                    double h = 1e-6, wanted = (displaced(&f, h, v[k]) - displaced(&f, -h, v[k])) / (2 * h);
                    cr_assert_float_eq(d[k], wanted, 1e-7 * (10 + fabs(wanted)), "maxout, input %d: %g, not %g", k,
                                       d[k], wanted);
                    continue;
                }
                double slope = taylor_slope(&f, v[k], d[k]);
                cr_assert_float_eq(slope, 2, 0.05, "%s, unit %d, input %d: slope %g", kind_names[kind], (int)smooth[a],
                                   k, slope);
            }
            tear_down(&f);
        }
    for (int kind = 0; kind < N_CONVOLUTIONS; kind++) {
        fixture f;
        direction v[3];
        double d[3];
        set_up_convolutions(&f, kind, 37, 0.3);
        train(&f, 5);
        derivatives(&f, v, d);
        for (int k = 0; k < 3; k++) {
            const double slope = taylor_slope(&f, v[k], d[k]);
            cr_assert_float_eq(slope, 2, 0.05, "convolutions, net %d, input %d: slope %g", kind, k, slope);
        }
        tear_down(&f);
    }
}
#endif
