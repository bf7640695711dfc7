/* nflow score: log-densities of the rows of a table. */
#include "commands.h"
#include "density.h"
#include "estimate.h"
#include "output.h"
#include "write.h"
#include <math.h>
#include <stdlib.h>

static const char *output, *format, *json_path;
static size_t threads;
static uint64_t seed = 1;
static const cli_option options[] = {
    {"output", "FILE", "write a column of log-densities there (.csv or .npy, - for stdout)", .text = &output,
     .letter = 'o'},
    {"format", "csv|npy|idx", "DATA's format, in place of its name's end", .text = &format},
    {"seed", "S", "of models that draw when they score", .seed = &seed},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {"json", "FILE", "write mean, standard error and extremes there", .text = &json_path},
    {0},
};

static void report(FILE *to, size_t n, const double *log_p, const char *json)
{
    size_t least = 0, without = 0, finite = 0;
    double *of_finite = cli_allocate(n, sizeof *of_finite);
    for (size_t i = 0; i < n; i++) {
        without += isnan(log_p[i]) ? 1 : 0;
        least = log_p[i] < log_p[least] ? i : least;
        if (isfinite(log_p[i]))
            of_finite[finite++] = log_p[i];
    }
    estimate e = {NAN, NAN};
    if (finite > 0)
        e = mean_of(finite, of_finite);
    free(of_finite);
    fprintf(to, "%zu rows: log-density %.4f +- %.4f nats a row, the least %.4f in row %zu\n", n, e.mean, e.se,
            log_p[least], least + 1);
    if (finite < n)
        fprintf(to, "%zu rows have density 0 and %zu no result; the mean is without them\n", n - finite - without,
                without);
    js_file *j = js_open(json);
    js_begin(j, NULL, '{');
    js_integer(j, "rows", n);
    js_number(j, "mean", e.mean);
    js_number(j, "se", e.se);
    js_number(j, "least", log_p[least]);
    js_integer(j, "least_row", least + 1);
    js_integer(j, "zero", n - finite - without);
    js_integer(j, "no_result", without);
    js_end(j);
    js_close(j);
}

static int score(size_t n_arguments, char **argument)
{
    (void)n_arguments;
    density d;
    table t;
    density_load(&d, argument[0], threads);
    table_read(&t, argument[1], format);
    size_t *place = density_columns(&d, &t);
    const rows r = {.table = &t, .n = t.n, .dim = d.dim, .n_ctx = d.n_ctx, .place = place};
    double *log_p = cli_allocate(t.n, sizeof *log_p);
    density_score(&d, &r, seed, log_p);
    if (output) {
        writer *w = writer_open(output, t.n, 1, (char *[]){"log_density"});
        writer_rows(w, t.n, log_p);
        writer_close(w);
    }
    const bool to_stdout = output && output[0] == '-' && output[1] == 0;
    report(to_stdout ? stderr : stdout, t.n, log_p, json_path);
    free(log_p);
    free(place);
    table_free(&t);
    density_free(&d);
    return 0;
}

const cli_command score_command = {
    .name = "score",
    .arguments = "MODEL DATA",
    .least = 2,
    .most = 2,
    .about = "log-densities of the rows of a table",
    .text = "A row's log-density is in nats, in the data's own units. The model's columns are found in DATA by their "
            "names, or,\n"
            "where there are none, by their places. Columns that the model does not have are not read.",
    .options = options,
    .run = score,
};
