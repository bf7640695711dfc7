/* The posterior plug-in between a foreign encoder and decoder: arrays with gaps, gradients that are added to what is
   there, a batch that threads share, batches whose size changes, and parameters that move. */
#include "expect.h"
#include "fail_alloc.h"
#include "posterior_fixture.h"
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1e-4;
#else
static const double rounding = 1e-12;
#endif

/* All that the two calls give for a batch. */
typedef struct results {
    nf_real z[MOST * D], g_mean[MOST * D], g_log_scale[MOST * D], g_ctx[MOST * FLOW_CTX], g[64];
    double log_q[MOST];
} results;

static nf_posterior_gradients gradients_of(const inputs *in, size_t n, results *r)
{
    nf_posterior_gradients gradients = cotangents(in, n);
    gradients.g_mean = r->g_mean;
    gradients.g_log_scale = r->g_log_scale;
    gradients.g_ctx = r->g_ctx;
    gradients.g = r->g;
    return gradients;
}

static const nf_noise noise = {.seed = 7, .step = 2, .first_sample = 5};

static void forward(const nf_model *m, nf_workspace *ws, const inputs *in, size_t n, results *r)
{
    const nf_posterior_rows rows = rows_of(in, n, r->z, r->log_q);
    cr_assert_eq(nf_posterior_forward(m, ws, NF_TRAIN, &noise, &rows), NF_OK, "%s", nf_error_message());
}

static void backward(const nf_model *m, nf_workspace *ws, const inputs *in, size_t n, nf_accumulate how, results *r)
{
    cr_assert_leq(nf_model_gradient_size(m), sizeof r->g / sizeof *r->g);
    nf_posterior_gradients gradients = gradients_of(in, n, r);
    gradients.accumulate = how;
    cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK, "%s", nf_error_message());
}

/* The same bits; two NaN are equal. */
static bool same(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* ---- gaps ---- */

enum { GAP = 2, WIDTH = HEAD + GAP, Z_WIDTH = D + 3 };
static const nf_real untouched = NF_R(-77.25);

/* Row i of `dense` [n x dim] against the row that begins at `strided`; nothing else of the strided array changed. */
static void compare_rows(const char *what, size_t n, size_t dim, const nf_real *dense, const nf_real *strided,
                         size_t stride)
{
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < dim; r++)
            cr_assert(same((double)dense[i * dim + r], (double)strided[i * stride + r]), "%s, row %zu of %zu", what, i,
                      n);
}

