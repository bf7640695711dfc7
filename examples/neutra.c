/*
 * NeuTra: Hamiltonian Monte Carlo in the coordinates of a fitted flow (Hoffman, Sountsov, Dillon, Langmore, Tran &
 * Vasudevan 2019). Where a fit x = T(z) is near the posterior, but not near enough, the posterior of z is near the
 * flow's base, which HMC samples well; its draws, mapped back by T, are draws of the posterior itself, however good or
 * bad the fit. What the fit decides is how fast the chains mix.
 *
 *     neutra                                         the two runs below
 *     neutra --model funnel                          Neal's funnel: HMC as it is does not enter the neck
 *     neutra --model garch11 --rungs 1               a normal fit that is not good enough
 *
 * Each model is sampled twice, as it is and through the flow, from the same starting points, which are draws of the
 * fit. Models are those of the example `bayes`.
 */
#include "bayes_models.h"
#include "cli.h"
#include "common/bayes_fit.h"
#include "common/chains.h"
#include "common/hmc.h"
#include "output.h"
#include "pairs.h"
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEVELS = 7 };
static const double levels[LEVELS] = {0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};

static const char *model_name, *folder, *json_path, *png_path;
static size_t rungs, chains = 8, draws = 1000, warm_up = 500;
static uint64_t seed = 1;
static const cli_option options[] = {
    {"model", "NAME", "a model of `bayes --list`; by default funnel, then garch11 with --rungs 1", .text = &model_name},
    {"rungs", "N", "rungs of the fit's ladder at most: 1 is a normal; 0: all", .size = &rungs, .max = NF_MAX_RUNGS},
    {"chains", "N", "chains", .size = &chains, .min = 2, .max = 1000},
    {"draws", "N", "draws of each chain", .size = &draws, .min = 8, .max = 1e6},
    {"warm-up", "N", "iterations before these, which adapt the step size", .size = &warm_up, .min = 1, .max = 1e6},
    {"seed", "S", "of the fit and of the chains", .seed = &seed},
    {"data", "DIR", "where the data are, by default $NFLOW_DATA", .text = &folder},
    {"json", "FILE", "write the results there", .text = &json_path},
    {"plot", "FILE", "draw the first two outputs of the first model there (PNG or SVG; needs gnuplot)",
     .text = &png_path},
    {0},
};

/* Chains on a target, and what they say about its outputs. */
typedef struct sampled {
    const char *name;
    hmc_run hmc;
    double *output;           /* [chains x draws x outputs] */
    double cpu;               /* processor seconds */
    double r_hat, bulk, tail; /* the worst over the outputs; NaN where one of them has none */
} sampled;

/* ---- sampling ---- */

static int watch_chains(void *user, size_t iteration, size_t iterations)
{
    const sampled *s = user;
    cli_progress(s->name, (double)iteration, (double)iterations + 1, "%s",
                 iteration <= warm_up ? "warm-up" : "sampling");
    return cli_interrupted;
}

/* One output along the chains, [chains x draws], to be released by free(). */
static double *new_column(const sampled *s, size_t n_outputs, size_t k)
{
    double *x = cli_allocate(chains * draws, sizeof *x);
    for (size_t i = 0; i < chains * draws; i++)
        x[i] = s->output[i * n_outputs + k];
    return x;
}

static double worse(double a, double b, int sign)
{
    return isnan(a) || isnan(b) ? NAN : sign > 0 ? fmax(a, b) : fmin(a, b);
}

/* Runs chains from start [chains x d]. */
static void sample(sampled *s, const char *name, const nf_target *t, const double *start)
{
    const size_t k = nf_target_n_outputs(t), n = chains * draws;
    *s = (sampled){.name = name, .output = cli_allocate(n * k, sizeof *s->output), .bulk = INFINITY, .tail = INFINITY};
    const clock_t begin = clock();
    cli_ok(hmc_sample(
        t, start,
        &(hmc_options){
            .chains = chains, .warm_up = warm_up, .draws = draws, .seed = seed, .callback = watch_chains, .user = s},
        &s->hmc));
    s->cpu = (double)(clock() - begin) / CLOCKS_PER_SEC;
    cli_progress_clear();
    if (s->hmc.stopped)
        exit(130);
    cli_ok(nf_target_outputs(t, n, s->hmc.z, s->output));
    for (size_t i = 0; i < k; i++) {
        chains_report r;
        double *x = new_column(s, k, i);
        cli_ok(chains_judge(chains, draws, x, &r));
        s->r_hat = worse(s->r_hat, r.r_hat, 1);
        s->bulk = worse(s->bulk, r.bulk, -1);
        s->tail = worse(s->tail, r.tail, -1);
        free(x);
    }
}

