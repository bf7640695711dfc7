/* Normalisation. Layers that begin from data, in every composition and in both directions of use: of the initial batch,
   what leaves an nf_actnorm has mean 0 and deviation 1. And nf_batch_norm's statistics, against their recursion. */
#include "push.h"
#include "object/tree.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

enum { N = 203, DIM = 3 };

/* Rows far from the origin, of scales far apart, correlated. */
static nf_real *make_data(size_t n, size_t dim)
{
    static const double mean[] = {31.7, -2.41, 0.083, 5.9}, scale[] = {4.3, 0.027, 1.9, 0.61};
    nf_real *x = calloc(n * dim, sizeof *x);
    nf_noise_normal(&(nf_noise){.seed = 611}, n * dim, 1, 1, x);
    for (size_t i = 0; i < n * dim; i++) {
        const size_t k = i % dim % 4;
        const double before = i % dim ? (double)x[i - 1] : 0;
        x[i] = (nf_real)(mean[k] + scale[k] * ((double)x[i] + 0.1 * before));
    }
    return x;
}

static double column_mean(size_t n, size_t dim, const nf_real *x, size_t k)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i * dim + k];
    return sum / (double)n;
}

static double column_sd(size_t n, size_t dim, const nf_real *x, size_t k)
{
    const double mean = column_mean(n, dim, x, k);
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)x[i * dim + k] - mean) * ((double)x[i * dim + k] - mean);
    return sqrt(sum / (double)n);
}

/* slack: the largest |mean| / sd that the layer took away */
static void is_standard(size_t n, size_t dim, const nf_real *x, double slack, const char *what)
{
    for (size_t k = 0; k < dim; k++) {
        const double mean = column_mean(n, dim, x, k), sd = column_sd(n, dim, x, k);
        cr_assert_float_eq(mean, 0, 20 * rounding * slack, "%s: feature %zu has mean %g", what, k, mean);
        cr_assert_float_eq(sd, 1, 20 * rounding * slack, "%s: feature %zu has deviation %.10g", what, k, sd);
    }
}

static nf_model *from_data(nf_flow *f, size_t n, const nf_real *x, const nf_real *ctx)
{
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.seed = 4, .n_init = n, .init_x = x, .init_ctx = ctx});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* ---- actnorm ---- */

Test(actnorm, the_first_batch_leaves_with_mean_0_and_deviation_1_either_way)
{
    nf_real *x = make_data(N, DIM), y[N * DIM];
    for (int turned = 0; turned < 2; turned++) {
        nf_model *m = from_data(turned ? nf_invert(nf_actnorm(DIM)) : nf_actnorm(DIM), N, x, NULL);
        push(m, NF_INVERSE, N, x, NULL, y, NULL);
        is_standard(N, DIM, y, 100, turned ? "forward" : "inverse");
        const nf_real *theta = nf_model_theta(m), *state = nf_model_state(m);
        cr_assert_eq(state[2 * DIM], (nf_real)turned);
        for (size_t k = 0; k < DIM; k++) {
            const double mean = column_mean(N, DIM, x, k), log_sd = log(column_sd(N, DIM, x, k));
            cr_assert(theta[k] == 0 && theta[DIM + k] == 0);
            cr_assert_float_eq(state[k], mean, 100 * rounding * (1 + fabs(mean)));
            cr_assert_float_eq(state[DIM + k], log_sd, 20 * rounding * (1 + fabs(log_sd)));
        }
        nf_model_free(m);
    }
    free(x);
}

Test(actnorm, without_data_is_the_identity)
{
    nf_model *m = nf_model_of_flow(nf_actnorm(DIM), NULL);
    nf_real *x = make_data(N, DIM), y[N * DIM];
    push(m, NF_FORWARD, N, x, NULL, y, NULL);
    cr_assert_arr_eq(x, y, sizeof y);
    nf_model_free(m);
    free(x);
}

