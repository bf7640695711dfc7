/*
 * A step of reverse KL: K planar layers on a diagonal normal in D dimensions, fitted to a normal with mean 1 and
 * standard deviation 1/2 (a target that costs next to nothing), reparameterised gradient, Adam.
 *
 *     bench_reverse_kl --dim 2 --length 32 --batch 1000
 *     bench_reverse_kl --dim 40 --length 80 --batch 100
 */
#include "cli.h"
#include "isa.h"
#include "timing.h"
#include <stdio.h>
#include <stdlib.h>
#include <nflow/nflow.h>

static size_t dim = 2, length = 32, batch = 1000, threads = 2, steps = 20000;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"dim", "D", "dimension", .size = &dim, .min = 1, .max = 10000},
    {"length", "K", "layers", .size = &length, .min = 1, .max = 10000},
    {"batch", "N", "draws a step", .size = &batch, .min = 1},
    {"steps", "N", "steps to time; 1: print the clock after the first", .size = &steps, .min = 1},
    {"threads", "N", "threads", .size = &threads, .min = 1, .max = 1024},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

static int normal(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t s = 0; s < n; s++) {
        double sum = 0;
        for (size_t i = 0; i < d; i++) {
            double a = x[s * d + i] - 1;
            sum += a * a;
            if (grad)
                grad[s * d + i] = -4 * a;
        }
        log_p[s] = -2 * sum;
    }
    return 0;
}

int main(int argc, char **argv)
{
    double start = cli_seconds();
    cli_parse(argc, argv, "Times a step of variational inference with planar flows.", options);
    bench_isa(isa);
    nf_flow **layers = malloc(length * sizeof(nf_flow *));
    if (!layers)
        cli_fail(1, "out of memory");
    for (size_t k = 0; k < length; k++)
        layers[k] = nf_planar(dim);
    nf_model *q = cli_made(nf_model_of_dist(nf_pushforward(nf_diagonal_normal(dim), nf_chain(layers, length)), NULL));
    free(layers);
    nf_target *target = cli_made(nf_target_callback(dim, normal, NULL, NF_THREADSAFE));
    nf_objective *elbo = cli_made(nf_elbo(q, target, &(nf_elbo_options){.draws = batch}));

    static timing t;
    timing_start(&t, start, steps < 1000 ? 1 : 100);
    cli_ok(
        nf_fit(elbo, &(nf_fit_options){.steps = steps, .threads = threads, .callback = timing_step, .user = &t}, NULL));
    if (steps > 1) {
        char name[80];
        snprintf(name, sizeof name, "reverse KL, K=%zu, D=%zu, batch %zu", length, dim, batch);
        timing_report(&t, json_path, name, threads);
    } else
        printf("%.6f\n", start + t.first_step); /* the clock when the first step was done, for bench/compare */
    nf_objective_free(elbo);
    nf_target_free(target);
    nf_model_free(q);
    return 0;
}
