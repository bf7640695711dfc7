#include "vi_reference.h"
#include "cli.h"
#include "vi_files.h"
#include <stdlib.h>
#include <string.h>

/* theta[1,2] becomes theta.1.2. */
static void rename_column(char *name)
{
    char *to = name;
    for (const char *c = name; *c; c++)
        if (*c != ']')
            *to++ = *c == '[' || *c == ',' ? '.' : *c;
    *to = 0;
}

void vi_reference_read(vi_reference *ref, const char *path, const nf_target *t)
{
    *ref = (vi_reference){.n = 0};
    cli_ok(nf_load_csv(path, &(nf_csv_options){.comment = '#'}, &ref->table));
    nf_table *table = &ref->table;
    for (size_t j = 0; table->name && j < table->dim; j++)
        rename_column(table->name[j]);
    for (size_t k = 0; k < nf_target_n_outputs(t) && ref->n < OVERLAY_COLUMNS; k++)
        for (size_t j = 0; table->name && j < table->dim; j++)
            if (strcmp(table->name[j], nf_target_output_name(t, k)) == 0) {
                ref->output[ref->n] = k;
                ref->column[ref->n++] = j;
                break;
            }
    if (ref->n == 0 || table->n == 0)
        cli_fail(1, "%s: --reference needs rows, and a column of the name of an output, such as %s", path,
                 nf_target_output_name(t, 0));
}

void vi_reference_free(vi_reference *ref)
{
    nf_table_free(&ref->table);
    *ref = (vi_reference){.n = 0};
}

/* The columns of rows [n x dim], [n x n_columns], to be released by free(). */
static double *new_columns(size_t n, size_t dim, const double *x, size_t n_columns, const size_t *column)
{
    double *y = cli_allocate(n, n_columns * sizeof *y);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n_columns; j++)
            y[i * n_columns + j] = x[i * dim + column[j]];
    return y;
}

void vi_reference_plot(const char *path, const vi_reference *ref, const char *source, const nf_target *t,
                       const nf_vi_result *r, const elbo_trace *trace)
{
    const nf_quality *q = &r->quality;
    const size_t n = ref->n;
    const char *name[OVERLAY_COLUMNS];
    static const size_t same[OVERLAY_COLUMNS] = {0};
    vi_draws w;
    vi_draws_make(&w, t, r, q->verdict != NF_TRUST ? r->draws.n : 0, 1);
    for (size_t j = 0; j < n; j++)
        name[j] = nf_target_output_name(t, ref->output[j]);
    double *x = new_columns(w.draws.n, w.draws.n_outputs, w.values, n, ref->output);
    double *y = new_columns(ref->table.n, ref->table.dim, ref->table.data, n, ref->column);
    const shown draws = {w.draws.n, n, x}, reference = {ref->table.n, n, y};
    const char *file = strrchr(source, '/');
    char *note = cli_text("verdict: %s", nf_verdict_text(q->verdict));
    if (n > 1)
        overlay_plot(path, &(overlay){.title = file ? file + 1 : source,
                                      .note = {r->rung[r->best].name, note},
                                      .n = n,
                                      .name = name,
                                      .reference = reference,
                                      .draws = draws,
                                      .trace = trace,
                                      .result = r});
    else
        pairs_plot(path, 1, same, name, &reference, &draws);
    free(note);
    free(x);
    free(y);
    vi_draws_free(&w);
}
