/* Densities on an interval: splines with free end slopes over a uniform base. They integrate to 1, are 0 outside, in
   couplings and autoregressive flows, too, and fit what is not flat at the edges, which slopes of 1 cannot by theory.
 */
#include "support/numbers.h"
#include "expect.h"
#include "score.h"
#include <criterion/criterion.h>
#include <gsl/gsl_integration.h>
#include <nflow/nflow.h>

#ifdef NF_SINGLE
#define NEXT nextafterf
static const double rounding = 1.2e-7;
#else
#define NEXT nextafter
static const double rounding = 2.3e-16;
#endif

static const nf_spline_options unit = {.bins = 6, .high = 1, .free_ends = true};

static nf_model *model_of(size_t dim, const nf_spline_options *q, nf_flow *f)
{
    const double low = q->low, high = q->high;
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_uniform(dim, low, high), f), &(nf_model_options){.seed = 3});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static void scatter(nf_model *m, double scale)
{
    nf_real *more = normals(17, nf_model_shape(m)->n_params, scale);
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        nf_model_theta(m)[i] += more[i];
    free(more);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
}

/* ---- the integral is 1: Gauss-Legendre between the knots, where the density is a rational function ---- */

Test(interval, densities_integrate_to_one)
{
    enum { CELLS = 600, NODES = 16 };
    static const nf_spline_options shapes[] = {{.bins = 6, .high = 1, .free_ends = true},
                                               {.bins = 1, .low = -0.3, .high = 2.1, .free_ends = true},
                                               {.bins = 9, .box = 1.7, .low = -1.7, .high = 1.7, .free_ends = true}};
    gsl_integration_glfixed_table *rule = gsl_integration_glfixed_table_alloc(NODES);
    for (size_t k = 0; k < 3; k++)
        for (int inverted = 0; inverted < 2; inverted++) {
            const nf_spline_options *q = &shapes[k];
            nf_model *m = model_of(1, q, inverted ? nf_invert(nf_spline(1, q)) : nf_spline(1, q));
            scatter(m, 0.7);
            double sum = 0;
            for (size_t i = 0; i < CELLS * NODES; i++) {
                const double h = (q->high - q->low) / CELLS, from = q->low + h * (double)(i / NODES);
                double at, weight;
                gsl_integration_glfixed_point(from, from + h, i % NODES, &at, &weight, rule);
                const nf_real x = (nf_real)at;
                sum += weight * exp(score(m, &x));
            }
            cr_assert_float_eq(sum, 1, 2e-6 + 300 * rounding, "shape %zu: %.9g", k, sum);
            nf_model_free(m);
        }
    gsl_integration_glfixed_table_free(rule);
}

/* ---- the edges belong to the box, with the slopes that theta says; one ulp further on the density is 0 ---- */

Test(interval, the_edges_have_their_own_slopes)
{
    nf_real theta[3 * 6 + 1] = {0};
    theta[12] = NF_R(1.3), theta[18] = NF_R(-0.9);
    nf_model *m = model_of(1, &unit, nf_spline(1, &unit));
    memcpy(nf_model_theta(m), theta, sizeof theta);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    for (int end = 0; end < 2; end++) {
        const double c = log(expm1(1 - 1e-3)), slope = 1e-3 + log1p(exp((end ? -0.9 : 1.3) + c));
        nf_real x = (nf_real)end, outside = NEXT(x, end ? 2 : -1), y;
        cr_assert_float_eq(score(m, &x), -log(slope), 50 * rounding);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, &x, NULL, &y, NULL), NF_OK);
        cr_assert_float_eq(y, (double)end, 4 * rounding);
        cr_assert(y >= 0 && y <= 1);
        cr_assert_eq(score(m, &outside), -INFINITY);
        outside = end ? 5 : -5;
        cr_assert_eq(score(m, &outside), -INFINITY);
        nf_real g_theta[19] = {0};
        const nf_data data = {.n = 1, .dim = 1, .x = &x};
        nf_objective *o = nf_maximum_likelihood(m, &data, NULL);
        nf_step_report r;
        cr_assert_eq(nf_objective_gradient(o, NULL, 1, 0, &r, g_theta), NF_OK, "%s", nf_error_message());
        cr_assert(all_finite(19, g_theta)); /* loss = log slope: d/dd = sigmoid(d + c) / slope */
        const double a = (double)theta[end ? 18 : 12] + c;
        cr_assert_float_eq(g_theta[end ? 18 : 12], 1 / (1 + exp(-a)) / slope, 100 * rounding);
        nf_objective_free(o);
    }
    nf_model_free(m);
}

