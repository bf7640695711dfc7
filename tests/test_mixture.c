/* Mixtures in an ELBO: components dealt in turn, weighted losses and gradients that are unbiased for any number of
   draws (against quadrature), gradients with the noise held, refusals, and the weights of a target found by a fit. */
#include "model/batch.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, radius = 2e-2, difference = 2e-2;
#else
static const double rounding = 2.3e-16, radius = 1e-5, difference = 1e-7;
#endif

static nf_model *with_theta(nf_dist *dist, const double *theta)
{
    nf_model *m = nf_model_of_dist(dist, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        nf_model_theta(m)[i] = (nf_real)theta[i];
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

/* Three components in one dimension, of weights about 0.12, 0.66, 0.22: logits, means, log-scales. */
enum { K = 3, P = 3 * K };
static const double three[P] = {-0.7, 1.03, -0.06, -1.9, 0.4, 2.3, -0.4, 0.1, -0.8};

static double log_q_of(const double *theta, double x)
{
    double sum = 0, all = 0;
    for (int k = 0; k < K; k++) {
        const double z = (x - theta[K + k]) * exp(-theta[2 * K + k]);
        all += exp(theta[k]);
        sum += exp(theta[k] - theta[2 * K + k] - 0.5 * z * z);
    }
    return log(sum / all) - log(sqrt(2 * M_PI));
}

/* A target that is nothing like a mixture. */
static int ridge(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)user;
    *log_p = 0;
    for (size_t k = 0; k < d; k++) {
        *log_p += sin(1.7 * x[k]) - 0.21 * x[k] * x[k];
        if (grad)
            grad[k] = 1.7 * cos(1.7 * x[k]) - 0.42 * x[k];
    }
    return 0;
}

static double ridge_at(double x)
{
    double log_p;
    ridge(NULL, 1, &x, &log_p, NULL);
    return log_p;
}

/* E_q[0.8 log q - 0.6 log p] by the trapezoidal rule, which is exact to rounding for such functions. */
static double exact_loss(const double *theta)
{
    double sum = 0;
    const double h = 0.01;
    for (double x = -14; x < 14; x += h) {
        const double log_q = log_q_of(theta, x);
        sum += h * exp(log_q) * (0.8 * log_q - 0.6 * ridge_at(x));
    }
    return sum;
}

static nf_elbo_options weighted(size_t draws)
{
    return (nf_elbo_options){
        .draws = draws, .joint = {.kind = NF_CONSTANT, .from = 0.6}, .kl = {.kind = NF_CONSTANT, .from = 0.8}};
}

/* ---- unbiased for any number of draws ---- */

Test(mixture, unbiased_losses_and_gradients)
{
    const size_t draws[] = {1, 2, 3, 4, 200};
    nf_model *m = with_theta(nf_mixture(1, K), three);
    nf_target *t = nf_target_point_callback(1, ridge, NULL, NF_THREADSAFE);
    for (size_t k = 0; k < 5; k++) {
        const size_t steps = k < 4 ? 40000 : 2000;
        const nf_elbo_options options = weighted(draws[k]);
        nf_objective *o = nf_elbo(m, t, &options);
        nf_workspace *ws = nf_workspace_new(1);
        double mean[P + 1] = {0}, square[P + 1] = {0};
        for (size_t step = 0; step < steps; step++) {
            nf_real g[P];
            nf_step_report r;
            cr_assert_eq(nf_objective_gradient(o, ws, 1701, step, &r, g), NF_OK, "%s", nf_error_message());
            for (size_t i = 0; i <= P; i++) {
                const double v = i < P ? (double)g[i] : r.loss;
                mean[i] += v / (double)steps;
                square[i] += v * v / (double)steps;
            }
        }
        for (size_t i = 0; i <= P; i++) {
            double theta[P], value[2], exact = exact_loss(three);
            for (int side = 0; side < 2 && i < P; side++) {
                memcpy(theta, three, sizeof theta);
                theta[i] += side ? 1e-5 : -1e-5;
                value[side] = exact_loss(theta);
            }
            if (i < P)
                exact = (value[1] - value[0]) / 2e-5;
            const double error = sqrt((square[i] - mean[i] * mean[i]) / (double)steps);
            cr_assert(error > 0 && error < 0.02, "%zu draws, %zu: standard error %g", draws[k], i, error);
            cr_assert_float_eq(mean[i], exact, 4.2 * error + 1e-8, "%zu draws, %s %zu: %g +- %g, but %g", draws[k],
                               i < P ? "gradient" : "loss", i, mean[i], error, exact);
        }
        nf_workspace_free(ws);
        nf_objective_free(o);
    }
    nf_target_free(t);
    nf_model_free(m);
}

/* ---- gradients with the noise held, through a flow, serial and not, with rejected draws ---- */

static int choosy(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    for (size_t i = 0; i < n; i++) {
        ridge(NULL, d, x + i * d, log_p + i, grad ? grad + i * d : NULL);
        rejected[i] = x[i * d] > *(const double *)user;
    }
    return 0;
}

Test(mixture, gradient_with_the_noise_held)
{
    enum { D = 2, N_THETA = 4 + 8 * D + 2 * D };
    double theta[N_THETA];
    for (size_t i = 0; i < N_THETA; i++)
        theta[i] = 0.7 * sin(2.39 * (double)i + 0.4);
    for (int k = 0; k < 4; k++) {
        const int serial = k % 2, all = k / 2; /* rejected draws within one tile, or none in several */
        nf_model *m = with_theta(nf_pushforward(nf_mixture(D, 4), nf_affine(D)), theta);
        double limit = all ? INFINITY : 1.9;
        nf_target *t = nf_target_callback(D, choosy, &limit, serial ? NF_SERIAL : NF_THREADSAFE);
        const nf_elbo_options options = weighted(all ? 203 : 61);
        nf_objective *o = nf_elbo(m, t, &options);
        nf_real g[N_THETA];
        nf_step_report r;
        cr_assert_eq(nf_objective_gradient(o, NULL, 41, 5, &r, g), NF_OK, "%s", nf_error_message());
        cr_assert(all ? r.rejected == 0 : r.rejected > 1 && r.rejected < 20, "%zu", r.rejected);
        cr_assert_float_eq(r.loss, 0.8 * (r.term[0] - r.term[2]) - 0.6 * r.term[1], 50 * rounding);
        for (size_t i = 0; i < N_THETA; i++) {
            double loss[2], at[2];
            const nf_real was = nf_model_theta(m)[i];
            for (int side = 0; side < 2; side++) {
                nf_model_theta(m)[i] = (nf_real)((double)was + (side ? radius : -radius));
                at[side] = (double)nf_model_theta(m)[i];
                cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
                cr_assert_eq(nf_objective_value(o, NULL, 41, 5, &r), NF_OK);
                loss[side] = r.loss;
            }
            nf_model_theta(m)[i] = was;
            const double central = (loss[1] - loss[0]) / (at[1] - at[0]);
            cr_assert_float_eq(g[i], central, difference * (1 + fabs(central)), "parameter %zu: %.9g, but %.9g", i,
                               (double)g[i], central);
        }
        nf_objective_free(o);
        nf_target_free(t);
        nf_model_free(m);
    }
}

/* ---- dealing ---- */

enum { D = 2, LD = 32 };

/* A tile of mixture samples whose components, far apart, can be told. */
static nf_pass far_apart(nf_model *m, nfi_thread *memory, uint64_t step, size_t first, size_t n)
{
    return nfi_model_pass(m, memory, &(nf_noise){.seed = 5, .step = step}, first, n, LD, NF_TRAIN, true);
}

static size_t component_of(const nf_real *x, size_t s)
{
    return (size_t)lround((double)x[s] / 100);
}

static const double apart[K + 2 * K * D] = {0.3, -1.1, 0.8, 0, 1, 100, 2, 200, 3, 0, 0, 0, 0, 0, 0};

/* In turn over the whole batch, tiles and first samples notwithstanding; weights K w; every component as often first.
 */
Test(mixture, components_in_turn)
{
    enum { STEPS = 3000 };
    nf_model *m = with_theta(nf_mixture(D, K), apart);
    nfi_thread memory = {.tape = {.n_chunks = 0}};
    size_t as_first[K] = {0};
    const double all = exp(0.3) + exp(-1.1) + exp(0.8);
    for (uint64_t step = 0; step < STEPS; step++) {
        size_t before = 0;
        for (size_t first = 0; first < 3 * 29; first += 29) {
            nf_pass p = far_apart(m, &memory, step, first, 29);
            nf_real x[D * LD];
            double log_q[LD] = {0}, log_weight[LD] = {0};
            void *saved = NULL;
            p.log_weight = log_weight;
            cr_assert_eq(nf_dist_sample(nf_model_object(m), &p, x, log_q, &saved), NF_OK);
            for (size_t s = 0; s < 29; s++) {
                const size_t k = component_of(x, s);
                if (first + s)
                    cr_assert_eq(k, (before + 1) % K, "sample %zu", first + s);
                else
                    as_first[k]++;
                before = k;
                cr_assert_float_eq(exp(log_weight[s]), K * exp(apart[k]) / all, 50 * rounding);
            }
            nfi_arena_clear(&memory.tape);
        }
    }
    for (size_t k = 0; k < K; k++)
        cr_assert_float_eq((double)as_first[k], STEPS / K, 4 * sqrt(STEPS * 2. / 9), "component %zu: %zu", k,
                           as_first[k]);
    nfi_arena_clear(&memory.scratch);
    nf_model_free(m);
}

/* nf_sample draws them by their weights, one independently of the next. */
Test(mixture, components_at_random)
{
    enum { N = 30000 };
    nf_model *m = with_theta(nf_mixture(D, K), apart);
    nf_real *x = calloc(N * D, sizeof *x);
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 3}, N, NULL, x, NULL), NF_OK);
    const double all = exp(0.3) + exp(-1.1) + exp(0.8);
    for (size_t k = 0; k < K; k++) {
        const double w = exp(apart[k]) / all;
        double count = 0, pairs = 0;
        for (size_t i = 0; i < N; i++) {
            const bool here = component_of(x + i * D, 0) == k;
            count += here;
            pairs += here && i + 1 < N && component_of(x + (i + 1) * D, 0) == k;
        }
        cr_assert_float_eq(count / N, w, 4 * sqrt(w * (1 - w) / N));
        cr_assert_float_eq(pairs / N, w * w, 4.5 * w * sqrt(3. / N));
    }
    free(x);
    nf_model_free(m);
}

