/* Nets of convolutions of every sort, beside the same net written from its formula: one sample at a time, pixel by
   pixel, in double, with the parameters in the order that nflow/image.h states. */
#ifndef CONV_FIXTURE_H
#define CONV_FIXTURE_H
#include "net_fixture.h"
#include <nflow/image.h>

enum { MOST_NUMBERS = 4096, MOST_PIXELS = 64, MOST_CHANNELS = 16 };

/* A net and its options. */
typedef struct conv_case {
    const char *name;
    nf_image in;
    size_t out, n_ctx;
    nf_conv_options q;
} conv_case;

static const size_t conv_hidden[] = {5, 3}, conv_sides[] = {1, 5, 3}, conv_width[] = {4}, conv_seven[] = {7},
                    conv_residual_sides[] = {3, 1, 5};

enum { N_CONV_CASES = 14 };

/* Case number `which` for images of that size. */
static inline conv_case conv_case_of(int which, nf_image in)
{
    switch (which) {
    case 0:
        return (conv_case){"a single convolution", in, 2, 0, {.n_hidden = 0}};
    case 1:
        return (conv_case){
            "a single convolution of 7 x 7 with context", in, 2, 3, {.kernel = conv_seven, .n_kernel = 1}};
    case 2:
        return (conv_case){"Glow's net",
                           in,
                           4,
                           0,
                           {.hidden = conv_hidden, .n_hidden = 2, .norm = NF_CONV_ACTNORM, .learnt_scale = true}};
    case 3:
        return (conv_case){"1 x 1, 5 x 5, 3 x 3, with context and weight norm",
                           in,
                           1,
                           2,
                           {.hidden = conv_hidden,
                            .n_hidden = 2,
                            .kernel = conv_sides,
                            .n_kernel = 3,
                            .activation = NF_TANH,
                            .norm = NF_CONV_WEIGHT_NORM}};
    case 4:
        return (conv_case){"gated, with context", in, 3, 2, {.hidden = conv_hidden, .n_hidden = 2, .gated = true}};
    case 5:
        return (conv_case){"gated, with context and actnorm",
                           in,
                           1,
                           2,
                           {.hidden = conv_hidden, .n_hidden = 2, .gated = true, .norm = NF_CONV_ACTNORM}};
    case 6:
        return (conv_case){
            "residual", in, 2, 0, {.hidden = conv_width, .n_hidden = 1, .n_blocks = 2, .activation = NF_ELU}};
    case 7:
        return (conv_case){"residual with context and weight norm",
                           in,
                           2,
                           3,
                           {.hidden = conv_width,
                            .n_hidden = 1,
                            .n_blocks = 2,
                            .kernel = conv_residual_sides,
                            .n_kernel = 3,
                            .activation = NF_SWISH,
                            .norm = NF_CONV_WEIGHT_NORM,
                            .learnt_scale = true}};
    case 8:
        return (conv_case){
            "residual with context and actnorm",
            in,
            1,
            2,
            {.hidden = conv_width, .n_hidden = 1, .n_blocks = 1, .activation = NF_TANH, .norm = NF_CONV_ACTNORM}};
    case 9:
        return (conv_case){"even to odd pixels, residual",
                           in,
                           2,
                           0,
                           {.hidden = conv_width,
                            .n_hidden = 1,
                            .n_blocks = 1,
                            .activation = NF_LIPSWISH,
                            .in_pixels = NF_EVEN_PIXELS,
                            .out_pixels = NF_ODD_PIXELS}};
    case 10:
        return (conv_case){"odd pixels and an image to even pixels, with actnorm",
                           in,
                           2,
                           2 * in.height * in.width,
                           {.hidden = conv_hidden,
                            .n_hidden = 2,
                            .activation = NF_TANH,
                            .norm = NF_CONV_ACTNORM,
                            .in_pixels = NF_ODD_PIXELS,
                            .out_pixels = NF_EVEN_PIXELS,
                            .ctx_channels = 2}};
    case 11:
        return (conv_case){"residual, with an image, context and weight norm",
                           in,
                           1,
                           in.height * in.width + 2,
                           {.hidden = conv_width,
                            .n_hidden = 1,
                            .n_blocks = 1,
                            .activation = NF_ELU,
                            .norm = NF_CONV_WEIGHT_NORM,
                            .ctx_channels = 1}};
    case 12:
        return (conv_case){"numbers of a pixel together",
                           in,
                           6,
                           0,
                           {.hidden = conv_hidden,
                            .n_hidden = 1,
                            .activation = NF_TANH,
                            .out_pixels = NF_EVEN_PIXELS,
                            .n_per_feature = 3}};
    default:
        return (conv_case){"odd to even pixels",
                           in,
                           3,
                           2,
                           {.hidden = conv_hidden,
                            .n_hidden = 2,
                            .activation = NF_SOFTPLUS,
                            .in_pixels = NF_ODD_PIXELS,
                            .out_pixels = NF_EVEN_PIXELS}};
    }
}

