/* Models whose parameters have changed since they were prepared: every call that reads prepared numbers refuses them
   and says so, nothing else does, and a fit does not ask. */
#include "model/model.h"
#include "base/instruction_set.h"
#include "expect.h"
#include "object/fingerprint.h"
#include "prepared_net.h"
#include "temp_files.h"
#include <math.h>
#include <nflow/nflow.h>

enum { D = 3, X = 4, N = 5 };

/* ---- every call ---- */

/* What the calls need. Each model has one layer that prepares numbers. */
typedef struct fixture {
    nf_model *net, *flow, *q, *posterior, *vae, *moving;
    nf_workspace *ws;
    nf_objective *likelihood, *elbo, *counted;
    nf_data data, images;
    nf_real x[N * X], y[N * X], g[400];
    double log[N];
} fixture;

static const nf_noise noise = {.seed = 4};

static void begin(fixture *f)
{
    *f = (fixture){.data = {.n = N, .dim = D, .x = f->x}, .images = {.n = N, .dim = X, .x = f->x}};
    for (size_t i = 0; i < N * X; i++)
        f->x[i] = NF_R(0.1) * (nf_real)(i % 7);
    nf_dist *of_images = nf_posterior(D, nf_lu_linear(D, 2));
    f->net = made(prepared_net());
    f->flow = made(nf_model_of_flow(nf_lu_linear(D, 1), NULL));
    f->q = made(nf_model_of_dist(nf_pushforward(nf_normal(D), nf_lu_linear(D, 1)), NULL));
    f->posterior = made(nf_model_of_dist(nf_posterior(D, nf_lu_linear(D, 1)), NULL));
    f->vae = made(
        nf_model_of_vae(nf_vae_new(nf_mlp(X, 2 * D, 0, NULL), of_images, nf_mlp(D, X, 0, NULL), NF_BERNOULLI), NULL));
    f->moving = made(nf_model_of_dist(nf_pushforward(nf_normal(D), nf_batch_norm(D, NULL)), NULL));
    f->ws = nf_workspace_new(1);
    f->likelihood = nf_maximum_likelihood(f->q, &f->data, NULL);
    f->counted = nf_maximum_likelihood(f->moving, &f->data, NULL);
    f->elbo = nf_vae_elbo(f->vae, &f->images, NULL);
    cr_assert(f->ws && f->likelihood && f->counted && f->elbo, "%s", nf_error_message());
}

static void end(fixture *f)
{
    nf_objective_free(f->likelihood);
    nf_objective_free(f->counted);
    nf_objective_free(f->elbo);
    nf_workspace_free(f->ws);
    nf_model *all[] = {f->net, f->flow, f->q, f->posterior, f->vae, f->moving};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        nf_model_free(all[i]);
}

static nf_status sample(fixture *f)
{
    return nf_sample(f->q, f->ws, &noise, N, NULL, f->y, f->log);
}
static nf_status log_prob(fixture *f)
{
    return nf_log_prob(f->q, NULL, NULL, N, f->x, NULL, f->log);
}
static nf_status log_prob_of_moving(fixture *f)
{
    return nf_log_prob(f->moving, f->ws, NULL, N, f->x, NULL, f->log);
}
static nf_status transform(fixture *f)
{
    return nf_transform(f->flow, f->ws, NULL, NF_INVERSE, N, f->x, NULL, f->y, NULL);
}
static nf_status transform_vjp(fixture *f)
{
    return nf_transform_vjp(f->flow, NULL, NULL, NF_FORWARD, N, f->x, NULL, f->x, NULL, f->y, NULL, f->g);
}
static nf_status evaluate(fixture *f)
{
    return nf_evaluate(f->net, f->ws, NULL, N, f->x, NULL, f->y);
}
static nf_status check_flow(fixture *f)
{
    nf_check_report report;
    return nf_check_flow(f->flow, &(nf_check_options){.n = 2}, &report);
}
static nf_status pull_gradient(fixture *f)
{
    return nf_model_pull_gradient(f->flow, f->g, f->g);
}
static nf_status posterior_forward(fixture *f)
{
    return nf_posterior_forward(
        f->posterior, f->ws, NF_TRAIN, &noise,
        &(nf_posterior_rows){.n = N, .mean = f->x, .log_scale = f->x, .z = f->y, .log_q = f->log});
}
static nf_status posterior_backward(fixture *f)
{
    return nf_posterior_backward(
        f->posterior, f->ws,
        &(nf_posterior_gradients){.n = N, .gz = f->x, .g_log_q = f->log, .g_mean = f->y, .g = f->g});
}
static nf_status vae_encode(fixture *f)
{
    return nf_vae_encode(f->vae, f->ws, &noise, N, f->x, f->y, NULL);
}
static nf_status vae_decode(fixture *f)
{
    return nf_vae_decode(f->vae, f->ws, &noise, N, NULL, f->y);
}
static nf_status vae_score(fixture *f)
{
    nf_vae_scores scores;
    return nf_vae_score(f->vae, NULL, &f->images, 2, 1, NULL, NULL, &scores);
}
static nf_status objective_value(fixture *f)
{
    nf_step_report report;
    return nf_objective_value(f->likelihood, f->ws, 1, 1, &report);
}
static nf_status objective_gradient(fixture *f)
{
    return nf_objective_gradient(f->elbo, NULL, 1, 1, NULL, f->g);
}
static nf_status rank_gradient(fixture *f)
{
    return nf_objective_rank_gradient(f->likelihood, f->ws, NULL, 1, 1, NULL, f->g);
}
static nf_status new_fitter(fixture *f)
{
    nf_fitter *fitter = nf_fitter_new(f->likelihood, &(nf_fit_options){.threads = 1});
    nf_fitter_free(fitter);
    return fitter ? NF_OK : nf_error_status();
}
static nf_status fit(fixture *f)
{
    return nf_fit(f->likelihood, &(nf_fit_options){.steps = 1, .threads = 1}, NULL);
}

