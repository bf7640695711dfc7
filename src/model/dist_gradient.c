/* Log-densities of the distribution of a model, with their gradients in x and in the context, for whole row-major
   batches: log p(x_i | c_i), d log p / dx_i and d log p / dc_i. Rows do not meet, so that a row's gradient is the
   vector-Jacobian product of the tile at the cotangent 1 of every log p. */
#include "model/batch.h"
#include "object/live.h"
#include <math.h>

/* What a call passes to its tiles. */
typedef struct job {
    const nf_model *m;
    const nf_noise *noise;
    const nf_real *x, *ctx;
    double *log_p;
    nf_real *gx, *g_ctx;
} job;

/* One tile: the arrays that the gradient needs. */
typedef struct tile {
    const job *j;
    size_t first;
    nf_pass p;
    nf_real *x;
    double *log_p;
    void *saved;
} tile;

/* An nfi_live_fn: loads the samples of p and scores them. */
static nf_status score(void *user, const nf_pass *p, unsigned char *failed)
{
    tile *t = user;
    const job *j = t->j;
    const nf_shape *s = &j->m->o->total;
    nf_status status = NF_OK;
    t->p = *p;
    if (s->n_ctx)
        t->p.ctx = nfi_load_tile(&t->p, t->first, s->n_ctx, j->ctx, &status);
    t->x = nfi_load_tile(&t->p, t->first, s->dim_out, j->x, &status);
    t->log_p = nfi_zero_doubles(t->p.scratch, t->p.ld);
    t->saved = NULL;
    if (status != NF_OK || !t->log_p)
        return NF_ENOMEM;
    status = nf_dist_score(j->m->o, &t->p, t->x, t->log_p, &t->saved);
    if (status == NF_OK)
        nfi_spoil(&t->p, &(nfi_flow_of_tile){.n_x = s->dim_out, .x = t->x, .n_ctx = s->n_ctx, .log = t->log_p}, failed);
    return status;
}

/* Where the density is 0 its logarithm has no gradient, and the row gets zeros. */
static void clear_outside(const tile *t, size_t rows, nf_real *g)
{
    for (size_t s = 0; s < t->p.n; s++)
        for (size_t r = 0; r < rows && t->log_p[s] == -(double)INFINITY; r++)
            g[r * t->p.ld + s] = 0;
}

/* Copies the results of the samples that are left to their rows. */
static void put(const tile *t, size_t dim, nf_real *gx, size_t n_ctx, nf_real *g_ctx)
{
    const job *j = t->j;
    for (size_t s = 0; j->log_p && s < t->p.n; s++)
        j->log_p[nfi_sample_left(&t->p, t->first, s)] = t->log_p[s];
    clear_outside(t, dim, gx);
    if (j->gx)
        nfi_unpack_left(&t->p, t->first, dim, gx, j->gx, dim);
    if (!g_ctx)
        return;
    clear_outside(t, n_ctx, g_ctx);
    nfi_unpack_left(&t->p, t->first, n_ctx, g_ctx, j->g_ctx, n_ctx);
}

static nf_status gradient_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const job *j = user;
    const nf_shape *shape = &j->m->o->total;
    const size_t dim = shape->dim_out, n_ctx = shape->n_ctx;
    nf_pass p = nfi_model_pass(j->m, memory, j->noise, first, n, ld, NF_EVAL, true);
    tile t = {.j = j, .first = first};
    nfi_live live;
    nf_status status = nfi_live_run(&live, &p, memory, score, &t);
    memory->failed += live.n_failed;
    if (status == NF_OK && live.n_failed) {
        nfi_fill_rows(first, n, dim, NAN, j->gx, dim);
        nfi_fill_rows(first, n, n_ctx, NAN, j->g_ctx, n_ctx);
        for (size_t i = 0; j->log_p && i < n; i++)
            j->log_p[first + i] = NAN;
    }
    if (status != NF_OK || p.n == 0)
        return status;
    nf_real *ones = nfi_load_cotangent(&t.p, first, 1, NULL, &status);
    nf_real *gx = nfi_load_tile(&t.p, first, dim, NULL, &status);
    nf_real *g_ctx = j->g_ctx && n_ctx ? nfi_load_cotangent(&t.p, first, n_ctx, NULL, &status) : NULL;
    if (status != NF_OK)
        return status;
    for (size_t s = 0; s < t.p.n; s++)
        ones[s] = 1;
    status = nf_dist_score_vjp(j->m->o, &t.p, t.x, t.saved, ones, gx, &(nf_grad){.ctx = g_ctx});
    if (status == NF_OK)
        put(&t, dim, gx, n_ctx, g_ctx);
    return status;
}

nf_status nf_log_prob_gradient(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                               const nf_real *ctx, double *log_p, nf_real *gx, nf_real *g_ctx)
{
    static const char who[] = "nf_log_prob_gradient";
    nf_status status = nfi_check_batch(who, m, NFI_DIST, n, x, ctx);
    if (status == NF_OK && !gx && !g_ctx)
        status = nf_error(NF_EARG, "%s: `gx` and `g_ctx` are both NULL", who);
    if (status == NF_OK)
        status = nfi_check_noise(who, m->o, noise);
    job j = {.m = m, .noise = noise, .x = x, .ctx = ctx, .log_p = log_p, .gx = gx, .g_ctx = g_ctx};
    return status == NF_OK ? nfi_for_batch(m, who, ws, n, gradient_tile, &j) : status;
}
