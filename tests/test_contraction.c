/* Residual flows of bounded nets: the bound itself, by GSL's singular values; estimates of the log-det against the
   dense one, by statistics; inverses, by their errors; what fails, row by row. */
#include "model/model.h"
#include "nn/mlp.h"
#include "support/expect.h"
#include "support/fail_alloc.h"
#include "support/numbers.h"
#include "support/push.h"
#include "support/temp_files.h"
#include <gsl/gsl_linalg.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

static double by_precision(double in_float, double in_double)
{
    return sizeof(nf_real) == sizeof(float) ? in_float : in_double;
}

enum { DIM = 3, CTX = 2 };
static const size_t widths[] = {17, 13};

static nf_net *bounded(size_t dim, size_t n_ctx, nf_activation unit, double bound)
{
    return nf_lipschitz(nf_mlp(dim, dim, n_ctx, &(nf_mlp_options){.hidden = widths, .n_hidden = 2, .activation = unit}),
                        &(nf_lipschitz_options){.bound = bound});
}

/* A flow with the same method outside training as in training. */
static nf_flow *flow_of(size_t dim, const nf_residual_flow_options *options)
{
    nf_residual_flow_options q = *options;
    q.score_log_det = q.log_det;
    q.score_terms = q.terms;
    return nf_residual_flow(bounded(dim, CTX, NF_LIPSWISH, 0.9), &q);
}

/* Adds the first rows of the identity, times 4, to the initial parameters of each layer, and 1 to the biases: g moves
   all features, with slopes near its bound. */
static void stretch(nf_model *m, size_t dim, size_t n_ctx)
{
    const size_t in[] = {dim, widths[0], widths[1]}, out[] = {widths[0], widths[1], dim};
    nf_real *w = nf_model_theta(m);
    for (size_t l = 0; l < 3; l++) {
        const size_t stride = in[l] + (l ? 0 : n_ctx);
        for (size_t i = 0; i < dim; i++)
            w[i * stride + i] += 4;
        for (size_t i = 0; i < out[l]; i++)
            w[out[l] * stride + i] += 1;
        w += out[l] * (stride + 1) + (l < 2);
    }
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
}

static nf_model *model_of(size_t dim, const nf_residual_flow_options *options)
{
    nf_model *m = nf_model_of_flow(flow_of(dim, options), &(nf_model_options){.seed = 12});
    cr_assert_not_null(m, "%s", nf_error_message());
    stretch(m, dim, CTX);
    return m;
}

/* ---- the bound ---- */

static double largest_singular_value(size_t out, size_t in, size_t stride, const nf_real *w)
{
    const size_t rows = out > in ? out : in, cols = out > in ? in : out;
    gsl_matrix *A = gsl_matrix_alloc(rows, cols), *V = gsl_matrix_alloc(cols, cols);
    gsl_vector *s = gsl_vector_alloc(cols), *work = gsl_vector_alloc(cols);
    for (size_t r = 0; r < out; r++)
        for (size_t c = 0; c < in; c++)
            gsl_matrix_set(A, out > in ? r : c, out > in ? c : r, (double)w[r * stride + c]);
    cr_assert_eq(gsl_linalg_SV_decomp(A, V, s, work), 0);
    const double most = gsl_vector_get(s, 0);
    gsl_matrix_free(A), gsl_matrix_free(V), gsl_vector_free(s), gsl_vector_free(work);
    return most;
}

/* Calls `each` for every layer of every bounded net below o, with the matrix as it is used and as it is in theta. */
typedef void layer_fn(size_t out, size_t in, size_t stride, const nf_real *used, const nf_real *w, double bound);
static size_t for_layers(const nf_object *o, const nf_real *theta, const nf_real *prep, layer_fn *each)
{
    size_t n = 0;
    if (strcmp(o->part->name, "lipschitz") == 0) {
        const nfi_mlp *m = nf_self(nf_child(o, 0));
        for (size_t l = 0, at = 0; l < m->n_layers; l++, n++) {
            const nfi_dense d = nfi_mlp_layer(m, l);
            each(d.out, d.in, nfi_dense_fan_in(&d), prep + at, theta + at,
                 ((const nf_lipschitz_options *)nf_self(o))->bound);
            at += nfi_dense_size(&d);
        }
        return n;
    }
    for (size_t i = 0; i < o->n_children; i++)
        n += for_layers(o->children[i], theta + o->place[i].theta, prep + o->place[i].prep, each);
    return n;
}

static void is_below(size_t out, size_t in, size_t stride, const nf_real *used, const nf_real *w, double bound)
{
    (void)w;
    const double sigma = largest_singular_value(out, in, stride, used);
    cr_assert_lt(sigma, bound, "a layer [%zu x %zu] has %.12g, bound %g", out, in, sigma, bound);
}

/* Where the bound acts, it is nearly reached; elsewhere the matrix is as it was. */
static void is_sharp(size_t out, size_t in, size_t stride, const nf_real *used, const nf_real *w, double bound)
{
    const double sigma = largest_singular_value(out, in, stride, used),
                 given = largest_singular_value(out, in, stride, w);
    is_below(out, in, stride, used, w, bound);
    if (given > bound * (1 + 100 * rounding))
        cr_assert_gt(sigma, bound * (1 - 1e-4), "a layer [%zu x %zu] of %g has %.12g, bound %g", out, in, given, sigma,
                     bound);
    else if (given < bound * (1 - 1e-4))
        for (size_t r = 0; r < out; r++)
            cr_assert_arr_eq(used + r * stride, w + r * stride, in * sizeof *w);
}

