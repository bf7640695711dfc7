/* Every allocation of the library fails in turn, and so does every piece of an arena: a status or NULL comes back,
   nothing leaks, nothing is half built. */
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <unistd.h>

/* A scenario returns NF_OK, or the status of what failed; it releases all it made. */
typedef nf_status scenario(void);

static nf_status failed_constructor(void)
{
    return nf_error_status();
}

static int gaussian(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                    unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t i = 0; i < n; i++) {
        log_p[i] = 0;
        for (size_t k = 0; k < d; k++) {
            log_p[i] -= 0.5 * x[i * d + k] * x[i * d + k];
            if (grad)
                grad[i * d + k] = -x[i * d + k];
        }
    }
    return 0;
}

static const size_t order[] = {2, 0, 1};

static nf_flow *every_flow(void)
{
    return nf_chain((nf_flow *[]){nf_planar(3), nf_invert(nf_radial(3)), nf_affine(3), nf_permutation(3, order),
                                  nf_lu_linear(3, 1), nf_shift(3), nf_scaled_affine(3, NULL), nf_spline(3, NULL),
                                  nf_householder(3, 2), nf_sylvester(3, NULL), nf_actnorm(3), nf_batch_norm(3, NULL),
                                  nf_full_affine(3), nf_low_rank_affine(3, 2), nf_soft_log(3, NULL),
                                  nf_pixelwise(nf_actnorm(1), 3),
                                  nf_recomputed_chain((nf_flow *[]){nf_planar(3), nf_affine(3)}, 2)},
                    17);
}

static nf_status fit(nf_thread_rule rule)
{
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(3), every_flow()), NULL);
    if (!q)
        return failed_constructor();
    nf_target *target = nf_target_callback(3, gaussian, NULL, rule);
    nf_objective *elbo = target ? nf_elbo(q, target, NULL) : NULL;
    nf_status status = elbo ? nf_fit(elbo, &(nf_fit_options){.steps = 3, .threads = 1}, NULL) : failed_constructor();
    nf_objective_free(elbo);
    nf_target_free(target);
    nf_model_free(q);
    return status;
}

static nf_status fit_threadsafe(void)
{
    return fit(NF_THREADSAFE);
}

static nf_status fit_serial(void)
{
    return fit(NF_SERIAL);
}

static nf_status alone(void *user, const nf_reduction *r)
{
    (void)user, (void)r;
    return NF_OK;
}

/* A fitter with all that it may have, in two runs. */
static nf_status fitter(void)
{
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(3), every_flow()), NULL);
    if (!q)
        return failed_constructor();
    nf_target *target = nf_target_callback(3, gaussian, NULL, NF_SERIAL);
    nf_objective *elbo = target ? nf_elbo(q, target, NULL) : NULL;
    const nf_ranks ranks = {.n_ranks = 1, .all_reduce = alone};
    const nf_fit_options options = {
        .steps = 3, .threads = 1, .average = 0.9, .validation = elbo, .validate_every = 2, .ranks = &ranks};
    nf_fitter *f = elbo ? nf_fitter_new(elbo, &options) : NULL;
    nf_status status = f ? nf_fitter_run(f, 1, NULL) : failed_constructor();
    if (status == NF_OK)
        status = nf_fitter_run(f, 0, NULL);
    nf_real g[1000];
    cr_assert_leq(nf_model_shape(q)->n_params, 1000);
    if (status == NF_OK)
        status = nf_objective_rank_gradient(elbo, NULL, &ranks, 1, 1, NULL, g);
    nf_fitter_free(f);
    nf_objective_free(elbo);
    nf_target_free(target);
    nf_model_free(q);
    return status;
}

