/* The mode of the posterior plug-in: in evaluation its draws are those of a flow without dropout and those of
   nf_sample; in training units are dropped, the same ones on the way back, and moving statistics count. */
#include "expect.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double tolerance = 3e-5, fd_tolerance = 2e-2, fd_step = 1e-2;
#else
static const double tolerance = 1e-12, fd_tolerance = 1e-6, fd_step = 1e-5;
#endif

enum { D = 4, N = 300 }; /* several tiles */

typedef struct inputs {
    nf_real mean[N * D], log_scale[N * D], gz[N * D];
    double g_log_q[N];
} inputs;

/* Numbers without pattern, of standard deviation `scale`. */
static void fill(uint64_t seed, size_t n, double scale, nf_real *x)
{
    nf_noise_normal(&(nf_noise){.seed = seed, .site = 50}, 1, n, n, x);
    for (size_t i = 0; i < n; i++)
        x[i] *= (nf_real)scale;
}

static inputs *new_inputs(void)
{
    inputs *in = calloc(1, sizeof *in);
    fill(1, N * D, 1.3, in->mean);
    fill(2, N * D, 0.4, in->log_scale);
    fill(3, N * D, 1, in->gz);
    for (size_t i = 0; i < N; i++)
        in->g_log_q[i] = 1.7 * cos(2.3 * (double)i);
    return in;
}

static const nf_noise noise = {.seed = 11, .step = 3, .first_sample = 5};

