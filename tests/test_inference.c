/* Inference: normal approximations, stages, judgements, and the ladder of them. Targets have known log Z and moments.
 */
#include "expect.h"
#include "fail_alloc.h"
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>
#include "vi/gaussian.h"

static const bool exact = sizeof(nf_real) == 8;

/* ---- targets ---- */

/* N(m, L L^T) in three dimensions, times e^2, with deviations from 0.01 to 300. */
static const double mean[3] = {5, -0.3, 1200}, lower[3][3] = {{0.01, 0, 0}, {0.4, 2, 0}, {100, -50, 280}};

static int skewed(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t i = 0; i < n; i++, x += d) {
        double z[3], g[3];
        log_p[i] = 2 - 1.5 * log(2 * acos(-1.0));
        for (size_t j = 0; j < 3; j++) {
            z[j] = x[j] - mean[j];
            for (size_t k = 0; k < j; k++)
                z[j] -= lower[j][k] * z[k];
            z[j] /= lower[j][j];
            log_p[i] -= 0.5 * z[j] * z[j] + log(lower[j][j]);
        }
        for (size_t j = 3; j-- > 0;) { /* L^T g = -z */
            g[j] = -z[j];
            for (size_t k = j + 1; k < 3; k++)
                g[j] -= lower[k][j] * g[k];
            g[j] /= lower[j][j];
        }
        if (grad)
            memcpy(grad + i * d, g, sizeof g);
    }
    return 0;
}

/* Neal's funnel: x0 ~ N(0, 3^2), x1 ~ N(0, e^x0). Its maximum, at x0 = -4.5, is far from its mass. */
static int funnel(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t i = 0; i < n; i++, x += d) {
        const double square = x[1] * x[1] * exp(-x[0]);
        log_p[i] = -x[0] * x[0] / 18 - log(3) - square / 2 - x[0] / 2 - log(2 * acos(-1.0));
        if (grad) {
            grad[2 * i] = -x[0] / 9 + square / 2 - 0.5;
            grad[2 * i + 1] = -x[1] * exp(-x[0]);
        }
    }
    return 0;
}

/* x0 ~ N(0, 1), x1 ~ N(x0^2, 1/2): a banana with log Z = 0. Beyond `limit` calls it fails, above `fence` it rejects. */
typedef struct fruit {
    size_t limit;
    double fence;
} fruit;

static int banana(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    fruit *f = user;
    if (f->limit && !--f->limit)
        return (int)nf_error(NF_ETARGET, "the fruit is gone");
    for (size_t i = 0; i < n; i++, x += d) {
        const double r = x[1] - x[0] * x[0];
        log_p[i] = -0.5 * x[0] * x[0] - 2 * r * r - log(acos(-1.0));
        rejected[i] = x[0] > f->fence;
        if (grad) {
            grad[2 * i] = -x[0] + 8 * r * x[0];
            grad[2 * i + 1] = -4 * r;
        }
    }
    return 0;
}

/* A standard normal and, with weight w, one around (30, 0). */
static int two_modes(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                     unsigned char *rejected)
{
    (void)rejected;
    const double w = *(const double *)user;
    for (size_t i = 0; i < n; i++, x += d) {
        const double a = log1p(-w) - 0.5 * x[0] * x[0], b = log(w) - 0.5 * (x[0] - 30) * (x[0] - 30);
        const double top = fmax(a, b), both = top + log(exp(a - top) + exp(b - top)), share = exp(b - both);
        log_p[i] = both - 0.5 * x[1] * x[1] - log(2 * acos(-1.0));
        if (grad) {
            grad[2 * i] = -x[0] + 30 * share;
            grad[2 * i + 1] = -x[1];
        }
    }
    return 0;
}

static int nothing(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                   unsigned char *rejected)
{
    (void)user, (void)d, (void)x, (void)grad;
    memset(rejected, 1, n);
    memset(log_p, 0, n * sizeof *log_p);
    nf_error(NF_ETARGET, "outside");
    return 0;
}

static nf_target *target(size_t d, nf_target_fn *f, void *user)
{
    nf_target *t = nf_target_callback(d, f, user, NF_THREADSAFE);
    cr_assert_not_null(t, "%s", nf_error_message());
    return t;
}

/* ---- starts ---- */

