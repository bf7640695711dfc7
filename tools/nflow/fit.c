/* nflow fit: a density of a table. */
#include "cli.h"
#include "columns.h"
#include "density.h"
#include "output.h"
#include "plan.h"
#include "summary.h"
#include "train.h"
#include "commands.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *model_path, *flow_file, *format, *column_list, *context_list, *weight_column, *dequantise_list;
static const char *valid_path, *test_path, *image_text, *json_path;
static size_t family = FLOW_AUTO, layers, width, depth, blocks, bins, batch, steps, epochs, patience, validate_every,
              threads;
static size_t base, precision;
static double valid_share = 0.1, test_share = 0.1, minutes, rate, clip, average, box;
static double dropout = NAN, noise = NAN, weight_decay = NAN;
static uint64_t seed = 1;
static bool resume, matching;

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
    {"resume", NULL, "continue the interrupted fit of the same command", .flag = &resume},
    {"precision", "single|double", "of training", .choice = &precision},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {"seed", "S", "of the split, parameters, order of rows and noise", .seed = &seed},
    {"json", "FILE", "write the report there", .text = &json_path},
    {0},
};

/* ---- which columns ---- */

/* What a fit knows of its data. */
typedef struct fit_data {
    table all, valid_table, test_table;
    size_t dim, n_ctx;
    size_t *place;           /* [dim + n_ctx] */
    double *shift, *scale;   /* [dim + n_ctx] */
    double *blur;            /* [dim], in standard units; NULL: no column is dequantised */
    double *weight;          /* [train.n], or NULL */
    double log_scale;        /* sum of log scale over x */
    rows train, valid, test; /* in standard units */
    nf_image image;
} fit_data;

static bool is_in(size_t value, size_t n, const size_t *list)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* The columns of x, in the list's order or all that have no other role, then those of the context. */
static void choose_columns(fit_data *d)
{
    const table *t = &d->all;
    size_t n_x = 0, n_ctx = 0;
    size_t *ctx = context_list ? table_columns(t, context_list, &n_ctx) : NULL;
    size_t *x = column_list ? table_columns(t, column_list, &n_x) : cli_allocate(t->columns, sizeof *x);
    const size_t weights = weight_column ? table_column(t, weight_column) : t->columns;
    for (size_t j = 0; !column_list && j < t->columns; j++)
        if (j != weights && !is_in(j, n_ctx, ctx))
            x[n_x++] = j;
    for (size_t j = 0; j < n_x; j++)
        if (x[j] == weights || is_in(x[j], n_ctx, ctx))
            cli_fail(1, "column %s has two roles", t->name[x[j]]);
    if (is_in(weights, n_ctx, ctx))
        cli_fail(1, "column %s has two roles", t->name[weights]);
    if (n_x == 0)
        cli_fail(1, "no column is left for the density");
    d->dim = n_x;
    d->n_ctx = n_ctx;
    d->place = cli_allocate(n_x + n_ctx, sizeof *d->place);
    memcpy(d->place, x, n_x * sizeof *x);
    if (n_ctx)
        memcpy(d->place + n_x, ctx, n_ctx * sizeof *ctx);
    free(x);
    free(ctx);
}

/* ---- parts ---- */

static rows part(fit_data *d, const table *t, size_t first, size_t n, bool shuffled)
{
    return (rows){.table = t,
                  .n = n,
                  .first = first,
                  .shuffled = shuffled,
                  .seed = seed,
                  .dim = d->dim,
                  .n_ctx = d->n_ctx,
                  .place = d->place,
                  .shift = d->shift,
                  .scale = d->scale};
}

/* How many of n rows a share is: with few rows one at least, unless the share is 0. */
static size_t share_of(size_t n, double share)
{
    const size_t count = (size_t)floor(share * (double)n + 0.5);
    return share > 0 && count == 0 && n > 2 ? 1 : count;
}

static void read_part(table *t, const char *path, const fit_data *d)
{
    table_read(t, path, format);
    if (t->columns != d->all.columns)
        cli_fail(1, "%s: it has %zu columns, but %s has %zu", t->path, t->columns, d->all.path, d->all.columns);
}

/* Train, validation and test rows, in a random order. A single row, or two, serve as all three. */
static void split(fit_data *d)
{
    const size_t n = d->all.n;
    size_t n_valid = valid_path ? 0 : share_of(n, valid_share), n_test = test_path ? 0 : share_of(n, test_share);
    if (n_valid + n_test >= n)
        n_valid = n_test = 0;
    d->train = part(d, &d->all, 0, n - n_valid - n_test, true);
    d->valid = n_valid ? part(d, &d->all, n - n_valid - n_test, n_valid, true) : d->train;
    if (valid_path) {
        read_part(&d->valid_table, valid_path, d);
        d->valid = part(d, &d->valid_table, 0, d->valid_table.n, false);
    }
    d->test = n_test ? part(d, &d->all, n - n_test, n_test, true) : d->valid;
    if (test_path) {
        read_part(&d->test_table, test_path, d);
        d->test = part(d, &d->test_table, 0, d->test_table.n, false);
    }
}

