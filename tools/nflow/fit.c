/* nflow fit: a density of a table. */
#include "commands.h"
#include "density.h"
#include "fit_data.h"
#include "plan.h"
#include "summary.h"
#include "train.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *model_path, *flow_file, *format, *column_list, *context_list, *weight_column, *dequantise_list;
static const char *valid_path, *test_path, *image_text, *json_path;
static size_t family = FLOW_AUTO, layers, width, depth, blocks, bins, batch, steps, epochs, patience, validate_every,
              threads;
static size_t base, precision;
static double valid_share = 0.1, test_share = 0.1, minutes, rate, clip, average, box;
static double dropout = NAN, noise = NAN, weight_decay = NAN;
static uint64_t seed = 1;
static bool resume, matching, no_baselines;

static const cli_option options[] = {
    {"output", "MODEL", "the model's file (required)", .text = &model_path, .letter = 'o'},
    {"flow", FLOW_NAMES, "the family of flows; auto: splines, by the number of columns", .choice = &family},
    {"flow-file", "FILE", "in place of a family: a flow or a distribution, described in JSON", .text = &flow_file},
    {"columns", "LIST", "the columns of the density: names, numbers from 1, ranges: age,3,5-8; else all others",
     .text = &column_list},
    {"context-columns", "LIST", "columns that the density is conditional on", .text = &context_list},
    {"weights", "COLUMN", "the column with the rows' weights", .text = &weight_column},
    {"dequantise", "LIST", "columns of whole numbers, or all, that are spread over an interval of length 1",
     .text = &dequantise_list},
    {"valid", "FILE", "rows to validate with, in place of a part of DATA", .text = &valid_path},
    {"valid-fraction", "F", "share of DATA's rows for validation", .number = &valid_share, .max = 0.9},
    {"test", "FILE", "rows for the report at the end, in place of a part of DATA", .text = &test_path},
    {"test-fraction", "F", "share of DATA's rows for that; 0: the validation's rows serve", .number = &test_share,
     .max = 0.9},
    {"format", "csv|npy|idx", "DATA's format, in place of its name's end", .text = &format},
    {"image", "CxHxW", "rows are images of C channels, H rows and W columns of pixels", .text = &image_text},
    {"layers", "N", "of the flow; 0: by family and rows, as all of these", .size = &layers, .max = 1000},
    {"width", "N", "units of the nets' hidden layers, or channels", .size = &width, .max = 1e5},
    {"depth", "N", "hidden layers", .size = &depth, .max = 16},
    {"blocks", "N", "residual blocks in place of hidden layers", .size = &blocks, .max = 100},
    {"bins", "N", "pieces of splines", .size = &bins, .max = 1000},
    {"box", "B", "splines bend within [-B, B] standard deviations", .number = &box, .max = 1e6},
    {"dropout", "P", "of the nets; by default by the number of rows", .number = &dropout, .max = 0.9},
    {"base", "normal|student-t", "what the flow starts from", .choice = &base},
    {"flow-matching", NULL, "train by flow matching (ffjord alone; the family flow-matching does)", .flag = &matching},
    {"steps", "N", "of training; 0: by rows", .size = &steps, .max = 1e12},
    {"epochs", "N", "passes through the rows, in place of --steps", .size = &epochs, .max = 1e9},
    {"minutes", "M", "time of training, in place of --steps", .number = &minutes, .max = 1e6},
    {"batch", "N", "rows a step", .size = &batch, .max = 1e7},
    {"rate", "R", "Adam's rate, which falls to 0 along a cosine", .number = &rate, .max = 10},
    {"clip", "C", "norm that a gradient may have", .number = &clip, .max = 1e9},
    {"average", "D", "decay of the moving average of the parameters", .number = &average, .max = 0.999999},
    {"weight-decay", "W", "decoupled, times the rate", .number = &weight_decay, .max = 1e3},
    {"noise", "S", "standard deviations of noise that training adds to rows", .number = &noise, .max = 10},
    {"validate-every", "N", "steps between validations, which also write the checkpoint", .size = &validate_every,
     .max = 1e9},
    {"patience", "N", "stop after N validations without a better one; 0: never", .size = &patience, .max = 1e9},
    {"no-baselines", NULL, "do not fit the simple densities that the report compares with", .flag = &no_baselines},
    {"resume", NULL, "continue the interrupted fit of the same command", .flag = &resume},
    {"precision", "single|double", "of training", .choice = &precision},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {"seed", "S", "of the split, parameters, order of rows and noise", .seed = &seed},
    {"json", "FILE", "write the report there", .text = &json_path},
    {0},
};

/* ---- the model ---- */