/* A call, the model that it reads, and which number of it changes: its place in theta, or in state. The VAE's layer
   comes after the encoder, of X 2 D + 2 D parameters. */
typedef struct path {
    const char *name;
    nf_status (*call)(fixture *f);
    size_t model; /* offset in fixture */
    bool in_state;
    size_t place;
} path;

#define OF(member) offsetof(fixture, member)
enum { IN_VAE = X * 2 * D + 2 * D + 1 };
static const path paths[] = {
    {"nf_sample", sample, OF(q), false, 1},
    {"nf_log_prob", log_prob, OF(q), false, D *D},
    {"nf_log_prob", log_prob_of_moving, OF(moving), true, 2 * D - 1},
    {"nf_transform", transform, OF(flow), false, 0},
    {"nf_transform_vjp", transform_vjp, OF(flow), false, 2},
    {"nf_evaluate", evaluate, OF(net), false, 0},
    {"nf_evaluate", evaluate, OF(net), true, 0},
    {"nf_check_flow", check_flow, OF(flow), false, 3},
    {"nf_model_pull_gradient", pull_gradient, OF(flow), false, 3},
    {"nf_posterior_forward", posterior_forward, OF(posterior), false, 1},
    {"nf_posterior_backward", posterior_backward, OF(posterior), false, 1},
    {"nf_vae_encode", vae_encode, OF(vae), false, IN_VAE},
    {"nf_vae_decode", vae_decode, OF(vae), false, IN_VAE},
    {"nf_vae_score", vae_score, OF(vae), false, IN_VAE},
    {"nf_objective_value", objective_value, OF(q), false, 1},
    {"nf_objective_gradient", objective_gradient, OF(vae), false, IN_VAE},
    {"nf_objective_rank_gradient", rank_gradient, OF(q), false, 1},
    {"nf_fitter_new", new_fitter, OF(q), false, 1},
    {"nf_fit", fit, OF(q), false, 1},
};

Test(stale, every_call_refuses_and_names_itself)
{
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const path *p = &paths[i];
        fixture f;
        char words[100];
        begin(&f);
        nf_model *m = *(nf_model **)(void *)((char *)&f + p->model);
        nf_real *number = (p->in_state ? nf_model_state : nf_model_theta)(m) + p->place;
        if (p->call == posterior_backward)
            cr_assert_eq(posterior_forward(&f), NF_OK);
        cr_assert_eq(p->call(&f), NF_OK, "%s: %s", p->name, nf_error_message());
        const nf_real kept = *number;
        *number += NF_R(0.25);
        snprintf(words, sizeof words, "%s: the model's theta or state has changed", p->name);
        expect(p->call(&f), NF_ESTALE, words);
        cr_assert(strstr(nf_error_message(), "nf_model_update()"));
        expect(p->call(&f), NF_ESTALE, words);
        *number = kept;
        cr_assert_eq(p->call(&f), NF_OK, "%s: the number has its old value again: %s", p->name, nf_error_message());
        *number += NF_R(0.25);
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        if (p->call == posterior_backward)
            cr_assert_eq(posterior_forward(&f), NF_OK);
        cr_assert_eq(p->call(&f), NF_OK, "%s: %s", p->name, nf_error_message());
        end(&f);
    }
}

