/*
 * A training step of a flow-VAE: encoder 784-300-300, z in R^40, K planar layers whose parameters are the encoder's
 * outputs, decoder 300-300-784 with Bernoulli logits, batch 100, Adam; on bits that are 1 with probability 0.13, as
 * MNIST's are.
 */
#include "cli.h"
#include "isa.h"
#include "timing.h"
#include <stdio.h>
#include <stdlib.h>
#include <nflow/nflow.h>

enum { PIXELS = 784, ROWS = 300 };
static size_t hidden = 300, latent = 40, length = 16, batch = 100, threads = 2, steps = 500;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"hidden", "H", "width of the hidden layers", .size = &hidden, .min = 1, .max = 10000},
    {"latent", "D", "dimensions of z", .size = &latent, .min = 1, .max = 10000},
    {"length", "K", "layers", .size = &length, .min = 1, .max = 10000},
    {"batch", "N", "rows a step", .size = &batch, .min = 1, .max = ROWS},
    {"steps", "N", "steps to time; 1: print the clock after the first", .size = &steps, .min = 1},
    {"threads", "N", "threads", .size = &threads, .min = 1, .max = 1024},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

int main(int argc, char **argv)
{
    double start = cli_seconds();
    cli_parse(argc, argv, "Times a training step of a flow-VAE.", options);
    bench_isa(isa);
    static unsigned char bits[ROWS * PIXELS];
    uint32_t state = 2463534242;
    for (size_t i = 0; i < ROWS * PIXELS; i++) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5; /* xorshift: quick and good enough here */
        bits[i] = state % 100 < 13 ? 255 : 0;
    }
    nf_data data = {.n = ROWS, .dim = PIXELS, .bytes = bits};

    nf_flow **layers = malloc(length * sizeof(nf_flow *));
    if (!layers)
        cli_fail(1, "out of memory");
    for (size_t k = 0; k < length; k++)
        layers[k] = nf_planar(latent);
    nf_dist *q = cli_made(nf_posterior(latent, nf_amortized_by_context(nf_chain(layers, length))));
    free(layers);
    nf_mlp_options net = {.hidden = (size_t[]){hidden, hidden}, .n_hidden = 2, .last_scale = 0.1};
    nf_net *encoder = nf_mlp(PIXELS, nf_dist_shape(q)->n_ctx, 0, &net), *decoder = nf_mlp(latent, PIXELS, 0, &net);
    nf_model *m = cli_made(nf_model_of_vae(nf_vae_new(encoder, q, decoder, NF_BERNOULLI), NULL));
    nf_objective *elbo = cli_made(nf_vae_elbo(m, &data, &(nf_vae_options){.batch = batch}));

    static timing t;
    timing_start(&t, start, steps < 50 ? 1 : 10);
    cli_ok(
        nf_fit(elbo, &(nf_fit_options){.steps = steps, .threads = threads, .callback = timing_step, .user = &t}, NULL));
    if (steps > 1) {
        char name[80];
        snprintf(name, sizeof name, "VAE %d-%zu-%zu, z=%zu, K=%zu, batch %zu", PIXELS, hidden, hidden, latent, length,
                 batch);
        timing_report(&t, json_path, name, threads);
    } else
        printf("%.6f\n", start + t.first_step); /* the clock when the first step was done, for bench/compare */
    nf_objective_free(elbo);
    nf_model_free(m);
    return 0;
}
