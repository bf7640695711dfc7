/* Minibatches (every row once an epoch, whatever came before), binarisation, and maximum likelihood. */
#include "base/memory.h"
#include "fail_step.h"
#include "data/data.h"
#include "data/minibatch.h"
#include "objective_fixture.h"

/* ---- minibatches ---- */

/* A tile of a step's samples, or, in_order, of the data set's rows. */
static void read_tile(const nf_minibatches *b, bool in_order, size_t first, size_t n, size_t ld, nf_real *x,
                      nf_real *ctx)
{
    nf_arena scratch = {0};
    const nf_pass p = {.n = n, .ld = ld, .scratch = &scratch};
    cr_assert_eq((in_order ? nfi_minibatches_consecutive : nf_minibatches_tile)(b, &p, first, x, ctx), NF_OK, "%s",
                 nf_error_message());
    cr_assert_eq(nfi_arena_used(&scratch), 0);
    nfi_arena_clear(&scratch);
}

/* One column, the row's number: which rows are in step t's batch? */
static void batch_of(nf_minibatches *r, uint64_t seed, uint64_t step, size_t *rows)
{
    size_t b = nf_minibatches_batch(r), ld = (b + 15) / 16 * 16;
    nf_real *x = calloc(ld, sizeof *x);
    cr_assert_eq(nf_minibatches_begin(r, seed, step), NF_OK);
    read_tile(r, false, 0, b, ld, x, NULL);
    for (size_t i = 0; i < b; i++) {
        rows[i] = (size_t)x[i];
        cr_assert_eq(nf_minibatches_row(r, i), rows[i]);
    }
    for (size_t i = b; i < ld; i++)
        cr_assert_eq(x[i], x[b - 1], "padding");
    free(x);
}

Test(minibatch, each_row_once_an_epoch)
{
    enum { N = 17, B = 5, EPOCHS = 10, STEPS = N * EPOCHS / B };
    nf_real x[N];
    size_t rows[EPOCHS * N + B], last_order_differs = 0;
    for (size_t i = 0; i < N; i++)
        x[i] = (nf_real)i;
    nf_minibatches *r = nfi_minibatches_new(&(nf_data){.n = N, .dim = 1, .x = x}, B, "test");
    cr_assert_eq(nf_minibatches_batch(r), B);
    for (uint64_t t = 0; t < STEPS; t++)
        batch_of(r, 31, t, rows + t * B);
    for (size_t e = 0; e < EPOCHS; e++) {
        size_t seen = 0;
        for (size_t i = 0; i < N; i++)
            seen |= (size_t)1 << rows[e * N + i];
        cr_assert_eq(seen, ((size_t)1 << N) - 1, "epoch %zu", e);
        last_order_differs += e && memcmp(rows + e * N, rows + (e - 1) * N, N * sizeof *rows) != 0;
    }
    cr_assert_eq(last_order_differs, EPOCHS - 1, "shuffled anew");
    /* a step's rows do not depend on what came before, */
    nf_minibatches *other = nfi_minibatches_new(&(nf_data){.n = N, .dim = 1, .x = x}, B, "test");
    for (uint64_t t = STEPS; t-- > 0;) {
        size_t again[B];
        batch_of(other, 31, t, again);
        cr_assert_arr_eq(again, rows + t * B, sizeof again);
    }
    /* but on the seed */
    size_t again[B];
    batch_of(other, 32, 0, again);
    cr_assert(memcmp(again, rows, sizeof again));
    batch_of(other, 31, 0, again);
    cr_assert_arr_eq(again, rows, sizeof again);
    /* nor does anything overflow far along */
    for (uint64_t t = UINT64_MAX - 3; t != 1; t++) {
        batch_of(other, 31, t, again);
        for (size_t i = 0; i < B; i++)
            cr_assert_lt(again[i], N);
    }
    nf_minibatches_free(r);
    nf_minibatches_free(other);
    nf_minibatches_free(NULL);
}