/* Constant columns (of a number that is not exact in binary), all-but-constant ones, a single row. */
Test(actnorm, columns_without_a_deviation_are_only_centred)
{
    nf_real x[N * DIM], y[N * DIM];
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = i % DIM == 0 ? NF_R(0.1) : i % DIM == 1 ? NF_R(-7e8) : NF_R(1e-3) * (nf_real)i;
    x[1] *= 1 + NF_R(2) * NF_R(rounding); /* a unit in the last place or two */
    for (int turned = 0; turned < 2; turned++) {
        nf_model *m = from_data(turned ? nf_invert(nf_actnorm(DIM)) : nf_actnorm(DIM), N, x, NULL);
        push(m, NF_INVERSE, N, x, NULL, y, NULL);
        cr_assert_eq(nf_model_state(m)[DIM], 0);
        cr_assert_eq(nf_model_state(m)[DIM + 1], 0);
        for (size_t i = 0; i < N; i++) {
            cr_assert_eq(y[i * DIM], 0);
            cr_assert_leq(fabs((double)y[i * DIM + 1]), 8 * rounding * 7e8);
        }
        cr_assert_float_eq(column_sd(N, DIM, y, 2), 1, 20 * rounding);
        nf_model_free(m);
        m = from_data(turned ? nf_invert(nf_actnorm(DIM)) : nf_actnorm(DIM), 1, x, NULL);
        push(m, NF_INVERSE, 1, x, NULL, y, NULL);
        for (size_t k = 0; k < DIM; k++)
            cr_assert(y[k] == 0 && nf_model_state(m)[DIM + k] == 0);
        nf_model_free(m);
    }
}

/* Both sides of the data, at parameters that are not 0: inverses, log-dets and gradients. */
Test(actnorm, its_derivatives_with_data_on_either_side)
{
    nf_real x[N * DIM];
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = (nf_real)(0.7 + 1.9 * sin(2.385 * (double)(i * i % 997)));
    for (int turned = 0; turned < 2; turned++) {
        nf_model *m = from_data(turned ? nf_invert(nf_actnorm(DIM)) : nf_actnorm(DIM), N, x, NULL);
        nf_check_report r;
        cr_assert_eq(nf_check_flow(m, &(nf_check_options){.seed = 5, .theta_scale = 0.3}, &r), NF_OK, "%s",
                     nf_error_message());
        for (int d = 0; d < 2; d++) {
            cr_assert_lt(r.inverse_error[d], 100 * rounding);
            cr_assert_lt(r.log_det_error[d], 100 * rounding);
            cr_assert_lt(r.x_error[d], sizeof(nf_real) == sizeof(double) ? 1e-8 : 1e-3, "%g", r.x_error[d]);
            cr_assert_lt(r.theta_error[d], sizeof(nf_real) == sizeof(double) ? 1e-8 : 1e-3, "%g", r.theta_error[d]);
        }
        nf_model_free(m);
    }
}

#ifdef NFI_JANSSON
/* A text without the field "relative" means the layer of today; that of older files, which begins from data as it did,
   is the affine flow at the same numbers. */
Test(actnorm, the_layer_of_older_files_is_an_affine_flow)
{
    const char *now = "{\"kind\": \"flow\", \"type\": \"actnorm\", \"dim_in\": 3}";
#define THEN "{\"kind\": \"flow\", \"type\": \"actnorm\", \"dim_in\": 3, \"fields\": {\"relative\": false}}"
    const char *then[] = {THEN, "{\"kind\": \"flow\", \"type\": \"invert\", \"children\": [" THEN "]}"};
    nf_object *o = nf_rebuild(now, NULL);
    cr_assert_not_null(o, "%s", nf_error_message());
    cr_assert_eq(nf_object_shape(o)->n_state, 2 * DIM + 1);
    nf_object_free(o);
    nf_real *x = make_data(N, DIM), y[2][N * DIM];
    double log_det[2][N];
    for (int turned = 0; turned < 2; turned++) {
        nf_model *m = nf_model_of_object(nf_rebuild(then[turned], NULL), &(nf_model_options){.n_init = N, .init_x = x});
        cr_assert_not_null(m, "%s", nf_error_message());
        cr_assert_eq(nf_model_shape(m)->n_state, 0);
        nf_flow *affine = nf_affine(DIM);
        nf_model *same =
            nf_model_of_flow(turned ? nf_invert(affine) : affine, &(nf_model_options){.theta = nf_model_theta(m)});
        push(m, NF_INVERSE, N, x, NULL, y[0], log_det[0]);
        push(same, NF_INVERSE, N, x, NULL, y[1], log_det[1]);
        cr_assert_arr_eq(y[0], y[1], sizeof y[0]);
        cr_assert_arr_eq(log_det[0], log_det[1], sizeof log_det[0]);
        is_standard(N, DIM, y[0], 100, "the data");
        nf_model_free(same);
        nf_model_free(m);
    }
    free(x);
}
#endif

