/* The units of masked nets: dropout and the gates of residual blocks. Masked nets of one dimension are ordinary nets of
   the context; with dropout both directions of an autoregressive flow are one map and its inverse, with the gradients
   of that map. */
#include "base/memory.h"
#include "object/pack.h"
#include "object/tree.h"
#include "slices.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

enum { N = 37, LD = 48, WIDTH = 9, CTX = 3 };
static const size_t two_hidden[] = {WIDTH, WIDTH + 4};

typedef struct arenas {
    nf_arena tape, scratch, numbers;
} arenas;

static void clear(arenas *a)
{
    nfi_arena_clear(&a->tape);
    nfi_arena_clear(&a->scratch);
    nfi_arena_clear(&a->numbers);
}

/* [rows x LD] with repeated padding, or rows of zeros. */
static nf_real *tile(arenas *a, size_t rows, uint64_t seed)
{
    nf_real *v = nf_arena_reals(&a->numbers, rows ? rows : 1, LD);
    cr_assert_not_null(v);
    memset(v, 0, (rows ? rows : 1) * LD * sizeof *v);
    if (rows && seed)
        nf_noise_normal(&(nf_noise){.seed = seed, .site = 5}, rows, N, LD, v);
    return v;
}

static nf_real *numbers(arenas *a, size_t n, uint64_t seed, double scale)
{
    nf_real *v = nf_arena_reals(&a->numbers, 1, n + 1);
    cr_assert_not_null(v);
    nf_noise_normal(&(nf_noise){.seed = seed, .site = 6}, n + 1, 1, 1, v);
    for (size_t i = 0; i <= n; i++)
        v[i] *= (nf_real)scale;
    return v;
}

static nf_pass pass_of(arenas *a, nf_mode mode, const nf_real *theta, const nf_real *ctx)
{
    return (nf_pass){.n = N,
                     .ld = LD,
                     .theta = theta,
                     .ctx = ctx,
                     .mode = mode,
                     .noise = {.seed = 61, .step = 4, .first_sample = 700, .site = 9},
                     .tape = &a->tape,
                     .scratch = &a->scratch};
}

static nf_net *masked(size_t dim, size_t per_dim, size_t n_ctx, size_t n_blocks, nf_activation unit, double dropout)
{
    return nf_masked_net(dim, per_dim, n_ctx,
                         &(nf_masked_options){.hidden = two_hidden,
                                              .n_hidden = n_blocks ? 1 : 2,
                                              .n_blocks = n_blocks,
                                              .activation = unit,
                                              .dropout = dropout});
}

/* Of [rows x LD], padding aside. */
static double difference(size_t rows, const nf_real *a, const nf_real *b)
{
    double worst = 0;
    for (size_t i = 0; i < rows * LD; i++)
        worst = i % LD >= N ? worst : fmax(worst, fabs((double)a[i] - (double)b[i]) / (1 + fabs((double)b[i])));
    return worst;
}

/* ---- one dimension ---- */

/* Where number i of the residual net stands in the masked one. There a block's gate comes last, and the parameter of
   units that have one (betas is 1) stands behind the layer that they read, here behind the layer that reads them. */
static size_t place_of(size_t i, size_t n_blocks, size_t betas)
{
    enum { INITIAL = WIDTH * (CTX + 1), GATE = WIDTH * (CTX + 1), LAYER = WIDTH * (WIDTH + 1) };
    const size_t size = GATE + 2 * (LAYER + betas), block = (i - INITIAL) / size,
                 first = INITIAL + betas + block * size;
    if (i < INITIAL || i >= INITIAL + n_blocks * size)
        return i;
    size_t inside = (i - INITIAL) % size;
    if (inside < GATE)
        return first + 2 * LAYER + betas + (block + 1 < n_blocks ? betas : 0) + inside;
    inside -= GATE;
    if (inside < LAYER)
        return first + inside;
    if (betas && inside == LAYER) /* of the stream's units */
        return block ? first - GATE - 1 : INITIAL;
    inside -= LAYER + betas;
    return inside < LAYER ? first + LAYER + betas + inside : first + LAYER;
}