static void check_layers(const nf_model *m, size_t n, layer_fn *each)
{
    cr_assert_eq(for_layers(m->o, m->theta, m->prep, each), n);
}

Test(contraction, layers_are_bounded_at_any_parameters)
{
    static const double scales[] = {0.01, 0.3, 1, 3, 40};
    for (size_t dim = 1; dim < 70; dim = 3 * dim + 1)
        for (size_t k = 0; k < 5; k++) {
            nf_model *m = nf_model_of_net(bounded(dim, CTX, NF_ELU, 0.8), &(nf_model_options){.seed = k});
            cr_assert_not_null(m, "%s", nf_error_message());
            check_layers(m, 3, is_sharp);
            nf_real *other = normals(k, nf_model_shape(m)->n_params, scales[k]);
            memcpy(nf_model_theta(m), other, nf_model_shape(m)->n_params * sizeof *other);
            cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
            check_layers(m, 3, is_sharp);
            free(other);
            nf_model_free(m);
        }
}

/* Steps as Adam makes them: all numbers move by the rate, with signs that last. */
Test(contraction, layers_stay_bounded_in_training)
{
    nf_model *m = nf_model_of_net(bounded(11, CTX, NF_TANH, 0.93), NULL);
    cr_assert_not_null(m);
    const size_t n = nf_model_shape(m)->n_params;
    for (size_t step = 0; step < 400; step++) {
        nf_real *signs = normals(step / 30, n, 1);
        for (size_t i = 0; i < n; i++)
            nf_model_theta(m)[i] += signs[i] < 0 ? NF_R(-0.01) : NF_R(0.01);
        free(signs);
        cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
        check_layers(m, 3, is_below);
    }
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    check_layers(m, 3, is_sharp);
    nf_model_free(m);
}

/* State that a singular value has overtaken, or that has no direction, is not believed outside training. */
Test(contraction, singular_values_are_found_from_any_state)
{
    nf_model *m = nf_model_of_net(bounded(2, 0, NF_TANH, 0.5), NULL);
    cr_assert_not_null(m);
    memset(nf_model_theta(m), 0, nf_model_shape(m)->n_params * sizeof(nf_real));
    nf_model_theta(m)[0] = 1; /* W [17 x 2] has the singular values 1 and 3 */
    nf_model_theta(m)[3] = 3;
    for (int start = 0; start < 3; start++) {
        nf_real *v = nf_model_state(m);
        v[0] = start == 0;
        v[1] = start == 2 ? (nf_real)NAN : 0;
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        check_layers(m, 3, is_sharp);
    }
    nf_model_free(m);
}

/* Columns of the first layer that read context are as they were given, however large. */
Test(contraction, context_is_not_bounded)
{
    nf_model *m = nf_model_of_net(bounded(3, CTX, NF_TANH, 0.5), NULL);
    cr_assert_not_null(m);
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        nf_model_theta(m)[i] *= 30;
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    check_layers(m, 3, is_sharp);
    for (size_t r = 0; r < widths[0]; r++)
        for (size_t c = 0; c < 3 + CTX; c++)
            cr_assert_eq(m->prep[r * (3 + CTX) + c] == m->theta[r * (3 + CTX) + c], c >= 3);
    nf_model_free(m);
}

/* ---- estimates ---- */

/* One point, DRAWS times: rows that differ in the names of their noise alone. */
enum { DRAWS = 4096, GROUPS = 64 };
typedef struct draws {
    nf_real x[DRAWS * 16], ctx[DRAWS * CTX], y[DRAWS * 16], gx[DRAWS * 16], one[DRAWS];
    double log_det[DRAWS];
} draws;

static draws *repeat_point(size_t dim)
{
    draws *d = calloc(1, sizeof *d);
    nf_real *point = normals(5, dim, 0.9), *ctx = normals(6, CTX, 0.7);
    for (size_t i = 0; i < DRAWS; i++) {
        memcpy(d->x + i * dim, point, dim * sizeof *point);
        memcpy(d->ctx + i * CTX, ctx, CTX * sizeof *ctx);
        d->one[i] = 1;
    }
    free(point), free(ctx);
    return d;
}

typedef struct moments {
    double mean, error; /* of the mean */
} moments;

static moments moments_of(size_t n, size_t stride, const double *v)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        sum += v[i * stride] / (double)n;
    for (size_t i = 0; i < n; i++)
        square += pow(v[i * stride] - sum, 2);
    return (moments){sum, sqrt(square / (double)n / (double)(n - 1))};
}

static void agrees(moments m, double wanted, double bias, const char *what)
{
    cr_assert_gt(m.error, 0, "%s: no spread", what);
    cr_assert_float_eq(m.mean, wanted, 4 * m.error + bias, "%s: %.8g +- %.2g, wanted %.8g within %g", what, m.mean,
                       m.error, wanted, bias);
}

/* log det(I + J), and sum_{k <= n} (-1)^(k+1) / k tr J^k, of the exact flow at x. */
static double dense_sum(const nf_model *exact, size_t dim, const draws *d, size_t n)
{
    double J[16 * 16], power[16 * 16] = {0}, next[16 * 16], sum = 0;
    for (size_t i = 0; i < dim; i++) {
        nf_real e[16] = {0}, row[16];
        e[i] = 1;
        cr_assert_eq(nf_transform_vjp(exact, NULL, NULL, NF_FORWARD, 1, d->x, d->ctx, e, NULL, row, NULL, NULL), NF_OK);
        for (size_t j = 0; j < dim; j++)
            J[i * dim + j] = (double)row[j] - (i == j);
        power[i * dim + i] = 1;
    }
    for (size_t k = 1; k <= n; k++) {
        double trace = 0;
        for (size_t i = 0; i < dim * dim; i++) {
            next[i] = 0;
            for (size_t l = 0; l < dim; l++)
                next[i] += power[i / dim * dim + l] * J[l * dim + i % dim];
        }
        memcpy(power, next, sizeof power);
        for (size_t i = 0; i < dim; i++)
            trace += power[i * dim + i];
        sum += (k % 2 ? 1 : -1) * trace / (double)k;
    }
    return sum;
}