Test(minibatch, whole_batches_are_in_order)
{
    nf_real x[6] = {0, 1, 2, 3, 4, 5};
    for (size_t b = 6; b < 9; b++) {
        nf_minibatches *r = nfi_minibatches_new(&(nf_data){.n = 6, .dim = 1, .x = x}, b, "test");
        cr_assert_eq(nf_minibatches_batch(r), 6);
        for (uint64_t t = 0; t < 3; t++) {
            size_t rows[6];
            batch_of(r, 5, t, rows);
            for (size_t i = 0; i < 6; i++)
                cr_assert_eq(rows[i], i);
        }
        nf_minibatches_free(r);
    }
}

/* Feature-major tiles of odd sizes, with context, against plain indexing. */
Test(minibatch, tiles)
{
    enum { N = 53, DIM = 37, CTX = 3, LD = 48 };
    static nf_real x[N * DIM], ctx[N * CTX], tile[DIM * LD], c[CTX * LD];
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = (nf_real)sin(0.1 + 1.7 * (double)i);
    for (size_t i = 0; i < N * CTX; i++)
        ctx[i] = (nf_real)cos(0.3 + 2.1 * (double)i);
    nf_minibatches *r =
        nfi_minibatches_new(&(nf_data){.n = N, .dim = DIM, .x = x, .n_ctx = CTX, .ctx = ctx}, 10, "test");
    const size_t sizes[] = {1, 15, 16, 17, 41};
    for (size_t k = 0; k < 5; k++) {
        size_t n = sizes[k], first = N - n - (k & 1);
        read_tile(r, true, first, n, LD, tile, c);
        for (size_t s = 0; s < LD; s++) {
            size_t row = first + (s < n ? s : n - 1);
            for (size_t j = 0; j < DIM; j++)
                cr_assert_eq(tile[j * LD + s], x[row * DIM + j]);
            for (size_t j = 0; j < CTX; j++)
                cr_assert_eq(c[j * LD + s], ctx[row * CTX + j]);
        }
    }
    /* shuffled: a row's context comes along */
    cr_assert_eq(nf_minibatches_begin(r, 1, 3), NF_OK);
    read_tile(r, false, 3, 7, LD, tile, c);
    for (size_t s = 0; s < 7; s++) {
        size_t row = 0;
        while (row < N && x[row * DIM] != tile[s])
            row++;
        cr_assert_lt(row, N);
        cr_assert_eq(tile[5 * LD + s], x[row * DIM + 5]);
        cr_assert_eq(c[2 * LD + s], ctx[row * CTX + 2]);
    }
    nf_minibatches_free(r);
}

/* ---- bits ---- */

enum { ROWS = 4000, COLUMNS = 3 };
static const unsigned char shade[COLUMNS] = {51, 204, 255};

static nf_data grey(unsigned char *bytes, nf_real *x, nf_binarise how)
{
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        bytes[i] = shade[i % COLUMNS];
        x[i] = (nf_real)(shade[i % COLUMNS] / 255.0);
    }
    return (nf_data){.n = ROWS, .dim = COLUMNS, .bytes = bytes, .binarise = how, .binarise_seed = 63};
}

static void all_rows(nf_minibatches *r, uint64_t step, nf_real *tile)
{
    cr_assert_eq(nf_minibatches_begin(r, 8, step), NF_OK);
    read_tile(r, false, 0, ROWS, ROWS, tile, NULL);
}

/* Frequencies within 4.5 standard errors; every value a bit. */
static void check_frequencies(const nf_real *tile)
{
    for (size_t c = 0; c < COLUMNS; c++) {
        double p = shade[c] / 255.0, sum = 0, error = sqrt(p * (1 - p) / ROWS);
        for (size_t s = 0; s < ROWS; s++) {
            cr_assert(tile[c * ROWS + s] == 0 || tile[c * ROWS + s] == 1);
            sum += (double)tile[c * ROWS + s];
        }
        cr_assert_float_eq(sum / ROWS, p, 4.5 * error + 1e-12, "%g, not %g", sum / ROWS, p);
    }
}

