#include "rows.h"
#include "cli.h"
#include <stdlib.h>

size_t rows_number(const rows *r, size_t i)
{
    const nf_noise order = {.seed = r->seed};
    return r->shuffled ? nf_noise_permuted(&order, r->table->n, r->first + i) : r->first + i;
}

const char *rows_get(const rows *r, size_t i, double *record, double *x, double *ctx)
{
    const char *wrong = table_row(r->table, rows_number(r, i), record);
    for (size_t j = 0; !wrong && j < r->dim + r->n_ctx; j++) {
        double value = record[r->place[j]];
        if (r->shift)
            value = (value - r->shift[j]) / r->scale[j];
        if (j < r->dim && x)
            x[j] = value;
        else if (j >= r->dim && ctx)
            ctx[j - r->dim] = value;
    }
    return wrong;
}

void rows_block(const rows *r, size_t first, size_t n, double *x, double *ctx)
{
    double *record = cli_allocate(r->table->columns, sizeof *record);
    for (size_t i = 0; i < n; i++) {
        const char *wrong = rows_get(r, first + i, record, x ? x + i * r->dim : NULL, ctx ? ctx + i * r->n_ctx : NULL);
        if (wrong)
            cli_fail(1, "%s", wrong);
    }
    free(record);
}
