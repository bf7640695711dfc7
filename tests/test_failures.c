/* Samples that fail cost themselves: batch calls mark their rows, steps leave them out, fits go on. The reference is
   always the sound model on the samples that are left. */
#include "fit/fitter.h"
#include "fragile.h"
#include "objective_fixture.h"
#include <string.h>

enum { DIM = 3, N = 500 };

static nf_model *dist_model(nf_flow *flow)
{
    return stir(nf_model_of_dist(nf_pushforward(nf_normal(DIM), flow), NULL), 0.2);
}

static nf_real *normals(size_t count, uint64_t seed)
{
    nf_real *x = calloc(count, sizeof *x);
    nf_noise_normal(&(nf_noise){.seed = seed}, count, 1, 1, x);
    return x;
}

/* ---- batch calls ---- */

/* Rows of `bad` are NaN throughout or equal to those of `good`, bit for bit; returns how many are NaN. */
static size_t compare_rows(size_t n, size_t dim, const nf_real *bad, const nf_real *good, const double *bad_log,
                           const double *good_log)
{
    size_t failed = 0;
    for (size_t i = 0; i < n; i++) {
        const bool is_nan = bad_log ? isnan(bad_log[i]) : isnan(bad[i * dim]);
        failed += is_nan;
        for (size_t c = 0; c < dim; c++)
            if (is_nan)
                cr_assert(isnan(bad[i * dim + c]), "row %zu", i);
            else
                cr_assert_eq(bad[i * dim + c], good[i * dim + c], "row %zu", i);
        if (bad_log && !is_nan)
            cr_assert_eq(bad_log[i], good_log[i], "row %zu", i);
    }
    return failed;
}

Test(failures, rows_of_batch_calls)
{
    const nf_noise noise = {.seed = 8, .first_sample = 77};
    for (int percent = 1; percent <= 100; percent += percent == 1 ? 49 : 50) {
        nf_model *bad = dist_model(fragile_chain(DIM, INFINITY, percent / 100.0));
        nf_model *good = dist_model(fragile_chain(DIM, INFINITY, 0));
        nf_workspace *ws = nf_workspace_new(2);
        nf_real *x = normals(N * DIM, 3), *y = calloc(N * DIM, sizeof *y), *z = calloc(N * DIM, sizeof *z);
        double *p = calloc(N, sizeof *p), *q = calloc(N, sizeof *q);
        size_t expected = 0;
        for (size_t i = 0; i < N; i++)
            expected += fragile_fails(&noise, percent / 100.0, i);
        cr_assert(percent == 100 ? expected == N : expected > 0 && expected < N);
        for (int d = 0; d < 2; d++) {
            cr_assert_eq(nf_transform(bad, ws, &noise, (nf_direction)d, N, x, NULL, y, p), NF_OK);
            cr_assert_eq(nf_workspace_failed(ws), expected);
            cr_assert_eq(nf_transform(good, ws, &noise, (nf_direction)d, N, x, NULL, z, q), NF_OK);
            cr_assert_eq(nf_workspace_failed(ws), 0);
            cr_assert_eq(compare_rows(N, DIM, y, z, p, q), expected);
        }
        cr_assert_eq(nf_sample(bad, ws, &noise, N, NULL, y, p), NF_OK);
        cr_assert_eq(nf_workspace_failed(ws), expected);
        cr_assert_eq(nf_sample(good, NULL, &noise, N, NULL, z, q), NF_OK);
        cr_assert_eq(compare_rows(N, DIM, y, z, p, q), expected);
        cr_assert_eq(nf_log_prob(bad, ws, &noise, N, x, NULL, p), NF_OK);
        cr_assert_eq(nf_workspace_failed(ws), expected);
        cr_assert_eq(nf_log_prob(good, NULL, NULL, N, x, NULL, q), NF_OK);
        cr_assert_eq(compare_rows(N, 0, NULL, NULL, p, q), expected);
        free(x), free(y), free(z), free(p), free(q);
        nf_workspace_free(ws);
        nf_model_free(bad);
        nf_model_free(good);
    }
}

