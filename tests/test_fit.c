/* The fit loop: what it moves, when it stops, what it keeps, what it says. */
#include "expect.h"
#include "fail_alloc.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 3e-6;
#else
static const double rounding = 1e-13;
#endif

/* ---- an objective whose answers are written down: loss = |theta - foot|^2 / 2 + noise of the script ---- */

enum { P = 4, DRAWS = 48 };
static const double foot[P] = {1.3172, -0.4415, 0.0271, 0.8833};

typedef struct script {
    const double *losses;      /* [n_losses] what evaluations without gradient give, in turn */
    size_t n_losses, served;   /* the last one stays */
    uint64_t bad_from, bad_to; /* steps whose loss is NaN */
    uint64_t bad_gradient;     /* step whose gradient is infinite; 0: none */
    nf_status fails;           /* what begin returns at step 3 */
    uint64_t steps[64];        /* the first steps seen with gradient */
    size_t n_steps;
    nf_step now;
} script;

static nf_status begin(void *self, const nf_step *step)
{
    script *s = self;
    s->now = *step;
    if (step->gradient && s->n_steps < 64)
        s->steps[s->n_steps++] = step->step;
    if (!step->gradient && s->served < s->n_losses)
        s->served++;
    return s->fails && step->step == 3 ? nf_error(s->fails, "the script ends") : NF_OK;
}

static nf_status backward(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    (void)first, (void)saved;
    const script *s = self;
    double n = (double)p->n, loss = 0;
    for (size_t i = 0; i < P; i++) {
        double away = (double)p->theta[i] - foot[i];
        loss += 0.5 * away * away;
        if (g)
            g->theta[i] += (nf_real)(n * away);
    }
    if (!s->now.gradient && s->n_losses)
        loss = s->losses[s->served - 1];
    if (s->now.gradient && s->now.step >= s->bad_from && s->now.step < s->bad_to)
        loss = NAN;
    if (g && s->bad_gradient && s->now.step == s->bad_gradient)
        g->theta[1] = INFINITY;
    sums->loss += n * loss;
    sums->term[0] += 2 * n * loss;
    return NF_OK;
}

static const nf_objective_type scripted = {
    .name = "scripted", .abi = sizeof(nf_objective_type), .terms = {"twice"}, .begin = begin, .backward = backward};

/* Theta of every step, copied by the callback; stops at `stop`. */
typedef struct diary {
    nf_model *m;
    nf_real theta[400][P];
    double validation[400];
    nf_progress last;
    nf_step_report report;
    uint64_t calls, stop;
} diary;

static int note(void *user, const nf_progress *p)
{
    diary *d = user;
    d->calls++;
    d->last = *p;
    d->report = *p->last;
    cr_assert_eq(p->step, d->calls);
    if (d->calls < 400) {
        memcpy(d->theta[d->calls], nf_model_theta(d->m), sizeof d->theta[0]);
        d->validation[d->calls] = p->validation;
    }
    return p->step == d->stop;
}

static nf_model *four_numbers(void)
{
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(P / 2), NULL);
    cr_assert_eq(nf_model_shape(m)->n_params, P);
    return m;
}

/* ---- what it moves ---- */

