/* Mixture density networks: with a head that gives constants they are nf_mixture, at each context they are the mixture
   that the head says, draws included; far contexts, collapsed components, refusals; and an inverse problem, where the
   exact conditional density bounds every model, and no conditional normal comes near. */
#include "support/numbers.h"
#include "expect.h"
#include <criterion/criterion.h>
#include <gsl/gsl_cdf.h>
#include <nflow/nflow.h>
#include <stdlib.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, largest = 3.4e38;
#else
static const double rounding = 2.3e-16, largest = 1.7e308;
#endif

enum { K = 3, CTX = 2 };

/* An affine head, or one with a hidden layer. */
static nf_net *head_of(size_t dim, bool hidden, nf_activation unit)
{
    return nf_mlp(CTX, K * (1 + 2 * dim), 0,
                  &(nf_mlp_options){.hidden = (size_t[]){8}, .n_hidden = hidden ? 1 : NF_NONE, .activation = unit});
}

static nf_model *model_of(nf_dist *q)
{
    nf_model *m = nf_model_of_dist(q, &(nf_model_options){.seed = 7});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* The sizes of an affine head's tensors: weights, then biases, which stand last. */
static nf_real *biases(nf_model *m, size_t dim)
{
    return nf_model_theta(m) + nf_model_shape(m)->n_params - K * (1 + 2 * dim);
}

/* ---- a head of constants ---- */

Test(conditional_mixture, of_constants_is_the_mixture)
{
    enum { N = 70 };
    for (size_t dim = 1; dim <= 3; dim++) {
        nf_model *shared = model_of(nf_mixture(dim, K));
        nf_model *m = model_of(nf_conditional_mixture(dim, K, head_of(dim, false, NF_TANH)));
        const size_t n = nf_model_shape(shared)->n_params, n_weights = nf_model_shape(m)->n_params - n;
        cr_assert_eq(nf_model_shape(m)->n_ctx, CTX);
        cr_assert_eq(n_weights, CTX * n);
        draw(3, n, 0.6, nf_model_theta(shared));
        memset(nf_model_theta(m), 0, n_weights * sizeof(nf_real));
        memcpy(biases(m, dim), nf_model_theta(shared), n * sizeof(nf_real));
        cr_assert_eq(nf_model_update(shared, NF_EVAL), NF_OK);
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        nf_real *ctx = normals(5, N * CTX, 1), *x = reals(N * dim), *y = reals(N * dim);
        double log_q[N], log_p[N];
        /* The noise of the mixture inside has other names, so draws are compared by their distribution, below. */
        cr_assert_eq(nf_sample(shared, NULL, &(nf_noise){.seed = 4}, N, NULL, x, log_q), NF_OK);
        cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, ctx, log_p), NF_OK);
        for (size_t i = 0; i < N; i++)
            cr_assert_float_eq(log_p[i], log_q[i], 100 * rounding * (1 + fabs(log_q[i])));
        /* gradients in biases are those in the mixture's parameters; in weights, moments of them with the context */
        const nf_data data[] = {{.n = N, .dim = dim, .x = x}, {.n = N, .dim = dim, .x = x, .n_ctx = CTX, .ctx = ctx}};
        nf_real *g = reals(n), *g_m = reals(nf_model_shape(m)->n_params);
        nf_objective *o = nf_maximum_likelihood(shared, &data[0], &(nf_likelihood_options){.batch = N});
        nf_objective *o_m = nf_maximum_likelihood(m, &data[1], &(nf_likelihood_options){.batch = N});
        cr_assert(o && o_m, "%s", nf_error_message());
        cr_assert_eq(nf_objective_gradient(o, NULL, 1, 0, NULL, g), NF_OK);
        cr_assert_eq(nf_objective_gradient(o_m, NULL, 1, 0, NULL, g_m), NF_OK);
        for (size_t i = 0; i < n; i++)
            cr_assert_float_eq(g_m[n_weights + i], g[i], 300 * rounding * (1 + fabs((double)g[i])), "%zu: %g, not %g",
                               i, (double)g_m[n_weights + i], (double)g[i]);
        nf_objective_free(o);
        nf_objective_free(o_m);
        nf_model_free(shared);
        nf_model_free(m);
        free(ctx), free(x), free(y), free(g), free(g_m);
    }
}

/* It begins where nf_mixture does: equal weights, scales of 1, means that differ. */
Test(conditional_mixture, starts_like_the_mixture)
{
    enum { DIM = 2, N = K * (1 + 2 * DIM) };
    nf_net *head = nf_mlp(CTX, N, 0, &(nf_mlp_options){.hidden = (size_t[]){8}, .n_hidden = 1, .last_scale = NF_ZERO});
    nf_model *m = model_of(nf_conditional_mixture(DIM, K, head));
    const nf_real *start = biases(m, DIM);
    for (size_t i = 0; i < N; i++) {
        const bool mean = i >= K && i < K + K * DIM;
        cr_assert(mean ? fabs((double)start[i]) > 1e-3 && fabs((double)start[i]) < 5 : start[i] == 0, "%zu: %g", i,
                  (double)start[i]);
    }
    cr_assert(fabs((double)(start[K] - start[K + DIM])) > 1e-2); /* else components would stay equal */
    nf_model_free(m);
}

