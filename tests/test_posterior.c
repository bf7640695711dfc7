/* The posterior plug-in: the closed form of a diagonal posterior, gradients against finite differences and against the
   library's own VAE, several user threads on one model, and every kind of misuse. */
#include "expect.h"
#include "fail_alloc.h"
#include "posterior_fixture.h"
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double tolerance = 2e-4, fd_tolerance = 3e-2, fd_step = 1e-2;
#else
static const double tolerance = 1e-11, fd_tolerance = 1e-6, fd_step = 1e-5;
#endif

Test(posterior, diagonal_has_the_closed_form)
{
    enum { N = 70 };
    inputs *in = new_inputs(21);
    nf_model *m = nf_model_of_dist(nf_diagonal_posterior(D), NULL);
    nf_workspace *ws = nf_workspace_new(1);
    nf_noise noise = {.seed = 3, .step = 8};
    nf_real z[N * D], zero[N * D] = {0}, eps[N * D];
    double log_q[N];
    nf_posterior_rows standard = {.n = N, .mean = zero, .log_scale = zero, .z = eps, .log_q = log_q};
    nf_posterior_rows rows = {.n = N, .mean = in->mean, .log_scale = in->log_scale, .z = z, .log_q = log_q};
    cr_assert_eq(nf_posterior_forward(m, ws, NF_TRAIN, &noise, &standard), NF_OK);
    cr_assert_eq(nf_posterior_forward(m, ws, NF_TRAIN, &noise, &rows), NF_OK);
    for (size_t i = 0; i < N; i++) {
        double exact = 0;
        for (size_t j = i * D; j < (i + 1) * D; j++) {
            double e = (double)eps[j], t = (double)in->log_scale[j];
            cr_assert_float_eq((double)z[j], (double)in->mean[j] + exp(t) * e, tolerance * 10);
            exact -= 0.5 * e * e + t + 0.5 * log(2 * acos(-1));
        }
        cr_assert_float_eq(log_q[i], exact, 10 * tolerance);
    }
    nf_real g_mean[N * D], g_log_scale[N * D];
    nf_posterior_gradients gradients = cotangents(in, N);
    gradients.g_mean = g_mean;
    gradients.g_log_scale = g_log_scale;
    cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK);
    for (size_t i = 0; i < N; i++)
        for (size_t j = i * D; j < (i + 1) * D; j++) {
            double scaled = exp((double)in->log_scale[j]) * (double)eps[j];
            cr_assert_float_eq((double)g_mean[j], (double)in->gz[j], tolerance);
            cr_assert_float_eq((double)g_log_scale[j], (double)in->gz[j] * scaled - in->g_log_q[i], 10 * tolerance);
        }
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

/* <gz, z> + <g_log_q, log_q> */
static double inner(const nf_model *m, nf_workspace *ws, const inputs *in, size_t n)
{
    static nf_real z[MOST * D];
    static double log_q[MOST];
    const nf_posterior_rows rows = rows_of(in, n, z, log_q);
    cr_assert_eq(nf_posterior_forward(m, ws, NF_TRAIN, &(nf_noise){.seed = 4, .first_sample = 11}, &rows), NF_OK, "%s",
                 nf_error_message());
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += in->g_log_q[i] * log_q[i];
    for (size_t i = 0; i < n * D; i++)
        sum += (double)in->gz[i] * (double)z[i];
    return sum;
}

/* Along a random direction of the `n_x` numbers x, <g, direction> must be the central difference. */
static void compare(const char *what, nf_model *m, nf_workspace *ws, const inputs *in, size_t n, nf_real *x, size_t n_x,
                    const nf_real *g)
{
    for (uint64_t trial = 0; trial < 4; trial++) {
        nf_real *v = calloc(n_x, sizeof *v), *kept = calloc(n_x, sizeof *kept);
        draw(1000 + trial, n_x, 1 / sqrt((double)n_x), v);
        memcpy(kept, x, n_x * sizeof *x);
        double exact = 0, side[2], scale = 0;
        for (size_t i = 0; i < n_x; i++) {
            exact += (double)g[i] * (double)v[i];
            scale += (double)g[i] * (double)g[i] / (double)n_x;
        }
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < n_x; i++)
                x[i] = kept[i] + (nf_real)(s ? fd_step : -fd_step) * v[i];
            cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
            side[s] = inner(m, ws, in, n);
        }
        memcpy(x, kept, n_x * sizeof *x);
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        double numeric = (side[1] - side[0]) / (2 * fd_step);
        cr_assert_lt(fabs(exact - numeric), fd_tolerance * (1 + sqrt(scale) + fabs(exact)),
                     "%s, %zu samples: %.9g by hand, %.9g by differences", what, n, exact, numeric);
        free(v);
        free(kept);
    }
}

