/* Every net on one tile, with numbers for everything, beside the same net written from its formula: one sample at a
   time, in double. */
#ifndef NET_FIXTURE_H
#define NET_FIXTURE_H
#include "base/memory.h"
#include "object/pack.h"
#include "object/tree.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/net.h>
#include <string.h>

enum {
    N_ACTIVATIONS = NF_LIPSWISH + 1,
    N_OUTPUTS = NF_IDENTITY + 1
}; /* with the default; of hidden units, of last ones */

typedef enum net_kind { MLP, GATED, MAXOUT, RESIDUAL, N_KINDS } net_kind;
static const char *const kind_names[N_KINDS] = {"mlp", "gated", "maxout", "residual"};

/* Hidden widths, pieces of a maxout unit, residual blocks; the last layer's units are the residual net's identity. */
static const size_t fixture_hidden[] = {7, 5};
enum { FIXTURE_WINDOW = 3, FIXTURE_WIDTH = 7, FIXTURE_BLOCKS = 2 };

/* The activation is only the MLP's and the residual net's. */
static inline nf_net *fixture_net(net_kind kind, size_t in, size_t out, size_t n_ctx, nf_activation activation,
                                  nf_activation output, double dropout)
{
    nf_mlp_options o = {
        .hidden = fixture_hidden, .n_hidden = 2, .activation = activation, .output = output, .dropout = dropout};
    switch (kind) {
    case MLP:
        return nf_mlp(in, out, n_ctx, &o);
    case GATED:
        o.activation = NF_ACTIVATION_DEFAULT;
        return nf_gated_mlp(in, out, n_ctx, &o);
    case MAXOUT:
        return nf_maxout_mlp(in, out, n_ctx,
                             &(nf_maxout_options){.hidden = fixture_hidden,
                                                  .n_hidden = 2,
                                                  .window = FIXTURE_WINDOW,
                                                  .output = output,
                                                  .dropout = dropout});
    default:
        return nf_residual_mlp(
            in, out, n_ctx,
            &(nf_residual_mlp_options){
                .width = FIXTURE_WIDTH, .n_blocks = FIXTURE_BLOCKS, .activation = activation, .dropout = dropout});
    }
}

typedef struct fixture {
    net_kind kind;
    nf_net *net;
    const nf_shape *shape;
    nf_activation hidden, output;
    nf_arena tape, scratch, numbers;
    nf_pass p;
    nf_real *theta, *x, *ctx, *y, *gy, *gx;
    nf_grad g;
    void *saved;
} fixture;

static inline nf_real *fixture_draw(fixture *f, size_t rows, size_t n, size_t ld, uint64_t seed)
{
    nf_noise noise = {.seed = seed, .site = 77};
    nf_real *v = nf_arena_reals(&f->numbers, rows ? rows : 1, ld);
    cr_assert_not_null(v);
    if (rows)
        nf_noise_normal(&noise, rows, n, ld, v);
    return v;
}

/* Numbers for everything that f->net needs, n samples. */
static inline void draw_numbers(fixture *f, size_t n)
{
    f->shape = nf_object_shape(nf_net_object(f->net));
    const size_t ld = (n + 15) / 16 * 16, n_params = f->shape->n_params, n_ctx = f->shape->n_ctx;
    const size_t in = f->shape->dim_in, out = f->shape->dim_out;
    f->theta = fixture_draw(f, n_params, 1, 1, 11);
    for (size_t i = 0; i < n_params; i++)
        f->theta[i] *= NF_R(0.7);
    f->x = fixture_draw(f, in, n, ld, 12);
    f->ctx = fixture_draw(f, n_ctx, n, ld, 13);
    f->gy = fixture_draw(f, out, n, ld, 14);
    nfi_pad_zero(out, n, ld, f->gy);
    f->y = fixture_draw(f, out, n, ld, 15);
    f->gx = fixture_draw(f, in, n, ld, 16);
    f->g.theta = fixture_draw(f, n_params, 1, 1, 17);
    f->g.ctx = fixture_draw(f, n_ctx, n, ld, 18);
    f->p = (nf_pass){
        .n = n, .ld = ld, .theta = f->theta, .ctx = n_ctx ? f->ctx : NULL, .tape = &f->tape, .scratch = &f->scratch};
}

static inline void set_up_dropping(fixture *f, net_kind kind, size_t in, size_t out, size_t n_ctx, nf_activation hidden,
                                   nf_activation output, size_t n, double dropout)
{
    memset(f, 0, sizeof *f);
    f->kind = kind;
    f->net = fixture_net(kind, in, out, n_ctx, hidden, output, dropout);
    cr_assert_not_null(f->net, "%s", nf_error_message());
    f->hidden = hidden == NF_ACTIVATION_DEFAULT ? NF_RELU : hidden;
    f->output = output == NF_ACTIVATION_DEFAULT || kind == RESIDUAL ? NF_IDENTITY : output;
    draw_numbers(f, n);
}