/* ---- results ---- */

static void report_chains(js_file *j, const sampled *s)
{
    printf("%-7s step %.3g, %.2f accepted, %zu gradients, %zu divergent, %.2f CPU s; worst R-hat %.3f, least effective "
           "sizes: bulk %.0f, tail %.0f\n",
           s->name, s->hmc.step, s->hmc.acceptance, s->hmc.gradients, s->hmc.divergent, s->cpu, s->r_hat, s->bulk,
           s->tail);
    js_number(j, "step", s->hmc.step);
    js_number(j, "acceptance", s->hmc.acceptance);
    js_integer(j, "gradients", s->hmc.gradients);
    js_integer(j, "divergent", s->hmc.divergent);
    js_number(j, "cpu_seconds", s->cpu);
    js_number(j, "r_hat", s->r_hat);
    js_number(j, "ess_bulk", s->bulk);
    js_number(j, "ess_tail", s->tail);
}

/* The funnel's v is N(0, 3^2): the share of draws below its exact quantiles, with standard errors by effective sizes.
 */
static void report_neck(js_file *j, const sampled *s, size_t n_outputs)
{
    double *v = new_column(s, n_outputs, 0), *below = cli_allocate(chains * draws, sizeof *below);
    printf("        shares of v below its quantiles, and how many standard errors they are off:");
    js_begin(j, "quantiles", '[');
    for (size_t i = 0; i < LEVELS; i++) {
        const double p = levels[i], exact = 3 * gsl_cdf_ugaussian_Pinv(p);
        double share = 0;
        for (size_t k = 0; k < chains * draws; k++)
            share += (below[k] = v[k] <= exact) / (double)(chains * draws);
        const double se = sqrt(p * (1 - p) / chains_effective_size(chains, draws, below));
        printf(isnan(se) ? "%s %g: %.4f" : "%s %g: %.4f (%+.1f)", i % 4 ? " " : "\n         ", p, share,
               (share - p) / se);
        js_begin(j, NULL, '{');
        js_number(j, "p", p);
        js_number(j, "exact", exact);
        js_number(j, "share", share);
        js_number(j, "share_se", se);
        js_end(j);
    }
    printf("\n");
    js_end(j);
    free(v);
    free(below);
}

/* The gate of draws x [n x outputs], which are called `name`. */
static void report_gate(js_file *j, const char *name, const bayes_fit *f, size_t n, const double *x,
                        const double *weight)
{
    const char **output = bayes_fit_names(f);
    gate g;
    cli_ok(gate_draws(&g, &f->reference, n, nf_target_n_outputs(f->target), output, x, weight));
    printf("        %s: ", name);
    bayes_gate_print(&g);
    bayes_gate_json(&g, j);
    free(output);
    gate_free(&g);
}

/* The fit by itself: its draws as they are, and with importance weights. */
static void report_fit(js_file *j, const bayes_fit *f)
{
    const nf_posterior_draws *q = &f->result.draws;
    printf("%s: %s\nfit     %s, %.2f CPU s, ELBO %.3f +- %.3f, k-hat %.2f: %s\n", f->model->name, f->model->about,
           f->result.rung[f->result.best].name, f->cpu, f->result.quality.elbo, f->result.quality.elbo_error,
           f->result.quality.k_hat, f->result.quality.why);
    js_begin(j, "fit", '{');
    bayes_fit_json(f, j);
    js_end(j);
    if (!f->has_gate)
        return;
    double *weight = cli_allocate(q->n, sizeof *weight);
    js_begin(j, "draws", '{');
    cli_ok(nf_posterior_weights(q, NF_TRUST, weight));
    report_gate(j, "its draws", f, q->n, q->output, weight);
    js_end(j);
    js_begin(j, "weighted", '{');
    cli_ok(nf_posterior_weights(q, NF_USE_WEIGHTS, weight));
    report_gate(j, "with weights", f, q->n, q->output, weight);
    js_end(j);
    free(weight);
}

