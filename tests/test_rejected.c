/* The ELBO of a target that rejects draws: it is that of q restricted to the accepted region, a bound on the evidence,
   and its gradient by the score is the derivative of that bound. */
#include "objective_fixture.h"

/* Without draws beyond `edge` in any dimension: log p = -precision |x|^2 / 2 + level. How it says so is `way`. */
typedef enum refusal { FLAG, INFINITE, NOT_A_NUMBER } refusal;
typedef struct box {
    double edge, precision, level;
    refusal way;
    int gradients; /* how often a gradient was asked for */
} box;

static int box_batch(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                     unsigned char *rejected)
{
    box *b = user;
    b->gradients += grad != NULL;
    for (size_t i = 0; i < n; i++) {
        bool out = false;
        log_p[i] = b->level;
        for (size_t j = 0; j < d; j++) {
            const double at = x[i * d + j];
            out = out || !(fabs(at) <= b->edge);
            log_p[i] -= 0.5 * b->precision * at * at;
            if (grad)
                grad[i * d + j] = -b->precision * at;
        }
        rejected[i] = out && b->way == FLAG;
        if (out && b->way != FLAG)
            log_p[i] = b->way == INFINITE ? -INFINITY : NAN;
    }
    return 0;
}

/* The loss of N(0, s^2) restricted to [-edge, edge] for log p = -precision x^2 / 2 + level: all moments in closed
   form. */
static double exact_loss(const box *b, double s)
{
    const double pi = acos(-1), t = b->edge / s, z = erf(t / sqrt(2));
    const double second = s * s * (1 - 2 * t * exp(-0.5 * t * t) / sqrt(2 * pi) / z); /* E x^2 under q_A */
    const double log_q = -0.5 * log(2 * pi) - log(s) - second / (2 * s * s);
    return log_q - log(z) + 0.5 * b->precision * second - b->level;
}

static nf_model *normal_of_scale(size_t dim, double s)
{
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(dim), NULL);
    for (size_t j = 0; j < dim; j++)
        nf_model_theta(m)[dim + j] = (nf_real)log(s);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

/* ---- values ---- */

Test(rejected, loss_is_that_of_the_restricted_q)
{
    const double scales[] = {0.4, 1, 2.7, 9};
    for (int way = FLAG; way <= NOT_A_NUMBER; way++)
        for (int k = 0; k < 4; k++)
            for (int rule = NF_SERIAL; rule <= NF_THREADSAFE; rule++) {
                box b = {.edge = 2, .precision = 1, .level = 0.3, .way = (refusal)way};
                nf_model *m = normal_of_scale(1, scales[k]);
                nf_target *t = nf_target_callback(1, box_batch, &b, (nf_thread_rule)rule);
                nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 4000});
                double mean = 0, square = 0;
                enum { REPEATS = 25 };
                for (uint64_t r = 0; r < REPEATS; r++) {
                    const nf_step_report report = value(o, 3 + r, r);
                    cr_assert_eq(report.failed, 0);
                    const double terms = report.term[0] - report.term[2] - report.term[1];
                    cr_assert_float_eq(report.loss, terms, 30 * rounding * (1 + fabs(terms)));
                    cr_assert_float_eq(exp(report.term[2]), 1 - (double)report.rejected / 4000, 10 * rounding);
                    mean += report.loss / REPEATS;
                    square += report.loss * report.loss / REPEATS;
                }
                const double error = sqrt((square - mean * mean) / (REPEATS - 1)), wanted = exact_loss(&b, scales[k]);
                cr_assert_float_eq(mean, wanted, 4 * error + 1e-6, "scale %g: %.6f, not %.6f +- %.6f", scales[k], mean,
                                   wanted, error);
                nf_objective_free(o);
                nf_target_free(t);
                nf_model_free(m);
            }
}

/* The evidence of 0 on [-2, 2]^2 is log 16. A fit by reparameterised gradients widens q without end; what it reports
   must not exceed the evidence, and the report must say that the region matters. */
Test(rejected, bound_stays_a_bound)
{
    box b = {.edge = 2};
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    nf_target *t = nf_target_callback(2, box_batch, &b, NF_THREADSAFE);
    nf_objective *o = nf_elbo(m, t, NULL);
    for (uint64_t k = 0; k < 3; k++) {
        nf_fit_report r;
        const nf_fit_options options = {.steps = 500, .first_step = 500 * k, .rate = 0.01};
        cr_assert_eq(nf_fit(o, &options, &r), NF_OK, "%s", nf_error_message());
        cr_assert_leq(-r.loss, log(16) + 0.02, "a bound of %g on %g", -r.loss, log(16));
        cr_assert(r.warnings & NF_WARN_SUPPORT);
        cr_assert(r.accepted > 0 && r.accepted < 0.9, "%g", r.accepted);
    }
    nf_objective_free(o);
    nf_target_free(t);
    nf_model_free(m);
}