static inline void set_up(fixture *f, net_kind kind, size_t in, size_t out, size_t n_ctx, nf_activation hidden,
                          nf_activation output, size_t n)
{
    set_up_dropping(f, kind, in, out, n_ctx, hidden, output, n, 0);
}

static inline void tear_down(fixture *f)
{
    nfi_arena_clear(&f->tape);
    nfi_arena_clear(&f->scratch);
    nfi_arena_clear(&f->numbers);
    nf_net_free(f->net);
}

static inline void run(fixture *f)
{
    cr_assert_eq(nf_net_apply(nf_net_object(f->net), &f->p, f->x, f->y, &f->saved), NF_OK);
}

static inline void run_back(fixture *f, nf_real *gx, const nf_grad *g)
{
    cr_assert_eq(nf_net_vjp(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, f->gy, gx, g), NF_OK);
}

/* ---- the formulas ---- */

/* beta: of swish and LipSwish. */
static inline double unit_of(nf_activation f, double z, double beta)
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
    case NF_SWISH:
        return z / (1 + exp(-z * log(1 + exp(beta))));
    case NF_LIPSWISH:
        return z / (1 + exp(-z * log(1 + exp(beta)))) / 1.1;
    case NF_ACTIVATION_DEFAULT:
        break; /* the fixture holds what it stands for */
    }
    return NAN;
}

static inline double unit(nf_activation f, double z)
{
    return unit_of(f, z, NAN);
}

/* Numbers after a hidden layer's biases: beta, if its units have one. */
static inline size_t n_betas(nf_activation f)
{
    return f == NF_SWISH || f == NF_LIPSWISH;
}

/* z [out] = W a + b; returns the numbers after them. */
static inline const double *affine(const double *w, size_t out, size_t in, const double *a, double *z)
{
    for (size_t o = 0; o < out; o++) {
        z[o] = w[out * in + o];
        for (size_t i = 0; i < in; i++)
            z[o] += w[o * in + i] * a[i];
    }
    return w + out * (in + 1);
}

static inline void residual_formula(const fixture *f, const double *w, const double *in, double *y)
{
    enum { WIDTH = FIXTURE_WIDTH };
    const size_t n_ctx = f->shape->n_ctx;
    const double *ctx = in + f->shape->dim_in;
    double h[WIDTH], a[WIDTH], z[WIDTH], t[WIDTH], gate[WIDTH];
    w = affine(w, WIDTH, f->shape->dim_in + n_ctx, in, h);
    for (size_t k = 0; k < FIXTURE_BLOCKS; k++) {
        if (n_ctx)
            w = affine(w, WIDTH, n_ctx, ctx, gate);
        const size_t layer = WIDTH * (WIDTH + 1), betas = n_betas(f->hidden); /* beta of what a layer reads, after it */
        for (size_t i = 0; i < WIDTH; i++)
            a[i] = unit_of(f->hidden, h[i], betas ? w[layer] : NAN);
        w = affine(w, WIDTH, WIDTH, a, z) + betas;
        for (size_t i = 0; i < WIDTH; i++)
            a[i] = unit_of(f->hidden, z[i], betas ? w[layer] : NAN);
        w = affine(w, WIDTH, WIDTH, a, t) + betas;
        for (size_t i = 0; i < WIDTH; i++)
            h[i] += n_ctx ? t[i] * unit(NF_SIGMOID, gate[i]) : t[i];
    }
    affine(w, f->shape->dim_out, WIDTH, h, y);
}

static inline void perceptron_formula(const fixture *f, const double *w, const double *in, double *y)
{
    double a[64], z[64];
    size_t fan_in = f->shape->dim_in + f->shape->n_ctx;
    memcpy(a, in, fan_in * sizeof *a);
    for (size_t l = 0; l < 2; l++) {
        const size_t width = fixture_hidden[l];
        w = affine(w, width * (f->kind == MLP ? 1 : f->kind == GATED ? 2 : FIXTURE_WINDOW), fan_in, a, z);
        const size_t betas = f->kind == MLP ? n_betas(f->hidden) : 0;
        const double beta = betas ? *w : NAN;
        w += betas;
        for (size_t i = 0; i < width; i++) {
            a[i] = f->kind == MLP ? unit_of(f->hidden, z[i], beta) : z[i] * unit(NF_SIGMOID, z[width + i]);
            if (f->kind == MAXOUT)
                a[i] = fmax(z[3 * i], fmax(z[3 * i + 1], z[3 * i + 2]));
        }
        fan_in = width;
    }
    affine(w, f->shape->dim_out, fan_in, a, y);
    for (size_t o = 0; o < f->shape->dim_out; o++)
        y[o] = unit(f->output, y[o]);
}