/* The gradient in theta is that of the rows that are left; those rows' gx are as if they were alone. */
Test(failures, gradients_of_batch_calls)
{
    for (int d = 0; d < 2; d++)
        for (int all = 0; all < 2; all++) {
            const double limit = all ? -INFINITY : 0.4;
            nf_model *bad = stir(nf_model_of_flow(fragile_chain(DIM, limit, 0), NULL), 0.2);
            nf_model *good = stir(nf_model_of_flow(fragile_chain(DIM, INFINITY, 0), NULL), 0.2);
            const size_t n_params = nf_model_shape(good)->n_params;
            nf_workspace *ws = nf_workspace_new(2);
            nf_real *x = normals(N * DIM, 3), *gy = normals(N * DIM, 4), *gl = normals(N, 5);
            nf_real *gx = calloc(N * DIM, sizeof *gx), *y = calloc(N * DIM, sizeof *y);
            nf_real *left = calloc(N * DIM, sizeof *x), *left_gy = calloc(N * DIM, sizeof *x);
            nf_real *left_gl = calloc(N, sizeof *x), *left_gx = calloc(N * DIM, sizeof *x);
            nf_real *g = calloc(n_params, sizeof *g), *want = calloc(n_params, sizeof *want);
            cr_assert_eq(nf_transform(bad, ws, NULL, (nf_direction)d, N, x, NULL, y, NULL), NF_OK);
            const size_t failed = nf_workspace_failed(ws);
            cr_assert(all ? failed == N : failed > N / 10 && failed < N);
            size_t n = 0;
            for (size_t i = 0; i < N; i++) {
                if (isnan(y[i * DIM]))
                    continue;
                memcpy(left + n * DIM, x + i * DIM, DIM * sizeof *x);
                memcpy(left_gy + n * DIM, gy + i * DIM, DIM * sizeof *x);
                left_gl[n++] = gl[i];
            }
            cr_assert_eq(nf_transform_vjp(bad, ws, NULL, (nf_direction)d, N, x, NULL, gy, gl, gx, NULL, g), NF_OK);
            cr_assert_eq(nf_workspace_failed(ws), failed);
            if (n)
                cr_assert_eq(nf_transform_vjp(good, ws, NULL, (nf_direction)d, n, left, NULL, left_gy, left_gl, left_gx,
                                              NULL, want),
                             NF_OK);
            for (size_t k = 0; k < n_params; k++)
                cr_assert_float_eq(g[k], want[k], 300 * rounding * (1 + fabs((double)want[k])));
            n = 0;
            for (size_t i = 0; i < N; i++)
                for (size_t c = 0; c < DIM; c++)
                    if (isnan(y[i * DIM]))
                        cr_assert(isnan(gx[i * DIM + c]));
                    else
                        cr_assert_eq(gx[i * DIM + c], left_gx[n++]);
            free(x), free(gy), free(gl), free(gx), free(y), free(left), free(left_gy), free(left_gl), free(left_gx);
            free(g), free(want);
            nf_workspace_free(ws);
            nf_model_free(bad);
            nf_model_free(good);
        }
}

/* ---- steps ---- */

static nf_step_report gradient_of(nf_objective *o, size_t threads, nf_real *g)
{
    nf_step_report r;
    nf_workspace *ws = nf_workspace_new(threads);
    cr_assert_eq(nf_objective_gradient(o, ws, 41, 5, &r, g), NF_OK, "%s", nf_error_message());
    nf_workspace_free(ws);
    return r;
}

/* The mean loss of accepted draws alone: an ELBO adds the share of accepted ones (its third term). */
static double mean_loss(const nf_step_report *r)
{
    return r->loss + r->term[2];
}

/* Reports and gradients to rounding, for several numbers of threads, equal bits among these. A step moves the state of
   layers with statistics; each step starts where the first one did. */
static void compare_steps(nf_objective *bad, nf_objective *good, size_t failed)
{
    nf_model *m = nf_objective_model(bad);
    const size_t n = nf_model_shape(m)->n_params, n_state = nf_model_shape(m)->n_state;
    nf_real *state = malloc((n_state + 1) * sizeof *state);
    memcpy(state, nf_model_state(m), n_state * sizeof *state);
    nf_real *g = calloc(n, sizeof *g), *again = calloc(n, sizeof *g), *want = calloc(n, sizeof *want);
    const nf_step_report r = gradient_of(bad, 1, g), w = gradient_of(good, 1, want);
    cr_assert_eq(r.failed, failed);
    cr_assert_eq(w.failed, 0);
    cr_assert_float_eq(mean_loss(&r), mean_loss(&w), 300 * rounding * (1 + fabs(w.loss)), "%.17g, not %.17g", r.loss,
                       w.loss);
    cr_assert_float_eq(r.worst_log_det, w.worst_log_det, 30 * rounding * (1 + w.worst_log_det));
    for (size_t k = 0; k < n; k++)
        cr_assert_float_eq(g[k], want[k], 300 * rounding * (1 + fabs((double)want[k])), "%zu: %g, not %g", k,
                           (double)g[k], (double)want[k]);
    for (size_t threads = 2; threads <= 4; threads++) {
        memcpy(nf_model_state(m), state, n_state * sizeof *state);
        const nf_step_report t = gradient_of(bad, threads, again);
        cr_assert_eq(t.loss, r.loss);
        cr_assert_arr_eq(again, g, n * sizeof *g);
    }
    free(g), free(again), free(want), free(state);
}