/* Scores of draws, and the log q with which they were drawn, are one density in whatever way a stage folds. */
static void is_one_density(const nf_model *m)
{
    enum { N = 50 };
    const size_t d = nf_model_shape(m)->dim_out;
    nf_real x[N * 3];
    double drawn[N], scored[N];
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 4}, N, NULL, x, drawn), NF_OK);
    cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, scored), NF_OK);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(drawn[i], scored[i], (exact ? 1e-4 : 0.5) * (1 + fabs(drawn[i])), "%zu: %g %g", d, drawn[i],
                           scored[i]);
}

Test(inference, the_start_of_a_normal_is_that_normal)
{
    nf_target *t = target(3, skewed, NULL);
    nf_start_report r;
    nf_model *m = nf_start(t, &(nf_start_options){.seed = 3}, &r);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert(r.laplace);
    cr_assert_eq(r.usable, 4);
    cr_assert_float_eq(r.elbo, 2, 1e-5, "%.9f", r.elbo);
    const nf_real *theta = nf_model_theta(m), *below = theta + 6;
    const double close = exact ? 1e-5 : 1e-4;
    for (size_t i = 0; i < 3; i++) {
        cr_assert_float_eq((double)theta[i], mean[i], close * (1 + fabs(mean[i])));
        cr_assert_float_eq((double)theta[3 + i], log(lower[i][i]), close);
        for (size_t j = 0; j < i; j++, below++)
            cr_assert_float_eq((double)*below, lower[i][j], close * (1 + fabs(lower[i][j])));
    }
    nf_model_free(m);
    nf_target_free(t);
}

/* -sum of a_i x_i^2 / 2 */
static const double curvature[3] = {4, 0.25, 9};

static int bowl(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t i = 0; i < n; i++) {
        log_p[i] = 0;
        for (size_t j = 0; j < d; j++) {
            log_p[i] -= curvature[j] * x[i * d + j] * x[i * d + j] / 2;
            if (grad)
                grad[i * d + j] = -curvature[j] * x[i * d + j];
        }
    }
    return 0;
}

/* BFGS knows the curvature exactly after conjugate steps, here along the axes; then m = x + H g is the mode. */
Test(inference, a_path_knows_the_curvature_of_its_steps)
{
    static const double points[4][3] = {{1, 1, 1}, {0.5, 1, 1}, {0.5, -0.3, 1}, {0.5, -0.3, 0.2}};
    nf_target *t = target(3, bowl, NULL);
    nfi_path path;
    nfi_comparison c;
    nfi_gaussian best;
    cr_assert_eq(nfi_path_begin(&path, 3, 3), NF_OK);
    cr_assert_eq(nfi_comparison_begin(&c, t, 20, 1), NF_OK);
    cr_assert_eq(nfi_gaussian_begin(&best, 3, false), NF_OK);
    path.n = 4;
    memcpy(path.x, points, sizeof points);
    cr_assert_eq(nf_target_eval(t, 4, path.x, path.log_p, path.g, NULL), NF_OK);
    cr_assert_eq(nfi_gaussian_along(&best, &path, &c, 20), NF_OK);
    cr_assert_eq(best.point, 3);
    cr_assert_float_eq(best.elbo, 1.5 * log(2 * acos(-1.0)) - log(curvature[0] * curvature[1] * curvature[2]) / 2,
                       1e-9);
    cr_assert_lt(best.se, 1e-6);
    for (size_t i = 0; i < 3; i++) {
        cr_assert_float_eq(best.mean[i], 0, 1e-12);
        for (size_t j = 0; j <= i; j++)
            cr_assert_float_eq(best.l[3 * i + j], i == j ? 1 / sqrt(curvature[i]) : 0, 1e-12);
    }
    nfi_gaussian_end(&best);
    nfi_comparison_end(&c);
    nfi_path_end(&path);
    nf_target_free(t);
}

Test(inference, a_start_need_not_be_at_the_maximum)
{
    nf_target *t = target(2, funnel, NULL);
    nf_start_report r;
    nf_model *m = nf_start(t, &(nf_start_options){.seed = 1, .paths = 8}, &r);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert(r.elbo > -5 && r.elbo < 3 * r.elbo_error, "%g", r.elbo);
    cr_assert_float_eq(r.log_p, 1.125 - log(3) - log(2 * acos(-1.0)), 1e-3, "a path went to the maximum: %g", r.log_p);
    cr_assert((double)nf_model_theta(m)[0] > -3, "%g", (double)nf_model_theta(m)[0]);
    nf_model_free(m);
    nf_target_free(t);
}