/* ---- Taylor: between knots the log-density is smooth in x and theta, and its remainder shrinks by 4 ---- */

Test(interval, taylor, .disabled = sizeof(nf_real) < sizeof(double))
{
    enum { N = 50, P = 3 * 6 + 1, STEPS = 6 };
    nf_real x[N], e[N + P], theta[P], g[P] = {0}, gx[N], ones[N], none[N] = {0};
    nf_model *m = model_of(1, &unit, nf_invert(nf_spline(1, &unit))); /* its log-det is the log-density */
    scatter(m, 0.5);
    memcpy(theta, nf_model_theta(m), sizeof theta);
    draw(5, N + P, 1, e);
    for (int i = 0; i < N; i++) {
        x[i] = (nf_real)((i + 0.37) / N);
        ones[i] = 1;
        e[i] *= x[i] * (1 - x[i]); /* stays in the box */
    }
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_INVERSE, N, x, NULL, none, ones, gx, NULL, g), NF_OK);
    double per_x[N], value[2 * STEPS + 1][N];
    for (int k = 0; k <= 2 * STEPS; k++) {
        const double h = k == 2 * STEPS ? 0 : (k % 2 ? -2e-3 : 2e-3) / (1 << k / 2);
        nf_real at[N];
        for (int i = 0; i < N; i++)
            at[i] = x[i] + (nf_real)h * e[i];
        for (int i = 0; i < P; i++)
            nf_model_theta(m)[i] = theta[i] + (nf_real)h * e[N + i];
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        cr_assert_eq(nf_log_prob(m, NULL, NULL, N, at, NULL, value[k]), NF_OK);
    }
    memcpy(nf_model_theta(m), theta, sizeof theta);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    double all = 0;
    size_t smooth = 0;
    for (int i = 0; i < N; i++) { /* each row's own gradient in theta, since knots spoil some rows */
        nf_real one[P] = {0}, of_x;
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_INVERSE, 1, x + i, NULL, none, ones, &of_x, NULL, one), NF_OK);
        per_x[i] = (double)(of_x * e[i]) + dot(P, one, e + N);
        all += dot(P, one, e + N);
        bool shrinks = true;
        for (int k = 0; k + 1 < STEPS && shrinks; k++) {
            double r[2];
            for (int j = 0; j < 2; j++) {
                const double h = 2e-3 / (1 << (k + j)), *up = value[2 * (k + j)], *down = up + N;
                r[j] = (fabs(up[i] - value[2 * STEPS][i] - h * per_x[i]) +
                        fabs(down[i] - value[2 * STEPS][i] + h * per_x[i])) /
                       2;
            }
            shrinks = r[1] < 1e-12 || fabs(log2(r[0] / r[1]) - 2) < 0.1;
        }
        smooth += shrinks;
    }
    cr_assert_float_eq(all, dot(P, g, e + N), 1e-12 * N);
    cr_assert_geq(smooth, N - 5, "%zu of %d", smooth, N); /* a knot each side of it may come in between */
    nf_model_free(m);
}

/* ---- recipes: the cube is mapped onto itself; outside in one feature, the density is 0 ---- */

typedef nf_flow *recipe(size_t dim, const nf_recipe_options *options);
static recipe *const recipes[] = {nf_nsf_coupling, nf_nsf_autoregressive};

static nf_recipe_options narrow(const nf_spline_options *q)
{
    static const size_t width[] = {9};
    return (nf_recipe_options){
        .n_layers = 4, .hidden = width, .n_hidden = 1, .activation = NF_TANH, .last_scale = 1, .spline = q, .seed = 5};
}

