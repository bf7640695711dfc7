/* A copy of a model computes the same bits, and nothing that is done to one of the two reaches the other. */
#include "expect.h"
#include "prepared_net.h"
#include <nflow/nflow.h>

enum { D = 3, N = 5, MOST = 64 };

static const nf_noise noise = {.seed = 4};

/* ---- models of every kind ---- */

/* Rows that are no draws of any of the models. */
static const nf_real *rows(void)
{
    static nf_real x[N * D];
    for (size_t i = 0; i < N * D; i++)
        x[i] = NF_R(0.2) * (nf_real)(i * i % 11) - NF_R(0.7);
    return x;
}

/* Layers with a state, and one that prepares numbers. */
static nf_flow *layers(void)
{
    return nf_chain((nf_flow *[]){nf_batch_norm(D, NULL), nf_lu_linear(D, 1), nf_actnorm(D)}, 3);
}

/* All begin from data, so that their states are no zeros. */
static nf_model *dist(void)
{
    nf_dist *base = nf_student_t(D, &(nf_student_t_options){.learn = true});
    return nf_model_of_dist(nf_pushforward(base, layers()), &(nf_model_options){.n_init = N, .init_x = rows()});
}

static nf_model *flow(void)
{
    return nf_model_of_flow(layers(), &(nf_model_options){.n_init = N, .init_x = rows()});
}

static nf_model *net(void)
{
    const size_t hidden[] = {4};
    const nf_mlp_options options = {.hidden = hidden, .n_hidden = 1};
    return nf_model_of_net(nf_lipschitz(nf_mlp(D, D, 0, &options), NULL), NULL);
}

static nf_model *vae(void)
{
    nf_vae *v = nf_vae_new(nf_mlp(D, 2 * D, 0, NULL), nf_posterior(D, layers()), nf_mlp(D, D, 0, NULL), NF_BERNOULLI);
    return nf_model_of_vae(v, &(nf_model_options){.n_init = N, .init_x = rows()});
}

/* What models compute of x [N x D]: y [N x D] and, except nets and VAEs, log [N]. */
static nf_status compute_dist(const nf_model *m, const nf_real *x, nf_real *y, double *log)
{
    double drawn[N];
    const nf_status status = nf_sample(m, NULL, &noise, N, NULL, y, drawn);
    return status ? status : nf_log_prob(m, NULL, NULL, N, x, NULL, log);
}

static nf_status compute_flow(const nf_model *m, const nf_real *x, nf_real *y, double *log)
{
    return nf_transform(m, NULL, NULL, NF_INVERSE, N, x, NULL, y, log);
}

static nf_status compute_net(const nf_model *m, const nf_real *x, nf_real *y, double *log)
{
    (void)log;
    return nf_evaluate(m, NULL, NULL, N, x, NULL, y);
}

static nf_status compute_vae(const nf_model *m, const nf_real *x, nf_real *y, double *log)
{
    (void)log;
    return nf_vae_encode(m, NULL, &noise, N, x, y, NULL);
}

static const struct kind {
    const char *name;
    nf_model *(*make)(void);
    nf_status (*compute)(const nf_model *m, const nf_real *x, nf_real *y, double *log);
} kinds[] = {{"distribution", dist, compute_dist},
             {"flow", flow, compute_flow},
             {"net", net, compute_net},
             {"VAE", vae, compute_vae}};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct numbers {
    nf_real y[N * D];
    double log[N];
} numbers;

static numbers computed(const struct kind *k, const nf_model *m)
{
    numbers c = {{0}, {0}};
    cr_assert_eq(k->compute(m, rows(), c.y, c.log), NF_OK, "%s: %s", k->name, nf_error_message());
    return c;
}

static bool same(const numbers *a, const numbers *b)
{
    return memcmp(a->y, b->y, sizeof a->y) == 0 && memcmp(a->log, b->log, sizeof a->log) == 0;
}

/* All parameters become others, and the first numbers of the state, statistics or vectors of an iteration. */
static void change(nf_model *m)
{
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        nf_model_theta(m)[i] += NF_R(0.01) * (nf_real)(1 + i % 3);
    for (size_t i = 0; i < D; i++)
        nf_model_state(m)[i] += NF_R(0.02);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK, "%s", nf_error_message());
}

/* ---- a copy ---- */