Test(posterior_rows, one_array_has_mean_log_scale_and_context)
{
    static const size_t sizes[] = {1, 17, MOST};
    nf_model *m = new_model();
    nf_workspace *ws = nf_workspace_new(1);
    inputs *in = new_inputs(11);
    results *r = calloc(1, sizeof *r), *s = calloc(1, sizeof *s);
    nf_real *head = reals(MOST * WIDTH), *g_head = reals(MOST * WIDTH);
    nf_real *z = reals(MOST * Z_WIDTH), *gz = reals(MOST * Z_WIDTH);
    for (size_t fails = 0; fails < 2; fails++) {
        if (fails) /* the rows that are left are packed one by one */
            in->mean[0] = in->log_scale[300 * D + 1] = in->ctx[701 * FLOW_CTX] = NF_R(NAN);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            const size_t n = sizes[k];
            for (size_t i = 0; i < MOST * WIDTH; i++)
                head[i] = NF_R(NAN), g_head[i] = untouched; /* what is in the gaps is not read */
            for (size_t i = 0; i < MOST * Z_WIDTH; i++)
                z[i] = untouched, gz[i] = NF_R(NAN);
            for (size_t i = 0; i < n; i++) {
                memcpy(head + i * WIDTH, in->mean + i * D, D * sizeof *head);
                memcpy(head + i * WIDTH + D, in->log_scale + i * D, D * sizeof *head);
                memcpy(head + i * WIDTH + 2 * D, in->ctx + i * FLOW_CTX, FLOW_CTX * sizeof *head);
                memcpy(gz + i * Z_WIDTH, in->gz + i * D, D * sizeof *head);
            }
            forward(m, ws, in, n, r);
            backward(m, ws, in, n, NF_ADD_TO_NONE, r);
            const nf_posterior_rows rows = {.n = n,
                                            .mean = head,
                                            .log_scale = head + D,
                                            .ctx = head + 2 * D,
                                            .z = z,
                                            .log_q = s->log_q,
                                            .mean_stride = WIDTH,
                                            .log_scale_stride = WIDTH,
                                            .ctx_stride = WIDTH,
                                            .z_stride = Z_WIDTH};
            const nf_posterior_gradients gradients = {.n = n,
                                                      .gz = gz,
                                                      .g_log_q = in->g_log_q,
                                                      .g_mean = g_head,
                                                      .g_log_scale = g_head + D,
                                                      .g_ctx = g_head + 2 * D,
                                                      .g = s->g,
                                                      .accumulate = NF_ADD_TO_NONE,
                                                      .gz_stride = Z_WIDTH,
                                                      .g_mean_stride = WIDTH,
                                                      .g_log_scale_stride = WIDTH,
                                                      .g_ctx_stride = WIDTH};
            for (nf_mode mode = NF_EVAL; mode <= NF_TRAIN; mode++) {
                cr_assert_eq(nf_posterior_forward(m, ws, mode, &noise, &rows), NF_OK, "%s", nf_error_message());
                compare_rows("z", n, D, r->z, z, Z_WIDTH);
                for (size_t i = 0; i < n; i++)
                    cr_assert(same(r->log_q[i], s->log_q[i]));
            }
            cr_assert_eq(nf_workspace_failed(ws), !fails ? 0 : n == MOST ? 3 : 1);
            cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK, "%s", nf_error_message());
            compare_rows("g_mean", n, D, r->g_mean, g_head, WIDTH);
            compare_rows("g_log_scale", n, D, r->g_log_scale, g_head + D, WIDTH);
            compare_rows("g_ctx", n, FLOW_CTX, r->g_ctx, g_head + 2 * D, WIDTH);
            cr_assert_arr_eq(r->g, s->g, sizeof r->g);
            for (size_t i = 0; i < MOST * WIDTH; i++)
                if (i / WIDTH >= n || i % WIDTH >= HEAD)
                    cr_assert_eq(g_head[i], untouched, "a gap of the gradients was written");
            for (size_t i = 0; i < MOST * Z_WIDTH; i++)
                if (i / Z_WIDTH >= n || i % Z_WIDTH >= D)
                    cr_assert_eq(z[i], untouched, "a gap of z was written");
        }
    }
    free(head), free(g_head), free(z), free(gz), free(r), free(s), free(in);
    nf_workspace_free(ws);
    nf_model_free(m);
}

/* ---- what is there ---- */

/* Number i of what was there before. */
static nf_real before(size_t i)
{
    return (nf_real)(1.6 * sin(0.7 * (double)i + 1));
}

static void fill(size_t n, nf_real *v, bool poison)
{
    for (size_t i = 0; i < n; i++)
        v[i] = poison ? NF_R(NAN) : before(i);
}

static void compare_sums(const char *what, size_t n, const nf_real *added, const nf_real *written)
{
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(added[i], before(i) + written[i], "%s %zu: %g on %g", what, i, (double)added[i],
                     (double)written[i]);
}

