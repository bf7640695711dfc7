/* Every distribution of tests/conformance/dist_rows.h, in several dimensions and both precisions: densities integrate
   to 1, samples have GSL's distribution functions and independent dimensions, scores of samples are their log q, all
   gradients against differences, bits against threads, files, extremes. */
#include "support/numbers.h"
#include "conformance/dist_rows.h"
#include "model/batch.h"
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <gsl/gsl_sort.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, tiny = 1e-30;
enum { is_double = false };
#else
static const double rounding = 2.3e-16, tiny = 1e-250;
enum { is_double = true };
#endif
enum { MOST_DIM = 5, N = 27, LD = 32 };

typedef struct subject {
    const dist_row *row;
    size_t dim, n_ctx, n_params;
    nf_model *m;
    nf_real *theta;
    nf_real ctx[LD * 32]; /* [n_ctx x LD], feature-major */
    nfi_thread memory;
    nf_pass p;
} subject;

/* A tile of normals; padding repeats column N - 1, or is 0. */
static nf_real *tile_of(uint64_t seed, size_t rows, double scale, bool cotangent)
{
    nf_real *v = normals(seed, rows * LD, scale);
    cotangent ? nfi_pad_zero(rows, N, LD, v) : nfi_pad(rows, N, LD, v);
    return v;
}

static void start(subject *s, const dist_row *row, size_t dim)
{
    memset(s, 0, sizeof *s);
    s->row = row;
    s->dim = dim;
    nf_dist *dist = row->build(dim);
    cr_assert_not_null(dist, "%s: %s", row->name, nf_error_message());
    s->m = nf_model_of_dist(dist, &(nf_model_options){.seed = 11 + dim});
    cr_assert_not_null(s->m, "%s: %s", row->name, nf_error_message());
    s->n_ctx = nf_model_shape(s->m)->n_ctx;
    s->n_params = nf_model_shape(s->m)->n_params;
    s->theta = nf_model_theta(s->m);
    cr_assert(s->n_ctx < 32);
    nf_real *shift = normals(19 + dim, s->n_params, row->theta_scale);
    for (size_t i = 0; i < s->n_params; i++)
        s->theta[i] += shift[i];
    free(shift);
    cr_assert_eq(nf_model_update(s->m, NF_EVAL), NF_OK);
    nf_real *ctx = tile_of(23, s->n_ctx, 0.5, false);
    memcpy(s->ctx, ctx, s->n_ctx * LD * sizeof *ctx);
    free(ctx);
    s->p = nfi_model_pass(s->m, &s->memory, &(nf_noise){.seed = 71, .step = 3}, 40, N, LD, NF_TRAIN, true);
    s->p.ctx = s->n_ctx ? s->ctx : NULL;
}

static void stop(subject *s)
{
    nfi_arena_clear(&s->memory.tape);
    nfi_arena_clear(&s->memory.scratch);
    nf_model_free(s->m);
}

/* A test with one case a row: `body` sees the row in 1, 2 and 5 dimensions. */
#define EACH_ROW(property)                                      \
    ParameterizedTestParameters(dists, property)                \
    {                                                           \
        static size_t index[N_DIST_ROWS];                       \
        for (size_t i = 0; i < N_DIST_ROWS; i++)                \
            index[i] = i;                                       \
        return cr_make_param_array(size_t, index, N_DIST_ROWS); \
    }                                                           \
    ParameterizedTest(size_t *index, dists, property)           \
    {                                                           \
        static const size_t dims[] = {1, 2, MOST_DIM};          \
        for (size_t k = 0; k < 3; k++) {                        \
            subject s;                                          \
            start(&s, &dist_rows[*index], dims[k]);             \
            property(&s);                                       \
            stop(&s);                                           \
        }                                                       \
    }

/* ---- gradients ---- */

/* What is differentiated: <gx, x> + <g_log, log q> + <g_log_weight, log weight> of samples; <g_log, score> at x. */
typedef struct loss {
    subject *s;
    bool of_samples;
    nf_real *x, *gx, *g_log, *g_log_weight;
} loss;

