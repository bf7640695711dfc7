/* The engine of one step. In one piece of work the threads take tiles forward, through the loss and backward, sum
   gradients in shards, and add up the shards. Then all threads together give the mean gradient to `finish`, which
   moves the parameters.

   One rank of several computes the tiles below its node of the tree of shards. After its shards are added up, and
   before the mean is formed, the sums go through the ranks' exchange (ranks.c). Tiles and samples, and so their
   noise, are numbered over the whole step, not over the rank. step_tiles.c has what a thread does with a tile. */
#include "base/memory.h"
#include "math/rows.h"
#include "object/shards.h"
#include "fit/step_tiles.h"
#include <math.h>
#include <string.h>

static void add_sums(nf_sums *all, const nf_sums *s)
{
    all->loss += s->loss;
    for (size_t k = 0; k < NF_MAX_TERMS; k++)
        all->term[k] += s->term[k];
    all->worst_log_det = fmax(all->worst_log_det, s->worst_log_det);
    all->rejected += s->rejected;
    all->failed += s->failed;
    all->penalty += s->penalty;
    nfi_add_spreads(&all->spread, &s->spread);
}

/* Adds the sums and statistics of all shards into those of shard 0, in the order of the gradient's tree. */
static void add_up(nfi_engine *e)
{
    const size_t n_state = e->stats ? e->o->model->o->total.n_state : 0;
    for (size_t step = 1; step < e->sum.n_shards; step *= 2)
        for (size_t i = 0; i < e->sum.n_shards; i += 2 * step) {
            add_sums(&e->sums[i], &e->sums[i + step]);
            for (size_t k = 0; k < n_state; k++)
                e->stats[i * n_state + k] += e->stats[(i + step) * n_state + k];
        }
}

double nfi_step_means(const nf_objective *o, const nf_step *step, const nf_sums *sums, nf_step_report *report)
{
    const double accepted = (double)step->total - sums->rejected - sums->failed;
    *report = (nf_step_report){.loss = sums->loss / accepted,
                               .n = step->total,
                               .worst_log_det = sums->worst_log_det,
                               .rejected = (size_t)sums->rejected,
                               .failed = (size_t)sums->failed,
                               .penalty = sums->penalty / accepted};
    for (size_t k = 0; k < NF_MAX_TERMS; k++)
        report->term[k] = sums->term[k] / accepted;
    nfi_report_spread(&sums->spread, report);
    return o->type->means ? o->type->means(o->self, step, sums, report) : accepted;
}

static void fill_report(nfi_engine *e)
{
    e->all = e->sums[0];
    e->divisor = nfi_step_means(e->o, &e->step, &e->all, &e->report);
}

/* ---- reduction ---- */

static size_t block_end(size_t block, size_t length)
{
    size_t end = (block + 1) * NFI_BLOCK;
    return end < length ? end : length;
}

/* Pulls the gradient in the prepared numbers back to theta, and computes the blocks' norms again for theta's gradient
   alone. Called by every thread; begins and ends with a barrier. */
static void pull_back(nfi_engine *e, nf_real *g, size_t thread, size_t n_threads)
{
    const nf_shape *shape = &e->o->model->o->total;
    if (thread == 0) {
        e->preparing = nfi_preparing_of(e->o->model, NF_TRAIN);
        e->preparing.g_prep = g + shape->n_params;
        e->preparing.g_theta = g;
    }
    nfi_team_wait(&e->team, n_threads);
    nfi_prepare_work(&e->preparing, &e->team);
    nfi_team_wait(&e->team, n_threads);
    const size_t end = nfi_team_share(e->n_blocks, thread + 1, n_threads);
    for (size_t b = nfi_team_share(e->n_blocks, thread, n_threads); b < end; b++) {
        size_t first = b * NFI_BLOCK < shape->n_params ? b * NFI_BLOCK : shape->n_params;
        e->square[b] = nfi_scale_and_square(block_end(b, shape->n_params) - first, 1, g + first);
    }
    nfi_team_wait(&e->team, n_threads);
}