Test(minibatch, binarisation)
{
    static unsigned char bytes[ROWS * COLUMNS];
    static nf_real x[ROWS * COLUMNS], a[ROWS * COLUMNS], b[ROWS * COLUMNS];
    for (int reals = 0; reals < 2; reals++) {
        nf_data d = grey(bytes, x, NF_GREY);
        if (reals) {
            d.bytes = NULL;
            d.x = x;
        }
        nf_minibatches *r = nfi_minibatches_new(&d, ROWS, "test");
        all_rows(r, 0, a);
        for (size_t c = 0; c < COLUMNS; c++)
            cr_assert_eq(a[c * ROWS + 17], (nf_real)(shade[c] / 255.0));
        nf_minibatches_free(r);

        d.binarise = NF_BINARISE_THRESHOLD;
        r = nfi_minibatches_new(&d, ROWS, "test");
        all_rows(r, 0, a);
        for (size_t s = 0; s < ROWS; s++)
            cr_assert(a[s] == 0 && a[ROWS + s] == 1 && a[2 * ROWS + s] == 1);
        nf_minibatches_free(r);

        d.binarise = NF_BINARISE_STATIC;
        r = nfi_minibatches_new(&d, ROWS, "test");
        all_rows(r, 0, a);
        check_frequencies(a);
        all_rows(r, 1, b);
        cr_assert_arr_eq(a, b, sizeof a, "the same every step");
        read_tile(r, true, 1000, 500, 512, b, NULL);
        for (size_t s = 0; s < 500; s++)
            cr_assert_eq(b[512 + s], a[ROWS + 1000 + s], "a row's bits are its own");
        const nf_noise named = {.seed = 63, .site = NFI_STATIC_SITE};
        nf_noise_uniform(&named, COLUMNS, ROWS, ROWS, b);
        for (size_t i = 0; i < ROWS * COLUMNS; i++)
            cr_assert_eq(a[i], b[i] < x[i / ROWS], "the uniform of row and column");
        nf_minibatches_free(r);
        d.binarise_seed++;
        r = nfi_minibatches_new(&d, ROWS, "test");
        all_rows(r, 0, b);
        cr_assert(memcmp(a, b, sizeof a), "another seed, other bits");
        nf_minibatches_free(r);

        d.binarise = NF_BINARISE_DYNAMIC;
        r = nfi_minibatches_new(&d, ROWS, "test");
        all_rows(r, 0, a);
        check_frequencies(a);
        all_rows(r, 1, b);
        check_frequencies(b);
        size_t differ = 0;
        for (size_t s = 0; s < ROWS; s++)
            differ += a[s] != b[s];
        cr_assert_float_eq((double)differ / ROWS, 2 * 0.2 * 0.8, 0.04, "drawn anew each step, independently");
        all_rows(r, 0, b);
        cr_assert_arr_eq(a, b, sizeof a, "but a step can be had again");
        read_tile(r, false, 100, 50, 64, b, NULL);
        for (size_t s = 0; s < 50; s++)
            cr_assert_eq(b[64 + s], a[ROWS + 100 + s], "whatever the tiles");
        nf_minibatches_free(r);
    }
}

static void expect_null(const void *object, nf_status wanted, const char *words)
{
    cr_assert_null(object);
    expect(nf_error_status(), wanted, words);
}

Test(minibatch, arguments)
{
    nf_real x[4] = {0};
    unsigned char bytes[4] = {0};
    expect_null(nfi_minibatches_new(NULL, 1, "me"), NF_EARG, "me: data is NULL");
    expect_null(nfi_minibatches_new(&(nf_data){.dim = 2, .x = x}, 1, "me"), NF_EARG, "0 rows and 2 columns");
    expect_null(nfi_minibatches_new(&(nf_data){.n = 2, .x = x}, 1, "me"), NF_EARG, "2 rows and 0 columns");
    expect_null(nfi_minibatches_new(&(nf_data){.n = 2, .dim = 2}, 1, "me"), NF_EARG, "neither");
    expect_null(nfi_minibatches_new(&(nf_data){.n = 2, .dim = 2, .x = x, .bytes = bytes}, 1, "me"), NF_EARG, "both");
    expect_null(nfi_minibatches_new(&(nf_data){.n = 2, .dim = 2, .x = x, .n_ctx = 1}, 1, "me"), NF_EARG, "n_ctx is 1");
    expect_null(nfi_minibatches_new(&(nf_data){.n = 2, .dim = 2, .x = x, .ctx = x}, 1, "me"), NF_EARG, "n_ctx is 0");
    expect_null(nfi_minibatches_new(&(nf_data){.n = 2, .dim = 2, .x = x, .binarise = (nf_binarise)9}, 1, "me"), NF_EARG,
                "is 9");
    expect_null(nfi_minibatches_new(&(nf_data){.n = SIZE_MAX / 2, .dim = 3, .x = x}, 1, "me"), NF_EARG, "do not fit");
}