/* An ELBO of a distribution, and draws and scores of it. */
static nf_status distribution(nf_dist *dist)
{
    nf_model *q = nf_model_of_dist(dist, NULL);
    if (!q)
        return failed_constructor();
    nf_target *target = nf_target_callback(3, gaussian, NULL, NF_THREADSAFE);
    nf_objective *elbo = target ? nf_elbo(q, target, NULL) : NULL;
    nf_status status = elbo ? nf_fit(elbo, &(nf_fit_options){.steps = 3, .threads = 1}, NULL) : failed_constructor();
    nf_real x[6];
    double log_q[2];
    if (status == NF_OK)
        status = nf_sample(q, NULL, &(nf_noise){.seed = 1}, 2, NULL, x, log_q);
    if (status == NF_OK)
        status = nf_log_prob(q, NULL, NULL, 2, x, NULL, log_q);
    nf_objective_free(elbo);
    nf_target_free(target);
    nf_model_free(q);
    return status;
}

static nf_status student_t(void)
{
    return distribution(nf_student_t(3, &(nf_student_t_options){.learn = true}));
}

static nf_status mixture(void)
{
    return distribution(nf_mixture(3, 2));
}

static nf_status gaussian_mixture(void)
{
    return distribution(nf_gaussian_mixture(3, 2));
}

static nf_status fit_mixture(void)
{
    const nf_real x[] = {1, 2, 3, 5, 4, 8, 5, 1, 3, 3, 7, 1};
    nf_model *m = nf_model_of_dist(nf_gaussian_mixture(2, 2), NULL);
    const nf_data data = {.n = 6, .dim = 2, .x = x};
    nf_status status = m ? nf_fit_mixture(m, &data, &(nf_em_options){.threads = 1}, NULL) : failed_constructor();
    nf_model_free(m);
    return status;
}

/* Draws of it, and a fit. */
static nf_status conditional_mixture(void)
{
    const nf_real ctx[4] = {NF_R(0.1), NF_R(0.2), NF_R(0.3), NF_R(0.4)};
    nf_real x[6];
    nf_model *q = nf_model_of_dist(nf_conditional_mixture(3, 2, nf_mlp(2, 14, 0, NULL)), NULL);
    if (!q)
        return failed_constructor();
    nf_status status = nf_sample(q, NULL, &(nf_noise){.seed = 1}, 2, ctx, x, NULL);
    if (status == NF_OK) {
        const nf_data data = {.n = 2, .dim = 3, .x = x, .n_ctx = 2, .ctx = ctx};
        nf_objective *o = nf_maximum_likelihood(q, &data, NULL);
        status = o ? nf_fit(o, &(nf_fit_options){.steps = 3, .threads = 1}, NULL) : failed_constructor();
        nf_objective_free(o);
    }
    nf_model_free(q);
    return status;
}

static nf_status full_normal(void)
{
    return distribution(nf_full_normal(3));
}

static nf_status logistic(void)
{
    return distribution(nf_pushforward(nf_logistic(3), nf_affine(3)));
}

static nf_status joint(void)
{
    return distribution(nf_joint(nf_diagonal_normal(1),
                                 nf_pushforward(nf_conditional_normal(2, nf_mlp(1, 4, 0, NULL)), nf_actnorm(2))));
}

static nf_status dequantised(void)
{
    static const double zeros[3] = {0, 0, 0}, ones[3] = {1, 1, 1};
    static const nf_real x[6] = {0, 1, 0, 1, 1, 0};
    nf_dist *noise = nf_pushforward(nf_conditional_normal(3, nf_mlp(3, 6, 0, NULL)), nf_bounds(3, zeros, ones));
    nf_model *q = nf_model_of_dist(nf_dequantised(nf_pushforward(nf_normal(3), nf_actnorm(3)), noise, NULL),
                                   &(nf_model_options){.n_init = 2, .init_x = x});
    const nf_data data = {.n = 2, .dim = 3, .x = x};
    nf_objective *o = q ? nf_maximum_likelihood(q, &data, NULL) : NULL;
    nf_status status = o ? nf_fit(o, &(nf_fit_options){.steps = 3, .threads = 1}, NULL) : failed_constructor();
    nf_real drawn[6];
    double log_q[2];
    if (status == NF_OK)
        status = nf_sample(q, NULL, &(nf_noise){.seed = 1}, 2, NULL, drawn, log_q);
    nf_objective_free(o);
    nf_model_free(q);
    return status;
}

static nf_status uniform(void)
{
    return distribution(nf_pushforward(nf_uniform(3, -0.5, 0.5), nf_affine(3)));
}

