/* Fits in pieces are whole fits; the moving average of parameters. */
#include "fail_alloc.h"
#include "fit_fixture.h"

#ifdef NF_SINGLE
static const double rounding = 3e-6;
#else
static const double rounding = 1e-13;
#endif

/* ---- runs ---- */

static double bumpy(void *user, uint64_t t)
{
    (void)user;
    return 0.3 + 0.7 * (double)(t % 7) / 7;
}

enum { WAYS = 7 };

static nf_fit_options way(size_t k, const fit_problem *p)
{
    nf_fit_options o = {.steps = 200, .rate = 0.02, .seed = 5, .threads = 1, .validate_every = 30, .clip_norm = 2};
    switch (k) {
    case 0:
        break;
    case 1:
        o.validation = p->validation;
        break;
    case 2:
        o.average = 0.9;
        break;
    case 3:
        o.validation = p->validation;
        o.average = 0.95;
        o.first_step = 1000;
        break;
    case 4: /* runs out of patience */
        o.validation = p->validation;
        o.validate_every = 15;
        o.patience = 2;
        o.rate = 0.2;
        break;
    case 5:
        o.optimizer = nf_momentum();
        o.schedule = (nf_schedule){.kind = NF_CUSTOM, .call = bumpy, .warmup = 9};
        o.average = 0.8;
        break;
    default:
        o.optimizer = nf_rmsprop();
        o.coefficients.momentum = 0.5;
        o.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .to = 0.1, .steps = 150};
        o.validation = p->validation;
        o.validate_every = 1000;
    }
    return o;
}

static fit_numbers whole_fit(size_t k, uint64_t steps, nf_fit_report *report)
{
    fit_problem p = fit_problem_new();
    nf_fit_options o = way(k, &p);
    o.steps = steps;
    cr_assert_eq(nf_fit(p.o, &o, report), NF_OK, "%s", nf_error_message());
    const fit_numbers numbers = fit_numbers_of(p.m);
    fit_problem_free(&p);
    return numbers;
}

Test(fitter, runs_are_one_fit)
{
    const uint64_t pieces[][4] = {{100, 100}, {1, 199}, {37, 63, 99, 1}, {30, 60, 0}, {0}};
    bool impatient = false, best_is_earlier = false;
    for (size_t k = 0; k < WAYS; k++)
        for (size_t i = 0; i < 5; i += NFLOW_THIN ? 2 : 1) {
            fit_problem p = fit_problem_new();
            nf_fit_options o = way(k, &p);
            o.threads = i == 2 ? 2 : 1;
            nf_fitter *f = nf_fitter_new(p.o, &o);
            cr_assert_not_null(f, "%s", nf_error_message());
            uint64_t made = 0;
            for (size_t j = 0; j < 4 && made < 200; j++) {
                nf_fit_report report, wanted;
                made = pieces[i][j] ? made + pieces[i][j] : 200;
                cr_assert_eq(nf_fitter_run(f, pieces[i][j], &report), NF_OK, "%s", nf_error_message());
                const fit_numbers should = whole_fit(k, made, &wanted), is = fit_numbers_of(p.m);
                cr_assert(fit_same_reports(&report, &wanted), "way %zu, pieces %zu, %d steps", k, i, (int)made);
                cr_assert(fit_same_numbers(&is, &should), "way %zu, pieces %zu, %d steps", k, i, (int)made);
                impatient = impatient || report.reason == NF_STOP_PATIENCE;
                best_is_earlier = best_is_earlier || (o.validation && report.best_step < o.first_step + report.steps);
                /* what happens to the model in between is nobody's business */
                for (size_t n = 0; n < nf_model_shape(p.m)->n_params; n++)
                    nf_model_theta(p.m)[n] = NF_R(0.125);
            }
            nf_fitter_free(f);
            fit_problem_free(&p);
        }
    cr_assert(impatient && best_is_earlier, "the ways cover these");
}