/* Rows of an array as a source gives them, since arrays of numbers that are not finite are refused at once. */
static int read_rows(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    const nf_data *d = user;
    (void)ctx;
    for (size_t i = 0; i < count; i++)
        memcpy(x + i * d->dim, d->x + rows[i] * d->dim, d->dim * sizeof *x);
    return 0;
}

static nf_data from_source(nf_source *source, nf_data *array)
{
    *source = (nf_source){.read = read_rows, .user = array, .thread_safe = true};
    return (nf_data){.n = array->n, .dim = array->dim, .source = source};
}

/* Data of which some rows fail, and the others alone; a batch norm on top shows whether statistics are of these. */
Test(failures, likelihood)
{
    for (size_t every = 1; every <= 100; every *= 10) { /* every so many a row fails: all, a tenth, a hundredth */
        nf_real *x = normals(N * DIM, 3), *left = calloc(N * DIM, sizeof *left);
        size_t n = 0;
        for (size_t i = 0; i < N; i++)
            if (i % every == every / 2)
                x[i * DIM + 1] = NAN;
            else
                memcpy(left + n++ * DIM, x + i * DIM, DIM * sizeof *x);
        nf_flow *flows[2];
        for (int k = 0; k < 2; k++)
            flows[k] = nf_chain((nf_flow *[]){fragile_chain(DIM, INFINITY, 0), nf_batch_norm(DIM, NULL)}, 2);
        nf_model *bad = dist_model(flows[0]), *good = dist_model(flows[1]);
        nf_source source;
        nf_data array = {.n = N, .dim = DIM, .x = x};
        const nf_data all = from_source(&source, &array), some = {.n = n ? n : 1, .dim = DIM, .x = left};
        nf_objective *o = nf_maximum_likelihood(bad, &all, &(nf_likelihood_options){.batch = N});
        nf_objective *w = nf_maximum_likelihood(good, &some, &(nf_likelihood_options){.batch = N});
        if (n) {
            compare_steps(o, w, N - n);
            const nf_real *a = nf_model_state(bad), *b = nf_model_state(good);
            cr_assert(fabs((double)b[0]) > 1e-4);
            for (size_t k = 0; k < 2 * DIM; k++)
                cr_assert_float_eq(a[k], b[k], 300 * rounding * (1 + fabs((double)b[k])), "statistic %zu", k);
        } else {
            nf_step_report r;
            cr_assert_eq(nf_objective_value(o, NULL, 41, 5, &r), NF_OK);
            cr_assert_eq(r.failed, N);
            cr_assert(isnan(r.loss));
        }
        nf_objective_free(o);
        nf_objective_free(w);
        nf_model_free(bad);
        nf_model_free(good);
        free(x), free(left);
    }
}

/* A target with a funny normal density, which can be told to reject, to answer NaN, or to give infinite gradients for
   draws with x_0 above 0.8. The first two mean the same; the third leaves these draws out as failed. */
typedef enum answer { SOUND, REJECTS, NAN_VALUE, BAD_GRADIENT } answer;

static int target(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    const answer *what = user;
    for (size_t i = 0; i < n; i++) {
        log_p[i] = 0;
        for (size_t c = 0; c < d; c++) {
            if (isnan(x[i * d + c]))
                return 1; /* what failed is never asked for */
            log_p[i] -= 0.4 * x[i * d + c] * x[i * d + c] + 0.1 * x[i * d + c];
            if (grad)
                grad[i * d + c] = -0.8 * x[i * d + c] - 0.1;
        }
        const bool beyond = x[i * d] > 0.8;
        rejected[i] = *what == REJECTS && beyond;
        if (*what == NAN_VALUE && beyond)
            log_p[i] = NAN;
        if (*what == BAD_GRADIENT && beyond && grad)
            grad[i * d + d - 1] = INFINITY;
    }
    return 0;
}

