/* Multilayer perceptrons against a naive loop in double, their gradients against Taylor's theorem, their initial
   weights against the moments they claim. */
#include "core/tiles.h"
#include "core/tree.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
#define VALUE_TOLERANCE 3e-5
#define GRADIENT_TOLERANCE 2e-4
#else
#define VALUE_TOLERANCE 1e-12
#define GRADIENT_TOLERANCE 1e-7
#endif

enum { N_ACTIVATIONS = NF_IDENTITY + 1, MAX_LAYERS = 4 };

/* A net on one tile, with numbers for everything. */
typedef struct fixture {
    nf_net *net;
    const nf_shape *shape;
    nf_arena tape, scratch, numbers;
    nf_pass p;
    nf_real *theta, *x, *ctx, *y, *gy, *gx;
    nf_grad g;
    void *saved;
    nf_activation hidden, output;
    size_t n_layers, width[MAX_LAYERS + 1];
} fixture;

static nf_real *draw(fixture *f, size_t rows, size_t n, size_t ld, uint64_t seed)
{
    nf_noise noise = {.seed = seed, .site = 77};
    nf_real *v = nf_arena_reals(&f->numbers, rows ? rows : 1, ld);
    cr_assert_not_null(v);
    if (rows)
        nf_noise_normal(&noise, rows, n, ld, v);
    return v;
}

static void set_up(fixture *f, size_t in, size_t out, size_t n_ctx, nf_activation hidden, nf_activation output,
                   size_t n)
{
    static const size_t widths[] = {7, 5};
    memset(f, 0, sizeof *f);
    f->net = nf_mlp(in, out, n_ctx,
                    &(nf_mlp_options){.hidden = widths, .n_hidden = 2, .activation = hidden, .output = output});
    cr_assert_not_null(f->net, "%s", nf_error_message());
    f->shape = nf_object_shape(nf_net_object(f->net));
    f->hidden = hidden;
    f->output = output == NF_RELU ? NF_IDENTITY : output;
    f->n_layers = 3;
    memcpy(f->width, (size_t[]){in + n_ctx, 7, 5, out}, 4 * sizeof(size_t));
    size_t ld = (n + 15) / 16 * 16;
    f->theta = draw(f, f->shape->n_params, 1, 1, 11);
    for (size_t i = 0; i < f->shape->n_params; i++)
        f->theta[i] *= NF_R(0.7);
    f->x = draw(f, in, n, ld, 12);
    f->ctx = draw(f, n_ctx, n, ld, 13);
    f->gy = draw(f, out, n, ld, 14);
    nfi_pad_zero(out, n, ld, f->gy);
    f->y = draw(f, out, n, ld, 15);
    f->gx = draw(f, in, n, ld, 16);
    f->g.theta = draw(f, f->shape->n_params, 1, 1, 17);
    f->g.ctx = draw(f, n_ctx, n, ld, 18);
    f->p = (nf_pass){
        .n = n, .ld = ld, .theta = f->theta, .ctx = n_ctx ? f->ctx : NULL, .tape = &f->tape, .scratch = &f->scratch};
}

static void tear_down(fixture *f)
{
    nfi_arena_clear(&f->tape);
    nfi_arena_clear(&f->scratch);
    nfi_arena_clear(&f->numbers);
    nf_net_free(f->net);
}

static double unit(nf_activation f, double z)
{
    switch (f) {
    case NF_RELU:
        return z > 0 ? z : 0;
    case NF_TANH:
        return tanh(z);
    case NF_LEAKY_RELU:
        return z > 0 ? z : 0.01 * z;
    case NF_ELU:
        return z > 0 ? z : exp(z) - 1;
    case NF_SOFTPLUS:
        return log(1 + exp(z));
    case NF_SIGMOID:
        return 1 / (1 + exp(-z));
    case NF_IDENTITY:
        return z;
    }
    return NAN;
}

/* What a direction moves: theta, x, context. */
typedef struct direction {
    const nf_real *theta, *x, *ctx;
} direction;