/* ---- refusals ---- */

Test(mixture, no_gradient_through_random_components)
{
    nf_model *m = with_theta(nf_mixture(D, K), apart);
    nfi_thread memory = {.tape = {.n_chunks = 0}};
    nf_pass p = far_apart(m, &memory, 0, 0, 7);
    nf_real x[D * LD], gx[D * LD] = {0}, g[K + 2 * K * D] = {0}, g_log_q[LD] = {0}, prep[K] = {0};
    double log_q[LD] = {0};
    void *saved = NULL;
    cr_assert_eq(nf_dist_sample(nf_model_object(m), &p, x, log_q, &saved), NF_OK);
    const nf_grad grad = {.theta = g, .prep = prep};
    cr_assert_eq(nf_dist_sample_vjp(nf_model_object(m), &p, x, saved, gx, g_log_q, &grad), NF_EUNSUPPORTED);
    cr_assert_not_null(strstr(nf_error_message(), "at random"), "%s", nf_error_message());
    nfi_arena_clear(&memory.tape);
    nfi_arena_clear(&memory.scratch);
    nf_model_free(m);
}

/* A VAE's objective and the plug-in take plain draws; both say what is wrong. */
Test(mixture, not_in_a_vae)
{
    static const unsigned char pictures[4 * 6] = {0, 255, 0, 255, 255, 0, 255, 255, 0, 0, 0, 255,
                                                  9, 200, 0, 100, 255, 0, 0,   0,   0, 7, 0, 255};
    const nf_data data = {.n = 4, .dim = 6, .bytes = pictures};
    nf_dist *posterior = nf_pushforward(nf_mixture(2, 3), nf_amortized_by_context(nf_affine(2)));
    nf_model *q = nf_model_of_dist(nf_dist_ref(posterior), NULL);
    nf_model *m =
        nf_model_of_vae(nf_vae_new(nf_mlp(6, 4, 0, NULL), posterior, nf_mlp(2, 6, 0, NULL), NF_BERNOULLI), NULL);
    nf_objective *o = nf_vae_elbo(m, &data, NULL);
    cr_assert(q && m && o, "%s", nf_error_message());
    nf_step_report r;
    nf_real *g = calloc(nf_model_shape(m)->n_params, sizeof *g);
    cr_assert_eq(nf_objective_value(o, NULL, 1, 2, &r), NF_OK);
    cr_assert_eq(nf_objective_gradient(o, NULL, 1, 2, &r, g), NF_EUNSUPPORTED);
    cr_assert_not_null(strstr(nf_error_message(), "at random"), "%s", nf_error_message());
    nf_workspace *ws = nf_workspace_new(1);
    nf_real rows[4] = {NF_R(0.1), NF_R(-0.2), NF_R(0.3), NF_R(0.7)}, z[4], g_rows[8];
    double log_q[2];
    nf_status st =
        nf_posterior_forward(q, ws, NF_TRAIN, &(nf_noise){.seed = 1},
                             &(nf_posterior_rows){.n = 2, .mean = rows, .log_scale = rows, .z = z, .log_q = log_q});
    cr_assert_eq(st, NF_OK, "%s", nf_error_message());
    st = nf_posterior_backward(
        q, ws, &(nf_posterior_gradients){.n = 2, .gz = z, .g_log_q = log_q, .g_mean = g_rows, .g_log_scale = g_rows});
    cr_assert_eq(st, NF_EUNSUPPORTED, "%s", nf_error_message());
    nf_workspace_free(ws);
    nf_objective_free(o);
    nf_model_free(q);
    nf_model_free(m);
    free(g);
}