Test(posterior_rows, gradients_are_added_or_written_as_the_call_says)
{
    enum { N = 150, FAILED = 40 };
    nf_model *m = new_model();
    nf_workspace *ws = nf_workspace_new(1);
    inputs *in = new_inputs(12);
    const size_t n_g = nf_model_gradient_size(m);
    results *zeros = calloc(1, sizeof *zeros), *r[3];
    in->mean[FAILED * D + 2] = NF_R(NAN);
    forward(m, ws, in, N, zeros);
    backward(m, ws, in, N, NF_ADD_TO_ALL, zeros);
    for (nf_accumulate how = NF_ADD_TO_G; how <= NF_ADD_TO_NONE; how++) {
        r[how] = calloc(1, sizeof **r);
        fill(N * D, r[how]->g_mean, how != NF_ADD_TO_ALL);
        fill(N * D, r[how]->g_log_scale, how != NF_ADD_TO_ALL);
        fill(N * FLOW_CTX, r[how]->g_ctx, how != NF_ADD_TO_ALL);
        fill(n_g, r[how]->g, how == NF_ADD_TO_NONE);
        backward(m, ws, in, N, how, r[how]);
    }
    for (nf_accumulate how = NF_ADD_TO_G; how <= NF_ADD_TO_NONE; how += NF_ADD_TO_NONE) {
        cr_assert_arr_eq(r[how]->g_mean, zeros->g_mean, sizeof zeros->g_mean);
        cr_assert_arr_eq(r[how]->g_log_scale, zeros->g_log_scale, sizeof zeros->g_log_scale);
        cr_assert_arr_eq(r[how]->g_ctx, zeros->g_ctx, sizeof zeros->g_ctx);
    }
    const results *all = r[NF_ADD_TO_ALL];
    compare_sums("g_mean", N * D, all->g_mean, zeros->g_mean);
    compare_sums("g_log_scale", N * D, all->g_log_scale, zeros->g_log_scale);
    compare_sums("g_ctx", N * FLOW_CTX, all->g_ctx, zeros->g_ctx);
    cr_assert_arr_eq(r[NF_ADD_TO_NONE]->g, zeros->g, n_g * sizeof *zeros->g);
    for (size_t i = 0; i < n_g; i++)
        for (nf_accumulate how = NF_ADD_TO_G; how <= NF_ADD_TO_ALL; how++)
            near((double)r[how]->g[i] - (double)before(i), (double)zeros->g[i], rounding, "g", i);
    for (size_t d = 0; d < D; d++) {
        cr_assert_eq(zeros->g_mean[FAILED * D + d], 0, "a row without a result has a gradient");
        cr_assert_eq(all->g_mean[FAILED * D + d], before(FAILED * D + d));
    }
    for (size_t how = 0; how < 3; how++)
        free(r[how]);
    free(zeros), free(in);
    nf_workspace_free(ws);
    nf_model_free(m);
}

/* ---- threads ---- */

/* A thread's share of a batch: n rows from row `first` on. */
typedef struct share {
    const nf_model *m;
    const inputs *in;
    size_t first, n;
    results *whole; /* its rows of these results; */
    nf_real *g;     /* gradients of its own, from zeros */
    nf_status status;
} share;

static void *work(void *user)
{
    share *h = user;
    results *r = h->whole;
    const inputs *in = h->in;
    const size_t at = h->first;
    nf_workspace *ws = nf_workspace_new(1);
    nf_noise mine = noise;
    mine.first_sample += at;
    const nf_posterior_rows rows = {.n = h->n,
                                    .mean = in->mean + at * D,
                                    .log_scale = in->log_scale + at * D,
                                    .ctx = in->ctx + at * FLOW_CTX,
                                    .z = r->z + at * D,
                                    .log_q = r->log_q + at};
    const nf_posterior_gradients gradients = {.n = h->n,
                                              .gz = in->gz + at * D,
                                              .g_log_q = in->g_log_q + at,
                                              .g_mean = r->g_mean + at * D,
                                              .g_log_scale = r->g_log_scale + at * D,
                                              .g_ctx = r->g_ctx + at * FLOW_CTX,
                                              .g = h->g};
    h->status = ws ? nf_posterior_forward(h->m, ws, NF_TRAIN, &mine, &rows) : NF_ENOMEM;
    if (h->status == NF_OK)
        h->status = nf_posterior_backward(h->m, ws, &gradients);
    nf_workspace_free(ws);
    return NULL;
}