static nf_status finite_difference(void)
{
    nf_target *target = nf_target_finite_difference(2, gaussian, NULL, NF_SERIAL, 0);
    double x[4] = {0.1, 0.2, 0.3, 0.4}, log_p[2], grad[4];
    nf_status status = target ? nf_target_eval(target, 2, x, log_p, grad, NULL) : failed_constructor();
    nf_target_report report;
    if (status == NF_OK)
        status = nf_target_check(target, 2, x, &report);
    nf_target_free(target);
    return status;
}

static nf_status score_and_transform(void)
{
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(3), every_flow()), NULL);
    if (!q)
        return failed_constructor();
    nf_real x[6] = {NF_R(0.1), NF_R(0.2), NF_R(0.3), NF_R(0.4), NF_R(0.5), NF_R(0.6)}, y[6], g[400] = {0};
    double log_p[2];
    nf_noise noise = {.seed = 1};
    nf_check_report report;
    nf_status status = nf_sample(q, NULL, &noise, 2, NULL, y, log_p);
    if (status == NF_OK)
        status = nf_log_prob(q, NULL, NULL, 2, x, NULL, log_p);
    if (status == NF_OK)
        status = nf_transform_vjp(q, NULL, NULL, NF_INVERSE, 2, x, NULL, x, NULL, y, NULL, g);
    if (status == NF_OK)
        status = nf_check_flow(q, &(nf_check_options){.n = 2}, &report);
    nf_model_free(q);
    return status;
}

static nf_model *small_vae(void)
{
    const size_t hidden[] = {4};
    nf_mlp_options o = {.hidden = hidden, .n_hidden = 1};
    nf_flow *flow = nf_amortized_by_context(nf_chain((nf_flow *[]){nf_planar(2), nf_radial(2)}, 2));
    size_t rows = flow ? 4 + nf_flow_shape(flow)->n_ctx : 1;
    return nf_model_of_vae(nf_vae_new(nf_mlp(6, rows, 0, &o), nf_posterior(2, flow), nf_mlp(2, 6, 0, &o), NF_BERNOULLI),
                           NULL);
}

static const unsigned char pictures[4 * 6] = {0, 255, 0, 255, 255, 0, 255, 255, 0, 0, 0, 255,
                                              9, 200, 0, 100, 255, 0, 0,   0,   0, 7, 0, 255};

static nf_status vae(void)
{
    nf_model *m = small_vae();
    if (!m)
        return failed_constructor();
    nf_data data = {.n = 4, .dim = 6, .bytes = pictures, .binarise = NF_BINARISE_STATIC};
    nf_objective *elbo = nf_vae_elbo(m, &data, &(nf_vae_options){.batch = 3});
    nf_status status = elbo ? nf_fit(elbo, &(nf_fit_options){.steps = 2, .threads = 1}, NULL) : failed_constructor();
    nf_vae_scores scores;
    nf_real x[12], z[4], back[12];
    nf_noise noise = {.seed = 1};
    for (size_t i = 0; i < 12; i++)
        x[i] = (nf_real)(i % 2);
    if (status == NF_OK)
        status = nf_vae_score(m, NULL, &data, 3, 1, NULL, NULL, &scores);
    if (status == NF_OK)
        status = nf_vae_encode(m, NULL, &noise, 2, x, z, NULL);
    if (status == NF_OK)
        status = nf_vae_decode(m, NULL, &noise, 2, z, back);
    nf_objective_free(elbo);
    nf_model_free(m);
    return status;
}