Test(inference, starts_are_where_the_caller_says)
{
    double w = 0.3;
    nf_target *t = target(2, two_modes, &w);
    for (int far = 0; far < 2; far++) {
        const double init[] = {far ? 31.0 : 0.5, 0.2};
        const nf_start_options o = {.paths = 1, .init = init, .n_init = 1};
        nf_model *m = nf_start(t, &o, NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        cr_assert_float_eq((double)nf_model_theta(m)[0], far ? 30 : 0, 1e-3);
        nf_model_free(m);
    }
    nf_target_free(t);
}

Test(inference, many_dimensions_start_diagonal)
{
    nf_target *t = target(3, skewed, NULL);
    nf_start_report r;
    nf_model *m = nf_start(t, &(nf_start_options){.seed = 3, .full = 2}, &r);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_model_shape(m)->n_params, 6);
    cr_assert(!r.laplace && isfinite(r.elbo));
    nf_vi_result v;
    cr_assert_eq(nf_vi(t, &(nf_vi_options){.seed = 3, .start = {.full = 2}, .rungs = 1}, &v), NF_OK, "%s",
                 nf_error_message());
    cr_assert_str_eq(v.rung[0].name, "low-rank normal");
    cr_assert(v.quality.elbo > r.elbo, "%g, %g", v.quality.elbo, r.elbo);
    nf_vi_result_free(&v);
    const nf_vi_options all = {.seed = 3, .start = {.full = 2}, .steps = 0.05, .all_rungs = true, .judge = {.n = 500}};
    cr_assert_eq(nf_vi(t, &all, &v), NF_OK, "%s", nf_error_message());
    cr_assert_eq(v.n_rungs, 3);
    cr_assert_str_eq(v.rung[1].name, "IAF on a t");
    cr_assert(v.rung[1].quality.elbo > v.rung[0].quality.elbo - 1, "it begins where the low-rank one has ended");
    is_one_density(v.model);
    nf_vi_result_free(&v);
    nf_model_free(m);
    nf_target_free(t);
}

/* ---- judgements ---- */

/* Draws of the start, moved and scaled in its first coordinate, as a posterior of the skewed normal. */
static nf_quality judged(double move, double scale)
{
    nf_target *t = target(3, skewed, NULL);
    nf_model *m = nf_start(t, &(nf_start_options){.seed = 3}, NULL);
    nf_real *theta = nf_model_theta(m);
    theta[0] += (nf_real)(move * lower[0][0]);
    theta[3] += (nf_real)log(scale);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    nf_quality q;
    cr_assert_eq(nf_judge(m, t, &(nf_judge_options){.seed = 9}, &q, NULL), NF_OK, "%s", nf_error_message());
    nf_model_free(m);
    nf_target_free(t);
    return q;
}

Test(inference, judgements_say_what_the_errors_are)
{
    const nf_quality same = judged(0, 1), moved = judged(0.4, 1.2), narrow = judged(0, 0.4);
    cr_assert_eq(same.verdict, NF_TRUST, "%s", same.why);
    cr_assert(same.mean_shift < 0.01 && same.sd_shift < 0.01);
    cr_assert_float_eq(same.log_z, 2, exact ? 1e-5 : 1e-2);
    cr_assert_eq(moved.verdict, NF_USE_WEIGHTS, "%s", moved.why);
    cr_assert_float_eq(moved.mean_shift, 0.4, 0.06, "%g", moved.mean_shift);
    cr_assert_float_eq(moved.sd_shift, 0.2, 0.05, "%g", moved.sd_shift);
    cr_assert_float_eq(moved.log_z, 2, 4 * moved.log_z_error, "%g", moved.log_z);
    cr_assert_eq(narrow.verdict, NF_DO_NOT_TRUST, "%s", narrow.why);
    cr_assert(strstr(narrow.why, "too narrow"));
    cr_assert_str_eq(nf_verdict_text(same.verdict), "trust");
    cr_assert_str_eq(nf_verdict_text(moved.verdict), "use weights");
    cr_assert_str_eq(nf_verdict_text(narrow.verdict), "do not trust");
    cr_assert_null(nf_verdict_text((nf_verdict)3));
    /* KL of N(m s, s^2) from N(0, 1) in one dimension: (m^2 + s^2 - 1) / 2 - log s */
    cr_assert_float_eq(2 - moved.elbo, (0.16 + 1.44 - 1) / 2 - log(1.2), 4 * moved.elbo_error, "%g", moved.elbo);
}