/* ---- maximum likelihood ---- */

enum { POINTS = 203, DIM = 2 };

/* Correlated, skewed, with a context that shifts them. */
static void make_points(nf_real *x, nf_real *ctx)
{
    for (size_t i = 0; i < POINTS; i++) {
        double t = (double)i, c = sin(0.77 * t);
        double u = 1.3 * sin(3.3 * t + 0.2) + 0.4 * c, v = cos(5.1 * t) * sin(1.9 * t);
        x[i * DIM] = (nf_real)(2.7 + 1.7 * u);
        x[i * DIM + 1] = (nf_real)(-0.6 + 0.5 * u + 0.3 * v);
        ctx[i] = (nf_real)c;
    }
}

static nf_model *layered(void)
{
    nf_flow *f[] = {nf_planar(DIM), nf_affine(DIM), nf_radial(DIM), nf_lu_linear(DIM, 17)};
    return stir(nf_model_of_dist(nf_pushforward(nf_diagonal_normal(DIM), nf_chain(f, 4)), NULL), 0.3);
}

static nf_model *conditional(void)
{
    return stir(nf_model_of_dist(nf_conditional_normal(DIM, nf_mlp(1, 2 * DIM, 0, NULL)), NULL), 0.3);
}

Test(likelihood, loss_is_the_mean_score_and_the_gradient_its_slope)
{
    static nf_real x[POINTS * DIM], ctx[POINTS];
    static double log_p[POINTS];
    make_points(x, ctx);
    for (int with_context = 0; with_context < 2; with_context++) {
        nf_model *m = with_context ? conditional() : layered();
        nf_data d = {.n = POINTS, .dim = DIM, .x = x, .n_ctx = (size_t)with_context, .ctx = with_context ? ctx : NULL};
        nf_objective *o = nf_maximum_likelihood(m, &d, &(nf_likelihood_options){.batch = 1000});
        cr_assert_not_null(o, "%s", nf_error_message());
        cr_assert_eq(nf_objective_batch(o), POINTS);
        cr_assert_str_eq(nf_objective_table(o)->terms[0], "log_p");
        cr_assert_eq(nf_log_prob(m, NULL, NULL, POINTS, x, d.ctx, log_p), NF_OK);
        double mean = 0;
        for (size_t i = 0; i < POINTS; i++)
            mean += log_p[i] / POINTS;
        const nf_step_report r = check_gradient(m, o);
        cr_assert_float_eq(r.loss, -mean, 100 * rounding);
        cr_assert_float_eq(r.term[0], mean, 100 * rounding);
        cr_assert(r.worst_log_det > 0.01);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* Sample mean and standard deviation (with divisor n) are the maximum-likelihood estimates. */
Test(likelihood, normal_finds_mean_and_deviation)
{
    static nf_real x[POINTS * DIM], ctx[POINTS];
    make_points(x, ctx);
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(DIM), NULL);
    nf_data d = {.n = POINTS, .dim = DIM, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &d, &(nf_likelihood_options){.batch = POINTS});
    nf_fit_options options = {.steps = 2000, .rate = 0.05, .threads = 1};
    options.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .to = 0.001, .steps = 2000};
    cr_assert_eq(nf_fit(o, &options, NULL), NF_OK, "%s", nf_error_message());
    for (size_t j = 0; j < DIM; j++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < POINTS; i++)
            mean += (double)x[i * DIM + j] / POINTS;
        for (size_t i = 0; i < POINTS; i++)
            square += pow((double)x[i * DIM + j] - mean, 2) / POINTS;
        cr_assert_float_eq(nf_model_theta(m)[j], mean, 1e-4, "%g, not %g", (double)nf_model_theta(m)[j], mean);
        cr_assert_float_eq(nf_model_theta(m)[DIM + j], 0.5 * log(square), 1e-4);
    }
    nf_objective_free(o);
    nf_model_free(m);
}