/* Outputs and all gradients at the same numbers. */
static void check_one_dimension(size_t n_blocks, nf_activation unit, double dropout, nf_mode mode)
{
    enum { OUT = 4 };
    nf_net *net[2] = {masked(1, OUT, CTX, n_blocks, unit, dropout), NULL};
    const nf_residual_mlp_options residual = {
        .width = WIDTH, .n_blocks = n_blocks, .activation = unit, .dropout = dropout};
    const nf_mlp_options plain = {.hidden = two_hidden, .n_hidden = 2, .activation = unit, .dropout = dropout};
    const size_t betas = unit == NF_SWISH || unit == NF_LIPSWISH;
    net[1] = n_blocks ? nf_residual_mlp(0, OUT, CTX, &residual) : nf_mlp(0, OUT, CTX, &plain);
    const size_t n = nf_object_shape(nf_net_object(net[1]))->n_params;
    cr_assert_eq(nf_object_shape(nf_net_object(net[0]))->n_params, n);
    arenas a = {0};
    nf_real *theta[2] = {numbers(&a, n, 1, 0.5), numbers(&a, n, 1, 0.5)}, *x = tile(&a, 1, 2), *ctx = tile(&a, CTX, 3);
    nf_real *y[2], *g_theta[2], *g_ctx[2], *gx = tile(&a, 1, 8), *gy = tile(&a, OUT, 4);
    nfi_pad_zero(OUT, N, LD, gy);
    for (size_t i = 0; i < n; i++)
        theta[1][i] = theta[0][n_blocks ? place_of(i, n_blocks, betas) : i];
    for (int k = 0; k < 2; k++) {
        nf_pass p = pass_of(&a, mode, theta[k], ctx);
        void *saved = NULL;
        y[k] = tile(&a, OUT, 0);
        g_theta[k] = numbers(&a, n, 1, 0);
        g_ctx[k] = tile(&a, CTX, 0);
        const nf_grad g = {.theta = g_theta[k], .ctx = g_ctx[k]};
        cr_assert_eq(nf_net_apply(nf_net_object(net[k]), &p, x, y[k], &saved), NF_OK);
        cr_assert_eq(nf_net_vjp(nf_net_object(net[k]), &p, x, y[k], saved, gy, k ? NULL : gx, &g), NF_OK);
    }
    cr_assert_lt(difference(OUT, y[0], y[1]), 30 * rounding, "%zu blocks: outputs", n_blocks);
    cr_assert_lt(difference(CTX, g_ctx[0], g_ctx[1]), 300 * rounding, "%zu blocks: context's gradient", n_blocks);
    for (size_t i = 0; i < n; i++) {
        const double got = (double)g_theta[0][n_blocks ? place_of(i, n_blocks, betas) : i],
                     wanted = (double)g_theta[1][i];
        cr_assert_float_eq(got, wanted, 300 * rounding * (10 + fabs(wanted)), "%zu blocks: gradient %zu: %g, not %g",
                           n_blocks, i, got, wanted);
    }
    for (size_t s = 0; s < LD; s++)
        cr_assert_eq((double)gx[s], 0, "the only input is seen");
    nf_net_free(net[0]);
    nf_net_free(net[1]);
    clear(&a);
}

Test(masked_units, nets_of_one_dimension_are_ordinary_nets)
{
    for (size_t n_blocks = 0; n_blocks < 4; n_blocks += n_blocks ? 2 : 1) {
        for (nf_activation unit = NF_RELU; unit <= NF_LIPSWISH; unit++) {
            check_one_dimension(n_blocks, unit, 0, NF_TRAIN);
            check_one_dimension(n_blocks, unit, 0.4, NF_TRAIN);
            check_one_dimension(n_blocks, unit, 0.4, NF_EVAL);
        }
    }
}

/* ---- flows while training ---- */

static nf_flow *flow_of(size_t dim, size_t n_ctx, size_t n_blocks, nf_activation unit, nf_direction parallel)
{
    size_t order[64];
    nf_noise_permutation(&(nf_noise){.seed = 14}, dim, order);
    return nf_autoregressive(nf_affine(1), masked(dim, 2, n_ctx, n_blocks, unit, 0.3), order, parallel);
}

