/*
 * Times LU-linear layers: a training step (maximum likelihood, Adam) of a chain of them or of the recipe
 * nf_nsf_coupling, which has one before each coupling and one after the last, or what such a step does once: preparing
 * W and its inverse, and pulling their gradients back.
 */
#include "cli.h"
#include "isa.h"
#include "numbers.h"
#include "timing.h"
#include <nflow/nflow.h>
#include <stdlib.h>

static size_t workload, threads = 2, steps = 20, dim = 784, layers = 11, batch = 128;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"workload", "prepare|pull|chain|nsf-coupling", "what to time", .choice = &workload},
    {"dim", "N", "dimensions", .size = &dim, .min = 1, .max = 4096},
    {"layers", "N", "layers of the chain; of nsf-coupling one more than couplings", .size = &layers, .min = 2,
     .max = 64},
    {"batch", "N", "samples a step", .size = &batch, .min = 1},
    {"steps", "N", "steps to time", .size = &steps, .min = 1},
    {"threads", "N", "threads", .size = &threads, .min = 1, .max = 1024},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};
enum { PREPARE, PULL, CHAIN, NSF_COUPLING };

static nf_flow *chain(void)
{
    nf_flow *f[64];
    for (size_t k = 0; k < layers; k++)
        f[k] = nf_lu_linear(dim, k);
    return nf_chain(f, layers);
}

/* The gradient in prepared numbers is that of an inverse direction: in each layer's inverse alone. It is written anew
   for each step, since pulling it back overwrites it. */
static void once_a_step(nf_model *m, const nf_real *x, timing *t)
{
    const nf_shape *s = nf_model_shape(m);
    nf_real *g = calloc(nf_model_gradient_size(m), sizeof *g), *g_theta = calloc(s->n_params, sizeof *g_theta);
    if (!g || !g_theta)
        cli_fail(1, "out of memory");
    for (size_t i = 1; i <= steps; i++) {
        for (size_t k = 0, n = s->n_prep / layers; workload == PULL && k < layers; k++)
            for (size_t j = 0; j < n; j++)
                g[s->n_params + k * n + j] = j < n / 2 ? 0 : x[j % (batch * dim)];
        if (workload == PULL)
            cli_ok(nf_model_pull_gradient(m, g, g_theta));
        else
            cli_ok(nf_model_update(m, NF_TRAIN));
        timing_step(t, &(nf_progress){.step = i, .steps = steps});
    }
    free(g);
    free(g_theta);
}

int main(int argc, char **argv)
{
    const double start = cli_seconds();
    cli_parse(argc, argv, "Times LU-linear layers.", options);
    bench_isa(isa);
    nf_flow *f = workload == NSF_COUPLING
                     ? nf_nsf_coupling(
                           dim, &(nf_recipe_options){.n_layers = layers - 1, .hidden = (size_t[]){64}, .n_hidden = 1})
                     : chain();
    nf_model *m = cli_made(nf_model_of_dist(nf_pushforward(nf_normal(dim), f), NULL));
    nf_real *x = bench_normals(2, batch * dim, 1);
    static timing t;
    timing_start(&t, start, 1);
    if (workload == CHAIN || workload == NSF_COUPLING)
        timing_train(&t, m, batch, dim, x, steps, threads);
    else
        once_a_step(m, x, &t);
    timing_report(&t, json_path,
                  (const char *[]){"LU: prepare", "LU: pull back", "LU: chain", "LU: RQ-NSF (C)"}[workload], threads);
    free(x);
    nf_model_free(m);
    return 0;
}