/* A run that has ended for good stays so; one that a callback has stopped goes on. */
static int stop_at_40(void *user, const nf_progress *p)
{
    ++*(int *)user;
    return p->step == 40;
}

Test(fitter, a_callback_stops_a_run)
{
    fit_problem p = fit_problem_new();
    int calls = 0;
    nf_fit_options o = way(1, &p);
    o.callback = stop_at_40;
    o.user = &calls;
    nf_fitter *f = nf_fitter_new(p.o, &o);
    nf_fit_report report, wanted;
    cr_assert_eq(nf_fitter_run(f, 0, &report), NF_OK);
    cr_assert(report.reason == NF_STOP_CALLBACK && report.steps == 40 && calls == 40);
    cr_assert_eq(nf_fitter_run(f, 0, &report), NF_OK);
    cr_assert_eq(calls, 200);
    const fit_numbers should = whole_fit(1, 200, &wanted), is = fit_numbers_of(p.m);
    cr_assert(fit_same_reports(&report, &wanted) && fit_same_numbers(&is, &should));
    cr_assert_eq(nf_fitter_run(f, 0, &report), NF_OK, "nothing is left");
    cr_assert(report.steps == 200 && calls == 200);
    cr_assert_eq(nf_fitter_run(f, 3, &report), NF_OK, "beyond what the options say");
    cr_assert_eq(report.steps, 203);
    nf_fitter_free(f);
    fit_problem_free(&p);
}

Test(fitter, the_end_by_patience_is_the_end)
{
    fit_problem p = fit_problem_new();
    const nf_fit_options o = way(4, &p);
    nf_fitter *f = nf_fitter_new(p.o, &o);
    nf_fit_report first, again;
    cr_assert_eq(nf_fitter_run(f, 0, &first), NF_OK);
    cr_assert_eq(first.reason, NF_STOP_PATIENCE);
    const fit_numbers left = fit_numbers_of(p.m);
    cr_assert_eq(nf_fitter_run(f, 50, &again), NF_OK);
    const fit_numbers still = fit_numbers_of(p.m);
    cr_assert(fit_same_reports(&first, &again) && fit_same_numbers(&left, &still));
    nf_fitter_free(f);
    fit_problem_free(&p);
}

static double explodes(void *user, uint64_t t)
{
    (void)user;
    return t < 50 ? 1 : t < 52 ? 1e200 : 1;
}

Test(fitter, the_end_by_numbers_that_are_not_finite_is_the_end)
{
    fit_problem p = fit_problem_new();
    nf_fit_options o = way(0, &p);
    o.schedule = (nf_schedule){.kind = NF_CUSTOM, .call = explodes};
    o.max_bad_steps = 6;
    o.validate_every = 10;
    nf_fitter *f = nf_fitter_new(p.o, &o);
    nf_fit_report report;
    cr_assert_eq(nf_fitter_run(f, 45, &report), NF_OK);
    expect(nf_fitter_run(f, 0, &report), NF_ENOTFINITE, "6 steps in a row");
    cr_assert(report.steps > 50 && report.steps < 70 && report.skipped == 6 && report.best_step <= 50);
    const fit_numbers left = fit_numbers_of(p.m);
    for (size_t i = 0; i < FIT_NUMBERS; i++)
        cr_assert(isfinite(left.theta[i]));
    const uint64_t steps = report.steps;
    expect(nf_fitter_run(f, 0, &report), NF_ENOTFINITE, "6 steps in a row");
    cr_assert_eq(report.steps, steps);
    nf_fitter_free(f);
    fit_problem_free(&p);
}

/* ---- the moving average ---- */

/* loss = |theta - foot|^2 / 2, and a gradient with noise of size 1; evaluations note where they were. */
enum { P = 4, DRAWS = 48 };
static const double foot[P] = {1.3172, -0.4415, 0.0271, 0.8833};

typedef struct bowl {
    nf_step now;
    nf_real seen[64][P];
    size_t n_seen;
} bowl;

static nf_status begin(void *self, const nf_step *step)
{
    ((bowl *)self)->now = *step;
    return NF_OK;
}