static double loss_at(loss *L)
{
    subject *s = L->s;
    double log_q[LD] = {0}, log_weight[LD] = {0}, sum = 0;
    void *saved = NULL;
    s->p.log_weight = log_weight;
    nf_mark tape = nf_arena_mark(&s->memory.tape);
    cr_assert_eq(nf_model_update(s->m, NF_EVAL), NF_OK);
    cr_assert_eq(L->of_samples ? nf_dist_sample(nf_model_object(s->m), &s->p, L->x, log_q, &saved)
                               : nf_dist_score(nf_model_object(s->m), &s->p, L->x, log_q, &saved),
                 NF_OK, "%s", nf_error_message());
    nf_arena_rewind(&s->memory.tape, tape);
    for (size_t i = 0; i < N; i++)
        sum += (double)L->g_log[i] * log_q[i] + (L->of_samples ? (double)L->g_log_weight[i] * log_weight[i] : 0);
    return sum + (L->of_samples ? dot(s->dim * LD, L->gx, L->x) : 0);
}

/* Every number of v by central differences of two steps, extrapolated; what they disagree by bounds the error. */
static void check_gradient(loss *L, const char *what, size_t size, nf_real *v, const nf_real *gradient)
{
    const double h = is_double ? 1e-3 : 3e-2, scale = 1 + fabs(loss_at(L)) + 10 * sqrt(LD * (double)L->s->dim);
    for (size_t i = 0; i < size; i++) {
        nf_real was = v[i];
        double difference[2];
        for (int k = 0; k < 2; k++) {
            double value[2], at[2];
            for (int side = 0; side < 2; side++) {
                v[i] = (nf_real)((double)was + (side ? h : -h) / (1 + k));
                at[side] = (double)v[i];
                value[side] = loss_at(L);
            }
            difference[k] = (value[1] - value[0]) / (at[1] - at[0]);
        }
        v[i] = was;
        double best = (4 * difference[1] - difference[0]) / 3;
        double tolerance = 0.1 * fabs(difference[1] - difference[0]) + 40 * rounding * scale / h;
        cr_assert_float_eq(gradient[i], best, tolerance,
                           "%s, %zu dimensions: gradient of %s in %s %zu: %.10g, by "
                           "differences %.10g +- %.2g",
                           L->s->row->name, L->s->dim, L->of_samples ? "samples" : "scores", what, i,
                           (double)gradient[i], best, tolerance);
    }
    loss_at(L);
}

static void check_all(loss *L)
{
    subject *s = L->s;
    const size_t n_prep = nf_model_shape(s->m)->n_prep, ctx_size = s->n_ctx * LD;
    nf_real *g = calloc(s->n_params + n_prep + 1, sizeof *g), *g_ctx = calloc(ctx_size + 1, sizeof *g_ctx);
    nf_real *g_x = calloc(s->dim * LD, sizeof *g_x);
    const nf_object *o = nf_model_object(s->m);
    nf_grad grad = {.theta = g, .prep = g + s->n_params, .ctx = s->n_ctx ? g_ctx : NULL};
    double log_q[LD] = {0}, log_weight[LD] = {0};
    void *saved = NULL;
    if (L->of_samples) {
        s->p.log_weight = log_weight;
        s->p.g_log_weight = L->g_log_weight;
        cr_assert_eq(nf_dist_sample(o, &s->p, L->x, log_q, &saved), NF_OK);
        cr_assert_eq(nf_dist_sample_vjp(o, &s->p, L->x, saved, L->gx, L->g_log, &grad), NF_OK, "%s",
                     nf_error_message());
    } else {
        cr_assert_eq(nf_dist_score(o, &s->p, L->x, log_q, &saved), NF_OK);
        cr_assert_eq(nf_dist_score_vjp(o, &s->p, L->x, saved, L->g_log, g_x, &grad), NF_OK, "%s", nf_error_message());
        nf_real *again = calloc(s->n_params + n_prep + 1, sizeof *again);
        nf_grad second = {.theta = again, .prep = again + s->n_params};
        cr_assert_eq(nf_dist_score_vjp(o, &s->p, L->x, saved, L->g_log, NULL, &second), NF_OK);
        cr_assert_arr_eq(again, g, (s->n_params + n_prep) * sizeof *g, "%s without gx", s->row->name);
        free(again);
    }
    cr_assert_eq(nf_model_pull_gradient(s->m, g, g), NF_OK);
    check_gradient(L, "parameter", s->n_params, s->theta, g);
    check_gradient(L, "context", ctx_size, s->ctx, g_ctx);
    if (!L->of_samples)
        check_gradient(L, "x", s->dim * LD, L->x, g_x);
    free(g), free(g_ctx), free(g_x);
}

