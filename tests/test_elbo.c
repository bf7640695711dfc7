/* The ELBO: closed forms, gradients with the noise held, weights, rejected draws, serial and thread-safe targets. */
#include "fail_step.h"
#include "objective_fixture.h"
#include <pthread.h>

/* ---- targets ---- */

/* N(mean, P^-1) in two dimensions, normalised; draws with x0 > limit are rejected, gradients NaN beyond `broken`, log
   densities beyond `nowhere`. */
typedef struct gauss {
    double mean[2], precision[2][2], limit, broken, nowhere;
    pthread_t caller;
    int calls, strangers;
    size_t last_n;
} gauss;

static const gauss bent = {
    .mean = {0.31, -0.74}, .precision = {{2.1, -0.6}, {-0.6, 1.3}}, .limit = 1e9, .broken = 1e9, .nowhere = 1e9};

static int gauss_batch(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                       unsigned char *rejected)
{
    const gauss *t = user;
    const double(*p)[2] = t->precision;
    double constant = -log(2 * acos(-1)) + 0.5 * log(p[0][0] * p[1][1] - p[0][1] * p[1][0]);
    for (size_t i = 0; i < n; i++) {
        double u = x[i * d] - t->mean[0], v = x[i * d + 1] - t->mean[1];
        double gu = -p[0][0] * u - p[0][1] * v, gv = -p[1][0] * u - p[1][1] * v;
        log_p[i] = constant + 0.5 * (u * gu + v * gv);
        if (grad) {
            grad[i * d] = gu;
            grad[i * d + 1] = x[i * d] > t->broken ? NAN : gv;
        }
        rejected[i] = x[i * d] > t->limit;
        if (rejected[i] || x[i * d] > t->nowhere) /* rejected: what stands here must not matter */
            log_p[i] = NAN;
    }
    return 0;
}

/* The same, watching who calls. */
static int gauss_serial(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                        unsigned char *rejected)
{
    gauss *t = user;
    t->calls++;
    t->last_n = n;
    t->strangers += !pthread_equal(t->caller, pthread_self());
    return gauss_batch(user, n, d, x, log_p, grad, rejected);
}

/* ---- models ---- */

static nf_model *layered(void)
{
    nf_flow *f[] = {nf_planar(2), nf_affine(2), nf_radial(2), nf_lu_linear(2, 17), nf_planar(2)};
    return stir(nf_model_of_dist(nf_pushforward(nf_diagonal_normal(2), nf_chain(f, 5)), &(nf_model_options){.seed = 7}),
                0.37);
}

/* ---- closed forms ---- */

/* KL(N(0, diag(1, 2)) || N(0, [[1, 1], [1, 2]])) = (tr(P S) - 2 + log det ratio) / 2 = (2 - log 2) / 2. */
Test(elbo, divergence_of_two_gaussians)
{
    gauss g = {.precision = {{2, -1}, {-1, 1}}, .limit = 1e9, .broken = 1e9, .nowhere = 1e9};
    nf_target *t = nf_target_callback(2, gauss_batch, &g, NF_THREADSAFE);
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    const nf_real theta[] = {0, 0, 0, (nf_real)(0.5 * log(2))};
    memcpy(nf_model_theta(m), theta, sizeof theta);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 5000});
    enum { BATCHES = 24 };
    double sum = 0, squares = 0;
    for (uint64_t k = 0; k < BATCHES; k++) {
        double loss = value(o, 20177, k).loss;
        sum += loss / BATCHES;
        squares += loss * loss / BATCHES;
    }
    double error = sqrt((squares - sum * sum) / (BATCHES - 1));
    cr_assert(error > 0 && error < 0.01, "%g", error);
    cr_assert_float_eq(sum, (2 - log(2)) / 2, 4.5 * error, "%g +- %g", sum, error);
    nf_objective_free(o);
    nf_model_free(m);
    nf_target_free(t);
}

