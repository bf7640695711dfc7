/*
 * Estimators of the ELBO's gradient, and of the bounds of groups, on posteriors with a flow. First a fit by sticking
 * the landing; at its start, half way and at its end the trace of the covariance of each estimator's gradient, from
 * independent steps, and the processor time of a step. Then fits by the total gradient and by sticking the landing from
 * equal starts and with equal noise: their ELBO after as many steps, and after as much time.
 *
 *     NFLOW_DATA=data bench_estimators --posterior credit
 *
 * Everything runs in one thread. A table is text for docs/benchmarks.md.
 */
#include "cli.h"
#include "energy_targets.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t posterior, steps = 1000, draws = 100, repeats = 200, seeds = 3;
static double rate = 0.01;
static const cli_option options[] = {
    {"posterior", "energy|banana|credit", "Rezende & Mohamed's U2; a banana in 10 dimensions; logistic regression",
     .choice = &posterior},
    {"steps", "N", "steps of a fit", .size = &steps, .min = 2},
    {"draws", "N", "draws a step, a multiple of 10", .size = &draws, .min = 10},
    {"repeats", "N", "steps from which a covariance is estimated", .size = &repeats, .min = 2},
    {"seeds", "N", "fits whose ELBO is compared; 0: none", .size = &seeds},
    {"rate", "R", "learning rate, which falls to 0 as a cosine in the fits that say so", .number = &rate, .min = 1e-9},
    {0},
};

/* ---- posteriors ---- */

enum { ENERGY, BANANA, CREDIT };

/* x_0 ~ N(0, 1), x_i ~ N(x_0^2 - 1, 1/2) for odd i, and N(x_(i-1), 1/4) for the others. */
enum { BANANA_DIM = 10 };
static int banana(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t s = 0; s < n; s++, x += d) {
        double g[BANANA_DIM] = {-x[0]};
        log_p[s] = -0.5 * x[0] * x[0];
        for (size_t i = 1; i < d; i++) {
            const double precision = i % 2 ? 4 : 16, e = i % 2 ? x[i] - x[0] * x[0] + 1 : x[i] - x[i - 1];
            log_p[s] -= 0.5 * precision * e * e;
            g[i] -= precision * e;
            g[i % 2 ? 0 : i - 1] += precision * e * (i % 2 ? 2 * x[0] : 1);
        }
        if (grad)
            memcpy(grad + s * d, g, d * sizeof *g);
    }
    return 0;
}

/* Logistic regression on German credit data: standardised columns and an intercept, prior N(0, 1). */
typedef struct regression {
    size_t n;
    double *a, *sign; /* [n x d], [n] */
} regression;
enum { CREDIT_DIM = 25 };

static regression read_credit(void)
{
    const char *root = getenv("NFLOW_DATA");
    if (!root)
        cli_fail(1, "set NFLOW_DATA to the folder that has credit/german_credit_numeric.csv");
    char *path = cli_text("%s/credit/german_credit_numeric.csv", root);
    nf_table t;
    cli_ok(nf_load_csv(path, NULL, &t));
    if (t.dim != CREDIT_DIM)
        cli_fail(1, "%s: %zu columns, not %d", path, t.dim, (int)CREDIT_DIM);
    regression r = {.n = t.n, .a = calloc(t.n * CREDIT_DIM, sizeof(double)), .sign = calloc(t.n, sizeof(double))};
    if (!r.a || !r.sign)
        cli_fail(1, "out of memory");
    for (size_t j = 0; j < CREDIT_DIM; j++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < r.n; i++) {
            const double v = (double)t.data[i * CREDIT_DIM + j];
            mean += v / (double)r.n;
            square += v * v / (double)r.n;
        }
        for (size_t i = 0; i < r.n; i++) {
            const double v = (double)t.data[i * CREDIT_DIM + j];
            r.a[i * CREDIT_DIM + j] = j + 1 < CREDIT_DIM ? (v - mean) / sqrt(square - mean * mean) : 1;
            r.sign[i] = v > 1.5 ? 1 : -1; /* the last column, 1 or 2 */
        }
    }
    nf_table_free(&t);
    free(path);
    return r;
}

