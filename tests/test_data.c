/* Data sets that come from a source: the same numbers as from arrays, failures, data larger than memory. Minibatches of
   one's own objective. */
#include "base/memory.h"
#include "expect.h"
#include "fail_step.h"
#include "temp_files.h"
#include <fcntl.h>
#include <math.h>
#include <nflow/nflow.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

static const size_t teams[] = {1, 2, 3, 8};
enum { N_TEAMS = 4 };

/* ---- a source that reads from an array, counts who is in it, and can fail ---- */

typedef struct table {
    nf_data array;
    size_t bad_row; /* reading it fails; array.n: none does */
    bool says_why;
    atomic_int inside;
    atomic_bool crowded;
} table;

static int read_table(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    table *t = user;
    const nf_data *d = &t->array;
    if (atomic_fetch_add(&t->inside, 1) > 0)
        atomic_store(&t->crowded, true);
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++) {
        if (rows[i] >= d->n)
            code = 3;
        else if (rows[i] == t->bad_row)
            code = t->says_why ? (int)nf_error(NF_ENOTFINITE, "the tape is torn at row %zu", rows[i]) : -7;
        else
            memcpy(x + i * d->dim, d->x + rows[i] * d->dim, d->dim * sizeof *x);
        if (ctx && code == 0)
            memcpy(ctx + i * d->n_ctx, d->ctx + rows[i] * d->n_ctx, d->n_ctx * sizeof *ctx);
    }
    sched_yield(); /* time for another thread to come in */
    atomic_fetch_sub(&t->inside, 1);
    return code;
}

static table table_of(const nf_data *array)
{
    return (table){.array = *array, .bad_row = array->n};
}

static nf_data data_of(table *t, nf_source *source, bool thread_safe)
{
    nf_data d = t->array;
    *source = (nf_source){.read = read_table, .user = t, .thread_safe = thread_safe};
    d.x = d.ctx = NULL;
    d.source = source;
    return d;
}

/* ---- densities ---- */

enum { POINTS = 403, DIM = 2 };

static nf_data points(void)
{
    static nf_real x[POINTS * DIM], ctx[POINTS];
    for (size_t i = 0; i < POINTS; i++) {
        double t = (double)i, c = sin(0.77 * t), u = 1.3 * sin(3.3 * t + 0.2) + 0.4 * c;
        x[i * DIM] = (nf_real)(2.7 + 1.7 * u);
        x[i * DIM + 1] = (nf_real)(-0.6 + 0.5 * u + 0.3 * cos(5.1 * t) * sin(1.9 * t));
        ctx[i] = (nf_real)c;
    }
    return (nf_data){.n = POINTS, .dim = DIM, .x = x, .n_ctx = 1, .ctx = ctx};
}

static nf_model *conditional(void)
{
    nf_model *m = nf_model_of_dist(nf_conditional_normal(DIM, nf_mlp(1, 2 * DIM, 0, NULL)), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

Test(source, likelihood_is_that_of_the_array_to_the_bit)
{
    nf_model *m = conditional();
    const nf_data array = points();
    table t = table_of(&array);
    nf_source source;
    nf_objective *of_array = nf_maximum_likelihood(m, &array, &(nf_likelihood_options){.batch = 371});
    nf_real wanted[4 * DIM], g[4 * DIM];
    nf_step_report whole, r;
    cr_assert_eq(nf_model_gradient_size(m), 4 * DIM);
    cr_assert_eq(nf_objective_gradient(of_array, NULL, 5, 9, &whole, wanted), NF_OK);
    for (int thread_safe = 0; thread_safe < 2; thread_safe++) {
        const nf_data d = data_of(&t, &source, thread_safe);
        nf_objective *o = nf_maximum_likelihood(m, &d, &(nf_likelihood_options){.batch = 371});
        cr_assert_not_null(o, "%s", nf_error_message());
        source = (nf_source){0}; /* it was copied */
        for (size_t k = 0; k < N_TEAMS; k++) {
            nf_workspace *ws = nf_workspace_new(teams[k]);
            for (uint64_t again = 0; again < 20; again++)
                cr_assert_eq(nf_objective_gradient(o, ws, 5, 9, &r, g), NF_OK, "%s", nf_error_message());
            cr_assert_arr_eq(g, wanted, sizeof g);
            cr_assert_eq(r.loss, whole.loss);
            nf_workspace_free(ws);
        }
        if (!thread_safe)
            cr_assert(!atomic_load(&t.crowded), "one at a time");
        nf_objective_free(o);
    }
    nf_objective_free(of_array);
    nf_model_free(m);
}

Test(source, fits_are_those_of_the_array_to_the_bit)
{
    const nf_data array = points();
    table t = table_of(&array);
    nf_source source;
    const nf_data d = data_of(&t, &source, true);
    nf_real theta[2][4 * DIM];
    for (int from_source = 0; from_source < 2; from_source++) {
        nf_model *m = conditional();
        nf_objective *o = nf_maximum_likelihood(m, from_source ? &d : &array, &(nf_likelihood_options){.batch = 90});
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 40, .threads = from_source ? 3 : 1}, NULL), NF_OK);
        memcpy(theta[from_source], nf_model_theta(m), sizeof *theta);
        nf_objective_free(o);
        nf_model_free(m);
    }
    cr_assert_arr_eq(theta[0], theta[1], sizeof *theta);
}

