/* The choice of an instruction set, and what it means for results: those of avx2 and avx512 are equal bit for bit,
   those of the others agree to rounding. Every row of the conformance suite and every distribution is put to that, and
   whole fits, in which all nets, likelihoods and optimizers take part. */
#include "conformance/dist_rows.h"
#include "conformance/subject.h"
#include "base/instruction_set.h"
#include "expect.h"
#include <criterion/parameterized.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

enum { MOST_SETS = 8, N = 37 };

/* Those that the processor has, the least first; how many. */
static size_t available_sets(const char *set[MOST_SETS])
{
    size_t n = 0;
    for (size_t k = 0; nfi_set_names[k]; k++)
        if (nf_choose_instruction_set(nfi_set_names[k]) == NF_OK)
            set[n++] = nfi_set_names[k];
    cr_assert_gt(n, 0);
    return n;
}

/* ---- the choice ---- */

static size_t rank_of(const char *name)
{
    static const char *const all[] = {"generic", "neon", "sse2", "avx2", "avx512"};
    size_t k = 0;
    while (k < sizeof all / sizeof *all && strcmp(all[k], name) != 0)
        k++;
    cr_assert_lt(k, sizeof all / sizeof *all, "'%s'", name);
    return k;
}

Test(choice, is_among_the_least_first)
{
    cr_assert_lt(rank_of(nfi_set_names[0]), rank_of("avx2"), "the first is %s", nfi_set_names[0]);
    for (size_t k = 1; nfi_set_names[k]; k++)
        cr_assert_gt(rank_of(nfi_set_names[k]), rank_of(nfi_set_names[k - 1]));
    cr_assert_eq(nf_choose_instruction_set(nfi_set_names[0]), NF_OK, "%s", nf_error_message());
}

Test(choice, of_each_set)
{
    const char *set[MOST_SETS];
    const size_t n = available_sets(set);
    for (size_t k = 0; k < n; k++) {
        cr_assert_eq(nf_choose_instruction_set(set[k]), NF_OK);
        cr_assert_str_eq(nf_instruction_set(), set[k]);
    }
    cr_assert_eq(nf_choose_instruction_set(set[0]), NF_OK);
    cr_assert_eq(nf_choose_instruction_set(NULL), NF_OK);
    cr_assert_str_eq(nf_instruction_set(), set[n - 1], "the best is another");
}

Test(choice, of_what_there_is_not)
{
    for (size_t k = 0; nfi_set_names[k]; k++) {
        cr_assert_eq(nf_choose_instruction_set(k % 2 ? NULL : nfi_set_names[0]), NF_OK);
        const char *before = nf_instruction_set();
        expect(nf_choose_instruction_set("mmx"), NF_EARG, "'mmx'");
        expect(nf_choose_instruction_set(""), NF_EARG, "''");
        cr_assert_str_eq(nf_instruction_set(), before);
        const nf_status status = nf_choose_instruction_set(nfi_set_names[k]);
        if (status == NF_OK) /* as with all of them where the processor has them */
            continue;
        expect(status, NF_EUNSUPPORTED, nfi_set_names[k]);
        cr_assert_neq(k, 0, "the least set needs nothing");
        cr_assert_str_eq(nf_instruction_set(), before);
    }
}

/* The choice at the first use where NFLOW_ISA has this value (NULL: none). */
static const char *first_choice(const char *value)
{
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        value ? setenv("NFLOW_ISA", value, 1) : unsetenv("NFLOW_ISA");
        const char *set = nf_instruction_set();
        int k = 0;
        while (nfi_set_names[k] && strcmp(nfi_set_names[k], set) != 0)
            k++;
        _exit(k);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    return nfi_set_names[WEXITSTATUS(status)];
}

Test(choice, at_the_first_use)
{
    const char *set[MOST_SETS];
    cr_assert_eq(atomic_load(&nfi_set_in_use), -1, "the library was used before");
    const size_t n = available_sets(set);
    atomic_store(&nfi_set_in_use, -1);
    cr_assert_not_null(first_choice(NULL));
    cr_assert_str_eq(first_choice(NULL), set[n - 1]);
    cr_assert_str_eq(first_choice("mmx"), set[n - 1]);
    cr_assert_str_eq(first_choice(""), set[n - 1]);
    for (size_t k = 0; nfi_set_names[k]; k++) {
        const char *expected = set[n - 1];
        for (size_t i = 0; i < n; i++)
            expected = strcmp(set[i], nfi_set_names[k]) == 0 ? set[i] : expected;
        cr_assert_str_eq(first_choice(nfi_set_names[k]), expected);
    }
}

/* ---- results ---- */

enum { MOST_ARRAYS = 5 };
typedef struct outcome {
    size_t size[MOST_ARRAYS];
    double *array[MOST_ARRAYS];
    size_t n_arrays;
} outcome;