Test(posterior, gradients_are_those_of_finite_differences)
{
    static const size_t sizes[] = {1, 5, 17, MOST}; /* the last in several tiles */
    inputs *in = new_inputs(31);
    nf_model *m = new_model();
    nf_workspace *ws = nf_workspace_new(1);
    size_t n_theta = nf_model_shape(m)->n_params;
    nf_real *g_mean = calloc(MOST * D, sizeof *g_mean), *g_log_scale = calloc(MOST * D, sizeof *g_log_scale);
    nf_real *g_ctx = calloc(MOST * FLOW_CTX, sizeof *g_ctx), *g = calloc(nf_model_gradient_size(m), sizeof *g);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        size_t n = sizes[k];
        memset(g, 0, nf_model_gradient_size(m) * sizeof *g);
        inner(m, ws, in, n);
        nf_posterior_gradients gradients = cotangents(in, n);
        gradients.g_mean = g_mean;
        gradients.g_log_scale = g_log_scale;
        gradients.g_ctx = g_ctx;
        gradients.g = g;
        cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK);
        cr_assert_eq(nf_model_pull_gradient(m, g, g), NF_OK);
        compare("mean", m, ws, in, n, in->mean, n * D, g_mean);
        compare("log_scale", m, ws, in, n, in->log_scale, n * D, g_log_scale);
        compare("ctx", m, ws, in, n, in->ctx, n * FLOW_CTX, g_ctx);
        compare("theta", m, ws, in, n, nf_model_theta(m), n_theta, g);
    }
    free(g_mean);
    free(g_log_scale);
    free(g_ctx);
    free(g);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

