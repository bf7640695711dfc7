/* Nets as objects: initial weights against the moments they claim, shapes, names of tensors, options that are refused.
 */
#include "object/tree.h"
#include "slices.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static nf_real *initial(const nf_net *net, size_t *n)
{
    const nf_object *o = (const nf_object *)net;
    *n = nf_object_shape(o)->n_params;
    nf_real *theta = calloc(*n, sizeof *theta);
    nf_noise noise = {.seed = 4711};
    cr_assert_eq(nfi_tree_init(o, &noise, NULL, theta, NULL), NF_OK);
    return theta;
}

/* Mean 0 and variance sigma^2 within 4.5 standard errors; kurtosis 3 (normal) or 9/5 (uniform). */
static void check_moments(size_t n, const nf_real *w, double sigma, double kurtosis, const char *what)
{
    double mean = 0, square = 0, count = (double)n;
    for (size_t i = 0; i < n; i++) {
        mean += (double)w[i] / count;
        square += (double)w[i] * (double)w[i] / count;
    }
    cr_assert_float_eq(mean, 0, 4.5 * sigma / sqrt(count), "%s: mean %g", what, mean);
    cr_assert_float_eq(square / (sigma * sigma), 1, 4.5 * sqrt((kurtosis - 1) / count), "%s: variance %g, not %g", what,
                       square, sigma * sigma);
}

/* 90 -> 120 -> 120 -> 40: both inner layers have 120 outputs, the last fans differ. */
Test(net_options, initial_weights_have_their_variance)
{
    static const struct {
        nf_initialisation init;
        nf_activation unit;
        double sigma[3];
        double kurtosis;
    } row[] = {
        {NF_INIT_AUTO, NF_RELU, {0.14907119849998599, 0.12909944487358055, 0.11180339887498948}, 3},
        {NF_INIT_AUTO, NF_ELU, {0.14907119849998599, 0.12909944487358055, 0.11180339887498948}, 3},
        {NF_INIT_AUTO, NF_TANH, {0.097590007294853315, 0.091287092917527679, 0.11180339887498948}, 3},
        {NF_INIT_HE, NF_TANH, {0.14907119849998599, 0.12909944487358055, 0.12909944487358055}, 3},
        {NF_INIT_GLOROT, NF_RELU, {0.097590007294853315, 0.091287092917527679, 0.11180339887498948}, 3},
        {NF_INIT_LECUN, NF_RELU, {0.10540925533894598, 0.091287092917527679, 0.091287092917527679}, 3},
        {NF_INIT_TORCH, NF_RELU, {0.060858061945018464, 0.052704627669472988, 0.052704627669472988}, 1.8},
        {NF_INIT_SMALL, NF_RELU, {0.001, 0.001, 0.001}, 3},
    };
    static const size_t width[] = {90, 120, 120, 40};
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        nf_net *net = nf_mlp(
            75, 40, 15,
            &(nf_mlp_options){.hidden = width + 1, .n_hidden = 2, .activation = row[k].unit, .init = row[k].init});
        size_t n, at = 0;
        nf_real *theta = initial(net, &n);
        for (size_t l = 0; l < 3; l++) {
            size_t n_weights = width[l] * width[l + 1];
            char what[64];
            snprintf(what, sizeof what, "row %zu, layer %zu", k, l);
            check_moments(n_weights, theta + at, row[k].sigma[l], row[k].kurtosis, what);
            for (size_t i = 0; i < n_weights && row[k].init == NF_INIT_TORCH; i++)
                cr_assert_lt(fabs((double)theta[at + i]), 1.000001 / sqrt((double)width[l]));
            for (size_t i = 0; i < width[l + 1]; i++) {
                double b = (double)theta[at + n_weights + i];
                cr_assert(row[k].init == NF_INIT_TORCH ? fabs(b) < 1.000001 / sqrt((double)width[l]) && b != 0 : b == 0,
                          "%s: bias %zu is %g", what, i, b);
            }
            at += n_weights + width[l + 1];
        }
        cr_assert_eq(at, n);
        /* Layers do not share their noise. */
        double product = 0;
        const nf_real *second = theta + 91 * 120;
        for (size_t i = 0; i < 90 * 120; i++)
            product += (double)theta[i] * (double)second[i] / (row[k].sigma[0] * row[k].sigma[1]);
        cr_assert_lt(fabs(product), 4.5 * sqrt(90. * 120.), "row %zu: layers are correlated", k);
        free(theta);
        nf_net_free(net);
    }
}