/* What a direction moves: theta, x, context. */
typedef struct direction {
    const nf_real *theta, *x, *ctx;
} direction;

/* The net at (theta, x, ctx) + h * v: y [dim_out] of sample s. */
static inline void formula(const fixture *f, size_t s, double h, direction v, double *y)
{
    double in[64], w[1000];
    const size_t ld = f->p.ld, n_x = f->shape->dim_in;
    cr_assert_leq(f->shape->n_params, 1000);
    for (size_t i = 0; i < f->shape->n_params; i++)
        w[i] = (double)f->theta[i] + (v.theta ? h * (double)v.theta[i] : 0);
    for (size_t i = 0; i < n_x; i++)
        in[i] = (double)f->x[i * ld + s] + (v.x ? h * (double)v.x[i * ld + s] : 0);
    for (size_t i = 0; i < f->shape->n_ctx; i++)
        in[n_x + i] = (double)f->ctx[i * ld + s] + (v.ctx ? h * (double)v.ctx[i * ld + s] : 0);
    (f->kind == RESIDUAL ? residual_formula : perceptron_formula)(f, w, in, y);
}

/* ---- derivatives along directions ---- */

/* <g, v> minus what the gradient arrays held before (they are added to). */
static inline double inner(size_t rows, size_t n, size_t ld, const nf_real *g, const nf_real *before, const nf_real *v)
{
    double sum = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < n; s++)
            sum += ((double)g[r * ld + s] - (before ? (double)before[r * ld + s] : 0)) * (double)v[r * ld + s];
    return sum;
}

/* Runs the gradient and gives directions and derivatives along them: theta, x, context. */
static inline void derivatives(fixture *f, direction v[3], double d[3])
{
    size_t ld = f->p.ld, n = f->p.n, n_params = f->shape->n_params, in = f->shape->dim_in, n_ctx = f->shape->n_ctx;
    nf_real *theta0 = fixture_draw(f, n_params, 1, 1, 17), *ctx0 = fixture_draw(f, n_ctx, n, ld, 18); /* as set_up */
    run(f);
    run_back(f, f->gx, &f->g);
    nf_real *vt = fixture_draw(f, n_params, 1, 1, 21), *vx = fixture_draw(f, in, n, ld, 22),
            *vc = fixture_draw(f, n_ctx, n, ld, 23);
    v[0] = (direction){.theta = vt};
    v[1] = (direction){.x = vx};
    v[2] = (direction){.ctx = vc};
    d[0] = inner(n_params, 1, 1, f->g.theta, theta0, vt);
    d[1] = inner(in, n, ld, f->gx, NULL, vx);
    d[2] = inner(n_ctx, n, ld, f->g.ctx, ctx0, vc);
}

/* <gy, y> at a displaced point, by the library. */
static inline double displaced(fixture *f, double h, direction v)
{
    size_t ld = f->p.ld, in = f->shape->dim_in, n_ctx = f->shape->n_ctx;
    const nf_real *from[3] = {f->theta, f->x, f->ctx}, *move[3] = {v.theta, v.x, v.ctx};
    size_t size[3] = {f->shape->n_params, in * ld, n_ctx * ld};
    nf_mark mark = nf_arena_mark(&f->numbers);
    nf_real *at[3], *y = nf_arena_reals(&f->numbers, f->shape->dim_out, ld);
    for (int k = 0; k < 3; k++) {
        at[k] = nf_arena_reals(&f->numbers, size[k], 1);
        for (size_t i = 0; i < size[k]; i++)
            at[k][i] = from[k][i] + (move[k] ? (nf_real)h * move[k][i] : 0);
    }
    nf_pass p = f->p;
    p.theta = at[0];
    p.ctx = at[2];
    p.tape = NULL;
    cr_assert_eq(nf_net_apply(nf_net_object(f->net), &p, at[1], y, NULL), NF_OK);
    double sum = 0;
    for (size_t o = 0; o < f->shape->dim_out; o++)
        for (size_t s = 0; s < p.n; s++)
            sum += (double)f->gy[o * ld + s] * (double)y[o * ld + s];
    nf_arena_rewind(&f->numbers, mark);
    return sum;
}

/* log |F(h) - F(0) - h F'(0)| against log h, for h from 3e-4 down: 2 where the net is smooth. */
static inline double taylor_slope(fixture *f, direction v, double d)
{
    enum { STEPS = 7 };
    double base = displaced(f, 0, v), sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (int i = 0; i < STEPS; i++) {
        double h = pow(10, -3.5 - 0.25 * i);
        double lx = log(h), ly = log(fabs(displaced(f, h, v) - base - h * d));
        sx += lx, sy += ly, sxx += lx * lx, sxy += lx * ly;
    }
    return (STEPS * sxy - sx * sy) / (STEPS * sxx - sx * sx);
}

#endif