Test(inference, rejected_draws_are_counted_and_have_no_outputs)
{
    fruit f = {.fence = 1};
    nf_target *t = target(2, banana, &f);
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    nf_quality q;
    nf_posterior_draws w;
    cr_assert_eq(nf_judge(m, t, &(nf_judge_options){.n = 1000, .seed = 2}, &q, &w), NF_OK);
    size_t beyond = 0;
    for (size_t i = 0; i < w.n; i++) {
        const bool out = w.x[2 * i] > 1;
        beyond += out;
        cr_assert_eq(isnan(w.output[2 * i]), out);
        cr_assert_eq(w.log_p[i] == -INFINITY, out);
        cr_assert_eq(w.log_weight[i] == -INFINITY, out);
    }
    cr_assert(beyond > 100 && beyond < 220);
    cr_assert_eq(q.rejected, beyond);
    nf_posterior_draws_free(&w);
    nf_target *none = target(2, nothing, NULL);
    cr_assert_eq(nf_judge(m, none, NULL, &q, NULL), NF_OK);
    cr_assert_eq(q.verdict, NF_DO_NOT_TRUST);
    cr_assert(strstr(q.why, "rejects every draw"), "%s", q.why);
    expect_none(nf_start(none, NULL, NULL), NF_ETARGET, "outside");
    nf_target_free(none);
    nf_model_free(m);
    nf_target_free(t);
}

Test(inference, weights_are_those_of_the_verdict)
{
    fruit f = {.fence = 1};
    nf_target *t = target(2, banana, &f);
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    nf_quality q;
    nf_posterior_draws w;
    double weight[3][200];
    cr_assert_eq(nf_judge(m, t, &(nf_judge_options){.n = 200, .seed = 2}, &q, &w), NF_OK);
    for (int v = 0; v < 3; v++) {
        double sum = 0;
        cr_assert_eq(nf_posterior_weights(&w, (nf_verdict)v, weight[v]), NF_OK);
        for (size_t i = 0; i < w.n; i++)
            sum += weight[v][i];
        cr_assert_float_eq(sum, 1, 1e-12, "%g", sum);
    }
    for (size_t i = 0; i < w.n; i++) {
        const bool out = w.x[2 * i] > 1;
        cr_assert_float_eq(weight[NF_TRUST][i], out ? 0 : 1.0 / (double)(w.n - q.rejected), 1e-15);
        cr_assert_float_eq(weight[NF_USE_WEIGHTS][i], exp(w.log_weight[i]), 1e-15);
        cr_assert_eq(weight[NF_DO_NOT_TRUST][i], weight[NF_USE_WEIGHTS][i]);
    }
    expect(nf_posterior_weights(NULL, NF_TRUST, weight[0]), NF_EARG, "`draws`");
    expect(nf_posterior_weights(&w, NF_TRUST, NULL), NF_EARG, "`weight`");
    expect(nf_posterior_weights(&w, (nf_verdict)3, weight[0]), NF_EARG, "verdict is 3");
    nf_posterior_draws_free(&w);
    nf_model_free(m);
    nf_target_free(t);
}

/* ---- stages ---- */

Test(inference, stages_fit_in_the_target_s_own_coordinates)
{
    nf_target *t = target(3, skewed, NULL);
    nf_model *start = nf_start(t, &(nf_start_options){.seed = 3}, NULL);
    for (size_t i = 0; i < 3; i++) { /* a poor whitening */
        nf_model_theta(start)[i] += (nf_real)lower[i][i];
        nf_model_theta(start)[3 + i] += NF_R(0.3);
    }
    cr_assert_eq(nf_model_update(start, NF_EVAL), NF_OK);
    for (int family = NF_FAMILY_MEAN_FIELD; family <= NF_FAMILY_RESIDUAL; family++) {
        nf_fit_report r;
        const nf_stage_options o = {.family = (nf_family)family,
                                    .df = family > NF_FAMILY_FULL_RANK ? 30 : 0,
                                    .steps = 60,
                                    .draws = 64,
                                    .seed = 5};
        nf_model *m = nf_stage(t, start, &o, &r);
        cr_assert_not_null(m, "family %d: %s", family, nf_error_message());
        is_one_density(m);
        nf_quality q;
        cr_assert_eq(nf_judge(m, t, &(nf_judge_options){.seed = 1}, &q, NULL), NF_OK);
        cr_assert(q.elbo < 2 + 4 * q.elbo_error + (exact ? 0 : 0.1), "family %d: %g", family, q.elbo);
        if (family != NF_FAMILY_MEAN_FIELD && family != NF_FAMILY_LOW_RANK)
            cr_assert(q.elbo > 2 - 0.5, "family %d: %g", family, q.elbo);
        nf_model_free(m);
    }
    nf_model *m = nf_stage(t, start, &(nf_stage_options){.family = NF_FAMILY_FULL_RANK}, NULL);
    nf_quality q;
    cr_assert_eq(nf_judge(m, t, NULL, &q, NULL), NF_OK);
    cr_assert_float_eq(q.elbo, 2, exact ? 1e-3 : 2e-2, "%g", q.elbo);
    nf_model_free(m);
    nf_model_free(start);
    nf_target_free(t);
}