/* Swish begins with b = log(1 + exp(beta)) = 1, LipSwish with beta = 0.5 (Chen et al. 2019); the rest as with other
   units. */
Test(net_options, units_with_a_parameter_start_as_in_the_papers)
{
    static const size_t wide[] = {120};
    for (nf_activation unit = NF_SWISH; unit <= NF_LIPSWISH; unit++) {
        const double beta = unit == NF_SWISH ? 0.54132485461291811 : 0.5;
        nf_net *net[] = {
            nf_mlp(90, 40, 0, &(nf_mlp_options){.hidden = wide, .n_hidden = 1, .activation = unit}),
            nf_residual_mlp(4, 2, 0, &(nf_residual_mlp_options){.width = 6, .n_blocks = 2, .activation = unit}),
            nf_masked_net(3, 1, 0, &(nf_masked_options){.hidden = wide, .n_hidden = 1, .activation = unit})};
        nf_real *theta[3];
        size_t n[3];
        for (size_t k = 0; k < 3; k++)
            theta[k] = initial(net[k], &n[k]);
        cr_assert_eq(n[0], 91 * 120 + 1 + 121 * 40);
        check_moments(90 * 120, theta[0], 0.14907119849998599, 3, "first layer");
        cr_assert_float_eq((double)theta[0][91 * 120], beta, 1e-7);
        check_moments(120 * 40, theta[0] + 91 * 120 + 1, 0.11180339887498948, 3, "last layer");
        for (size_t layer = 1; layer <= 4; layer++)
            cr_assert_float_eq((double)theta[1][30 + layer * 43 - 1], beta, 1e-7);
        cr_assert_float_eq((double)theta[2][60 * 1 + 60 * 2 + 120], beta, 1e-7);
        for (size_t k = 0; k < 3; k++) {
            free(theta[k]);
            nf_net_free(net[k]);
        }
    }
}

Test(net_options, last_scale_multiplies_the_last_layer)
{
    static const size_t hidden[] = {30};
    static const double option[] = {0, 1, 0.0375, -2.5}, factor[] = {1, 1, 0.0375, 0};
    nf_real *first = NULL;
    for (size_t k = 0; k < 4; k++) {
        nf_net *net = nf_mlp(20, 9, 0, &(nf_mlp_options){.hidden = hidden, .n_hidden = 1, .last_scale = option[k]});
        size_t n;
        nf_real *theta = initial(net, &n);
        for (size_t i = 0; first && i < n; i++) {
            double wanted = (double)first[i] * (i < 630 ? 1 : factor[k]);
            cr_assert_float_eq((double)theta[i], wanted, 1e-7 * fabs(wanted), "number %zu", i);
        }
        if (first)
            free(theta);
        else
            first = theta;
        nf_net_free(net);
    }
    free(first);
}

/* ---- structure ---- */

/* Takes the net. */
static void check_shape(nf_net *net, size_t n_params, size_t n_saved, uint32_t n_sites, const char *names)
{
    const nf_shape *s = nf_object_shape(nf_net_object(net));
    cr_assert_not_null(net, "%s", nf_error_message());
    cr_assert_eq(s->dim_in, 4);
    cr_assert_eq(s->dim_out, 2);
    cr_assert_eq(s->n_ctx, 3);
    cr_assert_eq(s->n_params, n_params);
    cr_assert_eq(s->n_saved, n_saved);
    cr_assert_eq(s->n_sites, n_sites);
    cr_assert_not(s->flags & NF_STOCHASTIC); /* dropout is noise of training alone */
    char text[1000] = "";
    nfi_tree_slices(nf_net_object(net), list_slice, text);
    cr_assert_str_eq(text, names);
    nf_net_free(net);
}

static const size_t seven_five[] = {7, 5};