/* The net at (theta, x, ctx) + h * v in double by triple loops: y [out] of sample s. */
static void naive(const fixture *f, size_t s, double h, direction v, double *y)
{
    double a[32], b[32];
    size_t ld = f->p.ld, n_x = f->shape->dim_in;
    for (size_t i = 0; i < f->width[0]; i++) {
        const nf_real *from = i < n_x ? f->x + i * ld : f->ctx + (i - n_x) * ld;
        const nf_real *move = i < n_x ? v.x : v.ctx;
        a[i] = (double)from[s] + (move ? h * (double)move[(i < n_x ? i : i - n_x) * ld + s] : 0);
    }
    size_t at = 0;
    for (size_t l = 0; l < f->n_layers; l++) {
        size_t in = f->width[l], out = f->width[l + 1];
        for (size_t o = 0; o < out; o++) {
            b[o] = 0;
            for (size_t i = 0; i <= in; i++) { /* the last is the bias */
                size_t k = i < in ? at + o * in + i : at + out * in + o;
                double w = (double)f->theta[k] + (v.theta ? h * (double)v.theta[k] : 0);
                b[o] += w * (i < in ? a[i] : 1);
            }
        }
        at += out * (in + 1);
        for (size_t o = 0; o < out; o++)
            a[o] = unit(l + 1 < f->n_layers ? f->hidden : f->output, b[o]);
    }
    cr_assert_eq(at, f->shape->n_params);
    memcpy(y, a, f->width[f->n_layers] * sizeof *y);
}

/* <gy, y> at the displaced point. */
static double naive_sum(const fixture *f, double h, direction v)
{
    double sum = 0, y[32];
    for (size_t s = 0; s < f->p.n; s++) {
        naive(f, s, h, v, y);
        for (size_t o = 0; o < f->shape->dim_out; o++)
            sum += (double)f->gy[o * f->p.ld + s] * y[o];
    }
    return sum;
}

static void run(fixture *f)
{
    cr_assert_eq(nf_net_apply(nf_net_object(f->net), &f->p, f->x, f->y, &f->saved), NF_OK);
}

static void run_back(fixture *f, nf_real *gx, const nf_grad *g)
{
    cr_assert_eq(nf_net_vjp(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, f->gy, gx, g), NF_OK);
}

static void check_value(size_t in, size_t out, size_t n_ctx, nf_activation hidden, nf_activation output, size_t n)
{
    fixture f;
    set_up(&f, in, out, n_ctx, hidden, output, n);
    run(&f);
    for (size_t s = 0; s < f.p.ld; s++) {
        double y[32];
        if (s < n)
            naive(&f, s, 0, (direction){0}, y);
        for (size_t o = 0; o < out; o++) {
            double got = (double)f.y[o * f.p.ld + s];
            if (s >= n)
                cr_assert(isfinite(got), "padding of row %zu", o);
            else
                cr_assert_float_eq(got, y[o], VALUE_TOLERANCE * (1 + fabs(y[o])), "units %d %d, row %zu, sample %zu",
                                   (int)hidden, (int)output, o, s);
        }
    }
    /* The same without a tape, bit for bit, and nothing is kept. */
    nf_real *y = draw(&f, out, n, f.p.ld, 5);
    nf_mark tape = nf_arena_mark(&f.tape), scratch = nf_arena_mark(&f.scratch);
    f.p.tape = NULL;
    cr_assert_eq(nf_net_apply(nf_net_object(f.net), &f.p, f.x, y, NULL), NF_OK);
    cr_assert_arr_eq(y, f.y, out * f.p.ld * sizeof *y);
    cr_assert_eq(nf_arena_mark(&f.tape).used, tape.used);
    cr_assert_eq(nf_arena_mark(&f.scratch).used, scratch.used);
    tear_down(&f);
}

Test(nets, value)
{
    for (int h = 0; h < N_ACTIVATIONS; h++) {
        check_value(6, 3, 0, (nf_activation)h, NF_IDENTITY, 37);
        check_value(4, 9, 3, (nf_activation)h, (nf_activation)h, 16);
        check_value(0, 2, 5, (nf_activation)h, NF_SIGMOID, 1);
    }
}