Test(fit, plain_descent_by_hand)
{
    script s = {0};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    diary d = {.m = m};
    nf_fit_report r;
    nf_fit_options options = {.steps = 20, .optimizer = nf_sgd(), .rate = 0.1, .callback = note, .user = &d};
    cr_assert_eq(nf_fit(o, &options, &r), NF_OK, "%s", nf_error_message());
    double start = 0, norm = 0;
    for (size_t i = 0; i < P; i++) {
        /* the distance to the foot shrinks by 1 - rate */
        for (int t = 1; t <= 20; t++)
            cr_assert_float_eq(d.theta[t][i], foot[i] * (1 - pow(0.9, t)), 10 * rounding);
        start += 0.5 * foot[i] * foot[i];
        norm += foot[i] * foot[i] * pow(0.9, 38);
    }
    double mean = 0;
    for (int t = 0; t < 20; t++)
        mean += start * pow(0.81, t) / 20;
    cr_assert_eq(r.reason, NF_STOP_STEPS);
    cr_assert_eq(r.steps, 20);
    cr_assert_eq(r.skipped, 0);
    cr_assert_eq(r.warnings, 0);
    cr_assert_float_eq(r.loss, mean, 10 * rounding, "the first hundred steps count alike");
    cr_assert_eq(r.best, r.loss);
    cr_assert_eq(r.best_step, 20);
    cr_assert(r.seconds >= 0 && r.bytes > 0);
    cr_assert_eq(d.calls, 20);
    cr_assert_eq(d.last.steps, 20);
    cr_assert(isnan(d.last.validation));
    cr_assert_eq(d.last.loss, r.loss);
    cr_assert_float_eq(d.report.loss, start * pow(0.81, 19), rounding);
    cr_assert_float_eq(d.report.term[0], 2 * d.report.loss, 10 * rounding);
    cr_assert_float_eq(d.report.grad_norm, sqrt(norm), rounding);
    cr_assert_eq(d.report.n, DRAWS);
    nf_objective_free(o);
    nf_model_free(m);
}

/* Decoupled decay w: theta' = (1 - rate w) theta - rate (theta - foot) goes to foot / (1 + w), whatever the rate does.
 */
Test(fit, weight_decay_by_hand)
{
    script s = {0};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    diary d = {.m = m};
    const double w = 0.6;
    nf_fit_options options = {
        .steps = 30, .optimizer = nf_sgd(), .rate = 0.2, .weight_decay = w, .callback = note, .user = &d};
    options.schedule = (nf_schedule){.kind = NF_STAIRS, .from = 1, .to = 0.5, .steps = 10};
    cr_assert_eq(nf_fit(o, &options, NULL), NF_OK, "%s", nf_error_message());
    double left = 1; /* share of the way that is left */
    for (int t = 1; t <= 30; t++) {
        left *= 1 - 0.2 * pow(0.5, (t - 1) / 10) * (1 + w);
        for (size_t i = 0; i < P; i++)
            cr_assert_float_eq(d.theta[t][i], foot[i] / (1 + w) * (1 - left), 10 * rounding, "step %d", t);
    }
    nf_objective_free(o);
    nf_model_free(m);
}