/* A model whose numbers have moved is neither stale nor prepared again; one that gets others is stale. */
Test(stale, numbers_that_moved_are_the_same)
{
    nf_model *m = made(prepared_net());
    nf_real theta[2][1] = {{NF_R(0.75)}, {NF_R(0.75)}}, state[1] = {0}, x[1] = {1}, y[1];
    cr_assert_eq(nf_model_rebind(m, theta[0], state), NF_OK);
    expect(nf_evaluate(m, NULL, NULL, 1, x, NULL, y), NF_ESTALE, "nf_evaluate: ");
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    times_prepared = 0;
    cr_assert_eq(nf_model_rebind(m, theta[1], NULL), NF_OK);
    theta[0][0] = -3;
    cr_assert_eq(nf_evaluate(m, NULL, NULL, 1, x, NULL, y), NF_OK, "%s", nf_error_message());
    cr_assert_eq(y[0], NF_R(1.75));
    cr_assert_eq(times_prepared, 0);
    cr_assert_eq(nf_model_rebind(m, theta[0], NULL), NF_OK);
    expect(nf_evaluate(m, NULL, NULL, 1, x, NULL, y), NF_ESTALE, "nf_evaluate: ");
    nf_model_free(m);
}

Test(stale, is_seen_in_the_callers_arrays)
{
    nf_real theta[D * D + D] = {0}, x[D] = {0};
    double log_p;
    for (size_t i = 0; i < D * D + D; i++)
        theta[i] = NF_R(0.3);
    const nf_model_options options = {.theta = theta};
    nf_model *m = made(nf_model_of_dist(nf_pushforward(nf_normal(D), nf_lu_linear(D, 1)), &options));
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, x, NULL, &log_p), NF_OK);
    const size_t n = nf_model_shape(m)->n_params;
    for (size_t i = 0; i < n; i++) { /* the least change of any number */
        const nf_real kept = theta[i];
        theta[i] = (nf_real)(sizeof *theta == 4 ? nextafterf((float)kept, 1) : nextafter((double)kept, 1));
        cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, x, NULL, &log_p), NF_ESTALE, "number %zu of %zu", i, n);
        theta[i] = kept;
    }
    nf_model_free(m);
}

/* ---- what is not stale ---- */

/* Layers without prepared numbers read theta itself. */
Test(stale, is_no_matter_where_nothing_is_prepared)
{
    nf_model *m = made(nf_model_of_dist(nf_pushforward(nf_normal(D), nf_affine(D)), NULL));
    const nf_real x[D] = {NF_R(0.4), NF_R(-0.3), NF_R(0.8)};
    double before, after;
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, x, NULL, &before), NF_OK);
    nf_model_theta(m)[0] += NF_R(0.4);
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, x, NULL, &after), NF_OK, "%s", nf_error_message());
    cr_assert_float_eq(after - before, 0.08, 1e-6); /* x[0] is now at the mean: its 0.4^2 / 2 is gone */
    nf_model_free(m);
}

Test(stale, is_asked_of_the_nodes_that_prepare_alone)
{
    nf_flow *flow = nf_chain((nf_flow *[]){nf_affine(D), nf_lu_linear(D, 1), nf_planar(D)}, 3);
    nf_model *m = made(nf_model_of_flow(flow, NULL));
    const size_t n = nf_model_shape(m)->n_params, first = 2 * D, last = n - (2 * D + 1);
    const nf_real x[D] = {0};
    nf_real y[D];
    for (size_t i = 0; i < n; i++) {
        nf_real *number = nf_model_theta(m) + i, kept = *number;
        *number += NF_R(0.01);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL),
                     i >= first && i < last ? NF_ESTALE : NF_OK, "number %zu of %zu", i, n);
        *number = kept;
    }
    nf_model_free(m);
}

/* What a preparation for training has done to the state is no change since then. */
Test(stale, is_counted_from_the_end_of_the_preparation)
{
    fixture f;
    begin(&f);
    for (int k = 0; k < 3; k++) {
        cr_assert_eq(nf_model_update(f.net, NF_TRAIN), NF_OK);
        cr_assert_eq(nf_model_state(f.net)[0], (nf_real)(k + 1));
        cr_assert_eq(evaluate(&f), NF_OK, "%s", nf_error_message());
        cr_assert_eq(f.y[0], f.x[0] + f.net->theta[0] + (nf_real)(k + 1));
    }
    end(&f);
}

