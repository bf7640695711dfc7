#include "rows.h"
#include "cli.h"
#include <stdlib.h>

size_t rows_number(const rows *r, size_t i)
{
    const nf_noise order = {.seed = r->seed};
    return r->shuffled ? nf_noise_permuted(&order, r->table->n, r->first + i) : r->first + i;
}

/* The table's columns of one row, in the model's order and units. */
static void convert(const rows *r, const double *record, double *x, double *ctx)
{
    for (size_t j = 0; j < r->dim + r->n_ctx; j++) {
        double value = record[r->place[j]];
        if (r->shift)
            value = (value - r->shift[j]) / r->scale[j];
        if (j < r->dim && x)
            x[j] = value;
        else if (j >= r->dim && ctx)
            ctx[j - r->dim] = value;
    }
}

/* n <= ROWS_BLOCK rows of the table, i as in rows_read(). */
static const char *read_block(const rows *r, size_t n, const size_t *i, size_t first, double *record)
{
    size_t number[ROWS_BLOCK];
    for (size_t k = 0; k < n; k++)
        number[k] = rows_number(r, i ? i[k] : first + k);
    return table_rows(r->table, n, number, record);
}

const char *rows_read(const rows *r, size_t count, const size_t *i, size_t first, double *x, double *ctx)
{
    const size_t columns = r->table->columns, most = count < ROWS_BLOCK ? count : ROWS_BLOCK;
    double *record = cli_allocate(most * columns, sizeof *record);
    const char *wrong = NULL;
    for (size_t done = 0; done < count && !wrong; done += most) {
        const size_t n = count - done < most ? count - done : most;
        wrong = read_block(r, n, i ? i + done : NULL, first + done, record);
        for (size_t k = 0; k < n && !wrong; k++)
            convert(r, record + k * columns, x ? x + (done + k) * r->dim : NULL,
                    ctx ? ctx + (done + k) * r->n_ctx : NULL);
    }
    free(record);
    return wrong;
}

void rows_must_read(const rows *r, size_t first, size_t n, double *x, double *ctx)
{
    const char *wrong = rows_read(r, n, NULL, first, x, ctx);
    if (wrong)
        cli_fail(1, "%s", wrong);
}

size_t rows_records(const rows *r, size_t first, double *record)
{
    const size_t n = r->n - first < ROWS_BLOCK ? r->n - first : ROWS_BLOCK;
    const char *wrong = read_block(r, n, NULL, first, record);
    if (wrong)
        cli_fail(1, "%s", wrong);
    return n;
}