static const nf_noise noise = {.seed = 917};

/* Means of log-dets and gradients of `options` against the exact flow's, which may differ by the biases. */
static void check_estimates(size_t dim, const nf_residual_flow_options *options, double bias, double slope_bias)
{
    nf_model *m = model_of(dim, options);
    nf_model *exact = model_of(dim, &(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT});
    const size_t n_params = nf_model_shape(m)->n_params;
    draws *d = repeat_point(dim);
    nf_real *g = reals(n_params), *wanted = reals(n_params), gx[16], g_ctx[CTX];
    double log_det, *sums = calloc(GROUPS * n_params, sizeof *sums), *column = calloc(DRAWS, sizeof *column);
    cr_assert(nf_model_shape(m)->flags & NF_STOCHASTIC);
    push(exact, NF_FORWARD, 1, d->x, d->ctx, d->y, &log_det);
    cr_assert_eq(nf_transform_vjp(exact, NULL, NULL, NF_FORWARD, 1, d->x, d->ctx, NULL, d->one, gx, g_ctx, wanted),
                 NF_OK);
    cr_assert_eq(nf_transform(m, NULL, &noise, NF_FORWARD, DRAWS, d->x, d->ctx, d->y, d->log_det), NF_OK);
    agrees(moments_of(DRAWS, 1, d->log_det), log_det, bias, "log-det");
    for (size_t k = 0; k < GROUPS; k++) {
        const size_t first = k * (DRAWS / GROUPS);
        memset(g, 0, n_params * sizeof *g);
        const nf_noise group = {.seed = noise.seed, .first_sample = first};
        cr_assert_eq(nf_transform_vjp(m, NULL, &group, NF_FORWARD, DRAWS / GROUPS, d->x, d->ctx, NULL, d->one,
                                      d->gx + first * dim, NULL, g),
                     NF_OK);
        for (size_t i = 0; i < n_params; i++)
            sums[k * n_params + i] = (double)g[i] / (DRAWS / GROUPS);
    }
    for (size_t j = 0; j < dim; j++) {
        for (size_t i = 0; i < DRAWS; i++)
            column[i] = (double)d->gx[i * dim + j];
        agrees(moments_of(DRAWS, 1, column), (double)gx[j], slope_bias, "gradient in x");
    }
    for (size_t i = 0; i < n_params; i++) { /* of hundreds of numbers; 5.5 errors are one in 26 million */
        const moments of = moments_of(GROUPS, n_params, sums + i);
        cr_assert_float_eq(of.mean, (double)wanted[i], 5.5 * of.error + slope_bias + 30 * rounding,
                           "gradient in parameter %zu: %g +- %g, wanted %g", i, of.mean, of.error, (double)wanted[i]);
    }
    for (uint64_t k = 0; k < 5; k++) { /* and along random directions */
        nf_real *e = normals(k, n_params, 1 / sqrt((double)n_params));
        for (size_t j = 0; j < GROUPS; j++) {
            column[j] = 0;
            for (size_t i = 0; i < n_params; i++)
                column[j] += sums[j * n_params + i] * (double)e[i];
        }
        agrees(moments_of(GROUPS, 1, column), dot(n_params, wanted, e), slope_bias, "gradient in parameters");
        free(e);
    }
    free(d), free(g), free(wanted), free(sums), free(column);
    nf_model_free(m), nf_model_free(exact);
}

Test(contraction, roulette_is_unbiased)
{
    check_estimates(DIM, &(nf_residual_flow_options){.log_det = NF_LOG_DET_ROULETTE, .terms = 2}, 0, 0);
    check_estimates(DIM, &(nf_residual_flow_options){.log_det = NF_LOG_DET_ROULETTE, .terms = 1, .survival = 0.7}, 0,
                    0);
    check_estimates(10, &(nf_residual_flow_options){.log_det = NF_LOG_DET_ROULETTE, .probes = 3}, 0, 0);
}

/* The bound of residual.h with Lip(g) <= L: |sum_{k > n} (-1)^(k+1) / k tr J^k| <= dim L^(n+1) / ((n + 1)(1 - L)), and
   of the gradient, whose terms lack 1 / k, tr(J^k dJ), with a generous |dJ|. */
Test(contraction, series_is_within_its_own_bias)
{
    const double L = pow(0.9, 3);
    check_estimates(DIM, &(nf_residual_flow_options){.log_det = NF_LOG_DET_SERIES, .terms = 30},
                    DIM * pow(L, 31) / 31 / (1 - L), DIM * pow(L, 30) / (1 - L));
}