/* ---- compositions: the layer nearest the end of the data's way standardises only if all the others handed on what
   they made of the data ---- */

static nf_net *small_net(size_t in, size_t out, size_t n_ctx)
{
    return nf_mlp(in, out, n_ctx,
                  &(nf_mlp_options){.hidden = (size_t[]){7}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 1});
}

/* Layers that move the data in every way a flow can: prepared numbers, nets, context, a part of it, inverses. */
static nf_flow *mixing(size_t n_ctx)
{
    const unsigned char mask[] = {1, 0, 1};
    nf_flow *coupling = nf_coupling(DIM, mask, nf_affine(2), small_net(1, 4, n_ctx));
    nf_flow *part = nf_on_context(nf_amortized(nf_shift(DIM), small_net(2, DIM, 0)), n_ctx, 1);
    nf_flow *within = nf_chain((nf_flow *[]){nf_radial(DIM), nf_actnorm(DIM), nf_lu_linear(DIM, 8)}, 3);
    return nf_chain((nf_flow *[]){coupling, nf_actnorm(DIM), nf_invert(within), nf_planar(DIM), part}, 5);
}

static nf_flow *between_actnorms(size_t n_ctx)
{
    return nf_chain((nf_flow *[]){nf_actnorm(DIM), mixing(n_ctx), nf_batch_norm(DIM, NULL), nf_actnorm(DIM)}, 4);
}

static void make_context(nf_real *ctx, size_t count)
{
    nf_noise_normal(&(nf_noise){.seed = 53}, count, 1, 1, ctx);
}

Test(actnorm, ends_every_composition_standardised)
{
    enum { CTX = 4 };
    nf_real *x = make_data(N, DIM), y[N * DIM], ctx[N * (CTX + 2)];
    make_context(ctx, N * (CTX + 2));
    for (int turned = 0; turned < 2; turned++) {
        nf_flow *f = nf_on_context(between_actnorms(CTX), CTX + 2, 2);
        nf_model *m = from_data(turned ? nf_invert(f) : f, N, x, ctx);
        push(m, NF_INVERSE, N, x, ctx, y, NULL);
        is_standard(N, DIM, y, 1000, turned ? "forward" : "inverse");
        nf_model_free(m);
    }
    free(x);
}

Test(actnorm, blocks_see_their_own_rows)
{
    nf_real *x = make_data(N, DIM), y[N * DIM];
    for (int turned = 0; turned < 2; turned++) {
        nf_flow *first = nf_blocks((nf_flow *[]){nf_actnorm(1), nf_actnorm(2)}, 2);
        nf_flow *last = nf_blocks((nf_flow *[]){nf_lu_linear(2, 4), nf_actnorm(1)}, 2);
        nf_flow *f =
            turned ? nf_invert(nf_chain((nf_flow *[]){last, first}, 2)) : nf_chain((nf_flow *[]){first, last}, 2);
        nf_model *m = from_data(f, N, x, NULL);
        push(m, NF_INVERSE, N, x, NULL, y, NULL);
        is_standard(N, DIM, y, 1000, turned ? "forward" : "inverse");
        nf_model_free(m);
    }
    free(x);
}