Test(failures, elbo)
{
    for (int serial = 0; serial < 2; serial++)
        for (int how = NAN_VALUE; how <= BAD_GRADIENT; how++) {
            answer bad_answer = (answer)how, good_answer = REJECTS;
            const nf_thread_rule rule = serial ? NF_SERIAL : NF_THREADSAFE;
            nf_target *t = nf_target_callback(DIM, target, &bad_answer, rule);
            nf_target *u = nf_target_callback(DIM, target, &good_answer, rule);
            nf_model *m = dist_model(fragile_chain(DIM, INFINITY, 0));
            nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = N});
            nf_objective *w = nf_elbo(m, u, &(nf_elbo_options){.draws = N});
            const size_t rejected = value(w, 41, 5).rejected;
            cr_assert(rejected > N / 20 && rejected < N / 2);
            if (how == BAD_GRADIENT) {
                compare_steps(o, w, rejected);
            } else {
                const size_t n = nf_model_shape(m)->n_params;
                nf_real g[2][16];
                cr_assert_leq(n, 16);
                const nf_step_report a = gradient_of(o, 1, g[0]), b = gradient_of(w, 2, g[1]);
                cr_assert(memcmp(&a, &b, sizeof a) == 0 && memcmp(g[0], g[1], n * sizeof(nf_real)) == 0);
            }
            nf_objective_free(o);
            nf_objective_free(w);
            nf_model_free(m);
            nf_target_free(t);
            nf_target_free(u);
        }
}

/* Draws that fail in the flow: fused and serial targets agree to the bit, and with a target that rejects the same draws
   (all of the flow's forward direction is known: x_0 of the base above 0.7). */
static int reject_image(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                        unsigned char *rejected)
{
    const double *limit = user;
    answer sound = SOUND;
    const int code = target(&sound, n, d, x, log_p, grad, rejected);
    for (size_t i = 0; i < n; i++)
        rejected[i] = x[i * d] > *limit;
    return code;
}

Test(failures, draws_that_a_layer_cannot_make)
{
    nf_flow *flow[2];
    for (int k = 0; k < 2; k++)
        flow[k] = nf_chain((nf_flow *[]){make_fragile(DIM, k ? INFINITY : 0.7, 0), nf_affine(DIM)}, 2);
    nf_model *bad = dist_model(flow[0]), *good = dist_model(flow[1]);
    const double theta[] = {(double)nf_model_theta(good)[0], (double)nf_model_theta(good)[1],
                            (double)nf_model_theta(good)[1 + DIM]};
    double limit = 0.7 * exp(theta[0] + theta[2]) + theta[1];
    answer sound = SOUND;
    nf_real g[2][16];
    nf_step_report r[2];
    for (int serial = 0; serial < 2; serial++) {
        const nf_thread_rule rule = serial ? NF_SERIAL : NF_THREADSAFE;
        nf_target *t = nf_target_callback(DIM, target, &sound, rule);
        nf_target *u = nf_target_callback(DIM, reject_image, &limit, rule);
        nf_objective *o = nf_elbo(bad, t, &(nf_elbo_options){.draws = N});
        nf_objective *w = nf_elbo(good, u, &(nf_elbo_options){.draws = N});
        const nf_step_report want = value(w, 41, 5);
        r[serial] = gradient_of(o, 2, g[serial]);
        cr_assert_eq(r[serial].failed, want.rejected);
        cr_assert(want.rejected > N / 10 && want.rejected < N / 2);
        cr_assert_float_eq(mean_loss(&r[serial]), mean_loss(&want), 300 * rounding * (1 + fabs(want.loss)));
        nf_objective_free(o);
        nf_objective_free(w);
        nf_target_free(t);
        nf_target_free(u);
    }
    cr_assert_eq(r[0].loss, r[1].loss);
    cr_assert_arr_eq(g[0], g[1], nf_model_shape(bad)->n_params * sizeof(nf_real));
    nf_model_free(bad);
    nf_model_free(good);
}

/* ---- fits ---- */

typedef struct watch {
    uint64_t steps;
} watch;