/* ---- pictures ---- */

enum { PICTURES = 300, PIXELS = 41, LATENT = 2 };

static nf_model *small_vae(void)
{
    const size_t width[] = {6};
    nf_mlp_options o = {.hidden = width, .n_hidden = 1, .activation = NF_TANH};
    nf_dist *q = nf_diagonal_posterior(LATENT);
    nf_model *m = nf_model_of_vae(
        nf_vae_new(nf_mlp(PIXELS, 2 * LATENT, 0, &o), q, nf_mlp(LATENT, PIXELS, 0, &o), NF_BERNOULLI), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* Grey pictures thrice: bytes, numbers, a source. */
typedef struct pictures {
    nf_data as[3];
    table t;
    nf_source source;
} pictures;

static void draw_pictures(pictures *p, nf_binarise how)
{
    static unsigned char bytes[PICTURES * PIXELS];
    static nf_real x[PICTURES * PIXELS];
    for (size_t i = 0; i < PICTURES * PIXELS; i++) {
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
        x[i] = (nf_real)(bytes[i] / 255.0);
    }
    p->as[0] = (nf_data){.n = PICTURES, .dim = PIXELS, .bytes = bytes, .binarise = how, .binarise_seed = 63};
    p->as[1] = p->as[0];
    p->as[1].bytes = NULL;
    p->as[1].x = x;
    p->t = table_of(&p->as[1]);
    p->as[2] = data_of(&p->t, &p->source, false);
}

Test(source, binarised_pictures_are_those_of_the_array_to_the_bit)
{
    nf_model *m = small_vae();
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *g[2] = {malloc(n * sizeof **g), malloc(n * sizeof **g)};
    nf_step_report r[2];
    nf_vae_scores scores[2];
    for (int how = NF_GREY; how <= NF_BINARISE_THRESHOLD; how++) {
        pictures p;
        draw_pictures(&p, (nf_binarise)how);
        for (size_t as = 0; as < 3; as++) {
            nf_objective *o = nf_vae_elbo(m, &p.as[as], &(nf_vae_options){.batch = 170});
            cr_assert_not_null(o, "%s", nf_error_message());
            for (size_t k = 0; k < N_TEAMS; k++) {
                const int at = as || k;
                nf_workspace *ws = nf_workspace_new(teams[k]);
                cr_assert_eq(nf_objective_gradient(o, ws, 3, 4, &r[at], g[at]), NF_OK, "%s", nf_error_message());
                cr_assert_eq(nf_vae_score(m, ws, &p.as[as], 2, 8, NULL, NULL, &scores[at]), NF_OK, "%s",
                             nf_error_message());
                nf_workspace_free(ws);
                if (at) {
                    cr_assert_arr_eq(g[0], g[1], n * sizeof **g, "way %d, given as %zu", how, as);
                    cr_assert_eq(r[0].loss, r[1].loss);
                    cr_assert_eq(scores[0].log_px, scores[1].log_px);
                    cr_assert_eq(scores[0].elbo_se, scores[1].elbo_se);
                }
            }
            nf_objective_free(o);
        }
    }
    free(g[0]);
    free(g[1]);
    nf_model_free(m);
}

/* ---- tiles ---- */

enum { LD = 192 };

static nf_status read_tile(const nf_minibatches *b, size_t first, size_t n, const uint32_t *column, nf_real *x)
{
    nf_arena scratch = {0};
    const nf_pass p = {.n = n, .ld = (n + 15) / 16 * 16, .scratch = &scratch, .noise.column = column};
    nf_status status = nf_minibatches_tile(b, &p, first, x, NULL);
    cr_assert_eq(nfi_arena_used(&scratch), 0);
    nfi_arena_clear(&scratch);
    return status;
}

/* Parts of a batch that begin anywhere, and tiles that samples were left out of, have the samples of the whole. */
Test(minibatches, first_and_columns)
{
    enum { BATCH = 170, SOME = 35 };
    static nf_real whole[PIXELS * LD], part[PIXELS * LD];
    uint32_t column[SOME];
    for (uint32_t s = 0; s < SOME; s++)
        column[s] = s + s / 5 + (s > 20);
    for (int how = NF_GREY; how <= NF_BINARISE_THRESHOLD; how++) {
        pictures p;
        draw_pictures(&p, (nf_binarise)how);
        for (size_t as = 0; as < 3; as++) {
            nf_minibatches *b = nf_minibatches_new(&p.as[as], BATCH);
            cr_assert_not_null(b, "%s", nf_error_message());
            cr_assert_eq(nf_minibatches_begin(b, 12, 7), NF_OK);
            cr_assert_eq(read_tile(b, 0, BATCH, NULL, whole), NF_OK);
            const size_t ld = (BATCH + 15) / 16 * 16, begins[] = {0, 1, 17, 64, 100};
            for (size_t k = 0; k < 5; k++) {
                cr_assert_eq(read_tile(b, begins[k], SOME, NULL, part), NF_OK);
                for (size_t i = 0; i < PIXELS * 48; i++) {
                    const size_t s = i % 48 < SOME ? i % 48 : SOME - 1;
                    cr_assert_eq(part[i], whole[i / 48 * ld + begins[k] + s]);
                }
                cr_assert_eq(read_tile(b, begins[k], SOME, column, part), NF_OK);
                for (size_t i = 0; i < PIXELS * 48; i++) {
                    const size_t s = i % 48 < SOME ? i % 48 : SOME - 1;
                    cr_assert_eq(part[i], whole[i / 48 * ld + begins[k] + column[s]], "way %d, given as %zu", how, as);
                }
            }
            nf_minibatches_free(b);
        }
    }
}

static int read_halves(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    const size_t dim = *(const size_t *)user;
    (void)rows, (void)ctx;
    for (size_t i = 0; i < count * dim; i++)
        x[i] = NF_R(0.5);
    return 0;
}

/* A bit is a function of row and column, also where a row's number has more than 32 bits; and epochs of 2^40 rows. */
Test(minibatches, rows_beyond_32_bits)
{
    enum { BATCH = 50 };
    static nf_real x[70 * 64], u[70];
    const size_t dims[] = {1, 5, 70}, n = ((size_t)1 << 40) - 3;
    for (size_t k = 0; k < 3; k++) {
        size_t dim = dims[k], far = 0, ones = 0;
        const nf_source source = {.read = read_halves, .user = &dim};
        const nf_data d = {.n = n, .dim = dim, .source = &source, .binarise = NF_BINARISE_STATIC, .binarise_seed = 5};
        nf_minibatches *b = nf_minibatches_new(&d, BATCH);
        cr_assert_not_null(b, "%s", nf_error_message());
        for (uint64_t step = 0; step < UINT64_MAX - UINT64_MAX / 4; step += UINT64_MAX / 4) {
            cr_assert_eq(nf_minibatches_begin(b, 77, step), NF_OK);
            cr_assert_eq(read_tile(b, 0, BATCH, NULL, x), NF_OK, "%s", nf_error_message());
            for (size_t s = 0; s < BATCH; s++) {
                const size_t row = nf_minibatches_row(b, s);
                const nf_noise noise = {.seed = 5, .first_sample = row, .site = 0x7ffffff1};
                cr_assert_lt(row, n);
                far += row >> 32 != 0;
                nf_noise_uniform(&noise, dim, 1, 1, u);
                for (size_t c = 0; c < dim; c++) {
                    cr_assert_eq(x[c * 64 + s], u[c] < NF_R(0.5));
                    ones += x[c * 64 + s] > 0;
                }
            }
        }
        cr_assert_gt(far, 4 * BATCH / 2);
        cr_assert_lt(fabs((double)ones / (double)(4 * BATCH * dim) - 0.5), 2.5 / sqrt((double)(4 * BATCH * dim)));
        nf_minibatches_free(b);
    }
}

/* A batch nearly as long as the data meets two epochs in a step; each epoch has each row once. */
Test(minibatches, a_step_across_two_epochs)
{
    enum { N = 23, BATCH = 22 };
    const nf_data d = {.n = N, .dim = 1, .x = (nf_real[N]){0}};
    nf_minibatches *b = nf_minibatches_new(&d, BATCH);
    size_t rows[N * BATCH], seen = 0;
    for (uint64_t t = 0; t < N; t++) {
        cr_assert_eq(nf_minibatches_begin(b, 3, t), NF_OK);
        for (size_t s = 0; s < BATCH; s++)
            rows[t * BATCH + s] = nf_minibatches_row(b, s);
    }
    for (size_t i = 0; i < N * BATCH; i++) {
        seen |= (size_t)1 << rows[i];
        if (i % N == N - 1) {
            cr_assert_eq(seen, ((size_t)1 << N) - 1, "epoch %zu", i / N);
            seen = 0;
        }
    }
    nf_minibatches_free(b);
}

/* ---- a user's own objective, by the public headers alone: weighted robust regression of a net ----

   loss = w log cosh(f(x) - y), with slope w tanh(f(x) - y): an outlier pulls by no more than its weight. */

enum { FEATURES = 2, CASES = 600 };

typedef struct regression {
    const nf_model *model;
    nf_minibatches *rows; /* x are the features, the context is y and w */
} regression;

static nf_status regression_begin(void *self, const nf_step *step)
{
    const regression *r = self;
    return nf_minibatches_begin(r->rows, step->seed, step->step);
}

static nf_status regression_backward(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums,
                                     const nf_grad *g)
{
    (void)saved;
    const regression *r = self;
    const nf_object *net = nf_model_object(r->model);
    nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *x = nf_arena_reals(p->scratch, FEATURES, p->ld), *beside = nf_arena_reals(p->scratch, 2, p->ld);
    nf_real *f = nf_arena_reals(p->scratch, 1, p->ld), *gf = nf_arena_reals(p->scratch, 1, p->ld);
    void *tape = NULL;
    nf_status status = x && beside && f && gf ? nf_minibatches_tile(r->rows, p, first, x, beside) : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_net_apply(net, p, x, f, &tape);
    for (size_t s = 0; s < p->ld && status == NF_OK; s++) {
        const double away = (double)(f[s] - beside[s]), weight = (double)beside[p->ld + s];
        gf[s] = s < p->n ? (nf_real)(weight * tanh(away)) : 0;
        if (s < p->n)
            sums->loss += weight * (fabs(away) + log1p(exp(-2 * fabs(away))) - log(2));
    }
    if (status == NF_OK && g)
        status = nf_net_vjp(net, p, x, f, tape, gf, NULL, g);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static void regression_destroy(void *self)
{
    regression *r = self;
    nf_minibatches_free(r->rows);
    free(r);
}

static const nf_objective_type regression_type = {.name = "robust regression",
                                                  .abi = sizeof(nf_objective_type),
                                                  .begin = regression_begin,
                                                  .backward = regression_backward,
                                                  .destroy = regression_destroy};

static nf_objective *robust_regression(nf_model *model, const nf_data *data, size_t batch)
{
    regression *r = malloc(sizeof *r);
    *r = (regression){.model = model, .rows = nf_minibatches_new(data, batch)};
    if (!r->rows) {
        free(r);
        return NULL;
    }
    return nf_objective_new(&regression_type, model, nf_minibatches_batch(r->rows), r);
}

/* y = 1.3 x0 - 0.7 x1 + 0.4 and a little noise; where x0 is large some y are far off. */
static nf_data cases(void)
{
    static nf_real x[CASES * FEATURES], beside[CASES * 2];
    nf_noise_normal(&(nf_noise){.seed = 15}, 1, CASES * FEATURES, CASES * FEATURES, x);
    for (size_t i = 0; i < CASES; i++) {
        const double a = (double)x[i * FEATURES], b = (double)x[i * FEATURES + 1];
        const bool outlier = a > 0.5 && i % 4 == 1;
        beside[2 * i] = (nf_real)(1.3 * a - 0.7 * b + 0.4 + 0.2 * sin(12.9 * (double)i) - (outlier ? 20 : 0));
        beside[2 * i + 1] = (nf_real)(0.5 + (double)(i % 3));
    }
    return (nf_data){.n = CASES, .dim = FEATURES, .x = x, .n_ctx = 2, .ctx = beside};
}

/* The minimum for an affine f by iteratively reweighted least squares: w tanh(r) = (w tanh(r) / r) r. */
static void reweighted(const nf_data *d, int turns, double beta[3])
{
    for (int turn = 0; turn < turns; turn++) {
        double a[3][4] = {{0}};
        for (size_t i = 0; i < CASES; i++) {
            const double v[4] = {(double)d->x[2 * i], (double)d->x[2 * i + 1], 1, (double)d->ctx[2 * i]};
            const double r = beta[0] * v[0] + beta[1] * v[1] + beta[2] - v[3];
            const double w = (double)d->ctx[2 * i + 1] * (turns == 1 || fabs(r) < 1e-9 ? 1 : tanh(r) / r);
            for (int j = 0; j < 3; j++)
                for (int k = 0; k < 4; k++)
                    a[j][k] += w * v[j] * v[k];
        }
        for (int j = 0; j < 3; j++) /* Gauss-Jordan; the matrix is positive definite */
            for (int i = 0; i < 3; i++)
                for (int k = 3; k >= j && i != j; k--)
                    a[i][k] -= a[i][j] / a[j][j] * a[j][k];
        for (int j = 0; j < 3; j++)
            beta[j] = a[j][3] / a[j][j];
    }
}

Test(minibatches, a_users_own_objective_is_fitted)
{
    const nf_data d = cases();
    double beta[3] = {0}, squares[3] = {0};
    reweighted(&d, 1, squares);
    reweighted(&d, 200, beta);
    cr_assert(fabs(beta[0] - 1.3) < 0.25 && fabs(squares[0] - 1.3) > 1, "%g, %g", beta[0], squares[0]);
    nf_model *m = nf_model_of_net(nf_mlp(FEATURES, 1, 0, NULL), NULL);
    nf_objective *part = robust_regression(m, &d, 64), *all = robust_regression(m, &d, CASES);
    cr_assert(part && all, "%s", nf_error_message());
    cr_assert_eq(nf_objective_batch(part), 64);
    nf_fit_options options = {.steps = 4000, .rate = 0.03};
    options.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .to = 0, .steps = 4000};
    cr_assert_eq(nf_fit(part, &options, NULL), NF_OK, "%s", nf_error_message());
    const nf_real *theta = nf_model_theta(m);
    for (int j = 0; j < 3; j++)
        cr_assert_float_eq((double)theta[j], beta[j], 0.01, "%d: %g, not %g", j, (double)theta[j], beta[j]);
    nf_step_report r;
    nf_real g[3];
    cr_assert_eq(nf_objective_gradient(all, NULL, 0, 0, &r, g), NF_OK);
    cr_assert_lt(r.grad_norm, 0.02);
    nf_objective_free(part);
    nf_objective_free(all);
    nf_model_free(m);
}

/* ---- failures ---- */

Test(source, failures)
{
    nf_model *m = conditional(), *vae = small_vae();
    const nf_data array = points();
    table t = table_of(&array);
    nf_source source;
    const nf_data d = data_of(&t, &source, false);
    nf_objective *o = nf_maximum_likelihood(m, &d, &(nf_likelihood_options){.batch = POINTS});
    nf_step_report r, before;
    cr_assert_eq(nf_objective_value(o, NULL, 1, 1, &before), NF_OK);
    for (size_t k = 0; k < 2; k++) {
        nf_workspace *ws = nf_workspace_new(teams[k]);
        t.bad_row = 350;
        t.says_why = false;
        expect(nf_objective_value(o, ws, 1, 1, &r), NF_EIO, "source returned -7");
        t.says_why = true;
        nf_error(NF_EARG, "older words");
        expect(nf_objective_value(o, ws, 1, 1, &r), NF_ENOTFINITE, "the tape is torn at row 350");
        expect(nf_fit(o, &(nf_fit_options){.steps = 3, .threads = teams[k]}, NULL), NF_ENOTFINITE, "torn at row 350");
        t.bad_row = POINTS;
        nf_error(NF_EARG, "older words");
        cr_assert_eq(nf_objective_value(o, ws, 1, 1, &r), NF_OK);
        cr_assert_str_eq(nf_error_message(), "older words", "success leaves them");
        cr_assert_eq(r.loss, before.loss, "as if nothing had happened");
        nf_workspace_free(ws);
    }
    pictures p;
    nf_vae_scores scores = {.elbo = 2.385};
    draw_pictures(&p, NF_BINARISE_STATIC);
    p.t.bad_row = 256;
    expect(nf_vae_score(vae, NULL, &p.as[2], 1, 1, NULL, NULL, &scores), NF_EIO, "first of them row");
    cr_assert_eq(scores.elbo, 2.385);
    nf_objective *elbo = nf_vae_elbo(vae, &p.as[2], &(nf_vae_options){.batch = PICTURES});
    expect(nf_objective_value(elbo, NULL, 1, 1, &r), NF_EIO, "returned -7");
    nf_objective_free(elbo);
    nf_objective_free(o);
    nf_model_free(m);
    nf_model_free(vae);
}

static void expect_refused(const nf_data *d, const char *words)
{
    cr_assert_null(nf_minibatches_new(d, 3));
    expect(nf_error_status(), NF_EARG, words);
}

Test(minibatches, arguments)
{
    nf_real x[8] = {0};
    const unsigned char bytes[8] = {0};
    const nf_source source = {.read = read_halves}, empty = {0};
    expect_refused(NULL, "nf_minibatches_new: data is NULL");
    expect_refused(&(nf_data){.n = 4, .dim = 2}, "neither");
    expect_refused(&(nf_data){.n = 4, .dim = 2, .x = x, .bytes = bytes}, "both");
    expect_refused(&(nf_data){.n = 4, .dim = 2, .x = x, .source = &source}, "gives all values, and x");
    expect_refused(&(nf_data){.n = 4, .dim = 2, .bytes = bytes, .source = &source}, "gives all values, and bytes");
    expect_refused(&(nf_data){.n = 4, .dim = 2, .n_ctx = 1, .ctx = x, .source = &source}, "gives all values, and ctx");
    expect_refused(&(nf_data){.n = 4, .dim = 2, .source = &empty}, "read is NULL");
    expect_refused(&(nf_data){.n = 4, .source = &source}, "4 rows and 0 columns");
    expect_refused(&(nf_data){.dim = 4, .source = &source}, "0 rows and 4 columns");
    const nf_data d = {.n = 4, .dim = 2, .x = x};
    cr_assert_null(nf_minibatches_new(&d, 0));
    expect(nf_error_status(), NF_EARG, "batch is 0");
    nf_minibatches *b = nf_minibatches_new(&d, 3);
    nf_arena scratch = {0};
    nf_pass p = {.n = 2, .ld = 16, .scratch = &scratch};
    nf_real tile[32];
    expect(nf_minibatches_begin(NULL, 1, 1), NF_EARG, "b is NULL");
    expect(nf_minibatches_tile(NULL, &p, 0, tile, NULL), NF_EARG, "`b` is NULL");
    expect(nf_minibatches_tile(b, NULL, 0, tile, NULL), NF_EARG, "`p` is NULL");
    expect(nf_minibatches_tile(b, &p, 0, NULL, NULL), NF_EARG, "`x` is NULL");
    expect(nf_minibatches_tile(b, &p, 2, tile, NULL), NF_EARG, "sample 2 + 1 is asked for, but a batch has 3");
    expect(nf_minibatches_tile(b, &p, SIZE_MAX, tile, NULL), NF_EARG, "but a batch has 3");
    p.noise.column = (const uint32_t[]){0, 3};
    expect(nf_minibatches_tile(b, &p, 0, tile, NULL), NF_EARG, "sample 0 + 3 is asked for");
    p.noise.column = (const uint32_t[]){0, 2};
    tile[0] = 1;
    cr_assert_eq(nf_minibatches_tile(b, &p, 0, tile, tile), NF_OK, "data without context leave ctx alone");
    cr_assert_eq(nf_minibatches_row(b, 3), 4);
    cr_assert_eq(nf_minibatches_row(NULL, 0), 0);
    cr_assert_eq(nf_minibatches_batch(NULL), 0);
    nf_minibatches_free(b);
    nf_minibatches_free(NULL);
    nfi_arena_clear(&scratch);
}

Test(source, failing_allocations)
{
    nf_model *m = conditional();
    const nf_data array = points();
    table t = table_of(&array);
    nf_source source;
    const nf_data d = data_of(&t, &source, false);
    nf_real g[4 * DIM];
    const size_t failures = fail_each_of_a_step(fail_alloc_after, likelihood_of, m, &d, g) +
                            fail_each_of_a_step(fail_arena_once, likelihood_of, m, &d, g);
    cr_assert_geq(failures, 12);
    nf_model_free(m);
}

/* ---- data larger than memory ---- */

enum { WIDE = 8, FIRST_ROWS = 4096, WIDE_BATCH = 256 };
static const size_t file_bytes = (size_t)256 << 20, room = (size_t)64 << 20;

/* About normal, correlated between neighbouring columns. */
static void wide_rows(size_t first, size_t count, nf_real *x)
{
    for (size_t i = 0; i < count * WIDE; i++) {
        uint64_t h = (first * WIDE + i) * UINT64_C(0x9e3779b97f4a7c15);
        h = (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93);
        h ^= h >> 32;
        const double u = (double)(h & 0xffff) + (double)(h >> 16 & 0xffff) + (double)(h >> 32 & 0xffff);
        x[i] = (nf_real)(u / 32768 - 3) + (i % WIDE ? NF_R(0.6) * x[i - 1] : 2);
    }
}

static int read_file(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    const int file = *(const int *)user;
    const size_t bytes = WIDE * sizeof *x;
    (void)ctx;
    for (size_t i = 0; i < count; i++)
        if (pread(file, x + i * WIDE, bytes, (off_t)(rows[i] * bytes)) != (ssize_t)bytes)
            return (int)nf_error(NF_EIO, "row %zu cannot be read", rows[i]);
    return 0;
}

static nf_model *wide_model(void)
{
    nf_flow *layers[] = {nf_planar(WIDE), nf_full_affine(WIDE)};
    return nf_model_of_dist(nf_pushforward(nf_normal(WIDE), nf_chain(layers, 2)), NULL);
}

/* What the child with little memory found. */
typedef struct findings {
    double before, after, loss, direct;
    nf_real theta[128];
    size_t n_params;
} findings;

/* A fit to the first rows of the data; 0 or the number of what went wrong. */
static int fit_first_rows(nf_data d, findings *f)
{
    nf_model *m = wide_model();
    d.n = FIRST_ROWS;
    nf_objective *o = m ? nf_maximum_likelihood(m, &d, NULL) : NULL;
    if (!o || nf_model_shape(m)->n_params > 128 ||
        nf_fit(o, &(nf_fit_options){.steps = 60, .rate = 0.01, .threads = 2}, NULL) != NF_OK)
        return 10;
    f->n_params = nf_model_shape(m)->n_params;
    memcpy(f->theta, nf_model_theta(m), f->n_params * sizeof *f->theta);
    nf_objective_free(o);
    nf_model_free(m);
    return 0;
}

static int fit_in_little_memory(int file, findings *f)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (!statm || fscanf(statm, "%lu", &pages) != 1 || fclose(statm) != 0)
        return 1;
    const rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + room;
    if (setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) != 0)
        return 2;
    void *all = malloc(file_bytes);
    if (all) {
        free(all);
        return 3;
    }
    const nf_source source = {.read = read_file, .user = &file, .thread_safe = true};
    const nf_data d = {.n = file_bytes / (WIDE * sizeof(nf_real)), .dim = WIDE, .source = &source};
    nf_model *m = wide_model();
    nf_objective *o = m ? nf_maximum_likelihood(m, &d, &(nf_likelihood_options){.batch = WIDE_BATCH}) : NULL;
    nf_minibatches *b = nf_minibatches_new(&d, WIDE_BATCH);
    nf_step_report r;
    if (!o || !b || nf_objective_value(o, NULL, 1, 1000000, &r) != NF_OK)
        return 4;
    f->before = r.loss;
    if (nf_fit(o, &(nf_fit_options){.steps = 300, .rate = 0.02, .threads = 2}, NULL) != NF_OK)
        return 5;
    if (nf_objective_value(o, NULL, 1, 1000000, &r) != NF_OK)
        return 6;
    f->after = r.loss;
    /* a step's loss by hand: its rows, read one by one */
    static nf_real x[WIDE_BATCH * WIDE];
    static double log_p[WIDE_BATCH];
    if (nf_minibatches_begin(b, 7, 123456) != NF_OK || nf_objective_value(o, NULL, 7, 123456, &r) != NF_OK)
        return 7;
    for (size_t i = 0; i < WIDE_BATCH; i++) {
        const size_t row = nf_minibatches_row(b, i);
        if (read_file(&file, 1, &row, x + i * WIDE, NULL) != 0)
            return 8;
    }
    if (nf_log_prob(m, NULL, NULL, WIDE_BATCH, x, NULL, log_p) != NF_OK)
        return 9;
    f->loss = r.loss;
    for (size_t i = 0; i < WIDE_BATCH; i++)
        f->direct -= log_p[i] / WIDE_BATCH;
    nf_minibatches_free(b);
    nf_objective_free(o);
    nf_model_free(m);
    return fit_first_rows(d, f);
}