/* An epoch of minibatches is the whole: means of equal batches average to the loss of all rows. */
Test(likelihood, batches_make_up_the_epoch)
{
    static nf_real x[POINTS * DIM], ctx[POINTS];
    make_points(x, ctx);
    nf_model *m = layered();
    nf_data d = {.n = 200, .dim = DIM, .x = x};
    nf_objective *all = nf_maximum_likelihood(m, &d, &(nf_likelihood_options){.batch = 200});
    nf_objective *part = nf_maximum_likelihood(m, &d, &(nf_likelihood_options){.batch = 25});
    nf_objective *standard = nf_maximum_likelihood(m, &d, NULL);
    cr_assert_eq(nf_objective_batch(standard), 100);
    nf_step_report whole, r;
    double sum = 0, worst = 0;
    cr_assert_eq(nf_objective_value(all, NULL, 3, 0, &whole), NF_OK);
    for (uint64_t t = 8; t < 16; t++) {
        cr_assert_eq(nf_objective_value(part, NULL, 3, t, &r), NF_OK);
        sum += r.loss / 8;
        worst = fmax(worst, r.worst_log_det);
    }
    cr_assert_float_eq(sum, whole.loss, 100 * rounding);
    cr_assert_float_eq(worst, whole.worst_log_det, rounding);
    nf_objective_free(all);
    nf_objective_free(part);
    nf_objective_free(standard);
    nf_model_free(m);
}

Test(likelihood, same_bits_for_all_thread_counts)
{
    static nf_real x[POINTS * DIM], ctx[POINTS];
    make_points(x, ctx);
    nf_model *m = layered();
    nf_data d = {.n = POINTS, .dim = DIM, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &d, &(nf_likelihood_options){.batch = 171});
    const size_t threads[] = {1, 2, 3, 8};
    nf_real g[4][64] = {{0}};
    nf_step_report r[4];
    for (int k = 0; k < 4; k++) {
        nf_workspace *ws = nf_workspace_new(threads[k]);
        cr_assert_eq(nf_objective_gradient(o, ws, 3, 9, &r[k], g[k]), NF_OK);
        cr_assert_arr_eq(g[k], g[0], sizeof g[0]);
        cr_assert_eq(r[k].loss, r[0].loss);
        nf_workspace_free(ws);
    }
    nf_objective_free(o);
    nf_model_free(m);
}

Test(likelihood, arguments)
{
    static nf_real x[POINTS * DIM], ctx[POINTS];
    nf_model *m = layered(), *with = conditional(), *flow = nf_model_of_flow(nf_affine(2), NULL);
    nf_data d = {.n = POINTS, .dim = DIM, .x = x}, c = d, empty = d, wide = d;
    c.n_ctx = 1;
    c.ctx = ctx;
    empty.n = 0;
    wide.dim = 3;
    expect_null(nf_maximum_likelihood(NULL, &d, NULL), NF_EARG, "nf_maximum_likelihood: `model` is NULL");
    expect_null(nf_maximum_likelihood(m, NULL, NULL), NF_EARG, "data is NULL");
    expect_null(nf_maximum_likelihood(flow, &d, NULL), NF_EARG, "`affine`, not of a distribution");
    expect_null(nf_maximum_likelihood(m, &empty, NULL), NF_EARG, "0 rows");
    expect_null(nf_maximum_likelihood(m, &wide, NULL), NF_EDIM, "3 columns and 0 of context, but the model 2 and 0");
    expect_null(nf_maximum_likelihood(m, &c, NULL), NF_EDIM, "2 columns and 1 of context, but the model 2 and 0");
    expect_null(nf_maximum_likelihood(with, &d, NULL), NF_EDIM, "2 columns and 0 of context, but the model 2 and 1");
    nf_model_free(m);
    nf_model_free(with);
    nf_model_free(flow);
}