/* q = p: the loss is 0 at every draw, and the ELBO of a target 0.37 higher is 0.37. */
Test(elbo, no_divergence_from_itself)
{
    gauss g = {.mean = {0.4, -1.7}, .precision = {{4, 0}, {0, 0.25}}, .limit = 1e9, .broken = 1e9, .nowhere = 1e9};
    nf_target *t = nf_target_callback(2, gauss_batch, &g, NF_THREADSAFE);
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    const nf_real theta[] = {NF_R(0.4), NF_R(-1.7), (nf_real)log(0.5), (nf_real)log(2)};
    memcpy(nf_model_theta(m), theta, sizeof theta);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    nf_objective *o = nf_elbo(m, t, NULL);
    cr_assert_eq(nf_objective_batch(o), 100);
    nf_step_report r = value(o, 3, 5);
    cr_assert_float_eq(r.loss, 0, 4 * rounding);
    cr_assert_eq(r.n, 100);
    cr_assert_float_eq(r.term[0], r.term[1], 4 * rounding);
    cr_assert(r.term[0] < -1);
    cr_assert_float_eq(r.worst_log_det, 0, rounding, "log(2) - log(2)");
    cr_assert_str_eq(nf_objective_table(o)->terms[0], "log_q");
    cr_assert_str_eq(nf_objective_table(o)->terms[1], "log_p");
    nf_objective_free(o);
    nf_model_free(m);
    nf_target_free(t);
}

/* ---- against the library's own sampler ---- */

Test(elbo, mean_over_accepted_draws_with_weights)
{
    enum { N = 333 };
    static nf_real x[N * 2];
    static double log_q[N], points[N * 2], log_p[N];
    static unsigned char rejected[N];
    gauss g = bent;
    g.limit = 0.5;
    nf_model *m = layered();
    for (int serial = 0; serial < 2; serial++) {
        nf_target *t = nf_target_callback(2, gauss_batch, &g, serial ? NF_SERIAL : NF_THREADSAFE);
        nf_elbo_options options = {.draws = N,
                                   .joint = {.kind = NF_LINEAR, .from = 0.2, .to = 1, .steps = 10},
                                   .kl = {.kind = NF_STAIRS, .from = 0.9, .to = 0.5, .steps = 3}};
        nf_objective *o = nf_elbo(m, t, &options);
        for (uint64_t step = 0; step < 8; step += 7) {
            nf_noise noise = {.seed = 99, .step = step};
            cr_assert_eq(nf_sample(m, NULL, &noise, N, NULL, x, log_q), NF_OK);
            for (size_t i = 0; i < N * 2; i++)
                points[i] = (double)x[i];
            cr_assert_eq(nf_target_eval(t, N, points, log_p, NULL, rejected), NF_OK);
            double q = 0, p = 0, count = 0;
            for (size_t i = 0; i < N; i++)
                if (!rejected[i]) {
                    q += log_q[i];
                    p += log_p[i];
                    count++;
                }
            cr_assert(count > 30 && count < N - 30);
            nf_step_report r = value(o, 99, step);
            cr_assert_eq(r.rejected, N - (size_t)count);
            cr_assert_float_eq(r.term[0], q / count, 30 * rounding);
            cr_assert_float_eq(r.term[1], p / count, 30 * rounding);
            double weight = step ? 0.225 : 0.9, beta = step ? 0.76 : 0.2;
            cr_assert_float_eq(r.term[2], log(count / N), rounding);
            cr_assert_float_eq(r.loss, (weight * q - beta * p) / count - weight * log(count / N), 30 * rounding);
        }
        nf_objective_free(o);
        nf_target_free(t);
    }
    nf_model_free(m);
}

/* ---- gradients ---- */

Test(elbo, gradient_with_the_noise_held)
{
    gauss g = bent;
    const nf_elbo_options options[] = {{.draws = 37},
                                       {.draws = 211,
                                        .joint = {.kind = NF_CONSTANT, .from = 0.43},
                                        .kl = {.kind = NF_LINEAR, .from = 0.1, .to = 0.9, .steps = 8}}};
    for (int serial = 0; serial < 2; serial++)
        for (int k = 0; k < 2; k++) {
            nf_model *m = layered();
            nf_target *t = nf_target_callback(2, gauss_batch, &g, serial ? NF_SERIAL : NF_THREADSAFE);
            nf_objective *o = nf_elbo(m, t, &options[k]);
            check_gradient(m, o);
            nf_objective_free(o);
            nf_target_free(t);
            nf_model_free(m);
        }
}

/* With rejected draws the gradient is that of the mean over accepted ones (whose number a small step leaves alone). */
Test(elbo, gradient_past_rejected_draws)
{
    gauss g = bent;
    g.limit = 0.5;
    nf_model *m = layered();
    nf_target *t = nf_target_callback(2, gauss_batch, &g, NF_THREADSAFE);
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 24});
    size_t rejected = value(o, 41, 5).rejected;
    cr_assert(rejected > 1 && rejected < 20, "%zu", rejected);
    check_gradient(m, o);
    nf_objective_free(o);
    nf_target_free(t);
    nf_model_free(m);
}

