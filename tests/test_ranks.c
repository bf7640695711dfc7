/* A data-parallel fit: several ranks make each step together and get the bits of a single process.

   The ranks are threads here, each with a model, an objective and a fitter of its own, and a function in the place of
   MPI_Allreduce that adds up by the tree. With MPI, rank and n_ranks are the communicator's, and all_reduce is three
   calls of MPI_Allreduce. */
#include "fit_fixture.h"
#include "temp_files.h"
#include <pthread.h>
#include <stdatomic.h>

enum { MAX_RANKS = 4, STEPS = 50 };

/* ---- all_reduce between threads ---- */

typedef struct world {
    size_t n;
    pthread_barrier_t door;
    const nf_reduction *part[MAX_RANKS];
} world;

static void add(const nf_reduction *a, const nf_reduction *b)
{
    for (size_t i = 0; i < a->n_gradient; i++)
        a->gradient[i] += b->gradient[i];
    for (size_t i = 0; i < a->n_sums; i++)
        a->sums[i] += b->sums[i];
    for (size_t i = 0; i < a->n_maxima; i++)
        a->maxima[i] = fmax(a->maxima[i], b->maxima[i]);
}

static void copy(const nf_reduction *to, const nf_reduction *from)
{
    memcpy(to->gradient, from->gradient, to->n_gradient * sizeof *to->gradient);
    memcpy(to->sums, from->sums, to->n_sums * sizeof *to->sums);
    memcpy(to->maxima, from->maxima, to->n_maxima * sizeof *to->maxima);
}

/* ---- what is fitted ---- */

enum { LIKELIHOOD, ELBO, SERIAL_ELBO, VAE, PROBLEMS };

typedef struct rank {
    world *w;
    nf_ranks ranks;
    int problem;
    /* its own copy of everything */
    nf_model *m;
    nf_target *target;
    nf_objective *o, *validation;
    atomic_size_t asked;      /* draws that its target has seen */
    uint64_t fatal, stops_at; /* the target's call that fails, the step at which the callback stops; 0: never */
    size_t calls, reductions, breaks_at;
    /* what it is to do, and what comes of it */
    nf_fit_options options;
    nf_status status;
    char message[512];
    nf_fit_report report;
    nf_step_report step;
    size_t n_params, n_state;
    nf_real *theta, *state, *gradient;
} rank;

static nf_status all_reduce(void *user, const nf_reduction *mine)
{
    rank *me = user;
    world *w = me->w;
    w->part[me->ranks.rank] = mine;
    pthread_barrier_wait(&w->door);
    for (size_t step = 1; step < w->n && me->ranks.rank == 0; step *= 2)
        for (size_t i = 0; i < w->n; i += 2 * step)
            add(w->part[i], w->part[i + step]);
    pthread_barrier_wait(&w->door);
    if (me->ranks.rank != 0)
        copy(mine, w->part[0]);
    pthread_barrier_wait(&w->door);
    return ++me->reductions == me->breaks_at ? nf_error(NF_EIO, "the line is broken") : NF_OK;
}

static int target(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    rank *me = user;
    atomic_fetch_add(&me->asked, n);
    for (size_t i = 0; i < n; i++) {
        log_p[i] = 0;
        rejected[i] = x[i * d] > 1.7;
        for (size_t j = 0; j < d; j++) {
            const double u = x[i * d + j] - 0.4 * (double)(j + 1);
            log_p[i] -= u * u;
            if (grad)
                grad[i * d + j] = -2 * u;
        }
    }
    return me->fatal && ++me->calls == me->fatal;
}

static void elbo(rank *me, nf_thread_rule rule)
{
    nf_flow *f[] = {nf_planar(FIT_DIM), nf_lu_linear(FIT_DIM, 4), nf_planar(FIT_DIM)};
    me->m =
        nf_model_of_dist(nf_pushforward(nf_diagonal_normal(FIT_DIM), nf_chain(f, 3)), &(nf_model_options){.seed = 2});
    me->target = nf_target_callback(FIT_DIM, target, me, rule);
    me->o = nf_elbo(me->m, me->target, &(nf_elbo_options){.draws = 517});
}