Test(fit, every_optimizer_reaches_the_foot)
{
    const nf_optimizer_type *const rules[] = {NULL, nf_sgd(), nf_momentum(), nf_rmsprop(), nf_adam(), nf_adamax()};
    for (size_t k = 0; k < 6; k++) {
        script s = {0};
        nf_model *m = four_numbers();
        nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
        nf_fit_options options = {.steps = 2000, .optimizer = rules[k], .rate = 0.05, .threads = 1};
        options.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .to = 0.001, .steps = 2000};
        cr_assert_eq(nf_fit(o, &options, NULL), NF_OK);
        for (size_t i = 0; i < P; i++)
            cr_assert_float_eq(nf_model_theta(m)[i], foot[i], 1e-3, "%zu: %g", k, (double)nf_model_theta(m)[i]);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

Test(fit, rate_schedule_and_clipping)
{
    script s = {0};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    diary d = {.m = m};
    nf_fit_options options = {.steps = 12, .optimizer = nf_sgd(), .rate = 0.02, .clip_norm = 0.7};
    options.schedule = (nf_schedule){.kind = NF_STAIRS, .from = 1, .to = 0.5, .steps = 5};
    options.callback = note;
    options.user = &d;
    cr_assert_eq(nf_fit(o, &options, NULL), NF_OK);
    double full = 0; /* the start's distance: gradients are longer than 0.7 all along */
    for (size_t i = 0; i < P; i++)
        full += foot[i] * foot[i];
    full = sqrt(full);
    double way = 0;
    for (int t = 1; t <= 12; t++) {
        way += 0.02 * 0.7 * pow(0.5, (t - 1) / 5);
        for (size_t i = 0; i < P; i++)
            cr_assert_float_eq(d.theta[t][i], foot[i] / full * way, 10 * rounding);
    }
    cr_assert_gt(full - way, 0.7);
    cr_assert_gt(d.report.grad_norm, 0.7, "the norm before clipping");
    nf_objective_free(o);
    nf_model_free(m);
}

/* Two fits, numbered on, are one: noise, schedules and rows follow the step's number. */
Test(fit, continues_where_it_stopped)
{
    nf_real theta[2][P];
    for (int halves = 1; halves <= 2; halves++) {
        script s = {0};
        nf_model *m = four_numbers();
        nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
        nf_fit_options options = {.steps = 20 / (uint64_t)halves, .optimizer = nf_sgd(), .rate = 0.1};
        options.schedule = (nf_schedule){.kind = NF_LINEAR, .from = 1, .to = 0.1, .steps = 20};
        for (int k = 0; k < halves; k++) {
            nf_fit_report r;
            options.first_step = (uint64_t)k * options.steps;
            cr_assert_eq(nf_fit(o, &options, &r), NF_OK);
            cr_assert_eq(r.best_step, options.first_step + options.steps);
        }
        for (uint64_t t = 0; t < 20; t++)
            cr_assert_eq(s.steps[t], t);
        memcpy(theta[halves - 1], nf_model_theta(m), sizeof theta[0]);
        nf_objective_free(o);
        nf_model_free(m);
    }
    cr_assert_arr_eq(theta[0], theta[1], sizeof theta[0]);
}

/* ---- numbers that are not finite ---- */

Test(fit, bad_steps_move_nothing)
{
    script s = {.bad_from = 5, .bad_to = 8, .bad_gradient = 11};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    diary d = {.m = m};
    nf_fit_report r;
    nf_fit_options options = {.steps = 20, .rate = 0.1, .callback = note, .user = &d, .max_bad_steps = 4};
    cr_assert_eq(nf_fit(o, &options, &r), NF_OK);
    for (uint64_t t = 0; t < 20; t++) {
        bool bad = (t >= 5 && t < 8) || t == 11;
        cr_assert_eq(memcmp(d.theta[t + 1], d.theta[t], sizeof d.theta[0]) == 0, bad, "step %d", (int)t);
    }
    cr_assert_eq(r.steps, 20);
    cr_assert_eq(r.skipped, 4);
    cr_assert_eq(r.warnings, NF_WARN_SKIPPED);
    cr_assert_eq(d.last.skipped, 4);
    cr_assert(isfinite(r.loss));
    nf_objective_free(o);
    nf_model_free(m);
}

/* The same with statistics for a batch normalisation of two features: sums of y, of its square, and the rows. */
static nf_status backward_with_stats(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums,
                                     const nf_grad *g)
{
    for (size_t k = 0; g && k < P; k++)
        g->stats[k] += (double)p->n * (k < 2 ? 0.3 : 0.7);
    if (g)
        g->stats[P] += (double)p->n;
    return backward(self, p, first, saved, sums, g);
}

typedef struct states {
    nf_model *m;
    nf_real state[8][P + 1];
} states;

static int note_state(void *user, const nf_progress *p)
{
    states *s = user;
    memcpy(s->state[p->step], nf_model_state(s->m), sizeof s->state[0]);
    return 0;
}

Test(fit, bad_steps_leave_the_state)
{
    nf_objective_type type = scripted;
    type.backward = backward_with_stats;
    script s = {.bad_from = 3, .bad_to = 4, .bad_gradient = 5};
    states all = {.m = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(2), nf_batch_norm(2, NULL)), NULL)};
    cr_assert(nf_model_shape(all.m)->n_params == P && nf_model_shape(all.m)->n_state == P + 1);
    nf_objective *o = nf_objective_new(&type, all.m, DRAWS, &s);
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 7, .callback = note_state, .user = &all}, NULL), NF_OK);
    for (int t = 1; t < 7; t++)
        cr_assert_eq(memcmp(all.state[t + 1], all.state[t], sizeof all.state[0]) == 0, t == 3 || t == 5, "step %d", t);
    nf_objective_free(o);
    nf_model_free(all.m);
}

