/*
 * Times a continuous flow (FFJORD), batch 512: a training step (maximum likelihood, Adam), the density of a batch, or a
 * batch of samples. peers_ode.py and peers_diffrax.py hold the same in other packages. How many steps a solve takes
 * depends on the field, so everybody trains on the same rows for WARM_UP steps, and then with a rate that moves
 * nothing: the evaluations of the net are told beside the times.
 */
#include "cli.h"
#include "isa.h"
#include "numbers.h"
#include "timing.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>

enum { BATCH = 512, WARM_UP = 500, CLUSTERS = 8 };

static size_t workload, threads = 2, steps = 200, warm_up = WARM_UP;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"workload", "ffjord-2-train|ffjord-2-density|ffjord-2-sample|ffjord-43-train|ffjord-43-density", "what to time",
     .choice = &workload},
    {"steps", "N", "steps to time", .size = &steps, .min = 1},
    {"warm-up", "N", "steps of training before", .size = &warm_up, .min = 1},
    {"threads", "N", "threads", .size = &threads, .min = 1, .max = 1024},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

typedef enum work { TRAIN, DENSITY, SAMPLE } work;

static const struct {
    const char *title;
    size_t dim;
    work what;
} workloads[] = {
    /* in the order of --workload */
    {"FFJORD D=2, exact: training step", 2, TRAIN},
    {"FFJORD D=2, exact: density", 2, DENSITY},
    {"FFJORD D=2: sampling", 2, SAMPLE},
    {"FFJORD D=43, Rademacher: training step", 43, TRAIN},
    {"FFJORD D=43, Rademacher: density", 43, DENSITY},
};

static nf_model *model_of(size_t dim)
{
    static const size_t hidden[] = {64, 64, 64};
    nf_net *net =
        nf_mlp(dim + 1, dim, 0,
               &(nf_mlp_options){.hidden = hidden, .n_hidden = 3, .activation = NF_TANH, .init = NF_INIT_TORCH});
    nf_flow *flow =
        nf_continuous(net, &(nf_continuous_options){.trace = dim == 2 ? NF_TRACE_EXACT : NF_TRACE_RADEMACHER,
                                                    .score_by_probes = true});
    return cli_made(nf_model_of_dist(nf_pushforward(nf_normal(dim), flow), NULL));
}

/* Eight Gaussians of standard deviation 0.5 around a circle of radius 3 in each two features that follow each other. */
static nf_real *clusters(size_t dim)
{
    nf_real *x = bench_normals(2, BATCH * dim, 0.5);
    for (size_t i = 0; i < BATCH * dim; i++) {
        const double quarter = 1.5707963267948966, turn = (double)(i / dim % CLUSTERS) / CLUSTERS;
        x[i] += (nf_real)(3 * cos(quarter * (4 * turn + (double)(i % dim))));
    }
    return x;
}

static void train(nf_model *m, size_t dim, const nf_real *x, size_t n_steps, double rate, timing *t)
{
    const nf_data data = {.n = BATCH, .dim = dim, .x = x};
    nf_objective *loss = cli_made(nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = BATCH}));
    cli_ok(
        nf_fit(loss,
               &(nf_fit_options){
                   .steps = n_steps, .rate = rate, .threads = threads, .callback = t ? timing_step : NULL, .user = t},
               NULL));
    nf_objective_free(loss);
}

/* Densities of x, or samples written there. */
static void evaluate(nf_model *m, work what, nf_real *x, timing *t)
{
    static double log_p[BATCH];
    nf_workspace *ws = cli_made(nf_workspace_new(threads));
    for (size_t i = 1; i <= steps; i++) {
        if (what == DENSITY)
            cli_ok(nf_log_prob(m, ws, &(nf_noise){.seed = 1, .step = i}, BATCH, x, NULL, log_p));
        else
            cli_ok(nf_sample(m, ws, &(nf_noise){.seed = 1, .step = i}, BATCH, NULL, x, NULL));
        timing_step(t, &(nf_progress){.step = i, .steps = steps});
    }
    nf_workspace_free(ws);
}

int main(int argc, char **argv)
{
    const double start = cli_seconds();
    cli_parse(argc, argv, "Times a continuous flow as a density model and as a sampler.", options);
    bench_isa(isa);
    const size_t dim = workloads[workload].dim;
    const work what = workloads[workload].what;
    nf_model *m = model_of(dim);
    nf_real *x = clusters(dim);
    static timing t;
    train(m, dim, x, warm_up, 1e-3, NULL);
    const nf_ode_counts before = nf_ode_count(nf_model_object(m));
    timing_start(&t, start, steps < 50 ? 1 : 10);
    if (what == TRAIN)
        train(m, dim, x, steps, 1e-12, &t);
    else
        evaluate(m, what, x, &t);
    const nf_ode_counts after = nf_ode_count(nf_model_object(m));
    /* A tile's solve evaluates the net twice at its start, and 6 times in each step (NF_DOPRI5). */
    const double tiles = (double)(after.solves - before.solves);
    const double tried = (double)(after.steps + after.rejected - before.steps - before.rejected) / tiles;
    t.evaluations = (double)(after.evaluations - before.evaluations) / tiles;
    t.recomputed = t.evaluations - 2 - 6 * tried;
    timing_report(&t, json_path, workloads[workload].title, threads);
    free(x);
    nf_model_free(m);
    return 0;
}