static void vae(rank *me)
{
    const size_t hidden[] = {7};
    nf_mlp_options o = {.hidden = hidden, .n_hidden = 1};
    nf_flow *flow = nf_amortized_by_context(nf_planar(2));
    const size_t from_encoder = 4 + nf_flow_shape(flow)->n_ctx;
    me->m = nf_model_of_vae(nf_vae_new(nf_mlp(FIT_DIM, from_encoder, 0, &o), nf_posterior(2, flow),
                                       nf_mlp(2, FIT_DIM, 0, &o), NF_BERNOULLI),
                            NULL);
    static nf_real x[FIT_ROWS * FIT_DIM]; /* the same in every rank */
    const nf_real *rows = fit_rows(0);
    for (size_t i = 0; i < FIT_ROWS * FIT_DIM; i++)
        x[i] = (nf_real)fabs(sin((double)rows[i]));
    const nf_data data = {.n = FIT_ROWS, .dim = FIT_DIM, .x = x, .binarise = NF_BINARISE_DYNAMIC};
    me->o = nf_vae_elbo(me->m, &data, &(nf_vae_options){.batch = 530});
}

static void build(rank *me)
{
    if (me->problem == LIKELIHOOD) {
        me->m = fit_model(2);
        me->o = fit_objective(me->m, 0, FIT_ROWS, 520);
    } else if (me->problem == VAE)
        vae(me);
    else
        elbo(me, me->problem == SERIAL_ELBO ? NF_SERIAL : NF_THREADSAFE);
    cr_assert(me->m && me->o, "%s", nf_error_message());
    me->n_params = nf_model_shape(me->m)->n_params;
    me->n_state = nf_model_shape(me->m)->n_state;
    me->gradient = calloc(me->n_params, sizeof(nf_real));
    me->theta = nf_model_theta(me->m);
    me->state = nf_model_state(me->m);
}

static void release(rank *me)
{
    nf_objective_free(me->validation);
    nf_objective_free(me->o);
    nf_target_free(me->target);
    nf_model_free(me->m);
    free(me->gradient);
}

/* ---- ranks at work ---- */

static int stop(void *user, const nf_progress *p)
{
    return p->step == ((const rank *)user)->stops_at;
}

static void note(rank *me, nf_status status)
{
    me->status = status;
    snprintf(me->message, sizeof me->message, "%s", nf_error_message());
}

static void *fit(void *user)
{
    rank *me = user;
    me->options.ranks = me->w ? &me->ranks : NULL;
    me->options.callback = stop;
    me->options.user = me;
    note(me, nf_fit(me->o, &me->options, &me->report));
    return NULL;
}

static void *gradient(void *user)
{
    rank *me = user;
    note(me, nf_objective_rank_gradient(me->o, NULL, me->w ? &me->ranks : NULL, 4, 9, &me->step, me->gradient));
    return NULL;
}

/* n ranks of a problem, built. */
static rank *gather_ranks(world *w, size_t n, int problem, const nf_fit_options *options)
{
    rank *all = calloc(n, sizeof *all);
    w->n = n;
    pthread_barrier_init(&w->door, NULL, (unsigned)n);
    for (size_t r = 0; r < n; r++) {
        all[r].w = w;
        all[r].ranks = (nf_ranks){.rank = r, .n_ranks = n, .all_reduce = all_reduce, .user = &all[r]};
        all[r].problem = problem;
        all[r].options =
            options ? *options : (nf_fit_options){.steps = STEPS, .rate = 0.02, .seed = 6, .clip_norm = 1.5};
        all[r].options.threads = 1 + r % 2;
        build(&all[r]);
    }
    return all;
}