/* Gradients by finite differences of the target fit as well. */
Test(elbo, target_without_gradient)
{
    gauss g = bent;
    nf_model *m = layered();
    nf_target *exact = nf_target_callback(2, gauss_batch, &g, NF_THREADSAFE);
    nf_target *rough = nf_target_finite_difference(2, gauss_batch, &g, NF_THREADSAFE, 0);
    nf_objective *o[] = {nf_elbo(m, exact, NULL), nf_elbo(m, rough, NULL)};
    size_t n = nf_model_shape(m)->n_params;
    nf_real *gradient[2];
    for (int k = 0; k < 2; k++) {
        gradient[k] = calloc(n, sizeof **gradient);
        cr_assert_eq(nf_objective_gradient(o[k], NULL, 8, 0, NULL, gradient[k]), NF_OK);
    }
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq(gradient[0][i], gradient[1][i], 1e-7 + 30 * rounding);
    for (int k = 0; k < 2; k++) {
        free(gradient[k]);
        nf_objective_free(o[k]);
    }
    nf_target_free(exact);
    nf_target_free(rough);
    nf_model_free(m);
}

/* ---- bits ---- */

Test(elbo, same_bits_for_all_thread_counts_and_both_rules)
{
    const size_t threads[] = {1, 2, 3, 8}, draws[] = {1, 100, 1003};
    nf_model *m = layered();
    size_t n = nf_model_shape(m)->n_params;
    nf_real *first = calloc(n, sizeof *first), *g = calloc(n, sizeof *g);
    for (size_t k = 0; k < 3; k++) {
        nf_step_report wanted = {0}, r;
        for (int serial = 0; serial < 2; serial++) {
            gauss target = bent;
            target.limit = draws[k] > 1 ? 0.9 : 1e9;
            target.caller = pthread_self();
            nf_target *t = serial ? nf_target_callback(2, gauss_serial, &target, NF_SERIAL)
                                  : nf_target_callback(2, gauss_batch, &target, NF_THREADSAFE);
            nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = draws[k]});
            for (int i = 0; i < 4; i++) {
                nf_workspace *ws = nf_workspace_new(threads[i]);
                for (int again = 0; again < 2; again++) { /* a used workspace is as good as a new one */
                    memset(&r, 0, sizeof r);
                    cr_assert_eq(nf_objective_gradient(o, ws, 12, 3, &r, g), NF_OK);
                    if (!serial && i == 0 && again == 0) {
                        wanted = r;
                        memcpy(first, g, n * sizeof *g);
                    }
                    cr_assert_arr_eq(g, first, n * sizeof *g, "%zu draws, %zu threads", draws[k], threads[i]);
                    cr_assert_arr_eq(&r, &wanted, sizeof r);
                }
                cr_assert_eq(nf_objective_value(o, ws, 12, 3, &r), NF_OK);
                cr_assert_eq(r.loss, wanted.loss);
                nf_workspace_free(ws);
            }
            cr_assert_eq(target.strangers, 0, "a serial target is called from the calling thread alone");
            if (serial) {
                cr_assert_eq(target.calls, 4 * 3, "once a step");
                cr_assert_eq(target.last_n, draws[k]);
            }
            nf_objective_free(o);
            nf_target_free(t);
        }
        cr_assert(draws[k] < 100 || wanted.rejected > 5);
    }
    free(first);
    free(g);
    nf_model_free(m);
}

Test(elbo, steps_and_seeds_differ)
{
    gauss g = bent;
    nf_model *m = layered();
    nf_target *t = nf_target_callback(2, gauss_batch, &g, NF_THREADSAFE);
    nf_objective *o = nf_elbo(m, t, NULL);
    cr_assert_neq(value(o, 1, 0).loss, value(o, 1, 1).loss);
    cr_assert_neq(value(o, 1, 0).loss, value(o, 2, 0).loss);
    cr_assert_eq(value(o, 1, 0).loss, value(o, 1, 0).loss);
    nf_objective_free(o);
    nf_target_free(t);
    nf_model_free(m);
}

/* ---- posteriors ---- */

