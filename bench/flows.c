/*
 * Times flows as density models and as samplers, batch 512: a training step (maximum likelihood, Adam), the density of
 * a batch, or a batch of samples (of IAF with log q). peers_flows.py, peers_residual.py and peers_jax.py hold the same
 * in other packages; as there, nothing stands between the flow's own layers.
 */
#include "cli.h"
#include "isa.h"
#include "numbers.h"
#include "timing.h"
#include <nflow/nflow.h>
#include <stdlib.h>

enum { BATCH = 512, MOST_DIM = 64, MOST_LAYERS = 10 };

static size_t workload, threads = 2, steps = 200;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"workload",
     "maf-sample|maf-train|maf-density|nsf-ar-sample|nsf-ar-train|nsf-coupling-train|nsf-coupling-density|"
     "realnvp-train|iaf-sample|residual-train|residual-density|residual-sample|roulette-train",
     "what to time", .choice = &workload},
    {"steps", "N", "steps to time", .size = &steps, .min = 1},
    {"threads", "N", "threads", .size = &threads, .min = 1, .max = 1024},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

typedef enum family { MAF, IAF, NSF_AUTOREGRESSIVE, NSF_COUPLING, REALNVP, RESIDUAL, ROULETTE } family;
typedef enum work { TRAIN, DENSITY, SAMPLE, SAMPLE_WITH_LOG_Q } work;

static const struct {
    const char *title;
    family flow;
    size_t dim, layers;
    work what;
} workloads[] = {
    /* in the order of --workload */
    {"MAF 5 x (2x256), D=63: sampling", MAF, 63, 5, SAMPLE},
    {"MAF 5 x (2x256), D=63: training step", MAF, 63, 5, TRAIN},
    {"MAF 5 x (2x256), D=63: density", MAF, 63, 5, DENSITY},
    {"RQ-NSF (AR), D=21: sampling", NSF_AUTOREGRESSIVE, 21, 5, SAMPLE},
    {"RQ-NSF (AR), D=21: training step", NSF_AUTOREGRESSIVE, 21, 5, TRAIN},
    {"RQ-NSF (C), D=21: training step", NSF_COUPLING, 21, 10, TRAIN},
    {"RQ-NSF (C), D=21: density", NSF_COUPLING, 21, 10, DENSITY},
    {"RealNVP, D=64: training step", REALNVP, 64, 10, TRAIN},
    {"IAF, D=64: sample with log q", IAF, 64, 5, SAMPLE_WITH_LOG_Q},
    {"residual, D=2: training step", RESIDUAL, 2, 10, TRAIN},
    {"residual, D=2: density", RESIDUAL, 2, 10, DENSITY},
    {"residual, D=2: sampling", RESIDUAL, 2, 10, SAMPLE},
    {"residual by roulette, D=2: training step", ROULETTE, 2, 10, TRAIN},
};

static const size_t hidden[] = {256, 256};

static nf_flow *univariate(family f, size_t dim)
{
    if (f == NSF_AUTOREGRESSIVE || f == NSF_COUPLING)
        return cli_made(nf_spline(dim, &(nf_spline_options){.bins = 8, .box = 3}));
    return cli_made(nf_scaled_affine(dim, &(nf_scaled_affine_options){.scale = NF_SCALE_SOFTSIGN}));
}

/* The order is reversed from layer to layer. */
static nf_flow *autoregressive(family f, size_t dim, size_t k)
{
    size_t order[MOST_DIM];
    for (size_t i = 0; i < dim; i++)
        order[i] = k % 2 ? dim - 1 - i : i;
    nf_flow *transform = univariate(f, 1);
    nf_net *net = nf_masked_net(dim, nf_flow_shape(transform)->n_params, 0,
                                &(nf_masked_options){.hidden = hidden, .n_hidden = 2, .last_scale = 0.1});
    return nf_autoregressive(transform, net, order, f == IAF ? NF_FORWARD : NF_INVERSE);
}

static nf_flow *coupling(family f, size_t dim, size_t k)
{
    unsigned char mask[MOST_DIM];
    const size_t n = nf_mask_alternating(dim, k, mask);
    nf_flow *transform = univariate(f, n);
    const size_t n_params = nf_flow_shape(transform)->n_params;
    nf_net *net =
        f == NSF_COUPLING
            ? nf_residual_mlp(dim - n, n_params, 0,
                              &(nf_residual_mlp_options){.width = 256, .n_blocks = 2, .last_scale = 0.1})
            : nf_mlp(dim - n, n_params, 0, &(nf_mlp_options){.hidden = hidden, .n_hidden = 2, .last_scale = 0.1});
    return nf_coupling(dim, mask, transform, net);
}

/* n blocks with nets 128-128-128 of LipSwish. The roulette is that of the packages: three terms, and each further one
   with probability 1/2. */
static nf_flow *residual(family f, size_t dim, size_t n)
{
    const nf_residual_flow_options roulette = {.log_det = NF_LOG_DET_ROULETTE, .terms = 3, .survival = 0.5};
    return nf_residual(
        dim, &(nf_residual_options){.n_layers = n, .no_actnorm = true, .block = f == ROULETTE ? &roulette : NULL});
}

static nf_model *model_of(family f, size_t dim, size_t n)
{
    nf_flow *layers[MOST_LAYERS], *flow;
    if (f == RESIDUAL || f == ROULETTE) {
        flow = residual(f, dim, n);
    } else {
        for (size_t k = 0; k < n; k++)
            layers[k] = f == NSF_COUPLING || f == REALNVP ? coupling(f, dim, k) : autoregressive(f, dim, k);
        flow = nf_chain(layers, n);
    }
    return cli_made(nf_model_of_dist(nf_pushforward(nf_normal(dim), flow), NULL));
}

/* Densities of x, or samples written there. */
static void evaluate(nf_model *m, work what, nf_real *x, timing *t)
{
    static double log_p[BATCH];
    nf_workspace *ws = cli_made(nf_workspace_new(threads));
    for (size_t i = 1; i <= steps; i++) {
        const nf_noise noise = {.seed = 1, .step = i};
        if (what == DENSITY)
            cli_ok(nf_log_prob(m, ws, &noise, BATCH, x, NULL, log_p));
        else
            cli_ok(nf_sample(m, ws, &noise, BATCH, NULL, x, what == SAMPLE_WITH_LOG_Q ? log_p : NULL));
        timing_step(t, &(nf_progress){.step = i, .steps = steps});
    }
    nf_workspace_free(ws);
}

int main(int argc, char **argv)
{
    const double start = cli_seconds();
    cli_parse(argc, argv, "Times flows as density models and as samplers.", options);
    bench_isa(isa);
    const size_t dim = workloads[workload].dim;
    const work what = workloads[workload].what;
    nf_model *m = model_of(workloads[workload].flow, dim, workloads[workload].layers);
    nf_real *x = bench_normals(2, BATCH * dim, 1);
    static timing t;
    timing_start(&t, start, steps < 50 ? 1 : 10);
    if (what == TRAIN)
        timing_train(&t, m, BATCH, dim, x, steps, threads);
    else
        evaluate(m, what, x, &t);
    timing_report(&t, json_path, workloads[workload].title, threads);
    free(x);
    nf_model_free(m);
    return 0;
}