static void work(rank *all, void *(*what)(void *))
{
    pthread_t thread[MAX_RANKS];
    const size_t n = all[0].w->n;
    alarm(NFLOW_THIN ? 250 : 12); /* ranks that wait for one another for ever are a failure, not a stop of all tests */
    for (size_t r = 0; r < n; r++)
        cr_assert_eq(pthread_create(&thread[r], NULL, what, &all[r]), 0);
    for (size_t r = 0; r < n; r++)
        pthread_join(thread[r], NULL);
    alarm(0);
}

static void dismiss(rank *all)
{
    pthread_barrier_destroy(&all[0].w->door);
    for (size_t r = all[0].w->n; r-- > 0;)
        release(&all[r]);
    free(all);
}

/* The same by one process alone. */
static rank alone(int problem, const nf_fit_options *options, void *(*what)(void *))
{
    rank one = {.problem = problem, .options = {.steps = STEPS, .rate = 0.02, .seed = 6, .clip_norm = 1.5}};
    if (options)
        one.options = *options;
    one.options.threads = 2;
    build(&one);
    what(&one);
    cr_assert_eq(one.status, NF_OK, "%s", one.message);
    return one;
}

static void same_model(const rank *a, const rank *b)
{
    cr_assert_arr_eq(a->theta, b->theta, a->n_params * sizeof(nf_real));
    if (a->n_state)
        cr_assert_arr_eq(a->state, b->state, a->n_state * sizeof(nf_real));
}

Test(ranks, a_step_has_the_bits_of_one_process)
{
    for (int problem = 0; problem < PROBLEMS; problem++) {
        rank one = alone(problem, NULL, gradient);
        for (size_t n = 1; n <= MAX_RANKS; n *= 2) {
            world w;
            rank *all = gather_ranks(&w, n, problem, NULL);
            work(all, gradient);
            for (size_t r = 0; r < n; r++) {
                cr_assert_eq(all[r].status, NF_OK, "%s", all[r].message);
                cr_assert_eq(all[r].reductions, 1);
                cr_assert_arr_eq(all[r].gradient, one.gradient, one.n_params * sizeof(nf_real), "problem %d", problem);
                cr_assert_arr_eq(&all[r].step, &one.step, sizeof one.step, "problem %d", problem);
                same_model(&all[r], &one); /* its statistics have moved */
            }
            dismiss(all);
        }
        cr_assert(isfinite(one.step.grad_norm) && one.step.grad_norm > 0.01);
        release(&one);
    }
}

Test(ranks, a_fit_has_the_bits_of_one_process)
{
    for (int problem = 0; problem < PROBLEMS; problem++) {
        rank one = alone(problem, NULL, fit);
        for (size_t n = 1; n <= MAX_RANKS; n *= 2) {
            world w;
            rank *all = gather_ranks(&w, n, problem, NULL);
            work(all, fit);
            size_t asked = 0;
            for (size_t r = 0; r < n; r++) {
                cr_assert_eq(all[r].status, NF_OK, "%s", all[r].message);
                cr_assert_eq(all[r].reductions, STEPS, "once a step");
                cr_assert(fit_same_reports(&all[r].report, &one.report), "problem %d", problem);
                same_model(&all[r], &one);
                asked += all[r].asked;
                size_t first, share;
                cr_assert_eq(nf_objective_share(all[r].o, r, n, &first, &share), NF_OK);
                cr_assert(!all[r].target || all[r].asked == STEPS * share, "its own samples only");
            }
            cr_assert_eq(asked, one.asked);
            dismiss(all);
        }
        cr_assert(problem != ELBO || one.report.rejected > STEPS);
        release(&one);
    }
}