/* Draws of a posterior while it is trained, and back. */
static nf_status drawn(size_t dim, nf_flow *flow)
{
    nf_model *m = nf_model_of_dist(nf_posterior(dim, flow), NULL);
    nf_workspace *ws = m ? nf_workspace_new(1) : NULL;
    nf_status status = ws ? NF_OK : failed_constructor();
    nf_real rows[2 * 5] = {NF_R(0.1), NF_R(-0.2), NF_R(0.3), NF_R(0.7)}, z[2 * 3], g[2 * 5], g_model[1000] = {0};
    cr_assert_leq(nf_model_gradient_size(m), 1000);
    double log_q[2];
    nf_noise noise = {.seed = 1};
    if (status == NF_OK)
        status = nf_posterior_forward(
            m, ws, NF_TRAIN, &noise,
            &(nf_posterior_rows){.n = 2, .mean = rows, .log_scale = rows, .ctx = rows, .z = z, .log_q = log_q});
    if (status == NF_OK)
        status = nf_posterior_backward(
            m, ws,
            &(nf_posterior_gradients){
                .n = 2, .gz = z, .g_log_q = log_q, .g_mean = g, .g_log_scale = g, .g_ctx = g, .g = g_model});
    nf_workspace_free(ws);
    nf_model_free(m);
    return status;
}

static nf_status plug_in(void)
{
    return drawn(2, nf_amortized_by_context(nf_planar(2)));
}

/* A flow of 3 features begins from data, is fitted to them, and checked in both directions. */
static nf_status scored(nf_flow *flow)
{
    const nf_real x[4 * 3] = {NF_R(0.1), NF_R(1.2), NF_R(-0.3), NF_R(0.4),  NF_R(-0.7), NF_R(0.2),
                              NF_R(0.9), NF_R(0.3), NF_R(-1.1), NF_R(-0.2), NF_R(0.5),  NF_R(0.8)};
    const nf_real *ctx = nf_flow_shape(flow)->n_ctx ? x : NULL;
    nf_model_options options = {.n_init = 4, .init_x = x, .init_ctx = ctx};
    nf_data data = {.n = 4, .dim = 3, .x = x, .n_ctx = nf_flow_shape(flow)->n_ctx, .ctx = ctx};
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(3), flow), &options);
    nf_objective *o = q ? nf_maximum_likelihood(q, &data, NULL) : NULL;
    nf_status status = o ? nf_fit(o, &(nf_fit_options){.steps = 1, .threads = 1}, NULL) : failed_constructor();
    nf_check_report report;
    if (status == NF_OK)
        status = nf_check_flow(q, &(nf_check_options){.n = 2}, &report);
    nf_objective_free(o);
    nf_model_free(q);
    return status;
}

static nf_status trained_both_ways(nf_flow *flow)
{
    nf_flow *again = nf_flow_ref(flow);
    nf_status status = scored(flow);
    if (status == NF_OK)
        return drawn(3, again);
    nf_flow_free(again);
    return status;
}

static nf_status layers(void)
{
    return trained_both_ways(every_flow());
}

static const size_t widths[] = {3, 4};

static nf_flow *continuous_flow(nf_ode_gradient gradient)
{
    return nf_continuous(
        nf_squash_mlp(4, 3, 2, &(nf_mlp_options){.hidden = widths, .n_hidden = 1, .activation = NF_SWISH}),
        &(nf_continuous_options){
            .rtol = 0.5, .atol = 0.5, .end = 1e-3, .solver = NF_BOSH3, .gradient = gradient}); /* few stages */
}

static nf_status continuous(void)
{
    const nf_status status = trained_both_ways(continuous_flow(NF_THROUGH_STEPS));
    return status == NF_OK ? trained_both_ways(continuous_flow(NF_ADJOINT)) : status;
}

static nf_status autoregressive(nf_direction parallel, nf_flow *transform, size_t n_ctx, const nf_masked_options *net)
{
    size_t n = transform ? nf_flow_shape(transform)->n_params : 1;
    return trained_both_ways(nf_autoregressive(transform, nf_masked_net(3, n, n_ctx, net), order, parallel));
}

static const nf_masked_options plain = {.hidden = widths, .n_hidden = 2};
static const nf_masked_options residual = {.hidden = widths, .n_hidden = 1, .n_blocks = 1, .dropout = 0.3};

static nf_status autoregressive_forward(void)
{
    return autoregressive(NF_FORWARD, nf_affine(1), 0, &plain);
}

static nf_status autoregressive_inverse(void)
{
    return autoregressive(NF_INVERSE, nf_spline(1, &(nf_spline_options){.bins = 2}), 0, &plain);
}