Test(mixture, arguments)
{
    cr_assert_null(nf_mixture(0, 2));
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_null(nf_mixture(2, 0));
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_null(nf_mixture(SIZE_MAX / 3, 5));
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_null(nf_mixture(1, (size_t)UINT32_MAX + 1));
    cr_assert_eq(nf_error_status(), NF_EARG);
}

/* ---- a narrow component far away, and weights that vanish ---- */

Test(mixture, far_narrow_and_weightless)
{
    const double theta[6] = {0, -900, 1, -3, -40, 40}; /* weights 1 and 0; scales e^-40 and e^40 */
    nf_model *m = with_theta(nf_mixture(1, 2), theta);
    const nf_real x[] = {NF_R(1), NF_R(1e15), NF_R(-3)};
    double log_p[3];
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 3, x, NULL, log_p), NF_OK);
    for (int i = 0; i < 3; i++)
        cr_assert(isfinite(log_p[i]), "%g", log_p[i]);
    cr_assert_float_eq(log_p[0], 40 - log(sqrt(2 * M_PI)), 40 * rounding);
    nf_data data = {.n = 3, .dim = 1, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 3});
    nf_target *t = nf_target_point_callback(1, ridge, NULL, NF_THREADSAFE);
    nf_objective *elbo = nf_elbo(m, t, NULL);
    nf_real g[6];
    nf_step_report r;
    cr_assert_eq(nf_objective_gradient(o, NULL, 1, 2, &r, g), NF_OK);
    for (int i = 0; i < 2; i++) /* the far points' own, -z^2 e^40, is beyond a float */
        cr_assert(isfinite(g[i]), "%d: %g", i, (double)g[i]);
    cr_assert_eq(nf_objective_gradient(elbo, NULL, 1, 2, &r, g), NF_OK);
    cr_assert(isfinite(r.loss));
    nf_objective_free(elbo);
    nf_objective_free(o);
    nf_target_free(t);
    nf_model_free(m);
}