Test(likelihood, failing_allocations)
{
    static nf_real x[POINTS * DIM], ctx[POINTS];
    make_points(x, ctx);
    for (size_t i = 0; i < POINTS * DIM; i++)
        x[i] = (nf_real)fabs(sin((double)x[i])); /* probabilities */
    nf_real g[64];
    nf_model *m = conditional();
    nf_data d = {.n = POINTS, .dim = DIM, .x = x, .n_ctx = 1, .ctx = ctx, .binarise = NF_BINARISE_STATIC};
    cr_assert_geq(fail_each_of_a_step(fail_alloc_after, likelihood_of, m, &d, g), 8);
    nf_model_free(m);
}

/* ---- weights of rows ---- */

/* Integer weights are repeated rows: in the whole data set at once to rounding, and in the mean over an epoch's
   batches. */
Test(likelihood, weights_repeat_rows)
{
    enum { ROWS = 12, REPEATED = 18 };
    const double weight[ROWS] = {1, 0, 3, 1, 2, 1, 0, 1, 5, 1, 2, 1};
    static nf_real x[ROWS * 2], many[REPEATED * 2];
    nf_noise_normal(&(nf_noise){.seed = 3}, ROWS * 2, 1, 1, x);
    size_t n = 0;
    for (size_t i = 0; i < ROWS; i++)
        for (int k = 0; k < (int)weight[i]; k++)
            memcpy(many + 2 * n++, x + 2 * i, 2 * sizeof *x);
    cr_assert_eq(n, REPEATED);
    nf_model *m = stir(nf_model_of_dist(nf_diagonal_normal(2), NULL), 0.3);
    nf_data some = {.n = ROWS, .dim = 2, .x = x, .weight = weight}, all = {.n = REPEATED, .dim = 2, .x = many};
    nf_objective *o = nf_maximum_likelihood(m, &some, NULL), *w = nf_maximum_likelihood(m, &all, NULL);
    nf_real g[2][4];
    nf_step_report r[2];
    cr_assert_eq(nf_objective_gradient(o, NULL, 1, 1, &r[0], g[0]), NF_OK);
    cr_assert_eq(nf_objective_gradient(w, NULL, 1, 1, &r[1], g[1]), NF_OK);
    cr_assert_float_eq(r[0].loss, r[1].loss, 20 * rounding);
    cr_assert_float_eq(r[0].term[0], -r[0].loss, rounding);
    for (int i = 0; i < 4; i++)
        cr_assert_float_eq(g[0][i], g[1][i], 20 * rounding);
    nf_objective *part = nf_maximum_likelihood(m, &some, &(nf_likelihood_options){.batch = 4});
    double mean = 0;
    for (uint64_t step = 0; step < 3; step++)
        mean += value(part, 1, step).loss / 3;
    cr_assert_float_eq(mean, r[1].loss, 20 * rounding);
    nf_objective_free(o);
    nf_objective_free(w);
    nf_objective_free(part);
    double bad[ROWS] = {0};
    some.weight = bad;
    cr_assert_null(nf_maximum_likelihood(m, &some, NULL));
    expect(nf_error_status(), NF_EARG, "the mean of data->weight is 0");
    bad[7] = -1;
    cr_assert_null(nf_maximum_likelihood(m, &some, NULL));
    expect(nf_error_status(), NF_EARG, "data->weight is -1 in row 7");
    nf_model_free(m);
}

/* ---- noise ---- */

static int keep_loss(void *user, const nf_progress *p)
{
    *(double *)user = p->last->loss;
    return 0;
}

