/*
 * An inverse problem with several answers (Bishop 1994, "Mixture density networks"): x = y + 0.3 sin(2 pi y) + noise is
 * seen, and y is wanted. About x = 0.5 three values of y fit. A normal whose mean and scale depend on x puts its mean
 * between them, where hardly any y is; a mixture whose weights, means and scales depend on x finds all three.
 *
 *     cc inverse_problem.c $(pkg-config --cflags --libs nflow)
 *     ./a.out [STEPS [THREADS]]
 */
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 4000, COMPONENTS = 5, DRAWS = 10000, BINS = 20 };
static const double pi = 3.14159265358979323846;

/* Ends the program with the library's message unless all went well. */
static void require(bool well)
{
    if (!well) {
        fprintf(stderr, "inverse_problem: %s\n", nf_error_message());
        exit(1);
    }
}

static void make_rows(uint64_t which, nf_real *x, nf_real *y)
{
    const nf_noise noise = {.seed = 1, .step = which};
    nf_noise_uniform(&noise, ROWS, 1, 1, y);
    nf_noise_normal(&(nf_noise){.seed = 1, .step = which, .site = 1}, ROWS, 1, 1, x);
    for (size_t i = 0; i < ROWS; i++)
        x[i] = y[i] + 0.3 * sin(2 * pi * y[i]) + 0.05 * x[i];
}

static nf_net *curve(size_t out)
{
    return nf_mlp(
        1, out, 0,
        &(nf_mlp_options){.hidden = (size_t[]){24, 24}, .n_hidden = 2, .activation = NF_TANH, .last_scale = 0.1});
}

/* Fits q(y | x) and prints the mean log density of fresh rows. The bars are draws of y at x = 0.5. */
static void fit(const char *what, nf_dist *q, uint64_t steps, size_t threads)
{
    static nf_real x[2][ROWS], y[2][ROWS], at[DRAWS], drawn[DRAWS];
    static double log_q[ROWS];
    make_rows(0, x[0], y[0]);
    make_rows(1, x[1], y[1]);
    nf_model *m = nf_model_of_dist(q, &(nf_model_options){.seed = 1});
    const nf_data data = {.n = ROWS, .dim = 1, .x = y[0], .n_ctx = 1, .ctx = x[0]};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 250});
    const nf_fit_options options = {
        .steps = steps, .rate = 0.01, .schedule = {.kind = NF_COSINE, .from = 1}, .seed = 1, .threads = threads};
    require(o && nf_fit(o, &options, NULL) == NF_OK);
    require(nf_log_prob(m, NULL, NULL, ROWS, y[1], x[1], log_q) == NF_OK);
    double mean = 0;
    for (size_t i = 0; i < ROWS; i++)
        mean += log_q[i] / ROWS;

    for (size_t i = 0; i < DRAWS; i++)
        at[i] = 0.5;
    require(nf_sample(m, NULL, &(nf_noise){.seed = 1}, DRAWS, at, drawn, NULL) == NF_OK);
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
}

int main(int argc, char **argv)
{
    const long steps = argc > 1 ? atol(argv[1]) : 3000, threads = argc > 2 ? atol(argv[2]) : 0;
    if (argc > 3 || steps < 1 || threads < 0) {
        fprintf(stderr, "usage: inverse_problem [STEPS [THREADS]]   (0 threads: all processors)\n");
        return 2;
    }
    nf_dist *normal = nf_conditional_normal(1, curve(2));
    nf_dist *mixture = nf_conditional_mixture(1, COMPONENTS, curve(3 * COMPONENTS));
    fit("a conditional normal", normal, (uint64_t)steps, (size_t)threads);
    fit("a conditional mixture", mixture, (uint64_t)steps, (size_t)threads);
    return 0;
}