static void sample_gradient(subject *s)
{
    loss L = {s,
              true,
              tile_of(1, s->dim, 1, false),
              tile_of(29, s->dim, 1, true),
              tile_of(31, 1, 1, true),
              tile_of(33, 1, 1, true)};
    check_all(&L);
    free(L.x), free(L.gx), free(L.g_log), free(L.g_log_weight);
}
EACH_ROW(sample_gradient)

static void score_gradient(subject *s)
{
    const bool bounded = isfinite(s->row->low);
    loss L = {s, false, tile_of(37, s->dim, bounded ? 0.3 : 1.7, false), NULL, tile_of(41, 1, 1, true), NULL};
    check_all(&L);
    free(L.x), free(L.g_log);
}
EACH_ROW(score_gradient)

/* ---- samples ---- */

enum { DRAWS = 20000 };

/* n rows of the subject's first context. */
static nf_real *same_context(const subject *s, size_t n)
{
    nf_real *ctx = calloc(n * s->n_ctx + 1, sizeof *ctx);
    for (size_t i = 0; i < n * s->n_ctx; i++)
        ctx[i] = s->ctx[i % s->n_ctx * LD];
    return ctx;
}

static void log_q_is_the_score(subject *s)
{
    enum { COUNT = 3000 };
    nf_real *x = calloc(COUNT * s->dim, sizeof *x), *ctx = same_context(s, COUNT);
    double *log_q = calloc(2 * COUNT, sizeof *log_q), *score = log_q + COUNT;
    cr_assert_eq(nf_sample(s->m, NULL, &(nf_noise){.seed = 9}, COUNT, ctx, x, log_q), NF_OK);
    cr_assert_eq(nf_log_prob(s->m, NULL, NULL, COUNT, x, ctx, score), NF_OK);
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(isfinite(log_q[i]));
        cr_assert_float_eq(log_q[i], score[i], 3000 * rounding * (1 + fabs(score[i])),
                           "%s: %.10g, but the score is "
                           "%.10g",
                           s->row->name, log_q[i], score[i]);
    }
    free(x), free(ctx), free(log_q);
}
EACH_ROW(log_q_is_the_score)

/* sqrt(n) sup |F_n - F| has mean 0.87 and standard deviation 0.26, and is above 2.2 once in 8000 times. */
static void distribution_functions(subject *s)
{
    if (!s->row->cdf)
        return;
    nf_real *x = calloc(DRAWS * s->dim, sizeof *x);
    double *u = calloc(s->dim * DRAWS, sizeof *u), *sorted = calloc(DRAWS, sizeof *sorted);
    cr_assert_eq(nf_sample(s->m, NULL, &(nf_noise){.seed = 2024, .step = 5}, DRAWS, NULL, x, NULL), NF_OK);
    for (size_t d = 0; d < s->dim; d++) {
        double *ud = u + d * DRAWS, worst = 0;
        for (size_t i = 0; i < DRAWS; i++)
            ud[i] = s->row->cdf(s->dim, d, s->theta, (double)x[i * s->dim + d]);
        memcpy(sorted, ud, DRAWS * sizeof *ud);
        gsl_sort(sorted, 1, DRAWS);
        for (size_t i = 0; i < DRAWS; i++)
            worst = fmax(worst, fmax((double)(i + 1) / DRAWS - sorted[i], sorted[i] - (double)i / DRAWS));
        cr_assert_lt(worst * sqrt(DRAWS), 2.2, "%s, dimension %zu: Kolmogorov-Smirnov %g", s->row->name, d,
                     worst * sqrt(DRAWS));
    }
    free(x), free(u), free(sorted);
}
EACH_ROW(distribution_functions)

/* Distances of the distribution functions from 1/2, and their signs, are uncorrelated where dimensions are independent;
   sample correlations have standard error 1 / sqrt(n). */