/* A component that has collapsed on a sample: its density there is e^-s, whose square overflows before it does. */
Test(mixture, collapsed)
{
    const double s = sizeof(nf_real) == 8 ? -800 : -760, theta[6] = {0, 0, 1.5, -40, s, 0};
    nf_model *m = with_theta(nf_mixture(1, 2), theta);
    const nf_real x[2] = {NF_R(1.5), -40};
    double log_q[2];
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 2, x, NULL, log_q), NF_OK);
    const double constant = 0.5 * log(2 * M_PI) + log(2);
    cr_assert_float_eq(log_q[0], -s - constant, 1e-5 * fabs(s), "%.12g", log_q[0]);
    cr_assert_float_eq(log_q[1], -constant, 1e-5, "%.12g", log_q[1]);
    nf_model_free(m);
}

/* ---- a bimodal target's weights ---- */

/* 0.27 N((-3, 1), 0.8^2) + 0.73 N((2.5, -1), diag(1.2^2, 0.5^2)), times 7.3 */
static int bimodal(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)user, (void)d;
    static const double w[2] = {0.27, 0.73}, m[2][2] = {{-3, 1}, {2.5, -1}}, s[2][2] = {{0.8, 0.8}, {1.2, 0.5}};
    double l[2], most, g[2] = {0};
    for (int k = 0; k < 2; k++) {
        l[k] = log(w[k] / (2 * M_PI * s[k][0] * s[k][1]));
        for (int j = 0; j < 2; j++)
            l[k] -= 0.5 * pow((x[j] - m[k][j]) / s[k][j], 2);
    }
    most = fmax(l[0], l[1]);
    *log_p = most + log(exp(l[0] - most) + exp(l[1] - most));
    for (int k = 0; k < 2; k++)
        for (int j = 0; j < 2; j++)
            g[j] -= exp(l[k] - *log_p) * (x[j] - m[k][j]) / (s[k][j] * s[k][j]);
    *log_p += log(7.3);
    if (grad)
        memcpy(grad, g, sizeof g);
    return 0;
}

