/* nflow plot: pictures of a density, of data beside its draws, and of how it was learnt. */
#include "commands.h"
#include "density.h"
#include "learning_curve.h"
#include "picture.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 6 /* of a pair plot */ };
static const char *output, *format, *context_text, *column_list;
static size_t n_draws = 2000, threads;
static uint64_t seed = 1;
static bool curve, pairs;
static const cli_option options[] = {
    {"output", "FILE", "the picture (.png or .svg; required)", .text = &output, .letter = 'o'},
    {"curve", NULL, "the learning curve, in place of the density", .flag = &curve},
    {"pairs", NULL, "data beside draws, two columns at a time; always so with more than two columns", .flag = &pairs},
    {"columns", "LIST", "of the pair plot; by default the first six", .text = &column_list},
    {"context", "NAME=VALUE,...", "the context of a conditional density", .text = &context_text},
    {"draws", "N", "how many draws, and at most how many rows of DATA, are shown", .size = &n_draws, .min = 1,
     .max = 1e6, .letter = 'n'},
    {"format", "csv|npy|idx", "DATA's format, in place of its name's end", .text = &format},
    {"seed", "S", "of the draws", .seed = &seed},
    {"threads", "N", "0: as many as there are", .size = &threads, .max = 1024},
    {0},
};

/* ---- what is shown ---- */

/* Draws [n x dim]. With data, each draw has the context of a row. */
static double *new_draws(const density *d, size_t n, const double *ctx)
{
    double *x = cli_allocate(n, d->dim * sizeof *x);
    cli_ok(nf_sample(d->m, d->ws, &(nf_noise){.seed = seed}, n, ctx, x, NULL));
    return x;
}

/* The learning curve that the model's note has. */
static void draw_curve(const density *d)
{
    const json_t *list = json_object_get(d->note, "curve");
    learning_curve c = {0};
    if (json_array_size(list) < 2)
        cli_fail(1, "%s: the model has no learning curve of two points or more", d->path);
    c.n = json_array_size(list);
    c.point = cli_allocate(c.n, sizeof *c.point);
    for (size_t i = 0; i < c.n; i++) {
        const json_t *p = json_array_get(list, i);
        c.point[i] = (learning_point){.step = (uint64_t)json_integer_value(json_array_get(p, 0)),
                                      .training = json_number_value(json_array_get(p, 1)),
                                      .validation = json_number_value(json_array_get(p, 2))};
    }
    learning_curve_draw(&c, output, "log-likelihood of a row, nats");
    learning_curve_free(&c);
}

/* The columns of the pair plot. */
static size_t choose_columns(const density *d, size_t *column)
{
    size_t n = d->dim < MOST_COLUMNS ? d->dim : MOST_COLUMNS;
    for (size_t j = 0; j < n; j++)
        column[j] = j;
    if (!column_list)
        return n;
    const table names = {.path = d->path, .columns = d->dim, .name = d->name, .has_names = true};
    size_t *list = table_columns(&names, column_list, &n);
    if (n > MOST_COLUMNS)
        cli_fail(2, "--columns names %zu columns, but a picture has room for %d", n, MOST_COLUMNS);
    memcpy(column, list, n * sizeof *list);
    free(list);
    return n;
}

static int plot(size_t n_arguments, char **argument)
{
    if (!output)
        cli_fail(2, "-o FILE is missing: the picture to write");
    density d;
    table t = {0};
    density_load(&d, argument[0], threads);
    if (curve) {
        draw_curve(&d);
        density_free(&d);
        return 0;
    }
    shown data = {.dim = d.dim}, draws = {.n = n_draws, .dim = d.dim};
    double *ctx = d.n_ctx ? cli_allocate(n_draws, d.n_ctx * sizeof *ctx) : NULL, *rows_x = NULL;
    size_t *place = NULL;
    if (n_arguments > 1) {
        table_read(&t, argument[1], format);
        place = density_columns(&d, &t);
        const rows r = {
            .table = &t, .n = t.n, .dim = d.dim, .n_ctx = d.n_ctx, .place = place, .shuffled = true, .seed = seed};
        data.n = t.n < n_draws ? t.n : n_draws;
        data.x = rows_x = cli_allocate(data.n, d.dim * sizeof *rows_x);
        rows_must_read(&r, 0, data.n, rows_x, ctx);
        if (ctx && !context_text)
            draws.n = data.n; /* each draw has the context of a row */
    }
    if (ctx && !context_text && !data.n)
        cli_fail(2, "the model is conditional on %zu columns (%s ...): give --context or DATA", d.n_ctx, d.name[d.dim]);
    for (size_t i = 0; ctx && context_text && i < n_draws; i++)
        density_context(&d, context_text, ctx + i * d.n_ctx);
    double *x = new_draws(&d, draws.n, ctx);
    draws.x = x;
    const bool surface = d.dim <= 2 && !pairs && (!d.n_ctx || context_text);
    if (json_object_get(d.note, "image")) {
        picture_images(&d, output, &draws);
    } else if (surface && d.dim == 1) {
        picture_line(&d, output, ctx, &data, &draws);
    } else if (surface) {
        picture_surface(&d, output, ctx, &data, &draws);
    } else {
        size_t column[MOST_COLUMNS];
        picture_pairs(&d, output, choose_columns(&d, column), column, &data, &draws);
    }
    free(x);
    free(rows_x);
    free(ctx);
    free(place);
    table_free(&t);
    density_free(&d);
    return 0;
}

const cli_command plot_command = {
    .name = "plot",
    .arguments = "MODEL [DATA]",
    .least = 1,
    .most = 2,
    .about = "pictures of a density, and of data beside its draws",
    .text = "One column: the density as a curve, over a histogram of the data. Two columns: the density as a surface, "
            "with the\n"
            "data as dots. More: a pair plot, in which data are blue and draws from the density orange. A model of "
            "images: a\n"
            "grid of draws. Needs gnuplot.\n\n"
            "  nflow plot model data.csv -o picture.png\n"
            "  nflow plot model --curve -o curve.svg",
    .options = options,
    .run = plot,
};