static nf_status backward(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    (void)saved;
    bowl *b = self;
    nf_real noise[P * 16];
    const nf_noise name = {.seed = b->now.seed, .step = b->now.step, .site = 9};
    nf_noise_normal(&name, P, 1, 16, noise);
    if (!g && first == 0 && b->n_seen < 64)
        memcpy(b->seen[b->n_seen++], p->theta, sizeof b->seen[0]);
    for (size_t i = 0; i < P; i++) {
        const double away = (double)p->theta[i] - foot[i];
        sums->loss += (double)p->n * 0.5 * away * away;
        if (g)
            g->theta[i] += (nf_real)((double)p->n * (away + (double)noise[i * 16]));
    }
    return NF_OK;
}

static const nf_objective_type bowl_type = {
    .name = "bowl", .abi = sizeof(nf_objective_type), .begin = begin, .backward = backward};

typedef struct diary {
    nf_model *m;
    nf_real theta[2001][P];
} diary;

static int note(void *user, const nf_progress *p)
{
    diary *d = user;
    memcpy(d->theta[p->step], nf_model_theta(d->m), sizeof d->theta[0]);
    return 0;
}

static double distance(const nf_real *theta)
{
    double sum = 0;
    for (size_t i = 0; i < P; i++)
        sum += ((double)theta[i] - foot[i]) * ((double)theta[i] - foot[i]);
    return sqrt(sum);
}

Test(average, is_the_formula_and_better_than_the_last)
{
    bowl b = {.n_seen = 0}, v = {.n_seen = 0};
    diary *d = malloc(sizeof *d);
    double last = 0, averaged = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        nf_model *m = nf_model_of_dist(nf_diagonal_normal(P / 2), NULL);
        d->m = m;
        for (size_t i = 0; i < P; i++)
            d->theta[0][i] = nf_model_theta(m)[i] = NF_R(0.25) * (nf_real)i;
        nf_objective *o = nf_objective_new(&bowl_type, m, DRAWS, &b), *check = nf_objective_new(&bowl_type, m, 3, &v);
        nf_fit_options options = {
            .steps = 2000, .optimizer = nf_sgd(), .rate = 0.1, .average = 0.99, .seed = seed, .threads = 1};
        options.callback = note;
        options.user = d;
        nf_fit_report r;
        cr_assert_eq(nf_fit(o, &options, &r), NF_OK);
        double average[P];
        for (size_t i = 0; i < P; i++)
            average[i] = (double)d->theta[0][i];
        for (size_t t = 1; t <= 2000; t++) {
            const double decay = fmin(0.99, (1.0 + (double)t) / (10.0 + (double)t));
            for (size_t i = 0; i < P; i++)
                average[i] = decay * average[i] + (1 - decay) * (double)d->theta[t][i];
        }
        for (size_t i = 0; i < P; i++)
            cr_assert_float_eq(nf_model_theta(m)[i], average[i], 100 * rounding);
        last += distance(d->theta[2000]) / 8;
        averaged += distance(nf_model_theta(m)) / 8;
        nf_objective_free(o);
        nf_objective_free(check);
        nf_model_free(m);
    }
    /* each step adds noise of size rate: the last iterate's spread is about sqrt(rate / 2) a feature, the average's
       sqrt(rate / 2 x 2 / (100 rate)) or so */
    cr_assert_lt(averaged, 0.6 * last, "%g and %g", averaged, last);
    free(d);
}

