/* Calls for whole row-major batches: draws and densities of distributions, values of nets. Each call is one loop over
   tiles. */
#include "object/live.h"
#include "model/model.h"
#include <math.h>
#include <string.h>

/* What a batch call passes to its tiles. */
typedef struct job {
    const nf_model *m;
    const nf_noise *noise;
    const nf_real *x, *ctx;
    nf_real *y;
    double *log; /* log-density or log-det, [n] or NULL */
} job;

static nf_pass tile_pass(const job *j, size_t first, size_t n, size_t ld, nfi_thread *memory, nf_status *status)
{
    nf_pass p = nfi_model_pass(j->m, memory, j->noise, first, n, ld, NF_EVAL, false);
    if (j->m->o->total.n_ctx)
        p.ctx = nfi_load_tile(&p, first, j->m->o->total.n_ctx, j->ctx, status);
    return p;
}

static nf_status check(const char *who, const nf_model *m, nfi_kind kind, size_t n, const void *x, const nf_real *ctx)
{
    if (!m)
        return nf_error(NF_EARG, "%s: `m` is NULL", who);
    if (m->o->kind != kind)
        return nf_error(NF_EARG, "%s: the model is of a `%s`, which is not what this call is for", who,
                        m->o->part->name);
    if (n == 0)
        return nf_error(NF_EARG, "%s: `n` is 0", who);
    if (!x)
        return nf_error(NF_EARG, "%s: `x` is NULL", who);
    if (m->o->total.n_ctx && !ctx)
        return nf_error(NF_EARG, "%s: `ctx` is NULL, but the model reads %zu rows of context", who, m->o->total.n_ctx);
    return NF_OK;
}

/* ---- distributions ---- */

static nf_status sample_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const job *j = user;
    nf_status status = NF_OK;
    nf_pass p = tile_pass(j, first, n, ld, memory, &status);
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
    nfi_spoil_counted(&p, memory, dim, x, log_q);
    nfi_unpack(n, dim, x, ld, j->y + first * dim, dim);
    if (j->log)
        memcpy(j->log + first, log_q, n * sizeof *log_q);
    return NF_OK;
}

nf_status nf_sample(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *ctx,
                    nf_real *x, double *log_q)
{
    nf_status status = check("nf_sample", m, NFI_DIST, n, x, ctx);
    if (status == NF_OK && !noise)
        status = nf_error(NF_EARG, "nf_sample: `noise` is NULL");
    job j = {.m = m, .noise = noise, .ctx = ctx, .y = x, .log = log_q};
    return status == NF_OK ? nfi_for_batch(m, "nf_sample", ws, n, sample_tile, &j) : status;
}

static nf_status score_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const job *j = user;
    nf_status status = NF_OK;
    nf_pass p = tile_pass(j, first, n, ld, memory, &status);
    const nf_real *x = nfi_load_tile(&p, first, j->m->o->total.dim_out, j->x, &status);
    double *log_p = nfi_zero_doubles(p.scratch, ld);
    void *saved = NULL;
    if (status == NF_OK)
        status = log_p ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_dist_score(j->m->o, &p, x, log_p, &saved);
    if (status != NF_OK)
        return status;
    nfi_spoil_counted(&p, memory, 0, NULL, log_p);
    memcpy(j->log + first, log_p, n * sizeof *log_p);
    return NF_OK;
}

nf_status nf_log_prob(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                      const nf_real *ctx, double *log_p)
{
    nf_status status = check("nf_log_prob", m, NFI_DIST, n, x, ctx);
    if (status == NF_OK && !log_p)
        status = nf_error(NF_EARG, "nf_log_prob: `log_p` is NULL");
    if (status == NF_OK)
        status = nfi_check_noise("nf_log_prob", m->o, noise);
    job j = {.m = m, .noise = noise, .x = x, .ctx = ctx, .log = log_p};
    return status == NF_OK ? nfi_for_batch(m, "nf_log_prob", ws, n, score_tile, &j) : status;
}

/* ---- nets ---- */

static nf_status net_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const job *j = user;
    const nf_shape *s = &j->m->o->total;
    nf_status status = NF_OK;
    nf_pass p = tile_pass(j, first, n, ld, memory, &status);
    const nf_real *x = nfi_load_tile(&p, first, s->dim_in, j->x, &status);
    nf_real *y = nfi_load_tile(&p, first, s->dim_out, NULL, &status);
    void *saved = NULL;
    if (status == NF_OK)
        status = nf_net_apply(j->m->o, &p, x, y, &saved);
    if (status != NF_OK)
        return status;
    nfi_spoil_counted(&p, memory, s->dim_out, y, NULL);
    nfi_unpack(n, s->dim_out, y, ld, j->y + first * s->dim_out, s->dim_out);
    return NF_OK;
}

nf_status nf_evaluate(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                      const nf_real *ctx, nf_real *y)
{
    nf_status status = check("nf_evaluate", m, NFI_NET, n, x, ctx);
    if (status == NF_OK && !y)
        status = nf_error(NF_EARG, "nf_evaluate: `y` is NULL");
    if (status == NF_OK)
        status = nfi_check_noise("nf_evaluate", m->o, noise);
    job j = {.m = m, .noise = noise, .x = x, .ctx = ctx, .y = y};
    return status == NF_OK ? nfi_for_batch(m, "nf_evaluate", ws, n, net_tile, &j) : status;
}