/* The library's VAE with an affine encoder and decoder, and the same by hand around the plug-in. */
Test(posterior, gradients_are_those_of_the_vae)
{
    enum { N = 37, X = 6, E = HEAD };
    nf_net *encoder = nf_mlp(X, E, 0, NULL), *decoder = nf_mlp(D, X, 0, NULL);
    size_t site = 1 + nf_object_shape(nf_net_object(encoder))->n_sites;
    nf_model *vae =
        nf_model_of_vae(nf_vae_new(encoder, flow_posterior(), decoder, NF_BERNOULLI), &(nf_model_options){.seed = 6});
    cr_assert_not_null(vae, "%s", nf_error_message());
    size_t n_enc = E * (X + 1), n_dec = X * (D + 1), n_all = nf_model_shape(vae)->n_params;
    size_t n_flow = n_all - n_enc - n_dec;
    nf_real *theta = nf_model_theta(vae);
    draw(41, n_all, 0.5, theta);
    cr_assert_eq(nf_model_update(vae, NF_TRAIN), NF_OK);
    static nf_real x[N * X];
    draw(42, N * X, 1, x);
    for (size_t i = 0; i < N * X; i++)
        x[i] = x[i] > 0;
    nf_data data = {.n = N, .dim = X, .x = x};
    nf_objective *o = nf_vae_elbo(vae, &data, &(nf_vae_options){.batch = N});
    nf_step_report report;
    nf_real *expected = calloc(n_all, sizeof *expected);
    cr_assert_eq(nf_objective_gradient(o, NULL, 12, 5, &report, expected), NF_OK, "%s", nf_error_message());

    nf_model *q = nf_model_of_dist(flow_posterior(), &(nf_model_options){.theta = theta + n_enc});
    nf_workspace *ws = nf_workspace_new(1);
    static nf_real head[N * E], g_head[N * E], z[N * D], gz[N * D];
    static double log_q[N], g_log_q[N];
    const nf_real *w = theta, *b = theta + E * X;
    for (size_t i = 0; i < N; i++)
        for (size_t r = 0; r < E; r++) {
            head[i * E + r] = b[r];
            for (size_t j = 0; j < X; j++)
                head[i * E + r] += w[r * X + j] * x[i * X + j];
        }
    nf_noise noise = {.seed = 12, .step = 5, .site = (uint32_t)site};
    const nf_posterior_rows rows = {.n = N,
                                    .mean = head,
                                    .log_scale = head + D,
                                    .ctx = head + 2 * D,
                                    .mean_stride = E,
                                    .log_scale_stride = E,
                                    .ctx_stride = E,
                                    .z = z,
                                    .log_q = log_q};
    cr_assert_eq(nf_posterior_forward(q, ws, NF_TRAIN, &noise, &rows), NF_OK, "%s", nf_error_message());
    const nf_real *wd = theta + n_enc + n_flow, *bd = wd + X * D;
    double loss = 0;
    nf_real *g = calloc(n_all + nf_model_gradient_size(q), sizeof *g), *g_dec = g + n_enc + nf_model_gradient_size(q);
    for (size_t i = 0; i < N; i++) {
        for (size_t d = 0; d < D; d++) {
            double zd = (double)z[i * D + d];
            gz[i * D + d] = (nf_real)(zd / N);
            loss += 0.5 * (zd * zd + log(2 * acos(-1)));
        }
        for (size_t r = 0; r < X; r++) {
            double l = (double)bd[r], xr = (double)x[i * X + r];
            for (size_t d = 0; d < D; d++)
                l += (double)wd[r * D + d] * (double)z[i * D + d];
            loss += log1p(exp(l)) - xr * l;
            double gl = (1 / (1 + exp(-l)) - xr) / N;
            g_dec[X * D + r] += (nf_real)gl;
            for (size_t d = 0; d < D; d++) {
                g_dec[r * D + d] += (nf_real)(gl * (double)z[i * D + d]);
                gz[i * D + d] += (nf_real)gl * wd[r * D + d];
            }
        }
        loss += log_q[i];
        g_log_q[i] = 1.0 / N;
    }
    const nf_posterior_gradients gradients = {.n = N,
                                              .gz = gz,
                                              .g_log_q = g_log_q,
                                              .g_mean = g_head,
                                              .g_log_scale = g_head + D,
                                              .g_ctx = g_head + 2 * D,
                                              .g_mean_stride = E,
                                              .g_log_scale_stride = E,
                                              .g_ctx_stride = E,
                                              .g = g + n_enc};
    cr_assert_eq(nf_posterior_backward(q, ws, &gradients), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_model_pull_gradient(q, g + n_enc, g + n_enc), NF_OK);
    for (size_t i = 0; i < N; i++)
        for (size_t r = 0; r < E; r++) {
            g[E * X + r] += g_head[i * E + r];
            for (size_t j = 0; j < X; j++)
                g[r * X + j] += g_head[i * E + r] * x[i * X + j];
        }
    memmove(g + n_enc + n_flow, g_dec, n_dec * sizeof *g);
    cr_assert_float_eq(loss / N, report.loss, 10 * tolerance);
    for (size_t i = 0; i < n_all; i++)
        cr_assert_float_eq((double)g[i], (double)expected[i], tolerance * (1 + fabs((double)expected[i])),
                           "parameter %zu of %zu: %g by hand, %g by the VAE", i, n_all, (double)g[i],
                           (double)expected[i]);
    free(g);
    free(expected);
    nf_workspace_free(ws);
    nf_model_free(q);
    nf_objective_free(o);
    nf_model_free(vae);
}

/* ---- several user threads, one model ---- */

typedef struct job {
    const nf_model *m;
    const inputs *in;
    uint64_t step;
    nf_status status;
    nf_real z[MOST * D], g_mean[MOST * D], g_log_scale[MOST * D], g_ctx[MOST * FLOW_CTX], g[64];
    double log_q[MOST];
} job;

static void *work(void *user)
{
    job *j = user;
    nf_workspace *ws = nf_workspace_new(1);
    j->status = ws ? NF_OK : NF_ENOMEM;
    for (int again = 0; again < 20 && j->status == NF_OK; again++) {
        nf_noise noise = {.seed = 4, .step = j->step};
        const nf_posterior_rows rows = rows_of(j->in, MOST, j->z, j->log_q);
        nf_posterior_gradients gradients = cotangents(j->in, MOST);
        gradients.g_mean = j->g_mean;
        gradients.g_log_scale = j->g_log_scale;
        gradients.g_ctx = j->g_ctx;
        gradients.g = j->g;
        gradients.accumulate = NF_ADD_TO_NONE;
        j->status = nf_posterior_forward(j->m, ws, NF_TRAIN, &noise, &rows);
        if (j->status == NF_OK)
            j->status = nf_posterior_backward(j->m, ws, &gradients);
    }
    nf_workspace_free(ws);
    return NULL;
}