/* Down at first, then up, faster and faster. */
static double turns(void *user, uint64_t t)
{
    (void)user;
    return t < 30 ? 1 : -8;
}

Test(fit, too_many_bad_steps_end_it_with_the_best)
{
    script s = {.bad_from = 57, .bad_to = 1000};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    diary d = {.m = m};
    nf_fit_report r;
    nf_fit_options options = {.steps = 300, .optimizer = nf_sgd(), .rate = 0.01, .callback = note, .user = &d};
    options.schedule = (nf_schedule){.kind = NF_CUSTOM, .call = turns};
    options.max_bad_steps = 7;
    options.validate_every = 10;
    expect(nf_fit(o, &options, &r), NF_ENOTFINITE, "7 steps in a row");
    cr_assert(strstr(nf_error_message(), "step 63"), "%s", nf_error_message());
    cr_assert_eq(r.reason, NF_STOP_NOTFINITE);
    cr_assert_eq(r.steps, 64);
    cr_assert_eq(r.skipped, 7);
    cr_assert(r.best_step >= 30 && r.best_step <= 50, "%d", (int)r.best_step);
    cr_assert_arr_eq(nf_model_theta(m), d.theta[r.best_step], sizeof d.theta[0]);
    cr_assert(memcmp(d.theta[57], d.theta[r.best_step], sizeof d.theta[0]));
    nf_objective_free(o);
    /* the model is good for use */
    nf_real x[2];
    double log_q;
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 1}, 1, NULL, x, &log_q), NF_OK);
    cr_assert(isfinite(log_q));
    nf_model_free(m);
}

Test(fit, nothing_but_bad_steps_leaves_the_start)
{
    script s = {.bad_to = 1000};
    nf_model *m = four_numbers();
    nf_real start[P];
    for (size_t i = 0; i < P; i++)
        start[i] = nf_model_theta(m)[i] = (nf_real)(0.37 * (double)i - 0.2);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    nf_fit_report r;
    expect(nf_fit(o, NULL, &r), NF_ENOTFINITE, "100 steps in a row");
    cr_assert_eq(r.steps, 100);
    cr_assert_arr_eq(nf_model_theta(m), start, sizeof start);
    nf_objective_free(o);
    nf_model_free(m);
}

/* ---- stopping ---- */

Test(fit, callback_stops)
{
    script s = {0};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    diary d = {.m = m, .stop = 13};
    nf_fit_report r;
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.callback = note, .user = &d}, &r), NF_OK);
    cr_assert_eq(r.reason, NF_STOP_CALLBACK);
    cr_assert_eq(r.steps, 13);
    cr_assert_eq(d.last.steps, 10000, "the default");
    cr_assert_arr_eq(nf_model_theta(m), d.theta[13], sizeof d.theta[0]);
    nf_objective_free(o);
    nf_model_free(m);
}