/* A flow with nets that drop units, so that noise is drawn in several places of the tree. */
static nf_model *dropping(void)
{
    static const size_t hidden[] = {5};
    const nf_recipe_options o = {.n_ctx = FLOW_CTX,
                                 .n_layers = 2,
                                 .hidden = hidden,
                                 .n_hidden = 1,
                                 .activation = NF_TANH,
                                 .dropout = 0.3,
                                 .last_scale = 1,
                                 .mixing = NF_MIX_LU};
    nf_model *m = nf_model_of_dist(nf_posterior(D, nf_realnvp(D, &o)), &(nf_model_options){.seed = 8});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static void split(nf_model *m, size_t n, size_t threads, const size_t *sizes)
{
    enum { LARGEST = 1000 };
    inputs *in = new_inputs(13);
    const size_t n_g = nf_model_gradient_size(m);
    cr_assert_leq(n_g, LARGEST);
    results *one = calloc(1, sizeof *one), *several = calloc(1, sizeof *several);
    nf_real *g = reals(LARGEST), *parts = reals(threads * LARGEST);
    share whole = {.m = m, .in = in, .n = n, .whole = one, .g = g}, mine[8];
    pthread_t thread[8];
    work(&whole);
    cr_assert_eq(whole.status, NF_OK);
    for (size_t t = 0, first = 0; t < threads; first += sizes[t++]) {
        mine[t] = (share){m, in, first, sizes[t], several, parts + t * LARGEST, NF_OK};
        cr_assert_eq(pthread_create(&thread[t], NULL, work, &mine[t]), 0);
    }
    for (size_t t = 0; t < threads; t++) {
        cr_assert_eq(pthread_join(thread[t], NULL), 0);
        cr_assert_eq(mine[t].status, NF_OK);
    }
    const size_t numbers = offsetof(results, g) / sizeof(nf_real);
    same_numbers(numbers, one->z, several->z, "draws and rows' gradients depend on the split, number");
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq(one->log_q[i], several->log_q[i], NFLOW_THIN == 1 ? 1e-4 : 0, "log q of row %zu", i);
    for (size_t i = 0; i < n_g; i++) {
        double sum = 0;
        for (size_t t = 0; t < threads; t++)
            sum += (double)parts[t * LARGEST + i];
        near(sum, (double)g[i], rounding, "parameter", i);
    }
    free(one), free(several), free(g), free(parts), free(in);
    nf_model_free(m);
}

Test(posterior_rows, threads_that_share_a_batch_draw_what_one_call_draws)
{
    static const size_t equal[] = {16, 16, 16, 16}, uneven[] = {1, 300, 47, 512, 140};
    split(new_model(), 64, 4, equal);
    split(dropping(), 64, 4, equal);
    split(new_model(), MOST, 5, uneven);
    split(dropping(), MOST, 5, uneven);
}

/* ---- sizes ---- */

Test(posterior_rows, nothing_is_allocated_after_the_largest_batch)
{
    nf_model *m = new_model();
    nf_workspace *ws = nf_workspace_new(1);
    inputs *in = new_inputs(14);
    results *r = calloc(1, sizeof *r);
    in->mean[3] = NF_R(NAN); /* a list of rows that are left is kept, too */
    forward(m, ws, in, MOST, r);
    backward(m, ws, in, MOST, NF_ADD_TO_ALL, r);
    const size_t after_largest = alloc_count();
    for (size_t k = 0; k < 60; k++) {
        const size_t n = 1 + k * 389 % MOST;
        const nf_posterior_rows rows = rows_of(in, n, r->z, r->log_q);
        forward(m, ws, in, n, r);
        backward(m, ws, in, n, (nf_accumulate)(k % 3), r);
        cr_assert_eq(nf_posterior_forward(m, ws, NF_EVAL, &noise, &rows), NF_OK);
    }
    cr_assert_eq(alloc_count(), after_largest);
    free(r), free(in);
    nf_workspace_free(ws);
    nf_model_free(m);
}

/* ---- parameters that move ---- */

/* Moves the model's parameters as realloc may: to a new array, after which the old one holds something else. */
static nf_real *move(nf_model *m, nf_real *old)
{
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *array = reals(n);
    memcpy(array, nf_model_theta(m), n * sizeof *array);
    cr_assert_eq(nf_model_rebind(m, array, NULL), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_model_theta(m), array);
    for (size_t i = 0; old && i < n; i++)
        old[i] = NF_R(NAN);
    free(old);
    return array;
}

static nf_model *with_nets(nf_flow *(*recipe)(size_t, const nf_recipe_options *))
{
    static const size_t hidden[] = {6};
    const nf_recipe_options o = {
        .n_ctx = FLOW_CTX, .n_layers = 2, .hidden = hidden, .n_hidden = 1, .mixing = NF_MIX_LU};
    nf_model *m = nf_model_of_dist(nf_posterior(D, recipe(D, &o)), &(nf_model_options){.seed = 9});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

Test(posterior_rows, parameters_may_move)
{
    nf_model *models[] = {new_model(), with_nets(nf_realnvp), with_nets(nf_iaf), with_nets(nf_nsf_coupling)};
    inputs *in = new_inputs(15);
    results *r = calloc(1, sizeof *r), *moved = calloc(1, sizeof *moved);
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        enum { N = 90 };
        nf_model *m = models[k];
        nf_workspace *ws = nf_workspace_new(1);
        const size_t n_g = nf_model_gradient_size(m);
        nf_real *g = reals(n_g), *g_moved = reals(n_g);
        nf_posterior_gradients gradients = gradients_of(in, N, r), again = gradients_of(in, N, moved);
        gradients.g = g, again.g = g_moved;
        forward(m, ws, in, N, r);
        cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK);
        const size_t with_tape = alloc_live();
        nf_real *array = move(m, NULL); /* from the model's own to the caller's */
        cr_assert_eq(alloc_live(), with_tape - 1, "the model's own parameters were not released");
        forward(m, ws, in, N, moved);
        array = move(m, array); /* between the two calls */
        cr_assert_eq(nf_posterior_backward(m, ws, &again), NF_OK, "%s", nf_error_message());
        cr_assert_arr_eq(r->z, moved->z, sizeof r->z);
        cr_assert_arr_eq(r->g_mean, moved->g_mean, sizeof r->g_mean);
        cr_assert_arr_eq(r->g_log_scale, moved->g_log_scale, sizeof r->g_log_scale);
        cr_assert_arr_eq(r->g_ctx, moved->g_ctx, sizeof r->g_ctx);
        cr_assert_arr_eq(g, g_moved, n_g * sizeof *g);
        nf_workspace_free(ws);
        nf_model_free(m); /* leaves the caller's array alone */
        array[0] = 1;
        free(array), free(g), free(g_moved);
    }
    free(in), free(r), free(moved);
}