/* Writes the file; false if the disk has no room for it. */
static bool write_file(int file)
{
    enum { ROWS = (1 << 20) / (WIDE * sizeof(nf_real)) };
    static nf_real x[ROWS * WIDE];
    for (size_t at = 0; at < file_bytes; at += sizeof x) {
        wide_rows(at / sizeof x * ROWS, ROWS, x);
        if (write(file, x, sizeof x) != (ssize_t)sizeof x)
            return false;
    }
    return true;
}

Test(source, data_larger_than_memory)
{
    if (NFLOW_THIN) {
        fprintf(stderr, "data_larger_than_memory: skipped, memory cannot be limited here\n");
        return;
    }
    struct statvfs disk;
    char path[512];
    const char *folder = temp_folder();
    snprintf(path, sizeof path, "%s/rows", folder);
    int file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    cr_assert_geq(file, 0);
    unlink(path); /* it lives as long as it is open */
    if (statvfs(folder, &disk) != 0 || disk.f_bavail * disk.f_frsize < file_bytes + room || !write_file(file)) {
        fprintf(stderr, "data_larger_than_memory: skipped, %s has no room for 256 MiB\n", folder);
        close(file);
        temp_remove(folder);
        return;
    }
    findings *f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(f, MAP_FAILED);
    fflush(NULL);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        int code = fit_in_little_memory(file, f);
        if (code)
            fprintf(stderr, "data_larger_than_memory: %d: %s\n", code, nf_error_message());
        _exit(code);
    }
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%#x", (unsigned)status);
    cr_assert(f->after < f->before - 1 && isfinite(f->after), "%g, then %g", f->before, f->after);
    cr_assert_float_eq(f->loss, f->direct, sizeof(nf_real) == 4 ? 1e-5 : 1e-12, "%.15g, not %.15g", f->loss, f->direct);
    static nf_real first[FIRST_ROWS * WIDE];
    findings again;
    cr_assert_eq(pread(file, first, sizeof first, 0), sizeof first);
    cr_assert_eq(fit_first_rows((nf_data){.dim = WIDE, .x = first}, &again), 0);
    cr_assert_eq(again.n_params, f->n_params);
    cr_assert_arr_eq(again.theta, f->theta, f->n_params * sizeof *f->theta);
    munmap(f, sizeof *f);
    close(file);
    temp_remove(folder);
}