Test(fit, patience_keeps_the_best_validation)
{
    const double losses[] = {5, 4, 3, 3.5, 2.5, 2.75, 2.6, 9, 1};
    script s = {0}, v = {.losses = losses, .n_losses = 9};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s), *check = nf_objective_new(&scripted, m, 7, &v);
    diary d = {.m = m};
    nf_fit_report r;
    nf_fit_options options = {.steps = 300, .rate = 0.01, .callback = note, .user = &d, .validation = check};
    options.validate_every = 6;
    options.patience = 3;
    cr_assert_eq(nf_fit(o, &options, &r), NF_OK);
    cr_assert_eq(r.reason, NF_STOP_PATIENCE);
    cr_assert_eq(r.steps, 8 * 6);
    cr_assert_eq(r.best, 2.5);
    cr_assert_eq(r.best_step, 5 * 6);
    cr_assert(isnan(d.validation[5]));
    for (size_t k = 0; k < 7; k++) /* the last one known, between evaluations */
        cr_assert_float_eq(d.validation[k * 6 + 9], losses[k], rounding);
    cr_assert_arr_eq(nf_model_theta(m), d.theta[30], sizeof d.theta[0]);
    /* without patience it goes on, and the best is still kept; a NaN is never the best */
    const double others[] = {5, NAN, 1.5, 4};
    v = (script){.losses = others, .n_losses = 4};
    d = (diary){.m = m};
    options.patience = 0;
    options.steps = 26; /* evaluated after 6, 12, 18, 24 and at the end */
    cr_assert_eq(nf_fit(o, &options, &r), NF_OK);
    cr_assert_eq(r.reason, NF_STOP_STEPS);
    cr_assert_eq(r.best, 1.5);
    cr_assert_eq(r.best_step, 18);
    cr_assert_arr_eq(nf_model_theta(m), d.theta[18], sizeof d.theta[0]);
    nf_objective_free(o);
    nf_objective_free(check);
    nf_model_free(m);
}

/* ---- with a target ---- */

static int sharp(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    const double *limit = user;
    for (size_t i = 0; i < n; i++) {
        log_p[i] = 0;
        rejected[i] = x[i * d] > *limit;
        for (size_t j = 0; j < d; j++) {
            double u = x[i * d + j] - 0.4 * (double)(j + 1);
            log_p[i] -= u * u;
            if (grad)
                grad[i * d + j] = -2 * u;
        }
    }
    return 0;
}

Test(fit, same_bits_for_all_thread_counts_and_runs)
{
    enum { RUNS = 6, DIM = 3 };
    const size_t threads[RUNS] = {1, 2, 3, 8, 8, 0};
    nf_real theta[RUNS][64] = {{0}};
    double limit = 0.9;
    for (int k = 0; k < RUNS; k++) {
        nf_flow *f[] = {nf_planar(DIM), nf_lu_linear(DIM, 4), nf_planar(DIM)};
        nf_target *t = nf_target_callback(DIM, sharp, &limit, k == 4 ? NF_SERIAL : NF_THREADSAFE);
        nf_model *m =
            nf_model_of_dist(nf_pushforward(nf_diagonal_normal(DIM), nf_chain(f, 3)), &(nf_model_options){.seed = 2});
        nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 517});
        nf_fit_report r;
        nf_fit_options options = {.steps = 40, .rate = 0.02, .seed = 6, .threads = threads[k], .clip_norm = 1.5};
        cr_assert_eq(nf_fit(o, &options, &r), NF_OK, "%s", nf_error_message());
        cr_assert_leq(nf_model_shape(m)->n_params, 64);
        memcpy(theta[k], nf_model_theta(m), nf_model_shape(m)->n_params * sizeof(nf_real));
        cr_assert_arr_eq(theta[k], theta[0], sizeof theta[0], "run %d", k);
        cr_assert_eq(r.warnings, NF_WARN_REJECTED | NF_WARN_SUPPORT);
        cr_assert_gt(r.rejected, 40);
        nf_objective_free(o);
        nf_model_free(m);
        nf_target_free(t);
    }
}

