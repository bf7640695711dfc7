/* Inputs and contexts of 0, denormal, 1, 1e15, on the edge of a spline's box and just off it, whole batches in the
   tails: values, log-dets and all gradients are finite where the exact ones are numbers, and infinite, not NaN, where a
   scale has overflowed. Parameters at their extremes for planar and radial. */
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
#define NEXT nextafterf
static const double denormal = 1.5e-45;
enum { is_double = false };
#else
#define NEXT nextafter
static const double denormal = 5e-324;
enum { is_double = true };
#endif
enum { DIM = 4, CTX = 3, N = 53 };
static const double far = 1e15;
static const nf_real box = 3;

/* ---- the flows ---- */

/* By direction: whether a scale, or a product of them, can overflow there. */
typedef struct flow_row {
    const char *name;
    nf_flow *(*build)(size_t n_ctx);
    bool takes_context, overflows[2];
} flow_row;

/* The recipe with its own units, layers and scales, but narrow. */
#define RECIPE(recipe, depth)                                                                                        \
    static nf_flow *build_##recipe(size_t n_ctx)                                                                     \
    {                                                                                                                \
        return nf_##recipe(                                                                                          \
            DIM, &(nf_recipe_options){.n_ctx = n_ctx, .hidden = (size_t[]){12, 12, 12, 12, 12}, .n_hidden = depth}); \
    }
RECIPE(nice, 5)
RECIPE(realnvp, 2)
RECIPE(made, 1)
RECIPE(maf, 2)
RECIPE(iaf, 2)
RECIPE(nsf_coupling, 1)
RECIPE(nsf_autoregressive, 1)

/* In a coupling, and in autoregressive flows of both parallel directions. */
static nf_flow *coupling(nf_flow *transform, size_t n_ctx)
{
    unsigned char mask[DIM];
    cr_assert_eq(nf_mask_alternating(DIM, 0, mask), DIM / 2);
    return nf_coupling(DIM, mask, transform,
                       nf_mlp(DIM / 2, nf_flow_shape(transform)->n_params, n_ctx,
                              &(nf_mlp_options){.hidden = (size_t[]){12}, .n_hidden = 1}));
}

static nf_flow *autoregressive(nf_flow *transform, size_t n_ctx, nf_direction parallel)
{
    nf_net *net = nf_masked_net(DIM, nf_flow_shape(transform)->n_params, n_ctx,
                                &(nf_masked_options){.hidden = (size_t[]){12}, .n_hidden = 1});
    return nf_autoregressive(transform, net, NULL, parallel);
}
#define CONDITIONED(name, transform)                         \
    static nf_flow *build_coupled_##name(size_t n_ctx)       \
    {                                                        \
        const size_t dim = DIM / 2;                          \
        return coupling(transform, n_ctx);                   \
    }                                                        \
    static nf_flow *build_forward_##name(size_t n_ctx)       \
    {                                                        \
        const size_t dim = 1;                                \
        return autoregressive(transform, n_ctx, NF_FORWARD); \
    }                                                        \
    static nf_flow *build_inverse_##name(size_t n_ctx)       \
    {                                                        \
        const size_t dim = 1;                                \
        return autoregressive(transform, n_ctx, NF_INVERSE); \
    }
#define SCALED(kind, ...) nf_scaled_affine(dim, &(nf_scaled_affine_options){.scale = kind, __VA_ARGS__})

/* DO(name, transform, overflows forward, inverse): softplus grows as its argument, which is already 1e30 after a step
   of an autoregressive flow and 1e60 after two. */