/* Five fits from five starts: weights, means and log Z within 4 standard errors over the fits, which are small. */
Test(mixture, weights_of_a_bimodal_target)
{
    enum { FITS = 5 };
    double weight[FITS], mean = 0, square = 0;
    nf_target *t = nf_target_point_callback(2, bimodal, NULL, NF_THREADSAFE);
    for (int k = 0; k < FITS; k++) {
        nf_model *m = nf_model_of_dist(nf_mixture(2, 2), &(nf_model_options){.seed = 40 + (uint64_t)k});
        nf_real *theta = nf_model_theta(m);
        for (size_t i = 2; i < 6; i++) /* one on either side: an ELBO loses a mode that no component starts near */
            theta[i] += i == 2 ? -2 : i == 4 ? 2 : 0;
        theta[0] = NF_R(0.9); /* and more weight on the lesser one */
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 65});
        nf_fit_options options = {.steps = 2500, .rate = 0.02, .seed = 90 + (uint64_t)k, .threads = 2};
        options.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .to = 0.01, .steps = 2500};
        nf_fit_report report;
        cr_assert_eq(nf_fit(o, &options, &report), NF_OK, "%s", nf_error_message());
        weight[k] = 1 / (1 + exp((double)(theta[1] - theta[0])));
        mean += weight[k] / FITS;
        square += weight[k] * weight[k] / FITS;
        cr_assert_float_eq(weight[k], 0.27, 0.02, "fit %d: %g", k, weight[k]);
        cr_assert_float_eq(theta[2], -3, 0.1);
        cr_assert_float_eq(theta[5], -1, 0.1);
        nf_objective *many = nf_elbo(m, t, &(nf_elbo_options){.draws = 4000});
        nf_step_report r;
        cr_assert_eq(nf_objective_value(many, NULL, 4, 4, &r), NF_OK);
        cr_assert_float_eq(-r.loss, log(7.3), 0.01, "%g", -r.loss);
        nf_objective_free(many);
        nf_objective_free(o);
        nf_model_free(m);
    }
    const double error = sqrt((square - mean * mean) / (FITS - 1));
    cr_assert(error < 0.005, "%g", error);
    cr_assert_float_eq(mean, 0.27, 5 * error, "%g +- %g", mean, error); /* of Student's t with 4 degrees of freedom */
    nf_target_free(t);
}