/* ---- draws at a context: the distribution functions of the mixture that the head gives there ---- */

Test(conditional_mixture, draws_follow_the_context)
{
    enum { N = 20000, DIM = 2, P = K * (1 + 2 * DIM) };
    nf_net *head = head_of(DIM, true, NF_TANH);
    nf_model *net = nf_model_of_net(nf_net_ref(head), NULL);
    nf_model *m = model_of(nf_conditional_mixture(DIM, K, head));
    cr_assert_not_null(net, "%s", nf_error_message());
    const size_t n_params = nf_model_shape(m)->n_params;
    cr_assert_eq(nf_model_shape(net)->n_params, n_params);
    draw(23, n_params, 0.7, nf_model_theta(m));
    memcpy(nf_model_theta(net), nf_model_theta(m), n_params * sizeof(nf_real));
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_eq(nf_model_update(net, NF_EVAL), NF_OK);
    static nf_real ctx[N * CTX], x[N * DIM];
    static double u[N];
    const nf_real at[2][CTX] = {{NF_R(0.4), NF_R(-1.1)}, {NF_R(-1.7), NF_R(0.2)}};
    nf_real theta[2][P];
    cr_assert_eq(nf_evaluate(net, NULL, NULL, 2, at[0], NULL, theta[0]), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < N * CTX; i++) /* the two contexts in turn, so that neighbours differ */
        ctx[i] = at[i / CTX % 2][i % CTX];
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 9}, N, ctx, x, NULL), NF_OK);
    for (size_t c = 0; c < 2; c++)
        for (size_t d = 0; d < DIM; d++) {
            double all = 0, worst = 0;
            size_t below[101] = {0};
            for (size_t k = 0; k < K; k++)
                all += exp((double)theta[c][k]);
            for (size_t i = c; i < N; i += 2) {
                u[i] = 0;
                for (size_t k = 0; k < K; k++)
                    u[i] += exp((double)theta[c][k]) / all *
                            gsl_cdf_ugaussian_P(((double)x[i * DIM + d] - (double)theta[c][K + k * DIM + d]) *
                                                exp(-(double)theta[c][K + (K + k) * DIM + d]));
                for (size_t level = 0; level <= 100; level++)
                    below[level] += u[i] < (double)level / 100;
            }
            for (size_t level = 0; level <= 100; level++)
                worst = fmax(worst, fabs((double)below[level] / (N / 2) - (double)level / 100));
            cr_assert_lt(worst * sqrt(N / 2.), 2.2, "context %zu, dimension %zu: Kolmogorov-Smirnov %g", c, d,
                         worst * sqrt(N / 2.));
        }
    nf_model_free(m);
    nf_model_free(net);
}

/* ---- extremes ---- */

/* Far contexts, also infinite ones: log-densities are numbers or -infinity, and draws are no NaN. */
Test(conditional_mixture, far_contexts)
{
    const double sizes[] = {1e3, 1e10, 1e30, 0.01 * largest, largest, INFINITY};
    const nf_activation units[] = {NF_TANH, NF_RELU};
    for (size_t dim = 1; dim <= 3; dim += 2)
        for (int unit = 0; unit < 3; unit++) {
            nf_model *m = model_of(nf_conditional_mixture(dim, K, head_of(dim, unit < 2, units[unit % 2])));
            for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
                for (int sign = 0; sign < 4; sign++) {
                    const nf_real ctx[CTX] = {(nf_real)(sign & 1 ? -sizes[k] : sizes[k]),
                                              (nf_real)(sign & 2 ? -sizes[k] : sizes[k])};
                    nf_real x[3] = {NF_R(0.3), NF_R(-1.7), NF_R(2.9)};
                    double log_p;
                    cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, x, ctx, &log_p), NF_OK);
                    cr_assert(!isnan(log_p) && log_p < INFINITY, "unit %d at %g: %g", unit, sizes[k], log_p);
                    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 2}, 1, ctx, x, &log_p), NF_OK);
                    for (size_t d = 0; d < dim; d++)
                        cr_assert(!isnan(x[d]), "unit %d at %g", unit, sizes[k]);
                    cr_assert(!isnan(log_p), "unit %d at %g: a draw's log q is %g", unit, sizes[k], log_p);
                }
            nf_model_free(m);
        }
}

