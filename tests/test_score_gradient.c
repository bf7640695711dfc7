/* nf_log_prob_gradient() and nf_target_of_model(): against differences, for every row of the conformance table pushed
   forward and every distribution; threads, rows without a result, points of density 0, arguments, failed allocations.
 */
#include "support/numbers.h"
#include "conformance/rows.h"
#include "conformance/dist_rows.h"
#include "expect.h"
#include "fail_alloc.h"
#include "fragile.h"
#include <stdio.h>
#include <string.h>

enum { N = 37, CTX = 3 };
static const size_t dims[] = {1, 2, 5};
enum { N_DIMS = sizeof dims / sizeof *dims };
#ifdef NF_SINGLE
enum { is_double = false };
#else
enum { is_double = true };
#endif

static nf_model *bind(nf_dist *dist, double theta_scale)
{
    cr_assert_not_null(dist, "%s", nf_error_message());
    nf_model *m = nf_model_of_dist(dist, NULL);
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *more = normals(41, n, theta_scale);
    for (size_t i = 0; i < n; i++)
        nf_model_theta(m)[i] += more[i];
    free(more);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

/* A model, points where it has density, and everything about them. */
typedef struct scored {
    nf_model *m;
    size_t n, dim, n_ctx;
    nf_real *x, *ctx, *gx, *g_ctx;
    double *log_p;
} scored;

static scored score(nf_model *m, size_t n, size_t threads)
{
    const nf_shape *shape = nf_model_shape(m);
    scored s = {.m = m, .n = n, .dim = shape->dim_out, .n_ctx = shape->n_ctx};
    s.x = reals(n * s.dim);
    s.ctx = normals(5, n * s.n_ctx, 0.5);
    s.gx = reals(n * s.dim);
    s.g_ctx = reals(n * s.n_ctx);
    s.log_p = calloc(n, sizeof *s.log_p);
    nf_workspace *ws = nf_workspace_new(threads);
    const nf_noise noise = {.seed = 3};
    cr_assert_eq(nf_sample(m, ws, &noise, n, s.ctx, s.x, NULL), NF_OK);
    cr_assert_eq(nf_log_prob_gradient(m, ws, NULL, n, s.x, s.ctx, s.log_p, s.gx, s.g_ctx), NF_OK, "%s",
                 nf_error_message());
    cr_assert_eq(nf_workspace_failed(ws), 0);
    nf_workspace_free(ws);
    return s;
}

static void drop(scored *s)
{
    nf_model_free(s->m);
    free(s->x);
    free(s->ctx);
    free(s->gx);
    free(s->g_ctx);
    free(s->log_p);
}

/* log p at x + h v and c + h w. */
static void moved(const scored *s, double h, const nf_real *v, const nf_real *w, double *log_p)
{
    nf_real *x = reals(s->n * s->dim), *c = reals(s->n * s->n_ctx);
    for (size_t i = 0; i < s->n * s->dim; i++)
        x[i] = (nf_real)((double)s->x[i] + h * (double)v[i]);
    for (size_t i = 0; i < s->n * s->n_ctx; i++)
        c[i] = (nf_real)((double)s->ctx[i] + h * (double)w[i]);
    cr_assert_eq(nf_log_prob(s->m, NULL, NULL, s->n, x, c, log_p), NF_OK);
    free(x);
    free(c);
}

/* By central differences, and the log-densities are those of nf_log_prob() bit for bit. */
static void check_differences(const scored *s, double slack, const char *name)
{
    double *at = calloc(s->n, sizeof *at), *up = calloc(s->n, sizeof *up), *down = calloc(s->n, sizeof *down);
    nf_real *v = normals(17, s->n * s->dim, 1), *w = normals(19, s->n * s->n_ctx, 1);
    const double h = 1e-5;
    cr_assert_eq(nf_log_prob(s->m, NULL, NULL, s->n, s->x, s->ctx, at), NF_OK);
    for (size_t i = 0; i < s->n * s->dim; i++) /* relative steps: numbers may be near an edge, as those of simplexes */
        v[i] *= (nf_real)fmin(1, fabs((double)s->x[i]));
    moved(s, h, v, w, up);
    moved(s, -h, v, w, down);
    for (size_t i = 0; i < s->n; i++) {
        const double wanted = (up[i] - down[i]) / (2 * h);
        const double got =
            dot(s->dim, v + i * s->dim, s->gx + i * s->dim) + dot(s->n_ctx, w + i * s->n_ctx, s->g_ctx + i * s->n_ctx);
        cr_assert_eq(memcmp(&at[i], &s->log_p[i], sizeof *at), 0, "%s: row %zu", name, i);
        if (is_double)
            cr_assert_float_eq(got, wanted, 1e-6 * slack * (1 + fabs(wanted) + fabs(at[i])),
                               "%s, %zu: row %zu: %g, not %g", name, s->dim, i, got, wanted);
    }
    free(at), free(up), free(down), free(v), free(w);
}

/* The same by other calls: the base's gradient, -z, through the inverse. */
static void check_chain_rule(const scored *s, double slack, const char *name)
{
    const size_t base = nf_model_shape(s->m)->dim_in;
    nf_real *z = reals(s->n * base), *gz = reals(s->n * base), *one = reals(s->n);
    nf_real *gx = reals(s->n * s->dim), *g_ctx = reals(s->n * s->n_ctx);
    cr_assert_eq(nf_transform(s->m, NULL, NULL, NF_INVERSE, s->n, s->x, s->ctx, z, NULL), NF_OK);
    for (size_t i = 0; i < s->n * base; i++)
        gz[i] = -z[i];
    for (size_t i = 0; i < s->n; i++)
        one[i] = 1;
    cr_assert_eq(nf_transform_vjp(s->m, NULL, NULL, NF_INVERSE, s->n, s->x, s->ctx, gz, one, gx, g_ctx, NULL), NF_OK);
    for (size_t i = 0; i < s->n * s->dim; i++)
        near((double)s->gx[i], (double)gx[i], slack * (is_double ? 1e-13 : 1e-5), name, i);
    for (size_t i = 0; i < s->n * s->n_ctx; i++)
        near((double)s->g_ctx[i], (double)g_ctx[i], slack * (is_double ? 1e-13 : 1e-5), name, i);
    free(z), free(gz), free(one), free(gx), free(g_ctx);
}

Test(score_gradient, of_every_flow)
{
    size_t cases = 0;
    for (size_t r = 0; r < N_ROWS; r++)
        for (size_t k = 0; k < (NFLOW_THIN ? 2 : N_DIMS); k++) {
            nf_flow *f = rows[r].build(dims[k], rows[r].takes_context ? CTX : 0);
            cr_assert_not_null(f, "%s", rows[r].name);
            const size_t base = nf_flow_shape(f)->dim_in;
            scored s = score(bind(nf_pushforward(nf_normal(base), f), rows[r].theta_scale), N, 1);
            if (!(rows[r].traits & ROUGH))
                check_differences(&s, rows[r].slack, rows[r].name);
            check_chain_rule(&s, rows[r].slack, rows[r].name);
            drop(&s);
            cases++;
        }
    cr_assert_eq(cases, N_ROWS * (NFLOW_THIN ? 2 : N_DIMS));
}

Test(score_gradient, of_every_distribution)
{
    for (size_t r = 0; r < N_DIST_ROWS; r++)
        for (size_t k = 0; k < N_DIMS; k++) {
            scored s = score(bind(dist_rows[r].build(dims[k]), dist_rows[r].theta_scale), N, 1);
            check_differences(&s, 1, dist_rows[r].name);
            drop(&s);
        }
}

/* A posterior's flow context, an amortised layer's and a context net's, each through several layers. */
static nf_dist *conditional(void)
{
    nf_flow *f[] = {
        nf_amortized(nf_planar(3), nf_mlp(CTX, 7, 0, &(nf_mlp_options){.activation = NF_TANH})), nf_lu_linear(3, 7),
        nf_maf(3, &(nf_recipe_options){
                      .n_ctx = CTX, .hidden = (size_t[]){9}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 1})};
    return nf_pushforward(nf_diagonal_normal(3), nf_chain(f, 3));
}

Test(score_gradient, of_contexts)
{
    scored s = score(bind(conditional(), 0.2), 300, 0);
    cr_assert_eq(s.n_ctx, CTX);
    check_differences(&s, 10, "conditional");
    double size = dot(s.n * CTX, s.g_ctx, s.g_ctx);
    cr_assert_gt(size, 1e-3 * (double)s.n);
    drop(&s);
}

Test(score_gradient, same_bits_for_all_thread_counts)
{
    enum { MANY = 1000 };
    scored one = score(bind(conditional(), 0.2), MANY, 1);
    for (size_t threads = 2; threads < 6; threads++) {
        scored s = score(bind(conditional(), 0.2), MANY, threads);
        cr_assert_eq(memcmp(s.gx, one.gx, MANY * 3 * sizeof *s.gx), 0);
        cr_assert_eq(memcmp(s.g_ctx, one.g_ctx, MANY * CTX * sizeof *s.gx), 0);
        cr_assert_eq(memcmp(s.log_p, one.log_p, MANY * sizeof *s.log_p), 0);
        drop(&s);
    }
    drop(&one);
}

/* Any of the results may be left out, and what is left out changes nothing. */
Test(score_gradient, what_is_not_wanted)
{
    scored s = score(bind(conditional(), 0.2), N, 1);
    static nf_real gx[N * 3], g_ctx[N * CTX];
    cr_assert_eq(nf_log_prob_gradient(s.m, NULL, NULL, N, s.x, s.ctx, NULL, gx, NULL), NF_OK);
    cr_assert_eq(memcmp(gx, s.gx, sizeof gx), 0);
    cr_assert_eq(nf_log_prob_gradient(s.m, NULL, NULL, N, s.x, s.ctx, NULL, NULL, g_ctx), NF_OK);
    cr_assert_eq(memcmp(g_ctx, s.g_ctx, sizeof g_ctx), 0);
    drop(&s);
}

static bool all_nan(size_t n, const nf_real *v)
{
    for (size_t i = 0; i < n; i++)
        if (!isnan(v[i]))
            return false;
    return true;
}

/* A layer that fails at some points, NaN in x and NaN in the context: these rows are NaN, are counted, and leave the
   others' numbers as they are. */
Test(score_gradient, rows_without_a_result)
{
    enum { MANY = 700, D = 2 };
    nf_model *m[2];
    for (size_t k = 0; k < 2; k++) {
        nf_flow *f[] = {fragile_chain(D, k ? 0.7 : INFINITY, 0), nf_amortized(nf_affine(D), nf_mlp(1, 2 * D, 0, NULL))};
        m[k] = bind(nf_pushforward(nf_normal(D), nf_chain(f, 2)), 0.1);
    }
    scored s = score(m[0], MANY, 2);
    nf_real gx[MANY * D], g_ctx[MANY], z[MANY * D];
    double log_p[MANY];
    cr_assert_eq(nf_transform(m[0], NULL, NULL, NF_INVERSE, MANY, s.x, s.ctx, z, NULL), NF_OK);
    s.x[5 * D + 1] = NAN;
    s.ctx[300] = NAN;
    size_t failed = 0;
    for (size_t threads = 1; threads < 4; threads++) {
        nf_workspace *ws = nf_workspace_new(threads);
        cr_assert_eq(nf_log_prob_gradient(m[1], ws, NULL, MANY, s.x, s.ctx, log_p, gx, g_ctx), NF_OK);
        failed = 0;
        for (size_t i = 0; i < MANY; i++)
            if (isnan(log_p[i])) {
                failed++;
                cr_assert(all_nan(D, gx + i * D) && all_nan(1, g_ctx + i), "row %zu", i);
            } else {
                same_numbers(D, gx + i * D, s.gx + i * D, "gx");
                same_numbers(1, g_ctx + i, s.g_ctx + i, "g_ctx");
                cr_assert_float_eq(log_p[i], s.log_p[i], NFLOW_THIN == 1 ? 1e-9 : 0, "row %zu", i);
            }
        cr_assert(isnan(log_p[5]) && isnan(log_p[300]));
        cr_assert_gt(failed, 50);
        cr_assert_lt(failed, MANY - 50);
        cr_assert_eq(nf_workspace_failed(ws), failed);
        nf_workspace_free(ws);
    }
    for (size_t i = 0; i < MANY; i++) /* all rows of a tile */
        s.x[i * D] = NAN;
    cr_assert_eq(nf_log_prob_gradient(m[1], NULL, NULL, MANY, s.x, s.ctx, log_p, gx, g_ctx), NF_OK);
    cr_assert(all_nan(MANY * D, gx) && all_nan(MANY, g_ctx));
    nf_model_free(m[1]);
    drop(&s);
}

/* Outside its support a density has the logarithm -inf and gradients of 0. */
Test(score_gradient, outside_the_support)
{
    nf_model *m = bind(nf_pushforward(nf_uniform(2, -1, 1), nf_amortized_by_context(nf_affine(2))), 0);
    const nf_real x[] = {0.5, 0.5, 3, 0.5, 0.25, -0.75}, ctx[12] = {0.125, 0, 0.25, 0};
    nf_real gx[6], g_ctx[12];
    double log_p[3];
    cr_assert_eq(nf_log_prob_gradient(m, NULL, NULL, 3, x, ctx, log_p, gx, g_ctx), NF_OK);
    cr_assert_eq(log_p[1], -INFINITY);
    for (size_t i = 0; i < 2; i++)
        cr_assert_eq(gx[2 + i], 0);
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(g_ctx[4 + i], 0);
    near((double)g_ctx[2], -1, 1e-6, "slope in a log-scale", 0); /* log p = -2 log 2 - sum of log-scales */
    nf_model_free(m);
    m = bind(nf_pushforward(nf_normal(1), nf_lower(1, 1)), 0);
    const nf_real beyond[] = {2, 0.5};
    cr_assert_eq(nf_log_prob_gradient(m, NULL, NULL, 2, beyond, NULL, log_p, gx, NULL), NF_OK);
    near((double)gx[0], -1, 1e-6, "x", 0); /* z = log(x - 1) = 0: d(-z^2/2 - z)/dx = -(z + 1) / (x - 1) */
    cr_assert_eq(log_p[1], -INFINITY);
    cr_assert_eq(gx[1], 0);
    nf_model_free(m);
}

Test(score_gradient, arguments)
{
    nf_model *m = bind(conditional(), 0), *flow = nf_model_of_flow(nf_affine(3), NULL);
    nf_real x[3] = {0}, c[CTX] = {0}, g[3];
    double log_p[1];
    expect(nf_log_prob_gradient(NULL, NULL, NULL, 1, x, c, log_p, g, g), NF_EARG, "nf_log_prob_gradient: `m` is NULL");
    expect(nf_log_prob_gradient(flow, NULL, NULL, 1, x, c, log_p, g, g), NF_EARG,
           "nf_log_prob_gradient: the model is of a `affine`");
    expect(nf_log_prob_gradient(m, NULL, NULL, 0, x, c, log_p, g, g), NF_EARG, "nf_log_prob_gradient: `n` is 0");
    expect(nf_log_prob_gradient(m, NULL, NULL, 1, NULL, c, log_p, g, g), NF_EARG, "nf_log_prob_gradient: `x` is NULL");
    expect(nf_log_prob_gradient(m, NULL, NULL, 1, x, NULL, log_p, g, g), NF_EARG,
           "nf_log_prob_gradient: `ctx` is NULL, but the model reads 3");
    expect(nf_log_prob_gradient(m, NULL, NULL, 1, x, c, log_p, NULL, NULL), NF_EARG,
           "nf_log_prob_gradient: `gx` and `g_ctx` are both NULL");
    nf_model_theta(m)[20] += 1; /* nf_lu_linear's */
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        nf_model_theta(m)[i] += NF_R(0.125);
    expect(nf_log_prob_gradient(m, NULL, NULL, 1, x, c, log_p, g, g), NF_ESTALE, "nf_log_prob_gradient: the model's");
    nf_model_free(m);
    nf_model_free(flow);
}

Test(score_gradient, failed_allocations)
{
    scored s = score(bind(conditional(), 0.1), N, 1);
    for (size_t arena = 0; arena < 2; arena++)
        for (size_t k = 0;; k++) {
            const size_t before = alloc_live();
            (arena ? fail_arena_once : fail_alloc_once)(k);
            const nf_status status = nf_log_prob_gradient(s.m, NULL, NULL, N, s.x, s.ctx, s.log_p, s.gx, s.g_ctx);
            const bool failed = fail_alloc_off();
            cr_assert_eq(alloc_live(), before);
            if (!failed) {
                cr_assert_eq(status, NF_OK);
                break;
            }
            cr_assert_eq(status, NF_ENOMEM, "%zu", k);
        }
    drop(&s);
}

/* ---- as a target ---- */

Test(score_gradient, as_a_target)
{
    nf_model *m = bind(conditional(), 0.2);
    const nf_real ctx[CTX] = {NF_R(0.3), NF_R(-0.7), NF_R(0.2)};
    nf_target *t = nf_target_of_model(m, ctx);
    cr_assert_eq(nf_target_dim(t), 3);
    cr_assert_eq(nf_target_rule(t), NF_THREADSAFE);
    enum { POINTS = 200 };
    nf_real x[POINTS * 3], all[POINTS * CTX], gx[POINTS * 3];
    double points[POINTS * 3], log_p[POINTS], grad[POINTS * 3], wanted[POINTS];
    for (size_t i = 0; i < POINTS * CTX; i++)
        all[i] = ctx[i % CTX];
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 1}, POINTS, all, x, NULL), NF_OK);
    for (size_t i = 0; i < POINTS * 3; i++)
        points[i] = (double)x[i];
    cr_assert_eq(nf_log_prob_gradient(m, NULL, NULL, POINTS, x, all, wanted, gx, NULL), NF_OK);
    cr_assert_eq(nf_target_eval(t, POINTS, points, log_p, grad, NULL), NF_OK);
    for (size_t i = 0; i < POINTS * 3; i++)
        near(grad[i], (double)gx[i], is_double ? 1e-13 : 1e-4, "gradient", i);
    for (size_t i = 0; i < POINTS; i++)
        near(log_p[i], wanted[i], is_double ? 1e-13 : 1e-5, "log p", i);
    nf_target_report report;
    if (is_double) {
        cr_assert_eq(nf_target_check(t, POINTS, points, &report), NF_OK);
        cr_assert_lt(report.worst_error, 1e-5);
    }
    cr_assert_eq(nf_target_eval(t, POINTS, points, log_p, NULL, NULL), NF_OK);
    points[7 * 3] = NAN;
    unsigned char rejected[POINTS];
    cr_assert_eq(nf_target_eval(t, POINTS, points, log_p, grad, rejected), NF_OK);
    for (size_t i = 0; i < POINTS; i++)
        cr_assert_eq(rejected[i], i == 7);
    nf_target_free(t);
    nf_model_free(m);
}