static void check_inverse(size_t dim, size_t n_ctx, size_t n_blocks, nf_activation unit, nf_direction parallel)
{
    arenas a = {0};
    nf_flow *f = flow_of(dim, n_ctx, n_blocks, unit, parallel);
    cr_assert_not_null(f, "%s", nf_error_message());
    const nf_object *o = nf_flow_object(f);
    const nf_real *theta = numbers(&a, nf_object_shape(o)->n_params, 21, 0.2), *ctx = tile(&a, n_ctx, 22);
    nf_real *x = tile(&a, dim, 23), *y = tile(&a, dim, 0), *back = tile(&a, dim, 0), *other = tile(&a, dim, 0);
    double log_det[3][LD] = {{0}};
    nf_pass p = pass_of(&a, NF_TRAIN, theta, n_ctx ? ctx : NULL);
    void *saved;
    cr_assert_eq(nf_flow_apply(o, NF_FORWARD, &p, x, y, log_det[0], &saved), NF_OK);
    p.tape = NULL;
    cr_assert_eq(nf_flow_apply(o, NF_INVERSE, &p, y, back, log_det[1], &saved), NF_OK);
    cr_assert_lt(difference(dim, back, x), 1e3 * rounding, "%zu dimensions, %zu blocks", dim, n_blocks);
    for (size_t s = 0; s < N; s++)
        cr_assert_float_eq(log_det[0][s], -log_det[1][s], 1e3 * rounding * (1 + fabs(log_det[0][s])));
    /* of another step, and without dropout, it is another map: where there is more than one dimension, or context */
    p.noise.step++;
    cr_assert_eq(nf_flow_apply(o, NF_FORWARD, &p, x, other, log_det[2], &saved), NF_OK);
    cr_assert_gt(difference(dim, other, y), 1e-3);
    p.mode = NF_EVAL;
    cr_assert_eq(nf_flow_apply(o, NF_FORWARD, &p, x, other, log_det[2], &saved), NF_OK);
    cr_assert_gt(difference(dim, other, y), 1e-3);
    nf_flow_free(f);
    clear(&a);
}

Test(masked_units, directions_drop_the_same_units)
{
    for (int d = 0; d < 2; d++) {
        const nf_direction parallel = d ? NF_INVERSE : NF_FORWARD;
        for (int u = 0; u < 2; u++) {
            const nf_activation unit = u ? NF_SWISH : NF_TANH;
            check_inverse(5, 0, 0, unit, parallel);
            check_inverse(7, 3, 0, unit, parallel);
            check_inverse(5, 3, 2, unit, parallel);
            check_inverse(12, 0, 1, unit, parallel);
            check_inverse(1, 3, 1, unit, parallel);
        }
    }
}

#ifndef NF_SINGLE
/* <gy, y> + <g_log_det, log_det> at numbers moved by h along their directions. */
static double loss(const nf_object *o, nf_direction d, const nf_pass *p, double h, const nf_real *const at[3],
                   const nf_real *const along[3], const size_t size[3], const nf_real *gy, const nf_real *g_log_det)
{
    arenas a = {0};
    nf_real *moved[3], *y = tile(&a, nf_object_shape(o)->dim_in, 0);
    for (int k = 0; k < 3; k++) {
        moved[k] = numbers(&a, size[k], 1, 0);
        for (size_t i = 0; i < size[k]; i++)
            moved[k][i] = at[k][i] + h * along[k][i];
    }
    nf_pass q = *p;
    q.theta = moved[0];
    q.ctx = p->ctx ? moved[2] : NULL;
    q.tape = NULL;
    double log_det[LD] = {0}, sum = 0;
    void *saved;
    cr_assert_eq(nf_flow_apply(o, d, &q, moved[1], y, log_det, &saved), NF_OK);
    for (size_t s = 0; s < N; s++) {
        sum += g_log_det[s] * log_det[s];
        for (size_t r = 0; r < nf_object_shape(o)->dim_in; r++)
            sum += gy[r * LD + s] * y[r * LD + s];
    }
    clear(&a);
    return sum;
}