#define TRANSFORMS(DO)                                                                              \
    DO(shift, nf_shift(dim), false, false)                                                          \
    DO(affine, nf_affine(dim), true, true)                                                          \
    DO(exp, SCALED(NF_SCALE_EXP, .bias = 0), true, true)                                            \
    DO(tanh, SCALED(NF_SCALE_TANH, .bias = 0), false, false)                                        \
    DO(clamp, SCALED(NF_SCALE_CLAMP, .bias = 0), false, false)                                      \
    DO(softsign, SCALED(NF_SCALE_SOFTSIGN, .bias = 0), false, false)                                \
    DO(atan, SCALED(NF_SCALE_ATAN, .bias = 0), false, false)                                        \
    DO(asymmetric, SCALED(NF_SCALE_ASYMMETRIC, .bias = 0), false, false)                            \
    DO(sigmoid, SCALED(NF_SCALE_SIGMOID, .bias = 0), false, true)                                   \
    DO(gated, SCALED(NF_SCALE_SIGMOID, .bias = 2, .gated = true), false, true)                      \
    DO(sigmoid_floor, SCALED(NF_SCALE_SIGMOID, .bias = 2, .floor = 1e-3), false, false)             \
    DO(softplus, SCALED(NF_SCALE_SOFTPLUS, .bias = 0), !is_double, true)                            \
    DO(softplus_floor, SCALED(NF_SCALE_SOFTPLUS, .floor = 1e-3), !is_double, false)                 \
    DO(inverse_sigmoid, SCALED(NF_SCALE_INVERSE_SIGMOID, .bias = 2), true, false)                   \
    DO(clipped, nf_spline(dim, &(nf_spline_options){.form = NF_SPLINE_SOFT_CLIPPED}), false, false) \
    DO(spline, nf_spline(dim, NULL), false, false)                                                  \
    DO(circular, nf_spline(dim, &(nf_spline_options){.circular = true}), false, false)              \
    DO(free_ends, nf_spline(dim, &(nf_spline_options){.free_ends = true}), false, false)
#define BUILDERS(name, transform, forward, inverse) CONDITIONED(name, transform)
TRANSFORMS(BUILDERS)

#define LAYER(name, layer)                     \
    static nf_flow *build_##name(size_t n_ctx) \
    {                                          \
        (void)n_ctx;                           \
        return layer;                          \
    }
LAYER(planar, nf_planar(DIM))
LAYER(radial, nf_radial(DIM))
LAYER(sylvester, nf_sylvester(DIM, NULL))
LAYER(sylvester_householder, nf_sylvester(DIM, &(nf_sylvester_options){.kind = NF_SYLVESTER_HOUSEHOLDER}))
LAYER(sylvester_triangular, nf_sylvester(DIM, &(nf_sylvester_options){.kind = NF_SYLVESTER_TRIANGULAR}))

