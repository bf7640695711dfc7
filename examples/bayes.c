/*
 * Bayesian inference on models written in C (examples/bayes): posteriors of posteriordb beside their reference draws,
 * and densities whose integrals are known.
 *
 *     bayes --list                   the models
 *     bayes arK                      fits one by nf_vi() with its default options, and says how good the fit is
 *     bayes arK --plot pairs.png     and draws it over the reference draws
 *     bayes arK garch11 blr          fits several, a line each
 *     bayes --plots pictures         draws the models of docs/posterior.md, or those named, into a folder, and a sheet
 *     bayes arK --check              no fit: its names, its gradient beside differences, what a gradient costs
 *     bayes --table --seeds 20       fits of all posteriors with reference draws, a line each; --all: of all models
 *     bayes --table --family all     and by every family of posteriors, with a table of models and families
 *
 * The verdict is the fit's own. The gate is passed if means and standard deviations are those of the reference draws
 * (bayes/gate.h). Data are read below $NFLOW_DATA, or the folder that --data names.
 */
#include "bayes_models.h"
#include "cli.h"
#include "output.h"
#include "common/bayes_families.h"
#include "common/bayes_fit.h"
#include "common/bayes_gallery.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    POINTS = 8, /* at which gradients are compared with differences */
    ALL_FAMILIES = N_FAMILIES
};