static void free_model(void *m)
{
    nf_model_free(m);
}

/* A posterior that is the target itself: every draw has log q = log p, so the loss is 0 and so is its gradient but for
   the score's, whose mean is 0. The target owns its model. A fit from elsewhere comes back to it. */
Test(score_gradient, fits_itself)
{
    const size_t before = alloc_live();
    nf_model *p = bind(nf_full_normal(3), 0.3), *q = bind(nf_full_normal(3), 0.3);
    nf_target *t = nf_target_own(nf_target_of_model(p, NULL), p, free_model);
    nf_objective *elbo = nf_elbo(q, t, NULL);
    cr_assert_not_null(elbo, "%s", nf_error_message());
    nf_step_report r;
    cr_assert_eq(nf_objective_value(elbo, NULL, 1, 0, &r), NF_OK);
    cr_assert_float_eq(r.loss, 0, is_double ? 1e-12 : 1e-4);
    for (size_t i = 0; i < nf_model_shape(q)->n_params; i++)
        nf_model_theta(q)[i] = 0;
    cr_assert_eq(
        nf_fit(elbo, &(nf_fit_options){.steps = 1500, .rate = 0.02, .schedule = {.kind = NF_COSINE, .from = 1}}, NULL),
        NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_objective_value(elbo, NULL, 1, 0, &r), NF_OK);
    cr_assert_float_eq(r.loss, 0, 1e-2, "%g", r.loss);
    for (size_t i = 0; i < nf_model_shape(q)->n_params; i++)
        near((double)nf_model_theta(q)[i], (double)nf_model_theta(p)[i], 0.05, "theta", i);
    nf_objective_free(elbo);
    nf_target_free(t);
    nf_model_free(q);
    cr_assert_eq(alloc_live(), before);
}