static int count(void *user, const nf_progress *progress)
{
    ((watch *)user)->steps = progress->step;
    return 0;
}

Test(failures, fits_go_on)
{
    for (int percent = 1; percent <= 100; percent += percent == 1 ? 49 : 50) {
        answer sound = SOUND;
        watch seen = {0};
        nf_target *t = nf_target_callback(DIM, target, &sound, NF_THREADSAFE);
        nf_model *m = dist_model(fragile_chain(DIM, INFINITY, percent / 100.0));
        nf_real before[32];
        const size_t n_params = nf_model_shape(m)->n_params;
        memcpy(before, nf_model_theta(m), n_params * sizeof *before);
        nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 200});
        nf_fit_report r;
        const nf_fit_options options = {
            .steps = 1000, .rate = 0.02, .seed = 3, .max_bad_steps = 20, .callback = count, .user = &seen};
        const nf_status status = nf_fit(o, &options, &r);
        const double drawn = 200 * (double)r.steps, rate = percent / 100.0;
        cr_assert(r.warnings & NF_WARN_FAILED);
        cr_assert_float_eq((double)r.failed, rate * drawn, 5 * sqrt(rate * (1 - rate) * drawn) + 1e-9);
        if (percent == 100) {
            cr_assert_eq(status, NF_ENOTFINITE);
            cr_assert_eq(r.reason, NF_STOP_NOTFINITE);
            cr_assert_eq(r.steps, 20);
            cr_assert_eq(seen.steps, 19);
            cr_assert_arr_eq(nf_model_theta(m), before, n_params * sizeof *before);
        } else { /* the target's normal: covariance 1 / 0.8, and log Z */
            cr_assert_eq(status, NF_OK);
            cr_assert_eq(r.skipped, 0);
            const double log_z = DIM * (0.5 * log(2 * acos(-1) / 0.8) + 0.01 / 1.6);
            cr_assert_float_eq(r.loss, -log_z, 0.02, "%g, not %g", r.loss, -log_z);
        }
        nf_objective_free(o);
        nf_model_free(m);
        nf_target_free(t);
    }
}

Test(failures, too_many_make_a_bad_step)
{
    answer sound = SOUND;
    nf_target *t = nf_target_callback(DIM, target, &sound, NF_THREADSAFE);
    nf_model *m = dist_model(fragile_chain(DIM, INFINITY, 0.5));
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 1000});
    nf_fit_report r;
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 40, .max_failed = 0.4}, &r), NF_OK);
    cr_assert_eq(r.skipped, 40);
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 40, .max_failed = 0.6}, &r), NF_OK);
    cr_assert_eq(r.skipped, 0);
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 4, .max_failed = NF_ZERO}, &r), NF_OK);
    cr_assert_eq(r.skipped, 4);
    for (int k = 0; k < 3; k++)
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.max_failed = k == 0 ? -0.1 : k == 1 ? 1.1 : NAN}, &r), NF_EARG);
    cr_assert(strstr(nf_error_message(), "max_failed"));
    nf_objective_free(o);
    nf_model_free(m);
    nf_target_free(t);
}

/* Parameters at which rows of the validation fail are not better for the mean over the rest. */
Test(failures, best_parameters_are_those_that_fail_least)
{
    nf_fit_report none = {.best = INFINITY}, some = {.best = 2.5, .best_failed = 3};
    cr_assert(nfi_fit_better(&(nfi_fit_scored){.loss = 7, .failed = 9}, &none));
    cr_assert_not(nfi_fit_better(&(nfi_fit_scored){.loss = NAN, .failed = 9}, &none));
    cr_assert(nfi_fit_better(&(nfi_fit_scored){.loss = 2.4, .failed = 3}, &some));
    cr_assert_not(nfi_fit_better(&(nfi_fit_scored){.loss = 2.6, .failed = 3}, &some));
    cr_assert_not(nfi_fit_better(&(nfi_fit_scored){.loss = 1, .failed = 4}, &some));
    cr_assert(nfi_fit_better(&(nfi_fit_scored){.loss = 4, .failed = 2}, &some));
    cr_assert_not(nfi_fit_better(&(nfi_fit_scored){.loss = NAN, .failed = 0}, &some));
    /* and a fit reports it: a column of the validation is broken for good */
    enum { GOOD = 40 };
    nf_real *x = normals((GOOD + 1) * DIM, 3);
    x[GOOD * DIM] = NAN;
    nf_model *m = dist_model(fragile_chain(DIM, INFINITY, 0));
    nf_source source;
    nf_data array = {.n = GOOD + 1, .dim = DIM, .x = x};
    const nf_data train = {.n = GOOD, .dim = DIM, .x = x}, all = from_source(&source, &array);
    nf_objective *o = nf_maximum_likelihood(m, &train, NULL);
    nf_objective *v = nf_maximum_likelihood(m, &all, &(nf_likelihood_options){.batch = GOOD + 1});
    nf_fit_report r;
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 60, .validation = v, .validate_every = 20}, &r), NF_OK);
    cr_assert_eq(r.failed, 0);
    cr_assert_eq(r.best_failed, 1);
    cr_assert(isfinite(r.best) && r.best_step > 0);
    nf_objective_free(o);
    nf_objective_free(v);
    nf_model_free(m);
    free(x);
}