Test(fit, warns_of_log_dets_that_run_away)
{
    const double limit = 1e9;
    for (int far = 0; far < 2; far++) {
        nf_target *t = nf_target_callback(2, sharp, (void *)&limit, NF_THREADSAFE);
        nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
        nf_model_theta(m)[2] = nf_model_theta(m)[3] = NF_R(far ? -521 : -519); /* the bound is 1000 + 20 x 2 */
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        nf_objective *o = nf_elbo(m, t, NULL);
        nf_fit_report r;
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 1, .rate = 1e-4}, &r), NF_OK);
        cr_assert_float_eq(r.worst_log_det, far ? 1042 : 1038, 1e-3);
        cr_assert_eq(r.warnings, far ? NF_WARN_LOG_DET : 0);
        nf_objective_free(o);
        nf_model_free(m);
        nf_target_free(t);
    }
}

Test(fit, all_draws_rejected_is_a_bad_step)
{
    const double limit = -1e9;
    nf_target *t = nf_target_callback(2, sharp, (void *)&limit, NF_THREADSAFE);
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    nf_objective *o = nf_elbo(m, t, NULL);
    nf_fit_report r;
    expect(nf_fit(o, &(nf_fit_options){.max_bad_steps = 3}, &r), NF_ENOTFINITE, "3 steps");
    cr_assert_eq(r.rejected, 300);
    cr_assert_eq(r.accepted, 0);
    cr_assert_eq(r.warnings, NF_WARN_SKIPPED | NF_WARN_REJECTED | NF_WARN_SUPPORT);
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(nf_model_theta(m)[i], 0);
    nf_objective_free(o);
    nf_model_free(m);
    nf_target_free(t);
}

/* ---- failures ---- */

static nf_status forward(void *self, const nf_pass *p, size_t first, void **saved)
{
    (void)self, (void)p, (void)first, (void)saved;
    return NF_OK;
}

static nf_status gather(void *self, const nf_step *step)
{
    (void)self, (void)step;
    return NF_OK;
}

static int destroyed;
static void destroy(void *self)
{
    (void)self;
    destroyed++;
}

Test(fit, objectives_check_their_tables)
{
    nf_model *m = four_numbers();
    script s = {0};
    nf_objective_type type = scripted;
    type.destroy = destroy;
    destroyed = 0;
    cr_assert_null(nf_objective_new(NULL, m, 1, &s));
    expect(nf_error_status(), NF_EARG, "type");
    cr_assert_null(nf_objective_new(&type, NULL, 1, &s));
    expect(nf_error_status(), NF_EARG, "model");
    cr_assert_null(nf_objective_new(&type, m, 0, &s));
    expect(nf_error_status(), NF_EARG, "n");
    type.abi = 3;
    cr_assert_null(nf_objective_new(&type, m, 1, &s)); /* too small to say how to release self */
    expect(nf_error_status(), NF_EARG, "abi");
    type = scripted;
    type.destroy = destroy;
    type.backward = NULL;
    cr_assert_null(nf_objective_new(&type, m, 1, &s));
    expect(nf_error_status(), NF_EARG, "backward");
    type.backward = backward;
    type.gather = gather;
    cr_assert_null(nf_objective_new(&type, m, 1, &s));
    expect(nf_error_status(), NF_EARG, "gather");
    cr_assert_eq(destroyed, 4, "self is owned on failure too");
    type.forward = forward;
    nf_objective *o = nf_objective_new(&type, m, DRAWS, &s);
    cr_assert_eq(nf_objective_model(o), m);
    cr_assert_eq(nf_objective_batch(o), DRAWS);
    cr_assert_eq(nf_objective_table(o), &type);
    nf_step_report r;
    cr_assert_eq(nf_objective_value(o, NULL, 0, 0, &r), NF_OK);
    expect(nf_objective_value(NULL, NULL, 0, 0, &r), NF_EARG, "nf_objective_value");
    expect(nf_objective_value(o, NULL, 0, 0, NULL), NF_EARG, "report");
    expect(nf_objective_gradient(o, NULL, 0, 0, &r, NULL), NF_EARG, "g_theta");
    nf_objective_free(o);
    nf_objective_free(NULL);
    cr_assert_eq(destroyed, 5);
    nf_model_free(m);
}