/* Couplings whose nets drop units with that probability; the parameters do not depend on it. */
static nf_model *couplings(double dropout)
{
    static const size_t hidden[] = {12};
    const nf_recipe_options o = {.n_layers = 3,
                                 .hidden = hidden,
                                 .n_hidden = 1,
                                 .activation = NF_TANH,
                                 .dropout = dropout,
                                 .last_scale = 1,
                                 .mixing = NF_MIX_LU};
    nf_model *m = nf_model_of_dist(nf_posterior(D, nf_realnvp(D, &o)), &(nf_model_options){.seed = 8});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static void draw(const nf_model *m, nf_workspace *ws, nf_mode mode, const inputs *in, nf_real *z, double *log_q)
{
    const nf_posterior_rows rows = {.n = N, .mean = in->mean, .log_scale = in->log_scale, .z = z, .log_q = log_q};
    cr_assert_eq(nf_posterior_forward(m, ws, mode, &noise, &rows), NF_OK, "%s", nf_error_message());
}

/* ---- dropout ---- */

Test(posterior_mode, evaluation_draws_without_dropout)
{
    inputs *in = new_inputs();
    nf_model *m = couplings(0.4), *none = couplings(0);
    nf_workspace *ws = nf_workspace_new(1);
    static nf_real z[N * D], other[N * D], ctx[N * 2 * D];
    static double log_q[N], log_other[N];
    draw(m, ws, NF_EVAL, in, z, log_q);
    draw(none, ws, NF_EVAL, in, other, log_other);
    cr_assert_arr_eq(z, other, sizeof z, "evaluation drops units");
    cr_assert_arr_eq(log_q, log_other, sizeof log_q);
    draw(none, ws, NF_TRAIN, in, other, log_other);
    cr_assert_arr_eq(z, other, sizeof z, "without dropout the modes differ");
    for (size_t i = 0; i < N; i++) {
        memcpy(ctx + i * 2 * D, in->mean + i * D, D * sizeof *ctx);
        memcpy(ctx + i * 2 * D + D, in->log_scale + i * D, D * sizeof *ctx);
    }
    cr_assert_eq(nf_sample(m, ws, &noise, N, ctx, other, log_other), NF_OK);
    cr_assert_arr_eq(z, other, sizeof z, "not what nf_sample draws");
    cr_assert_arr_eq(log_q, log_other, sizeof log_q);
    draw(m, ws, NF_TRAIN, in, other, log_other);
    size_t moved = 0;
    for (size_t i = 0; i < N; i++)
        moved += memcmp(z + i * D, other + i * D, D * sizeof *z) != 0;
    cr_assert_gt(moved, N * 9 / 10, "training drops units of %zu of %d samples only", moved, N);
    nf_workspace_free(ws);
    nf_model_free(m);
    nf_model_free(none);
    free(in);
}

/* <gz, z> + <g_log_q, log_q> */
static double inner(const nf_model *m, nf_workspace *ws, const inputs *in)
{
    static nf_real z[N * D];
    static double log_q[N];
    draw(m, ws, NF_TRAIN, in, z, log_q);
    double sum = 0;
    for (size_t i = 0; i < N; i++)
        sum += in->g_log_q[i] * log_q[i];
    for (size_t i = 0; i < N * D; i++)
        sum += (double)in->gz[i] * (double)z[i];
    return sum;
}

/* Along a direction of the n numbers x, <g, direction> must be the central difference. */
static void compare(const char *what, nf_model *m, nf_workspace *ws, const inputs *in, size_t n, nf_real *x,
                    const nf_real *g)
{
    nf_real *v = calloc(n, sizeof *v), *kept = calloc(n, sizeof *kept);
    fill(71, n, 1 / sqrt((double)n), v);
    memcpy(kept, x, n * sizeof *x);
    double exact = 0, side[2], scale = 0;
    for (size_t i = 0; i < n; i++) {
        exact += (double)g[i] * (double)v[i];
        scale += (double)g[i] * (double)g[i] / (double)n;
    }
    for (int s = 0; s < 3; s++) {
        for (size_t i = 0; i < n; i++)
            x[i] = kept[i] + (nf_real)(s == 2 ? 0 : s ? fd_step : -fd_step) * v[i];
        cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
        if (s < 2)
            side[s] = inner(m, ws, in);
    }
    const double numeric = (side[1] - side[0]) / (2 * fd_step);
    cr_assert_lt(fabs(exact - numeric), fd_tolerance * (1 + sqrt(scale) + fabs(exact)),
                 "%s: %.9g by hand, %.9g by differences", what, exact, numeric);
    free(v);
    free(kept);
}

/* On the way back the same units are dropped. */
Test(posterior_mode, gradients_are_those_of_the_draws)
{
    inputs *in = new_inputs();
    nf_model *m = couplings(0.4);
    nf_workspace *ws = nf_workspace_new(1);
    static nf_real g_mean[N * D], g_log_scale[N * D];
    nf_real *g = calloc(nf_model_gradient_size(m), sizeof *g);
    inner(m, ws, in);
    const nf_posterior_gradients gradients = {
        .n = N, .gz = in->gz, .g_log_q = in->g_log_q, .g_mean = g_mean, .g_log_scale = g_log_scale, .g = g};
    cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK);
    cr_assert_eq(nf_model_pull_gradient(m, g, g), NF_OK);
    compare("mean", m, ws, in, N * D, in->mean, g_mean);
    compare("log_scale", m, ws, in, N * D, in->log_scale, g_log_scale);
    compare("theta", m, ws, in, nf_model_shape(m)->n_params, nf_model_theta(m), g);
    free(g);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

/* Bytes that a workspace takes for a batch. */
static size_t bytes_of(const nf_model *m, nf_mode mode, const inputs *in)
{
    static nf_real z[N * D];
    static double log_q[N];
    nf_workspace *ws = nf_workspace_new(1);
    draw(m, ws, mode, in, z, log_q);
    const size_t bytes = nf_workspace_bytes(ws);
    nf_workspace_free(ws);
    return bytes;
}

Test(posterior_mode, evaluation_keeps_no_tape)
{
    inputs *in = new_inputs();
    nf_model *m = couplings(0.4);
    nf_workspace *ws = nf_workspace_new(1);
    static nf_real z[N * D], other[N * D];
    static double log_q[N];
    const nf_posterior_gradients gradients = {.n = N, .gz = in->gz, .g_log_q = in->g_log_q, .g_mean = other};
    draw(m, ws, NF_TRAIN, in, z, log_q);
    cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK);
    draw(m, ws, NF_EVAL, in, z, log_q);
    expect(nf_posterior_backward(m, ws, &gradients), NF_EARG, "was in NF_EVAL, which keeps no tape");
    cr_assert_lt(2 * bytes_of(m, NF_EVAL, in), bytes_of(m, NF_TRAIN, in));
    const nf_posterior_rows no_log_q = {.n = N, .mean = in->mean, .log_scale = in->log_scale, .z = other};
    cr_assert_eq(nf_posterior_forward(m, ws, NF_EVAL, &noise, &no_log_q), NF_OK);
    cr_assert_arr_eq(z, other, sizeof z);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

/* A row without a result is NaN in evaluation, too, is counted, and costs itself alone. */
Test(posterior_mode, a_row_that_fails_in_evaluation)
{
    enum { FAILED = 130 };
    inputs *in = new_inputs();
    nf_model *m = couplings(0);
    nf_workspace *ws = nf_workspace_new(1);
    static nf_real z[N * D], other[N * D];
    static double log_q[N], log_other[N];
    draw(m, ws, NF_EVAL, in, z, log_q);
    in->log_scale[FAILED * D + 1] = NF_R(NAN);
    draw(m, ws, NF_EVAL, in, other, log_other);
    cr_assert_eq(nf_workspace_failed(ws), 1);
    for (size_t i = 0; i < N * D; i++)
        cr_assert(i / D == FAILED ? isnan(other[i]) : other[i] == z[i], "row %zu", i / D);
    for (size_t i = 0; i < N; i++)
        cr_assert(i == FAILED ? isnan(log_other[i]) : log_other[i] == log_q[i], "row %zu", i);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

/* ---- moving statistics ---- */

static const double eps = 1e-5;

/* Draws go through the layer's inverse direction, which is the one that counts. */
static nf_model *normalised(void)
{
    nf_flow *flow = nf_invert(nf_batch_norm(D, &(nf_batch_norm_options){.eps = eps}));
    nf_model *m = nf_model_of_dist(nf_posterior(D, flow), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_model_shape(m)->n_state, 2 * D + 1);
    return m;
}

static void back(const nf_model *m, nf_workspace *ws, const inputs *in, double *stats)
{
    static nf_real g_mean[N * D];
    const nf_posterior_gradients gradients = {
        .n = N, .gz = in->gz, .g_log_q = in->g_log_q, .g_mean = g_mean, .stats = stats};
    cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK, "%s", nf_error_message());
}

/* The first step gives the layer the mean and the variance of what enters it, over the samples that have a result. With
   the initial statistics, 0 and 1, what enters is z sqrt(1 + eps). */
Test(posterior_mode, statistics_of_training_become_state)
{
    enum { FAILED = 17 };
    inputs *in = new_inputs();
    nf_model *m = normalised();
    nf_workspace *ws = nf_workspace_new(1);
    static nf_real z[N * D];
    static double log_q[N];
    double stats[2 * D + 1] = {0};
    in->mean[FAILED * D] = NF_R(NAN);
    draw(m, ws, NF_TRAIN, in, z, log_q);
    cr_assert_eq(nf_workspace_failed(ws), 1);
    back(m, ws, in, NULL);
    back(m, ws, in, stats);
    cr_assert_eq(stats[2 * D], N - 1);
    cr_assert_eq(nf_model_end_step(m, stats, N - 1), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
    const nf_real *state = nf_model_state(m);
    for (size_t d = 0; d < D; d++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < N; i++) {
            const double y = i == FAILED ? 0 : (double)z[i * D + d] * sqrt(1 + eps);
            mean += y / (N - 1);
            square += y * y / (N - 1);
        }
        cr_assert_float_eq((double)state[d], mean, tolerance * (1 + fabs(mean)));
        cr_assert_float_eq((double)state[D + d], square - mean * mean, 10 * tolerance * square);
    }
    cr_assert_eq(state[2 * D], 1, "one step has been made");
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

/* Statistics of earlier steps serve in both modes, and evaluation leaves them alone. */
Test(posterior_mode, evaluation_uses_the_moving_statistics)
{
    inputs *in = new_inputs();
    nf_model *m = normalised();
    nf_workspace *ws = nf_workspace_new(1);
    static nf_real z[N * D], other[N * D], before[N * D];
    static double log_q[N];
    double stats[2 * D + 1] = {0};
    draw(m, ws, NF_EVAL, in, before, log_q);
    draw(m, ws, NF_TRAIN, in, z, log_q);
    back(m, ws, in, stats);
    cr_assert_eq(nf_model_end_step(m, stats, N), NF_OK);
    cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
    draw(m, ws, NF_TRAIN, in, z, log_q);
    draw(m, ws, NF_EVAL, in, other, log_q);
    cr_assert_arr_eq(z, other, sizeof z);
    cr_assert_neq(memcmp(before, other, sizeof other), 0);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

Test(posterior_mode, misuse_is_refused)
{
    nf_model *m = normalised();
    const double stats[2 * D + 1] = {0};
    cr_assert_eq(nf_model_end_step(NULL, stats, N), NF_EARG);
    cr_assert_eq(nf_model_end_step(m, NULL, N), NF_EARG);
    cr_assert_eq(nf_model_end_step(m, stats, 0), NF_EARG);
    nf_model_free(m);
}
