/*
 * Density estimation: nine families of flows on six toy data sets in the plane, by maximum likelihood and by flow
 * matching.
 *
 * For every data set and family it prints the mean log-likelihood of test rows, the divergence KL(p || q) of the fitted
 * density q from the data's own p, and the integral of q, which has to be 1; and it draws the densities with samples.
 * docs/toys.md says what was learnt.
 */
#include "cli.h"
#include "estimate.h"
#include "output.h"
#include "common/panels.h"
#include "common/toy_data.h"
#include "common/toy_judge.h"
#include <errno.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEST_SEED = 1000003, INITIAL_ROWS = 1000, DOTS = 400, PANEL = 132, POINTS = PANEL * PANEL, MOST_ROWS = 5000000 };

/* ---- the families ---- */

typedef struct family {
    const char *name;
    nf_flow *(*recipe)(size_t dim, const nf_recipe_options *options); /* NULL: made by new_flow below */
    bool residual, matching, turned; /* turned: a recipe's layers take data to the base */
    nf_parallel parallel;
    nf_mixing mixing;
    size_t layers, hidden, steps, batch; /* hidden layers of 64 units; of residual blocks of 48 */
    double rate;
    nf_initialisation init;
} family;
static const family families[] = {
    {"nice", nf_nice, .layers = 16, .hidden = 2, .steps = 3000, .batch = 500, .rate = 0.002},
    {"realnvp", nf_realnvp, .turned = true, .layers = 16, .hidden = 2, .steps = 6000, .batch = 500, .rate = 0.001,
     .init = NF_INIT_TORCH},
    {"maf", nf_maf, .turned = true, .parallel = NF_PARALLEL_FORWARD, .layers = 12, .hidden = 2, .steps = 6000,
     .batch = 500, .rate = 0.001, .init = NF_INIT_TORCH},
    {"nsf-coupling", nf_nsf_coupling, .turned = true, .layers = 8, .hidden = 2, .steps = 5000, .batch = 500,
     .rate = 0.002, .init = NF_INIT_TORCH},
    {"nsf-autoregressive", nf_nsf_autoregressive, .turned = true, .parallel = NF_PARALLEL_FORWARD,
     .mixing = NF_MIX_REVERSE, .layers = 6, .hidden = 2, .steps = 5000, .batch = 500, .rate = 0.002,
     .init = NF_INIT_TORCH},
    {"planar", .layers = 64, .steps = 20000, .batch = 500, .rate = 0.005},
    {"residual", .residual = true, .layers = 20, .hidden = 2, .steps = 5000, .batch = 200, .rate = 0.003},
    {"ffjord", nf_ffjord, .layers = 1, .hidden = 3, .steps = 2000, .batch = 200, .rate = 0.005},
    {"flow-matching", .matching = true, .layers = 1, .hidden = 3, .steps = 20000, .batch = 500, .rate = 0.005},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

static nf_flow *new_flow(const family *f)
{
    static const size_t width64[] = {64, 64, 64}, width48[] = {48, 48};
    static const nf_continuous_options ode = {.rtol = 1e-4, .atol = 1e-4};
    if (f->recipe) {
        nf_flow *q = f->recipe(2, &(nf_recipe_options){.n_layers = f->layers,
                                                       .hidden = width64,
                                                       .n_hidden = f->hidden,
                                                       .mixing = f->mixing,
                                                       .parallel = f->parallel,
                                                       .ode = f->recipe == nf_ffjord ? &ode : NULL,
                                                       .init = f->init,
                                                       .last_scale = f->init == NF_INIT_TORCH ? 1 : 0,
                                                       .seed = 1});
        return f->turned ? nf_invert(q) : q;
    }
    if (f->residual)
        return nf_residual(2, &(nf_residual_options){.n_layers = f->layers, .hidden = width48, .n_hidden = f->hidden});
    if (f->matching) /* this loss is learnt better without FFJORD's gates */
        return nf_continuous(
            nf_mlp(3, 2, 0, &(nf_mlp_options){.hidden = width64, .n_hidden = f->hidden, .activation = NF_SWISH}), &ode);
    nf_flow *layer[64]; /* planar layers take data to the base, as residual blocks do */
    for (size_t i = 0; i < f->layers; i++)
        layer[i] = nf_planar(2);
    return nf_invert(nf_chain(layer, f->layers));
}

/* ---- options ---- */

static size_t toy = N_TOYS, flow = N_FAMILIES, steps, batch, n_seeds = 1, n_test = 20000, threads;
static uint64_t first_seed = 1;
static double rate;
static const char *json_path, *png_path, *folder;
static const cli_option options[] = {
    {"data", "eight-gaussians|moons|two-spirals|rings|checkerboard|pinwheel|all", "data sets", .choice = &toy},
    {"flow", "nice|realnvp|maf|nsf-coupling|nsf-autoregressive|planar|residual|ffjord|flow-matching|all",
     "families of flows", .choice = &flow},
    {"steps", "N", "steps of training; 0: by family, see docs/toys.md", .size = &steps, .max = 1e7},
    {"batch", "N", "rows a step, new ones until five millions were used; 0: by family", .size = &batch, .max = 1e5},
    {"rate", "R", "learning rate of the first step, which falls to 0 along a cosine; 0: by family", .number = &rate,
     .max = 1},
    {"seeds", "N", "fits of each kind, with seeds following each other; the first one is drawn", .size = &n_seeds,
     .min = 1, .max = 1000},
    {"seed", "S", "first seed, of parameters and of training rows", .seed = &first_seed},
    {"test-rows", "N", "rows for the log-likelihood, the same for every fit", .size = &n_test, .min = 100, .max = 1e7},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {"json", "FILE", "write the results there", .text = &json_path},
    {"plot", "FILE", "draw the densities there, with samples (PNG; needs gnuplot)", .text = &png_path},
    {"save-data", "DIR", "write DATA-train.f32 and DATA-test.f32 there, rows of two floats, and fit nothing",
     .text = &folder},
    {0},
};

static size_t n_fits, fits_done;
static char doing[64];

static int watch(void *user, const nf_progress *p)
{
    (void)user;
    cli_progress("toys", (double)fits_done + (double)p->step / (double)p->steps, (double)n_fits, "%s  loss %.3f", doing,
                 p->loss);
    return cli_interrupted;
}

/* ---- the data ---- */

/* Test rows, and what their own density says of them. */
typedef struct truth {
    size_t toy;
    nf_real *x;              /* [n_test x 2] */
    double *log_p, *grid;    /* [n_test], [POINTS] */
    double entropy, highest; /* on the grid */
} truth;

static nf_data train_rows(size_t which, size_t n, uint64_t seed)
{
    nf_real *x = cli_allocate(n, 2 * sizeof *x);
    toy_rows(which, seed, 0, n, x);
    return (nf_data){.n = n, .dim = 2, .x = x};
}

static truth true_density(size_t which, panels *fig, size_t row)
{
    truth t = {which,
               cli_allocate(n_test, 2 * sizeof(nf_real)),
               cli_allocate(n_test, sizeof(double)),
               cli_allocate(POINTS, sizeof(double)),
               toy_entropy(which),
               -INFINITY};
    toy_rows(which, TEST_SEED, 0, n_test, t.x);
    toy_log_density(which, n_test, t.x, t.log_p);
    if (fig) {
        toy_log_density(which, POINTS, panels_grid(fig), t.grid);
        for (size_t i = 0; i < POINTS; i++)
            t.highest = fmax(t.highest, t.grid[i]);
        panels_add(fig, row, 0, toy_names[which], t.grid, t.highest, DOTS < n_test ? DOTS : n_test, t.x);
    }
    return t;
}

static void save(const char *what, const char *name, size_t n, const nf_real *x)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s-%s.f32", folder, name, what);
    FILE *file = fopen(path, "wb");
    bool well = file && fwrite(x, 2 * sizeof *x, n, file) == n;
    if (!file || fclose(file) || !well)
        cli_fail(1, "cannot write %s: %s", path, strerror(errno));
}

