/*
 * A conditional density p(y | x): a spline flow of one feature, y, whose nets read the others.
 *
 * Linear regression says what y is on average and supposes that it scatters about that everywhere alike. The flow
 * learns the whole density of y for each x: its width, its skewness, and how many peaks it has. Both are judged by the
 * log-likelihood of test rows, and the flow's quantiles by how many rows are below them. Of a law of which everything
 * is known (common/conditional_law.h) the best possible log-likelihood is known as well.
 */
#include "cli.h"
#include "estimate.h"
#include "output.h"
#include "common/conditional_law.h"
#include "common/gaussian.h"
#include "common/panels.h"
#include "common/regression_rows.h"
#include "common/validated_fit.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL = 300, DOTS = 1500, FAN = 120 };

static const char *data_name = "law", *json_path, *png_path;
static size_t target, n_rows = 20000, steps = 3000, batch = 250, layers = 2, width = 64, bins = 12, threads;
static double rate = 0.002;
static uint64_t seed = 1;
static bool is_law;
static const cli_option options[] = {
    {"data", "law|gas|protein|FILE", "a known law; $NFLOW_DATA/uci's gas turbines or proteins; rows in npy or npy.xz",
     .text = &data_name},
    {"target", "N", "the column that is y, from 1; 0: the last one. The others are x", .size = &target, .max = 1024},
    {"rows", "N", "of the law, for training", .size = &n_rows, .min = 100, .max = 1e7},
    {"steps", "N", "of training", .size = &steps, .min = 1, .max = 1e8},
    {"batch", "N", "rows a step", .size = &batch, .min = 1, .max = 1e6},
    {"rate", "R", "Adam's, which falls to 0 along a cosine", .number = &rate, .min = 1e-9, .max = 1},
    {"layers", "N", "splines", .size = &layers, .min = 1, .max = 100},
    {"width", "N", "units of the nets' two hidden layers", .size = &width, .min = 1, .max = 1e4},
    {"bins", "N", "pieces of a spline", .size = &bins, .min = 2, .max = 1000},
    {"seed", "S", "of parameters, rows and their split", .seed = &seed},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {"json", "FILE", "write the results there", .text = &json_path},
    {"plot", "FILE", "draw p(y | x) there (PNG; needs gnuplot)", .text = &png_path},
    {0},
};

static regression_rows rows;

/* ---- the flow ---- */

/* From the base on: splines, then a shift and a scaling; nets compute all of them from x. */
static nf_model *new_model(void)
{
    const size_t hidden[] = {width, width};
    nf_recipe_options splines = {.n_ctx = rows.n_x,
                                 .n_layers = layers,
                                 .hidden = hidden,
                                 .n_hidden = 2,
                                 .n_blocks = NF_NONE,
                                 .mixing = NF_MIX_NONE,
                                 .spline = &(nf_spline_options){.bins = bins, .box = 4},
                                 .seed = seed},
                      scaling = splines;
    scaling.n_layers = 1;
    scaling.spline = NULL;
    nf_flow *flow = nf_chain((nf_flow *[]){nf_nsf_autoregressive(1, &splines), nf_maf(1, &scaling)}, 2);
    return cli_made(nf_model_of_dist(nf_pushforward(nf_normal(1), flow), &(nf_model_options){.seed = seed}));
}

static void fit(nf_model *m)
{
    const nf_data data[] = {{.n = rows.train.n, .dim = 1, .x = rows.train.y, .n_ctx = rows.n_x, .ctx = rows.train.x},
                            {.n = rows.valid.n, .dim = 1, .x = rows.valid.y, .n_ctx = rows.n_x, .ctx = rows.valid.x}};
    validated_fit(
        "conditional", m, &data[0], &data[1], batch,
        &(nf_fit_options){
            .steps = steps, .seed = seed, .threads = threads, .rate = rate, .validate_every = steps / 20 + 1});
}

/* ---- how good it is ---- */

static void report(js_file *j, const char *name, const char *text, estimate e)
{
    printf("%-52s %9.4f +- %.4f\n", text, e.mean, e.se);
    js_begin(j, name, '{');
    js_number(j, "mean", e.mean);
    js_number(j, "se", e.se);
    js_end(j);
}