Test(interval, recipes_keep_the_cube)
{
    enum { N = 400 };
    for (size_t r = 0; r < 2; r++)
        for (size_t dim = 1; dim <= 5; dim += 2)
            for (int mixing = NF_MIX_DEFAULT; mixing <= NF_MIX_PERMUTE; mixing += NF_MIX_PERMUTE) {
                static nf_real x[N * 5], back[N * 5], y[N * 5];
                static double log_q[N], log_p[N];
                nf_recipe_options o = narrow(&unit);
                o.mixing = (nf_mixing)mixing;
                nf_model *m = model_of(dim, &unit, recipes[r](dim, &o));
                scatter(m, 0.3);
                cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 2}, N, NULL, x, log_q), NF_OK);
                cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, log_p), NF_OK);
                for (size_t i = 0; i < N * dim; i++)
                    cr_assert(x[i] >= 0 && x[i] <= 1, "%g", (double)x[i]);
                for (size_t i = 0; i < N; i++)
                    cr_assert_float_eq(log_q[i], log_p[i], 1e5 * rounding * (1 + fabs(log_p[i])));
                cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, x, NULL, y, NULL), NF_OK);
                cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, y, NULL, back, NULL), NF_OK);
                for (size_t i = 0; i < N * dim; i++)
                    cr_assert_float_eq(back[i], x[i], 1e4 * rounding);
                for (size_t i = 0; i < N; i++) /* corners of the cube, then a step off it */
                    for (size_t d = 0; d < dim; d++)
                        x[i * dim + d] = (nf_real)(i >> d & 1);
                cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, log_p), NF_OK);
                for (size_t i = 0; i < N; i++) {
                    cr_assert(isfinite(log_p[i]), "%g", log_p[i]);
                    nf_real *e = x + i * dim + i % dim;
                    *e = i % 3 ? NEXT(*e, 2 * *e - 1 > 0 ? 2 : -1) : 4 * *e - NF_R(1.5);
                }
                cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, log_p), NF_OK);
                for (size_t i = 0; i < N; i++)
                    cr_assert_eq(log_p[i], -INFINITY, "%g", log_p[i]);
                nf_model_free(m);
            }
}

Test(interval, recipes_do_not_mix_linearly)
{
    for (size_t r = 0; r < 2; r++) {
        nf_recipe_options o = narrow(&unit);
        o.mixing = NF_MIX_LU;
        expect_none(recipes[r](3, &o), NF_EARG, "NF_MIX_LU");
        o.spline = NULL;
        nf_flow *f = recipes[r](3, &o);
        cr_assert_not_null(f, "%s", nf_error_message());
        nf_flow_free(f);
    }
}

/* ---- fits: Beta(2, 1), whose density 2 x is 0 and 2 at the edges, and a cut off exponential of rate 2 ---- */

enum { ROWS = 2000 };

static double beta_quantile(double u)
{
    return sqrt(u);
}
static double beta_density(double x)
{
    return 2 * x;
}
static double cut_quantile(double u)
{
    return -log1p(u * expm1(-2)) / 2;
}
static double cut_density(double x)
{
    return 2 * exp(-2 * x) / -expm1(-2);
}

/* Kullback-Leibler divergence of the fitted density from the true one, whose quantiles are the data. */
static double divergence(bool free_ends, double (*quantile)(double), double (*density)(double), double edge[2])
{
    static nf_real x[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        x[i] = (nf_real)quantile(((double)i + 0.5) / ROWS);
    nf_spline_options q = unit;
    q.free_ends = free_ends;
    nf_model *m = model_of(1, &q, nf_invert(nf_spline(1, &q)));
    const nf_data data = {.n = ROWS, .dim = 1, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = ROWS});
    cr_assert_eq(
        nf_fit(o,
               &(nf_fit_options){.steps = 1500, .rate = 0.03, .schedule = {.kind = NF_COSINE, .from = 1}, .threads = 1},
               NULL),
        NF_OK, "%s", nf_error_message());
    double sum = 0;
    for (size_t i = 0; i < ROWS; i++)
        sum += (log(density((double)x[i])) - score(m, &x[i])) / ROWS;
    for (int end = 0; end < 2; end++) {
        const nf_real at = (nf_real)end;
        edge[end] = exp(score(m, &at));
    }
    nf_objective_free(o);
    nf_model_free(m);
    return sum;
}

Test(interval, edges_are_fitted, .disabled = NFLOW_THIN)
{
    for (int k = 0; k < 2; k++) {
        double (*const density)(double) = k ? cut_density : beta_density;
        double (*const quantile)(double) = k ? cut_quantile : beta_quantile;
        double fixed_edge[2], edge[2];
        const double fixed = divergence(false, quantile, density, fixed_edge);
        const double free_ends = divergence(true, quantile, density, edge);
        for (int end = 0; end < 2; end++) {
            cr_assert_float_eq(fixed_edge[end], 1, 1e3 * rounding); /* whatever the data */
            cr_assert_float_eq(edge[end], density(end), 0.06, "%d: %g, not %g", k, edge[end], density(end));
        }
        cr_assert_lt(free_ends, 2e-4, "%d: %g", k, free_ends);
        cr_assert_lt(free_ends, 0.2 * fixed, "%d: %g and %g", k, free_ends, fixed);
    }
}