/* Validation sees averaged parameters, and the best of them are the model's; the steps go on from their own. */
Test(average, is_what_validation_sees)
{
    bowl b = {.n_seen = 0}, v = {.n_seen = 0};
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(P / 2), NULL);
    nf_objective *o = nf_objective_new(&bowl_type, m, DRAWS, &b), *check = nf_objective_new(&bowl_type, m, 3, &v);
    diary *d[2] = {malloc(sizeof *d[0]), malloc(sizeof *d[1])};
    nf_fit_options options = {.steps = 40, .optimizer = nf_sgd(), .rate = 0.3, .callback = note};
    nf_fit_report r;
    for (int k = 0; k < 2; k++) {
        memset(nf_model_theta(m), 0, P * sizeof(nf_real));
        d[k]->m = m;
        options.user = d[k];
        options.average = k ? 0.9 : 0;
        options.validation = k ? check : NULL;
        options.validate_every = 8;
        cr_assert_eq(nf_fit(o, &options, &r), NF_OK);
    }
    cr_assert_arr_eq(d[0]->theta[1], d[1]->theta[1], 40 * sizeof d[0]->theta[0], "the steps are the same");
    cr_assert_eq(v.n_seen, 5);
    double average[P] = {0}, best = INFINITY;
    size_t which = 0;
    for (size_t t = 1; t <= 40; t++) {
        const double decay = fmin(0.9, (1.0 + (double)t) / (10.0 + (double)t));
        for (size_t i = 0; i < P; i++)
            average[i] = decay * average[i] + (1 - decay) * (double)d[1]->theta[t][i];
        for (size_t i = 0; t % 8 == 0 && i < P; i++)
            cr_assert_float_eq(v.seen[t / 8 - 1][i], average[i], 10 * rounding);
    }
    for (size_t k = 0; k < 5; k++)
        if (distance(v.seen[k]) < best) {
            best = distance(v.seen[k]);
            which = k;
        }
    cr_assert_eq(r.best_step, 8 * (which + 1));
    cr_assert_float_eq(r.best, 0.5 * best * best, 10 * rounding);
    cr_assert_arr_eq(nf_model_theta(m), v.seen[which], sizeof v.seen[0]);
    for (int k = 0; k < 2; k++)
        free(d[k]);
    nf_objective_free(o);
    nf_objective_free(check);
    nf_model_free(m);
}

/* More parameters than a block has, so that several threads have some. */
Test(average, has_the_same_bits_for_all_thread_counts)
{
    const size_t hidden[] = {64, 64}, threads[] = {1, 2, 5};
    nf_real *first = NULL;
    for (size_t k = 0; k < 3; k++) {
        const nf_recipe_options recipe = {.hidden = hidden, .n_hidden = 2, .n_layers = 3};
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(FIT_DIM), nf_maf(FIT_DIM, &recipe)), NULL);
        cr_assert_not_null(m);
        const size_t n = nf_model_shape(m)->n_params;
        cr_assert_gt(n, 2 * 4096);
        nf_objective *o = fit_objective(m, 0, 500, 300);
        nf_fit_options options = {.steps = 12, .threads = threads[k], .average = 0.9};
        cr_assert_eq(nf_fit(o, &options, NULL), NF_OK);
        if (first)
            cr_assert_arr_eq(nf_model_theta(m), first, n * sizeof *first);
        else
            first = memcpy(malloc(n * sizeof *first), nf_model_theta(m), n * sizeof *first);
        nf_objective_free(o);
        nf_model_free(m);
    }
    free(first);
}

/* ---- a fit of no steps ---- */

Test(fitter, no_steps_but_an_evaluation)
{
    for (int averages = 0; averages < 2; averages++) {
        fit_problem p = fit_problem_new();
        const fit_numbers before = fit_numbers_of(p.m);
        nf_step_report wanted;
        nf_fit_report r;
        cr_assert_eq(nf_objective_value(p.validation, NULL, 0, 0, &wanted), NF_OK);
        const nf_fit_options options = {
            .steps = NF_NONE, .validation = averages ? p.validation : NULL, .average = averages ? 0.9 : 0};
        cr_assert_eq(nf_fit(p.o, &options, &r), NF_OK, "%s", nf_error_message());
        cr_assert(r.steps == 0 && r.skipped == 0 && r.reason == NF_STOP_STEPS && r.best_step == 0);
        if (averages)
            cr_assert_float_eq(r.best, wanted.loss, 1e-6 * fabs(wanted.loss));
        else
            cr_assert_eq(r.best, INFINITY);
        const fit_numbers after = fit_numbers_of(p.m);
        cr_assert_arr_eq(before.theta, after.theta, sizeof before.theta);
        fit_problem_free(&p);
    }
}