static int credit(void *user, size_t n, size_t d, const double *w, double *log_p, double *grad, unsigned char *rejected)
{
    (void)rejected;
    const regression *r = user;
    for (size_t s = 0; s < n; s++, w += d) {
        double g[CREDIT_DIM], sum = 0;
        for (size_t j = 0; j < d; j++) {
            sum -= 0.5 * w[j] * w[j];
            g[j] = -w[j];
        }
        for (size_t i = 0; i < r->n; i++) {
            const double *a = r->a + i * d;
            double at = 0;
            for (size_t j = 0; j < d; j++)
                at += a[j] * w[j];
            const double e = exp(-fabs(at)), odds = r->sign[i] * at > 0 ? e / (1 + e) : 1 / (1 + e);
            sum -= log1p(e) + (r->sign[i] * at > 0 ? 0 : fabs(at));
            for (size_t j = 0; j < d; j++)
                g[j] += r->sign[i] * odds * a[j];
        }
        log_p[s] = sum;
        if (grad)
            memcpy(grad + s * d, g, d * sizeof *g);
    }
    return 0;
}

static const struct {
    const char *title;
    size_t dim;
} posteriors[] = {{"energy U2", 2}, {"banana", BANANA_DIM}, {"German credit", CREDIT_DIM}};

static nf_target *make_target(void)
{
    static energy u2 = {.number = 2, .wall = true};
    static regression rows;
    if (posterior == CREDIT)
        rows = read_credit();
    nf_target_fn *const f[] = {energy_log_p, banana, credit};
    void *const user[] = {&u2, NULL, &rows};
    return cli_made(nf_target_callback(posteriors[posterior].dim, f[posterior], user[posterior], NF_THREADSAFE));
}

/* RealNVP of 6 couplings with nets of 2 x 16 units, and an affine flow of all features. */
static nf_model *make_model(uint64_t seed)
{
    const size_t dim = posteriors[posterior].dim;
    nf_flow *f[] = {nf_realnvp(dim, &(nf_recipe_options){.n_layers = 6, .hidden = (size_t[]){16, 16}, .n_hidden = 2}),
                    nf_full_affine(dim)};
    return cli_made(
        nf_model_of_dist(nf_pushforward(nf_normal(dim), nf_chain(f, 2)), &(nf_model_options){.seed = seed}));
}

/* ---- fits ---- */

/* Seconds of processor time of this thread. */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double fit(nf_model *m, const nf_target *t, nf_gradient way, size_t first, size_t n, size_t last, uint64_t seed)
{
    nf_objective *o = cli_made(nf_elbo(m, t, &(nf_elbo_options){.draws = draws, .gradient = way}));
    const double begin = seconds();
    nf_fit_options q = {.steps = n, .first_step = first, .rate = rate, .threads = 1, .seed = seed};
    if (last)
        q.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .steps = last};
    if (n)
        cli_ok(nf_fit(o, &q, NULL));
    nf_objective_free(o);
    return seconds() - begin;
}

/* Of 20000 draws, the same for all models. */
static double elbo(nf_model *m, const nf_target *t)
{
    nf_objective *o = cli_made(nf_elbo(m, t, &(nf_elbo_options){.draws = 20000}));
    nf_step_report r;
    cli_ok(nf_objective_value(o, NULL, 777, 0, &r));
    nf_objective_free(o);
    return -r.loss;
}

/* ---- variances ---- */

static const struct {
    const char *name;
    nf_elbo_options options;
} estimators[] = {
    {"ELBO, total", {.gradient = NF_GRADIENT_PATH}},
    {"ELBO, sticking the landing", {.gradient = NF_GRADIENT_STL}},
    {"ELBO, by the score", {.gradient = NF_GRADIENT_SCORE}},
    {"IWAE of 10, total", {.gradient = NF_GRADIENT_PATH, .importance = 10}},
    {"IWAE of 10, DReG", {.gradient = NF_GRADIENT_STL, .importance = 10}},
    {"Renyi 1/2 of 10, total", {.gradient = NF_GRADIENT_PATH, .importance = 10, .alpha = 0.5}},
    {"Renyi 1/2 of 10, doubly", {.gradient = NF_GRADIENT_STL, .importance = 10, .alpha = 0.5}},
};
enum { N_ESTIMATORS = sizeof estimators / sizeof *estimators };