/* ---- a fit ---- */

/* From the base on: the flow, then a scaling to the deviations of the data. */
static nf_model *new_model(const family *f, const nf_data *data, uint64_t seed)
{
    nf_flow *q = nf_chain((nf_flow *[]){new_flow(f), nf_actnorm(2)}, 2);
    return cli_made(nf_model_of_dist(nf_pushforward(nf_normal(2), q),
                                     &(nf_model_options){.seed = seed,
                                                         .n_init = data->n < INITIAL_ROWS ? data->n : INITIAL_ROWS,
                                                         .init_x = data->x}));
}

static void fit(nf_model *m, const family *f, const nf_data *data, size_t rows, uint64_t seed)
{
    nf_objective *o = cli_made(f->matching ? nf_flow_matching(m, data, &(nf_matching_options){.batch = rows})
                                           : nf_maximum_likelihood(m, data, &(nf_likelihood_options){.batch = rows}));
    const nf_fit_options how = {.steps = steps ? steps : f->steps,
                                .seed = seed,
                                .threads = threads,
                                .rate = rate > 0 ? rate : f->rate,
                                .schedule = {.kind = NF_COSINE, .from = 1, .to = 0},
                                .clip_norm = 10,
                                .callback = watch};
    cli_ok(nf_fit(o, &how, NULL));
    nf_objective_free(o);
}

