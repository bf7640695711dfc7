/* nflow vi: a flow posterior of a Stan model or of any log density in a shared library. */
#include "cli.h"
#include "commands.h"
#include "elbo_trace.h"
#include "families.h"
#include "vi_files.h"
#include "vi_reference.h"
#include "vi_report.h"
#include "vi_target.h"
#include <stdlib.h>
#include <string.h>

static const char *csv_path, *npy_path, *json_path, *inits_path, *model_path, *plot_path, *trace_path, *reference_path,
    *function;
static size_t dim, family = NF_FAMILY_DEFAULT, n_draws = 4000, rungs, resample, chains = 4, threads;
static double steps = 1, tolerance = 0.005;
static uint64_t seed = 1;
static bool batch, thread_safe, transformed, generated, quiet;

static const cli_option options[] = {
    {"output", "FILE", "draws as csv, in the layout of Stan's Pathfinder", .text = &csv_path, .letter = 'o'},
    {"npy", "FILE", "the same columns as npy", .text = &npy_path},
    {"json", "FILE", "the report", .text = &json_path},
    {"inits", "FILE", "initial values for chains of Stan, JSON: FILE inits.json gives inits_1.json, ...",
     .text = &inits_path},
    {"chains", "N", "how many of these", .size = &chains, .min = 1, .max = 1000},
    {"model", "FILE", "the posterior itself, on the unconstrained scale", .text = &model_path},
    {"plot", "FILE", "a pair plot of the first six outputs (.png or .svg; needs gnuplot)", .text = &plot_path},
    {"reference", "FILE", "draw it over these draws, csv with names as CmdStan's, up to eight outputs that both have",
     .text = &reference_path},
    {"trace", "FILE", "a plot of the ELBO during the fit of every rung, likewise", .text = &trace_path},
    {"target", "LIB:FUNCTION", "in place of MODEL: a function of a shared library", .text = &function},
    {"dim", "D", "its dimension", .size = &dim, .max = 1e6},
    {"batch", NULL, "it takes many points, as nf_target_fn of nflow/target.h; else one, as nutpie's", .flag = &batch},
    {"thread-safe", NULL, "several threads may call it at once", .flag = &thread_safe},
    {"transformed", NULL, "outputs of a Stan model: its transformed parameters, too", .flag = &transformed},
    {"generated", NULL, "and its generated quantities", .flag = &generated},
    {"family", FAMILIES, "the ladder, or one family alone", .choice = &family},
    {"draws", "N", "drawn from each posterior to judge it; the best one's are written", .size = &n_draws, .min = 100,
     .max = 1e8},
    {"resample", "N", "write N draws, chosen by importance weights, in place of the plain ones; 0: plain",
     .size = &resample, .max = 1e8},
    {"rungs", "N", "the most rungs of the ladder; 0: all", .size = &rungs, .max = NF_MAX_RUNGS},
    {"steps", "FACTOR", "times the most steps of every rung", .number = &steps, .min = 1e-4, .max = 1e5},
    {"tolerance", "NATS",
     "a fit ends soon after the ELBO gains less in a quarter of its steps; 0: never before all are made",
     .number = &tolerance, .max = 1e9},
    {"seed", "S", "of everything", .seed = &seed},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {"quiet", NULL, "print nothing, and draw no progress bar", .flag = &quiet},
    {0},
};

/* ---- the work ---- */

static int watch(void *user, const nf_vi_progress *p)
{
    if (trace_path || reference_path)
        elbo_trace_add(user, p);
    if (p->fit && !quiet)
        cli_progress(p->rung, (double)p->fit->step, (double)p->fit->steps + 1, "rung %zu, ELBO %.3f", p->number + 1,
                     -p->fit->loss);
    return cli_interrupted;
}

static nf_target *make_target(size_t n, char **argument)
{
    if (!function == (n == 0))
        cli_fail(2,
                 function ? "give either MODEL or --target" : "give MODEL, the library of a Stan model, or --target");
    if (function && dim == 0)
        cli_fail(2, "--target needs --dim, its dimension");
    if (function && (transformed || generated))
        cli_fail(2, "--%s is of Stan models", transformed ? "transformed" : "generated");
    if (!function && (dim || batch || thread_safe))
        cli_fail(2, "--%s is of --target", dim ? "dim" : batch ? "batch" : "thread-safe");
    return vi_target(&(vi_source){.model = n ? argument[0] : NULL,
                                  .data = n > 1 ? argument[1] : NULL,
                                  .transformed = transformed,
                                  .generated = generated,
                                  .function = function,
                                  .dim = dim,
                                  .batch = batch,
                                  .thread_safe = thread_safe,
                                  .seed = seed});
}

static void check_paths(void)
{
    const char *const path[] = {csv_path, npy_path, json_path, inits_path, model_path, plot_path, trace_path};
    for (size_t i = 0; i < sizeof path / sizeof *path; i++) {
        if (path[i] && strcmp(path[i], "-") == 0)
            cli_fail(2, "files of vi need names: - is none");
        cli_writable(path[i]);
    }
    if (reference_path && !plot_path)
        cli_fail(2, "--reference is drawn by --plot, which is missing");
}