static void independent_dimensions(subject *s)
{
    if (!s->row->cdf || s->row->dependent)
        return;
    nf_real *x = calloc(DRAWS * s->dim, sizeof *x);
    cr_assert_eq(nf_sample(s->m, NULL, &(nf_noise){.seed = 2025}, DRAWS, NULL, x, NULL), NF_OK);
    for (size_t d = 0; d < s->dim; d++)
        for (size_t e = 0; e < d; e++) {
            double sides = 0, sizes = 0;
            for (size_t i = 0; i < DRAWS; i++) {
                double u = s->row->cdf(s->dim, d, s->theta, (double)x[i * s->dim + d]) - 0.5;
                double v = s->row->cdf(s->dim, e, s->theta, (double)x[i * s->dim + e]) - 0.5;
                sides += 12 * u * v / DRAWS;                               /* variance 1/12 each */
                sizes += 48 * (fabs(u) - 0.25) * (fabs(v) - 0.25) / DRAWS; /* 1/48 each */
            }
            cr_assert_float_eq(sides, 0, 4.2 / sqrt(DRAWS), "%s: %zu, %zu: %g", s->row->name, d, e, sides);
            cr_assert_float_eq(sizes, 0, 4.2 / sqrt(DRAWS), "%s: %zu, %zu: %g", s->row->name, d, e, sizes);
        }
    free(x);
}
EACH_ROW(independent_dimensions)

/* A draw depends on its name, not on its neighbours; steps and seeds differ. */
static void draws_by_name(subject *s)
{
    enum { COUNT = 150 };
    nf_real *all = calloc(COUNT * s->dim, sizeof *all), *some = calloc(COUNT * s->dim, sizeof *some);
    nf_real *ctx = same_context(s, COUNT);
    cr_assert_eq(nf_sample(s->m, NULL, &(nf_noise){.seed = 4, .first_sample = 1000}, COUNT, ctx, all, NULL), NF_OK);
    for (size_t first = 0; first < COUNT; first += 1 + first) {
        size_t n = first % 19 + 1 < COUNT - first ? first % 19 + 1 : COUNT - first;
        nf_noise noise = {.seed = 4, .first_sample = 1000 + first};
        cr_assert_eq(nf_sample(s->m, NULL, &noise, n, ctx, some, NULL), NF_OK);
        for (size_t i = 0; i < n * s->dim; i++) {
            double whole = (double)all[first * s->dim + i];
            cr_assert_float_eq(some[i], whole, 100 * rounding * (1 + fabs(whole)), "%s", s->row->name);
        }
    }
    const nf_noise others[] = {{.seed = 4, .step = 1, .first_sample = 1000}, {.seed = 5, .first_sample = 1000}};
    for (int k = 0; k < 2; k++) {
        cr_assert_eq(nf_sample(s->m, NULL, &others[k], COUNT, ctx, some, NULL), NF_OK);
        for (size_t i = 0; i < COUNT * s->dim; i++)
            cr_assert_neq(some[i], all[i], "%s: not fresh", s->row->name);
    }
    free(all), free(some), free(ctx);
}
EACH_ROW(draws_by_name)

/* ---- densities integrate to 1: the double exponential rule, an infinite axis or an interval ---- */

static void integral(subject *s)
{
    enum { PER_UNIT = 24 };
    if (s->dim > 2)
        return;
    const bool bounded = isfinite(s->row->low);
    const double reach = bounded ? 3.2 : 4.5, h = 1. / PER_UNIT;
    const size_t points = (size_t)(2 * reach * PER_UNIT), n = s->dim == 1 ? points : points * points;
    double axis[512], weight[512], sum = 0;
    cr_assert(points < 512);
    for (size_t i = 0; i < points; i++) {
        const double t = -reach + ((double)i + 0.5) * h, w = M_PI_2 * sinh(t), slope = M_PI_2 * cosh(t) * h;
        const double middle = (s->row->low + s->row->high) / 2, half = (s->row->high - s->row->low) / 2;
        axis[i] = bounded ? middle + half * tanh(w) : sinh(w);
        weight[i] = bounded ? half * slope / (cosh(w) * cosh(w)) : cosh(w) * slope;
    }
    nf_real *x = calloc(n * s->dim, sizeof *x), *ctx = same_context(s, n);
    double *log_p = calloc(n, sizeof *log_p);
    for (size_t i = 0; i < n; i++) {
        x[i * s->dim] = (nf_real)axis[i % points];
        if (s->dim == 2)
            x[i * 2 + 1] = (nf_real)axis[i / points];
    }
    cr_assert_eq(nf_log_prob(s->m, NULL, NULL, n, x, ctx, log_p), NF_OK);
    for (size_t i = 0; i < n; i++)
        sum += exp(log_p[i]) * weight[i % points] * (s->dim == 2 ? weight[i / points] : 1);
    cr_assert_float_eq(sum, 1, is_double ? 1e-6 : 2e-5, "%s, %zu dimensions: %.9g", s->row->name, s->dim, sum);
    free(x), free(ctx), free(log_p);
}
EACH_ROW(integral)