/* k successes of n under a uniform prior, u = logit p: log p(u) = (k + 1) log s(u) + (n - k + 1) log s(-u). */
static int beta_bernoulli(void *user, size_t d, const double *u, double *log_p, double *grad)
{
    const double *k = user, n = 10;
    (void)d;
    double s = 1 / (1 + exp(-*u));
    *log_p = -(*k + 1) * log1p(exp(-*u)) - (n - *k + 1) * log1p(exp(*u));
    if (grad)
        *grad = (*k + 1) * (1 - s) - (n - *k + 1) * s;
    return 0;
}

Test(elbo, beta_bernoulli_posterior_means)
{
    enum { N = 40000 };
    static nf_real u[N];
    const double successes[] = {8, 4}, mean[] = {0.75, 5.0 / 12};
    for (int c = 0; c < 2; c++) {
        double k = successes[c];
        nf_flow *f[] = {nf_planar(1), nf_planar(1), nf_affine(1)};
        nf_target *t = nf_target_point_callback(1, beta_bernoulli, &k, NF_THREADSAFE);
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(1), nf_chain(f, 3)), &(nf_model_options){.seed = 5});
        nf_objective *o = nf_elbo(m, t, NULL), *sure = nf_elbo(m, t, &(nf_elbo_options){.draws = N});
        nf_fit_options options = {.steps = 2500, .seed = 23, .rate = 0.02, .threads = 2};
        options.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .steps = 2500};
        cr_assert_eq(nf_fit(o, &options, NULL), NF_OK, "%s", nf_error_message());
        double log_z = lgamma(k + 1) + lgamma(11 - k) - lgamma(12), elbo = -value(sure, 1234, 0).loss;
        cr_assert(elbo > log_z - 0.01 && elbo < log_z + 0.002, "%g, evidence %g", elbo, log_z);
        nf_noise noise = {.seed = 77};
        cr_assert_eq(nf_sample(m, NULL, &noise, N, NULL, u, NULL), NF_OK);
        double sum = 0;
        for (size_t i = 0; i < N; i++)
            sum += 1 / (1 + exp(-(double)u[i]));
        cr_assert_float_eq(sum / N, mean[c], 0.006, "%g, not %g", sum / N, mean[c]);
        nf_objective_free(o);
        nf_objective_free(sure);
        nf_model_free(m);
        nf_target_free(t);
    }
}

/* Linear regression y = A w + e, e ~ N(0, s^2), w ~ N(0, I): the posterior is N(P^-1 b, P^-1), P = I + A'A/s^2,
   b = A'y/s^2, and log evidence = log N(y; A w, s^2) + log N(w; 0, I) - log N(w; posterior) at any w. */
enum { ROWS = 12, WEIGHTS = 3 };
typedef struct regression {
    double a[ROWS][WEIGHTS], y[ROWS], p[WEIGHTS][WEIGHTS], b[WEIGHTS], mean[WEIGHTS], log_evidence;
} regression;
static const double deviation = 0.6;

static int regression_point(void *user, size_t d, const double *w, double *log_p, double *grad)
{
    const regression *r = user;
    double quadratic = 0;
    for (size_t j = 0; j < d; j++) {
        quadratic += w[j] * w[j];
        if (grad)
            grad[j] = -w[j];
    }
    for (size_t i = 0; i < ROWS; i++) {
        double e = r->y[i];
        for (size_t j = 0; j < d; j++)
            e -= r->a[i][j] * w[j];
        quadratic += e * e / deviation / deviation;
        for (size_t j = 0; grad && j < d; j++)
            grad[j] += r->a[i][j] * e / deviation / deviation;
    }
    *log_p = -0.5 * quadratic - 0.5 * (ROWS + WEIGHTS) * log(2 * acos(-1)) - ROWS * log(deviation);
    return 0;
}

