/*
 * Times Sylvester flows whose parameters come per sample, as a VAE's posterior has them: K layers, forward and
 * backward, with gradients in z and in all parameters. Beside it, with --vae, a training step of the VAE 784-300-300
 * that has them, and how much of that step they are at most: alone, they also bring their parameters into the layout
 * that inside a VAE they come in.
 */
#include "cli.h"
#include "isa.h"
#include "numbers.h"
#include "timing.h"
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 784, ROWS = 300 };
static size_t kind, dim = 64, columns = 8, length = 4, batch = 100, steps = 2000, threads = 2;
static bool vae;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"kind", "orthogonal|householder|triangular", "what Q is", .choice = &kind},
    {"dim", "D", "dimensions of z", .size = &dim, .min = 1, .max = 10000},
    {"columns", "M", "of Q, or reflections", .size = &columns, .min = 1, .max = 10000},
    {"length", "K", "layers", .size = &length, .min = 1, .max = 1000},
    {"batch", "N", "samples", .size = &batch, .min = 1, .max = ROWS},
    {"vae", NULL, "also a step of a VAE", .flag = &vae},
    {"steps", "N", "steps to time", .size = &steps, .min = 1},
    {"threads", "N", "threads", .size = &threads, .min = 1, .max = 1024},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the flow's result there", .text = &json_path},
    {0},
};

static nf_flow *chain(void)
{
    nf_flow **layers = malloc(length * sizeof(nf_flow *));
    if (!layers)
        cli_fail(1, "out of memory");
    for (size_t k = 0; k < length; k++)
        layers[k] =
            nf_sylvester(dim, &(nf_sylvester_options){.kind = (nf_sylvester_kind)kind,
                                                      .columns = kind == NF_SYLVESTER_ORTHOGONAL ? columns : 0,
                                                      .reflections = kind == NF_SYLVESTER_HOUSEHOLDER ? columns : 0,
                                                      .reversed = kind == NF_SYLVESTER_TRIANGULAR && k % 2});
    nf_flow *flow = nf_amortized_by_context(nf_chain(layers, length));
    free(layers);
    return flow;
}

/* Parameters scatter about the initial ones, as an encoder's do. */
static void time_flow(timing *t)
{
    nf_model *m = cli_made(nf_model_of_flow(chain(), NULL));
    nf_workspace *ws = cli_made(nf_workspace_new(threads));
    const size_t n_ctx = nf_model_shape(m)->n_ctx;
    nf_real *z = bench_normals(1, batch * dim, 1), *gz = bench_normals(2, batch * dim, 1),
            *g_l = bench_normals(3, batch, 1);
    nf_real *theta = bench_normals(4, batch * n_ctx, 1), *g_theta = bench_zeros(batch * n_ctx),
            *g_base = bench_zeros(batch * dim);
    nf_real *start = bench_zeros(n_ctx);
    cli_ok(nf_start_context(nf_model_object(m), &(nf_noise){.seed = 5}, start));
    for (size_t i = 0; i < batch * n_ctx; i++)
        theta[i] = start[i % n_ctx] + NF_R(0.1) * theta[i];
    for (size_t i = 1; i <= steps; i++) {
        cli_ok(nf_transform_vjp(m, ws, NULL, NF_FORWARD, batch, z, theta, gz, g_l, g_base, g_theta, NULL));
        timing_step(t, &(nf_progress){.step = i, .steps = steps});
    }
    free(z), free(gz), free(g_l), free(theta), free(g_theta), free(g_base), free(start);
    nf_workspace_free(ws);
    nf_model_free(m);
}

static void time_vae(timing *t)
{
    static unsigned char bits[ROWS * PIXELS];
    uint32_t state = 2463534242;
    for (size_t i = 0; i < ROWS * PIXELS; i++) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5; /* xorshift: quick and good enough here */
        bits[i] = state % 100 < 13 ? 255 : 0;
    }
    const nf_data data = {.n = ROWS, .dim = PIXELS, .bytes = bits};
    nf_dist *q = cli_made(nf_posterior(dim, chain()));
    nf_mlp_options net = {.hidden = (size_t[]){300, 300}, .n_hidden = 2, .last_scale = 0.1};
    nf_net *encoder = nf_mlp(PIXELS, nf_dist_shape(q)->n_ctx, 0, &net), *decoder = nf_mlp(dim, PIXELS, 0, &net);
    nf_model *m = cli_made(nf_model_of_vae(nf_vae_new(encoder, q, decoder, NF_BERNOULLI), NULL));
    nf_objective *elbo = cli_made(nf_vae_elbo(m, &data, &(nf_vae_options){.batch = batch}));
    cli_ok(
        nf_fit(elbo, &(nf_fit_options){.steps = steps, .threads = threads, .callback = timing_step, .user = t}, NULL));
    nf_objective_free(elbo);
    nf_model_free(m);
}

int main(int argc, char **argv)
{
    const double start = cli_seconds();
    cli_parse(argc, argv, "Times Sylvester flows with parameters per sample, forward and backward.", options);
    bench_isa(isa);
    static timing flow, step;
    char name[100];
    snprintf(name, sizeof name, "Sylvester, K=%zu, M=%zu, z=%zu, batch %zu", length, columns, dim, batch);
    timing_start(&flow, start, steps < 50 ? 1 : 10);
    time_flow(&flow);
    timing_report(&flow, json_path, name, threads);
    if (!vae)
        return 0;
    timing_start(&step, start, steps < 50 ? 1 : 10);
    time_vae(&step);
    timing_report(&step, NULL, "VAE 784-300-300 with it", threads);
    printf("at most %.1f %% of the VAE's step\n",
           100 * flow.block[flow.n_blocks / 2] / step.block[step.n_blocks / 2]); /* medians: sorted by the report */
    return 0;
}