static void judge_likelihood(js_file *j, const nf_model *m)
{
    const size_t dim = rows.n_x + 1;
    gaussian g = gaussian_fit(data_name, rows.train.n, dim, rows.train.raw);
    double *log_q = cli_allocate(rows.test.n, sizeof *log_q), *other = cli_allocate(rows.test.n, sizeof *other);
    cli_ok(nf_log_prob(m, NULL, NULL, rows.test.n, rows.test.y, rows.test.x, log_q));
    for (size_t i = 0; i < rows.test.n; i++) {
        log_q[i] -= log(rows.scale[rows.n_x]); /* in y's own units */
        other[i] = gaussian_log_p(&g, rows.n_x, rows.test.raw + i * dim);
    }
    report(j, "flow", "log-likelihood of a test row: flow", mean_of(rows.test.n, log_q));
    report(j, "regression", "linear regression", mean_of(rows.test.n, other));
    for (size_t i = 0; i < rows.test.n; i++)
        other[i] = log_q[i] - other[i];
    report(j, "gain", "flow - regression", mean_of(rows.test.n, other));
    if (is_law) {
        for (size_t i = 0; i < rows.test.n; i++)
            other[i] = conditional_law_log_p(rows.test.raw[2 * i], rows.test.raw[2 * i + 1]);
        report(j, "exact", "the law itself", mean_of(rows.test.n, other));
        for (size_t i = 0; i < rows.test.n; i++)
            other[i] -= log_q[i];
        report(j, "kl", "the law - flow", mean_of(rows.test.n, other));
        const double entropy = conditional_law_entropy();
        printf("%-52s %9.4f\n", "entropy of the law", entropy);
        js_number(j, "entropy", entropy);
    }
    gaussian_free(&g);
    free(log_q);
    free(other);
}

/* How many test rows are below the flow's quantiles. The base's normal number of y, and so the share of p(y | x) below
   y, rises with y. Rows are told apart by the first column of x, since errors here and there might cancel. */
static void judge_quantiles(js_file *j, const nf_model *m)
{
    static const double share[] = {0.05, 0.25, 0.5, 0.75, 0.95};
    static const char *const where[] = {"low", "high"};
    double *z = cli_allocate(rows.test.n, sizeof *z), *below = cli_allocate(rows.test.n, sizeof *below);
    cli_ok(nf_transform(m, NULL, NULL, NF_INVERSE, rows.test.n, rows.test.y, rows.test.x, z, NULL));
    js_begin(j, "quantiles", '[');
    for (size_t half = 0; half < 2; half++)
        for (size_t k = 0; k < sizeof share / sizeof *share; k++) {
            size_t n = 0;
            for (size_t i = 0; i < rows.test.n; i++)
                if ((rows.test.x[i * rows.n_x] >= 0) == (half == 1))
                    below[n++] = 0.5 * erfc(-z[i] * sqrt(0.5)) < share[k];
            char text[64];
            snprintf(text, sizeof text, "rows below the %2.0f %% quantile, first column %s", 100 * share[k],
                     where[half]);
            js_begin(j, NULL, '{');
            js_number(j, "quantile", share[k]);
            js_text(j, "first_column", where[half]);
            report(j, "below", text, n > 1 ? mean_of(n, below) : (estimate){NAN, NAN});
            js_end(j);
        }
    js_end(j);
    free(z);
    free(below);
}

/* ---- pictures ---- */