/* With q = 0.999 N(0, 1) + 0.001 N(100, 1) and draws beyond 20 rejected, q_A is N(0, 1): the means of log q and log p
   are those of its draws, whatever the weights add up to. */
Test(rejected, weighted_draws)
{
    box b = {.edge = 20, .precision = 1, .level = -10};
    nf_model *m = nf_model_of_dist(nf_mixture(1, 2), NULL);
    const nf_real theta[] = {(nf_real)log(0.999), (nf_real)log(0.001), 0, 100, 0, 0};
    memcpy(nf_model_theta(m), theta, sizeof theta);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    nf_target *t = nf_target_callback(1, box_batch, &b, NF_THREADSAFE);
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 1000});
    const nf_step_report r = value(o, 5, 1);
    cr_assert_eq(r.rejected, 500);
    const double normal = -0.5 * log(2 * acos(-1)) + 10; /* log N(x; 0, 1) - log p */
    cr_assert_float_eq(r.term[0] - r.term[1], normal + log(0.999), 1e-5);
    cr_assert_float_eq(r.term[2], log(0.999), 1e-5);
    cr_assert_float_eq(r.loss, normal, 1e-5, "%g, not %g", r.loss, normal);
    nf_objective_free(o);
    nf_target_free(t);
    nf_model_free(m);
}

/* ---- gradients ---- */

/* Mean and standard error over repeats of the gradient's last number. */
static double mean_gradient(nf_objective *o, size_t n, size_t repeats, double *error)
{
    double mean = 0, square = 0;
    nf_real g[64];
    cr_assert_leq(n, 64);
    for (uint64_t r = 0; r < repeats; r++) {
        cr_assert_eq(nf_objective_gradient(o, NULL, 77, r, NULL, g), NF_OK, "%s", nf_error_message());
        mean += (double)g[n - 1] / (double)repeats;
        square += (double)g[n - 1] * (double)g[n - 1] / (double)repeats;
    }
    *error = sqrt((square - mean * mean) / (double)(repeats - 1));
    return mean;
}

Test(rejected, gradient_by_the_score_is_the_derivative_of_the_loss)
{
    const double scales[] = {0.4, 1, exp(1), 6};
    for (int k = 0; k < 4; k++)
        for (int rule = NF_SERIAL; rule <= NF_THREADSAFE; rule++) {
            box b = {.edge = 2, .precision = 1};
            nf_model *m = normal_of_scale(1, scales[k]);
            nf_target *t = nf_target_callback(1, box_batch, &b, (nf_thread_rule)rule);
            const nf_elbo_options options = {.draws = 2000, .gradient = NF_GRADIENT_SCORE};
            nf_objective *o = nf_elbo(m, t, &options);
            double error;
            const double h = 1e-5, g = mean_gradient(o, 2, 60, &error);
            const double wanted = (exact_loss(&b, scales[k] * exp(h)) - exact_loss(&b, scales[k] * exp(-h))) / (2 * h);
            cr_assert_float_eq(g, wanted, 4 * error + 1e-6, "scale %g: %.5f, not %.5f +- %.5f", scales[k], g, wanted,
                               error);
            cr_assert_lt(error, 0.02, "%g", error);
            cr_assert_eq(b.gradients, 0, "the target's gradient is not needed");
            nf_objective_free(o);
            nf_target_free(t);
            nf_model_free(m);
        }
}

/* Where nothing is rejected, both gradients have the same mean: for a flow, and for a mixture's weights. */
Test(rejected, both_gradients_agree_where_nothing_is_rejected)
{
    for (int k = 0; k < 2; k++) {
        box b = {.edge = 1e9, .precision = 1.7};
        nf_flow *f[] = {nf_affine(2), nf_planar(2), nf_lu_linear(2, 5)};
        nf_model *m =
            k ? nf_model_of_dist(nf_mixture(2, 3), &(nf_model_options){.seed = 4})
              : nf_model_of_dist(nf_pushforward(nf_normal(2), nf_chain(f, 3)), &(nf_model_options){.seed = 3});
        if (k)
            for (int i = 0; i < 3; i++)
                nf_flow_free(f[i]);
        stir(m, 0.2);
        nf_target *t = nf_target_callback(2, box_batch, &b, NF_THREADSAFE);
        const size_t n = nf_model_shape(m)->n_params;
        double mean[2][32] = {{0}}, square[2][32] = {{0}};
        cr_assert_leq(n, 32);
        enum { REPEATS = 80 };
        for (int way = 0; way < 2; way++) {
            const nf_elbo_options options = {.draws = 600, .gradient = way ? NF_GRADIENT_SCORE : NF_GRADIENT_PATH};
            nf_objective *o = nf_elbo(m, t, &options);
            nf_real g[32];
            for (uint64_t r = 0; r < REPEATS; r++) {
                cr_assert_eq(nf_objective_gradient(o, NULL, 5, r, NULL, g), NF_OK, "%s", nf_error_message());
                for (size_t i = 0; i < n; i++) {
                    mean[way][i] += (double)g[i] / REPEATS;
                    square[way][i] += (double)g[i] * (double)g[i] / REPEATS;
                }
            }
            nf_objective_free(o);
        }
        for (size_t i = 0; i < n; i++) {
            double variance = 1e-12;
            for (int way = 0; way < 2; way++)
                variance += (square[way][i] - mean[way][i] * mean[way][i]) / (REPEATS - 1);
            cr_assert_float_eq(mean[0][i], mean[1][i], 4.5 * sqrt(variance), "parameter %zu: %g and %g +- %g", i,
                               mean[0][i], mean[1][i], sqrt(variance));
        }
        nf_target_free(t);
        nf_model_free(m);
    }
}