static void measure(nf_model *m, const nf_target *t, const char *when)
{
    const size_t n = nf_model_shape(m)->n_params;
    nf_workspace *ws = cli_made(nf_workspace_new(1));
    nf_real *g = calloc(n, sizeof *g);
    double *mean = calloc(2 * n, sizeof *mean), *square = mean + n;
    if (!g || !mean)
        cli_fail(1, "out of memory");
    for (size_t k = 0; k < N_ESTIMATORS; k++) {
        nf_elbo_options q = estimators[k].options;
        q.draws = draws;
        nf_objective *o = cli_made(nf_elbo(m, t, &q));
        memset(mean, 0, 2 * n * sizeof *mean);
        const double begin = seconds();
        for (uint64_t step = 0; step < repeats; step++) {
            cli_ok(nf_objective_gradient(o, ws, 99, step, NULL, g));
            for (size_t i = 0; i < n; i++) {
                mean[i] += (double)g[i] / (double)repeats;
                square[i] += (double)g[i] * (double)g[i] / (double)repeats;
            }
        }
        const double each = (seconds() - begin) / (double)repeats, unbias = (double)repeats / (double)(repeats - 1);
        double trace = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            trace += (square[i] - mean[i] * mean[i]) * unbias;
            size += mean[i] * mean[i];
        }
        size = sqrt(fmax(size - trace / (double)repeats, 0)); /* of the mean, without what the variance adds */
        printf("| %-8s | %-26s | %10.3g | %10.3g | %8.0f | %12.3g |\n", when, estimators[k].name, size, trace,
               1e6 * each, 1e3 * trace * each);
        nf_objective_free(o);
    }
    free(g);
    free(mean);
    nf_workspace_free(ws);
}

static void print_variances(const nf_target *t)
{
    nf_model *m = make_model(1);
    printf("%s, %zu dimensions, %zu parameters, %zu draws a step, %zu steps of fit\n\n", posteriors[posterior].title,
           posteriors[posterior].dim, nf_model_shape(m)->n_params, draws, steps);
    printf("| %-8s | %-26s | %10s | %10s | %8s | %12s |\n|---|---|---|---|---|---|\n", "where", "estimator",
           "norm of mean", "trace", "us a step", "trace x ms");
    measure(m, t, "start");
    fit(m, t, NF_GRADIENT_STL, 0, steps / 2, steps, 1);
    measure(m, t, "half way");
    fit(m, t, NF_GRADIENT_STL, steps / 2, steps - steps / 2, steps, 1);
    measure(m, t, "end");
    nf_model_free(m);
}

/* ---- what sticking the landing buys ---- */

/* The mean ELBO over seeds at the end of fits, and the mean of their times. */
typedef struct ends {
    double elbo, seconds;
} ends;

static ends fits(const nf_target *t, nf_gradient way, size_t n, bool cosine)
{
    ends e = {0};
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        nf_model *m = make_model(seed);
        e.seconds += fit(m, t, way, 0, n, cosine ? n : 0, seed) / (double)seeds;
        e.elbo += elbo(m, t) / (double)seeds;
        nf_model_free(m);
    }
    return e;
}

static void print_fits(const nf_target *t)
{
    printf("\n| rate | gradient | steps | seconds | mean ELBO of %zu fits |\n|---|---|---|---|---|\n", seeds);
    for (int cosine = 0; cosine < 2; cosine++) {
        const char *const name = cosine ? "cosine" : "constant";
        const ends stl = fits(t, NF_GRADIENT_STL, steps, cosine), path = fits(t, NF_GRADIENT_PATH, steps, cosine);
        const size_t as_long = (size_t)((double)steps * stl.seconds / path.seconds);
        const ends longer = fits(t, NF_GRADIENT_PATH, as_long, cosine);
        printf("| %s | sticking the landing | %zu | %.2f | %.4f |\n", name, steps, stl.seconds, stl.elbo);
        printf("| %s | total | %zu | %.2f | %.4f |\n", name, steps, path.seconds, path.elbo);
        printf("| %s | total, for as long | %zu | %.2f | %.4f |\n", name, as_long, longer.seconds, longer.elbo);
    }
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Variances of gradients of the ELBO, and what sticking the landing buys.", options);
    nf_target *t = make_target();
    print_variances(t);
    if (seeds)
        print_fits(t);
    nf_target_free(t);
    return 0;
}