/* The last length of a fit that its callback saw. */
static int note_length(void *user, const nf_progress *p)
{
    uint64_t *steps = user;
    *steps = p->steps;
    cr_assert(p->step <= p->steps);
    return 0;
}

/* A normal is found in a few steps; with a tolerance that nothing attains all steps are made. */
Test(inference, stages_end_when_the_elbo_has_settled)
{
    nf_target *t = target(3, skewed, NULL);
    nf_model *start = nf_start(t, NULL, NULL);
    uint64_t length = 0;
    nf_convergence rule = {0}, never = {.tolerance = NF_ZERO};
    nf_stage_options o = {
        .family = NF_FAMILY_FULL_RANK, .steps = 900, .rule = &rule, .callback = note_length, .user = &length};
    nf_fit_report r;
    nf_model *m = nf_stage(t, start, &o, &r);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert(rule.settled && rule.gain < 0.005 && rule.error < 0.005 && rule.steps < 600);
    cr_assert(r.steps == rule.steps + rule.steps / 2 && r.steps == length, "%zu steps", (size_t)r.steps);
    nf_quality q;
    cr_assert_eq(nf_judge(m, t, NULL, &q, NULL), NF_OK);
    cr_assert(q.log_z - q.elbo < (exact ? 1e-3 : 1e-2), "%g below", q.log_z - q.elbo);
    nf_model_free(m);
    o.rule = &never;
    m = nf_stage(t, start, &o, &r);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert(!never.settled && never.steps == 599 && r.steps == 900 && length == 900); /* 600 steps of one rate */
    nf_model_free(m);
    nf_vi_result found;
    cr_assert_eq(nf_vi(t, &(nf_vi_options){.tolerance = NF_ZERO, .steps = 0.2}, &found), NF_OK);
    cr_assert(found.rung[0].steps == 200 && !found.rung[0].settled && fabs(found.rung[0].gain) < 0.005 &&
              found.rung[0].gain_error < 0.005);
    nf_vi_result_free(&found);
    nf_model_free(start);
    nf_target_free(t);
}