#define ROWS(name, transform, forward, inverse)                                             \
    {"coupling, " #name, build_coupled_##name, true, {forward, inverse}},                   \
        {"autoregressive forward, " #name, build_forward_##name, true, {forward, inverse}}, \
        {"autoregressive inverse, " #name, build_inverse_##name, true, {forward, inverse}},
static const flow_row flows[] = {
    {"NICE", build_nice, true, {false, false}},
    {"Real NVP", build_realnvp, true, {false, false}},
    {"MADE", build_made, true, {true, true}},
    {"MAF", build_maf, true, {true, true}},
    {"IAF", build_iaf, true, {false, true}},
    {"NSF, couplings", build_nsf_coupling, true, {false, false}},
    {"NSF, autoregressive", build_nsf_autoregressive, true, {false, false}},
    TRANSFORMS(ROWS){"planar", build_planar, false, {false, false}},
    {"radial", build_radial, false, {false, false}},
    {"Sylvester", build_sylvester, false, {false, false}},
    {"Sylvester, Householder", build_sylvester_householder, false, {false, false}},
    {"Sylvester, triangular", build_sylvester_triangular, false, {false, false}},
};
enum { N_FLOWS = sizeof flows / sizeof *flows };

/* ---- the numbers ---- */

/* Inputs, and what comes out. */
typedef struct batch {
    nf_real x[N * DIM], ctx[N * CTX], y[N * DIM], gx[N * DIM], g_ctx[N * CTX], *g_theta;
    double log_det[N], log_prob[N];
    nf_workspace *ws;
} batch;

static batch *new_batch(void)
{
    batch *b = calloc(1, sizeof *b);
    cr_assert_not_null(b);
    b->ws = nf_workspace_new(1);
    cr_assert_not_null(b->ws);
    return b;
}

static void free_batch(batch *b)
{
    nf_workspace_free(b->ws);
    free(b->g_theta);
    free(b);
}

/* Every value in all features, then mixed; or features that are all beyond the box. */
static void fill_points(bool in_tails, nf_real *x)
{
    const nf_real most = (nf_real)far, least = (nf_real)denormal;
    const nf_real values[] = {most, -most, NEXT(box, most), NEXT(-box, -most), 31,        0, least, -least, 1,
                              box,  -box,  NEXT(box, 0),    NEXT(-box, 0),     NF_R(-0.7)};
    const size_t n = in_tails ? 5 : sizeof values / sizeof *values;
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = values[i / DIM < n ? i / DIM : (i * 2654435761u >> 7) % n];
}

/* All alike, or mixed. */
enum { N_CONTEXTS = 5 };
static void fill_context(size_t kind, nf_real *ctx)
{
    const nf_real values[N_CONTEXTS - 1] = {0, NF_R(0.7), (nf_real)far, (nf_real)-far};
    for (size_t i = 0; i < N * CTX; i++)
        ctx[i] = values[kind < N_CONTEXTS - 1 ? kind : (i * 40503u >> 3) % (N_CONTEXTS - 1)];
}

static void run(const nf_model *m, nf_direction d, size_t n, batch *b)
{
    const size_t n_params = nf_model_shape(m)->n_params, n_ctx = nf_model_shape(m)->n_ctx,
                 dim = nf_model_shape(m)->dim_out;
    const nf_real *ctx = n_ctx ? b->ctx : NULL;
    nf_real *gy = reals(n * dim), *g_l = reals(n); /* g_l: some 1e5, which makes gradients overflow if any may */
    nf_noise_normal(&(nf_noise){.seed = 5, .site = 7}, n * dim, 1, 1, gy);
    nf_noise_normal(&(nf_noise){.seed = 6, .site = 7}, n, 1, 1, g_l);
    for (size_t i = 0; i < n; i++)
        g_l[i] *= NF_R(1e6);
    free(b->g_theta);
    b->g_theta = reals(n_params);
    cr_assert_eq(nf_transform(m, b->ws, NULL, d, n, b->x, ctx, b->y, b->log_det), NF_OK);
    cr_assert_eq(nf_transform_vjp(m, b->ws, NULL, d, n, b->x, ctx, gy, g_l, b->gx, ctx ? b->g_ctx : NULL, b->g_theta),
                 NF_OK);
    if (d == NF_INVERSE)
        cr_assert_eq(nf_log_prob(m, b->ws, NULL, n, b->x, ctx, b->log_prob), NF_OK);
    free(gy), free(g_l);
}

static bool can_overflow(const flow_row *row)
{
    return row->overflows[NF_FORWARD] || row->overflows[NF_INVERSE];
}

/* The k-th flow with a context or without, at random parameters. */
static nf_model *model_of(size_t k, bool with_context, uint64_t seed)
{
    nf_dist *q = nf_pushforward(nf_normal(DIM), flows[k].build(with_context ? CTX : 0));
    nf_model *m = nf_model_of_dist(q, &(nf_model_options){.seed = seed});
    cr_assert_not_null(m, "%s: %s", flows[k].name, nf_error_message());
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *more = normals(seed, n, can_overflow(&flows[k]) ? 0.1 : 0.3); /* e^s of e^s grows fast */
    for (size_t i = 0; i < n; i++)
        nf_model_theta(m)[i] += more[i];
    free(more);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

static bool is_moderate(size_t n, const nf_real *v)
{
    for (size_t i = 0; i < n; i++)
        if (fabs((double)v[i]) > 1)
            return false;
    return true;
}

/* Values are never NaN, log-dets always finite. Gradients are finite, too, but of samples that overflowed. */
static void check(const flow_row *row, nf_direction d, size_t n_ctx, size_t n_params, const batch *b)
{
    const char *way = d == NF_FORWARD ? "forward" : "inverse";
    for (size_t i = 0; i < N; i++) {
        const nf_real *x = b->x + i * DIM, *y = b->y + i * DIM;
        cr_assert(isfinite(b->log_det[i]), "%s, %s: log-det %zu is %g", row->name, way, i, b->log_det[i]);
        for (size_t r = 0; r < DIM; r++)
            cr_assert(!isnan(y[r]), "%s, %s: feature %zu of sample %zu is NaN", row->name, way, r, i);
        if (d == NF_INVERSE)
            cr_assert(b->log_prob[i] < (double)INFINITY, "%s: log-density %zu is %g", row->name, i, b->log_prob[i]);
        if (row->overflows[d] && !(is_moderate(DIM, x) && is_moderate(n_ctx, b->ctx + i * CTX)))
            continue;
        cr_assert(all_finite(DIM, y) && (d == NF_FORWARD || isfinite(b->log_prob[i])), "%s, %s: sample %zu overflows",
                  row->name, way, i);
        cr_assert(all_finite(DIM, b->gx + i * DIM) && all_finite(n_ctx, b->g_ctx + i * CTX),
                  "%s, %s: gradients of sample %zu", row->name, way, i);
    }
    cr_assert(row->overflows[d] || all_finite(n_params, b->g_theta), "%s, %s: gradients of parameters", row->name, way);
}

static void check_flow(size_t k)
{
    batch *b = new_batch();
    for (int with = 0; with <= flows[k].takes_context; with++)
        for (uint64_t seed = 1; seed <= 3; seed++) {
            nf_model *m = model_of(k, with, seed);
            for (size_t c = 0; c < (with ? N_CONTEXTS : 1); c++)
                for (int in_tails = 0; in_tails < 2; in_tails++)
                    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
                        fill_points(in_tails, b->x);
                        fill_context(c, b->ctx);
                        run(m, d, N, b);
                        check(&flows[k], d, with ? CTX : 0, nf_model_shape(m)->n_params, b);
                    }
            nf_model_free(m);
        }
    free_batch(b);
}

Test(extremes, flows_that_cannot_overflow_are_finite)
{
    for (size_t k = 0; k < N_FLOWS; k++)
        if (!can_overflow(&flows[k]))
            check_flow(k);
}

Test(extremes, what_overflows_is_infinite_and_not_nan)
{
    for (size_t k = 0; k < N_FLOWS; k++)
        if (can_overflow(&flows[k]))
            check_flow(k);
}

/* y = x e^s + m beyond the largest number, and where e^s vanishes; the log-density there. */
Test(extremes, overflow_of_an_affine_flow)
{
    const nf_real m = NF_R(0.3);
    batch *b = new_batch();
    for (int sign = -1; sign <= 1; sign += 2) {
        nf_real theta[2] = {m, (nf_real)(sign * far)};
        nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(1), nf_affine(1)), &(nf_model_options){.theta = theta});
        for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
            const bool grows = (sign > 0) == (d == NF_FORWARD);
            b->x[0] = 1, b->x[1] = -1, b->x[2] = d == NF_FORWARD ? 0 : m;
            run(q, d, 3, b);
            for (int i = 0; i < 3; i++) {
                const bool overflows = grows && i < 2;
                cr_expect_eq(b->log_det[i], (double)(grows ? fabs(theta[1]) : -fabs(theta[1])));
                if (overflows)
                    cr_expect(isinf(b->y[i]) && (b->y[i] > 0) == (b->x[i] > 0), "%g", (double)b->y[i]);
                else
                    cr_expect_float_eq(b->y[i], d == NF_FORWARD ? (double)m : 0, 1e-20);
                if (d == NF_INVERSE)
                    cr_expect(overflows ? isinf(b->log_prob[i]) && b->log_prob[i] < 0 : isfinite(b->log_prob[i]));
            }
        }
        nf_model_free(q);
    }
    free_batch(b);
}