/* ---- one result for any number of threads ---- */

static int wide_gaussian(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)user;
    *log_p = 0;
    for (size_t k = 0; k < d; k++) {
        *log_p -= 0.05 * x[k] * x[k];
        if (grad)
            grad[k] = -0.1 * x[k];
    }
    return 0;
}

static void threads(subject *s)
{
    enum { COUNT = 1100 };
    static const size_t teams[] = {1, 2, 3, 8};
    nf_real *x = calloc(COUNT * s->dim, sizeof *x), *first = NULL, *ctx = same_context(s, COUNT);
    nf_real *g = calloc(2 * s->n_params + 1, sizeof *g), *first_g = calloc(2 * s->n_params + 1, sizeof *g);
    double log_q[2 * COUNT], first_log[2 * COUNT];
    nf_target *target = nf_target_point_callback(s->dim, wide_gaussian, NULL, NF_THREADSAFE);
    for (size_t t = 0; t < 4; t++) {
        nf_workspace *ws = nf_workspace_new(teams[t]);
        cr_assert_eq(nf_sample(s->m, ws, &(nf_noise){.seed = 6}, COUNT, ctx, x, log_q), NF_OK);
        cr_assert_eq(nf_log_prob(s->m, ws, NULL, COUNT, x, ctx, log_q + COUNT), NF_OK);
        nf_data data = {.n = COUNT, .dim = s->dim, .x = x, .n_ctx = s->n_ctx, .ctx = s->n_ctx ? ctx : NULL};
        nf_objective *likelihood = nf_maximum_likelihood(s->m, &data, &(nf_likelihood_options){.batch = COUNT});
        nf_objective *elbo = s->n_ctx ? NULL : nf_elbo(s->m, target, &(nf_elbo_options){.draws = COUNT});
        cr_assert_eq(nf_objective_gradient(likelihood, ws, 1, 2, NULL, g), NF_OK, "%s", nf_error_message());
        if (elbo)
            cr_assert_eq(nf_objective_gradient(elbo, ws, 1, 2, NULL, g + s->n_params), NF_OK, "%s", nf_error_message());
        nf_objective_free(elbo);
        nf_objective_free(likelihood);
        nf_workspace_free(ws);
        if (!first) {
            first = x;
            x = calloc(COUNT * s->dim, sizeof *x);
            memcpy(first_g, g, 2 * s->n_params * sizeof *g);
            memcpy(first_log, log_q, sizeof log_q);
        }
        const nf_real *same = t ? x : first;
        cr_assert_arr_eq(same, first, COUNT * s->dim * sizeof *x, "%s: %zu threads draw others", s->row->name,
                         teams[t]);
        cr_assert_arr_eq(log_q, first_log, sizeof log_q, "%s: %zu threads: other scores", s->row->name, teams[t]);
        cr_assert_arr_eq(g, first_g, 2 * s->n_params * sizeof *g, "%s: %zu threads: gradients", s->row->name, teams[t]);
    }
    nf_target_free(target);
    free(x), free(first), free(ctx), free(g), free(first_g);
}
EACH_ROW(threads)

#ifdef NFI_JANSSON
/* ---- a distribution comes back from a model file, bit for bit ---- */

static void files(subject *s)
{
    enum { COUNT = 40 };
    char path[] = "/tmp/nflow-dists-XXXXXX";
    const int file = mkstemp(path);
    cr_assert_geq(file, 0);
    close(file);
    cr_assert_eq(nf_save(s->m, path), NF_OK, "%s: %s", s->row->name, nf_error_message());
    nf_model *back = nf_load(path, NULL);
    remove(path);
    cr_assert_not_null(back, "%s: %s", s->row->name, nf_error_message());
    nf_real *x = calloc(2 * COUNT * s->dim, sizeof *x), *y = x + COUNT * s->dim, *ctx = same_context(s, COUNT);
    double log_q[COUNT], log_q_back[COUNT];
    const nf_noise noise = {.seed = 8};
    cr_assert_eq(nf_sample(s->m, NULL, &noise, COUNT, ctx, x, log_q), NF_OK);
    cr_assert_eq(nf_sample(back, NULL, &noise, COUNT, ctx, y, log_q_back), NF_OK);
    cr_assert_arr_eq(x, y, COUNT * s->dim * sizeof *x, "%s", s->row->name);
    cr_assert_arr_eq(log_q, log_q_back, sizeof log_q, "%s", s->row->name);
    /* initialised anew, both start alike */
    cr_assert_eq(nf_model_init(s->m, 3, 0, NULL, NULL), NF_OK);
    cr_assert_eq(nf_model_init(back, 3, 0, NULL, NULL), NF_OK);
    cr_assert_arr_eq(nf_model_theta(back), s->theta, s->n_params * sizeof *s->theta, "%s", s->row->name);
    nf_model_free(back);
    free(x), free(ctx);
}
EACH_ROW(files)
#endif