/* Numbers that cannot be data are refused when an objective is made, with their place. */
Test(data, numbers_are_checked_once)
{
    nf_real x[6] = {0, NF_R(0.5), 1, 0, NF_R(0.25), 1}, ctx[3] = {1, 2, 3};
    nf_data d = {.n = 3, .dim = 2, .x = x, .n_ctx = 1, .ctx = ctx};
    nf_minibatches *b = nf_minibatches_new(&d, 2);
    cr_assert_not_null(b, "%s", nf_error_message());
    nf_minibatches_free(b);
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3; k++) {
        x[3] = (nf_real)bad[k];
        cr_assert_null(nf_minibatches_new(&d, 2));
        expect(nf_error_status(), NF_EARG, "in row 1, column 1");
        x[3] = 0;
        ctx[2] = (nf_real)bad[k];
        cr_assert_null(nf_minibatches_new(&d, 2));
        expect(nf_error_status(), NF_EARG, "data->ctx is");
        ctx[2] = 3;
    }
    x[4] = NF_R(-0.25);
    b = nf_minibatches_new(&d, 2); /* grey values may be anything */
    cr_assert_not_null(b);
    nf_minibatches_free(b);
    for (nf_binarise how = NF_BINARISE_STATIC; how <= NF_BINARISE_THRESHOLD; how++) {
        d.binarise = how;
        cr_assert_null(nf_minibatches_new(&d, 2));
        expect(nf_error_status(), NF_EARG, "-0.25 in row 2, column 0, but probabilities must be in [0, 1]");
    }
    nf_net *encoder = nf_mlp(2, 2, 0, NULL), *decoder = nf_mlp(1, 2, 0, NULL);
    nf_model *m = nf_model_of_vae(nf_vae_new(encoder, nf_diagonal_posterior(1), decoder, NF_BERNOULLI), NULL);
    d = (nf_data){.n = 3, .dim = 2, .x = x};
    cr_assert_null(nf_vae_elbo(m, &d, NULL));
    expect(nf_error_status(), NF_EARG, "nf_vae_elbo: data->x is -0.25 in row 2, column 0");
    d.ctx = ctx, d.n_ctx = 1;
    cr_assert_null(nf_vae_elbo(m, &d, NULL));
    expect(nf_error_status(), NF_EDIM, "1 columns of context, but a VAE reads none");
    nf_model_free(m);
}