Test(posterior, user_threads_share_a_model)
{
    enum { THREADS = 4 };
    inputs *in = new_inputs(51);
    nf_model *m = new_model();
    cr_assert_leq(nf_model_gradient_size(m), 64);
    job *serial = calloc(THREADS, sizeof *serial), *parallel = calloc(THREADS, sizeof *parallel);
    pthread_t thread[THREADS];
    for (size_t t = 0; t < THREADS; t++) {
        serial[t].m = parallel[t].m = m;
        serial[t].in = parallel[t].in = in;
        serial[t].step = parallel[t].step = t;
        work(&serial[t]);
    }
    for (size_t t = 0; t < THREADS; t++)
        cr_assert_eq(pthread_create(&thread[t], NULL, work, &parallel[t]), 0);
    for (size_t t = 0; t < THREADS; t++) {
        cr_assert_eq(pthread_join(thread[t], NULL), 0);
        cr_assert_eq(parallel[t].status, NF_OK);
        cr_assert_arr_eq(&serial[t].z, &parallel[t].z, sizeof serial->z);
        cr_assert_arr_eq(&serial[t].log_q, &parallel[t].log_q, sizeof serial->log_q);
        cr_assert_arr_eq(&serial[t].g_mean, &parallel[t].g_mean, sizeof serial->g_mean);
        cr_assert_arr_eq(&serial[t].g_ctx, &parallel[t].g_ctx, sizeof serial->g_ctx);
        cr_assert_arr_eq(&serial[t].g, &parallel[t].g, sizeof serial->g);
    }
    cr_assert_neq(memcmp(serial[0].z, serial[1].z, sizeof serial->z), 0);
    free(serial);
    free(parallel);
    nf_model_free(m);
    free(in);
}

/* ---- the tape ---- */

typedef struct results {
    nf_real z[MOST * D], g_mean[MOST * D], g[64];
    double log_q[MOST];
} results;

static nf_status forward(const nf_model *m, nf_workspace *ws, const inputs *in, size_t n, results *r)
{
    const nf_posterior_rows rows = rows_of(in, n, r->z, r->log_q);
    return nf_posterior_forward(m, ws, NF_TRAIN, &(nf_noise){.seed = 2}, &rows);
}

static nf_status backward(const nf_model *m, nf_workspace *ws, const inputs *in, size_t n, results *r)
{
    nf_posterior_gradients gradients = cotangents(in, n);
    gradients.g_mean = r->g_mean;
    gradients.g = r->g;
    gradients.accumulate = NF_ADD_TO_NONE;
    return nf_posterior_backward(m, ws, &gradients);
}

Test(posterior, the_tape_outlives_other_calls_and_can_be_read_twice)
{
    inputs *in = new_inputs(61);
    nf_model *m = new_model();
    nf_workspace *ws = nf_workspace_new(1);
    results *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    cr_assert_eq(forward(m, ws, in, MOST, a), NF_OK);
    cr_assert_eq(backward(m, ws, in, MOST, a), NF_OK);
    enum { N = 90, CTX = 2 * D + FLOW_CTX };
    static nf_real ctx[N * CTX], x[N * D];
    cr_assert_eq(nf_sample(m, ws, &(nf_noise){.seed = 77}, N, ctx, x, NULL), NF_OK);
    memcpy(b, a, sizeof *b);
    memset(b->g_mean, 0, sizeof b->g_mean);
    cr_assert_eq(backward(m, ws, in, MOST, b), NF_OK);
    cr_assert_arr_eq(a->g_mean, b->g_mean, sizeof a->g_mean);
    cr_assert_arr_eq(a->g, b->g, sizeof a->g);
    free(a);
    free(b);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

Test(posterior, nothing_is_allocated_after_the_first_step)
{
    inputs *in = new_inputs(62);
    nf_model *m = new_model();
    nf_workspace *ws = nf_workspace_new(1);
    results *r = calloc(1, sizeof *r);
    size_t after_first = 0;
    for (int step = 0; step < 5; step++) {
        cr_assert_eq(forward(m, ws, in, MOST, r), NF_OK);
        cr_assert_eq(backward(m, ws, in, MOST, r), NF_OK);
        if (step == 0)
            after_first = alloc_count();
    }
    cr_assert_eq(alloc_count(), after_first);
    free(r);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in);
}