Test(posterior_rows, other_numbers_are_stale)
{
    nf_model *m = new_model();
    nf_workspace *ws = nf_workspace_new(1);
    inputs *in = new_inputs(16);
    results *r = calloc(1, sizeof *r), *fresh = calloc(1, sizeof *fresh);
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *array = normals(31, n, 0.4);
    nf_posterior_rows rows = rows_of(in, 9, r->z, r->log_q);
    cr_assert_eq(nf_model_rebind(m, array, NULL), NF_OK);
    expect(nf_posterior_forward(m, ws, NF_TRAIN, &noise, &rows), NF_ESTALE, "nf_posterior_forward: ");
    cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
    forward(m, ws, in, 9, r);
    nf_model *other = nf_model_of_dist(flow_posterior(), &(nf_model_options){.theta = array});
    forward(other, ws, in, 9, fresh);
    cr_assert_arr_eq(r->z, fresh->z, sizeof r->z);
    nf_model_free(other);
    nf_model_free(m);
    nf_workspace_free(ws);
    free(array), free(in), free(r), free(fresh);
}

/* Tapes belong to the parameters that the draws were made with. */
Test(posterior_rows, a_tape_belongs_to_its_parameters)
{
    nf_model *m = new_model();
    nf_workspace *ws = nf_workspace_new(1);
    inputs *in = new_inputs(17);
    results *r = calloc(1, sizeof *r);
    const nf_posterior_gradients gradients = gradients_of(in, 9, r);
    forward(m, ws, in, 9, r);
    cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK); /* to the same numbers */
    cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK, "%s", nf_error_message());
    nf_model_theta(m)[1] += NF_R(0.25);
    expect(nf_posterior_backward(m, ws, &gradients), NF_ESTALE, "since the last nf_model_update()");
    cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
    expect(nf_posterior_backward(m, ws, &gradients), NF_ESTALE, "for other numbers since nf_posterior_forward");
    forward(m, ws, in, 9, r);
    cr_assert_eq(nf_posterior_backward(m, ws, &gradients), NF_OK);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(in), free(r);
}

