/* Values of the net of a model, for whole row-major batches. */
#include "model/batch.h"
#include "object/live.h"

/* What a call passes to its tiles. */
typedef struct job {
    const nf_model *m;
    const nf_noise *noise;
    const nf_real *x, *ctx;
    nf_real *y;
} job;

static nf_status net_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const job *j = user;
    const nf_shape *s = &j->m->o->total;
    nf_status status = NF_OK;
    nf_pass p = nfi_load_pass(j->m, j->noise, j->ctx, first, n, ld, memory, &status);
    const nf_real *x = nfi_load_tile(&p, first, s->dim_in, j->x, &status);
    nf_real *y = nfi_load_tile(&p, first, s->dim_out, NULL, &status);
    void *saved = NULL;
    if (status == NF_OK)
        status = nf_net_apply(j->m->o, &p, x, y, &saved);
    if (status != NF_OK)
        return status;
    const nfi_flow_of_tile io = {.n_x = s->dim_in, .x = x, .n_ctx = s->n_ctx, .n_y = s->dim_out, .y = y};
    nfi_spoil_counted(&p, memory, &io);
    nfi_unpack(n, s->dim_out, y, ld, j->y + first * s->dim_out, s->dim_out);
    return NF_OK;
}

nf_status nf_evaluate(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                      const nf_real *ctx, nf_real *y)
{
    nf_status status = nfi_check_batch("nf_evaluate", m, NFI_NET, n, x, ctx);
    if (status == NF_OK && !y)
        status = nf_error(NF_EARG, "nf_evaluate: `y` is NULL");
    if (status == NF_OK)
        status = nfi_check_noise("nf_evaluate", m->o, noise);
    job j = {.m = m, .noise = noise, .x = x, .ctx = ctx, .y = y};
    return status == NF_OK ? nfi_for_batch(m, "nf_evaluate", ws, n, net_tile, &j) : status;
}