static double *add_array(outcome *o, size_t size)
{
    double *v = malloc((size + 1) * sizeof *v);
    cr_assert_not_null(v);
    o->size[o->n_arrays] = size;
    return o->array[o->n_arrays++] = v;
}

static void record_double(outcome *o, size_t size, const double *from)
{
    memcpy(add_array(o, size), from, size * sizeof *from);
}

static void record(outcome *o, size_t size, const nf_real *from)
{
    double *to = add_array(o, size);
    for (size_t i = 0; i < size; i++)
        to[i] = (double)from[i];
}

static void forget(outcome *o)
{
    for (size_t k = 0; k < o->n_arrays; k++)
        free(o->array[k]);
    *o = (outcome){.n_arrays = 0};
}

/* Numbers agree within `tolerance` of 1 plus the largest of their array; 0: they are the same. */
static void compare(const outcome *a, const outcome *b, double tolerance, const char *what)
{
    cr_assert_eq(a->n_arrays, b->n_arrays);
    for (size_t k = 0; k < a->n_arrays; k++) {
        cr_assert_eq(a->size[k], b->size[k]);
        double most = 0;
        for (size_t i = 0; i < a->size[k]; i++)
            most = fmax(most, fabs(a->array[k][i]));
        for (size_t i = 0; i < a->size[k]; i++) {
            const double x = a->array[k][i], y = b->array[k][i];
            cr_assert(tolerance > 0 ? fabs(x - y) <= tolerance * (1 + most) : memcmp(&x, &y, sizeof x) == 0,
                      "%s: number %zu of array %zu is %.17g or %.17g", what, i, k, x, y);
        }
    }
}

/* Runs something in every set and compares. slack multiplies the tolerance where sets round differently; 0: they are
   not compared. */
typedef void run_fn(const void *what, outcome *o);
static void in_each_set(run_fn *run_it, const void *what, double slack, const char *title)
{
    const char *set[MOST_SETS];
    const size_t n = available_sets(set);
    outcome last = {.n_arrays = 0};
    for (size_t k = 0; k < n; k++) {
        outcome now = {.n_arrays = 0};
        cr_assert_eq(nf_choose_instruction_set(set[k]), NF_OK);
        run_it(what, &now);
        char text[300];
        snprintf(text, sizeof text, "%s, %s and %s", title, k ? set[k - 1] : "", set[k]);
        /* Sanitizers put their checks between a product and a sum; clang then fuses the two in one set only. */
        const bool alike = !NFLOW_THIN && k && strncmp(set[k - 1], "avx", 3) == 0 && strncmp(set[k], "avx", 3) == 0;
        if (k && (alike || slack > 0))
            compare(&last, &now, alike ? 0 : 500 * rounding * slack, text);
        forget(&last);
        last = now;
    }
    forget(&last);
}

/* ---- flows ---- */

typedef struct flow_case {
    const subject *s;
    nf_direction d;
    nf_real *gy, *g_l;
} flow_case;

static void run_flow(const void *what, outcome *o)
{
    const flow_case *c = what;
    const subject *s = c->s;
    const size_t in = N * s->rows[c->d], out = N * rows_out(s, c->d);
    nf_real *y = reals(out), *gx = reals(in), *g_ctx = reals(N * s->n_ctx), *g_theta = reals(s->n_params);
    double log_det[N];
    cr_assert_eq(nf_model_update(s->m, NF_EVAL), NF_OK);
    run(s, c->d, N, s->x[c->d], s->ctx, y, log_det);
    run_vjp(s, c->d, c->gy, c->g_l, gx, s->n_ctx ? g_ctx : NULL, g_theta);
    record(o, out, y);
    record_double(o, N, log_det);
    record(o, in, gx);
    record(o, N * s->n_ctx, g_ctx);
    record(o, s->n_params, g_theta);
    free(y), free(gx), free(g_ctx), free(g_theta);
}

static void flows(const subject *s, nf_direction d)
{
    const flow_case c = {.s = s, .d = d, .gy = normals(201, N * rows_out(s, d), 1), .g_l = normals(203, N, 1)};
    in_each_set(run_flow, &c, s->row->slack, title(s, d));
    free(c.gy), free(c.g_l);
}

ParameterizedTestParameters(results, of_flows)
{
    static size_t index[N_ROWS];
    for (size_t i = 0; i < N_ROWS; i++)
        index[i] = i;
    return cr_make_param_array(size_t, index, N_ROWS);
}

ParameterizedTest(size_t *index, results, of_flows)
{
    for_subjects(*index, MOST_DIMS_OF_DERIVATIVES, N, flows);
}

/* ---- noise and distributions ---- */

static void run_noise(const void *what, outcome *o)
{
    enum { LD = 48, ROWS = 5 };
    const nf_noise *noise = what;
    nf_real x[ROWS * LD];
    nf_noise_uniform(noise, ROWS, N, LD, x);
    record(o, ROWS * LD, x);
    nf_noise_normal(noise, ROWS, N, LD, x);
    record(o, ROWS * LD, x);
}