static inline bool conv_case_exists(const conv_case *c)
{
    return c->q.out_pixels != NF_ODD_PIXELS || c->in.height * c->in.width > 1;
}

/* ---- the formula ---- */

/* One image of some channels. */
typedef struct conv_map {
    double at[MOST_CHANNELS][MOST_PIXELS];
} conv_map;

/* What is read of theta: `next` moves on. ctx is the context after its image, n_ctx features. */
typedef struct conv_reader {
    const conv_case *c;
    const double *next, *ctx;
    size_t n_ctx;
} conv_reader;

/* Channels that the first layer reads. */
static inline size_t conv_read(const conv_case *c)
{
    return c->in.channels + c->q.ctx_channels;
}

static inline bool conv_chosen(nf_pixels which, size_t i, size_t j)
{
    return which == NF_ALL_PIXELS || (i + j) % 2 == (which == NF_EVEN_PIXELS ? 0 : 1);
}

/* z = scale (W * x + U context + b), by the sums themselves. exp_scale: exp(3 s); else `normed`: g v / |v|. */
static inline void conv_formula_layer(conv_reader *r, size_t in, size_t out, size_t side, size_t n_ctx, bool exp_scale,
                                      bool normed, const conv_map *x, conv_map *z)
{
    const size_t height = r->c->in.height, width = r->c->in.width, n = side * side * in;
    const double *W = r->next, *U = W + out * n, *b = U + out * n_ctx, *scale = b + out;
    const long half = (long)side / 2;
    r->next = scale + (exp_scale || normed ? out : 0);
    for (size_t o = 0; o < out; o++) {
        double square = 0, shift = b[o];
        for (size_t i = 0; i < n; i++)
            square += W[o * n + i] * W[o * n + i];
        for (size_t i = 0; i < n_ctx; i++)
            shift += U[o * n_ctx + i] * r->ctx[i];
        for (size_t i = 0; i < height; i++)
            for (size_t j = 0; j < width; j++) {
                double sum = 0;
                for (size_t a = 0; a < side; a++)
                    for (size_t e = 0; e < side; e++)
                        for (size_t c = 0; c < in; c++) {
                            const long row = (long)i + (long)a - half, column = (long)j + (long)e - half;
                            if (row >= 0 && row < (long)height && column >= 0 && column < (long)width)
                                sum += W[((o * side + a) * side + e) * in + c] *
                                       x->at[c][(size_t)row * width + (size_t)column];
                        }
                z->at[o][i * width + j] = exp_scale ? exp(3 * scale[o]) * (sum + shift)
                                          : normed  ? scale[o] / sqrt(square) * sum + shift
                                                    : sum + shift;
            }
    }
}

static inline double conv_beta(conv_reader *r)
{
    return n_betas(r->c->q.activation) && !r->c->q.gated ? *r->next++ : NAN;
}

/* a = f(z), by the units of a hidden layer of `units` channels. */
static inline void conv_formula_units(conv_reader *r, size_t units, double beta, const conv_map *z, conv_map *a)
{
    const nf_activation f = r->c->q.activation == NF_ACTIVATION_DEFAULT ? NF_RELU : r->c->q.activation;
    for (size_t u = 0; u < units; u++)
        for (size_t p = 0; p < r->c->in.height * r->c->in.width; p++)
            a->at[u][p] =
                r->c->q.gated ? z->at[u][p] * unit(NF_SIGMOID, z->at[units + u][p]) : unit_of(f, z->at[u][p], beta);
}

static inline size_t conv_side(const conv_case *c, size_t kernel, size_t n)
{
    return c->q.n_kernel ? c->q.kernel[kernel] : kernel == 0 || kernel + 1 == n || c->q.n_blocks ? 3 : 1;
}

static inline void conv_formula_residual(conv_reader *r, const conv_map *x, conv_map *z)
{
    const conv_case *c = r->c;
    const bool actnorm = c->q.norm == NF_CONV_ACTNORM, normed = c->q.norm == NF_CONV_WEIGHT_NORM;
    const size_t width = c->q.hidden[0];
    static conv_map h, a, t;
    conv_formula_layer(r, conv_read(c), width, conv_side(c, 0, 3), r->n_ctx, actnorm, normed, x, &h);
    double beta = conv_beta(r);
    for (size_t k = 0; k < c->q.n_blocks; k++) {
        conv_formula_units(r, width, beta, &h, &a);
        conv_formula_layer(r, width, width, conv_side(c, 1, 3), 0, actnorm, normed, &a, &t);
        conv_formula_units(r, width, conv_beta(r), &t, &a);
        conv_formula_layer(r, width, width, conv_side(c, 1, 3), 0, false, normed, &a, &t);
        beta = conv_beta(r);
        double gate[MOST_CHANNELS];
        if (r->n_ctx)
            r->next = affine(r->next, width, r->n_ctx, r->ctx, gate);
        for (size_t u = 0; u < width; u++)
            for (size_t p = 0; p < c->in.height * c->in.width; p++)
                h.at[u][p] += r->n_ctx ? t.at[u][p] * unit(NF_SIGMOID, gate[u]) : t.at[u][p];
    }
    conv_formula_units(r, width, beta, &h, &a);
    conv_formula_layer(r, width, c->out, conv_side(c, 2, 3), 0, c->q.learnt_scale, normed && !c->q.learnt_scale, &a, z);
}

