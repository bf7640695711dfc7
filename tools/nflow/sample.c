/* nflow sample: draws from a density. */
#include "commands.h"
#include "density.h"
#include "write.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096 };
static const char *output = "-", *context_text, *context_path, *format;
static size_t n_draws, threads;
static uint64_t seed = 1;
static bool with_density;
static const cli_option options[] = {
    {"draws", "N", "how many, with --context-data for each of its rows; 0: 1000, or there 1", .size = &n_draws,
     .max = 1e12, .letter = 'n'},
    {"output", "FILE", "the table of draws (.csv or .npy, - for csv on stdout)", .text = &output, .letter = 'o'},
    {"context", "NAME=VALUE,...", "the context of all draws", .text = &context_text},
    {"context-data", "FILE", "a table with a context a row", .text = &context_path},
    {"format", "csv|npy|idx", "that table's format, in place of its name's end", .text = &format},
    {"log-density", NULL, "add a column with the log-density of each draw", .flag = &with_density},
    {"seed", "S", "of the draws", .seed = &seed},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {0},
};

/* ---- contexts ---- */

/* Where a table has the contexts: by name, or in the model's order. */
static size_t *context_columns(const density *d, const table *t)
{
    size_t *place = cli_allocate(d->n_ctx, sizeof *place);
    if (table_places(t, d->n_ctx, d->name + d->dim, place))
        return place;
    if (t->columns != d->n_ctx)
        cli_fail(1, "%s: it has %zu columns and not all names of the model's %zu contexts (%s ...)", t->path,
                 t->columns, d->n_ctx, d->name[d->dim]);
    for (size_t j = 0; j < d->n_ctx; j++)
        place[j] = j;
    return place;
}

/* ---- draws ---- */

/* Draws number first .. first + n - 1, each with its log-density behind if that is wanted. */
static void draw(const density *d, size_t first, size_t n, const double *ctx, double *x, double *log_q, writer *w)
{
    cli_ok(nf_sample(d->m, d->ws, &(nf_noise){.seed = seed, .first_sample = first}, n, ctx, x,
                     with_density ? log_q : NULL));
    if (!with_density) {
        writer_rows(w, n, x);
        return;
    }
    double *row = cli_allocate(d->dim + 1, sizeof *row);
    for (size_t i = 0; i < n; i++) {
        memcpy(row, x + i * d->dim, d->dim * sizeof *row);
        row[d->dim] = log_q[i];
        writer_rows(w, 1, row);
    }
    free(row);
}

static int sample(size_t n_arguments, char **argument)
{
    (void)n_arguments;
    density d;
    table t = {0};
    density_load(&d, argument[0], threads);
    if ((context_text || context_path) && !d.n_ctx)
        cli_fail(1, "%s: the model has no context", argument[0]);
    if (d.n_ctx && !context_text == !context_path)
        cli_fail(2, "the model is conditional on %zu columns (%s ...): give either --context or --context-data",
                 d.n_ctx, d.name[d.dim]);
    double *one = cli_allocate(d.n_ctx + 1, sizeof *one);
    size_t *place = NULL, each = n_draws ? n_draws : context_path ? 1 : 1000, all = each;
    if (context_text)
        density_context(&d, context_text, one);
    if (context_path) {
        table_read(&t, context_path, format);
        place = context_columns(&d, &t);
        all = t.n * each;
    }
    const rows contexts = {.table = &t, .n = t.n, .n_ctx = d.n_ctx, .place = place};
    char **names = cli_allocate(d.dim + 1, sizeof *names);
    memcpy(names, d.name, d.dim * sizeof *names);
    names[d.dim] = "log_density";
    writer *w = writer_open(output, all, d.dim + with_density, names);
    double *x = cli_allocate(BLOCK, d.dim * sizeof *x), *ctx = cli_allocate(BLOCK, (d.n_ctx + 1) * sizeof *ctx),
           *log_q = cli_allocate(BLOCK, sizeof *log_q);
    for (size_t first = 0; first < all; first += BLOCK) {
        const size_t n = all - first < BLOCK ? all - first : BLOCK;
        for (size_t i = 0; i < n && d.n_ctx; i++) {
            if (context_path)
                rows_must_read(&contexts, (first + i) / each, 1, NULL, ctx + i * d.n_ctx);
            else
                memcpy(ctx + i * d.n_ctx, one, d.n_ctx * sizeof *one);
        }
        draw(&d, first, n, d.n_ctx ? ctx : NULL, x, log_q, w);
        cli_progress("sample", (double)(first + n), (double)all, "%zu draws", first + n);
    }
    writer_close(w);
    free(x);
    free(ctx);
    free(log_q);
    free(names);
    free(one);
    free(place);
    table_free(&t);
    density_free(&d);
    return 0;
}

const cli_command sample_command = {
    .name = "sample",
    .arguments = "MODEL",
    .least = 1,
    .most = 1,
    .about = "draws from a density",
    .text = "Draws have the columns of the density, under the names that the data had. Draw number i is a function of "
            "the seed\n"
            "and i alone.\n\n"
            "  nflow sample model -n 10000 -o draws.npy\n"
            "  nflow sample response-given-dose -n 100 --context dose=2.5,age=40",
    .options = options,
    .run = sample,
};