/* p(y | c) of the law and of the flow: c from -2 to 2 to the right, y from -4 to 4 upwards. */
static void draw_law(const nf_model *m)
{
    panels *p = panels_new(png_path, 1, 2, PANEL, 1);
    const size_t n = panels_points(p);
    const nf_real *at = panels_grid(p);
    double *log_p = cli_allocate(n, sizeof *log_p), *x = cli_allocate(n, sizeof *x), *y = cli_allocate(n, sizeof *y);
    double dots[2 * DOTS];
    for (size_t i = 0; i < n; i++) {
        log_p[i] = conditional_law_log_p(2 * at[2 * i], 4 * at[2 * i + 1]);
        x[i] = (2 * at[2 * i] - rows.shift[0]) / rows.scale[0];
        y[i] = (4 * at[2 * i + 1] - rows.shift[1]) / rows.scale[1];
    }
    for (size_t i = 0; i < 2 * DOTS; i++)
        dots[i] = rows.test.raw[i] / (i % 2 ? 4 : 2);
    panels_add(p, 0, 0, "the law, with test rows", log_p, 0, DOTS, dots);
    cli_ok(nf_log_prob(m, NULL, NULL, n, y, x, log_p));
    for (size_t i = 0; i < n; i++)
        log_p[i] -= log(rows.scale[1]);
    cli_ok(nf_sample(m, NULL, &(nf_noise){.seed = seed}, DOTS, rows.test.x, dots, NULL));
    for (size_t i = DOTS; i-- > 0;) { /* draws of y become pairs, the last one first */
        dots[2 * i + 1] = (rows.shift[1] + rows.scale[1] * dots[i]) / 4;
        dots[2 * i] = rows.test.raw[2 * i] / 2;
    }
    panels_add(p, 0, 1, "the flow, with draws", log_p, 0, DOTS, dots);
    panels_finish(p);
    free(log_p);
    free(x);
    free(y);
}

typedef struct fan_row {
    double y, quantile[5];
} fan_row;

static int by_median(const void *a, const void *b)
{
    const double x = ((const fan_row *)a)->quantile[2], y = ((const fan_row *)b)->quantile[2];
    return (x > y) - (x < y);
}

/* Some test rows in the order of their medians, with the intervals that should hold 50 % and 90 % of them. */
static void draw_fan(const nf_model *m)
{
    static const double normal_quantile[] = {-1.6448536269514722, -0.6744897501960817, 0, 0.6744897501960817,
                                             1.6448536269514722};
    const size_t n = rows.test.n < FAN ? rows.test.n : FAN;
    double z[FAN], y[FAN];
    fan_row row[FAN];
    for (size_t k = 0; k < 5; k++) {
        for (size_t i = 0; i < n; i++)
            z[i] = normal_quantile[k];
        cli_ok(nf_transform(m, NULL, NULL, NF_FORWARD, n, z, rows.test.x, y, NULL));
        for (size_t i = 0; i < n; i++) {
            row[i].quantile[k] = rows.shift[rows.n_x] + rows.scale[rows.n_x] * y[i];
            row[i].y = rows.test.raw[i * (rows.n_x + 1) + rows.n_x];
        }
    }
    qsort(row, n, sizeof *row, by_median);
    FILE *p = plot_open(png_path, 900, 420);
    fprintf(p,
            "set xlabel 'test rows, by their median'\nset ylabel 'y'\nset key top left\nset style fill solid noborder\n"
            "set xrange [-1:%zu]\n$rows << e\n",
            n);
    for (size_t i = 0; i < n; i++)
        fprintf(p, "%zu %.9g %.9g %.9g %.9g %.9g %.9g\n", i, row[i].quantile[0], row[i].quantile[1], row[i].quantile[2],
                row[i].quantile[3], row[i].quantile[4], row[i].y);
    fprintf(p, "e\nset boxwidth 1\n"
               "plot $rows using 1:2:2:6:6 with candlesticks lc rgb '#c6dbef' title '90 %%', "
               "$rows using 1:3:3:5:5 with candlesticks lc rgb '#6baed6' title '50 %%', "
               "$rows using 1:4 with lines lc rgb '#08306b' title 'median', "
               "$rows using 1:7 with points pt 7 ps 0.5 lc rgb '#d94801' title 'what it was'\n");
    plot_close(p);
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Fits the density of one column given the others.", options);
    cli_writable(json_path);
    cli_writable(png_path);
    cli_catch_interrupt();
    is_law = strcmp(data_name, "law") == 0;
    regression_rows_read(&rows, data_name, target, n_rows, seed);
    printf("%s: %zu rows to train, %zu to validate, %zu to test; y given %zu columns\n", data_name, rows.train.n,
           rows.valid.n, rows.test.n, rows.n_x);
    nf_model *m = new_model();
    fit(m);
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_text(j, "data", data_name);
    js_integer(j, "test_rows", rows.test.n);
    judge_likelihood(j, m);
    judge_quantiles(j, m);
    js_end(j);
    js_close(j);
    if (png_path)
        (is_law ? draw_law : draw_fan)(m);
    nf_model_free(m);
    regression_rows_free(&rows);
    return cli_interrupted ? 130 : 0;
}