/* Fitted by the score, a normal on a half-normal target finds the best normal, whose restricted bound is exact. */
Test(rejected, fit_by_the_score)
{
    box b = {.edge = 2, .precision = 1};
    nf_model *m = normal_of_scale(1, 3);
    nf_target *t = nf_target_callback(1, box_batch, &b, NF_THREADSAFE);
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 500, .gradient = NF_GRADIENT_SCORE});
    nf_fit_report r;
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 1500, .rate = 0.01}, &r), NF_OK, "%s", nf_error_message());
    const double evidence = log(sqrt(2 * acos(-1)) * erf(sqrt(2)));
    cr_assert_float_eq(-r.loss, evidence, 1e-3, "%g, not %g", -r.loss, evidence);
    cr_assert_float_eq(nf_model_theta(m)[1], 0, 0.05, "log scale %g", (double)nf_model_theta(m)[1]);
    nf_objective_free(o);
    nf_target_free(t);
    nf_model_free(m);
}

/* ---- words ---- */

static int says(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)d;
    *log_p = *(const double *)user;
    if (grad)
        grad[0] = 0;
    if (x[0] > 5)
        return (int)nf_error(NF_ETARGET, "x = %g is fatal", x[0]);
    return 0;
}

/* What a target returned, and where, is known at the end. In a point callback, as in a batch, returning nf_error() is
   fatal. */
Test(rejected, words)
{
    double level = NAN, log_p[2];
    const double x[] = {1.25, -3, 7, 1};
    unsigned char rejected[2];
    nf_target *t = nf_target_point_callback(2, says, &level, NF_SERIAL);
    cr_assert_eq(nf_target_eval(t, 1, x, log_p, NULL, rejected), NF_OK);
    cr_assert(rejected[0] == 1 && log_p[0] == -INFINITY);
    cr_assert_str_eq(nf_target_rejection(t), "log p is nan at (1.25, -3)");
    expect(nf_target_eval(t, 2, x, log_p, NULL, rejected), NF_ETARGET, "x = 7 is fatal");
    nf_target_free(t);
    level = -INFINITY;
    t = nf_target_point_callback(1, says, &level, NF_SERIAL);
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(1), NULL);
    nf_objective *o = nf_elbo(m, t, NULL);
    expect(nf_fit(o, &(nf_fit_options){.max_bad_steps = 3}, NULL), NF_ENOTFINITE, "(elbo: log p is -inf at (");
    expect(nf_elbo(m, t, &(nf_elbo_options){.gradient = (nf_gradient)9}) ? NF_OK : nf_error_status(), NF_EARG,
           "nf_elbo: gradient is 9");
    nf_objective_free(o);
    nf_model_free(m);
    nf_target_free(t);
}

/* ---- callbacks that forget something ---- */

static int forgets(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)grad;
    if (*(const int *)user == 1)
        for (size_t j = 0; j < d; j++)
            *log_p = -0.5 * x[j] * x[j];
    return 0;
}

/* What a callback does not write is neither 0 nor what stood there before: the fit ends and says so. */
Test(rejected, unwritten_answers)
{
    for (int writes = 0; writes < 2; writes++) {
        nf_model *m = nf_model_of_dist(nf_diagonal_normal(1), NULL);
        nf_target *t = nf_target_point_callback(1, forgets, &writes, NF_THREADSAFE);
        nf_objective *o = nf_elbo(m, t, NULL);
        expect(nf_fit(o, &(nf_fit_options){.max_bad_steps = 3}, NULL), NF_ENOTFINITE,
               writes ? "(elbo: the gradient is not finite, or was not written, at (" : "(elbo: log p is nan at (");
        nf_objective_free(o);
        nf_target_free(t);
        nf_model_free(m);
    }
}