static void no_target(const nf_target *t, nf_status status, const char *words)
{
    cr_assert_null(t);
    expect(nf_error_status(), status, words);
}

Test(score_gradient, refused_targets)
{
    nf_model *m = bind(conditional(), 0), *flow = nf_model_of_flow(nf_affine(3), NULL);
    no_target(nf_target_of_model(flow, NULL), NF_EARG, "nf_target_of_model: the model is of a `affine`");
    no_target(nf_target_of_model(m, NULL), NF_EARG, "nf_target_of_model: `ctx` is NULL, but the model reads 3");
    const nf_real ctx[CTX] = {0};
    nf_target *t = nf_target_of_model(m, ctx);
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        nf_model_theta(m)[i] += NF_R(0.125);
    const double x[3] = {0};
    double log_p, grad[3];
    expect(nf_target_eval(t, 1, x, &log_p, grad, NULL), NF_ETARGET,
           "nf_target_of_model: nf_log_prob_gradient: the model's");
    expect(nf_target_eval(t, 1, x, &log_p, NULL, NULL), NF_ETARGET, "nf_target_of_model: nf_log_prob: the model's");
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    for (size_t k = 0;; k++) {
        const size_t before = alloc_live();
        fail_alloc_once(k);
        nf_target *u = nf_target_of_model(m, ctx);
        const nf_status status = u ? nf_target_eval(u, 1, x, &log_p, grad, NULL) : nf_error_status();
        const bool failed = fail_alloc_off();
        nf_target_free(u);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
        cr_assert(status == NF_ENOMEM || status == NF_ETARGET, "%zu: %s", k, nf_error_message());
    }
    nf_target_free(t);
    nf_model_free(m);
    nf_model_free(flow);
}