static plan make_plan(const fit_data *d)
{
    plan p = {.sizes = {.family = (flow_family)family,
                        .dim = d->dim,
                        .n_ctx = d->n_ctx,
                        .layers = layers,
                        .width = width,
                        .depth = depth,
                        .blocks = blocks,
                        .bins = bins,
                        .box = box,
                        .dropout = dropout,
                        .heavy_tails = base == 1,
                        .image = d->image,
                        .seed = seed},
              .batch = batch,
              .steps = steps,
              .validate_every = validate_every,
              .patience = patience,
              .rate = rate,
              .clip = clip,
              .average = average,
              .weight_decay = weight_decay,
              .noise = noise};
    if (epochs) {
        plan sized = p;
        plan_complete(&sized, d->train.n, d->valid.n);
        p.steps = epochs * ((d->train.n + sized.batch - 1) / sized.batch);
    }
    plan_complete(&p, d->train.n, d->valid.n);
    return p;
}

static json_t *strings(const table *t, size_t n, const size_t *place)
{
    json_t *list = json_array();
    for (size_t j = 0; j < n; j++)
        json_array_append_new(list, json_string(t->name[place[j]]));
    return list;
}

/* What the model's file says of the data: see density.h. */
static char *note_text(const fit_data *d, const plan *p, const train_result *r)
{
    json_t *places = json_array(), *curve = json_array(), *deviations = json_array();
    for (size_t j = 0; j < d->dim + d->n_ctx; j++) {
        json_array_append_new(places, json_integer((json_int_t)d->place[j]));
        json_array_append_new(deviations, json_real(d->scale[j]));
    }
    for (size_t i = 0; i < r->curve.n; i++) {
        const learning_point *at = &r->curve.point[i];
        json_array_append_new(curve, json_pack("[I, f, f]", (json_int_t)at->step, at->training, at->validation));
    }
    json_t *note = json_pack(
        "{s:o, s:o, s:o, s:I, s:o, s:s, s:I, s:I, s:o}", "columns", strings(&d->all, d->dim, d->place), "context",
        strings(&d->all, d->n_ctx, d->place + d->dim), "places", places, "file_columns", (json_int_t)d->all.columns,
        "deviations", deviations, "family", flow_file ? "described" : flow_names[p->sizes.family], "rows",
        (json_int_t)d->train.n, "steps", (json_int_t)r->report.steps, "curve", curve);
    if (d->image.channels)
        json_object_set_new(note, "image",
                            json_pack("[I, I, I]", (json_int_t)d->image.channels, (json_int_t)d->image.height,
                                      (json_int_t)d->image.width));
    char *of_jansson = note ? json_dumps(note, JSON_COMPACT) : NULL;
    if (!of_jansson)
        cli_fail(1, "the columns' names are not UTF-8");
    char *text = cli_text("%s", of_jansson);
    free(of_jansson);
    json_decref(note);
    return text;
}

/* The fitted distribution in the data's units. */
static void save_model(const fit_data *d, const plan *p, const char *description, const train_result *r)
{
    double *added;
    size_t n_added;
    char *whole = flow_in_units(description, &p->sizes, d->shift, d->scale, &added, &n_added);
    nf_object *o = cli_made(nf_rebuild(whole, NULL));
    const size_t n = nf_object_shape(o)->n_params, n_state = nf_object_shape(o)->n_state;
    if (n != r->n_params + n_added || n_state != r->n_state)
        cli_fail(1, "the model in the data's units has %zu parameters and %zu numbers of state, not %zu and %zu", n,
                 n_state, r->n_params + n_added, r->n_state);
    double *numbers = cli_allocate(n + n_state + 1, sizeof *numbers);
    memcpy(numbers, r->theta, r->n_params * sizeof *numbers);
    if (n_added)
        memcpy(numbers + r->n_params, added, n_added * sizeof *numbers);
    memcpy(numbers + n, r->state, n_state * sizeof *numbers);
    nf_model *m = cli_made(nf_model_of_object(o, &(nf_model_options){.theta = numbers, .state = numbers + n}));
    char *text = note_text(d, p, r);
    cli_ok(nf_model_set_notes(m, 1, &(nf_note){DENSITY_NOTE, text}));
    cli_ok(nf_save(m, model_path));
    nf_model_free(m);
    free(text);
    free(numbers);
    free(added);
    free(whole);
}

/* ---- the command ---- */

/* What stands beside the model while the fit runs. */
typedef struct files {
    char *checkpoint, *curve;
    char *title; /* of the curve: what must be the same where the fit is resumed */
} files;