/* ---- extreme parameters ---- */

typedef nf_flow *layer_of(size_t dim);
static const nf_real points[] = {0, 0, 1, NF_R(-0.4), NF_R(1e15), NF_R(-1e15), NF_R(1e-30), 0, NF_R(-1e15), NF_R(0.2)};
enum { N_POINTS = sizeof points / sizeof *points / 2 };

/* Both directions at theta, shared and as a context; gradients of the inverse where that is not steeper than `steepest`
   in logarithm. */
static void check_parameters(const char *name, layer_of *layer, size_t n_params, nf_real *theta, double steepest)
{
    batch *b = new_batch();
    for (int amortised = 0; amortised < 2; amortised++) {
        nf_flow *f = amortised ? nf_amortized_by_context(layer(2)) : layer(2);
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), f), &(nf_model_options){.theta = theta});
        cr_assert_not_null(m, "%s", nf_error_message());
        for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++)
            for (size_t i = 0; i < N_POINTS; i++) {
                memcpy(b->x, points + 2 * i, 2 * sizeof *points);
                memcpy(b->ctx, theta, n_params * sizeof *theta);
                run(m, d, 1, b);
                char where[160];
                snprintf(where, sizeof where, "%s, amortised %d, direction %d, point %zu, parameters %g %g %g %g", name,
                         amortised, (int)d, i, (double)theta[0], (double)theta[2], (double)theta[3],
                         (double)theta[n_params - 1]);
                cr_assert(all_finite(2, b->y) && isfinite(b->log_det[0]), "%s: (%g, %g), log-det %g", where,
                          (double)b->y[0], (double)b->y[1], b->log_det[0]);
                if (d == NF_FORWARD || b->log_det[0] < steepest)
                    cr_assert(all_finite(2, b->gx) && all_finite(n_params, amortised ? b->g_ctx : b->g_theta),
                              "%s: gradients", where);
            }
        nf_model_free(m);
    }
    free_batch(b);
}

