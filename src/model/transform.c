/* Whole batches through the flow of a model, in either direction, and the gradients of such calls. */
#include "object/live.h"
#include "model/batch.h"
#include "object/shards.h"
#include "object/tree.h"
#include <math.h>
#include <string.h>

/* What a batch call passes to its tiles. Arrays are row-major, and NULL if they are not given or not wanted. */
typedef struct job {
    const char *who;
    const nf_model *m;
    const nf_object *flow;
    const nf_noise *noise;
    nf_direction direction;
    size_t rows_in, rows_out; /* features of x and of y, which depend on the direction */
    const nf_real *x, *ctx;
    nf_real *y;
    double *log_det, *penalty;
    const nf_real *gy, *g_log_det, *g_penalty;
    nf_real *gx, *g_ctx, *g_theta;
} job;

/* One tile of the flow: its pass, and the arrays that the gradients of both directions need. */
typedef struct tile {
    nf_pass p;
    nf_real *x, *y;
    double *log_det;
    void *saved;
} tile;

/* The flow's pass over a tile. */
static nf_pass pass_of(const job *j, size_t first, size_t n, size_t ld, nfi_thread *memory, bool gradient)
{
    nf_pass root = nfi_model_pass(j->m, memory, j->noise, first, n, ld, NF_EVAL, gradient);
    nfi_model_flow(j->m, &root);
    return root;
}

/* Loads the samples of t->p and runs the flow on them. */
static nf_status apply(const job *j, size_t first, tile *t)
{
    nf_status status = NF_OK;
    if (j->flow->total.n_ctx)
        t->p.ctx = nfi_load_tile(&t->p, first, j->flow->total.n_ctx, j->ctx, &status);
    t->x = nfi_load_tile(&t->p, first, j->rows_in, j->x, &status);
    t->y = nfi_load_tile(&t->p, first, j->rows_out, NULL, &status);
    t->log_det = nfi_zero_doubles(t->p.scratch, t->p.ld);
    t->saved = NULL;
    if (status != NF_OK || !t->log_det)
        return NF_ENOMEM;
    return nf_flow_apply(j->flow, j->direction, &t->p, t->x, t->y, t->log_det, &t->saved);
}

static size_t spoil(const job *j, const tile *t, unsigned char *flags)
{
    const nfi_flow_of_tile io = {
        .n_x = j->rows_in, .x = t->x, .n_ctx = j->flow->total.n_ctx, .n_y = j->rows_out, .y = t->y, .log = t->log_det};
    return nfi_spoil(&t->p, &io, flags);
}

static nf_status transform_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const job *j = user;
    tile t = {.p = pass_of(j, first, n, ld, memory, false)};
    if (j->penalty && !(t.p.penalty = nfi_zero_doubles(t.p.scratch, ld)))
        return NF_ENOMEM;
    nf_status status = apply(j, first, &t);
    if (status != NF_OK)
        return status;
    memory->failed += spoil(j, &t, NULL);
    for (size_t s = 0; s < n && j->penalty; s++)
        j->penalty[first + s] = isnan(t.log_det[s]) ? NAN : t.p.penalty[s];
    if (j->rows_out)
        nfi_unpack(n, j->rows_out, t.y, ld, j->y + first * j->rows_out, j->rows_out);
    if (j->log_det)
        memcpy(j->log_det + first, t.log_det, n * sizeof *t.log_det);
    return NF_OK;
}