Test(model_copy, computes_the_same_bits)
{
    for (const struct kind *k = kinds; k < kinds + KINDS; k++) {
        nf_model *m = made(k->make());
        change(m);
        nf_model *copy = made(nf_model_copy(m));
        cr_assert_eq(nf_model_object(copy), nf_model_object(m), "%s: the object is shared", k->name);
        cr_assert_neq(nf_model_theta(copy), nf_model_theta(m));
        cr_assert_gt(nf_model_shape(m)->n_state, 0, "%s has a state", k->name);
        cr_assert_neq(nf_model_state(copy), nf_model_state(m));
        const numbers a = computed(k, m), b = computed(k, copy);
        cr_assert(same(&a, &b), "%s", k->name);
        nf_model_free(copy);
        nf_model_free(m);
    }
}

Test(model_copy, does_not_change_with_the_model)
{
    for (const struct kind *k = kinds; k < kinds + KINDS; k++) {
        nf_model *m = made(k->make()), *copy = made(nf_model_copy(m));
        const numbers before = computed(k, m);
        change(copy);
        numbers now = computed(k, m), other = computed(k, copy);
        cr_assert(same(&before, &now) && !same(&before, &other), "%s: the copy has changed", k->name);
        change(m);
        now = computed(k, m);
        cr_assert(same(&other, &now), "%s: the same change was made to both", k->name);
        change(m);
        now = computed(k, copy);
        cr_assert(same(&other, &now), "%s: the model has changed", k->name);
        nf_model_free(m);
        now = computed(k, copy);
        cr_assert(same(&other, &now), "%s: the model has gone", k->name);
        nf_model_free(copy);
    }
}

Test(model_copy, has_arrays_of_its_own_where_the_caller_has_the_models)
{
    const size_t n = 2 * D;
    nf_real *theta = calloc(n, sizeof *theta);
    nf_model *m = made(nf_model_of_dist(nf_diagonal_normal(D), &(nf_model_options){.theta = theta}));
    theta[0] = NF_R(0.75);
    nf_model *copy = made(nf_model_copy(m));
    theta[0] = 4;
    cr_assert_eq(nf_model_theta(copy)[0], NF_R(0.75));
    nf_model_free(m);
    free(theta);
    double log_p[N];
    cr_assert_eq(nf_log_prob(copy, NULL, NULL, N, rows(), NULL, log_p), NF_OK, "%s", nf_error_message());
    nf_model_free(copy);
}

Test(model_copy, has_the_notes)
{
    nf_model *m = made(flow()), *bare = made(nf_model_copy(m));
    size_t n = 7;
    nf_model_notes(bare, &n);
    cr_assert_eq(n, 0);
    cr_assert_eq(nf_model_set_notes(m, 2, (nf_note[]){{"unit", "km"}, {"place", "Genève"}}), NF_OK);
    nf_model *copy = made(nf_model_copy(m));
    cr_assert_eq(nf_model_set_notes(m, 2, (nf_note[]){{"unit", "mm"}, {"place", NULL}}), NF_OK);
    nf_model_notes(copy, &n);
    cr_assert_eq(n, 2);
    cr_assert_str_eq(nf_model_note(copy, "unit"), "km");
    cr_assert_str_eq(nf_model_note(copy, "place"), "Genève");
    nf_model_free(m);
    cr_assert_str_eq(nf_model_note(copy, "unit"), "km");
    nf_model_free(copy);
    nf_model_free(bare);
}

/* ---- stale models ---- */

/* The last parameter of a distribution's lu_linear, from which others are prepared; nf_actnorm has 2 D after it. */
static nf_real *of_linear(nf_model *m)
{
    return nf_model_theta(m) + nf_model_shape(m)->n_params - 2 * D - 1;
}