/* Forms this rank's sum in part[0], and then the sum of all ranks. Called by every thread. Returns false if there was
   an error. */
static bool exchange(nfi_engine *e, size_t thread, size_t n_threads)
{
    const size_t end = nfi_team_share(e->n_blocks, thread + 1, n_threads);
    for (size_t b = nfi_team_share(e->n_blocks, thread, n_threads); b < end; b++)
        nfi_sum_finish(&e->sum, b * NFI_BLOCK, block_end(b, e->sum.length));
    nfi_team_wait(&e->team, n_threads);
    if (thread == 0) {
        nf_status status = nfi_exchange_step(e->exchange, e->sum.part[0], e->o, &e->sums[0], e->stats);
        if (status != NF_OK)
            nfi_team_error(&e->team, 0, status);
        fill_report(e);
    }
    nfi_team_wait(&e->team, n_threads);
    return e->team.status == NF_OK;
}

/* After the shards: forms the mean gradient in part[0] and its norm, and calls `finish`. Called by every thread. */
static void reduce(nfi_engine *e, size_t thread, size_t n_threads)
{
    if (e->exchange && !exchange(e, thread, n_threads))
        return;
    nf_real *g = e->sum.part[0];
    nf_real scale = e->divisor > 0 ? (nf_real)(1 / e->divisor) : 0;
    const size_t end = nfi_team_share(e->n_blocks, thread + 1, n_threads);
    for (size_t b = nfi_team_share(e->n_blocks, thread, n_threads); b < end; b++) {
        size_t first = b * NFI_BLOCK, last = block_end(b, e->sum.length);
        if (!e->exchange)
            nfi_sum_finish(&e->sum, first, last);
        e->square[b] = nfi_scale_and_square(last - first, scale, g + first);
    }
    if (e->o->model->o->total.n_prep)
        pull_back(e, g, thread, n_threads);
    else
        nfi_team_wait(&e->team, n_threads);
    nf_step_report report = e->report; /* every thread adds the same numbers in the same order, so that all have the
                                          same norm */
    double square = 0;
    for (size_t b = 0; b < e->n_blocks; b++)
        square += e->square[b];
    report.grad_norm = sqrt(square);
    if (e->finish) {
        nfi_gradient gradient = {.g = g, .report = &report};
        gradient.finite = isfinite(report.grad_norm) && isfinite(report.loss) && e->team.status == NF_OK;
        e->finish(e->user, &gradient, thread, n_threads);
    }
    nfi_team_wait(&e->team, n_threads);
    if (thread == 0)
        e->report = report;
}

/* ---- the step ---- */

nf_status nfi_engine_begin(nfi_engine *e, nf_objective *o, nf_workspace *ws, nfi_exchange *exchange,
                           nfi_finish_fn *finish, void *user)
{
    memset(e, 0, sizeof *e);
    e->o = o;
    e->ws = ws;
    e->exchange = exchange && exchange->ranks.n_ranks ? exchange : NULL;
    e->finish = finish;
    e->user = user;
    e->mark = nf_arena_mark(&ws->shared);
    return nfi_team_begin(&e->team);
}

void nfi_engine_end(nfi_engine *e)
{
    nf_arena_rewind(&e->ws->shared, e->mark);
    nfi_team_end(&e->team);
}