/* w.u up to 1e30, |w|^2 from 1e-30 to 1e30. Where |w| |u| is large, rounding of x = y - u^ h moves w.x further than the
   inverse's slope can bear. */
Test(extremes, planar_parameters)
{
    static const double sizes[] = {0, 1e-15, 1, -1, 1e15, -1e15};
    for (size_t w = 0; w < 6; w++)
        for (size_t u = 0; u < 6; u++)
            for (size_t b = 0; b < 6; b++) {
                nf_real theta[5] = {(nf_real)sizes[w], (nf_real)(0.37 * sizes[w]), (nf_real)sizes[u],
                                    (nf_real)(-0.41 * sizes[u]), (nf_real)sizes[b]};
                check_parameters("planar", nf_planar, 5, theta, fabs(sizes[w] * sizes[u]) > 2 ? -1e9 : 30);
            }
}

/* alpha = e^a and softplus(b) from 0 to infinity, also at the centre. */
Test(extremes, radial_parameters)
{
    static const double sizes[] = {0, 1, -1, 50, -50, 1e4, -1e4, 1e15, -1e15};
    for (size_t a = 0; a < 9; a++)
        for (size_t b = 0; b < 9; b++)
            for (int far_centre = 0; far_centre < 2; far_centre++) {
                nf_real theta[4] = {far_centre ? (nf_real)far : 1, NF_R(-0.4), (nf_real)sizes[a], (nf_real)sizes[b]};
                check_parameters("radial", nf_radial, 4, theta, 30);
            }
}