/* A flow's data go on to the base: two pushforwards are one with a chain. */
Test(actnorm, data_reach_the_base)
{
    nf_real *x = make_data(N, DIM);
    nf_flow *near = nf_chain((nf_flow *[]){nf_actnorm(DIM), nf_lu_linear(DIM, 5)}, 2);
    nf_flow *far = nf_chain((nf_flow *[]){nf_lu_linear(DIM, 6), nf_actnorm(DIM), nf_affine(DIM)}, 3);
    const nf_model_options data = {.n_init = N, .init_x = x};
    nf_model *m =
        nf_model_of_dist(nf_pushforward(nf_pushforward(nf_normal(DIM), nf_flow_ref(near)), nf_flow_ref(far)), &data);
    nf_model *one = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_chain((nf_flow *[]){near, far}, 2)), &data);
    cr_assert(m && one, "%s", nf_error_message());
    cr_assert_arr_eq(nf_model_theta(m), nf_model_theta(one), nf_model_shape(m)->n_params * sizeof(nf_real));
    cr_assert_arr_eq(nf_model_state(m), nf_model_state(one), nf_model_shape(m)->n_state * sizeof(nf_real));
    nf_real y[N * DIM];
    push(one, NF_INVERSE, N, x, NULL, y, NULL);
    is_standard(N, DIM, y, 1000, "the base's side");
    nf_model_free(m);
    nf_model_free(one);
    free(x);
}

/* A posterior's draws begin at the base, which may begin from data itself; they are those of nf_sample. */
Test(actnorm, draws_go_forward)
{
    enum { CTX = 4 };
    nf_real x[N * DIM], ctx[N * CTX];
    make_context(ctx, N * CTX);
    nf_dist *base = nf_pushforward(nf_normal(DIM), nf_chain((nf_flow *[]){nf_planar(DIM), nf_actnorm(DIM)}, 2));
    nf_model *m = nf_model_of_dist(nf_pushforward(base, between_actnorms(CTX)),
                                   &(nf_model_options){.seed = 77, .n_init = N, .init_ctx = ctx});
    cr_assert_not_null(m, "%s", nf_error_message());
    const nf_noise noise = {.seed = 77, .step = UINT64_MAX};
    cr_assert_eq(nf_sample(m, NULL, &noise, N, ctx, x, NULL), NF_OK);
    is_standard(N, DIM, x, 100, "draws");
    cr_assert_eq(nf_model_init(m, 78, N, NULL, ctx), NF_OK);
    cr_assert_eq(nf_sample(m, NULL, &noise, N, ctx, x, NULL), NF_OK);
    cr_assert_gt(fabs(column_mean(N, DIM, x, 0)), 1e-3, "another seed has the same draws");
    nf_model_free(m);
}

/* Of a VAE, the encoder sees the data and the posterior draws. */
Test(actnorm, in_a_vae_the_posterior_draws)
{
    enum { PIXELS = 5, CTX = 3 };
    nf_real *x = make_data(N, PIXELS), z[N * DIM];
    nf_flow *flow = nf_chain((nf_flow *[]){nf_on_context(mixing(CTX), CTX, 0), nf_actnorm(DIM)}, 2);
    nf_vae *vae = nf_vae_new(small_net(PIXELS, 2 * DIM + CTX, 0), nf_posterior(DIM, flow), small_net(DIM, PIXELS, 0),
                             NF_BERNOULLI);
    nf_model *m = nf_model_of_vae(vae, &(nf_model_options){.seed = 9, .n_init = N, .init_x = x});
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_vae_encode(m, NULL, &(nf_noise){.seed = 9, .step = UINT64_MAX}, N, x, z, NULL), NF_OK);
    is_standard(N, DIM, z, 100, "z");
    nf_model_free(m);
    free(x);
}

/* Data of unit deviation have a mean of |z|^2 / 2 of exactly dim / 2: the loss of the first step is in closed form. */
Test(actnorm, maximum_likelihood_begins_at_the_datas_own_gaussian)
{
    nf_real *x = make_data(N, DIM);
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_actnorm(DIM)),
                                   &(nf_model_options){.n_init = N, .init_x = x});
    nf_objective *o =
        nf_maximum_likelihood(m, &(nf_data){.n = N, .dim = DIM, .x = x}, &(nf_likelihood_options){.batch = N});
    nf_step_report first;
    cr_assert_eq(nf_objective_value(o, NULL, 1, 0, &first), NF_OK, "%s", nf_error_message());
    double wanted = DIM * (0.5 + 0.5 * log(2 * M_PI));
    for (size_t k = 0; k < DIM; k++)
        wanted += log(column_sd(N, DIM, x, k));
    cr_assert_float_eq(first.loss, wanted, 1000 * rounding * fabs(wanted));
    nf_fit_report report;
    const nf_real before = nf_model_theta(m)[0];
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 5, .rate = 0.01}, &report), NF_OK);
    cr_assert_neq(nf_model_theta(m)[0], before, "its numbers are parameters like any others");
    nf_objective_free(o);
    nf_model_free(m);
    free(x);
}