/* A component that has collapsed far from the row has no responsibility: the density is that of the others, and the
   gradients are finite, though (x - m) exp(-s) is infinite. One that has collapsed on the row has the density e^-s. */
Test(conditional_mixture, collapsed_components)
{
    enum { N = 3 };
    nf_model *m = model_of(nf_conditional_mixture(1, K, head_of(1, false, NF_TANH)));
    const size_t n = nf_model_shape(m)->n_params;
    memset(nf_model_theta(m), 0, n * sizeof(nf_real));
    nf_real *b = biases(m, 1);
    b[K] = NF_R(1.5), b[K + 1] = -1, b[K + 2] = -1, b[2 * K] = sizeof(nf_real) == 8 ? -1500 : -1490;
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    const nf_real x[N] = {NF_R(-0.2), NF_R(0.9), NF_R(1.5)}, ctx[N * CTX] = {NF_R(0.3), 2, 1, 1, NF_R(-0.4), 0};
    double log_p[N];
    cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, ctx, log_p), NF_OK);
    const double half_log_2pi = 0.5 * log(2 * M_PI);
    for (int i = 0; i < 2; i++)
        cr_assert_float_eq(log_p[i], log(2 / 3.) - half_log_2pi - 0.5 * pow((double)x[i] + 1, 2), 10 * rounding);
    cr_assert_float_eq(log_p[2], -(double)b[2 * K] - half_log_2pi - log(3), 1e-10 * fabs((double)b[2 * K]));
    const nf_data data = {.n = 2, .dim = 1, .x = x, .n_ctx = CTX, .ctx = ctx};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 2});
    nf_real *g = reals(n);
    nf_step_report r;
    cr_assert_eq(nf_objective_gradient(o, NULL, 1, 0, &r, g), NF_OK, "%s", nf_error_message());
    cr_assert(r.failed == 0 && all_finite(n, g));
    const nf_real *g_b = g + n - 3 * K; /* logits: the loss is -log, w is 1/3 each, r is 0, 1/2, 1/2 */
    cr_assert_float_eq(g_b[0], 1 / 3., 10 * rounding);
    cr_assert_float_eq(g_b[1], 1 / 3. - 0.5, 10 * rounding);
    cr_assert(g_b[K] == 0 && g_b[2 * K] == 0);
    cr_assert_float_eq(g_b[K + 1], -0.5 * ((double)x[0] + (double)x[1] + 2) / 2, 10 * rounding);
    nf_objective_free(o);
    free(g);
    nf_model_free(m);
}

/* ---- refusals ---- */

Test(conditional_mixture, refuses_what_does_not_fit)
{
    expect_none(nf_conditional_mixture(2, K, head_of(1, true, NF_TANH)), NF_EDIM,
                "9 features, but the distribution has 15");
    expect_none(nf_conditional_mixture(0, K, head_of(1, true, NF_TANH)), NF_EARG, "nf_mixture");
    expect_none(nf_conditional_mixture(1, 0, head_of(1, true, NF_TANH)), NF_EARG, "nf_mixture");
    expect_none(nf_conditional_mixture(1, 2, nf_mlp(0, 6, 3, NULL)), NF_EDIM, "takes 0 features");
    expect_none(nf_conditional_mixture(1, 2, nf_mlp(2, 6, 3, NULL)), NF_EDIM, "3 of context");
    expect_none(nf_conditional_mixture(1, 2, nf_mlp(0, 0, 0, NULL)), NF_EARG, "nf_mlp");
    expect_none(nf_amortized_dist(nf_normal(2), head_of(1, true, NF_TANH)), NF_EARG, "no parameters");
    expect_none(nf_amortized_dist(nf_student_t(2, &(nf_student_t_options){.learn = true}), nf_mlp(1, 2, 0, NULL)),
                NF_EUNSUPPORTED, "NF_PER_SAMPLE");
    expect_none(nf_amortized_dist(nf_pushforward(nf_normal(2), nf_lu_linear(2, 1)), nf_mlp(1, 8, 0, NULL)),
                NF_EUNSUPPORTED, "NF_PER_SAMPLE");
    expect_none(nf_amortized_dist(nf_pushforward(nf_mixture(1, 2), nf_amortized_by_context(nf_affine(1))),
                                  nf_mlp(1, 6, 0, NULL)),
                NF_EUNSUPPORTED, "NF_PER_SAMPLE");
}