/* ---- zeros, huge and tiny numbers: finite scores and gradients, or the documented infinity ---- */

static void extremes(subject *s)
{
    const double values[] = {0, tiny, -tiny, 1e15, -1e15};
    const nf_object *o = nf_model_object(s->m);
    nf_real *x = calloc(s->dim * LD, sizeof *x), *gx = calloc(s->dim * LD, sizeof *gx);
    nf_real *g_log = tile_of(43, 1, 1, true);
    nf_real *g = calloc(s->n_params + nf_model_shape(s->m)->n_prep + 1, sizeof *g);
    double log_p[LD] = {0};
    void *saved = NULL;
    for (size_t i = 0; i < s->dim * LD; i++)
        x[i] = (nf_real)values[(i % LD < 5 ? i % LD : i % LD * 7 + i / LD * 3) % 5];
    nfi_pad(s->dim, N, LD, x);
    cr_assert_eq(nf_dist_score(o, &s->p, x, log_p, &saved), NF_OK);
    nf_grad grad = {.theta = g, .prep = g + s->n_params};
    cr_assert_eq(nf_dist_score_vjp(o, &s->p, x, saved, g_log, gx, &grad), NF_OK);
    cr_assert_eq(nf_model_pull_gradient(s->m, g, g), NF_OK);
    for (size_t i = 0; i < LD; i++) {
        bool outside = false;
        for (size_t d = 0; d < s->dim; d++) {
            outside = outside || (double)x[d * LD + i] < s->row->low || (double)x[d * LD + i] > s->row->high;
            cr_assert(isfinite(gx[d * LD + i]), "%s: gx at %g", s->row->name, (double)x[d * LD + i]);
        }
        cr_assert(outside ? log_p[i] == -INFINITY : isfinite(log_p[i]), "%s: score %g at %g", s->row->name, log_p[i],
                  (double)x[i]);
    }
    for (size_t i = 0; i < s->n_params; i++)
        cr_assert(isfinite(g[i]), "%s: gradient %zu is %g", s->row->name, i, (double)g[i]);
    free(x), free(gx), free(g_log), free(g);
}
EACH_ROW(extremes)

/* ---- what the table does not ask: the covariance L L^T ---- */

Test(dists, covariance_of_a_full_normal)
{
    enum { D = 3 };
    const double L[D][D] = {{0.7, 0, 0}, {-1.2, 0.9, 0}, {0.4, 1.7, 1.3}}, mean[D] = {1.1, -0.3, 2.6};
    nf_model *m = nf_model_of_dist(nf_full_normal(D), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_model_shape(m)->n_params, D * (D + 3) / 2);
    nf_real *theta = nf_model_theta(m), *x = calloc(DRAWS * D, sizeof *x);
    for (size_t i = 0, k = 2 * D; i < D; i++) {
        theta[i] = (nf_real)mean[i];
        theta[D + i] = (nf_real)log(L[i][i]);
        for (size_t j = 0; j < i; j++)
            theta[k++] = (nf_real)L[i][j];
    }
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 14}, DRAWS, NULL, x, NULL), NF_OK);
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < D; j++) {
            double sum = 0, exact = 0, si = 0, sj = 0;
            for (size_t n = 0; n < DRAWS; n++)
                sum += ((double)x[n * D + i] - mean[i]) * ((double)x[n * D + j] - mean[j]) / DRAWS;
            for (size_t k = 0; k < D; k++) {
                exact += L[i][k] * L[j][k];
                si += L[i][k] * L[i][k];
                sj += L[j][k] * L[j][k];
            }
            cr_assert_float_eq(sum, exact, 4 * sqrt((exact * exact + si * sj) / DRAWS), "%zu, %zu: %g, but %g", i, j,
                               sum, exact);
        }
    free(x);
    nf_model_free(m);
}