Test(results, of_noise)
{
    in_each_set(run_noise, &(nf_noise){.seed = 3, .step = 5, .first_sample = UINT32_MAX - 9}, 1, "noise");
}

typedef struct dist_case {
    nf_model *m;
    size_t dim;
    nf_real *ctx;
} dist_case;

static void run_dist(const void *what, outcome *o)
{
    const dist_case *c = what;
    nf_real *x = reals(N * c->dim);
    double log_q[N], log_p[N];
    cr_assert_eq(nf_model_update(c->m, NF_EVAL), NF_OK);
    cr_assert_eq(nf_sample(c->m, NULL, &(nf_noise){.seed = 7}, N, c->ctx, x, log_q), NF_OK);
    cr_assert_eq(nf_log_prob(c->m, NULL, NULL, N, x, c->ctx, log_p), NF_OK);
    record(o, N * c->dim, x);
    record_double(o, N, log_q);
    record_double(o, N, log_p);
    free(x);
}

Test(results, of_distributions)
{
    for (size_t i = 0; i < N_DIST_ROWS; i++) {
        dist_case c = {.dim = 5};
        c.m = nf_model_of_dist(dist_rows[i].build(c.dim), &(nf_model_options){.seed = 11});
        cr_assert_not_null(c.m, "%s", nf_error_message());
        const size_t n_params = nf_model_shape(c.m)->n_params;
        nf_real *shift = normals(19, n_params, dist_rows[i].theta_scale);
        for (size_t k = 0; k < n_params; k++)
            nf_model_theta(c.m)[k] += shift[k];
        c.ctx = normals(23, N * nf_model_shape(c.m)->n_ctx, 0.5);
        in_each_set(run_dist, &c, 10, dist_rows[i].name);
        free(shift), free(c.ctx);
        nf_model_free(c.m);
    }
}

/* ---- fits ---- */

enum { ROWS = 301, X_DIM = 6, Z_DIM = 3, N_CTX = 4 * Z_DIM + 1 };

typedef struct fit_case {
    const nf_optimizer_type *optimizer;
    nf_likelihood likelihood;
} fit_case;

static nf_vae *vae_of(nf_likelihood likelihood)
{
    static const size_t hidden[] = {9};
    const nf_mlp_options gated = {.hidden = hidden, .n_hidden = 1, .dropout = 0.2};
    const nf_mlp_options plain = {.hidden = hidden, .n_hidden = 1, .activation = NF_ELU};
    nf_dist *posterior = nf_posterior(Z_DIM, nf_amortized_by_context(nf_planar(Z_DIM)));
    if (likelihood == NF_BERNOULLI)
        return nf_vae_new(nf_gated_mlp(X_DIM, N_CTX, 0, &gated), posterior,
                          nf_maxout_mlp(Z_DIM, X_DIM, 0, &(nf_maxout_options){.hidden = hidden, .n_hidden = 1}),
                          likelihood);
    return nf_vae_new(nf_residual_mlp(X_DIM, N_CTX, 0, &(nf_residual_mlp_options){.width = 9, .dropout = 0.2}),
                      posterior, nf_mlp(Z_DIM, 2 * X_DIM, 0, &plain), likelihood);
}

static void run_fit(const void *what, outcome *o)
{
    const fit_case *c = what;
    static nf_real x[ROWS * X_DIM];
    for (size_t i = 0; i < ROWS * X_DIM; i++)
        x[i] = (nf_real)(17 * i % 64) / 64;
    nf_model *m = nf_model_of_vae(vae_of(c->likelihood), &(nf_model_options){.seed = 29});
    cr_assert_not_null(m, "%s", nf_error_message());
    const nf_data data = {.n = ROWS, .dim = X_DIM, .x = x};
    nf_objective *objective = nf_vae_elbo(m, &data, &(nf_vae_options){.batch = 190});
    cr_assert_not_null(objective, "%s", nf_error_message());
    nf_fit_report report;
    const nf_fit_options options = {.steps = 9, .threads = 2, .optimizer = c->optimizer, .rate = 0.003, .clip_norm = 9};
    cr_assert_eq(nf_fit(objective, &options, &report), NF_OK, "%s", nf_error_message());
    record(o, nf_model_shape(m)->n_params, nf_model_theta(m));
    record_double(o, 1, &report.loss);
    cr_assert(isfinite(report.loss));
    nf_objective_free(objective);
    nf_model_free(m);
}

Test(results, of_fits)
{
    const nf_optimizer_type *const rules[] = {nf_sgd(), nf_momentum(), nf_rmsprop(), nf_adam(), nf_adamax()};
    for (size_t k = 0; k < 2 * sizeof rules / sizeof *rules; k++) {
        const fit_case c = {.optimizer = rules[k / 2], .likelihood = k % 2 ? NF_BERNOULLI : NF_GAUSSIAN};
        in_each_set(run_fit, &c, 0, c.optimizer->name); /* steps magnify rounding */
    }
}