Test(nets, nan_passes_through_every_unit)
{
    for (int h = 0; h < N_ACTIVATIONS; h++) {
        fixture f;
        set_up(&f, 3, 2, 0, (nf_activation)h, NF_IDENTITY, 5);
        f.x[1 * f.p.ld + 2] = NF_R(NAN);
        run(&f);
        for (size_t s = 0; s < 5; s++)
            cr_assert_eq(isnan((double)f.y[s]) != 0, s == 2, "unit %d, sample %zu", h, s);
        tear_down(&f);
    }
}

/* <g, v> minus what the gradient arrays held before (they are added to), for each of the three kinds of input. */
static double inner(size_t rows, size_t n, size_t ld, const nf_real *g, const nf_real *before, const nf_real *v)
{
    double sum = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < n; s++)
            sum += ((double)g[r * ld + s] - (before ? (double)before[r * ld + s] : 0)) * (double)v[r * ld + s];
    return sum;
}

/* Runs the gradient and gives directions and derivatives along them: theta, x, context. */
static void derivatives(fixture *f, direction v[3], double d[3])
{
    size_t ld = f->p.ld, n = f->p.n, n_params = f->shape->n_params, in = f->shape->dim_in, n_ctx = f->shape->n_ctx;
    nf_real *theta0 = draw(f, n_params, 1, 1, 17), *ctx0 = draw(f, n_ctx, n, ld, 18); /* as in set_up */
    run(f);
    run_back(f, f->gx, &f->g);
    nf_real *vt = draw(f, n_params, 1, 1, 21), *vx = draw(f, in, n, ld, 22), *vc = draw(f, n_ctx, n, ld, 23);
    v[0] = (direction){.theta = vt};
    v[1] = (direction){.x = vx};
    v[2] = (direction){.ctx = vc};
    d[0] = inner(n_params, 1, 1, f->g.theta, theta0, vt);
    d[1] = inner(in, n, ld, f->gx, NULL, vx);
    d[2] = inner(n_ctx, n, ld, f->g.ctx, ctx0, vc);
}

/* A central difference of the naive net in double: both precisions, kinks included. */
Test(nets, gradient_is_the_directional_derivative)
{
    for (int h = 0; h < N_ACTIVATIONS; h++) {
        for (int o = 0; o < N_ACTIVATIONS; o++) {
            fixture f;
            direction v[3];
            double d[3], step = 1e-6;
            set_up(&f, 6, 4, 3, (nf_activation)h, (nf_activation)o, 37);
            derivatives(&f, v, d);
            for (int k = 0; k < 3; k++) {
                double wanted = (naive_sum(&f, step, v[k]) - naive_sum(&f, -step, v[k])) / (2 * step);
                cr_assert_float_eq(d[k], wanted, GRADIENT_TOLERANCE * (10 + fabs(wanted)),
                                   "units %d %d, input %d: %.10g, not %.10g", h, o, k, d[k], wanted);
            }
            for (size_t r = 0; r < 6; r++)
                for (size_t s = f.p.n; s < f.p.ld; s++)
                    cr_assert_eq((double)f.gx[r * f.p.ld + s], 0.0, "padding of gx");
            tear_down(&f);
        }
    }
}