static void read_weights(fit_data *d)
{
    if (!weight_column)
        return;
    const size_t place = table_column(&d->all, weight_column);
    double *record = cli_allocate(d->all.columns, sizeof *record), sum = 0;
    d->weight = cli_allocate(d->train.n, sizeof *d->weight);
    for (size_t i = 0; i < d->train.n; i++) {
        const char *wrong = table_row(&d->all, rows_number(&d->train, i), record);
        if (wrong)
            cli_fail(1, "%s", wrong);
        d->weight[i] = record[place];
        sum += record[place];
        if (record[place] < 0)
            cli_fail(1, "%s: row %zu: the weight %s is %g", d->all.path, rows_number(&d->train, i) + 1, weight_column,
                     record[place]);
    }
    if (sum <= 0)
        cli_fail(1, "%s: all weights %s are 0", d->all.path, weight_column);
    free(record);
}

/* ---- units ---- */

/* Says what is odd about the columns, and leaves out those that have no density of their own. */
static void drop_columns(fit_data *d, column *c)
{
    size_t n = 0, whole = 0;
    for (size_t j = 0; j < d->dim + d->n_ctx; j++) {
        const char *name = d->all.name[c[j].place];
        const bool is_x = j < d->dim;
        const bool copy = is_x && c[j].copy_of != j;
        if (c[j].constant)
            printf("Column %s is %g in all rows: %s.\n", name, c[j].mean, is_x ? "left out" : "it tells nothing");
        else if (copy)
            printf("Column %s equals column %s: left out.\n", name, d->all.name[c[c[j].copy_of].place]);
        whole += is_x && c[j].whole && !d->blur;
        if ((is_x && c[j].constant && !d->image.channels) || copy)
            continue;
        c[n] = c[j];
        d->place[n++] = c[j].place;
    }
    const size_t left_out = d->dim + d->n_ctx - n;
    if (left_out == d->dim)
        cli_fail(1, "%s: all columns are constant or equal: there is no density to fit", d->all.path);
    d->dim -= left_out;
    if (whole && !dequantise_list) {
        printf("%zu column%s whole numbers alone (", whole, whole == 1 ? " has" : "s have");
        for (size_t j = 0, shown = 0; j < d->dim && shown < 4; j++)
            if (c[j].whole)
                printf("%s%s", shown++ ? ", " : "", d->all.name[c[j].place]);
        printf("%s): their density has peaks without end; --dequantise spreads them.\n", whole > 4 ? " ..." : "");
    }
}

static void find_units(fit_data *d, const column *c)
{
    for (size_t j = 0; j < d->dim + d->n_ctx; j++) {
        d->shift[j] = c[j].mean;
        d->scale[j] = c[j].constant ? 1 : c[j].sd;
    }
    if (d->image.channels) /* all pixels of a channel have one unit */
        for (size_t k = 0, pixels = d->dim / d->image.channels; k < d->image.channels; k++) {
            double mean = 0, square = 0;
            for (size_t i = k * pixels; i < (k + 1) * pixels; i++) {
                mean += c[i].mean / (double)pixels;
                square += (c[i].sd * c[i].sd + c[i].mean * c[i].mean) / (double)pixels;
            }
            for (size_t i = k * pixels; i < (k + 1) * pixels; i++) {
                d->shift[i] = mean;
                d->scale[i] = square > mean * mean ? sqrt(square - mean * mean) : 1;
            }
        }
    d->log_scale = 0;
    for (size_t j = 0; j < d->dim; j++)
        d->log_scale += log(d->scale[j]);
}

static void find_blur(fit_data *d)
{
    if (!dequantise_list)
        return;
    size_t n = d->dim;
    const bool all = strcmp(dequantise_list, "all") == 0;
    size_t *list = all ? NULL : table_columns(&d->all, dequantise_list, &n);
    d->blur = cli_allocate(d->dim, sizeof *d->blur);
    for (size_t j = 0; j < d->dim; j++)
        if (all || is_in(d->place[j], n, list))
            d->blur[j] = 1 / d->scale[j];
    free(list);
}

static void read_image(fit_data *d)
{
    if (!image_text) {
        if (flow_is_of_images((flow_family)family))
            cli_fail(2, "--flow %s needs --image CxHxW", flow_names[family]);
        return;
    }
    char end;
    if (sscanf(image_text, "%zux%zux%zu%c", &d->image.channels, &d->image.height, &d->image.width, &end) != 3)
        cli_fail(2, "--image must be CxHxW, such as 1x28x28, not '%s'", image_text);
    if (d->image.channels * d->image.height * d->image.width != d->dim)
        cli_fail(1, "%s: %zu columns are no images of %s", d->all.path, d->dim, image_text);
}

