/* Draws and densities of the distribution of a model, for whole row-major batches. */
#include "model/batch.h"
#include "object/live.h"
#include <string.h>

/* What a call passes to its tiles. */
typedef struct job {
    const nf_model *m;
    const nf_noise *noise;
    const nf_real *x, *ctx;
    nf_real *y;
    double *log; /* log-density, [n] or NULL */
} job;

static nf_status sample_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const job *j = user;
    nf_status status = NF_OK;
    nf_pass p = nfi_load_pass(j->m, j->noise, j->ctx, first, n, ld, memory, &status);
    size_t dim = j->m->o->total.dim_out;
    nf_real *x = nfi_load_tile(&p, first, dim, NULL, &status);
    double *log_q = nfi_zero_doubles(p.scratch, ld);
    void *saved = NULL;
    if (status == NF_OK)
        status = log_q ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_dist_sample(j->m->o, &p, x, log_q, &saved);
    if (status != NF_OK)
        return status;
    const size_t n_ctx = j->m->o->total.n_ctx;
    nfi_spoil_counted(&p, memory, &(nfi_flow_of_tile){.n_ctx = n_ctx, .n_y = dim, .y = x, .log = log_q});
    nfi_unpack(n, dim, x, ld, j->y + first * dim, dim);
    if (j->log)
        memcpy(j->log + first, log_q, n * sizeof *log_q);
    return NF_OK;
}

nf_status nf_sample(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *ctx,
                    nf_real *x, double *log_q)
{
    nf_status status = nfi_check_batch("nf_sample", m, NFI_DIST, n, x, ctx);
    if (status == NF_OK && !noise)
        status = nf_error(NF_EARG, "nf_sample: `noise` is NULL");
    job j = {.m = m, .noise = noise, .ctx = ctx, .y = x, .log = log_q};
    return status == NF_OK ? nfi_for_batch(m, "nf_sample", ws, n, sample_tile, &j) : status;
}

static nf_status score_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const job *j = user;
    nf_status status = NF_OK;
    nf_pass p = nfi_load_pass(j->m, j->noise, j->ctx, first, n, ld, memory, &status);
    const nf_real *x = nfi_load_tile(&p, first, j->m->o->total.dim_out, j->x, &status);
    double *log_p = nfi_zero_doubles(p.scratch, ld);
    void *saved = NULL;
    if (status == NF_OK)
        status = log_p ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_dist_score(j->m->o, &p, x, log_p, &saved);
    if (status != NF_OK)
        return status;
    const nf_shape *s = &j->m->o->total;
    nfi_spoil_counted(&p, memory, &(nfi_flow_of_tile){.n_x = s->dim_out, .x = x, .n_ctx = s->n_ctx, .log = log_p});
    memcpy(j->log + first, log_p, n * sizeof *log_p);
    return NF_OK;
}

nf_status nf_log_prob(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                      const nf_real *ctx, double *log_p)
{
    nf_status status = nfi_check_batch("nf_log_prob", m, NFI_DIST, n, x, ctx);
    if (status == NF_OK && !log_p)
        status = nf_error(NF_EARG, "nf_log_prob: `log_p` is NULL");
    if (status == NF_OK)
        status = nfi_check_noise("nf_log_prob", m->o, noise);
    job j = {.m = m, .noise = noise, .x = x, .ctx = ctx, .log = log_p};
    return status == NF_OK ? nfi_for_batch(m, "nf_log_prob", ws, n, score_tile, &j) : status;
}
