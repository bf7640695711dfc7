/* nf_load: the container, the description in it and the numbers. What loads must describe itself, and compute. */
#include "fuzz.h"

enum { ROWS = 3, WIDEST = 32, MOST_PARAMETERS = 4096 };

/* Calls with a model; only that they end well is asked, since the numbers may be anything. */
static void compute(const nf_model *m)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nf_model *m = nf_load(fuzz_file(data, size), NULL);
    if (!m)
        return 0;
    fuzz_describes_itself(nf_model_object(m), NULL);
    compute(m);
    nf_model_free(m);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    fuzz_random r = {seed};
    fuzz_container c;
    const size_t how = fuzz_below(&r, 16);
    if (how == 0 || !fuzz_take_apart(data, size, &c))
        return LLVMFuzzerMutate(data, size, max_size);
    if (how < 3)
        fuzz_json(&c.header, &r);
    else if (how < 10)
        fuzz_metadata(&c, "architecture", &r);
    else
        fuzz_numbers(&c, &r);
    if (how >= 3 && how < 10 && fuzz_below(&r, 8))
        fuzz_fit_tensors(&c, &r);
    if (how != 1)
        fuzz_settle(&c, &r);
    const size_t n = fuzz_put_together(&c, data, max_size);
    return n ? n : LLVMFuzzerMutate(data, size, max_size);
}