Test(stale, is_a_model_whose_preparation_failed)
{
    fixture f;
    begin(&f);
    prepare_fails = true;
    cr_assert_eq(nf_model_update(f.net, NF_EVAL), NF_ENOCONV);
    prepare_fails = false;
    expect(evaluate(&f), NF_ESTALE, "nf_evaluate: the model's last nf_model_update() has failed");
    cr_assert_eq(nf_model_update(f.net, NF_EVAL), NF_OK);
    cr_assert_eq(evaluate(&f), NF_OK);
    cr_assert_eq(nf_model_update(f.net, (nf_mode)3), NF_EARG, "refused, and nothing has been done");
    cr_assert_eq(evaluate(&f), NF_OK);
    end(&f);
}

/* A file has theta and state; who reads it prepares. */
Test(stale, is_no_matter_to_a_file)
{
    fixture f;
    double log_p[N];
    char path[300];
    begin(&f);
    const char *folder = temp_folder();
    snprintf(path, sizeof path, "%s/model", folder);
    f.q->theta[1] += NF_R(0.5);
    const nf_status status = nf_save(f.q, path);
    if (status != NF_EUNSUPPORTED) {
        cr_assert_eq(status, NF_OK, "%s", nf_error_message());
        nf_model *again = made(nf_load(path, NULL));
        cr_assert_eq(nf_log_prob(again, NULL, NULL, N, f.x, NULL, log_p), NF_OK, "%s", nf_error_message());
        cr_assert_eq(log_prob(&f), NF_ESTALE);
        cr_assert_eq(nf_model_update(f.q, NF_EVAL), NF_OK);
        cr_assert_eq(log_prob(&f), NF_OK);
        cr_assert_arr_eq(log_p, f.log, sizeof log_p);
        nf_model_free(again);
    }
    temp_remove(folder);
    end(&f);
}

/* ---- training ---- */

/* Statistics that a step moves are a change like any other. */
Test(stale, is_a_model_whose_statistics_have_moved)
{
    fixture f;
    begin(&f);
    const double stats[2 * D + 1] = {1, 2, 3, 4, 5, 6, 7};
    cr_assert_eq(nf_objective_gradient(f.counted, f.ws, 1, 1, NULL, f.g), NF_OK, "%s", nf_error_message());
    expect(nf_objective_gradient(f.counted, f.ws, 1, 1, NULL, f.g), NF_ESTALE, "nf_objective_gradient");
    cr_assert_eq(nf_model_update(f.moving, NF_TRAIN), NF_OK);
    cr_assert_eq(nf_objective_gradient(f.counted, f.ws, 1, 2, NULL, f.g), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_model_update(f.moving, NF_TRAIN), NF_OK);
    cr_assert_eq(nf_model_end_step(f.moving, stats, 7), NF_OK);
    expect(log_prob_of_moving(&f), NF_ESTALE, "nf_log_prob");
    end(&f);
}

/* What a fit's callback sees of the model, and of its fingerprint. */
typedef struct seen {
    fixture *f;
    uint64_t fingerprint;
    size_t calls, moved;
    nf_real first;
} seen;

static int watch(void *user, const nf_progress *progress)
{
    (void)progress;
    seen *s = user;
    s->calls++;
    cr_assert_eq(log_prob(s->f), NF_OK, "%s", nf_error_message());
    cr_assert_eq(s->f->q->fingerprint, s->fingerprint, "a step took a fingerprint");
    s->moved += s->f->q->theta[0] != s->first;
    return 0;
}

Test(stale, is_not_asked_while_a_fit_runs)
{
    fixture f;
    begin(&f);
    seen s = {.f = &f, .fingerprint = f.q->fingerprint, .first = f.q->theta[0]};
    nf_objective *validation = nf_maximum_likelihood(f.q, &f.data, NULL);
    const nf_fit_options options = {.steps = 6,
                                    .threads = 2,
                                    .rate = 0.1,
                                    .validation = validation,
                                    .validate_every = 2,
                                    .average = 0.9,
                                    .callback = watch,
                                    .user = &s};
    nf_fitter *fitter = nf_fitter_new(f.likelihood, &options);
    cr_assert_not_null(fitter, "%s", nf_error_message());
    for (int run = 0; run < 2; run++) {
        s.fingerprint = f.q->fingerprint;
        cr_assert_eq(nf_fitter_run(fitter, 3, NULL), NF_OK, "%s", nf_error_message());
        cr_assert_neq(f.q->fingerprint, s.fingerprint);
        cr_assert_eq(log_prob(&f), NF_OK, "a run leaves the model prepared: %s", nf_error_message());
        f.q->theta[0] += 1;
        cr_assert_eq(log_prob(&f), NF_ESTALE, "after a run nothing is asked");
    }
    cr_assert_eq(s.calls, 6);
    cr_assert_gt(s.moved, 3);
    nf_fitter_free(fitter);
    nf_objective_free(validation);
    end(&f);
}