/* The loss of one step over all rows; `validation`: of an evaluation instead. */
static double loss_of(const nf_data *data, const nf_likelihood_options *options, uint64_t step, size_t threads,
                      bool validation)
{
    double loss = NAN;
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(data->dim), NULL);
    nf_objective *o = nf_maximum_likelihood(m, data, options);
    nf_fit_report r;
    const nf_fit_options fit = {.steps = validation ? NF_NONE : 1,
                                .first_step = step,
                                .seed = 3,
                                .threads = threads,
                                .optimizer = nf_sgd(),
                                .rate = 1e-20,
                                .validation = validation ? o : NULL,
                                .callback = keep_loss,
                                .user = &loss};
    cr_assert_eq(nf_fit(o, &fit, &r), NF_OK, "%s", nf_error_message());
    nf_objective_free(o);
    nf_model_free(m);
    return validation ? r.best : loss;
}

/* Of a standard normal, noise with variance v adds v / 2 a feature to the mean loss, whatever the row: s^2 / 2 of
   normal noise, w^2 / 24 of uniform noise of width w. */
Test(likelihood, noise_by_hand)
{
    enum { N = 40000, DIM = 3 };
    static nf_real x[N * DIM];
    for (size_t i = 0; i < N; i++) {
        x[i * DIM] = 1;
        x[i * DIM + 1] = -2;
        x[i * DIM + 2] = NF_R(0.5);
    }
    const nf_data data = {.n = N, .dim = DIM, .x = x};
    const double still = 0.5 * (1 + 4 + 0.25) + 0.5 * DIM * log(2 * acos(-1)), width[DIM] = {0, 3, 1}, s = 0.4;
    const double sum_of_squares = 1 + 4 + 0.25;
    nf_likelihood_options normal = {.batch = N, .noise = s}, uniform = {.batch = N, .blur = width};
    /* Var of (x + e)^2 / 2 is x^2 v + Var(e^2) / 4, with Var(e^2) = 2 v^2 of a normal and 4/5 v^2 of a uniform */
    const double v1 = s * s, sd1 = sqrt((sum_of_squares * v1 + DIM * 0.5 * v1 * v1) / N);
    cr_assert_float_eq(loss_of(&data, &normal, 0, 2, false), still + 0.5 * DIM * v1, 4 * sd1);
    const double v2[DIM] = {0, 9.0 / 12, 1.0 / 12};
    double var2 = 0;
    for (size_t j = 0; j < DIM; j++)
        var2 += (double)x[j] * (double)x[j] * v2[j] + 0.2 * v2[j] * v2[j];
    cr_assert_float_eq(loss_of(&data, &uniform, 0, 2, false), still + 0.5 * (v2[1] + v2[2]), 4 * sqrt(var2 / N));
    /* another step has other noise; threads do not matter; evaluations have none */
    cr_assert_neq(loss_of(&data, &normal, 1, 2, false), loss_of(&data, &normal, 0, 2, false));
    cr_assert_eq(loss_of(&data, &normal, 1, 1, false), loss_of(&data, &normal, 1, 2, false));
    cr_assert_float_eq(loss_of(&data, &normal, 0, 2, true), still, 1e-6);
    cr_assert_float_eq(loss_of(&data, &uniform, 0, 2, true), still, 1e-6);
}

Test(likelihood, noise_out_of_range)
{
    nf_real x[4] = {1, 2, 3, 4};
    const nf_data data = {.n = 2, .dim = 2, .x = x};
    const double negative[2] = {1, -1}, not_finite[2] = {INFINITY, 0};
    const nf_likelihood_options wrong[] = {{.noise = -1}, {.noise = NAN}, {.blur = negative}, {.blur = not_finite}};
    const char *words[] = {"`options->noise` is -1", "`options->noise`", "`options->blur[1]` is -1",
                           "`options->blur[0]`"};
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    for (size_t k = 0; k < 4; k++) {
        cr_assert_null(nf_maximum_likelihood(m, &data, &wrong[k]));
        cr_assert_eq(nf_error_status(), NF_EARG);
        cr_assert_not_null(strstr(nf_error_message(), words[k]), "%s", nf_error_message());
    }
    nf_model_free(m);
}