/* Checks the arguments and fills in the job. */
static nf_status begin(job *j, size_t n)
{
    if (!j->m)
        return nf_error(NF_EARG, "%s: `m` is NULL", j->who);
    nf_pass root = {.ld = 1};
    j->flow = nfi_model_flow(j->m, &root);
    if (!j->flow)
        return nf_error(NF_EARG, "%s: the model is of a `%s`, which has no flow", j->who, j->m->o->part->name);
    if (j->direction != NF_FORWARD && j->direction != NF_INVERSE)
        return nf_error(NF_EARG, "%s: `d` is %d, neither NF_FORWARD nor NF_INVERSE", j->who, (int)j->direction);
    if (n == 0)
        return nf_error(NF_EARG, "%s: `n` is 0", j->who);
    if (j->flow->total.n_ctx && !j->ctx)
        return nf_error(NF_EARG, "%s: `ctx` is NULL, but the flow reads %zu features of context", j->who,
                        j->flow->total.n_ctx);
    const nf_shape *s = &j->flow->total;
    j->rows_in = j->direction == NF_FORWARD ? s->dim_in : s->dim_out;
    j->rows_out = j->direction == NF_FORWARD ? s->dim_out : s->dim_in;
    if (!j->x && j->rows_in)
        return nf_error(NF_EARG, "%s: `x` is NULL", j->who);
    return nfi_check_noise(j->who, j->flow, j->noise);
}

nf_status nfi_transform(const nf_model *m, nf_workspace *ws, const nf_noise *noise, nf_direction d, size_t n,
                        const nf_real *x, const nf_real *ctx, nf_real *y, double *log_det, double *penalty)
{
    job j = {.who = "nf_transform", .m = m, .noise = noise, .direction = d, .x = x, .ctx = ctx, .y = y};
    j.log_det = log_det, j.penalty = penalty;
    nf_status status = begin(&j, n);
    if (status == NF_OK && !y && j.rows_out)
        status = nf_error(NF_EARG, "nf_transform: `y` is NULL");
    if (status != NF_OK)
        return status;
    return nfi_for_batch(m, j.who, ws, n, transform_tile, &j);
}

nf_status nf_transform(const nf_model *m, nf_workspace *ws, const nf_noise *noise, nf_direction d, size_t n,
                       const nf_real *x, const nf_real *ctx, nf_real *y, double *log_det)
{
    return nfi_transform(m, ws, noise, d, n, x, ctx, y, log_det, NULL);
}

/* ---- gradients ---- */

typedef struct trial {
    const job *j;
    size_t first;
    tile *t;
} trial;

/* An nfi_live_fn: apply. */
static nf_status try_tile(void *user, const nf_pass *p, unsigned char *failed)
{
    const trial *a = user;
    a->t->p = *p;
    const nf_status status = apply(a->j, a->first, a->t);
    if (status == NF_OK)
        spoil(a->j, a->t, failed);
    return status;
}

static nf_status vjp_tile(void *user, size_t tile_index, size_t first, size_t n, size_t ld, nfi_thread *memory,
                          size_t shard, bool fresh, nf_real *g)
{
    (void)tile_index, (void)shard;
    const job *j = user;
    const nf_shape *model = &j->m->o->total, *flow = &j->flow->total;
    const bool whole = flow->n_params == model->n_params;
    if (fresh && j->g_theta) /* clears what the flow does not write */
        memset(g + (whole ? model->n_params : 0), 0, (model->n_prep + (whole ? 0 : model->n_params)) * sizeof *g);
    nf_pass p = pass_of(j, first, n, ld, memory, true);
    tile t;
    nfi_live live;
    nf_status status = nfi_live_run(&live, &p, memory, try_tile, &(trial){j, first, &t});
    memory->failed += live.n_failed;
    if (status == NF_OK && live.n_failed) {
        nfi_fill_rows(first, n, j->rows_in, NAN, j->gx, j->rows_in);
        nfi_fill_rows(first, n, flow->n_ctx, NAN, j->g_ctx, flow->n_ctx);
    }
    if (status == NF_OK && p.n == 0 && fresh && whole && j->g_theta)
        memset(g, 0, model->n_params * sizeof *g);
    if (status != NF_OK || p.n == 0)
        return status;
    nf_real *gy = nfi_load_cotangent(&t.p, first, j->rows_out, j->gy, &status);
    nf_real *g_log_det = nfi_load_cotangent(&t.p, first, 1, j->g_log_det, &status);
    t.p.g_penalty = j->g_penalty ? nfi_load_cotangent(&t.p, first, 1, j->g_penalty, &status) : NULL;
    nf_real *gx = nfi_load_tile(&t.p, first, j->rows_in, NULL, &status);
    nf_real *g_ctx = j->g_ctx && flow->n_ctx ? nfi_load_cotangent(&t.p, first, flow->n_ctx, NULL, &status) : NULL;
    if (status != NF_OK)
        return status;
    nf_grad grad = {.ctx = g_ctx};
    if (j->g_theta) {
        grad.internal = fresh && whole ? NFI_FRESH : 0;
        grad.theta = g + (t.p.theta - j->m->theta);
        grad.prep = g + model->n_params + (t.p.prep - j->m->prep);
    }
    status = nf_flow_vjp(j->flow, j->direction, &t.p, t.x, t.y, t.saved, gy, g_log_det, gx, &grad);
    if (status == NF_OK && j->gx)
        nfi_unpack_left(&t.p, first, j->rows_in, gx, j->gx, j->rows_in);
    if (status == NF_OK && g_ctx)
        nfi_unpack_left(&t.p, first, flow->n_ctx, g_ctx, j->g_ctx, flow->n_ctx);
    return status;
}