#ifndef NF_SINGLE
/* F at a displaced point, by the library. */
static double displaced(fixture *f, double h, direction v)
{
    size_t ld = f->p.ld, in = f->shape->dim_in, n_ctx = f->shape->n_ctx;
    const nf_real *from[3] = {f->theta, f->x, f->ctx}, *move[3] = {v.theta, v.x, v.ctx};
    size_t size[3] = {f->shape->n_params, in * ld, n_ctx * ld};
    nf_mark mark = nf_arena_mark(&f->numbers);
    nf_real *at[3], *y = nf_arena_reals(&f->numbers, f->shape->dim_out, ld);
    for (int k = 0; k < 3; k++) {
        at[k] = nf_arena_reals(&f->numbers, size[k], 1);
        for (size_t i = 0; i < size[k]; i++)
            at[k][i] = from[k][i] + (move[k] ? h * move[k][i] : 0);
    }
    nf_pass p = f->p;
    p.theta = at[0];
    p.ctx = at[2];
    p.tape = NULL;
    cr_assert_eq(nf_net_apply(nf_net_object(f->net), &p, at[1], y, NULL), NF_OK);
    double sum = 0;
    for (size_t o = 0; o < f->shape->dim_out; o++)
        for (size_t s = 0; s < p.n; s++)
            sum += f->gy[o * ld + s] * y[o * ld + s];
    nf_arena_rewind(&f->numbers, mark);
    return sum;
}

/* log |F(h) - F(0) - h F'(0)| has slope 2 in log h where the net is smooth. */
Test(nets, taylor_remainder_is_of_second_order)
{
    static const nf_activation smooth[] = {NF_TANH, NF_SOFTPLUS, NF_SIGMOID};
    for (int a = 0; a < 3; a++) {
        fixture f;
        direction v[3];
        double d[3];
        set_up(&f, 6, 4, 3, smooth[a], smooth[a], 37);
        derivatives(&f, v, d);
        for (int k = 0; k < 3; k++) {
            enum { STEPS = 7 };
            double base = displaced(&f, 0, v[k]), sx = 0, sy = 0, sxx = 0, sxy = 0;
            for (int i = 0; i < STEPS; i++) {
                double h = pow(10, -2.0 - 0.25 * i);
                double lx = log(h), ly = log(fabs(displaced(&f, h, v[k]) - base - h * d[k]));
                sx += lx, sy += ly, sxx += lx * lx, sxy += lx * ly;
            }
            double slope = (STEPS * sxy - sx * sy) / (STEPS * sxx - sx * sx);
            cr_assert_float_eq(slope, 2, 0.05, "unit %d, input %d: slope %g", (int)smooth[a], k, slope);
        }
        tear_down(&f);
    }
}
#endif

Test(nets, unwanted_gradients_are_left_out)
{
    fixture f;
    direction v[3];
    double d[3];
    set_up(&f, 6, 4, 3, NF_TANH, NF_IDENTITY, 20);
    derivatives(&f, v, d);
    nf_real *theta = draw(&f, f.shape->n_params, 1, 1, 17), *ctx = draw(&f, 3, 20, f.p.ld, 18);
    nf_real *gx = draw(&f, 6, 20, f.p.ld, 3);
    run_back(&f, NULL, &(nf_grad){.theta = theta});
    run_back(&f, NULL, &(nf_grad){.ctx = ctx});
    run_back(&f, gx, &(nf_grad){0});
    cr_assert_arr_eq(theta, f.g.theta, f.shape->n_params * sizeof *theta);
    cr_assert_arr_eq(ctx, f.g.ctx, 3 * f.p.ld * sizeof *ctx);
    cr_assert_arr_eq(gx, f.gx, 6 * f.p.ld * sizeof *gx);
    tear_down(&f);
}

/* ---- initial weights ---- */

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
Test(nets, initial_weights_have_their_variance)
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

Test(nets, last_scale_multiplies_the_last_layer)
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

static void collect(void *user, const char *name, size_t offset, size_t rank, const size_t *extents)
{
    char *text = user;
    size_t at = strlen(text);
    snprintf(text + at, 256 - at, "%s@%zu:%zu", name, offset, extents[0]);
    at = strlen(text);
    snprintf(text + at, 256 - at, rank == 2 ? "x%zu " : " ", extents[rank - 1]);
}