static inline void conv_formula_plain(conv_reader *r, const conv_map *x, conv_map *z)
{
    const conv_case *c = r->c;
    const bool normed = c->q.norm == NF_CONV_WEIGHT_NORM;
    static conv_map a;
    size_t in = conv_read(c);
    a = *x;
    for (size_t l = 0; l <= c->q.n_hidden; l++) {
        const bool last = l == c->q.n_hidden, exp_scale = last ? c->q.learnt_scale : c->q.norm == NF_CONV_ACTNORM;
        const size_t units = last ? c->out : c->q.hidden[l], out = last || !c->q.gated ? units : 2 * units;
        conv_formula_layer(r, in, out, conv_side(c, l, c->q.n_hidden + 1), l ? 0 : r->n_ctx, exp_scale,
                           normed && !exp_scale, &a, z);
        if (!last)
            conv_formula_units(r, units, conv_beta(r), z, &a);
        in = units;
    }
}

/* The channels that the first layer reads of one sample, x's and those of the context's image; and the reader of the
   rest. */
static inline conv_reader conv_begin(const conv_case *c, const double *theta, const double *x, const double *ctx,
                                     conv_map *in)
{
    const size_t height = c->in.height, width = c->in.width, image = c->q.ctx_channels * height * width;
    for (size_t k = 0; k < conv_read(c); k++)
        for (size_t i = 0; i < height; i++)
            for (size_t j = 0; j < width; j++)
                in->at[k][i * width + j] = k >= c->in.channels ? *ctx++ : conv_chosen(c->q.in_pixels, i, j) ? *x++ : 0;
    return (conv_reader){c, theta, ctx, c->n_ctx - image};
}

/* y of one sample; returns how many parameters were read. */
static inline size_t conv_formula(const conv_case *c, const double *theta, const double *x, const double *ctx,
                                  double *y)
{
    static conv_map in, z;
    const size_t height = c->in.height, width = c->in.width;
    conv_reader r = conv_begin(c, theta, x, ctx, &in);
    (c->q.n_blocks ? conv_formula_residual : conv_formula_plain)(&r, &in, &z);
    const size_t group = c->q.n_per_feature ? c->q.n_per_feature : 1;
    for (size_t k = 0; k < c->out; k += group)
        for (size_t i = 0; i < height; i++)
            for (size_t j = 0; j < width; j++)
                for (size_t e = 0; e < group && conv_chosen(c->q.out_pixels, i, j); e++)
                    *y++ = z.at[k + e][i * width + j];
    return (size_t)(r.next - theta);
}

/* ---- a net with numbers for everything ---- */

static inline void conv_prepare(fixture *f)
{
    const nf_object *o = nf_net_object(f->net);
    nf_real *prep = fixture_draw(f, f->shape->n_prep, 1, 1, 19);
    cr_assert_eq(nfi_tree_prepare(o, NF_EVAL, f->p.theta, NULL, prep), NF_OK);
    f->p.prep = prep;
}

static inline void conv_set_up(fixture *f, const conv_case *c, size_t n)
{
    memset(f, 0, sizeof *f);
    f->net = nf_conv_net(c->in, c->out, c->n_ctx, &c->q);
    cr_assert_not_null(f->net, "%s: %s", c->name, nf_error_message());
    draw_numbers(f, n);
    for (size_t i = 0; i < f->shape->n_params; i++)
        f->theta[i] *= NF_R(0.5);
    conv_prepare(f);
}

/* All gradients, those of the prepared numbers pulled back, from zeros. */
static inline void conv_run_back(fixture *f)
{
    const nf_object *o = nf_net_object(f->net);
    nf_real *g_prep = fixture_draw(f, f->shape->n_prep, 1, 1, 1);
    memset(g_prep, 0, f->shape->n_prep * sizeof *g_prep);
    memset(f->g.theta, 0, f->shape->n_params * sizeof *g_prep);
    memset(f->g.ctx, 0, f->shape->n_ctx * f->p.ld * sizeof *g_prep);
    nf_grad g = {.theta = f->g.theta, .prep = g_prep, .ctx = f->shape->n_ctx ? f->g.ctx : NULL};
    run_back(f, f->gx, &g);
    if (f->shape->n_prep)
        cr_assert_eq(o->part->prepare_vjp(o, f->theta, NULL, f->p.prep, g_prep, f->g.theta), NF_OK);
}

#endif