/* Few terms: the mean is the truncated sum, which is not the log-det. */
Test(contraction, few_terms_have_the_mean_of_the_truncated_sum)
{
    nf_model *exact = model_of(DIM, &(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT});
    draws *d = repeat_point(DIM);
    const double whole = dense_sum(exact, DIM, d, 200), L = pow(0.9, 3);
    double log_det, spread[2];
    push(exact, NF_FORWARD, 1, d->x, d->ctx, d->y, &log_det);
    cr_assert_float_eq(whole, log_det, 1000 * rounding);
    for (size_t n = 1; n < 3; n++)
        for (size_t k = 0; k < 2; k++) {
            nf_model *m = model_of(
                DIM, &(nf_residual_flow_options){.log_det = NF_LOG_DET_SERIES, .terms = n, .probes = k ? 16 : 1});
            const double sum = dense_sum(exact, DIM, d, n);
            cr_assert_eq(nf_transform(m, NULL, &noise, NF_FORWARD, DRAWS, d->x, d->ctx, d->y, d->log_det), NF_OK);
            const moments of = moments_of(DRAWS, 1, d->log_det);
            agrees(of, sum, 0, "truncated sum");
            cr_assert_leq(fabs(sum - whole), DIM * pow(L, (double)n + 1) / (double)(n + 1) / (1 - L));
            cr_assert_gt(fabs(sum - whole), 5 * of.error, "%zu terms: %g should differ from %g", n, sum, whole);
            spread[k] = of.error;
            nf_model_free(m);
            if (k)
                cr_assert_float_eq(spread[0] / spread[1], 4, 0.4, "16 probes have 1/4 of the spread, not 1/%g",
                                   spread[0] / spread[1]);
        }
    free(d);
    nf_model_free(exact);
}

/* A row's estimate has its name, whatever is around it; both directions draw the same; without noise there is none. */
Test(contraction, estimates_follow_their_names)
{
    enum { N = 300, FIRST = 123 };
    nf_model *m = model_of(10, &(nf_residual_flow_options){.log_det = NF_LOG_DET_ROULETTE});
    nf_real *x = normals(1, N * 10, 1), *ctx = normals(2, N * CTX, 1), *y = reals(N * 10), *back = reals(N * 10);
    double *l = calloc(N, sizeof *l), *k = calloc(N, sizeof *k), one;
    cr_assert_eq(nf_transform(m, NULL, &noise, NF_FORWARD, N, x, ctx, y, l), NF_OK);
    cr_assert_eq(nf_transform(m, NULL, &noise, NF_INVERSE, N, y, ctx, back, k), NF_OK);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(l[i], -k[i], by_precision(1e-3, 1e-7), "%g and %g", l[i], k[i]);
    for (size_t i = 0; i < N * 10; i++)
        cr_assert_float_eq(back[i], x[i], by_precision(1e-4, 1e-8) * (1 + fabs((double)x[i])));
    const nf_noise moved = {.seed = noise.seed, .first_sample = FIRST};
    cr_assert_eq(nf_transform(m, NULL, &moved, NF_FORWARD, 1, x + FIRST * 10, ctx + FIRST * CTX, y, &one), NF_OK);
    /* bit for bit, but for sanitizers (see same_numbers) */
    cr_assert_float_eq(one, l[FIRST], NFLOW_THIN == 1 ? by_precision(1e-3, 1e-9) : 0);
    expect(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, ctx, y, &one), NF_EARG, "noise");
    free(x), free(ctx), free(y), free(back), free(l), free(k);
    nf_model_free(m);
}

/* Rows of a batch end their series and iterations at different times. Each has the numbers that it has alone. */
Test(contraction, rows_do_not_depend_on_their_neighbours)
{
    enum { N = 512, DIMS = 4, STEP = 5 }; /* tiles of 64, which are narrowed more than once */
    for (nf_log_det log_det = NF_LOG_DET_EXACT; log_det <= NF_LOG_DET_ROULETTE; log_det++)
        for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
            nf_model *m = model_of(
                DIMS, &(nf_residual_flow_options){.log_det = log_det, .terms = 2, .survival = 0.7, .probes = 2});
            const size_t n_params = nf_model_shape(m)->n_params;
            nf_real *x = normals(1, N * DIMS, 1), *ctx = normals(2, N * CTX, 1), *gy = normals(3, N * DIMS, 1);
            nf_real *y = reals(N * DIMS), *gx = reals(N * DIMS), *g = reals(n_params), *one = reals(N);
            double *l = calloc(N, sizeof *l), l_alone;
            nf_real y_alone[DIMS], gx_alone[DIMS];
            for (size_t i = 0; i < N; i++) {
                one[i] = 1;
                for (size_t j = 0; j < DIMS; j++) /* some start near where they end, some come from far */
                    x[i * DIMS + j] *= (nf_real)pow(10, (double)(i % 7) - 4);
            }
            cr_assert_eq(nf_transform(m, NULL, &noise, d, N, x, ctx, y, l), NF_OK);
            cr_assert_eq(nf_transform_vjp(m, NULL, &noise, d, N, x, ctx, gy, one, gx, NULL, g), NF_OK);
            for (size_t i = 0; i < N; i += STEP) {
                const nf_noise moved = {.seed = noise.seed, .first_sample = i};
                const nf_real *at = x + i * DIMS, *c = ctx + i * CTX;
                cr_assert_eq(nf_transform(m, NULL, &moved, d, 1, at, c, y_alone, &l_alone), NF_OK);
                cr_assert_eq(nf_transform_vjp(m, NULL, &moved, d, 1, at, c, gy + i * DIMS, one, gx_alone, NULL, g),
                             NF_OK);
                same_numbers(DIMS, y_alone, y + i * DIMS, "y");
                same_numbers(DIMS, gx_alone, gx + i * DIMS, "gradient");
                cr_assert_float_eq(l_alone, l[i], NFLOW_THIN == 1 ? by_precision(1e-3, 1e-9) : 0);
            }
            free(x), free(ctx), free(gy), free(y), free(gx), free(g), free(one), free(l);
            nf_model_free(m);
        }
}