#ifdef NFI_JANSSON
/* Loading reads numbers; the first batch that a loaded model sees changes nothing. */
Test(actnorm, a_loaded_model_is_not_initialised_again)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/nflow-normalise-%ld-%zu.safetensors", (long)getpid(), sizeof(nf_real));
    nf_real *x = make_data(N, DIM), other[N * DIM], y[2][N * DIM];
    make_context(other, N * DIM);
    nf_flow *f = nf_chain((nf_flow *[]){nf_actnorm(DIM), nf_lu_linear(DIM, 3), nf_actnorm(DIM)}, 3);
    nf_model *m = from_data(f, N, x, NULL);
    cr_assert_eq(nf_save(m, path), NF_OK, "%s", nf_error_message());
    nf_model *again = nf_load(path, NULL);
    cr_assert_not_null(again, "%s", nf_error_message());
    for (int twice = 0; twice < 2; twice++) {
        push(m, NF_INVERSE, N, other, NULL, y[0], NULL);
        push(again, NF_INVERSE, N, other, NULL, y[1], NULL);
        cr_assert_arr_eq(y[0], y[1], sizeof y[0]);
    }
    cr_assert_arr_eq(nf_model_theta(m), nf_model_theta(again), nf_model_shape(m)->n_params * sizeof(nf_real));
    cr_assert_arr_eq(nf_model_state(m), nf_model_state(again), nf_model_shape(m)->n_state * sizeof(nf_real));
    nf_model_free(again);
    nf_model_free(m);
    remove(path);
    free(x);
}
#endif

/* ---- batch norm: the statistics of step t are those of the batches before it ---- */

static const double eps = 0.0371, decay = 0.83;

static nf_flow *batch_norm(size_t dim)
{
    return nf_batch_norm(dim, &(nf_batch_norm_options){.decay = decay, .eps = eps});
}

Test(batch_norm, normalises_by_its_statistics)
{
    nf_real *x = make_data(N, DIM), y[N * DIM], back[N * DIM];
    double log_det[N], wanted = 0;
    nf_model *m = from_data(nf_chain((nf_flow *[]){batch_norm(DIM), nf_lu_linear(DIM, 2)}, 2), N, x, NULL);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, x, NULL, y, log_det), NF_OK);
    push(m, NF_FORWARD, N, y, NULL, back, NULL);
    for (size_t k = 0; k < DIM; k++) {
        const double variance = (double)nf_model_state(m)[DIM + k];
        wanted -= 0.5 * log(variance + eps);
        cr_assert_float_eq(column_mean(N, DIM, y, k), 0, 1000 * rounding);
        cr_assert_float_eq(column_sd(N, DIM, y, k), sqrt(variance / (variance + eps)), 1000 * rounding);
    }
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(log_det[i], wanted, 20 * rounding * (1 + fabs(wanted)));
    for (size_t i = 0; i < N * DIM; i++)
        cr_assert_float_eq(back[i], x[i], 200 * rounding * (1 + fabs((double)x[i])));
    nf_model_free(m);
    free(x);
}

/* A density of batch norm alone, fitted to all rows in order: statistics in closed form, step by step. */
static nf_model *density(const nf_data *data, size_t batch, nf_objective **o)
{
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), batch_norm(DIM)), NULL);
    *o = nf_maximum_likelihood(m, data, &(nf_likelihood_options){.batch = batch});
    cr_assert(m && *o, "%s", nf_error_message());
    return m;
}