static const char *folder, *json_path, *png_path, *gallery;
static char **named; /* [n_named]: the models that the command line names */
static size_t n_named;
static size_t n_seeds = 1, threads, family = NF_FAMILY_DEFAULT;
static double steps = 1, rate = 1;
static uint64_t first_seed = 1;
static bool list, check, table, all, all_rungs;
static const cli_option options[] = {
    {"list", NULL, "lists the models and does nothing else", .flag = &list},
    {"check", NULL, "checks a model's gradient and measures what it costs, in place of a fit", .flag = &check},
    {"table", NULL, "fits every model that has reference draws", .flag = &table},
    {"all", NULL, "with --table: and every other model", .flag = &all},
    {"family", FAMILIES "|all", "the ladder, one family alone, or all of these and how far each comes",
     .choice = &family},
    {"all-rungs", NULL, "climb the whole ladder, also where a posterior is trusted before its end", .flag = &all_rungs},
    {"steps", "FACTOR", "times the steps of every fit", .number = &steps, .min = 1e-4, .max = 1e5},
    {"rate", "FACTOR", "times the rate of every fit", .number = &rate, .min = 1e-4, .max = 1e4},
    {"data", "DIR", "where the data are, by default $NFLOW_DATA", .text = &folder},
    {"seeds", "N", "fits of each model, with seeds following each other; the first one is drawn", .size = &n_seeds,
     .min = 1, .max = 1000},
    {"seed", "S", "first seed", .seed = &first_seed},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {"json", "FILE", "write the results there", .text = &json_path},
    {"plot", "FILE", "draw a pair plot of draws and reference draws there (PNG or SVG; needs gnuplot)",
     .text = &png_path},
    {"plots", "DIR", "such pictures of nine posteriors, or of the models named, and a sheet of them", .text = &gallery},
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

/* ---- gradients ---- */

/* Points [n x dim] of N(0, 0.5^2), to be released by free(). */
static double *new_points(size_t n, size_t dim)
{
    nf_real *z = cli_allocate(n * dim, sizeof *z);
    double *x = cli_allocate(n * dim, sizeof *x);
    nf_noise_normal(&(nf_noise){.seed = first_seed}, n * dim, 1, 1, z);
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

static void check_model(js_file *j, const bayes_model *m)
{
    nf_target *t = cli_made(bayes_target(m, folder));
    const size_t dim = nf_target_dim(t);
    const double log_z = bayes_log_z(m, folder);
    double *x = new_points(POINTS, dim);
    char *names = new_names(m);
    nf_target_report r;
    cli_ok(nf_target_check(t, POINTS, x, &r));
    const double cost = gradient_cost(t);
    printf("%s: %s\n", m->name, m->about);
    printf("dimension           %zu\n", dim);
    printf("outputs             %zu:%s\n", nf_target_n_outputs(t), names);
    printf("gradient's error    %.1e at %zu points", r.worst_error, (size_t)POINTS - r.rejected);
    printf(r.rejected ? "; %zu rejected: %s\n" : "\n", r.rejected, nf_target_rejection(t));
    printf("a gradient costs    %.2f us\n", cost);
    if (isfinite(log_z))
        printf("ln Z                %.6f\n", log_z);
    js_begin(j, NULL, '{');
    js_text(j, "model", m->name);
    js_integer(j, "dim", dim);
    js_number(j, "log_z", log_z);
    js_begin(j, "outputs", '[');
    for (size_t k = 0; k < nf_target_n_outputs(t); k++)
        js_text(j, NULL, nf_target_output_name(t, k));
    js_end(j);
    js_number(j, "gradient_error", r.worst_error);
    js_integer(j, "rejected", r.rejected);
    js_number(j, "gradient_us", cost);
    js_end(j);
    free(x);
    free(names);
    nf_target_free(t);
}

/* ---- fits ---- */

/* Whether each fit is a line. */
static bool is_a_table(void)
{
    return table || n_named > 1 || n_seeds > 1 || family == ALL_FAMILIES;
}

static void fit_json(js_file *j, const bayes_fit *f, nf_family by, uint64_t seed)
{
    char *word = family_word(by);
    js_begin(j, NULL, '{');
    js_text(j, "model", f->model->name);
    js_integer(j, "dim", nf_target_dim(f->target));
    js_text(j, "fitted", word);
    js_integer(j, "seed", seed);
    js_number(j, "log_z", f->log_z);
    if (f->result.model)
        bayes_fit_json(f, j);
    else
        js_text(j, "failed", nf_error_message());
    js_end(j);
    free(word);
}

/* Fits by a family, with every seed. Only a table of families goes on where a fit finds no finite numbers. */
static void fit_seeds(js_file *j, nf_family by, family_row *row, bayes_tally *tally)
{
    for (size_t i = 0; i < n_seeds && !cli_interrupted; i++) {
        bayes_fit f;
        const nf_status st = bayes_fit_try(&f, row->model, folder,
                                           &(nf_vi_options){.family = by,
                                                            .all_rungs = all_rungs,
                                                            .seed = first_seed + i,
                                                            .steps = steps,
                                                            .rate = rate,
                                                            .threads = threads});
        if (st != NF_ENOTFINITE || family != ALL_FAMILIES)
            cli_ok(st);
        if (!f.result.stopped) {
            fit_json(j, &f, by, first_seed + i);
            family_row_add(row, by, &f);
        }
        if (st)
            printf("%-26s %s\n", row->model->name, nf_error_message());
        else {
            bayes_tally_add(tally, &f);
            if (is_a_table())
                bayes_fit_line(&f);
            else
                bayes_fit_print(&f);
            if (png_path && i == 0)
                bayes_fit_plot(&f, png_path, NULL);
        }
        bayes_fit_free(&f);
    }
}

static void fit_model(js_file *j, family_row *row, bayes_tally *tally)
{
    const size_t from = family == ALL_FAMILIES ? 0 : family, to = family == ALL_FAMILIES ? N_FAMILIES : family + 1;
    for (size_t k = from; k < to; k++)
        fit_seeds(j, (nf_family)k, row, tally);
}

static bool is_wanted(const bayes_model *m)
{
    for (size_t i = 0; i < n_named; i++)
        if (bayes_find(named[i]) == m)
            return true;
    return n_named == 0 && (all || m->posterior);
}

/* Fits all models that are wanted, or checks them, in the list's order. */
static void run_models(js_file *j)
{
    size_t n = 0, n_rows = 0;
    while (bayes_models[n])
        n++;
    family_row *row = cli_allocate(n, sizeof *row);
    bayes_tally tally = {.fits = 0};
    if (!check && is_a_table())
        bayes_fit_head();
    for (size_t i = 0; i < n && !cli_interrupted; i++) {
        if (!is_wanted(bayes_models[i]))
            continue;
        if (check) {
            check_model(j, bayes_models[i]);
            continue;
        }
        row[n_rows] = (family_row){.model = bayes_models[i], .best = -INFINITY};
        fit_model(j, &row[n_rows++], &tally);
    }
    bayes_tally_finish(&tally);
    if (!check && family == ALL_FAMILIES)
        family_rows_print(n_rows, row);
    free(row);
}

int main(int argc, char **argv)
{
    /* names stand before all options: the program's own goes behind them */
    char *program = argv[0];
    while (argc > 1 && argv[1][0] != '-') {
        argv[0] = argv[1];
        argv[1] = program;
        argc--;
        argv++;
        n_named++;
    }
    named = argv - n_named;
    cli_parse(argc, argv, "Bayesian models and their posteriors: bayes MODEL... [options], or bayes --list or --table.",
              options);
    for (size_t i = 0; i < n_named; i++)
        if (!bayes_find(named[i]))
            cli_fail(2, "there is no model '%s'; --list names them", named[i]);
    if (!n_named && !list && !table && !gallery)
        cli_fail(2, "a model is missing; --list names them");
    if (n_named && table)
        cli_fail(2, "--table is of all models, not of '%s'", named[0]);
    if ((table || n_named > 1 || family == ALL_FAMILIES) && png_path)
        cli_fail(2, "--plot is of one model and one fit, not of a table");
    if (list) {
        print_models();
        return 0;
    }
    if (!folder)
        folder = getenv("NFLOW_DATA");
    cli_writable(json_path);
    cli_writable(png_path);
    cli_catch_interrupt();
    if (gallery) {
        bayes_gallery(gallery, n_named, named, folder,
                      &(nf_vi_options){.seed = first_seed, .steps = steps, .rate = rate, .threads = threads});
        return cli_interrupted ? 130 : 0;
    }
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_begin(j, "results", '[');
    run_models(j);
    js_end(j);
    js_end(j);
    js_close(j);
    return cli_interrupted ? 130 : 0;
}