typedef struct sum_work {
    const job *j;
    nfi_thread *thread;
    nfi_sum sum;
    nfi_team team;
} sum_work;

static void work_on_shards(void *user, size_t thread, size_t n_threads)
{
    (void)n_threads;
    sum_work *w = user;
    nfi_sum_work(&w->sum, &w->thread[thread], vjp_tile, (void *)w->j, &w->team);
}

/* Runs over all tiles and sums their gradients in shards. */
static nf_status sum_tiles(const job *j, nf_workspace *ws, size_t n)
{
    nfi_tiling tiling = nfi_tile_batch(n, j->m->o->total.n_saved);
    sum_work w = {.j = j, .thread = ws->thread};
    if (nfi_team_begin(&w.team) != NF_OK)
        return NF_ENOMEM;
    nfi_failures_begin(ws);
    nf_mark mark = nf_arena_mark(&ws->shared);
    const size_t length = j->g_theta ? nf_model_gradient_size(j->m) : 0;
    nf_status status = nfi_sum_begin(&w.sum, &tiling, length, ws->n_threads, &ws->shared);
    if (status == NF_OK) {
        nfi_pool_run(&ws->pool, w.sum.n_shards, work_on_shards, &w);
        status = nfi_team_result(&w.team);
    }
    nfi_failures_end(ws);
    if (status == NF_OK && j->g_theta) {
        nfi_sum_finish(&w.sum, 0, length);
        status = nfi_pull_gradient(j->m, &ws->pool, w.sum.part[0], j->g_theta);
    }
    nf_arena_rewind(&ws->shared, mark);
    nfi_team_end(&w.team);
    return status;
}

nf_status nfi_transform_vjp(const nf_model *m, nf_workspace *ws, const nf_noise *noise, nf_direction d, size_t n,
                            const nf_real *x, const nf_real *ctx, const nf_real *gy, const nf_real *g_log_det,
                            const nf_real *g_penalty, nf_real *gx, nf_real *g_ctx, nf_real *g_theta)
{
    job j = {.who = "nf_transform_vjp", .m = m, .noise = noise, .direction = d, .x = x, .ctx = ctx};
    j.gy = gy, j.g_log_det = g_log_det, j.g_penalty = g_penalty, j.gx = gx, j.g_ctx = g_ctx, j.g_theta = g_theta;
    nf_workspace *mine;
    nf_status status = begin(&j, n);
    if (status == NF_OK)
        status = nfi_call_begin(m, j.who, ws, &mine);
    if (status != NF_OK)
        return status;
    status = sum_tiles(&j, mine, n);
    nfi_workspace_return(ws, mine);
    return status;
}

nf_status nf_transform_vjp(const nf_model *m, nf_workspace *ws, const nf_noise *noise, nf_direction d, size_t n,
                           const nf_real *x, const nf_real *ctx, const nf_real *gy, const nf_real *g_log_det,
                           nf_real *gx, nf_real *g_ctx, nf_real *g_theta)
{
    return nfi_transform_vjp(m, ws, noise, d, n, x, ctx, gy, g_log_det, NULL, gx, g_ctx, g_theta);
}