Test(batch_norm, statistics_lag_by_a_step)
{
    enum { STEPS = 9, MANY = 1003 };
    nf_real *x = make_data(MANY, DIM), *state[4];
    const nf_data data = {.n = MANY, .dim = DIM, .x = x};
    double mean[DIM] = {0}, variance[DIM] = {1, 1, 1};
    for (size_t threads = 1; threads <= 3; threads++) {
        nf_objective *o;
        nf_model *m = density(&data, MANY, &o);
        for (size_t t = 0; t < STEPS; t++) {
            nf_step_report before;
            nf_fit_report report;
            cr_assert_eq(nf_objective_value(o, NULL, 1, t, &before), NF_OK);
            cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 1, .threads = threads}, &report), NF_OK);
            cr_assert_eq(before.loss, report.loss, "step %zu looked at its own batch", t);
            const double r = fmin(decay, (double)t / (double)(t + 1));
            for (size_t k = 0; k < DIM && threads == 1; k++) {
                const double delta = column_mean(MANY, DIM, x, k) - mean[k], sd = column_sd(MANY, DIM, x, k);
                variance[k] = r * variance[k] + (1 - r) * (sd * sd + r * delta * delta);
                mean[k] += (1 - r) * delta;
                cr_assert_float_eq(nf_model_state(m)[k], mean[k], 200 * rounding * (1 + fabs(mean[k])));
                cr_assert_float_eq(nf_model_state(m)[DIM + k], variance[k], 200 * rounding * (1 + variance[k]));
            }
        }
        state[threads] = calloc(2 * DIM + 1, sizeof *state[threads]);
        memcpy(state[threads], nf_model_state(m), (2 * DIM + 1) * sizeof *state[threads]);
        cr_assert_arr_eq(state[threads], state[1], (2 * DIM + 1) * sizeof *state[threads]);
        nf_objective_free(o);
        nf_model_free(m);
    }
    free(x), free(state[1]), free(state[2]), free(state[3]);
}

/* A row's own variance is 0. The standard error of an exponentially weighted mean is sqrt((1 - r) / (1 + r))
   deviations. */
Test(batch_norm, batches_of_one_row_have_a_variance)
{
    nf_real *x = make_data(N, DIM);
    const nf_data data = {.n = N, .dim = DIM, .x = x};
    const double r = 0.99, error = sqrt((1 - r) / (1 + r));
    nf_model *m = nf_model_of_dist(
        nf_pushforward(nf_normal(DIM), nf_batch_norm(DIM, &(nf_batch_norm_options){.decay = r})), NULL);
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 1});
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 3000, .seed = 3, .threads = 1}, NULL), NF_OK, "%s",
                 nf_error_message());
    for (size_t k = 0; k < DIM; k++) {
        const double mean = column_mean(N, DIM, x, k), sd = column_sd(N, DIM, x, k);
        cr_assert_float_eq(nf_model_state(m)[k], mean, 4 * error * sd);
        cr_assert_float_eq(nf_model_state(m)[DIM + k], sd * sd, 4 * sqrt(2) * error * sd * sd);
    }
    nf_objective_free(o);
    nf_model_free(m);
    free(x);
}

/* Without a past the statistics are those of the last step's batch: of one row, itself and 0. */
Test(batch_norm, without_a_past)
{
    nf_real *x = make_data(N, DIM);
    const nf_data data = {.n = N, .dim = DIM, .x = x};
    nf_flow *norm = nf_batch_norm(DIM, &(nf_batch_norm_options){.decay = NF_ZERO, .eps = 0.5});
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), norm), NULL);
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 1});
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 7, .seed = 3, .threads = 1}, NULL), NF_OK);
    size_t matches = 0;
    for (size_t i = 0; i < N; i++) {
        double off = 0;
        for (size_t k = 0; k < DIM; k++)
            off = fmax(off, fabs((double)(nf_model_state(m)[k] - x[i * DIM + k])));
        matches += off < 1e-5;
    }
    cr_assert_eq(matches, 1);
    for (size_t k = 0; k < DIM; k++)
        cr_assert_float_eq((double)nf_model_state(m)[DIM + k], 0, 1e-5);
    nf_objective_free(o);
    nf_model_free(m);
    free(x);
}

static int away(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)user;
    *log_p = 0;
    for (size_t k = 0; k < d; k++) {
        *log_p -= 0.5 * (x[k] - 3) * (x[k] - 3);
        if (grad)
            grad[k] = 3 - x[k];
    }
    return 0;
}