nf_status nfi_step_begin(nfi_engine *e, const nf_step *step)
{
    const nf_shape *shape = &e->o->model->o->total;
    nf_arena *memory = &e->ws->shared;
    const size_t rank = e->exchange ? e->exchange->ranks.rank : 0,
                 n_ranks = e->exchange ? e->exchange->ranks.n_ranks : 1;
    e->step = *step;
    e->step.total = e->o->n;
    nfi_share(e->o, rank, n_ranks, &e->step.first, &e->step.n);
    e->noise = (nf_noise){.seed = step->seed, .step = step->step};
    nf_status status = e->o->type->begin ? e->o->type->begin(e->o->self, &e->step) : NF_OK;
    if (status != NF_OK)
        return status;
    nfi_tiling tiling = nfi_tile_batch(e->step.total, shape->n_saved);
    size_t length = step->gradient ? shape->n_params + shape->n_prep : 0;
    size_t shards = nfi_shard_count(tiling.n_tiles, length * sizeof(nf_real)) / n_ranks;
    size_t n_stats = step->gradient ? shards * shape->n_state : 0;
    e->n_blocks = (length + NFI_BLOCK - 1) / NFI_BLOCK;
    e->sums = nf_arena_alloc(memory, shards * sizeof *e->sums);
    e->square = nf_arena_alloc(memory, e->n_blocks * sizeof *e->square);
    double *stats = nf_arena_alloc(memory, n_stats * sizeof *stats);
    const bool gathers = e->o->type->gather;
    e->held = gathers ? nf_arena_alloc(memory, tiling.n_tiles * sizeof *e->held) : NULL;
    e->columns = gathers ? nf_arena_alloc(memory, e->step.n * sizeof *e->columns) : NULL;
    if (!e->sums || !e->square || !stats || (gathers && (!e->held || !e->columns)) ||
        nfi_sum_begin_part(&e->sum, &tiling, length, rank, n_ranks, e->ws->n_threads, memory) != NF_OK)
        return NF_ENOMEM;
    atomic_store(&e->next, nfi_shard_first_tile(&tiling, e->sum.first_shard, e->sum.all_shards));
    memset(e->sums, 0, shards * sizeof *e->sums);
    memset(stats, 0, n_stats * sizeof *stats);
    e->stats = n_stats ? stats : NULL;
    return NF_OK;
}

void nfi_step_work(nfi_engine *e, size_t thread, size_t n_threads)
{
    nfi_thread *memory = &e->ws->thread[thread];
    nf_mark tape = nf_arena_mark(&memory->tape);
    if (e->held)
        nfi_tiles_forward(e, memory, thread, n_threads);
    if (!e->held || e->team.status == NF_OK)
        nfi_sum_work(&e->sum, memory, nfi_tile_backward, e, &e->team);
    nfi_team_wait(&e->team, n_threads);
    nf_arena_rewind(&memory->tape, tape);
    if (e->team.status != NF_OK)
        return;
    if (thread == 0) {
        add_up(e);
        fill_report(e);
    }
    if (!e->step.gradient)
        return;
    nfi_team_wait(&e->team, n_threads);
    reduce(e, thread, n_threads);
}

/* Updates the running statistics from the sums that add_up has made. */
static nf_status end_statistics(nfi_engine *e)
{
    if (!e->stats || !isfinite(e->report.loss) || !isfinite(e->report.grad_norm))
        return NF_OK;
    return nfi_tree_end_step(e->o->model->o, e->stats, e->step.total - e->report.failed, e->o->model->state);
}

nf_status nfi_step_end(nfi_engine *e, nf_step_report *report)
{
    nf_status status = nfi_team_result(&e->team);
    if (status == NF_OK)
        status = end_statistics(e);
    nf_arena_rewind(&e->ws->shared, e->mark);
    if (status == NF_OK && report)
        *report = e->report;
    return status;
}

void nfi_step_prepare(nfi_engine *e, size_t thread, size_t n_threads)
{
    if (e->o->model->preparation.n == 0)
        return;
    if (thread == 0)
        e->preparing = nfi_preparing_of(e->o->model, NF_TRAIN);
    nfi_team_wait(&e->team, n_threads);
    if (e->moved)
        nfi_prepare_work(&e->preparing, &e->team);
    nfi_team_wait(&e->team, n_threads);
}

static void work_on_step(void *engine, size_t thread, size_t n_threads)
{
    nfi_step_work(engine, thread, n_threads);
}

nf_status nfi_step(nfi_engine *e, const nf_step *step, nf_step_report *report)
{
    nf_status status = nfi_step_begin(e, step);
    if (status != NF_OK)
        return status;
    nfi_pool_run(&e->ws->pool, SIZE_MAX, work_on_step, e);
    return nfi_step_end(e, report);
}