Test(net_options, shape_and_slices)
{
    const nf_mlp_options o = {.hidden = seven_five, .n_hidden = 2}, dropping = {seven_five, 2, .dropout = 0.5};
    const char *names = "0.weight@0:7x7 0.bias@49:7 1.weight@56:5x7 1.bias@91:5 2.weight@96:2x5 2.bias@106:2 ";
    check_shape(nf_mlp(4, 2, 3, &o), 108, 12, 1, names);
    check_shape(nf_mlp(4, 2, 3, &dropping), 108, 24, 2, names);
    check_shape(nf_gated_mlp(4, 2, 3, &o), 204, 36, 1,
                "0.weight@0:14x7 0.bias@98:14 1.weight@112:10x7 1.bias@182:10 2.weight@192:2x5 2.bias@202:2 ");
    check_shape(nf_maxout_mlp(4, 2, 3, &(nf_maxout_options){.hidden = seven_five, .n_hidden = 2}), 396, 24, 1,
                "0.weight@0:28x7 0.bias@196:28 1.weight@224:20x7 1.bias@364:20 2.weight@384:2x5 2.bias@394:2 ");
    check_shape(nf_residual_mlp(4, 2, 3, &(nf_residual_mlp_options){.width = 6, .n_blocks = 3, .dropout = 0.1}),
                48 + 3 * 108 + 14, 6 + 3 * 30, 3,
                "initial_layer.weight@0:6x7 initial_layer.bias@42:6 "
                "blocks.0.context_layer.weight@48:6x3 blocks.0.context_layer.bias@66:6 "
                "blocks.0.linear_layers.0.weight@72:6x6 blocks.0.linear_layers.0.bias@108:6 "
                "blocks.0.linear_layers.1.weight@114:6x6 blocks.0.linear_layers.1.bias@150:6 "
                "blocks.1.context_layer.weight@156:6x3 blocks.1.context_layer.bias@174:6 "
                "blocks.1.linear_layers.0.weight@180:6x6 blocks.1.linear_layers.0.bias@216:6 "
                "blocks.1.linear_layers.1.weight@222:6x6 blocks.1.linear_layers.1.bias@258:6 "
                "blocks.2.context_layer.weight@264:6x3 blocks.2.context_layer.bias@282:6 "
                "blocks.2.linear_layers.0.weight@288:6x6 blocks.2.linear_layers.0.bias@324:6 "
                "blocks.2.linear_layers.1.weight@330:6x6 blocks.2.linear_layers.1.bias@366:6 "
                "final_layer.weight@372:2x6 final_layer.bias@384:2 ");
    const nf_mlp_options swish = {.hidden = seven_five, .n_hidden = 2, .activation = NF_SWISH};
    check_shape(nf_mlp(4, 2, 3, &swish), 110, 24, 1,
                "0.weight@0:7x7 0.bias@49:7 0.beta@56:1 1.weight@57:5x7 1.bias@92:5 1.beta@97:1 2.weight@98:2x5 "
                "2.bias@108:2 ");
    check_shape(
        nf_residual_mlp(4, 2, 3, &(nf_residual_mlp_options){.width = 6, .n_blocks = 1, .activation = NF_LIPSWISH}),
        48 + 110 + 14, 6 + 36, 1,
        "initial_layer.weight@0:6x7 initial_layer.bias@42:6 "
        "blocks.0.context_layer.weight@48:6x3 blocks.0.context_layer.bias@66:6 "
        "blocks.0.linear_layers.0.weight@72:6x6 blocks.0.linear_layers.0.bias@108:6 "
        "blocks.0.linear_layers.0.beta@114:1 "
        "blocks.0.linear_layers.1.weight@115:6x6 blocks.0.linear_layers.1.bias@151:6 "
        "blocks.0.linear_layers.1.beta@157:1 "
        "final_layer.weight@158:2x6 final_layer.bias@170:2 ");
    nf_net *net = nf_residual_mlp(4, 2, 0, NULL);
    cr_assert_eq(nf_object_shape(nf_net_object(net))->n_params, 64 * 5 + 4 * 64 * 65 + 2 * 65);
    nf_net_free(net);
}

