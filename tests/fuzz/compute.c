#include "fuzz.h"

enum { ROWS = 3, WIDEST = 32, MOST_PARAMETERS = 4096 };

void fuzz_compute(const nf_model *m)
{
    static nf_workspace *ws;
    const nf_shape *s = nf_model_shape(m);
    if (s->dim_in > WIDEST || s->dim_out > WIDEST || s->n_ctx > WIDEST || s->n_params > MOST_PARAMETERS)
        return;
    if (!ws)
        ws = nf_workspace_new(1);
    nf_real x[ROWS * WIDEST], y[ROWS * WIDEST], ctx[ROWS * WIDEST];
    double last[ROWS];
    for (size_t i = 0; i < ROWS * WIDEST; i++) {
        x[i] = (nf_real)((double)(i * 37 % 101) / 32 - 1.5625);
        ctx[i] = (nf_real)((double)(i * 53 % 97) / 64 - 0.75);
    }
    const nf_noise noise = {.seed = 2385};
    nf_status status[] = {nf_transform(m, ws, &noise, NF_FORWARD, ROWS, x, ctx, y, last),
                          nf_transform(m, ws, &noise, NF_INVERSE, ROWS, x, ctx, y, last),
                          nf_log_prob(m, ws, &noise, ROWS, x, ctx, last), nf_sample(m, ws, &noise, ROWS, ctx, y, last),
                          nf_evaluate(m, ws, &noise, ROWS, x, ctx, y)};
    for (size_t i = 0; i < sizeof status / sizeof *status; i++)
        FUZZ_MUST(status[i] == NF_OK || nf_error_message()[0], "a failure without a message");
}
