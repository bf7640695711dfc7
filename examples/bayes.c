/*
 * Bayesian inference on models written in C (examples/bayes): posteriors of posteriordb beside their reference draws,
 * and densities whose integrals are known.
 *
 *     bayes --list            the models
 *     bayes arK               one of them: its names, its gradient beside differences, what a gradient costs
 *
 * Data are read below $NFLOW_DATA, or the folder that --data names.
 */
#include "bayes_models.h"
#include "cli.h"
#include "output.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *folder, *json_path;
static size_t n_points = 8;
static uint64_t seed = 1;
static bool list;
static const cli_option options[] = {
    {"list", NULL, "lists the models and does nothing else", .flag = &list},
    {"data", "DIR", "where the data are, by default $NFLOW_DATA", .text = &folder},
    {"points", "N", "at which the gradient is compared with differences", .size = &n_points, .min = 1, .max = 1e5},
    {"seed", "S", "of these points", .seed = &seed},
    {"json", "FILE", "write the results there", .text = &json_path},
    {0},
};

/* ---- the models ---- */

/* Names of outputs, arrays as one: "theta[8] mu tau", to be released by free(). */
static char *new_names(const bayes_model *m)
{
    char *text = cli_text("%s", "");
    for (int derived = 0; derived < 2; derived++) {
        const bayes_parameter *p = derived ? m->derived : m->parameters;
        for (size_t i = 0; i < BAYES_BLOCKS && p[i].name; i++) {
            char *longer =
                p[i].n ? cli_text("%s %s[%zu]", text, p[i].name, p[i].n) : cli_text("%s %s", text, p[i].name);
            free(text);
            text = longer;
        }
    }
    return text;
}

static void print_models(void)
{
    printf("model                      posteriordb                              about; parameters\n");
    for (size_t i = 0; bayes_models[i]; i++) {
        const bayes_model *m = bayes_models[i];
        char *names = new_names(m);
        printf("%-26s %-40s %s;%s\n", m->name, m->posterior ? m->posterior : "", m->about, names);
        free(names);
    }
}

/* ---- one model: its gradient ---- */

/* Points [n x dim] of N(0, 0.5^2), to be released by free(). */
static double *new_points(size_t n, size_t dim)
{
    nf_real *z = cli_allocate(n * dim, sizeof *z);
    double *x = cli_allocate(n * dim, sizeof *x);
    nf_noise_normal(&(nf_noise){.seed = seed}, n * dim, 1, 1, z);
    for (size_t i = 0; i < n * dim; i++)
        x[i] = 0.5 * (double)z[i];
    free(z);
    return x;
}

/* Processor time of a gradient in microseconds, in a batch as inference has them; its constraints are counted. */
static double gradient_cost(const nf_target *t)
{
    enum { BATCH = 100 };
    double *x = new_points(BATCH, nf_target_dim(t)), *log_p = cli_allocate(BATCH, sizeof *log_p);
    double *g = cli_allocate(BATCH * nf_target_dim(t), sizeof *g);
    const clock_t begin = clock();
    size_t gradients = 0;
    while (gradients == 0 || clock() - begin < CLOCKS_PER_SEC / 20) {
        cli_ok(nf_target_eval(t, BATCH, x, log_p, g, NULL));
        gradients += BATCH;
    }
    const double cost = 1e6 * (double)(clock() - begin) / CLOCKS_PER_SEC / (double)gradients;
    free(x);
    free(log_p);
    free(g);
    return cost;
}

static void print_check(js_file *j, const bayes_model *m, const nf_target *t)
{
    const size_t dim = nf_target_dim(t);
    const double log_z = bayes_log_z(m, folder);
    double *x = new_points(n_points, dim);
    char *names = new_names(m);
    nf_target_report r;
    cli_ok(nf_target_check(t, n_points, x, &r));
    const double cost = gradient_cost(t);
    printf("%s: %s\n", m->name, m->about);
    printf("dimension           %zu\n", dim);
    printf("outputs             %zu:%s\n", nf_target_n_outputs(t), names);
    printf("gradient's error    %.1e at %zu points", r.worst_error, n_points - r.rejected);
    printf(r.rejected ? "; %zu rejected: %s\n" : "\n", r.rejected, nf_target_rejection(t));
    printf("a gradient costs    %.2f us\n", cost);
    if (isfinite(log_z))
        printf("ln Z                %.6f\n", log_z);
    js_text(j, "model", m->name);
    js_integer(j, "dim", dim);
    js_begin(j, "outputs", '[');
    for (size_t k = 0; k < nf_target_n_outputs(t); k++)
        js_text(j, NULL, nf_target_output_name(t, k));
    js_end(j);
    js_number(j, "gradient_error", r.worst_error);
    js_integer(j, "rejected", r.rejected);
    js_number(j, "gradient_us", cost);
    js_number(j, "log_z", log_z);
    free(x);
    free(names);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
    if (name) { /* what follows are options */
        argv[1] = argv[0];
        argc--;
        argv++;
    }
    cli_parse(argc, argv, "Bayesian models and their posteriors: bayes MODEL [options], or bayes --list.", options);
    if (!folder)
        folder = getenv("NFLOW_DATA");
    if (list) {
        print_models();
        return 0;
    }
    if (!name)
        cli_fail(2, "a model is missing; --list names them");
    const bayes_model *m = bayes_find(name);
    if (!m)
        cli_fail(2, "there is no model '%s'; --list names them", name);
    cli_writable(json_path);
    nf_target *t = cli_made(bayes_target(m, folder));
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    print_check(j, m, t);
    js_end(j);
    js_close(j);
    nf_target_free(t);
    return 0;
}