static void report(js_file *j, const family *f, const truth *t, nf_model *m, uint64_t seed, double seconds, double cpu)
{
    nf_workspace *ws = cli_made(nf_workspace_new(threads));
    double *log_q = cli_allocate(n_test, sizeof *log_q);
    cli_ok(nf_log_prob(m, ws, NULL, n_test, t->x, NULL, log_q));
    const estimate mean = mean_of(n_test, log_q);
    for (size_t i = 0; i < n_test; i++)
        log_q[i] = t->log_p[i] - log_q[i];
    const estimate kl = mean_of(n_test, log_q);
    const double whole = integral(m, ws);
    const size_t numbers = nf_model_shape(m)->n_params;
    cli_progress_clear();
    printf("%-16s %-19s %4llu  %8.4f +- %.4f  %8.4f +- %.4f  %8.5f  %7zu  %7.1f s\n", toy_names[t->toy], f->name,
           (unsigned long long)seed, mean.mean, mean.se, kl.mean, kl.se, whole, numbers, seconds);
    fflush(stdout);
    js_begin(j, NULL, '{');
    js_text(j, "data", toy_names[t->toy]);
    js_text(j, "flow", f->name);
    js_integer(j, "seed", seed);
    js_number(j, "log_likelihood", mean.mean);
    js_number(j, "log_likelihood_se", mean.se);
    js_number(j, "entropy", t->entropy);
    js_number(j, "kl", kl.mean);
    js_number(j, "kl_se", kl.se);
    js_number(j, "integral", whole);
    js_integer(j, "parameters", numbers);
    js_number(j, "seconds", seconds);
    js_number(j, "cpu_seconds", cpu);
    js_end(j);
    free(log_q);
    nf_workspace_free(ws);
}

static void draw(panels *fig, size_t row, size_t column, const family *f, const truth *t, const nf_model *m)
{
    if (!fig)
        return;
    nf_real x[2 * DOTS];
    cli_ok(nf_log_prob(m, NULL, NULL, POINTS, panels_grid(fig), NULL, t->grid));
    cli_ok(nf_sample(m, NULL, &(nf_noise){.seed = ~first_seed}, DOTS, NULL, x, NULL));
    panels_add(fig, row, column, f->name, t->grid, t->highest, DOTS, x);
}

/* All seeds of one family on one data set. */
static void fit_seeds(js_file *j, panels *fig, size_t row, size_t column, const family *f, const truth *t)
{
    snprintf(doing, sizeof doing, "%s %s", toy_names[t->toy], f->name);
    const size_t rows = batch ? batch : f->batch;
    for (size_t s = 0; s < n_seeds && !cli_interrupted; s++, fits_done++) {
        const size_t n = rows * (steps ? steps : f->steps);
        const nf_data data = train_rows(t->toy, n < MOST_ROWS ? n : MOST_ROWS, first_seed + s);
        nf_model *m = new_model(f, &data, first_seed + s);
        const double begin = cli_seconds();
        const clock_t cpu = clock();
        fit(m, f, &data, rows, first_seed + s);
        report(j, f, t, m, first_seed + s, cli_seconds() - begin, (double)(clock() - cpu) / CLOCKS_PER_SEC);
        if (s == 0)
            draw(fig, row, column, f, t, m);
        nf_model_free(m);
        free((void *)data.x);
    }
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Fits flows to toy data in the plane.", options);
    cli_writable(json_path);
    cli_writable(png_path);
    cli_catch_interrupt();
    const size_t first_toy = toy == N_TOYS ? 0 : toy, toys = toy == N_TOYS ? N_TOYS : 1;
    const size_t first_flow = flow == N_FAMILIES ? 0 : flow, flows = flow == N_FAMILIES ? N_FAMILIES : 1;
    const family *first = families + first_flow;
    if (folder) {
        for (size_t i = first_toy; i < first_toy + toys; i++) {
            const size_t wanted = (batch ? batch : first->batch) * (steps ? steps : first->steps);
            const size_t n = wanted < MOST_ROWS ? wanted : MOST_ROWS;
            nf_data train = train_rows(i, n, first_seed), test = train_rows(i, n_test, TEST_SEED);
            save("train", toy_names[i], n, train.x);
            save("test", toy_names[i], n_test, test.x);
            free((void *)train.x);
            free((void *)test.x);
        }
        return 0;
    }
    n_fits = toys * flows * n_seeds;
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_begin(j, "results", '[');
    panels *fig = panels_new(png_path, toys, 1 + flows, PANEL, 4.5);
    printf("data             flow                seed   log-likelihood (s.e.)      KL(p || q) (s.e.)  integral  numbers"
           "       time\n");
    for (size_t i = 0; i < toys && !cli_interrupted; i++) {
        truth t = true_density(first_toy + i, fig, i);
        printf("%-16s %-19s       %8.4f\n", toy_names[t.toy], "(the data's own)", -t.entropy);
        fflush(stdout);
        for (size_t k = 0; k < flows && !cli_interrupted; k++)
            fit_seeds(j, fig, i, 1 + k, first + k, &t);
        free(t.x);
        free(t.log_p);
        free(t.grid);
    }
    cli_progress_clear();
    js_end(j);
    js_end(j);
    js_close(j);
    panels_finish(fig);
    return cli_interrupted ? 130 : 0;
}