Test(model_copy, waits_for_an_update_where_the_model_does)
{
    const char words[] = "the model's theta or state has changed";
    nf_model *m = made(dist());
    const nf_real kept = *of_linear(m);
    *of_linear(m) += NF_R(0.25);
    nf_model *copy = made(nf_model_copy(m)), *back = made(nf_model_copy(m));
    double a[N], b[N];
    expect(nf_log_prob(copy, NULL, NULL, N, rows(), NULL, a), NF_ESTALE, words);
    cr_assert_eq(nf_model_update(copy, NF_EVAL), NF_OK);
    cr_assert_eq(nf_log_prob(copy, NULL, NULL, N, rows(), NULL, a), NF_OK, "%s", nf_error_message());
    expect(nf_log_prob(m, NULL, NULL, N, rows(), NULL, b), NF_ESTALE, words);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_eq(nf_log_prob(m, NULL, NULL, N, rows(), NULL, b), NF_OK);
    cr_assert_arr_eq(a, b, sizeof a);
    /* a copy with the numbers that the model was prepared for is prepared */
    *of_linear(back) = kept;
    cr_assert_eq(nf_log_prob(back, NULL, NULL, N, rows(), NULL, b), NF_OK, "%s", nf_error_message());
    nf_model_free(back);
    nf_model_free(copy);
    nf_model_free(m);
}

/* What is prepared is copied, not prepared again: that might move the state. */
Test(model_copy, prepares_nothing)
{
    nf_model *m = made(prepared_net());
    const nf_real x[1] = {0};
    nf_real y[1];
    cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
    times_prepared = 0;
    nf_model *copy = made(nf_model_copy(m));
    cr_assert_eq(times_prepared, 0);
    cr_assert_eq(nf_model_state(copy)[0], 1);
    cr_assert_eq(nf_evaluate(copy, NULL, NULL, 1, x, NULL, y), NF_OK, "%s", nf_error_message());
    cr_assert_eq(y[0], 1);
    nf_model_free(copy);

    prepare_fails = true;
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_ENOCONV);
    prepare_fails = false;
    copy = made(nf_model_copy(m));
    expect(nf_evaluate(copy, NULL, NULL, 1, x, NULL, y), NF_ESTALE, "the model's last nf_model_update() has failed");
    cr_assert_eq(nf_model_update(copy, NF_EVAL), NF_OK);
    cr_assert_eq(nf_evaluate(copy, NULL, NULL, 1, x, NULL, y), NF_OK);
    nf_model_free(copy);
    nf_model_free(m);
}

/* ---- from a fit's callback ---- */

typedef struct keeping {
    nf_model *m, *copy;
    double log_p[N]; /* of the model at that step */
} keeping;

static int keep_the_third(void *user, const nf_progress *p)
{
    keeping *k = user;
    if (p->step == 3) {
        k->copy = made(nf_model_copy(k->m));
        cr_assert_eq(nf_log_prob(k->m, NULL, NULL, N, rows(), NULL, k->log_p), NF_OK, "%s", nf_error_message());
    }
    return 0;
}

/* The copy is what the model was at that step, and a model like any other, though its model was in a fit. */
Test(model_copy, keeps_a_step_of_a_fit)
{
    keeping k = {.m = made(dist())};
    const nf_data data = {.n = N, .dim = D, .x = rows()};
    nf_objective *o = nf_maximum_likelihood(k.m, &data, NULL);
    cr_assert_not_null(o, "%s", nf_error_message());
    const nf_fit_options options = {.steps = 6, .threads = 1, .callback = keep_the_third, .user = &k};
    cr_assert_eq(nf_fit(o, &options, NULL), NF_OK, "%s", nf_error_message());
    double copied[N], last[N];
    cr_assert_eq(nf_log_prob(k.copy, NULL, NULL, N, rows(), NULL, copied), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_log_prob(k.m, NULL, NULL, N, rows(), NULL, last), NF_OK, "%s", nf_error_message());
    cr_assert_arr_eq(copied, k.log_p, sizeof copied);
    cr_assert_neq(memcmp(copied, last, sizeof copied), 0);
    *of_linear(k.copy) += NF_R(0.25);
    expect(nf_log_prob(k.copy, NULL, NULL, N, rows(), NULL, copied), NF_ESTALE, "has changed");
    nf_objective_free(o);
    nf_model_free(k.copy);
    nf_model_free(k.m);
}

/* ---- none ---- */

Test(model_copy, of_no_model_is_none)
{
    expect_none(nf_model_copy(NULL), NF_EARG, "nf_model_copy: `m` is NULL");
    expect_none(nf_model_copy(nf_model_of_dist(nf_normal(0), NULL)), NF_EARG, "nf_model_copy: `m` is NULL (the last");
    cr_assert(strstr(nf_error_message(), "nf_normal"), "%s", nf_error_message());
}