/* ---- training and scores ---- */

static nf_model *density_model(size_t dim, const nf_residual_flow_options *options)
{
    nf_flow *f = nf_invert(nf_residual_flow(bounded(dim, 0, NF_LIPSWISH, 0.9), options));
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(dim), f), &(nf_model_options){.seed = 4});
    cr_assert_not_null(m, "%s", nf_error_message());
    stretch(m, dim, 0);
    return m;
}

enum { ROWS = 40, WIDE = 10 };

/* The mean log-density of rows as scores have it and as a step of training does. Without noise if it is `known`. */
static void two_means(const nf_residual_flow_options *options, bool known, double *score, double *training)
{
    nf_model *m = density_model(WIDE, options);
    nf_real *x = normals(8, ROWS * WIDE, 1), *g = reals(nf_model_shape(m)->n_params);
    double log_p[ROWS];
    cr_assert_eq(!(nf_model_shape(m)->flags & NF_STOCHASTIC), known);
    cr_assert_eq(nf_log_prob(m, NULL, known ? NULL : &noise, ROWS, x, NULL, log_p), NF_OK);
    *score = 0;
    for (size_t i = 0; i < ROWS; i++)
        *score += log_p[i] / ROWS;
    nf_data data = {.n = ROWS, .dim = WIDE, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = ROWS});
    nf_step_report report;
    cr_assert_eq(nf_objective_gradient(o, NULL, 1, 1, &report, g), NF_OK, "%s", nf_error_message());
    *training = -report.loss;
    nf_objective_free(o);
    nf_model_free(m);
    free(x), free(g);
}

/* Training has the estimator; scores are exact and need no noise, or have what the options say. */
Test(contraction, scores_have_a_method_of_their_own)
{
    double exact[2], by_default[2], other[2], same[2], terms[2];
    const double rest = by_precision(1e-3, 1e-3); /* training has a looser sigma */
    two_means(&(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT}, true, &exact[0], &exact[1]);
    cr_assert_float_eq(exact[0], exact[1], rest);
    two_means(&(nf_residual_flow_options){.log_det = NF_LOG_DET_SERIES, .terms = 1}, true, &by_default[0],
              &by_default[1]);
    cr_assert_eq(by_default[0], exact[0]);
    cr_assert_gt(fabs(by_default[1] - exact[1]), 10 * rest, "training is as exact as scores: %g", by_default[1]);
    two_means(
        &(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT, .score_log_det = NF_LOG_DET_SERIES, .score_terms = 1},
        false, &other[0], &other[1]);
    cr_assert_eq(other[1], exact[1]);
    cr_assert_gt(fabs(other[0] - exact[0]), 10 * rest, "scores are as exact as training: %g", other[0]);
    two_means(&(nf_residual_flow_options){.log_det = NF_LOG_DET_SERIES,
                                          .terms = 1,
                                          .score_log_det = NF_LOG_DET_SERIES,
                                          .score_terms = 30,
                                          .probes = 400},
              false, &terms[0], &terms[1]);
    two_means(&(nf_residual_flow_options){.log_det = NF_LOG_DET_SERIES,
                                          .terms = 30,
                                          .score_log_det = NF_LOG_DET_SERIES,
                                          .score_terms = 30,
                                          .probes = 400},
              false, &same[0], &same[1]);
    cr_assert_eq(terms[0], same[0]);
    cr_assert_float_eq(same[0], exact[0], 10 * rest);
    cr_assert_gt(fabs(terms[1] - same[1]), 10 * rest);
}

/* By default scores are exact with up to NF_LOG_DET_MOST features; descriptions say what was asked for. */
Test(contraction, scores_are_exact_up_to_the_documented_size)
{
    for (size_t dim = NF_LOG_DET_MOST; dim <= NF_LOG_DET_MOST + 1; dim++) {
        nf_flow *f = nf_residual_flow(bounded(dim, 0, NF_TANH, 0.9), NULL);
        cr_assert_eq(!(nf_flow_shape(f)->flags & NF_STOCHASTIC), dim == NF_LOG_DET_MOST);
        char *text = nf_describe(nf_flow_object(f));
        cr_assert_null(strstr(text, "score_"), "%s", text);
        nf_text_free(text);
        nf_flow_free(f);
    }
    nf_flow *f = nf_residual_flow(
        bounded(3, 0, NF_TANH, 0.9),
        &(nf_residual_flow_options){.score_log_det = NF_LOG_DET_ROULETTE, .score_terms = 31, .terms = 5});
    char *text = nf_describe(nf_flow_object(f));
    nf_object *again = nf_rebuild(text, NULL);
    cr_assert_not_null(again, "%s", nf_error_message());
    char *other = nf_describe(again);
    cr_assert_not_null(strstr(text, "\"score_terms\""), "%s", text);
    cr_assert_str_eq(text, other);
    cr_assert(nf_object_shape(again)->flags & NF_STOCHASTIC);
    nf_text_free(text), nf_text_free(other);
    nf_object_free(again);
    nf_flow_free(f);
}