Test(fit, arguments)
{
    script s = {0};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    nf_optimizer_type broken = *nf_adam();
    broken.abi = 1;
    const nf_fit_options wrong[] = {{.rate = -0.1},       {.rate = NAN},         {.rate = INFINITY},
                                    {.clip_norm = -1},    {.clip_norm = NAN},    {.optimizer = &broken},
                                    {.weight_decay = -1}, {.weight_decay = NAN}, {.weight_decay = INFINITY}};
    const char *words[] = {"rate",      "rate",         "rate",         "clip_norm",   "clip_norm",
                           "optimizer", "weight_decay", "weight_decay", "weight_decay"};
    expect(nf_fit(NULL, NULL, NULL), NF_EARG, "nf_fit: `o`");
    for (size_t k = 0; k < 9; k++)
        expect(nf_fit(o, &wrong[k], NULL), NF_EARG, words[k]);
    broken = *nf_adam();
    broken.update = NULL;
    expect(nf_fit(o, &wrong[5], NULL), NF_EARG, "optimizer");
    broken = *nf_adam();
    broken.n_slots = NF_MAX_SLOTS + 1;
    expect(nf_fit(o, &wrong[5], NULL), NF_EARG, "slots");
    cr_assert_eq(s.n_steps, 0);
    /* what an objective returns comes back, and the report tells how far it went */
    const nf_status all[] = {NF_EARG, NF_EDIM, NF_EIO, NF_ENOCONV, NF_ESTOP, NF_EUNSUPPORTED, NF_ETARGET};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        nf_fit_report r;
        s.fails = all[k];
        expect(nf_fit(o, NULL, &r), all[k], "the script ends");
        cr_assert_eq(r.steps, 3);
    }
    nf_objective_free(o);
    nf_model_free(m);
}

/* A user's own rule: signs. */
static void signs(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                  nf_real *const *slot, nf_real *theta)
{
    for (size_t i = 0; i < n; i++) {
        theta[i] -= (nf_real)(rate * o->beta1) * (g[i] > 0 ? NF_R(1) : NF_R(-1));
        slot[0][i] += (nf_real)t;
    }
}

Test(fit, users_own_optimizer)
{
    const nf_optimizer_type type = {
        .name = "signs", .abi = sizeof type, .n_slots = 1, .defaults = {.beta1 = 0.5}, .update = signs};
    script s = {0};
    nf_model *m = four_numbers();
    nf_objective *o = nf_objective_new(&scripted, m, DRAWS, &s);
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 1, .optimizer = &type, .rate = 0.125}, NULL), NF_OK);
    for (size_t i = 0; i < P; i++)
        cr_assert_eq(nf_model_theta(m)[i], foot[i] > 0 ? NF_R(0.0625) : NF_R(-0.0625));
    nf_objective_free(o);
    nf_model_free(m);
}

Test(fit, failing_allocations)
{
    const double limit = 1e9;
    nf_target *t = nf_target_callback(2, sharp, (void *)&limit, NF_THREADSAFE);
    size_t before = alloc_live(), failures = 0;
    for (size_t k = 0;; k++) {
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), nf_lu_linear(2, 1)), NULL);
        nf_objective *o = nf_elbo(m, t, NULL);
        size_t made = alloc_live();
        fail_alloc_after(k);
        nf_status st = nf_fit(o, &(nf_fit_options){.steps = 3, .threads = 2}, NULL);
        bool failed = fail_alloc_off();
        cr_assert_eq(alloc_live(), made);
        cr_assert_eq(st, failed ? NF_ENOMEM : NF_OK);
        nf_real x[2];
        cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 1}, 1, NULL, x, NULL), NF_OK, "the model is usable");
        nf_objective_free(o);
        nf_model_free(m);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
        failures++;
    }
    cr_assert_geq(failures, 6);
    nf_target_free(t);
}