/* ---- VAEs ---- */

enum { ROWS = 70, COLUMNS = 5, Z = 2 };

static nf_model *make_vae(void)
{
    const size_t hidden[] = {6};
    const nf_mlp_options net = {.hidden = hidden, .n_hidden = 1, .activation = NF_TANH};
    return stir(nf_model_of_vae(nf_vae_new(nf_mlp(COLUMNS, 2 * Z, 0, &net), nf_diagonal_posterior(Z),
                                           nf_mlp(Z, 2 * COLUMNS, 0, &net), NF_GAUSSIAN),
                                NULL),
                0.1);
}

Test(failures, a_row_that_is_not_a_number_in_a_vae)
{
    nf_real *x = normals(ROWS * COLUMNS, 3);
    nf_model *m = make_vae();
    nf_source source;
    nf_data array = {.n = ROWS, .dim = COLUMNS, .x = x};
    const nf_data all = from_source(&source, &array);
    nf_objective *o = nf_vae_elbo(m, &all, &(nf_vae_options){.batch = ROWS});
    nf_vae_scores scores, want;
    nf_real *z = calloc(ROWS * Z, sizeof *z), *sound = calloc(ROWS * Z, sizeof *z);
    nf_workspace *ws = nf_workspace_new(2);
    const nf_noise noise = {.seed = 4};
    const size_t n_params = nf_model_shape(m)->n_params;
    nf_real *g = calloc(n_params, sizeof *g), *part = calloc(n_params, sizeof *g);
    cr_assert_eq(nf_vae_score(m, NULL, &all, 20, 9, NULL, NULL, &want), NF_OK);
    cr_assert_eq(want.failed, 0);
    cr_assert_eq(nf_vae_encode(m, ws, &noise, ROWS, x, sound, NULL), NF_OK);
    const double loss = value(o, 41, 5).loss;
    x[(ROWS - 1) * COLUMNS] = NAN; /* the last row: the others keep their places and their noise */
    cr_assert_eq(nf_vae_score(m, NULL, &all, 20, 9, NULL, NULL, &scores), NF_OK);
    cr_assert_eq(scores.failed, 1);
    cr_assert(isfinite(scores.elbo) && scores.elbo != want.elbo && fabs(scores.elbo - want.elbo) < 1);
    cr_assert_eq(nf_vae_encode(m, ws, &noise, ROWS, x, z, NULL), NF_OK);
    cr_assert_eq(nf_workspace_failed(ws), 1);
    cr_assert_eq(compare_rows(ROWS, Z, z, sound, NULL, NULL), 1);
    const nf_data rest = {.n = ROWS - 1, .dim = COLUMNS, .x = x};
    nf_objective *w = nf_vae_elbo(m, &rest, &(nf_vae_options){.batch = ROWS});
    compare_steps(o, w, 1);
    cr_assert_neq(value(o, 41, 5).loss, loss);
    free(x), free(z), free(sound), free(g), free(part);
    nf_workspace_free(ws);
    nf_objective_free(o);
    nf_objective_free(w);
    nf_model_free(m);
}