/* A validation whose model is another one, over the same numbers, would evaluate old ones: it is refused. */
Test(stale, no_validation_of_a_model_that_nobody_prepares)
{
    fixture f;
    begin(&f);
    const nf_model_options same = {.theta = f.q->theta};
    nf_model *shadow = made(nf_model_of_dist(nf_pushforward(nf_normal(D), nf_lu_linear(D, 1)), &same));
    nf_objective *validation = nf_maximum_likelihood(shadow, &f.data, NULL);
    const nf_fit_options options = {.steps = 4, .threads = 1, .validation = validation, .validate_every = 2};
    expect(nf_fit(f.likelihood, &options, NULL), NF_EARG, "`options->validation` is of another model");
    cr_assert_eq(log_prob(&f), NF_OK, "the fit's own model is prepared: %s", nf_error_message());
    nf_objective_free(validation);
    nf_model_free(shadow);
    end(&f);
}

/* ---- fingerprints ---- */

static int in_order(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Any bit that changes, numbers that change places, one number more: all fingerprints differ. */
Test(fingerprint, tells_changes_apart)
{
    enum { MOST = 75, BITS = 8 * sizeof(nf_real) };
    static uint64_t seen[MOST * BITS + MOST * MOST + 2 * MOST];
    nf_real x[MOST];
    for (size_t i = 0; i < MOST; i++)
        x[i] = (nf_real)i - 20;
    size_t n = 0;
    for (size_t length = 0; length <= MOST; length++)
        seen[n++] = nfi_fingerprint(3, length, x);
    seen[n++] = nfi_fingerprint(4, MOST, x);
    for (size_t i = 0; i < MOST; i++)
        for (size_t bit = 0; bit < BITS; bit++) {
            unsigned char *byte = (unsigned char *)&x[i] + bit / 8;
            *byte ^= (unsigned char)(1u << bit % 8);
            seen[n++] = nfi_fingerprint(3, MOST, x);
            *byte ^= (unsigned char)(1u << bit % 8);
        }
    for (size_t i = 0; i < MOST; i++)
        for (size_t j = i + 1; j < MOST; j++) {
            const nf_real kept = x[i];
            x[i] = x[j], x[j] = kept;
            seen[n++] = nfi_fingerprint(3, MOST, x);
            x[j] = x[i], x[i] = kept;
        }
    qsort(seen, n, sizeof *seen, in_order);
    for (size_t i = 1; i < n; i++)
        cr_assert_neq(seen[i - 1], seen[i], "two of %zu fingerprints are equal", n);
}

/* A change of all numbers at once in the same bit, which sums and xors of words do not see. */
Test(fingerprint, sees_what_all_numbers_have_in_common)
{
    enum { MOST = 2048 };
    static nf_real x[MOST];
    for (size_t n = 1; n <= MOST; n++) {
        for (size_t i = 0; i < n; i++)
            x[i] = NF_R(1.5);
        const uint64_t positive = nfi_fingerprint(0, n, x);
        for (size_t i = 0; i < n; i++)
            x[i] = -x[i];
        cr_assert_neq(nfi_fingerprint(0, n, x), positive, "%zu numbers with other signs", n);
        for (size_t i = 0; i < n; i++)
            x[i] = 3;
        cr_assert_neq(nfi_fingerprint(0, n, x), positive, "%zu numbers doubled", n);
    }
}

/* A program may choose another set after it has prepared a model. */
Test(fingerprint, is_the_same_in_every_instruction_set_and_at_every_address)
{
    enum { MOST = 100, STARTS = 9 };
    nf_real x[MOST + STARTS];
    for (size_t length = 0; length <= MOST; length++) {
        uint64_t first = 0;
        for (size_t k = 0; nfi_set_names[k]; k++) {
            if (nf_choose_instruction_set(nfi_set_names[k]) != NF_OK)
                continue;
            for (size_t start = 0; start < STARTS; start++) {
                for (size_t i = 0; i < length; i++)
                    x[start + i] = NF_R(0.7) * (nf_real)i;
                const uint64_t now = nfi_fingerprint(9, length, x + start);
                first = k == 0 && start == 0 ? now : first;
                cr_assert_eq(now, first, "%s, %zu numbers from place %zu", nfi_set_names[k], length, start);
            }
        }
    }
    cr_assert_eq(nf_choose_instruction_set(NULL), NF_OK);
}