/* The buffers move alone or with the parameters, and stay where they are if none are given. */
Test(posterior_rows, state_may_move)
{
    nf_flow *flow = nf_invert(nf_batch_norm(D, NULL));
    nf_model *m = nf_model_of_dist(nf_posterior(D, flow), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    const size_t n_params = nf_model_shape(m)->n_params, n_state = nf_model_shape(m)->n_state;
    cr_assert_eq(n_state, 2 * D + 1);
    nf_real *theta = reals(n_params), *state = reals(n_state), *own = nf_model_state(m);
    memcpy(theta, nf_model_theta(m), n_params * sizeof *theta);
    cr_assert_eq(nf_model_rebind(m, theta, NULL), NF_OK);
    cr_assert_eq(nf_model_state(m), own);
    memcpy(state, own, n_state * sizeof *state);
    const size_t live = alloc_live();
    cr_assert_eq(nf_model_rebind(m, theta, state), NF_OK);
    cr_assert_eq(alloc_live(), live - 1);
    cr_assert_eq(nf_model_state(m), state);
    cr_assert_eq(nf_model_theta(m), theta);
    nf_workspace *ws = nf_workspace_new(1);
    nf_real z[D], zero[D] = {0};
    const nf_posterior_rows rows = {.n = 1, .mean = zero, .log_scale = zero, .z = z};
    cr_assert_eq(nf_posterior_forward(m, ws, NF_EVAL, &noise, &rows), NF_OK, "%s", nf_error_message());
    state[0] = NF_R(0.5);
    cr_assert_eq(nf_posterior_forward(m, ws, NF_EVAL, &noise, &rows), NF_ESTALE);
    nf_workspace_free(ws);
    nf_model_free(m);
    free(theta), free(state);
}

static int rebind_inside(void *user, const nf_progress *progress)
{
    (void)progress;
    static nf_real elsewhere[2 * D];
    expect(nf_model_rebind(user, elsewhere, NULL), NF_EARG, "nf_model_rebind: a fit of the model is running");
    return 0;
}

Test(posterior_rows, rebinding_refuses)
{
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(D), nf_affine(D)), NULL);
    nf_real *own = nf_model_theta(m), x[4 * D];
    draw(5, 4 * D, 1, x);
    expect(nf_model_rebind(NULL, x, NULL), NF_EARG, "nf_model_rebind: `m` is NULL");
    expect(nf_model_rebind(m, NULL, NULL), NF_EARG, "nf_model_rebind: `theta` is NULL");
    cr_assert_eq(nf_model_theta(m), own);
    cr_assert_eq(nf_model_rebind(m, own, NULL), NF_OK, "to where it is");
    nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = 4, .dim = D, .x = x}, NULL);
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 2, .threads = 1, .callback = rebind_inside, .user = m}, NULL),
                 NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_model_theta(m), own);
    nf_objective_free(o);
    nf_model_free(m);
    nf_model *empty = nf_model_of_dist(nf_diagonal_posterior(D), NULL);
    cr_assert_eq(nf_model_rebind(empty, NULL, NULL), NF_OK, "there are no parameters");
    nf_model_free(empty);
}