/* Only the last step is evaluated, and only there a checkpoint would be due. */
Test(fitter, evaluations_at_the_end_alone)
{
    fit_problem p = fit_problem_new();
    nf_fit_report r;
    const nf_fit_options options = {
        .steps = 37, .validation = p.validation, .validate_every = NF_NONE, .checkpoint_every = NF_NONE};
    cr_assert_eq(nf_fit(p.o, &options, &r), NF_OK, "%s", nf_error_message());
    cr_assert(r.steps == 37 && r.best_step == 37 && isfinite(r.best));
    fit_problem_free(&p);
}

/* The default schedule is the constant 1; a constant 0 moves nothing. */
Test(fitter, schedules_that_are_constant)
{
    const nf_schedule schedules[] = {
        {.kind = NF_SCHEDULE_DEFAULT}, {.kind = NF_CONSTANT, .from = 1}, {.kind = NF_CONSTANT}};
    fit_numbers numbers[3];
    for (int k = 0; k < 3; k++) {
        nf_model *m = fit_model(2);
        nf_objective *o = fit_objective(m, 0, 60, 16);
        const fit_numbers before = fit_numbers_of(m);
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 9, .schedule = schedules[k]}, NULL), NF_OK);
        numbers[k] = fit_numbers_of(m);
        cr_assert_eq(memcmp(before.theta, numbers[k].theta, sizeof before.theta) == 0, k == 2);
        nf_objective_free(o);
        nf_model_free(m);
    }
    cr_assert_arr_eq(numbers[0].theta, numbers[1].theta, sizeof numbers[0].theta);
}

/* ---- failures ---- */

static int uses_the_fitter(void *user, const nf_progress *p)
{
    (void)p;
    nf_fitter *f = *(nf_fitter **)user;
    expect(nf_fitter_run(f, 1, NULL), NF_EARG, "callback");
    expect(nf_fitter_load(f, "/nowhere"), NF_EARG, "callback");
    return 1;
}

Test(fitter, arguments)
{
    fit_problem p = fit_problem_new();
    const double wrong[] = {-0.1, 1, 1.5, (double)NAN, INFINITY};
    for (size_t k = 0; k < 5; k++) {
        cr_assert_null(nf_fitter_new(p.o, &(nf_fit_options){.average = wrong[k]}));
        expect(nf_error_status(), NF_EARG, "nf_fitter_new: `options->average`");
    }
    cr_assert_null(nf_fitter_new(p.o, &(nf_fit_options){.schedule = {.kind = (nf_schedule_kind)6}}));
    expect(nf_error_status(), NF_EARG, "schedule.kind` is 6");
    cr_assert_null(nf_fitter_new(p.o, &(nf_fit_options){.schedule = {.from = 0.5}}));
    expect(nf_error_status(), NF_EARG, "`options->schedule` goes from 0.5 to 0, but has no kind");
    cr_assert_null(nf_fitter_new(NULL, NULL));
    expect(nf_error_status(), NF_EARG, "nf_fitter_new: `o`");
    expect(nf_fitter_run(NULL, 1, NULL), NF_EARG, "nf_fitter_run: `f`");
    expect(nf_fitter_save(NULL, "x"), NF_EARG, "nf_fitter_save: `f`");
    expect(nf_fitter_load(NULL, "x"), NF_EARG, "nf_fitter_load: `f`");
    nf_fitter *f;
    f = nf_fitter_new(p.o, &(nf_fit_options){.callback = uses_the_fitter, .user = &f});
    expect(nf_fitter_save(f, NULL), NF_EARG, "nf_fitter_save: `path`");
    expect(nf_fitter_load(f, NULL), NF_EARG, "nf_fitter_load: `path`");
    cr_assert_eq(nf_fitter_run(f, 1, NULL), NF_OK);
    nf_fitter_free(f);
    nf_fitter_free(NULL);
    fit_problem_free(&p);
}