/* 70 (+ 20) -> 80 -> 30, as a residual net: of each layer the deviation. */
Test(net_options, residual_initial_weights)
{
    static const struct {
        nf_initialisation init;
        double block_scale, last_scale, initial, context, first, second, final;
    } row[] = {
        {NF_INIT_AUTO, 0, 0, 0.14907119849998599, 0.14142135623730951, 0.15811388300841897, 0.00057735026918962576,
         0.13483997249264842},
        {NF_INIT_TORCH, 0.07, 0.5, 0.060858061945018464, 0.12909944487358055, 0.064549722436790281,
         0.040414518843273804, 0.032274861218395141},
        {NF_INIT_SMALL, -1, -1, 0.001, 0.001, 0.001, 0, 0},
    };
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        nf_net *net = nf_residual_mlp(
            70, 30, 20,
            &(nf_residual_mlp_options){
                .width = 80, .init = row[k].init, .block_scale = row[k].block_scale, .last_scale = row[k].last_scale});
        const double other = row[k].init == NF_INIT_TORCH ? 1.8 : 3;
        const double deviation[] = {row[k].initial, row[k].context, row[k].first,  row[k].second,
                                    row[k].context, row[k].first,   row[k].second, row[k].final};
        const size_t in[] = {90, 20, 80, 80, 20, 80, 80, 80};
        size_t n, at = 0;
        nf_real *theta = initial(net, &n);
        for (size_t l = 0; l < 8; l++) {
            const bool second = l == 3 || l == 6, biased = second || row[k].init == NF_INIT_TORCH;
            const size_t out = l == 7 ? 30 : 80, n_drawn = in[l] * out + (biased ? out : 0);
            char what[64];
            snprintf(what, sizeof what, "row %zu, layer %zu", k, l);
            if (deviation[l] > 0)
                check_moments(n_drawn, theta + at, deviation[l], second ? 1.8 : other, what);
            for (size_t i = deviation[l] > 0 ? n_drawn : 0; i < out * (in[l] + 1); i++)
                cr_assert_eq((double)theta[at + i], 0, "%s: number %zu", what, i);
            at += out * (in[l] + 1);
        }
        cr_assert_eq(at, n);
        /* Blocks do not share their noise. */
        const nf_real *first = theta + 91 * 80 + 21 * 80, *next = first + 2 * 81 * 80 + 21 * 80;
        double product = 0, unit = row[k].first * row[k].first;
        for (size_t i = 0; i < 80 * 80; i++)
            product += (double)first[i] * (double)next[i] / unit;
        cr_assert_lt(fabs(product), 4.5 * 80, "row %zu: blocks are correlated", k);
        free(theta);
        nf_net_free(net);
    }
}

/* Fans of gated and maxout layers count units, not their pieces: 90 -> 120 -> 40. */
Test(net_options, several_products_a_unit_start_alike)
{
    nf_net *net[] = {nf_gated_mlp(90, 40, 0, &(nf_mlp_options){.hidden = (size_t[]){120}, .n_hidden = 1}),
                     nf_maxout_mlp(90, 40, 0, &(nf_maxout_options){.hidden = (size_t[]){120}, .n_hidden = 1})};
    for (size_t k = 0; k < 2; k++) {
        size_t n, n_first = 90 * 120 * (k ? 4 : 2);
        nf_real *theta = initial(net[k], &n);
        check_moments(n_first, theta, 0.097590007294853315, 3, "first layer");
        check_moments(120 * 40, theta + n_first + n_first / 90, 0.11180339887498948, 3, "last layer");
        cr_assert_eq(n, n_first + n_first / 90 + 121 * 40);
        free(theta);
        nf_net_free(net[k]);
    }
}

/* Without inputs there are no weights to draw, and PyTorch's biases have no bound to be drawn in. */
Test(net_options, biases_alone_start_at_zero)
{
    for (nf_initialisation init = NF_INIT_AUTO; init <= NF_INIT_SMALL; init++) {
        nf_net *net = nf_mlp(0, 5, 0, &(nf_mlp_options){.init = init});
        size_t n;
        nf_real *theta = initial(net, &n);
        cr_assert_eq(n, 5);
        for (size_t i = 0; i < n; i++)
            cr_assert_eq((double)theta[i], 0.0);
        free(theta);
        nf_net_free(net);
    }
}

/* ---- what is refused ---- */

static void refused_net(nf_net *net, size_t live, const char *name, const char *words)
{
    cr_assert_null(net, "%s was accepted", words);
    cr_assert_eq(alloc_live(), live, "%s: memory is kept", words);
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_not_null(strstr(nf_error_message(), words), "'%s' lacks '%s'", nf_error_message(), words);
    cr_assert_eq(strncmp(nf_error_message(), name, strlen(name)), 0, "'%s' lacks '%s'", nf_error_message(), name);
}

static void refused(size_t in, size_t out, size_t n_ctx, nf_mlp_options options, const char *words)
{
    size_t live = alloc_live();
    refused_net(nf_mlp(in, out, n_ctx, &options), live, "nf_mlp: ", words);
}

static void refused_maxout(size_t in, size_t out, size_t n_ctx, nf_maxout_options options, const char *words)
{
    size_t live = alloc_live();
    refused_net(nf_maxout_mlp(in, out, n_ctx, &options), live, "nf_maxout_mlp: ", words);
}

static void refused_residual(size_t in, size_t out, size_t n_ctx, nf_residual_mlp_options options, const char *words)
{
    size_t live = alloc_live();
    refused_net(nf_residual_mlp(in, out, n_ctx, &options), live, "nf_residual_mlp: ", words);
}