static regression make_regression(void)
{
    regression r = {0};
    for (size_t i = 0; i < ROWS; i++) {
        double t = (double)i;
        r.a[i][0] = 1;
        r.a[i][1] = 0.8 * sin(1.3 * t) + 0.5;
        r.a[i][2] = r.a[i][1] * 0.7 + 0.6 * cos(2.9 * t);
        r.y[i] = 0.4 - 1.1 * r.a[i][1] + 0.8 * r.a[i][2] + 0.5 * sin(7.7 * t);
    }
    for (size_t j = 0; j < WEIGHTS; j++)
        for (size_t i = 0; i < ROWS; i++) {
            r.b[j] += r.a[i][j] * r.y[i] / deviation / deviation;
            for (size_t k = 0; k < WEIGHTS; k++)
                r.p[j][k] += r.a[i][j] * r.a[i][k] / deviation / deviation + (i == 0 && j == k);
        }
    /* Gaussian elimination of P mean = b; the pivots' product is det P */
    double u[WEIGHTS][WEIGHTS + 1], log_det = 0;
    for (size_t j = 0; j < WEIGHTS; j++) {
        memcpy(u[j], r.p[j], sizeof r.p[j]);
        u[j][WEIGHTS] = r.b[j];
    }
    for (size_t j = 0; j < WEIGHTS; j++) {
        log_det += log(u[j][j]);
        for (size_t i = j + 1; i < WEIGHTS; i++)
            for (size_t k = WEIGHTS + 1; k-- > j;)
                u[i][k] -= u[i][j] / u[j][j] * u[j][k];
    }
    for (size_t j = WEIGHTS; j-- > 0;) {
        r.mean[j] = u[j][WEIGHTS];
        for (size_t k = j + 1; k < WEIGHTS; k++)
            r.mean[j] -= u[j][k] * r.mean[k];
        r.mean[j] /= u[j][j];
    }
    regression_point(&r, WEIGHTS, r.mean, &r.log_evidence, NULL);
    r.log_evidence += 0.5 * WEIGHTS * log(2 * acos(-1)) - 0.5 * log_det;
    return r;
}

static double fitted_elbo(regression *r, nf_flow *flow, double *mean)
{
    enum { N = 20000 };
    static nf_real w[N * WEIGHTS];
    nf_target *t = nf_target_point_callback(WEIGHTS, regression_point, r, NF_THREADSAFE);
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(WEIGHTS), flow), NULL);
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 50});
    nf_objective *sure = nf_elbo(m, t, &(nf_elbo_options){.draws = N});
    nf_fit_options options = {.steps = 3000, .seed = 3, .rate = 0.03, .threads = 2};
    options.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .steps = 3000};
    cr_assert_eq(nf_fit(o, &options, NULL), NF_OK, "%s", nf_error_message());
    double elbo = -value(sure, 1234, 0).loss;
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 1}, N, NULL, w, NULL), NF_OK);
    for (size_t j = 0; j < WEIGHTS; j++) {
        mean[j] = 0;
        for (size_t i = 0; i < N; i++)
            mean[j] += (double)w[i * WEIGHTS + j] / N;
    }
    nf_objective_free(o);
    nf_objective_free(sure);
    nf_model_free(m);
    nf_target_free(t);
    return elbo;
}

Test(elbo, evidence_of_a_regression_bounds_it_and_is_attained)
{
    regression r = make_regression();
    double mean[WEIGHTS], full = fitted_elbo(&r, nf_lu_linear(WEIGHTS, 11), mean);
    cr_assert_float_eq(full, r.log_evidence, 2e-3, "%g, evidence %g", full, r.log_evidence);
    for (size_t j = 0; j < WEIGHTS; j++)
        cr_assert_float_eq(mean[j], r.mean[j], 0.02);
    /* independent weights fall short by log det(diag P) / det P / 2, which is what their best ELBO lacks */
    double log_det = log(r.p[0][0] * (r.p[1][1] * r.p[2][2] - r.p[1][2] * r.p[1][2]) -
                         r.p[0][1] * (r.p[0][1] * r.p[2][2] - r.p[1][2] * r.p[0][2]) +
                         r.p[0][2] * (r.p[0][1] * r.p[1][2] - r.p[1][1] * r.p[0][2]));
    double lack = 0.5 * (log(r.p[0][0] * r.p[1][1] * r.p[2][2]) - log_det);
    double apart = fitted_elbo(&r, nf_affine(WEIGHTS), mean);
    cr_assert_gt(lack, 0.1);
    cr_assert_float_eq(apart, r.log_evidence - lack, 0.03, "%g, not %g", apart, r.log_evidence - lack);
}

/* ---- numbers that are not finite ---- */