/* Random components have no reparameterised gradient, here as in nf_mixture. */
Test(conditional_mixture, no_gradient_through_a_random_choice)
{
    nf_model *q = model_of(nf_conditional_mixture(1, K, head_of(1, true, NF_TANH)));
    nf_workspace *ws = nf_workspace_new(1);
    const nf_real rows[2 * CTX] = {NF_R(0.1), NF_R(-0.2), NF_R(0.3), NF_R(0.7)};
    nf_real z[2], g_rows[2 * CTX];
    double log_q[2];
    const nf_posterior_rows in = {.n = 2, .mean = rows, .log_scale = rows, .z = z, .log_q = log_q};
    const nf_posterior_gradients out = {.n = 2, .gz = z, .g_log_q = log_q, .g_mean = g_rows, .g_log_scale = g_rows};
    cr_assert_eq(nf_posterior_forward(q, ws, NF_TRAIN, &(nf_noise){.seed = 1}, &in), NF_OK, "%s", nf_error_message());
    expect(nf_posterior_backward(q, ws, &out), NF_EUNSUPPORTED, "at random");
    nf_workspace_free(ws);
    nf_model_free(q);
}

/* ---- the inverse problem of Bishop's report: x = y + 0.3 sin(2 pi y) + noise, and y is wanted given x ---- */

enum { ROWS = 4000, CELLS = 400 };
static const double noise_sd = 0.05;

static double image(double y)
{
    return y + 0.3 * sin(2 * M_PI * y);
}

static double normal_density(double z, double sd)
{
    return exp(-0.5 * z * z / (sd * sd)) / (sd * sqrt(2 * M_PI));
}

/* Means over x of the log density of y: of the exact conditional density, which no model exceeds, and of the normal
   with the exact mean and variance at each x, which no conditional normal exceeds. By the midpoint rule in x and y. */
static void bounds(double *exact, double *normal)
{
    *exact = *normal = 0;
    for (size_t i = 0; i < CELLS * 4; i++) {
        const double dx = 1.8 / (CELLS * 4), x = -0.4 + dx * ((double)i + 0.5);
        double all = 0, mean = 0, square = 0, entropy = 0;
        for (size_t j = 0; j < CELLS; j++) {
            const double y = ((double)j + 0.5) / CELLS, p = normal_density(x - image(y), noise_sd) / CELLS;
            all += p;
            mean += p * y;
            square += p * y * y;
            entropy += p > 0 ? p * log(p * CELLS) : 0;
        }
        if (all < 1e-12)
            continue;
        const double variance = square / all - mean / all * mean / all;
        *exact += dx * (entropy - all * log(all));
        *normal -= dx * all * 0.5 * log(2 * M_PI * M_E * variance);
    }
}

static void make_rows(uint64_t seed, nf_real *x, nf_real *y)
{
    nf_noise_uniform(&(nf_noise){.seed = seed}, ROWS, 1, 1, y);
    draw(seed + 1, ROWS, noise_sd, x);
    for (size_t i = 0; i < ROWS; i++)
        x[i] += (nf_real)image((double)y[i]);
}

/* The mean log density of fresh rows after a fit. */
static double fitted(nf_dist *q)
{
    static nf_real x[ROWS], y[ROWS], fresh_x[ROWS], fresh_y[ROWS];
    static double log_p[ROWS];
    make_rows(11, x, y);
    make_rows(21, fresh_x, fresh_y);
    nf_model *m = model_of(q);
    const nf_data data = {.n = ROWS, .dim = 1, .x = y, .n_ctx = 1, .ctx = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 250});
    cr_assert_not_null(o, "%s", nf_error_message());
    const nf_fit_options fit = {.steps = 3000, .rate = 0.01, .schedule = {.kind = NF_COSINE, .from = 1}, .threads = 1};
    cr_assert_eq(nf_fit(o, &fit, NULL), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_log_prob(m, NULL, NULL, ROWS, fresh_y, fresh_x, log_p), NF_OK);
    double sum = 0;
    for (size_t i = 0; i < ROWS; i++)
        sum += log_p[i] / ROWS;
    nf_objective_free(o);
    nf_model_free(m);
    return sum;
}

static nf_net *smooth_head(size_t out)
{
    return nf_mlp(
        1, out, 0,
        &(nf_mlp_options){.hidden = (size_t[]){24, 24}, .n_hidden = 2, .activation = NF_TANH, .last_scale = 0.1});
}

Test(conditional_mixture, inverse_problem, .disabled = NFLOW_THIN)
{
    double exact, best_normal;
    bounds(&exact, &best_normal);
    cr_assert_gt(exact, best_normal + 0.5, "%g and %g", exact, best_normal);
    const double mixture = fitted(nf_conditional_mixture(1, 5, smooth_head(15)));
    const double normal = fitted(nf_conditional_normal(1, smooth_head(2)));
    const double error = 4 / sqrt(ROWS); /* log densities vary by less than 1 */
    cr_assert_lt(normal, best_normal + error, "%g, but %g is the most", normal, best_normal);
    cr_assert_lt(mixture, exact + error, "%g, but %g is the most", mixture, exact);
    cr_assert_gt(mixture, exact - 0.12, "%g of %g", mixture, exact);
    cr_assert_gt(mixture, best_normal + 0.4, "%g, and normals have %g", mixture, best_normal);
}