Test(nets, shape_and_slices)
{
    static const size_t hidden[] = {7, 5};
    nf_net *net = nf_mlp(4, 2, 3, &(nf_mlp_options){.hidden = hidden, .n_hidden = 2});
    const nf_shape *s = nf_object_shape(nf_net_object(net));
    cr_assert_eq(s->dim_in, 4);
    cr_assert_eq(s->dim_out, 2);
    cr_assert_eq(s->n_ctx, 3);
    cr_assert_eq(s->n_params, 7 * 8 + 5 * 8 + 2 * 6);
    cr_assert_eq(s->n_saved, 12);
    char text[256] = "";
    nfi_tree_slices(nf_net_object(net), collect, text);
    cr_assert_str_eq(text, "0.weight@0:7x7 0.bias@49:7 1.weight@56:5x7 1.bias@91:5 2.weight@96:2x5 2.bias@106:2 ");
    nf_net_free(net);
}

static void refused(size_t in, size_t out, size_t n_ctx, nf_mlp_options options, const char *words)
{
    size_t live = alloc_live();
    nf_net *net = nf_mlp(in, out, n_ctx, &options);
    cr_assert_null(net, "%s was accepted", words);
    cr_assert_eq(alloc_live(), live, "%s: memory is kept", words);
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_not_null(strstr(nf_error_message(), words), "'%s' lacks '%s'", nf_error_message(), words);
}

Test(nets, bad_options_are_refused)
{
    static const size_t hidden[] = {7, 0, 5}, huge[] = {SIZE_MAX / 2, 3};
    refused(0, 3, 0, (nf_mlp_options){0}, "`in` and `n_ctx` are both 0");
    refused(4, 0, 0, (nf_mlp_options){0}, "`out` is 0");
    refused(4, 3, 0, (nf_mlp_options){.hidden = hidden, .n_hidden = 3}, "hidden[1] is 0");
    refused(4, 3, 0, (nf_mlp_options){.n_hidden = 2}, "`hidden` is NULL");
    refused(4, 3, 0, (nf_mlp_options){.activation = (nf_activation)7}, "unknown activation 7");
    refused(4, 3, 0, (nf_mlp_options){.output = (nf_activation)41}, "unknown activation 41");
    refused(4, 3, 0, (nf_mlp_options){.init = (nf_initialisation)6}, "unknown initialisation 6");
    refused(4, 3, 0, (nf_mlp_options){.last_scale = NAN}, "last_scale");
    refused(4, 3, 0, (nf_mlp_options){.hidden = huge, .n_hidden = 2}, "overflow");
    refused(SIZE_MAX, 3, 2, (nf_mlp_options){0}, "overflow");
    cr_assert_eq(nf_net_apply(NULL, NULL, NULL, NULL, NULL), NF_EARG);
    cr_assert_eq(nf_net_vjp(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), NF_EARG);
    nf_net *affine = nf_mlp(2, 3, 0, NULL);
    cr_assert_eq(nf_object_shape(nf_net_object(affine))->n_params, 9);
    nf_net_free(affine);
}

/* Construction, both passes: each allocation fails in turn. */
Test(nets, every_allocation_may_fail)
{
    static const size_t hidden[] = {6};
    for (size_t k = 0;; k++) {
        size_t before = alloc_live();
        nf_real x[48] = {0}, y[32], gy[32] = {0}, gx[48], theta[100] = {0};
        nf_arena tape = {0}, scratch = {0};
        nf_pass p = {.n = 5, .ld = 16, .theta = theta, .tape = &tape, .scratch = &scratch};
        void *saved = NULL;
        fail_alloc_after(k);
        nf_net *net = nf_mlp(3, 2, 0, &(nf_mlp_options){.hidden = hidden, .n_hidden = 1});
        nf_status status = net ? nf_net_apply(nf_net_object(net), &p, x, y, &saved) : NF_ENOMEM;
        if (status == NF_OK)
            status = nf_net_vjp(nf_net_object(net), &p, x, y, saved, gy, gx, &(nf_grad){0});
        bool failed = fail_alloc_off();
        nf_net_free(net);
        nfi_arena_clear(&tape);
        nfi_arena_clear(&scratch);
        cr_assert_eq(alloc_live(), before);
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK);
        if (!failed)
            break;
    }
}