static void read_data(fit_data *d, const char *path)
{
    table_read(&d->all, path, format);
    choose_columns(d);
    read_image(d);
    split(d);
    column *c = cli_allocate(d->dim + d->n_ctx, sizeof *c);
    survey_columns(&d->train, d->dim + d->n_ctx, d->place, c);
    drop_columns(d, c);
    d->shift = cli_allocate(d->dim + d->n_ctx, sizeof *d->shift);
    d->scale = cli_allocate(d->dim + d->n_ctx, sizeof *d->scale);
    find_units(d, c);
    find_blur(d);
    free(c);
    rows *parts[] = {&d->train, &d->valid, &d->test};
    for (size_t k = 0; k < 3; k++) {
        parts[k]->dim = d->dim;
        parts[k]->shift = d->shift;
        parts[k]->scale = d->scale;
    }
    read_weights(d);
    printf("%zu rows: %zu to train, %zu to validate, %zu to test; %zu column%s", d->all.n, d->train.n, d->valid.n,
           d->test.n, d->dim, d->dim == 1 ? "" : "s");
    if (d->n_ctx)
        printf(" given %zu", d->n_ctx);
    puts(".");
}

static void free_data(fit_data *d)
{
    free(d->place);
    free(d->shift);
    free(d->scale);
    free(d->blur);
    free(d->weight);
    table_free(&d->all);
    table_free(&d->valid_table);
    table_free(&d->test_table);
}

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
        plan_complete(&sized, d->train.n);
        p.steps = epochs * ((d->train.n + sized.batch - 1) / sized.batch);
    }
    plan_complete(&p, d->train.n);
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
        "{s:o, s:o, s:o, s:I, s:o, s:s, s:I, s:I, s:f, s:o}", "columns", strings(&d->all, d->dim, d->place), "context",
        strings(&d->all, d->n_ctx, d->place + d->dim), "places", places, "file_columns", (json_int_t)d->all.columns,
        "deviations", deviations, "family", flow_file ? "described" : flow_names[p->sizes.family], "rows",
        (json_int_t)d->train.n, "steps", (json_int_t)r->report.steps, "seconds", r->report.seconds, "curve", curve);
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

static int fit(size_t n_arguments, char **argument)
{
    (void)n_arguments;
    if (!model_path)
        cli_fail(2, "-o MODEL is missing: the file to write");
    cli_writable(model_path);
    cli_writable(json_path);
    setvbuf(stdout, NULL, _IOLBF, 0);
    fit_data d = {0};
    read_data(&d, argument[0]);
    plan p = make_plan(&d);
    char *description = flow_file ? flow_description_from_file(flow_file, &p.sizes) : flow_description(&p.sizes);
    char *checkpoint = cli_text("%s.checkpoint", model_path), *curve = cli_text("%s.curve", model_path);
    const train_job job = {.description = description,
                           .data = &d.train,
                           .valid = &d.valid,
                           .weight = d.weight,
                           .matching = matching || flow_is_matched(p.sizes.family),
                           .n_start = 1000,
                           .batch = p.batch,
                           .steps = minutes > 0 ? 0 : p.steps,
                           .minutes = minutes,
                           .validate_every = p.validate_every,
                           .patience = p.patience,
                           .warm_up = p.warm_up,
                           .rate = p.rate,
                           .clip = p.clip,
                           .average = p.average,
                           .weight_decay = p.weight_decay,
                           .noise = p.noise,
                           .blur = d.blur,
                           .seed = seed,
                           .threads = threads,
                           .checkpoint = checkpoint,
                           .curve = curve,
                           .resume = resume,
                           .offset = matching || flow_is_matched(p.sizes.family) ? 0 : -d.log_scale};
    cli_catch_interrupt();
    train_result r = {0};
    (precision ? train : train_single)(&job, &r);
    save_model(&d, &p, description, &r);
    if (!cli_interrupted) {
        remove(checkpoint);
        remove(curve);
    }
    summarise(&(fit_outcome){.model_path = model_path,
                             .json_path = json_path,
                             .family = flow_file ? flow_file : flow_names[p.sizes.family],
                             .train = &d.train,
                             .valid = &d.valid,
                             .test = &d.test,
                             .weight = d.weight,
                             .result = &r,
                             .planned_steps = job.steps,
                             .interrupted = cli_interrupted,
                             .threads = threads,
                             .seed = seed});
    learning_curve_free(&r.curve);
    free(r.theta);
    free(r.state);
    free(checkpoint);
    free(curve);
    free(description);
    free_data(&d);
    return 0;
}

const cli_command fit_command = {
    .name = "fit",
    .arguments = "DATA",
    .least = 1,
    .most = 1,
    .about = "fits a density to a table of numbers",
    .text =
        "DATA is a file of csv, tsv, npy or IDX, plain or gzip, or - for csv from stdin. A row is a sample, a column "
        "a\n"
        "feature. Columns are standardised, and this is part of the model: it scores in the data's own units. A part "
        "of\n"
        "the rows validates, and the parameters that validate best are kept; another part tests.\n\n"
        "While it runs, MODEL.checkpoint and MODEL.curve are kept beside the model. After Ctrl-C, or if the fit was\n"
        "killed, the same command with --resume continues it; the result is the same, bit for bit.\n\n"
        "  nflow fit data.csv -o model\n"
        "  nflow fit data.npy --flow maf --layers 5 --width 512 --minutes 30 -o model\n"
        "  nflow fit trial.csv --context-columns dose,age -o response-given-dose",
    .options = options,
    .run = fit,
};