Test(posterior, a_failed_forward_leaves_no_tape)
{
    inputs *in = new_inputs(63);
    nf_model *m = new_model();
    results *r = calloc(1, sizeof *r);
    size_t before = alloc_live(), tries = 0;
    for (size_t k = 0;; k++, tries++) {
        nf_workspace *ws = nf_workspace_new(1);
        cr_assert_eq(forward(m, ws, in, 3, r), NF_OK);
        fail_alloc_after(k);
        nf_status status = forward(m, ws, in, MOST, r);
        bool failed = fail_alloc_off();
        if (failed) {
            cr_assert_eq(status, NF_ENOMEM);
            cr_assert_eq(backward(m, ws, in, MOST, r), NF_EARG);
            cr_assert(strstr(nf_error_message(), "no successful nf_posterior_forward"));
        }
        nf_workspace_free(ws);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
    }
    cr_assert_gt(tries, 0);
    free(r);
    nf_model_free(m);
    free(in);
}

Test(posterior, misuse_is_refused)
{
    inputs *in = new_inputs(64);
    nf_model *m = new_model(), *other = new_model();
    nf_model *normal = nf_model_of_dist(nf_normal(D), NULL), *flow = nf_model_of_flow(nf_planar(D), NULL);
    nf_workspace *ws = nf_workspace_new(1);
    results *r = calloc(1, sizeof *r);
    const nf_noise noise = {.seed = 1};
    expect(backward(m, ws, in, 5, r), NF_EARG, "no successful nf_posterior_forward");
    expect(forward(NULL, ws, in, 5, r), NF_EARG, "nf_posterior_forward: `m` is NULL");
    expect(forward(m, NULL, in, 5, r), NF_EARG, "`ws` is NULL");
    expect(forward(flow, ws, in, 5, r), NF_EARG, "planar");
    expect(forward(normal, ws, in, 5, r), NF_EDIM, "takes 6 for its means and log-scales");
    expect(forward(m, ws, in, 0, r), NF_EARG, "`n` is 0");
    const nf_posterior_rows good = rows_of(in, 5, r->z, r->log_q);
    expect(nf_posterior_forward(m, ws, NF_TRAIN, NULL, &good), NF_EARG, "`noise` is NULL");
    expect(nf_posterior_forward(m, ws, NF_TRAIN, &noise, NULL), NF_EARG, "`rows` is NULL");
    expect(nf_posterior_forward(m, ws, (nf_mode)2, &noise, &good), NF_EARG, "`mode` is 2");
#define REFUSED(member, value, status, words)                                       \
    do {                                                                            \
        nf_posterior_rows bad = good;                                               \
        bad.member = value;                                                         \
        expect(nf_posterior_forward(m, ws, NF_TRAIN, &noise, &bad), status, words); \
    } while (0)
    REFUSED(mean, NULL, NF_EARG, "nf_posterior_forward: `mean` is NULL");
    REFUSED(log_scale, NULL, NF_EARG, "`log_scale` is NULL");
    REFUSED(ctx, NULL, NF_EARG, "`ctx` is NULL, but its rows have 14 numbers");
    REFUSED(z, NULL, NF_EARG, "`z` is NULL, but its rows have 3 numbers");
    REFUSED(log_q, NULL, NF_EARG, "`log_q` is NULL");
    REFUSED(mean_stride, 2, NF_EDIM, "`mean_stride` is 2, but rows of `mean` have 3 numbers");
    REFUSED(log_scale_stride, 1, NF_EDIM, "`log_scale_stride` is 1");
    REFUSED(ctx_stride, 13, NF_EDIM, "`ctx_stride` is 13");
    REFUSED(z_stride, 2, NF_EDIM, "`z_stride` is 2");
#undef REFUSED
    cr_assert_eq(forward(m, ws, in, 5, r), NF_OK);
    expect(backward(NULL, ws, in, 5, r), NF_EARG, "nf_posterior_backward: `m` is NULL");
    expect(backward(m, NULL, in, 5, r), NF_EARG, "`ws` is NULL");
    expect(backward(other, ws, in, 5, r), NF_EARG, "another model");
    expect(backward(m, ws, in, 6, r), NF_EDIM, "`n` is 6, but this workspace's last nf_posterior_forward had 5 rows");
    expect(nf_posterior_backward(m, ws, NULL), NF_EARG, "`gradients` is NULL");
    nf_posterior_gradients least = cotangents(in, 5);
#define REFUSED(member, value, status, words)                      \
    do {                                                           \
        nf_posterior_gradients bad = least;                        \
        bad.g_mean = bad.g_log_scale = r->g_mean;                  \
        bad.g_ctx = in->ctx;                                       \
        bad.member = value;                                        \
        expect(nf_posterior_backward(m, ws, &bad), status, words); \
    } while (0)
    REFUSED(gz, NULL, NF_EARG, "nf_posterior_backward: `gz` is NULL");
    REFUSED(g_log_q, NULL, NF_EARG, "`g_log_q` is NULL");
    REFUSED(accumulate, (nf_accumulate)3, NF_EARG, "`accumulate` is 3");
    REFUSED(gz_stride, 2, NF_EDIM, "`gz_stride` is 2");
    REFUSED(g_mean_stride, 1, NF_EDIM, "`g_mean_stride` is 1");
    REFUSED(g_log_scale_stride, 1, NF_EDIM, "`g_log_scale_stride` is 1");
    REFUSED(g_ctx_stride, 13, NF_EDIM, "`g_ctx_stride` is 13");
#undef REFUSED
    cr_assert_eq(nf_posterior_backward(m, ws, &least), NF_OK, "no gradient need be wanted");
    cr_assert_eq(backward(m, ws, in, 5, r), NF_OK);
    cr_assert_eq(forward(m, ws, in, 0, r), NF_EARG);
    expect(backward(m, ws, in, 5, r), NF_EARG, "no successful nf_posterior_forward"); /* the last one was refused */
    free(r);
    nf_workspace_free(ws);
    nf_model_free(m);
    nf_model_free(other);
    nf_model_free(normal);
    nf_model_free(flow);
    free(in);
}