Test(inference, stages_take_flows_of_the_caller)
{
    fruit f = {.fence = INFINITY};
    nf_target *t = target(2, banana, &f);
    nf_model *start = nf_start(t, NULL, NULL);
    nf_flow *flow = nf_chain((nf_flow *[]){nf_sylvester(2, NULL), nf_sylvester(2, NULL)}, 2);
    nf_model *m = nf_stage(t, start, &(nf_stage_options){.flow = flow, .steps = 100}, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_flow_free(flow);
    is_one_density(m);
    nf_model_free(m);
    nf_model_free(start);
    nf_target_free(t);
}

/* In the coordinates of a flow nothing is folded: with no step to speak of, the flow itself comes back. */
Test(inference, any_flow_has_coordinates)
{
    fruit f = {.fence = INFINITY};
    nf_target *t = target(2, banana, &f);
    nf_model *start = nf_start(t, NULL, NULL);
    nf_model *bent = nf_stage(t, start, &(nf_stage_options){.steps = 300, .df = 20, .seed = 1}, NULL);
    cr_assert_not_null(bent, "%s", nf_error_message());
    nf_quality once, again;
    cr_assert_eq(nf_judge(bent, t, NULL, &once, NULL), NF_OK);
    for (int family = NF_FAMILY_MEAN_FIELD; family <= NF_FAMILY_FULL_RANK; family++) {
        nf_model *m = nf_stage(
            t, bent, &(nf_stage_options){.family = (nf_family)family, .df = 20, .steps = 1, .rate = 1e-9, .seed = 2},
            NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        is_one_density(m);
        cr_assert_eq(nf_judge(m, t, NULL, &again, NULL), NF_OK);
        if (family != NF_FAMILY_LOW_RANK)
            cr_assert_float_eq(again.elbo, once.elbo, 0.05 + 4 * once.elbo_error, "%g %g", again.elbo, once.elbo);
        nf_model_free(m);
    }
    nf_model_free(bent);
    nf_model_free(start);
    nf_target_free(t);
}

/* ---- the ladder ---- */

Test(inference, the_ladder_ends_where_it_can_be_trusted)
{
    fruit f = {.fence = INFINITY};
    nf_target *straight = target(3, skewed, NULL), *bent = target(2, banana, &f);
    nf_vi_result r;
    cr_assert_eq(nf_vi(straight, NULL, &r), NF_OK, "%s", nf_error_message());
    cr_assert_eq(r.quality.verdict, NF_TRUST, "%s", r.quality.why);
    cr_assert_eq(r.n_rungs, 1);
    for (size_t k = 0; k < 3; k++) {
        double variance = 0;
        for (size_t j = 0; j <= k; j++)
            variance += lower[k][j] * lower[k][j];
        cr_assert_float_eq(r.summary[k].mean, mean[k], 4.5 * r.summary[k].mean_error);
        cr_assert_float_eq(r.summary[k].sd, sqrt(variance), 4.5 * r.summary[k].sd_error);
    }
    cr_assert(r.counts.gradients > 18000 && r.counts.gradients < 22000, "%zu", r.counts.gradients);
    nf_vi_result_free(&r);
    cr_assert_eq(nf_vi(bent, &(nf_vi_options){.seed = 2, .rungs = 2, .steps = 0.5}, &r), NF_OK, "%s",
                 nf_error_message());
    cr_assert_eq(r.n_rungs, 2);
    cr_assert_eq(r.best, 1);
    cr_assert_eq(r.rung[0].quality.verdict, NF_DO_NOT_TRUST, "%s", r.rung[0].quality.why);
    cr_assert(r.quality.elbo > -0.05 && r.quality.elbo < 4 * r.quality.elbo_error, "%g", r.quality.elbo);
    cr_assert_float_eq(r.summary[1].mean, 1, 0.1);
    is_one_density(r.model);
    nf_vi_result_free(&r);
    nf_target_free(straight);
    nf_target_free(bent);
}

Test(inference, results_do_not_depend_on_threads)
{
    fruit f = {.fence = INFINITY};
    nf_target *t = target(2, banana, &f);
    nf_vi_result a, b;
    const nf_vi_options one = {
        .seed = 4, .rungs = 2, .all_rungs = true, .steps = 0.02, .threads = 1, .judge = {.n = 500}};
    nf_vi_options two = one;
    two.threads = 2;
    cr_assert_eq(nf_vi(t, &one, &a), NF_OK);
    cr_assert_eq(nf_vi(t, &two, &b), NF_OK);
    cr_assert_eq(memcmp(a.draws.x, b.draws.x, a.draws.n * 2 * sizeof *a.draws.x), 0);
    cr_assert_eq(memcmp(a.summary, b.summary, 2 * sizeof *a.summary), 0);
    cr_assert(a.quality.elbo == b.quality.elbo && a.quality.k_hat == b.quality.k_hat);
    cr_assert_eq(a.counts.gradients, b.counts.gradients);
    nf_vi_result_free(&a);
    nf_vi_result_free(&b);
    nf_target_free(t);
}

Test(inference, a_mode_that_is_missed_is_seen)
{
    double w = 0.3;
    nf_target *t = target(2, two_modes, &w);
    const double init[] = {0.5, 0, 29.5, 0};
    nf_vi_result r;
    const nf_vi_options o = {.start = {.init = init, .n_init = 2, .paths = 2}, .rungs = 1};
    cr_assert_eq(nf_vi(t, &o, &r), NF_OK, "%s", nf_error_message());
    cr_assert(r.quality.missed);
    cr_assert_eq(r.quality.verdict, NF_DO_NOT_TRUST);
    cr_assert(strstr(r.quality.why, "another mode"), "%s", r.quality.why);
    nf_vi_result_free(&r);
    w = 1e-4; /* what is too little to matter is not missed */
    cr_assert_eq(nf_vi(t, &o, &r), NF_OK, "%s", nf_error_message());
    cr_assert(!r.quality.missed);
    nf_vi_result_free(&r);
    nf_target_free(t);
}

static int stop_in_second_rung(void *user, const nf_vi_progress *p)
{
    size_t *calls = user;
    ++*calls;
    cr_assert(p->fit && p->rung);
    cr_assert_eq(p->best != NULL, p->number > 0);
    return p->number == 1 && p->fit->step >= 3;
}

Test(inference, what_was_found_before_an_end_is_kept)
{
    fruit f = {.fence = INFINITY};
    nf_target *t = target(2, banana, &f);
    size_t calls = 0;
    nf_vi_result r;
    nf_vi_options o = {.callback = stop_in_second_rung, .user = &calls, .threads = 1};
    cr_assert_eq(nf_vi(t, &o, &r), NF_OK, "%s", nf_error_message());
    cr_assert(r.stopped);
    cr_assert_eq(r.n_rungs, 2);
    cr_assert_eq(calls, r.rung[0].steps + 3);
    nf_vi_result_free(&r);
    nf_target_counts before, after;
    nf_target_count(t, &before);
    o = (nf_vi_options){.rungs = 1, .threads = 1};
    cr_assert_eq(nf_vi(t, &o, &r), NF_OK);
    nf_target_count(t, &after);
    nf_vi_result_free(&r);
    f.limit = after.calls - before.calls + 10; /* it fails in the second rung */
    o.rungs = 0;
    expect(nf_vi(t, &o, &r), NF_ETARGET, "the fruit is gone");
    cr_assert_eq(r.n_rungs, 1);
    cr_assert_not_null(r.model);
    cr_assert(isfinite(r.summary[0].mean));
    nf_vi_result_free(&r);
    nf_target_free(t);
}

/* A normal density whose gradients become NaN beyond `limit` calls. */
static int spoilt(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    fruit *f = user;
    f->limit -= f->limit > 0;
    (void)rejected;
    for (size_t i = 0; i < n; i++) {
        log_p[i] = 0;
        for (size_t j = 0; j < d; j++) {
            log_p[i] -= x[i * d + j] * x[i * d + j] / 2;
            if (grad)
                grad[i * d + j] = f->limit ? -x[i * d + j] : NAN;
        }
    }
    return 0;
}

Test(inference, a_fit_without_finite_numbers_is_a_rung)
{
    fruit f = {.limit = SIZE_MAX};
    nf_target *t = target(2, spoilt, &f);
    nf_vi_result r;
    const nf_vi_options one = {.rungs = 1, .threads = 1}, two = {.rungs = 2, .all_rungs = true, .threads = 1};
    cr_assert_eq(nf_vi(t, &one, &r), NF_OK);
    f.limit = r.counts.calls + 10; /* it is spoilt in the second rung */
    nf_vi_result_free(&r);
    cr_assert_eq(nf_vi(t, &two, &r), NF_OK, "%s", nf_error_message());
    cr_assert_eq(r.n_rungs, 2);
    cr_assert_eq(r.best, 0);
    cr_assert_eq(r.quality.verdict, NF_TRUST);
    const nf_quality *q = &r.rung[1].quality;
    cr_assert_str_eq(r.rung[1].name, "flow on a t");
    cr_assert_eq(q->verdict, NF_DO_NOT_TRUST);
    cr_assert(q->n == 0 && isnan(q->elbo) && isnan(q->log_z));
    cr_assert(strstr(q->why, "ended without a posterior: ") && strlen(q->why) > 40, "%s", q->why);
    cr_assert(r.rung[1].gradients > 0 && r.rung[1].seconds > 0);
    nf_vi_result_free(&r);
    f.limit = 1; /* at once: there is nothing to begin with */
    expect(nf_vi(t, &one, &r), NF_ETARGET, "no normal approximation");
    nf_vi_result_free(&r);
    nf_target_free(t);
    f.limit = SIZE_MAX;
    t = target(2, spoilt, &f);
    nf_model *start = nf_start(t, NULL, NULL);
    cr_assert_not_null(start);
    nf_target_counts n;
    nf_target_count(t, &n);
    f.limit = n.calls + 1;
    expect(nf_vi(t, &two, &r), NF_ENOTFINITE, "nf_vi: flow on a t: the fit has ended");
    cr_assert_eq(r.n_rungs, 2);
    cr_assert_null(r.model);
    nf_vi_result_free(&r);
    nf_model_free(start);
    nf_target_free(t);
}

Test(inference, refusals)
{
    nf_target *t = target(3, skewed, NULL);
    nf_model *m = nf_start(t, NULL, NULL), *flow = nf_model_of_flow(nf_affine(3), NULL),
             *plane = nf_model_of_dist(nf_full_normal(2), NULL);
    nf_vi_result r;
    nf_quality q;
    expect_none(nf_start(NULL, NULL, NULL), NF_EARG, "`t`");
    expect_none(nf_start(t, &(nf_start_options){.radius = -1}, NULL), NF_EARG, "radius is -1");
    expect_none(nf_start(t, &(nf_start_options){.n_init = 1}, NULL), NF_EARG, "init is NULL");
    expect_none(nf_start(t, &(nf_start_options){.n_init = 5, .init = mean}, NULL), NF_EARG, "only 4 paths");
    expect_none(nf_stage(t, flow, NULL, NULL), NF_EARG, "no pushforward by a flow");
    nf_model *noisy = nf_model_of_dist(nf_normal(3), NULL);
    expect_none(nf_stage(t, noisy, NULL, NULL), NF_EARG, "a model of `normal`");
    nf_model_free(noisy);
    expect_none(nf_stage(t, plane, NULL, NULL), NF_EDIM, "whitening has 2 dimensions, but the target 3");
    expect_none(nf_stage(t, m, &(nf_stage_options){.family = 99}, NULL), NF_EARG, "family is 99");
    expect_none(nf_stage(t, m, &(nf_stage_options){.rate = -1}, NULL), NF_EARG, "rate is -1");
    expect_none(nf_stage(t, m, &(nf_stage_options){.df = INFINITY}, NULL), NF_EARG, "df is inf");
    nf_convergence rule = {.tolerance = NAN};
    expect_none(nf_stage(t, m, &(nf_stage_options){.rule = &rule}, NULL), NF_EARG, "rule->tolerance is nan");
    expect(nf_judge(plane, t, NULL, &q, NULL), NF_EDIM, "q has 2 dimensions");
    expect(nf_judge(flow, t, NULL, &q, NULL), NF_EARG, "");
    expect(nf_vi(t, &(nf_vi_options){.family = 99}, &r), NF_EARG, "family is 99");
    expect(nf_vi(t, &(nf_vi_options){.steps = -1}, &r), NF_EARG, "steps is -1");
    expect(nf_vi(t, &(nf_vi_options){.rate = NAN}, &r), NF_EARG, "rate is nan");
    expect(nf_vi(t, &(nf_vi_options){.tolerance = NAN}, &r), NF_EARG, "tolerance is nan");
    nf_vi_result_free(&r);
    nf_vi_result_free(NULL);
    nf_posterior_draws_free(NULL);
    nf_model_free(m);
    nf_model_free(flow);
    nf_model_free(plane);
    nf_target_free(t);
}

Test(inference, nothing_leaks_when_memory_runs_out)
{
    fruit f = {.fence = INFINITY};
    const nf_vi_options o = {.threads = 1,
                             .rungs = 2,
                             .all_rungs = true,
                             .steps = 1e-3,
                             .draws = 16,
                             .start = {.paths = 1, .iterations = 3, .draws = 16},
                             .judge = {.n = 100}};
    size_t failures = 0;
    for (size_t k = 0;; k += 1 + k / 100) {
        nf_target *t = target(2, banana, &f);
        nf_vi_result r;
        const size_t before = alloc_live();
        fail_alloc_after(k);
        const nf_status st = nf_vi(t, &o, &r);
        const bool failed = fail_alloc_off();
        nf_vi_result_free(&r);
        cr_assert_eq(alloc_live(), before, "allocation %zu", k);
        nf_target_free(t);
        if (!failed) {
            cr_assert_eq(st, NF_OK, "%s", nf_error_message());
            break;
        }
        failures++;
        cr_assert(st == NF_ENOMEM || st == NF_ETARGET, "allocation %zu: %s", k, nf_status_text(st));
    }
    cr_assert(failures > 100);
}