Test(ranks, validate_average_and_run_out_of_patience_alike)
{
    nf_fit_options options = {.steps = 400, .rate = 0.3, .validate_every = 7, .patience = 2, .average = 0.9};
    rank one = {.problem = LIKELIHOOD};
    build(&one);
    one.options = options;
    one.options.validation = one.validation = fit_objective(one.m, 1, 90, 90);
    fit(&one);
    cr_assert(one.status == NF_OK && one.report.reason == NF_STOP_PATIENCE && one.report.steps < 400);
    world w;
    rank *all = gather_ranks(&w, 2, LIKELIHOOD, &options);
    for (size_t r = 0; r < 2; r++)
        all[r].options.validation = all[r].validation = fit_objective(all[r].m, 1, 90, 90);
    work(all, fit);
    for (size_t r = 0; r < 2; r++) {
        cr_assert_eq(all[r].status, NF_OK, "%s", all[r].message);
        cr_assert(fit_same_reports(&all[r].report, &one.report));
        same_model(&all[r], &one);
    }
    dismiss(all);
    release(&one);
}

/* ---- shares ---- */

Test(ranks, shares_are_all_of_a_step)
{
    for (int problem = 0; problem < PROBLEMS; problem++) {
        rank one = {.problem = problem};
        build(&one);
        const size_t total = nf_objective_batch(one.o);
        for (size_t n = 1; n <= 8; n *= 2) {
            size_t next = 0, first, share;
            for (size_t r = 0; r < n; r++) {
                cr_assert_eq(nf_objective_share(one.o, r, n, &first, &share), NF_OK, "%s", nf_error_message());
                cr_assert_eq(first, next);
                cr_assert(share >= total / n / 2 && share <= 2 * total / n);
                next = first + share;
            }
            cr_assert_eq(next, total);
            expect(nf_objective_share(one.o, n, n, &first, &share), NF_EARG, "rank");
        }
        size_t first, share;
        const size_t wrong[] = {0, 3, 6, 16, 64};
        for (size_t k = 0; k < 5; k++) {
            char words[64];
            snprintf(words, sizeof words, "%zu ranks, but a step of %zu samples has 8 shards", wrong[k], total);
            expect(nf_objective_share(one.o, 0, wrong[k], &first, &share), NF_EARG, words);
        }
        expect(nf_objective_share(NULL, 0, 1, &first, &share), NF_EARG, "`o`");
        expect(nf_objective_share(one.o, 0, 1, NULL, &share), NF_EARG, "`first`");
        expect(nf_objective_share(one.o, 0, 1, &first, NULL), NF_EARG, "`n`");
        nf_ranks ranks = {.n_ranks = 3, .all_reduce = all_reduce};
        expect(nf_fit(one.o, &(nf_fit_options){.ranks = &ranks}, NULL), NF_EARG, "nf_fit: 3 ranks");
        expect(nf_objective_rank_gradient(one.o, NULL, &ranks, 0, 0, NULL, one.gradient), NF_EARG, "3 ranks");
        ranks = (nf_ranks){.n_ranks = 2};
        expect(nf_fit(one.o, &(nf_fit_options){.ranks = &ranks}, NULL), NF_EARG, "all_reduce");
        release(&one);
    }
}

/* ---- one fails or stops: nobody waits for it ---- */

Test(ranks, a_target_that_fails_ends_all)
{
    const int problems[] = {ELBO, SERIAL_ELBO};
    for (size_t k = 0; k < 2; k++) {
        world w;
        rank *all = gather_ranks(&w, 4, problems[k], NULL);
        all[2].fatal = problems[k] == ELBO ? 25 : 13; /* two tiles are a share of the first */
        work(all, fit);
        for (size_t r = 0; r < 4; r++) {
            cr_assert_eq(all[r].status, NF_ETARGET, "%s", all[r].message);
            cr_assert_eq(all[r].report.steps, 12);
            cr_assert_eq(all[r].reductions, 13);
            cr_assert((strstr(all[r].message, "1 of 4 ranks failed") == NULL) == (r == 2), "%s", all[r].message);
            same_model(&all[r], &all[0]);
        }
        dismiss(all);
        all = gather_ranks(&w, 4, problems[k], NULL);
        all[1].fatal = 1;
        work(all, gradient);
        for (size_t r = 0; r < 4; r++)
            cr_assert(all[r].status == NF_ETARGET && all[r].reductions == 1, "%s", all[r].message);
        dismiss(all);
    }
}