static void report(js_file *j, const sampled *s, const bayes_fit *f)
{
    js_begin(j, s->name, '{');
    report_chains(j, s);
    if (f->model == bayes_find("funnel"))
        report_neck(j, s, nf_target_n_outputs(f->target));
    if (f->has_gate)
        report_gate(j, "its draws", f, chains * draws, s->output, NULL);
    js_end(j);
}

static void plot(const bayes_fit *f, const sampled *plain, const sampled *neutra)
{
    const size_t k = nf_target_n_outputs(f->target), n = chains * draws;
    const char *name[2] = {nf_target_output_name(f->target, 0), nf_target_output_name(f->target, 1)};
    if (k < 2)
        cli_fail(1, "--plot: %s has only one output", f->model->name);
    pairs_plot(png_path, 2, (size_t[]){0, 1}, name, &(shown){n, k, plain->output}, &(shown){n, k, neutra->output});
}

/* ---- a model ---- */

/* Starting points for both runs, in their own coordinates, [chains x d]: draws z of the flow's base, those of the fit's
   first draws that the target does not reject. HMC as it is begins at the same numbers, or where the target rejects
   these, at T(z). */
static void starts(const bayes_fit *f, double *x, double *z)
{
    const nf_posterior_draws *q = &f->result.draws;
    double *log_p = cli_allocate(chains, sizeof *log_p);
    size_t n = 0;
    for (size_t i = 0; i < q->n && n < chains; i++)
        if (q->log_p[i] > -INFINITY)
            memcpy(x + n++ * q->d, q->x + i * q->d, q->d * sizeof *x);
    if (n < chains)
        cli_fail(1, "%s: there are only %zu draws to begin from", f->model->name, n);
    cli_ok(nf_transform(f->result.model, NULL, NULL, NF_INVERSE, n, x, NULL, z, NULL));
    cli_ok(nf_target_eval(f->target, n, z, log_p, NULL, NULL));
    for (size_t i = 0; i < n; i++)
        if (log_p[i] > -INFINITY)
            memcpy(x + i * q->d, z + i * q->d, q->d * sizeof *x);
    free(log_p);
}

static void run(js_file *j, const bayes_model *m, size_t most_rungs, bool draw)
{
    bayes_fit f;
    sampled plain, neutra;
    bayes_fit_make(&f, m, folder, &(nf_vi_options){.seed = seed, .rungs = most_rungs});
    if (f.result.stopped)
        exit(130);
    nf_target *pulled = cli_made(nf_target_pulled_back(f.target, f.result.model));
    double *x = cli_allocate(chains * f.result.draws.d, sizeof *x),
           *z = cli_allocate(chains * f.result.draws.d, sizeof *z);
    starts(&f, x, z);
    sample(&plain, "HMC", f.target, x);
    sample(&neutra, "NeuTra", pulled, z);

    js_begin(j, NULL, '{');
    js_text(j, "model", m->name);
    js_integer(j, "dim", f.result.draws.d);
    report_fit(j, &f);
    report(j, &plain, &f);
    report(j, &neutra, &f);
    js_end(j);
    if (draw)
        plot(&f, &plain, &neutra);
    free(x);
    free(z);
    free(plain.output);
    free(neutra.output);
    hmc_free(&plain.hmc);
    hmc_free(&neutra.hmc);
    nf_target_free(pulled);
    bayes_fit_free(&f);
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Hamiltonian Monte Carlo in the coordinates of a fitted flow.", options);
    const bayes_model *m = model_name ? bayes_find(model_name) : bayes_find("funnel");
    if (!m)
        cli_fail(2, "there is no model '%s'; `bayes --list` names them", model_name);
    if (!folder)
        folder = getenv("NFLOW_DATA");
    cli_writable(json_path);
    cli_writable(png_path);
    cli_catch_interrupt();
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_begin(j, "results", '[');
    run(j, m, rungs, png_path);
    if (!model_name && folder)
        run(j, bayes_find("garch11"), 1, false);
    else if (!model_name)
        printf("garch11 is left out: NFLOW_DATA is not set\n");
    js_end(j);
    js_end(j);
    js_close(j);
    return 0;
}