/* Draws go forward: they are normalised, and counted, by the inverted layer alone. */
Test(batch_norm, forward_steps_count_where_it_is_inverted)
{
    nf_target *target = nf_target_point_callback(DIM, away, NULL, NF_THREADSAFE);
    for (int turned = 0; turned < 2; turned++) {
        nf_flow *norm = turned ? nf_invert(batch_norm(DIM)) : batch_norm(DIM);
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(DIM), norm), NULL);
        nf_objective *o = nf_elbo(m, target, NULL);
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 50}, NULL), NF_OK);
        cr_assert_eq(nf_model_state(m)[2 * DIM], turned ? 50 : 0);
        for (size_t k = 0; k < DIM; k++)
            cr_assert_eq(nf_model_state(m)[k] != 0, turned);
        nf_objective_free(o);
        nf_model_free(m);
    }
    nf_target_free(target);
}

/* What a step may bring: sums that are not finite, all numbers alike. */
Test(batch_norm, statistics_stay_finite)
{
    nf_model *m = nf_model_of_flow(batch_norm(2), NULL);
    nf_real *state = nf_model_state(m);
    const double bad[5] = {INFINITY, 3, NAN, 4.5, 2};
    cr_assert_eq(nfi_tree_end_step(nf_model_object(m), bad, 2, state), NF_OK);
    cr_assert(state[0] == 0 && state[2] == 1 && state[1] == NF_R(1.5) && state[4] == 1);
    nf_real x[6] = {NF_R(0.1), 7, NF_R(0.1), 7, NF_R(0.1), 7}, y[6];
    double log_det[3];
    cr_assert_eq(nf_model_init(m, 1, 3, x, NULL), NF_OK);
    cr_assert(state[2] == 0 && state[3] == 0);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 3, x, NULL, y, log_det), NF_OK);
    for (size_t i = 0; i < 6; i++)
        cr_assert_eq(y[i], 0);
    cr_assert_float_eq(log_det[0], -log(eps), 10 * rounding);
    const double far = 31234567.7;
    double alike[5] = {0}; /* a variance that rounding takes below 0 */
    for (size_t i = 0; i < 64; i++) {
        alike[0] += far;
        alike[2] += far * far;
        alike[4]++;
    }
    cr_assert_lt(alike[2] / 64, alike[0] / 64 * (alike[0] / 64));
    cr_assert_eq(nf_model_init(m, 1, 0, NULL, NULL), NF_OK);
    cr_assert_eq(nfi_tree_end_step(nf_model_object(m), alike, 64, state), NF_OK);
    cr_assert(state[2] >= 0 && state[3] >= 0, "%g", (double)state[2]);
    nf_model_free(m);
}

#ifdef NFI_JANSSON
Test(batch_norm, a_file_keeps_the_statistics)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/nflow-statistics-%ld-%zu.safetensors", (long)getpid(), sizeof(nf_real));
    nf_real *x = make_data(N, DIM), y[2][N * DIM];
    const nf_data data = {.n = N, .dim = DIM, .x = x};
    nf_objective *o;
    nf_model *m = density(&data, 20, &o);
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 7}, NULL), NF_OK);
    cr_assert_eq(nf_save(m, path), NF_OK, "%s", nf_error_message());
    nf_model *again = nf_load(path, NULL);
    cr_assert_not_null(again, "%s", nf_error_message());
    cr_assert_arr_eq(nf_model_state(m), nf_model_state(again), (2 * DIM + 1) * sizeof(nf_real));
    push(m, NF_INVERSE, N, x, NULL, y[0], NULL);
    push(again, NF_INVERSE, N, x, NULL, y[1], NULL);
    cr_assert_arr_eq(y[0], y[1], sizeof y[0]);
    nf_objective *o2 = nf_maximum_likelihood(again, &data, &(nf_likelihood_options){.batch = 20});
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 3, .first_step = 7}, NULL), NF_OK);
    cr_assert_eq(nf_fit(o2, &(nf_fit_options){.steps = 3, .first_step = 7}, NULL), NF_OK);
    cr_assert_arr_eq(nf_model_state(m), nf_model_state(again), (2 * DIM + 1) * sizeof(nf_real));
    nf_objective_free(o);
    nf_objective_free(o2);
    nf_model_free(again);
    nf_model_free(m);
    remove(path);
    free(x);
}
#endif