/* An objective that fails when it evaluates, in its first or second evaluation. */
static nf_status begin(void *self, const nf_step *step)
{
    int *left = self;
    return !step->gradient && --*left == 0 ? nf_error(NF_ENOCONV, "no value") : NF_OK;
}

static nf_status backward(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    (void)self, (void)p, (void)first, (void)saved, (void)g;
    sums->loss += 1.25;
    return NF_OK;
}

static const nf_objective_type moody = {
    .name = "moody", .abi = sizeof(nf_objective_type), .begin = begin, .backward = backward};

Test(ranks, a_validation_that_fails_ends_all)
{
    /* the others may just have run out of patience: they have had one evaluation that was not better */
    for (size_t patience = 0; patience < 2; patience++) {
        const nf_fit_options options = {.steps = 40, .validate_every = 10, .patience = patience};
        world w;
        rank *all = gather_ranks(&w, 2, LIKELIHOOD, &options);
        int left[] = {1000, 2};
        for (size_t r = 0; r < 2; r++)
            all[r].options.validation = all[r].validation = nf_objective_new(&moody, all[r].m, 1, &left[r]);
        work(all, fit);
        cr_assert_eq(all[1].status, NF_ENOCONV);
        cr_assert_eq(all[0].status, NF_ENOCONV, "%s", all[0].message);
        cr_assert(all[0].report.steps == 20 && all[1].report.steps == 20);
        cr_assert_eq(all[0].reductions, 21);
        dismiss(all);
    }
}

Test(ranks, a_callback_that_stops_ends_all)
{
    nf_fit_options options = {.steps = 17, .rate = 0.02, .seed = 6};
    rank one = alone(LIKELIHOOD, &options, fit);
    char folder[64], path[128];
    strcpy(folder, temp_folder());
    snprintf(path, sizeof path, "%s/checkpoint", folder);
    options.steps = 60;
#ifdef NFI_JANSSON
    options.checkpoint = path;
    options.checkpoint_every = 5;
#endif
    world w;
    rank *all = gather_ranks(&w, 4, LIKELIHOOD, &options);
    all[3].stops_at = 17;
    work(all, fit);
    for (size_t r = 0; r < 4; r++) {
        cr_assert_eq(all[r].status, NF_OK, "%s", all[r].message);
        cr_assert_eq(all[r].report.reason, NF_STOP_CALLBACK);
        cr_assert_eq(all[r].report.steps, 17);
        cr_assert_eq(all[r].reductions, 18);
        same_model(&all[r], &one);
    }
#ifdef NFI_JANSSON
    /* rank 0 has written what there is; a single process goes on from there */
    fit_problem p = fit_problem_new();
    nf_fitter *f = nf_fitter_new(p.o, NULL);
    cr_assert_eq(nf_fitter_load(f, path), NF_OK, "%s", nf_error_message());
    const fit_numbers loaded = fit_numbers_of(p.m), left = fit_numbers_of(one.m);
    cr_assert(fit_same_numbers(&loaded, &left));
    nf_fitter_free(f);
    fit_problem_free(&p);
    cr_assert_eq(temp_remove(folder), 1);
#else
    temp_remove(folder);
#endif
    dismiss(all);
    release(&one);
}

Test(ranks, a_reduction_that_fails_ends_its_rank)
{
    world w;
    rank *all = gather_ranks(&w, 1, LIKELIHOOD, NULL);
    all[0].breaks_at = 8;
    work(all, fit);
    cr_assert_eq(all[0].status, NF_EIO);
    cr_assert_str_eq(all[0].message, "the line is broken");
    cr_assert(all[0].report.steps == 7 && all[0].reductions == 8);
    dismiss(all);
}