/* Every allocation of two runs fails in turn; a fitter that there is runs on when there is memory again. */
Test(fitter, failing_allocations)
{
    fit_problem p = fit_problem_new();
    const nf_fit_options o = way(3, &p);
    const size_t before = alloc_live();
    const fit_numbers should = whole_fit(3, 200, NULL);
    for (size_t k = 0, failed = 1; failed; k++) {
        cr_assert_eq(nf_model_init(p.m, 2, 0, NULL, NULL), NF_OK);
        fail_alloc_after(k);
        nf_fitter *f = nf_fitter_new(p.o, &o);
        const nf_status status = f ? nf_fitter_run(f, 40, NULL) : nf_error_status();
        failed = fail_alloc_off();
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK);
        if (f && k % 3 == 0) {
            nf_fit_report r;
            cr_assert_eq(nf_fitter_run(f, 0, &r), NF_OK);
            const fit_numbers is = fit_numbers_of(p.m);
            cr_assert(fit_same_numbers(&is, &should), "after allocation %zu failed", k);
        }
        nf_fitter_free(f);
        cr_assert_eq(alloc_live(), before);
    }
    fit_problem_free(&p);
}

/* ---- what was accepted in silence ---- */

static double halve(void *user, uint64_t step)
{
    (void)user;
    return 1 / (1 + (double)step);
}

Test(fitter, schedules_are_complete_or_refused)
{
    fit_problem p = fit_problem_new();
    const struct {
        nf_schedule schedule;
        const char *words;
    } bad[] = {{{.kind = NF_STAIRS, .from = 1, .to = 0.5}, "`options->schedule.steps` is 0"},
               {{.kind = NF_COSINE, .steps = 10}, "goes from 0 to 0"},
               {{.kind = NF_LINEAR, .from = NAN, .steps = 10}, "must be finite"},
               {{.kind = NF_CUSTOM}, "`call` is NULL"},
               {{.kind = (nf_schedule_kind)17}, "`options->schedule.kind` is 17"},
               {{.kind = NF_LINEAR, .from = 1, .to = -1, .steps = 10}, "is a factor of the learning rate"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        expect(nf_fit(p.o, &(nf_fit_options){.steps = 3, .schedule = bad[k].schedule}, NULL), NF_EARG, bad[k].words);
    nf_schedule custom = {.kind = NF_CUSTOM, .call = halve};
    cr_assert_eq(nf_fit(p.o, &(nf_fit_options){.steps = 3, .schedule = custom}, NULL), NF_OK);
    fit_problem_free(&p);
}

/* Without a length, a schedule of the rate has that of the fit. */
Test(fitter, schedules_end_with_the_fit)
{
    nf_real theta[2][64];
    for (int k = 0; k < 2; k++) {
        fit_problem p = fit_problem_new();
        const size_t n = nf_model_shape(p.m)->n_params;
        cr_assert_leq(n, 64);
        const nf_schedule s = {.kind = NF_COSINE, .from = 1, .warmup = 5, .steps = k ? 35 : 0};
        cr_assert_eq(nf_fit(p.o, &(nf_fit_options){.steps = 40, .schedule = s}, NULL), NF_OK, "%s", nf_error_message());
        memcpy(theta[k], nf_model_theta(p.m), n * sizeof(nf_real));
        cr_assert_arr_eq(theta[k], theta[0], n * sizeof(nf_real));
        fit_problem_free(&p);
    }
}

Test(fitter, validation_is_of_the_same_model)
{
    fit_problem p = fit_problem_new(), other = fit_problem_new();
    expect(nf_fit(p.o, &(nf_fit_options){.steps = 3, .validation = other.o}, NULL), NF_EARG, "is of another model");
    expect(nf_fit(p.o, &(nf_fit_options){.steps = 3, .patience = 2}, NULL), NF_EARG, "there is no validation");
    fit_problem_free(&p);
    fit_problem_free(&other);
}