static void check_gradient(nf_direction d, size_t dim, size_t n_ctx, size_t n_blocks, nf_activation unit,
                           nf_direction parallel)
{
    arenas a = {0};
    nf_flow *f = flow_of(dim, n_ctx, n_blocks, unit, parallel);
    const nf_object *o = nf_flow_object(f);
    const size_t size[3] = {nf_object_shape(o)->n_params, dim * LD, n_ctx * LD};
    const nf_real *at[3] = {numbers(&a, size[0], 31, 0.2), tile(&a, dim, 32), tile(&a, n_ctx, 33)};
    const nf_real *along[3] = {numbers(&a, size[0], 34, 0.3), tile(&a, dim, 35), tile(&a, n_ctx, 36)};
    nf_real *gy = tile(&a, dim, 37), *g_log_det = tile(&a, 1, 38), *y = tile(&a, dim, 0);
    nf_real *g[3] = {numbers(&a, size[0], 1, 0), tile(&a, dim, 0), tile(&a, n_ctx, 0)};
    nfi_pad_zero(dim, N, LD, gy);
    nfi_pad_zero(1, N, LD, g_log_det);
    nf_pass p = pass_of(&a, NF_TRAIN, at[0], n_ctx ? at[2] : NULL);
    double log_det[LD] = {0}, slope = 0;
    void *saved;
    cr_assert_eq(nf_flow_apply(o, d, &p, at[1], y, log_det, &saved), NF_OK);
    cr_assert_eq(nf_flow_vjp(o, d, &p, at[1], y, saved, gy, g_log_det, g[1],
                             &(nf_grad){.theta = g[0], .ctx = n_ctx ? g[2] : NULL}),
                 NF_OK);
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < size[k]; i++)
            slope += k && i % LD >= N ? 0 : g[k][i] * along[k][i];
    const double h = 1e-5, up = loss(o, d, &p, h, at, along, size, gy, g_log_det),
                 down = loss(o, d, &p, -h, at, along, size, gy, g_log_det), wanted = (up - down) / (2 * h);
    cr_assert_float_eq(slope, wanted, 1e-7 * (10 + fabs(wanted)),
                       "direction %d, %zu dimensions, %zu blocks: %g, not %g", (int)d, dim, n_blocks, slope, wanted);
    nf_flow_free(f);
    clear(&a);
}

Test(masked_units, gradients_are_those_of_the_same_masks)
{
    for (int k = 0; k < 8; k++) {
        const nf_direction d = k % 2 ? NF_INVERSE : NF_FORWARD, parallel = k / 2 % 2 ? NF_INVERSE : NF_FORWARD;
        const nf_activation unit = k < 4 ? NF_TANH : NF_LIPSWISH;
        check_gradient(d, 5, 0, 0, unit, parallel);
        check_gradient(d, 7, 3, 0, unit, parallel);
        check_gradient(d, 5, 3, 2, unit, parallel);
        check_gradient(d, 12, 0, 1, unit, parallel);
        check_gradient(d, 1, 3, 1, unit, parallel);
    }
}
#endif

/* ---- structure ---- */

static void check_shape(nf_net *net, uint32_t n_sites, const char *names)
{
    cr_assert_not_null(net, "%s", nf_error_message());
    const nf_shape *s = nf_object_shape(nf_net_object(net));
    char text[1000] = "";
    cr_assert_eq(s->n_sites, n_sites ? n_sites : 1);
    cr_assert_not(s->flags & NF_STOCHASTIC); /* dropout is noise of training alone */
    nfi_tree_slices(nf_net_object(net), list_slice, text);
    cr_assert_str_eq(text, names);
    nf_net_free(net);
}

/* Three dimensions and five units: degrees 0 0 1 1 2 with context, 1 1 1 2 2 without. */
Test(masked_units, shapes_and_slices)
{
    const size_t five[] = {5, 5};
    nf_masked_options o = {.hidden = five, .n_hidden = 1, .n_blocks = 1};
    check_shape(nf_masked_net(3, 1, 2, &o), 0,
                "0.weight@0:14 0.bias@14:5 1.weight@19:17 1.bias@36:5 2.weight@41:17 2.bias@58:5 2.gate.weight@63:5x2 "
                "2.gate.bias@73:5 3.weight@78:11 3.bias@89:3 ");
    o.dropout = 0.5;
    check_shape(nf_masked_net(3, 1, 0, &o), 1,
                "0.weight@0:7 0.bias@7:5 1.weight@12:19 1.bias@31:5 2.weight@36:19 2.bias@55:5 3.weight@60:8 "
                "3.bias@68:3 ");
    o = (nf_masked_options){.hidden = five, .n_hidden = 2, .dropout = 0.5};
    check_shape(nf_masked_net(3, 1, 0, &o), 2,
                "0.weight@0:7 0.bias@7:5 1.weight@12:19 1.bias@31:5 2.weight@36:8 2.bias@44:3 ");
    o = (nf_masked_options){.hidden = five, .n_hidden = 1, .activation = NF_SWISH};
    check_shape(nf_masked_net(3, 1, 0, &o), 0, "0.weight@0:7 0.bias@7:5 0.beta@12:1 1.weight@13:8 1.bias@21:3 ");
    o.n_blocks = 1;
    check_shape(nf_masked_net(3, 1, 2, &o), 0,
                "0.weight@0:14 0.bias@14:5 0.beta@19:1 1.weight@20:17 1.bias@37:5 1.beta@42:1 2.weight@43:17 "
                "2.bias@60:5 2.gate.weight@65:5x2 2.gate.bias@75:5 3.weight@80:11 3.bias@91:3 ");
}