/* Where no log-det is asked for, the gradients of the iterated direction do not depend on how log-dets are computed. */
Test(contraction, iterated_gradients_are_the_exact_ones)
{
    enum { N = 50 };
    nf_model *m = model_of(DIM, &(nf_residual_flow_options){.log_det = NF_LOG_DET_SERIES, .tolerance = rounding * 100});
    nf_model *exact = model_of(DIM, &(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT});
    const size_t n_params = nf_model_shape(m)->n_params;
    nf_real *y = normals(1, N * DIM, 1), *ctx = normals(2, N * CTX, 1), *gy = normals(3, N * DIM, 1);
    nf_real *gx[2] = {reals(N * DIM), reals(N * DIM)}, *g[2] = {reals(n_params), reals(n_params)};
    for (int k = 0; k < 2; k++)
        cr_assert_eq(nf_transform_vjp(k ? exact : m, NULL, &noise, NF_INVERSE, N, y, ctx, gy, NULL, gx[k], NULL, g[k]),
                     NF_OK);
    for (size_t i = 0; i < N * DIM; i++)
        cr_assert_float_eq(gx[0][i], gx[1][i], 3000 * rounding);
    for (size_t i = 0; i < n_params; i++)
        cr_assert_float_eq(g[0][i], g[1][i], 30000 * rounding * (1 + fabs((double)g[1][i])));
    for (int k = 0; k < 2; k++)
        free(gx[k]), free(g[k]);
    free(y), free(ctx), free(gy);
    nf_model_free(m), nf_model_free(exact);
}

/* Steep units far from where the iteration starts: Newton's first steps go astray, and are taken back. */
Test(contraction, inverses_come_from_far)
{
    enum { N = 2000 };
    const size_t one = 1;
    for (nf_log_det log_det = NF_LOG_DET_EXACT; log_det <= NF_LOG_DET_SERIES; log_det++) {
        nf_real theta[] = {NF_R(50), 0, NF_R(-0.0199), 0}, y[N], x[N]; /* g(x) = -0.0199 tanh(50 x) */
        nf_net *net = nf_mlp(1, 1, 0, &(nf_mlp_options){.hidden = &one, .n_hidden = 1, .activation = NF_TANH});
        nf_flow *f = nf_residual_flow(net, &(nf_residual_flow_options){.log_det = log_det, .max_steps = 20000});
        nf_model *m = nf_model_of_flow(f, &(nf_model_options){.theta = theta});
        nf_workspace *ws = nf_workspace_new(2);
        for (size_t i = 0; i < N; i++)
            y[i] = (nf_real)(0.2 * ((double)i + 0.5) / N - 0.1);
        cr_assert_eq(nf_transform(m, ws, &noise, NF_INVERSE, N, y, NULL, x, NULL), NF_OK);
        cr_assert_eq(nf_workspace_failed(ws), 0, "%zu rows failed", nf_workspace_failed(ws));
        for (size_t i = 0; i < N; i++)
            cr_assert_float_eq((double)x[i] - 0.0199 * tanh(50 * (double)x[i]), (double)y[i],
                               by_precision(1.2e-5, 1.2e-10));
        nf_workspace_free(ws);
        nf_model_free(m);
    }
}

/* x + g(x) = x - a tanh(2 (x - 1)) - a tanh(2 (x + 1)) + 1 with a slope of g of at most 2/3, chosen such that Newton's
   iteration for the preimage 0 of y = 1 goes from 1 to -1 and back for ever. */
Test(contraction, inverses_leave_newtons_cycles)
{
    enum { N = 3 };
    const size_t two = 2;
    const nf_real a = NF_R(0.33266);
    nf_real theta[] = {2, 2, -2, 2, -a, -a, 1}, x[N];
    static const nf_real y[N] = {1, NF_R(1.0003), NF_R(0.9996)};
    nf_net *net = nf_mlp(1, 1, 0, &(nf_mlp_options){.hidden = &two, .n_hidden = 1, .activation = NF_TANH});
    nf_model *m = nf_model_of_flow(nf_residual_flow(net, NULL), &(nf_model_options){.theta = theta});
    push(m, NF_INVERSE, N, y, NULL, x, NULL);
    for (size_t i = 0; i < N; i++) {
        const double at = (double)x[i];
        cr_assert_float_eq(at - (double)a * (tanh(2 * at - 2) + tanh(2 * at + 2)) + 1, (double)y[i], 20 * rounding);
    }
    nf_model_free(m);
}

/* ---- after training ---- */

enum { POINTS = 400 };

/* Two arcs. */
static void two_moons(nf_real *x)
{
    nf_real *u = normals(3, 2 * POINTS, 0.1);
    for (size_t i = 0; i < POINTS; i++) {
        const double a = 3.14159 * (double)i / POINTS, side = i % 2 ? 1 : -1;
        x[2 * i] = (nf_real)(cos(a) * side + 0.5 * side) + u[2 * i];
        x[2 * i + 1] = (nf_real)(sin(a) * side) + u[2 * i + 1];
    }
    free(u);
}

/* The density on a grid, times the area of its cells. */
static void integrates_to_one(const nf_model *m)
{
    enum { SIDE = 401 };
    const double step = 16.0 / (SIDE - 1);
    nf_real *at = reals(2 * SIDE * SIDE);
    double *log_p = calloc(SIDE * SIDE, sizeof *log_p), sum = 0;
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        at[2 * i] = (nf_real)((double)(i / SIDE) * step - 8);
        at[2 * i + 1] = (nf_real)((double)(i % SIDE) * step - 8);
    }
    cr_assert_eq(nf_log_prob(m, NULL, NULL, SIDE * SIDE, at, NULL, log_p), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < SIDE * SIDE; i++)
        sum += exp(log_p[i]) * step * step;
    cr_assert_float_eq(sum, 1, 1e-3, "the density integrates to %g", sum);
    free(at), free(log_p);
}