/* Rows of the plug-in whose mean is NaN: the others are as they would be, and so are their gradients. */
Test(failures, rows_of_the_plug_in)
{
    enum { ROW = 300 };
    nf_model *m = stir(nf_model_of_dist(nf_posterior(DIM, nf_amortized_by_context(nf_planar(DIM))), NULL), 0.3);
    const size_t n_flow = 2 * DIM + 1, n_g = nf_model_gradient_size(m);
    nf_real *mean = normals(N * DIM, 1), *scale = normals(N * DIM, 2), *ctx = normals(N * n_flow, 3);
    nf_real *gz = normals(N * DIM, 4);
    double *gq = calloc(N, sizeof *gq);
    for (size_t i = 0; i < N; i++)
        gq[i] = 1.3 * cos(2.1 * (double)i);
    nf_real *z[2], *g_mean[2], *g_scale[2], *g_ctx[2], *g[2];
    double *log_q[2];
    nf_workspace *ws = nf_workspace_new(1);
    for (int k = 0; k < 2; k++) {
        z[k] = calloc(N * DIM, sizeof *z[k]);
        g_mean[k] = calloc(N * DIM, sizeof *z[k]);
        g_scale[k] = calloc(N * DIM, sizeof *z[k]);
        g_ctx[k] = calloc(N * n_flow, sizeof *z[k]);
        g[k] = calloc(n_g + 1, sizeof *z[k]);
        log_q[k] = calloc(N, sizeof *log_q[k]);
        if (k) { /* the second time with two rows that fail */
            mean[ROW * DIM] = NAN;
            ctx[0] = NAN;
            gz[ROW * DIM] = NAN; /* what a decoder may make of it is not read */
        }
        cr_assert_eq(nf_posterior_forward(
                         m, ws, NF_TRAIN, &(nf_noise){.seed = 6},
                         &(nf_posterior_rows){
                             .n = N, .mean = mean, .log_scale = scale, .ctx = ctx, .z = z[k], .log_q = log_q[k]}),
                     NF_OK);
        cr_assert_eq(nf_workspace_failed(ws), 2 * (size_t)k);
        cr_assert_eq(nf_posterior_backward(m, ws,
                                           &(nf_posterior_gradients){.n = N,
                                                                     .gz = gz,
                                                                     .g_log_q = gq,
                                                                     .g_mean = g_mean[k],
                                                                     .g_log_scale = g_scale[k],
                                                                     .g_ctx = g_ctx[k],
                                                                     .g = g[k]}),
                     NF_OK);
    }
    cr_assert_eq(compare_rows(N, DIM, z[1], z[0], log_q[1], log_q[0]), 2);
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < n_flow; c++) {
            const bool failed = i == 0 || i == ROW;
            cr_assert_eq(g_ctx[1][i * n_flow + c], failed ? 0 : g_ctx[0][i * n_flow + c]);
            if (c < DIM) {
                cr_assert_eq(g_mean[1][i * DIM + c], failed ? 0 : g_mean[0][i * DIM + c]);
                cr_assert_eq(g_scale[1][i * DIM + c], failed ? 0 : g_scale[0][i * DIM + c]);
            }
        }
    for (int k = 0; k < 2; k++)
        free(z[k]), free(g_mean[k]), free(g_scale[k]), free(g_ctx[k]), free(g[k]), free(log_q[k]);
    free(mean), free(scale), free(ctx), free(gz), free(gq);
    nf_workspace_free(ws);
    nf_model_free(m);
}

/* ---- names ---- */

Test(failures, columns_of_noise)
{
    enum { ALL = 40, ROWS_OF_NOISE = 5, LD = 48 };
    const uint32_t column[] = {0, 1, 2, 7, 8, 20, 39};
    const size_t n = sizeof column / sizeof *column;
    nf_noise noise = {.seed = 3, .step = 2, .first_sample = (UINT64_C(1) << 32) - 5, .site = 4};
    nf_real all[ROWS_OF_NOISE * LD], some[ROWS_OF_NOISE * LD];
    for (int uniform = 0; uniform < 2; uniform++) {
        noise.column = NULL;
        (uniform ? nf_noise_uniform : nf_noise_normal)(&noise, ROWS_OF_NOISE, ALL, LD, all);
        noise.column = column;
        (uniform ? nf_noise_uniform : nf_noise_normal)(&noise, ROWS_OF_NOISE, n, LD, some);
        for (size_t r = 0; r < ROWS_OF_NOISE; r++)
            for (size_t s = 0; s < LD; s++)
                cr_assert_eq(some[r * LD + s], all[r * LD + column[s < n ? s : n - 1]]);
        cr_assert_eq(nf_noise_sample(&noise, 5), noise.first_sample + 20);
    }
}