static nf_status residual_autoregressive_forward(void)
{
    return autoregressive(NF_FORWARD, nf_spline(1, &(nf_spline_options){.bins = 2}), 2, &residual);
}

static nf_status residual_autoregressive_inverse(void)
{
    return autoregressive(NF_INVERSE, nf_scaled_affine(1, NULL), 2, &residual);
}

static nf_status couplings(void)
{
    const unsigned char two[] = {1, 0, 1}, one[] = {0, 1, 0};
    const nf_residual_mlp_options blocks = {.width = 4, .n_blocks = 1, .dropout = 0.3};
    return trained_both_ways(nf_chain(
        (nf_flow *[]){
            nf_coupling(3, two, nf_spline(2, &(nf_spline_options){.bins = 2}), nf_residual_mlp(1, 10, 2, &blocks)),
            nf_coupling(3, one, nf_affine(1),
                        nf_gated_mlp(2, 2, 2, &(nf_mlp_options){.hidden = widths, .n_hidden = 1})),
            nf_coupling(3, two, nf_shift(2),
                        nf_maxout_mlp(1, 2, 0, &(nf_maxout_options){.hidden = widths, .n_hidden = 1})),
            nf_coupling(3, two, nf_shift(2), nf_masked_net(1, 2, 2, &residual)),
            nf_on_context(nf_amortized(nf_full_affine(3), nf_mlp(1, 9, 0, NULL)), 2, 1)},
        5));
}

static nf_status likelihood(void)
{
    const nf_real x[] = {NF_R(0.1), NF_R(1.2), NF_R(-0.3), NF_R(0.4)};
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(1), NULL);
    if (!m)
        return failed_constructor();
    nf_data data = {.n = 4, .dim = 1, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, NULL);
    nf_status status =
        o ? nf_fit(o, &(nf_fit_options){.steps = 2, .threads = 1, .validation = o}, NULL) : failed_constructor();
    nf_objective_free(o);
    nf_model_free(m);
    return status;
}

static nf_status save_and_load(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/nflow-alloc-%ld-%zu.safetensors", (long)getpid(), sizeof(nf_real));
    nf_model *m = small_vae();
    nf_status status = m ? nf_save(m, path) : failed_constructor();
    nf_model *back = status == NF_OK ? nf_load(path, NULL) : NULL;
    if (status == NF_OK && !back)
        status = failed_constructor();
    nf_model_free(back);
    nf_model_free(m);
    remove(path);
    return status;
}

/* A model with prepared numbers and notes, and its copy. */
static nf_status copied(void)
{
    nf_model *m = nf_model_of_flow(every_flow(), NULL);
    nf_status status = m ? nf_model_set_notes(m, 1, &(nf_note){"unit", "km"}) : failed_constructor();
    nf_model *copy = status == NF_OK ? nf_model_copy(m) : NULL;
    if (status == NF_OK && !copy)
        status = failed_constructor();
    nf_model_free(copy);
    nf_model_free(m);
    return status;
}

static nf_flow *every_constraint(void)
{
    const double lower[] = {-INFINITY, 0, 1}, upper[] = {2, 1, INFINITY};
    return nf_blocks((nf_flow *[]){nf_identity(1), nf_lower(1, 2), nf_upper(1, 3), nf_interval(1, -1, 2),
                                   nf_bounds(3, lower, upper), nf_offset_multiplier(1, NULL, NULL), nf_ordered(2),
                                   nf_positive_ordered(2), nf_simplex_stick(3), nf_simplex_ilr(3), nf_sum_to_zero(3),
                                   nf_column_stochastic(2, 2, NF_SIMPLEX_STICK),
                                   nf_row_stochastic(2, 2, NF_SIMPLEX_ILR), nf_cholesky_corr(3), nf_corr_matrix(3),
                                   nf_cholesky_cov(3, 2), nf_cov_matrix(2)},
                     17);
}

