/* The numbers that a model of the golden corpus is known by: what it makes of inputs that are fixed by a formula. All
   inputs are multiples of 1/64, so that they are the same in both precisions. */
#ifndef GOLDEN_NUMBERS_H
#define GOLDEN_NUMBERS_H
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GOLDEN_ROWS = 5 };

/* Called for each row of outputs in turn. */
typedef void golden_row(void *user, size_t n, const double *row);

/* [GOLDEN_ROWS x dim], between -1.57 and 1.57 */
static inline void golden_input(size_t dim, nf_real *x)
{
    for (size_t i = 0; i < GOLDEN_ROWS; i++)
        for (size_t j = 0; j < dim; j++)
            x[i * dim + j] = (nf_real)((double)((i * 37 + j * 61 + 11) % 101) / 32 - 1.5625);
}

/* [GOLDEN_ROWS x n_ctx], between -0.75 and 0.75 */
static inline void golden_context(size_t n_ctx, nf_real *ctx)
{
    for (size_t i = 0; i < GOLDEN_ROWS; i++)
        for (size_t j = 0; j < n_ctx; j++)
            ctx[i * n_ctx + j] = (nf_real)((double)((i * 53 + j * 29 + 7) % 97) / 64 - 0.75);
}

/* Rows of `width` numbers of y, and the number of `last` behind them; NULL: none. */
static inline void golden_rows(size_t width, const nf_real *y, const double *last, golden_row *each, void *user)
{
    double *row = calloc(width + 1, sizeof *row);
    for (size_t i = 0; row && i < GOLDEN_ROWS; i++) {
        for (size_t j = 0; j < width; j++)
            row[j] = (double)y[i * width + j];
        row[width] = last ? last[i] : 0;
        each(user, width + (last != NULL), row);
    }
    free(row);
}

/* A flow: y and log-det, forward. A net: its output. A distribution: log q. A VAE: z and log q of a draw for each row
   of x; then the decoder's means. `kind` is the description's. */
static inline nf_status golden_numbers(const nf_model *m, const char *kind, golden_row *each, void *user)
{
    const nf_shape *s = nf_model_shape(m);
    const size_t widest = s->dim_in > s->dim_out ? s->dim_in : s->dim_out, most = widest + s->n_ctx + 1;
    nf_real *x = calloc(4 * GOLDEN_ROWS * most, sizeof *x), *y = x + GOLDEN_ROWS * most, *ctx = y + GOLDEN_ROWS * most;
    const nf_real *given = s->n_ctx ? ctx : NULL;
    double last[GOLDEN_ROWS] = {0};
    if (!x)
        return nf_error(NF_ENOMEM, "golden_numbers: no memory");
    nf_status status = NF_EARG;
    golden_context(s->n_ctx, ctx);
    golden_input(strcmp(kind, "dist") == 0 ? s->dim_out : s->dim_in, x);
    if (strcmp(kind, "flow") == 0) {
        status = nf_transform(m, NULL, NULL, NF_FORWARD, GOLDEN_ROWS, x, given, y, last);
        golden_rows(s->dim_out, y, last, each, user);
    } else if (strcmp(kind, "net") == 0) {
        status = nf_evaluate(m, NULL, NULL, GOLDEN_ROWS, x, given, y);
        golden_rows(s->dim_out, y, NULL, each, user);
    } else if (strcmp(kind, "dist") == 0) {
        status = nf_log_prob(m, NULL, s->flags & NF_STOCHASTIC ? &(nf_noise){.seed = 2385} : NULL, GOLDEN_ROWS, x,
                             given, last);
        golden_rows(0, NULL, last, each, user);
    } else if (strcmp(kind, "vae") == 0) {
        status = nf_vae_encode(m, NULL, &(nf_noise){.seed = 2385}, GOLDEN_ROWS, x, y, last);
        golden_rows(s->dim_out, y, last, each, user);
        golden_input(s->dim_out, x);
        if (status == NF_OK)
            status = nf_vae_decode(m, NULL, NULL, GOLDEN_ROWS, x, y);
        golden_rows(s->dim_in, y, NULL, each, user);
    }
    free(x);
    return status;
}

/* The kind in the description of an object; "" if there is none. */
static inline const char *golden_kind(const nf_object *o)
{
    static const char *const kinds[] = {"net", "flow", "dist", "vae"};
    const char *kind = "";
    char *text = nf_describe(o), member[32];
    for (size_t k = 0; text && k < sizeof kinds / sizeof *kinds; k++) {
        snprintf(member, sizeof member, "{\n  \"kind\": \"%s\"", kinds[k]);
        kind = strncmp(text, member, strlen(member)) == 0 ? kinds[k] : kind;
    }
    nf_text_free(text);
    return kind;
}

#endif