/* ---- where a context starts ---- */

Test(start, context_holds_the_flows_own_parameters)
{
    enum { D = 3 };
    nf_noise noise = {.seed = 5};
    nf_flow *flow = nf_amortized_by_context(nf_chain((nf_flow *[]){nf_planar(D), nf_planar(D)}, 2));
    nf_dist *q = nf_posterior(D, flow);
    size_t n = nf_dist_shape(q)->n_ctx;
    cr_assert_eq(n, 2 * D + 2 * (2 * D + 1));
    nf_real ctx[20];
    cr_assert_eq(nf_start_context(nf_dist_object(q), &noise, ctx), NF_OK);
    for (size_t i = 0; i < 2 * D; i++)
        cr_assert_eq(ctx[i], 0, "mean and log-scale start at 0");
    for (size_t layer = 0; layer < 2; layer++) { /* planar's own start: |w| = 1, b = 0, layers differ */
        const nf_real *w = ctx + 2 * D + layer * (2 * D + 1);
        double norm = 0;
        for (size_t i = 0; i < D; i++)
            norm += (double)w[i] * (double)w[i];
        cr_assert_float_eq(norm, 1, 1e-5);
        cr_assert_eq(w[2 * D], 0);
    }
    cr_assert_neq(ctx[2 * D], ctx[2 * D + 2 * D + 1]);
    cr_assert_eq(nf_start_context(NULL, &noise, ctx), NF_EARG);
    cr_assert_eq(nf_start_context(nf_dist_object(q), NULL, ctx), NF_EARG);
    cr_assert_eq(nf_start_context(nf_dist_object(q), &noise, NULL), NF_EARG);
    nf_dist_free(q);
}

Test(start, an_encoder_and_a_head_start_there)
{
    enum { D = 2, X = 4 };
    const nf_mlp_options silent = {.last_scale = -1}; /* the output is the bias */
    nf_flow *flow = nf_amortized_by_context(nf_planar(D));
    nf_model *m = nf_model_of_vae(nf_vae_new(nf_mlp(X, 2 * D + 2 * D + 1, 0, &silent), nf_posterior(D, flow),
                                             nf_mlp(D, X, 0, NULL), NF_BERNOULLI),
                                  &(nf_model_options){.seed = 3});
    cr_assert_not_null(m, "%s", nf_error_message());
    const nf_real *bias = nf_model_theta(m) + X * (4 * D + 1);
    cr_assert_float_eq((double)(bias[2 * D] * bias[2 * D] + bias[2 * D + 1] * bias[2 * D + 1]), 1, 1e-5);
    nf_model_free(m);

    nf_flow *own = nf_planar(D), *headed = nf_amortized(nf_planar(D), nf_mlp(X, 2 * D + 1, 0, &silent));
    nf_model *plain = nf_model_of_flow(own, NULL), *amortized = nf_model_of_flow(headed, NULL);
    const nf_real *w = nf_model_theta(amortized) + X * (2 * D + 1);
    cr_assert_float_eq((double)(w[0] * w[0] + w[1] * w[1]), 1, 1e-5);
    cr_assert_eq(nf_model_shape(plain)->n_params, 2 * D + 1);
    nf_model_free(plain);
    nf_model_free(amortized);
}