static void check_trained(nf_model *m, const nf_real *x)
{
    nf_real *z = reals(2 * POINTS), *back = reals(2 * POINTS);
    double worst = 0;
    check_layers(m, 9, is_sharp);
    cr_assert_eq(nf_transform(m, NULL, &noise, NF_INVERSE, POINTS, x, NULL, z, NULL), NF_OK);
    cr_assert_eq(nf_transform(m, NULL, &noise, NF_FORWARD, POINTS, z, NULL, back, NULL), NF_OK);
    for (size_t i = 0; i < 2 * POINTS; i++)
        worst = fmax(worst, fabs((double)back[i] - (double)x[i]));
    cr_assert_lt(worst, by_precision(1e-3, 1e-6), "inverse error %g", worst);
    free(z), free(back);
    if (!NFLOW_THIN)
        integrates_to_one(m);
}

static void train(nf_log_det log_det)
{
    char path[200];
    nf_real *x = reals(2 * POINTS);
    nf_flow *f[3];
    two_moons(x);
    for (size_t k = 0; k < 3; k++)
        f[k] = nf_invert(nf_residual_flow(bounded(2, 0, NF_LIPSWISH, 0.97),
                                          &(nf_residual_flow_options){.log_det = log_det, .terms = 3}));
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), nf_chain(f, 3)), NULL);
    nf_data data = {.n = POINTS, .dim = 2, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 100});
    nf_fit_report report;
    double log_p[POINTS], before = 0, after = 0;
    cr_assert(m && o, "%s", nf_error_message());
    cr_assert_eq(nf_log_prob(m, NULL, &noise, POINTS, x, NULL, log_p), NF_OK);
    for (size_t i = 0; i < POINTS; i++)
        before += log_p[i] / POINTS;
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = NFLOW_THIN ? 30 : 300, .rate = 0.01, .threads = 2}, &report),
                 NF_OK, "%s", nf_error_message());
    cr_assert_eq(report.failed, 0);
    cr_assert_eq(nf_log_prob(m, NULL, &noise, POINTS, x, NULL, log_p), NF_OK);
    for (size_t i = 0; i < POINTS; i++)
        after += log_p[i] / POINTS;
    cr_assert_gt(after, before + (NFLOW_THIN ? 0.05 : 0.3), "from %g to %g", before, after);
    check_trained(m, x);
    snprintf(path, sizeof path, "%s/model.safetensors", temp_folder());
    cr_assert_eq(nf_save(m, path), NF_OK, "%s", nf_error_message());
    nf_model *loaded = nf_load(path, NULL);
    cr_assert_not_null(loaded, "%s", nf_error_message());
    check_trained(loaded, x);
    temp_teardown();
    nf_objective_free(o);
    nf_model_free(m), nf_model_free(loaded);
    free(x);
}

Test(contraction, holds_its_bound_and_its_inverse_after_training_and_loading)
{
    train(NF_LOG_DET_EXACT);
    train(NF_LOG_DET_ROULETTE);
}

/* ---- what fails ---- */

/* g(x) = -2 tanh(x) folds the line where |tanh' x| > 1/2: those rows are NaN, the others are not touched. */
Test(contraction, rows_fail_alone_where_the_net_is_no_contraction)
{
    enum { N = 5 };
    const size_t one = 1;
    static const nf_real at[N] = {3, NF_R(0.1), -2, NF_R(-0.3), NF_R(1.7)};
    nf_real theta[] = {1, 0, -2, 0}, y[N];
    double l[N];
    nf_net *net = nf_mlp(1, 1, 0, &(nf_mlp_options){.hidden = &one, .n_hidden = 1, .activation = NF_TANH});
    nf_model *m = nf_model_of_flow(nf_residual_flow(net, NULL), &(nf_model_options){.theta = theta});
    nf_workspace *ws = nf_workspace_new(1);
    cr_assert_eq(nf_transform(m, ws, NULL, NF_FORWARD, N, at, NULL, y, l), NF_OK);
    cr_assert_eq(nf_workspace_failed(ws), 2);
    for (size_t i = 0; i < N; i++) {
        const double h = tanh((double)at[i]), slope = 1 - 2 * (1 - h * h);
        if (slope < 0) {
            cr_assert(isnan((double)y[i]) && isnan(l[i]));
        } else {
            cr_assert_float_eq(y[i], (double)at[i] - 2 * h, 20 * rounding);
            cr_assert_float_eq(l[i], log(slope), 100 * rounding);
        }
    }
    nf_workspace_free(ws);
    nf_model_free(m);
}

/* One step is enough where g is constant and not elsewhere. */
Test(contraction, rows_fail_alone_that_do_not_converge)
{
    enum { N = 4 };
    const size_t one = 1;
    for (nf_log_det log_det = NF_LOG_DET_EXACT; log_det <= NF_LOG_DET_ROULETTE; log_det++) {
        nf_real theta[] = {NF_R(0.9), 0, NF_R(0.9), 0}, x[N], x_of_few[N];
        static const nf_real y[N] = {-400, NF_R(0.7), 900, NF_R(-1.2)};
        double l[N];
        for (int few = 0; few < 2; few++) {
            nf_net *net = nf_mlp(1, 1, 0, &(nf_mlp_options){.hidden = &one, .n_hidden = 1, .activation = NF_TANH});
            nf_flow *f =
                nf_residual_flow(net, &(nf_residual_flow_options){.log_det = log_det, .max_steps = few ? 3 : 0});
            nf_model *m = nf_model_of_flow(f, &(nf_model_options){.theta = theta});
            nf_workspace *ws = nf_workspace_new(1);
            cr_assert_eq(nf_transform(m, ws, &noise, NF_INVERSE, N, y, NULL, few ? x_of_few : x, l), NF_OK);
            cr_assert_eq(nf_workspace_failed(ws), few ? 2 : 0, "%zu rows failed", nf_workspace_failed(ws));
            for (size_t i = 0; i < N; i++)
                if (few)
                    cr_assert(i % 2 ? isnan((double)x_of_few[i]) && isnan(l[i]) : x_of_few[i] == x[i]);
                else
                    cr_assert_float_eq((double)x[i] + 0.9 * tanh(0.9 * (double)x[i]), (double)y[i],
                                       by_precision(2e-5, 2e-10) * (1 + fabs((double)y[i])));
            nf_workspace_free(ws);
            nf_model_free(m);
        }
    }
}