/* Draws without a finite gradient are left out as rejected ones are, and counted by another name. */
Test(elbo, broken_gradients_are_left_out)
{
    for (int serial = 0; serial < 2; serial++) {
        gauss g = bent;
        g.broken = 0.9;
        nf_model *m = layered();
        nf_target *t = nf_target_callback(2, gauss_batch, &g, serial ? NF_SERIAL : NF_THREADSAFE);
        nf_objective *o = nf_elbo(m, t, NULL);
        nf_real theta[64];
        nf_step_report r, failing;
        cr_assert_leq(nf_model_shape(m)->n_params, 64);
        cr_assert_eq(nf_objective_gradient(o, NULL, 4, 0, &failing, theta), NF_OK);
        cr_assert_eq(failing.rejected, 0);
        cr_assert(failing.failed > 0 && failing.failed < 100);
        g.limit = g.broken;
        cr_assert_eq(nf_objective_gradient(o, NULL, 4, 0, &r, theta), NF_OK);
        cr_assert(isfinite(r.loss) && isfinite(r.grad_norm));
        cr_assert_eq(r.rejected, failing.failed);
        cr_assert_eq(r.failed, 0);
        cr_assert_float_eq(failing.loss, r.loss + r.term[2], 10 * rounding * (1 + fabs(r.loss)));
        cr_assert_float_eq(failing.grad_norm, r.grad_norm, 30 * rounding * (1 + r.grad_norm));
        g.limit = -1e9;
        cr_assert_eq(nf_objective_gradient(o, NULL, 4, 0, &r, theta), NF_OK);
        cr_assert(isnan(r.loss));
        cr_assert_eq(r.rejected, 100);
        nf_objective_free(o);
        nf_target_free(t);
        nf_model_free(m);
    }
}

/* A fit whose target breaks after so many steps, for two steps and then for good; theta after each step. */
enum { PAUSE = 25, END = 40, BAD = 5, MOST = 64 };
typedef struct breaking {
    nf_model *m;
    double *where;
    nf_real theta[END + BAD + 1][MOST];
} breaking;

static int breaks(void *user, const nf_progress *p)
{
    breaking *b = user;
    bool broken = (p->step >= PAUSE && p->step < PAUSE + 2) || p->step >= END;
    *b->where = broken ? -1e9 : 1e9;
    memcpy(b->theta[p->step], nf_model_theta(b->m), nf_model_shape(b->m)->n_params * sizeof(nf_real));
    return 0;
}

static void ends_with_the_best(nf_thread_rule rule, bool in_gradient)
{
    gauss g = bent;
    breaking *b = calloc(1, sizeof *b);
    b->m = layered();
    b->where = in_gradient ? &g.broken : &g.nowhere;
    const size_t bytes = nf_model_shape(b->m)->n_params * sizeof(nf_real);
    cr_assert_leq(bytes, sizeof b->theta[0]);
    nf_target *t = nf_target_callback(2, gauss_batch, &g, rule);
    nf_objective *o = nf_elbo(b->m, t, NULL);
    nf_fit_options options = {.steps = 500, .rate = 0.01, .max_bad_steps = BAD, .validate_every = 10};
    options.callback = breaks;
    options.user = b;
    nf_fit_report r;
    const char *words = in_gradient ? "the last step 44" : "the last step 44 (elbo: log p is nan at (";
    expect(nf_fit(o, &options, &r), NF_ENOTFINITE, words);
    cr_assert_eq(r.reason, NF_STOP_NOTFINITE);
    cr_assert_eq(r.steps, END + BAD);
    cr_assert_eq(r.skipped, 2 + BAD);
    cr_assert_eq(in_gradient ? r.rejected : r.failed, 0);
    cr_assert_eq(r.warnings, NF_WARN_SKIPPED | (in_gradient ? NF_WARN_FAILED : NF_WARN_REJECTED | NF_WARN_SUPPORT));
    cr_assert_eq(in_gradient ? r.failed : r.rejected, 100 * (2 + BAD));
    cr_assert(isfinite(r.best) && isfinite(r.loss));
    cr_assert(r.best_step % 10 == 0 && r.best_step > 0 && r.best_step <= END, "step %d", (int)r.best_step);
    cr_assert_eq(memcmp(nf_model_theta(b->m), b->theta[r.best_step], bytes), 0);
    cr_assert_eq(memcmp(b->theta[PAUSE], b->theta[PAUSE + 2], bytes), 0);
    cr_assert_neq(memcmp(b->theta[PAUSE + 2], b->theta[PAUSE + 3], bytes), 0);
    *b->where = -1e9; /* from the first step: nothing moves */
    memcpy(b->theta[0], nf_model_theta(b->m), bytes);
    expect(nf_fit(o, &(nf_fit_options){.max_bad_steps = BAD}, &r), NF_ENOTFINITE, "nf_fit: 5 steps in a row");
    cr_assert(r.steps == BAD && r.skipped == BAD);
    cr_assert_eq(memcmp(nf_model_theta(b->m), b->theta[0], bytes), 0);
    nf_real x[2];
    double log_q;
    cr_assert_eq(nf_sample(b->m, NULL, &(nf_noise){.seed = 1}, 1, NULL, x, &log_q), NF_OK);
    cr_assert(isfinite(x[0]) && isfinite(x[1]) && isfinite(log_q));
    nf_objective_free(o);
    nf_target_free(t);
    nf_model_free(b->m);
    free(b);
}