/* ---- refusals ---- */

static void refused(nf_model *m, nf_status status, const char *words)
{
    cr_assert_null(m, "%s was accepted", words);
    cr_assert_eq(nf_error_status(), status, "%s", nf_error_message());
    cr_assert_not_null(strstr(nf_error_message(), words), "'%s' lacks '%s'", nf_error_message(), words);
}

Test(initial_batch, bad_ones_are_refused)
{
    const size_t live = alloc_live();
    nf_real *x = make_data(N, DIM);
    refused(nf_model_of_flow(nf_actnorm(DIM), &(nf_model_options){.n_init = N}), NF_EARG, "no draws of its own");
    refused(nf_model_of_flow(mixing(4), &(nf_model_options){.n_init = N, .init_x = x}), NF_EARG,
            "reads 4 features of it");
    x[7 * DIM + 1] = NF_R(NAN);
    refused(nf_model_of_flow(nf_actnorm(DIM), &(nf_model_options){.n_init = N, .init_x = x}), NF_ENOTFINITE,
            "nf_actnorm: feature 1 of the initial batch");
    x[7 * DIM + 1] = NF_R(INFINITY);
    refused(nf_model_of_flow(nf_actnorm(DIM), &(nf_model_options){.n_init = N, .init_x = x}), NF_ENOTFINITE,
            "nf_actnorm: feature 1 of the initial batch");
    cr_assert_null(nf_actnorm(0));
    cr_assert_eq(nf_error_status(), NF_EARG);
    refused(nf_model_of_flow(batch_norm(DIM), &(nf_model_options){.n_init = N, .init_x = x}), NF_ENOTFINITE,
            "nf_batch_norm: feature 1 of the initial batch");
    refused(nf_model_of_flow(nf_batch_norm(0, NULL), NULL), NF_EARG, "nf_batch_norm: `dim` is 0");
    refused(nf_model_of_flow(nf_batch_norm(2, &(nf_batch_norm_options){.decay = 1}), NULL), NF_EARG, "`decay` is 1");
    refused(nf_model_of_flow(nf_batch_norm(2, &(nf_batch_norm_options){.eps = -1e-3}), NULL), NF_EARG, "`eps` is");
    cr_assert_null(nf_amortized_by_context(nf_actnorm(2)));
    cr_assert_eq(nf_error_status(), NF_EUNSUPPORTED);
    cr_assert_eq(alloc_live(), live);
    free(x);
}

static nf_status initialise_everything(void)
{
    nf_real x[4 * DIM] = {NF_R(0.1), NF_R(0.7), NF_R(-0.3), NF_R(2.1), NF_R(-1.7), NF_R(0.9)}, ctx[4 * 4] = {0};
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(DIM), between_actnorms(4)), NULL);
    nf_status status = q ? nf_model_init(q, 1, 4, x, ctx) : nf_error_status();
    if (status == NF_OK)
        status = nf_model_init(q, 1, 4, NULL, ctx);
    nf_model_free(q);
    if (status != NF_OK)
        return status;
    nf_vae *vae = nf_vae_new(small_net(DIM, 2 * DIM + 4, 0), nf_posterior(DIM, between_actnorms(4)),
                             small_net(DIM, DIM, 0), NF_BERNOULLI);
    nf_model *m = nf_model_of_vae(vae, &(nf_model_options){.n_init = 4, .init_x = x});
    status = m ? NF_OK : nf_error_status();
    nf_model_free(m);
    return status;
}

Test(initial_batch, every_allocation_may_fail)
{
    for (size_t k = 0;; k++) {
        const size_t before = alloc_live();
        fail_alloc_once(k);
        const nf_status status = initialise_everything();
        const bool failed = fail_alloc_off();
        cr_assert_eq(alloc_live(), before, "allocation %zu: something leaked", k);
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "allocation %zu: %s", k, nf_error_message());
        if (!failed)
            break;
    }
}