/* ---- what it leaves ---- */

static void write_json(const nf_target *t, const nf_vi_result *r, const char *source)
{
    const char *const name[] = {"draws", "npy", "inits", "model", "plot", "trace"};
    const char *const path[] = {csv_path, npy_path, inits_path, model_path, plot_path, trace_path};
    char *family_name = family_word((nf_family)family);
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_text(j, "nflow_version", nf_version());
    js_text(j, "target", source);
    js_begin(j, "options", '{');
    js_text(j, "family", family_name);
    js_integer(j, "draws", n_draws);
    js_integer(j, "resample", resample);
    js_integer(j, "rungs", rungs);
    js_number(j, "steps", steps);
    js_number(j, "tolerance", tolerance);
    js_integer(j, "seed", seed);
    js_integer(j, "threads", threads);
    js_end(j);
    js_begin(j, "files", '{');
    for (size_t i = 0; i < sizeof path / sizeof *path; i++)
        if (path[i])
            js_text(j, name[i], path[i]);
    js_end(j);
    vi_json(j, t, r);
    js_end(j);
    js_close(j);
    free(family_name);
}

static void write_draws(const nf_target *t, const nf_vi_result *r, const char *source)
{
    vi_draws w;
    /* A name with a control character is no name for a comment. */
    char *comments = cli_text("model = %s\nverdict = %s", source, nf_verdict_text(r->quality.verdict));
    for (char *c = comments; *c; c++)
        *c = *c != '\n' && (unsigned char)*c < ' ' ? ' ' : *c;
    vi_draws_make(&w, t, r, resample, seed);
    if (csv_path)
        cli_ok(nf_save_draws_csv(csv_path, &w.draws, comments));
    if (npy_path)
        cli_ok(nf_save_draws_npy(npy_path, &w.draws));
    vi_draws_free(&w);
    free(comments);
}

static int vi(size_t n_arguments, char **argument)
{
    nf_target *t = make_target(n_arguments, argument);
    const char *source = n_arguments ? argument[0] : function;
    elbo_trace trace = {.n = 0};
    vi_reference reference = {.n = 0};
    nf_vi_result r;
    check_paths();
    if (reference_path)
        vi_reference_read(&reference, reference_path, t);
    cli_catch_interrupt();
    const nf_status status = nf_vi(t,
                                   &(nf_vi_options){.family = (nf_family)family,
                                                    .judge = {.n = n_draws},
                                                    .rungs = rungs,
                                                    .steps = steps,
                                                    .tolerance = tolerance > 0 ? tolerance : NF_ZERO,
                                                    .seed = seed,
                                                    .threads = threads,
                                                    .callback = watch,
                                                    .user = &trace},
                                   &r);
    cli_progress_clear();
    if (!r.model)
        cli_ok(status);
    char *message = status ? cli_text("%s", nf_error_message()) : NULL; /* of a later rung: keep what there is */
    if (!quiet)
        vi_print(t, &r);
    write_json(t, &r, source);
    if (model_path)
        cli_ok(nf_save(r.model, model_path));
    if (csv_path || npy_path)
        write_draws(t, &r, source);
    if (inits_path)
        vi_save_inits(inits_path, t, &r, chains, seed);
    if (reference_path)
        vi_reference_plot(plot_path, &reference, source, t, &r, &trace);
    else if (plot_path)
        vi_plot(plot_path, t, &r);
    if (trace_path)
        elbo_trace_plot(trace_path, &trace, &r);
    if (message)
        cli_fail(1, "%s", message);
    vi_reference_free(&reference);
    elbo_trace_free(&trace);
    nf_vi_result_free(&r);
    nf_target_free(t);
    return 0;
}

const cli_command vi_command = {
    .name = "vi",
    .arguments = "[MODEL [DATA]]",
    .least = 0,
    .most = 2,
    .about = "a posterior of a Stan model, or of a log density in C, by variational inference",
    .text =
        "MODEL is a library that BridgeStan has compiled, DATA its data: a .json file, or JSON text. Posteriors from\n"
        "normals to long flows are fitted one after another, until one can be trusted. The report says what was\n"
        "tried, and its verdict what the draws are good for: trust; use weights (their column log_weight__, or\n"
        "--resample); or do not trust, and why. The exit status is 0 for each of these: scripts read \"verdict\"\n"
        "in the JSON. Draws are on the model's own scale. Ctrl-C keeps the best posterior so far.\n\n"
        "With --target it is a function of yours, by default with the arguments of nutpie's:\n"
        "int64_t f(uint64_t dim, const double *x, double *gradient, double *log_p, void *nothing)\n\n"
        "  nflow vi eight_schools.so eight_schools.json -o draws.csv --json report.json\n"
        "  nflow vi model.so data.json --resample 1000 -o draws.csv --plot pairs.png\n"
        "  nflow vi model.so data.json --reference cmdstan_1.csv --plot pairs.png\n"
        "  nflow vi --target ./density.so:log_density --dim 10 -o draws.csv",
    .options = options,
    .run = vi,
};