static void refuse_net(nf_net *mlp, const nf_lipschitz_options *options, const char *words)
{
    cr_assert_null(nf_lipschitz(mlp, options));
    expect(nf_error_status(), NF_EARG, words);
}

static void refuse_flow(nf_net *net, const nf_residual_flow_options *options, nf_status status, const char *words)
{
    cr_assert_null(nf_residual_flow(net, options));
    expect(nf_error_status(), status, words);
}

Test(contraction, refuses_what_is_no_contraction)
{
    nf_mlp_options q = {.hidden = widths, .n_hidden = 2, .activation = NF_SWISH};
    refuse_net(nf_mlp(3, 3, 0, &q), NULL, "NF_SWISH");
    q = (nf_mlp_options){.hidden = widths, .n_hidden = 2, .dropout = 0.1};
    refuse_net(nf_mlp(3, 3, 0, &q), NULL, "dropout");
    refuse_net(nf_residual_mlp(3, 3, 0, NULL), NULL, "residual_mlp");
    refuse_net(bounded(3, 0, NF_ELU, 0.5), NULL, "lipschitz");
    refuse_net(nf_mlp(3, 3, 0, NULL), &(nf_lipschitz_options){.bound = 1}, "bound");
    refuse_net(nf_mlp(3, 3, 0, NULL), &(nf_lipschitz_options){.bound = NF_ZERO}, "bound");
    refuse_net(nf_mlp(3, 0, 0, NULL), NULL, "nf_mlp");
    refuse_flow(nf_lipschitz(nf_mlp(3, 2, 0, NULL), NULL), NULL, NF_EDIM, "3 features in and 2 out");
    refuse_flow(nf_lipschitz(nf_mlp(0, 0, 0, NULL), NULL), NULL, NF_EARG, "nf_mlp");
    refuse_flow(nf_mlp(65, 65, 0, NULL), &(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT}, NF_EARG,
                "more than 64");
    refuse_flow(nf_mlp(65, 65, 0, NULL), &(nf_residual_flow_options){.score_log_det = NF_LOG_DET_EXACT}, NF_EARG,
                "`score_log_det`");
    refuse_flow(nf_mlp(3, 3, 0, NULL), &(nf_residual_flow_options){.score_terms = NF_NONE}, NF_EARG, "score_terms");
    refuse_flow(nf_mlp(3, 3, 0, NULL), &(nf_residual_flow_options){.survival = 1}, NF_EARG, "survival");
    refuse_flow(nf_mlp(3, 3, 0, NULL), &(nf_residual_flow_options){.tolerance = NF_ZERO}, NF_EARG, "tolerance");
    refuse_flow(nf_mlp(3, 3, 0, NULL), &(nf_residual_flow_options){.probes = NF_NONE}, NF_EARG, "probes");
    refuse_flow(nf_mlp(3, 3, 0, NULL), &(nf_residual_flow_options){.log_det = (nf_log_det)9}, NF_EARG, "log_det");
    cr_assert_null(nf_lipschitz(NULL, NULL));
    cr_assert_null(nf_residual_flow(NULL, NULL));
}

/* Every way to make, run and differentiate the flow, with one piece of memory after the other missing. */
static nf_status everything(int kind)
{
    enum { N = 5 };
    static const nf_real x[N * DIM], ctx[N * CTX], g[N * DIM];
    nf_real y[N * DIM], gx[N * DIM], g_theta[1000] = {0};
    double l[N];
    nf_model *m = nf_model_of_flow(flow_of(DIM, &(nf_residual_flow_options){.log_det = (nf_log_det)kind}), NULL);
    nf_workspace *ws = m ? nf_workspace_new(1) : NULL;
    nf_status status = m && ws ? NF_OK : nf_error_status();
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE && status == NF_OK; d++) {
        status = nf_transform(m, ws, &noise, d, N, x, ctx, y, l);
        if (status == NF_OK)
            status = nf_transform_vjp(m, ws, &noise, d, N, x, ctx, g, g, gx, NULL, g_theta);
    }
    nf_workspace_free(ws);
    nf_model_free(m);
    return status;
}

Test(contraction, nothing_leaks_where_memory_runs_out)
{
    for (int kind = NF_LOG_DET_EXACT; kind <= NF_LOG_DET_ROULETTE; kind++)
        for (int arenas = 0; arenas < 2; arenas++)
            for (size_t k = 0;; k++) {
                const size_t before = alloc_live();
                (arenas ? fail_arena_once : fail_alloc_once)(k);
                const nf_status status = everything(kind);
                const bool failed = fail_alloc_off();
                cr_assert_eq(alloc_live(), before, "%zu blocks are left", alloc_live() - before);
                if (!failed) {
                    cr_assert_eq(status, NF_OK, "%s", nf_error_message());
                    cr_assert_gt(k, 10);
                    break;
                }
                cr_assert_eq(status, NF_ENOMEM, "piece %zu: %s", k, nf_error_message());
            }
}