static nf_status constraints(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/nflow-alloc-constraints-%ld-%zu.safetensors", (long)getpid(), sizeof(nf_real));
    nf_model *m = nf_model_of_flow(every_constraint(), NULL);
    enum { ROWS = 64 };
    nf_real x[ROWS] = {0}, y[ROWS], g[ROWS];
    cr_assert_leq(nf_model_shape(m)->dim_out, ROWS);
    nf_status status = m ? nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL) : failed_constructor();
    if (status == NF_OK)
        status = nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL, g, NULL, NULL);
    if (status == NF_OK)
        status = nf_transform_vjp(m, NULL, NULL, NF_INVERSE, 1, y, NULL, x, NULL, g, NULL, NULL);
#ifdef NFI_JANSSON
    if (status == NF_OK)
        status = nf_save(m, path);
    nf_model *back = status == NF_OK ? nf_load(path, NULL) : NULL;
    if (status == NF_OK && !back)
        status = failed_constructor();
    nf_model_free(back);
    remove(path);
#endif
    nf_model_free(m);
    return status;
}

static void fail_each(scenario *run, void fail(size_t k))
{
    size_t failures = 0;
    for (size_t k = 0;; k++) {
        size_t before = alloc_live();
        fail(k);
        nf_status status = run();
        bool failed = fail_alloc_off();
        cr_assert_eq(alloc_live(), before, "allocation %zu: %zd blocks leaked", k, (ssize_t)(alloc_live() - before));
        if (!failed) {
            cr_assert_eq(status, NF_OK, "%s", nf_error_message());
            break;
        }
        cr_assert_eq(status, NF_ENOMEM, "allocation %zu failed, but the status is %d: %s", k, (int)status,
                     nf_error_message());
        failures++;
    }
    cr_assert(failures > 1, "only %zu allocations were seen", failures);
}

/* Allocations of a fit of so many steps. */
static size_t allocations(nf_objective *o, uint64_t steps)
{
    size_t before = alloc_count();
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = steps, .threads = 2, .validate_every = 10}, NULL), NF_OK);
    return alloc_count() - before;
}

Test(alloc, nothing_is_allocated_after_the_first_steps)
{
    nf_data data = {.n = 4, .dim = 6, .bytes = pictures, .binarise = NF_BINARISE_STATIC};
    nf_model *m = small_vae(), *q = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(3), every_flow()), NULL);
    nf_target *target = nf_target_callback(3, gaussian, NULL, NF_SERIAL);
    nf_objective *vae_elbo = nf_vae_elbo(m, &data, &(nf_vae_options){.batch = 3});
    nf_objective *elbo = nf_elbo(q, target, &(nf_elbo_options){.draws = 700});
    /* On a busy machine a thread may have had no tile in three steps and all of them in a later one, so its two arenas
     * may still grow: by some chunks, not by one a step. */
    const size_t chunks = 2 * 2 * 6;
    cr_assert(allocations(vae_elbo, 1000) <= allocations(vae_elbo, 3) + chunks);
    cr_assert(allocations(elbo, 1000) <= allocations(elbo, 3) + chunks);
    nf_objective_free(elbo);
    nf_objective_free(vae_elbo);
    nf_target_free(target);
    nf_model_free(q);
    nf_model_free(m);
}

#define EACH_BLOCK(name)                  \
    Test(alloc, name)                     \
    {                                     \
        fail_each(name, fail_alloc_once); \
    }
#define EACH(name)                        \
    EACH_BLOCK(name)                      \
    Test(arena, name)                     \
    {                                     \
        fail_each(name, fail_arena_once); \
    }
EACH(fit_threadsafe)
EACH(fit_serial)
EACH(fitter)
EACH(student_t)
EACH(mixture)
EACH(gaussian_mixture)
EACH(fit_mixture)
EACH(conditional_mixture)
EACH(full_normal)
EACH(logistic)
EACH(joint)
EACH(dequantised)
EACH(uniform)
EACH_BLOCK(finite_difference)
EACH(score_and_transform)
EACH(vae)
EACH(plug_in)
EACH(layers)
EACH(autoregressive_forward)
EACH(autoregressive_inverse)
EACH(residual_autoregressive_forward)
EACH(residual_autoregressive_inverse)
EACH(couplings)
EACH(continuous)
EACH(likelihood)
EACH(save_and_load)
EACH(constraints)
EACH_BLOCK(copied)
