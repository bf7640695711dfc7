/*
 * An inverse problem with several answers (Bishop 1994, "Mixture density networks"): x = y + 0.3 sin(2 pi y) + noise is
 * seen, and y is wanted. About x = 0.5 three values of y fit. A normal whose mean and scale depend on x puts its mean
 * between them, where hardly any y is; a mixture whose weights, means and scales depend on x finds all three.
 */
#include "common/cli.h"
#include "common/output.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>

enum { ROWS = 4000, COMPONENTS = 5, DRAWS = 10000, BINS = 20 };
static size_t steps = 3000, threads = 0;
static uint64_t seed = 1;
static const char *json = NULL;

static void make_rows(uint64_t which, nf_real *x, nf_real *y)
{
    const nf_noise noise = {.seed = seed, .step = which};
    nf_noise_uniform(&noise, ROWS, 1, 1, y);
    nf_noise_normal(&(nf_noise){.seed = seed, .step = which, .site = 1}, ROWS, 1, 1, x);
    for (size_t i = 0; i < ROWS; i++)
        x[i] = y[i] + 0.3 * sin(2 * M_PI * y[i]) + 0.05 * x[i];
}

static nf_net *curve(size_t out)
{
    return nf_mlp(
        1, out, 0,
        &(nf_mlp_options){.hidden = (size_t[]){24, 24}, .n_hidden = 2, .activation = NF_TANH, .last_scale = 0.1});
}

/* Fits q(y | x); returns the mean log density of fresh rows. The bars are draws of y at x = 0.5. */
static double fit(const char *what, nf_dist *q)
{
    static nf_real x[2][ROWS], y[2][ROWS], at[DRAWS], drawn[DRAWS];
    static double log_q[ROWS];
    make_rows(0, x[0], y[0]);
    make_rows(1, x[1], y[1]);
    nf_model *m = cli_made(nf_model_of_dist(q, &(nf_model_options){.seed = seed}));
    const nf_data data = {.n = ROWS, .dim = 1, .x = y[0], .n_ctx = 1, .ctx = x[0]};
    nf_objective *o = cli_made(nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 250}));
    const nf_fit_options options = {
        .steps = steps, .rate = 0.01, .schedule = {.kind = NF_COSINE, .from = 1}, .seed = seed, .threads = threads};
    cli_ok(nf_fit(o, &options, NULL));
    cli_ok(nf_log_prob(m, NULL, NULL, ROWS, y[1], x[1], log_q));
    double mean = 0;
    for (size_t i = 0; i < ROWS; i++)
        mean += log_q[i] / ROWS;

    for (size_t i = 0; i < DRAWS; i++)
        at[i] = 0.5;
    cli_ok(nf_sample(m, NULL, &(nf_noise){.seed = seed}, DRAWS, at, drawn, NULL));
    size_t count[BINS] = {0};
    for (size_t i = 0; i < DRAWS; i++)
        if (drawn[i] >= 0 && drawn[i] < 1)
            count[(size_t)(BINS * drawn[i])]++;
    printf("%s: mean log q(y | x) = %.3f; draws at x = 0.5:\n", what, mean);
    for (size_t b = 0; b < BINS; b++)
        printf("  y %.2f %.*s\n", ((double)b + 0.5) / BINS, (int)(200 * count[b] / DRAWS),
               "############################################################");
    nf_objective_free(o);
    nf_model_free(m);
    return mean;
}

int main(int argc, char **argv)
{
    static const cli_option options[] = {
        {"steps", "N", "steps of each fit", .size = &steps, .min = 1},
        {"seed", "S", "of rows, parameters and draws", .seed = &seed},
        {"threads", "T", "0: all processors", .size = &threads, .max = 1024},
        {"json", "FILE", "the figures, for machines", .text = &json},
        {0},
    };
    cli_parse(argc, argv, "An inverse problem with several answers: a conditional mixture beside a normal.", options);
    cli_writable(json);
    const double normal = fit("a conditional normal", nf_conditional_normal(1, curve(2)));
    const double mixture = fit("a conditional mixture", nf_conditional_mixture(1, COMPONENTS, curve(3 * COMPONENTS)));
    js_file *j = js_open(json);
    js_begin(j, NULL, '{');
    js_number(j, "normal", normal);
    js_number(j, "mixture", mixture);
    js_end(j);
    js_close(j);
    return 0;
}