Test(elbo, fits_end_with_the_best_where_the_target_is_no_number)
{
    for (int k = 0; k < 4; k++)
        ends_with_the_best(k % 2 ? NF_SERIAL : NF_THREADSAFE, k / 2);
}

/* ---- failures ---- */

static int refuses(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                   unsigned char *rejected)
{
    (void)user, (void)n, (void)d, (void)x, (void)log_p, (void)grad, (void)rejected;
    return 42;
}

Test(elbo, arguments)
{
    gauss g = bent;
    nf_target *t = nf_target_callback(2, gauss_batch, &g, NF_SERIAL);
    nf_target *three = nf_target_callback(3, gauss_batch, &g, NF_SERIAL);
    nf_model *m = layered(), *flow = nf_model_of_flow(nf_affine(2), NULL);
    nf_model *posterior = nf_model_of_dist(nf_diagonal_posterior(2), NULL);
    cr_assert_null(nf_elbo(NULL, t, NULL));
    expect(nf_error_status(), NF_EARG, "nf_elbo: `model` is NULL");
    cr_assert_null(nf_elbo(m, NULL, NULL));
    expect(nf_error_status(), NF_EARG, "nf_elbo: `target` is NULL");
    cr_assert_null(nf_elbo(m, three, NULL));
    expect(nf_error_status(), NF_EDIM, "the model has 2 dimensions, but the target 3");
    cr_assert_null(nf_elbo(flow, t, NULL));
    expect(nf_error_status(), NF_EARG, "`affine`, not of a distribution");
    cr_assert_null(nf_elbo(posterior, t, NULL));
    expect(nf_error_status(), NF_EDIM, "a context of 4 features");
    cr_assert_null(nf_elbo(m, t, &(nf_elbo_options){.joint = {.to = 0.5}}));
    expect(nf_error_status(), NF_EARG, "nf_elbo: `joint` goes from 0 to 0.5, but has no kind");
    cr_assert_null(nf_elbo(m, t, &(nf_elbo_options){.kl = {.kind = (nf_schedule_kind)9}}));
    expect(nf_error_status(), NF_EARG, "nf_elbo: `kl.kind` is 9");
    cr_assert_null(nf_elbo(m, t, &(nf_elbo_options){.draws = SIZE_MAX / 4}));
    expect(nf_error_status(), NF_ENOMEM, "");
    for (int serial = 0; serial < 2; serial++) {
        nf_target *bad = nf_target_callback(2, refuses, NULL, serial ? NF_SERIAL : NF_THREADSAFE);
        nf_objective *o = nf_elbo(m, bad, NULL);
        nf_step_report r;
        expect(nf_objective_value(o, NULL, 0, 0, &r), NF_ETARGET, "returned 42");
        expect(nf_fit(o, &(nf_fit_options){.steps = 3}, NULL), NF_ETARGET, "returned 42");
        nf_objective_free(o);
        nf_target_free(bad);
    }
    nf_model_free(m);
    nf_model_free(flow);
    nf_model_free(posterior);
    nf_target_free(t);
    nf_target_free(three);
}

static nf_objective *elbo_of(nf_model *m, const void *target)
{
    return nf_elbo(m, *(nf_target *const *)target, &(nf_elbo_options){.draws = 150});
}

Test(elbo, failing_allocations)
{
    gauss g = bent;
    nf_real gradient[64];
    for (int serial = 0; serial < 2; serial++) {
        nf_model *m = layered();
        nf_target *t = nf_target_callback(2, gauss_batch, &g, serial ? NF_SERIAL : NF_THREADSAFE);
        cr_assert_geq(fail_each_of_a_step(fail_alloc_after, elbo_of, m, &t, gradient), 4);
        nf_target_free(t);
        nf_model_free(m);
    }
}