static files name_files(const fit_data *d, const plan *p)
{
    return (files){cli_text("%s.checkpoint", model_path), cli_text("%s.curve", model_path),
                   cli_text("rows %zu columns %zu context %zu seed %llu batch %zu noise %g dequantise %s weights %s",
                            d->train.n, d->dim, d->n_ctx, (unsigned long long)seed, p->batch, p->noise,
                            dequantise_list ? dequantise_list : "-", weight_column ? weight_column : "-")};
}

static train_job make_job(const fit_data *d, const plan *p, const char *description, const files *f)
{
    const bool by_matching = matching || flow_is_matched(p->sizes.family);
    if (by_matching && (p->noise > 0 || d->blur))
        cli_fail(2, "--noise and --dequantise are of maximum likelihood, not of flow matching");
    return (train_job){.description = description,
                       .data = &d->train,
                       .valid = &d->valid,
                       .weight = d->weight[0],
                       .valid_weight = d->weight[1],
                       .matching = by_matching,
                       .n_start = 1000,
                       .batch = p->batch,
                       .steps = minutes > 0 ? 0 : p->steps,
                       .minutes = minutes,
                       .validate_every = p->validate_every,
                       .patience = p->patience,
                       .warm_up = p->warm_up,
                       .rate = p->rate,
                       .clip = p->clip,
                       .average = p->average,
                       .weight_decay = p->weight_decay,
                       .noise = p->noise,
                       .blur = d->blur,
                       .seed = seed,
                       .threads = threads,
                       .checkpoint = f->checkpoint,
                       .curve = f->curve,
                       .title = f->title,
                       .resume = resume,
                       .offset = by_matching ? 0 : -d->log_scale};
}

static void report(const fit_data *d, const plan *p, const train_result *r)
{
    summarise(&(fit_outcome){.model_path = model_path,
                             .json_path = json_path,
                             .family = flow_file ? flow_file : flow_names[p->sizes.family],
                             .train = &d->train,
                             .valid = &d->valid,
                             .test = &d->test,
                             .weight = {d->weight[0], d->weight[1], d->weight[2]},
                             .result = r,
                             .baselines = !no_baselines && d->held_back,
                             .planned_steps = minutes > 0 ? 0 : p->steps,
                             .interrupted = cli_interrupted,
                             .held_back = d->held_back,
                             .test_name = d->test_name,
                             .threads = threads,
                             .seed = seed});
}

static int fit(size_t n_arguments, char **argument)
{
    (void)n_arguments;
    if (!model_path)
        cli_fail(2, "-o MODEL is missing: the file to write");
    cli_writable(model_path);
    cli_writable(json_path);
    setvbuf(stdout, NULL, _IOLBF, 0);
    const fit_request request = {.path = argument[0],
                                 .format = format,
                                 .columns = column_list,
                                 .context = context_list,
                                 .weights = weight_column,
                                 .dequantise = dequantise_list,
                                 .valid_path = valid_path,
                                 .test_path = test_path,
                                 .valid_share = valid_share,
                                 .test_share = test_share,
                                 .image = image_text,
                                 .family = (flow_family)family,
                                 .seed = seed};
    fit_data d;
    fit_data_read(&d, &request);
    const plan p = make_plan(&d);
    char *description = flow_file ? flow_description_from_file(flow_file, &p.sizes) : flow_description(&p.sizes);
    files f = name_files(&d, &p);
    const train_job job = make_job(&d, &p, description, &f);
    train_result r = {0};
    cli_catch_interrupt();
    (precision ? train : train_single)(&job, &r);
    save_model(&d, &p, description, &r);
    if (!cli_interrupted) {
        remove(f.checkpoint);
        remove(f.curve);
    }
    report(&d, &p, &r);
    learning_curve_free(&r.curve);
    free(r.theta);
    free(r.state);
    free(f.checkpoint);
    free(f.curve);
    free(f.title);
    free(description);
    fit_data_free(&d);
    return 0;
}

const cli_command fit_command = {
    .name = "fit",
    .arguments = "DATA",
    .least = 1,
    .most = 1,
    .about = "fits a density to a table of numbers",
    .text =
        "DATA is a file of csv, tsv, npy or IDX, plain or gzip, or - for csv from stdin. A row is a sample, a\n"
        "column a feature. Columns are standardised, and this is part of the model: it scores in the data's own\n"
        "units. A part of the rows validates, and the parameters that validate best are kept; another part tests.\n\n"
        "While it runs, MODEL.checkpoint and MODEL.curve are kept beside the model. After Ctrl-C, or if the fit\n"
        "was killed, the same command with --resume continues it; the result is the same, bit for bit.\n\n"
        "  nflow fit data.csv -o model\n"
        "  nflow fit data.npy --flow maf --layers 5 --width 512 --minutes 30 -o model\n"
        "  nflow fit trial.csv --context-columns dose,age -o response-given-dose",
    .options = options,
    .run = fit,
};