Test(net_options, bad_options_are_refused)
{
    static const size_t hidden[] = {7, 0, 5}, huge[] = {SIZE_MAX / 2, 3};
    refused(4, 0, 0, (nf_mlp_options){0}, "`out` is 0");
    refused(4, 3, 0, (nf_mlp_options){.hidden = hidden, .n_hidden = 3}, "hidden[1] is 0");
    refused(4, 3, 0, (nf_mlp_options){.n_hidden = 2}, "`hidden` is NULL");
    refused(4, 3, 0, (nf_mlp_options){.activation = (nf_activation)10}, "unknown activation 10");
    refused(4, 3, 0, (nf_mlp_options){.output = (nf_activation)41}, "unknown activation 41");
    refused(4, 3, 0, (nf_mlp_options){.output = NF_SWISH}, "`output` is NF_SWISH");
    refused_maxout(4, 3, 0, (nf_maxout_options){.output = NF_LIPSWISH}, "`output` is NF_LIPSWISH");
    refused(4, 3, 0, (nf_mlp_options){.init = (nf_initialisation)6}, "unknown initialisation 6");
    refused(4, 3, 0, (nf_mlp_options){.last_scale = NAN}, "last_scale");
    refused(4, 3, 0, (nf_mlp_options){.dropout = 1}, "`dropout` is 1");
    refused(4, 3, 0, (nf_mlp_options){.dropout = -0.25}, "`dropout` is -0.25");
    refused(4, 3, 0, (nf_mlp_options){.dropout = NAN}, "`dropout` is nan");
    refused(4, 3, 0, (nf_mlp_options){.hidden = huge, .n_hidden = 2}, "overflow");
    refused(SIZE_MAX, 3, 2, (nf_mlp_options){0}, "overflow");
    size_t live = alloc_live();
    refused_net(nf_gated_mlp(4, 3, 0, &(nf_mlp_options){.activation = NF_TANH}), live,
                "nf_gated_mlp: ", "`activation` is 2");
    refused_net(nf_gated_mlp(4, 0, 0, NULL), live, "nf_gated_mlp: ", "`out` is 0");
    refused_net(nf_gated_mlp(4, 3, 0, &(nf_mlp_options){.hidden = huge, .n_hidden = 1}), live,
                "nf_gated_mlp: ", "overflow");
    refused_maxout(4, 0, 0, (nf_maxout_options){0}, "`out` is 0");
    refused_maxout(4, 3, 0, (nf_maxout_options){.n_hidden = 2}, "`hidden` is NULL");
    refused_maxout(4, 3, 0, (nf_maxout_options){.last_scale = INFINITY}, "last_scale");
    refused_maxout(4, 3, 0, (nf_maxout_options){.dropout = 1.5}, "dropout");
    refused_maxout(0, 3, 0, (nf_maxout_options){.hidden = seven_five, .n_hidden = 1, .window = SIZE_MAX / 3},
                   "overflow");
    refused_residual(4, 0, 0, (nf_residual_mlp_options){0}, "`out` is 0");
    refused_residual(4, 3, 0, (nf_residual_mlp_options){.activation = (nf_activation)10}, "unknown activation 10");
    refused_residual(4, 3, 0, (nf_residual_mlp_options){.init = (nf_initialisation)6}, "unknown initialisation 6");
    refused_residual(4, 3, 0, (nf_residual_mlp_options){.block_scale = NAN}, "`block_scale` is not finite");
    refused_residual(4, 3, 0, (nf_residual_mlp_options){.last_scale = -INFINITY}, "`last_scale` is not finite");
    refused_residual(4, 3, 0, (nf_residual_mlp_options){.dropout = 1}, "dropout");
    refused_residual(4, 3, 0, (nf_residual_mlp_options){.width = SIZE_MAX / 2}, "overflow");
    refused_residual(4, 3, 0, (nf_residual_mlp_options){.n_blocks = SIZE_MAX / 8}, "overflow");
    refused_residual(SIZE_MAX, 3, 2, (nf_residual_mlp_options){0}, "overflow");
    cr_assert_eq(nf_net_apply(NULL, NULL, NULL, NULL, NULL), NF_EARG);
    cr_assert_eq(nf_net_vjp(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), NF_EARG);
    nf_net *affine[] = {nf_mlp(2, 3, 0, NULL), nf_gated_mlp(2, 3, 0, NULL), nf_maxout_mlp(2, 3, 0, NULL)};
    for (size_t k = 0; k < 3; k++) {
        cr_assert_eq(nf_object_shape(nf_net_object(affine[k]))->n_params, 9);
        nf_net_free(affine[k]);
    }
}
