/* The engine of one step: one parallel region that takes tiles forward, through the loss and backward, sums gradients
   in shards, combines them, and hands the mean gradient to whoever moves the parameters, all threads still together.

   Objectives with a `gather` phase need the whole batch between forward and backward: their tapes are kept, up to a cap
   beyond which a tile's forward is run again (noise is reproducible, so it is the same forward). */
#include "core/kernel.h"
#include "core/memory.h"
#include "core/shards.h"
#include "fit/objective.h"
#include <math.h>
#include <omp.h>
#include <string.h>

static const size_t tape_cap = (size_t)256 << 20; /* bytes, over all threads */

/* A tile between its two phases. */
typedef struct held {
    void *saved;
    bool kept; /* false: forward must be run again */
} held;

typedef struct engine {
    nf_objective *o;
    nf_workspace *ws;
    nf_step step;
    nf_noise noise;
    nfi_sum sum;
    nf_sums *sums;  /* [n_shards] */
    double *stats;  /* [n_shards x n_state] or NULL */
    held *held;     /* [n_tiles], with gather only */
    double *square; /* [n_blocks], sums of squares of the mean gradient */
    size_t n_blocks;
    nf_status pulled; /* of prepare_vjp */
    nfi_team team;
    atomic_size_t next;
    nfi_finish_fn *finish;
    void *user;
    nf_step_report report;
} engine;

static nf_pass tile_pass(const engine *e, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    nf_mode mode = e->step.gradient ? NF_TRAIN : NF_EVAL;
    return nfi_model_pass(e->o->model, memory, &e->noise, first, n, ld, mode, e->step.gradient);
}

/* ---- forward, where there is a gather ---- */

static nf_status forward_tile(engine *e, size_t tile, nfi_thread *memory)
{
    const nfi_tiling *t = &e->sum.tiling;
    size_t first = nfi_tile_first(t, tile), n = nfi_tile_first(t, tile + 1) - first;
    nf_mark tape = nf_arena_mark(&memory->tape), scratch = nf_arena_mark(&memory->scratch);
    nf_pass p = tile_pass(e, first, n, t->ld, memory);
    nf_status status = e->o->type->forward(e->o->self, &p, first, &e->held[tile].saved);
    nf_arena_rewind(&memory->scratch, scratch);
    e->held[tile].kept = nfi_arena_used(&memory->tape) <= tape_cap / e->ws->n_threads;
    if (!e->held[tile].kept)
        nf_arena_rewind(&memory->tape, tape);
    return status;
}

static void forward_phase(engine *e, nfi_thread *memory)
{
    for (size_t tile; (tile = atomic_fetch_add(&e->next, 1)) < e->sum.tiling.n_tiles;) {
        nf_status status = forward_tile(e, tile, memory);
        if (status != NF_OK)
            nfi_team_error(&e->team, tile, status);
    }
#pragma omp barrier
#pragma omp master
    if (e->team.status == NF_OK) {
        nf_status status = e->o->type->gather(e->o->self, &e->step);
        if (status != NF_OK)
            nfi_team_error(&e->team, 0, status);
    }
#pragma omp barrier
}

/* ---- backward ---- */

static nf_status backward_tile(void *user, size_t tile, size_t first, size_t n, size_t ld, nfi_thread *memory,
                               size_t shard, nf_real *g)
{
    engine *e = user;
    const nf_objective_type *type = e->o->type;
    const nf_shape *shape = &e->o->model->o->total;
    nf_pass p = tile_pass(e, first, n, ld, memory);
    void *saved = NULL;
    if (e->held && e->held[tile].kept)
        saved = e->held[tile].saved;
    else if (type->forward) {
        nf_status status = type->forward(e->o->self, &p, first, &saved);
        if (status != NF_OK)
            return status;
    }
    nf_grad grad = {.theta = g, .prep = g + shape->n_params};
    grad.stats = e->stats ? e->stats + shard * shape->n_state : NULL;
    return type->backward(e->o->self, &p, first, saved, &e->sums[shard], e->step.gradient ? &grad : NULL);
}

/* Sums over shards, in order, as means over the accepted samples. */
static void fill_report(engine *e)
{
    nf_sums all = {0};
    for (size_t i = 0; i < e->sum.n_shards; i++) {
        const nf_sums *s = &e->sums[i];
        all.loss += s->loss;
        for (size_t k = 0; k < NF_MAX_TERMS; k++)
            all.term[k] += s->term[k];
        all.worst_log_det = fmax(all.worst_log_det, s->worst_log_det);
        all.rejected += s->rejected;
    }
    double accepted = (double)(e->step.n - all.rejected);
    e->report = (nf_step_report){.loss = all.loss / accepted, .n = e->step.n, .rejected = all.rejected};
    for (size_t k = 0; k < NF_MAX_TERMS; k++)
        e->report.term[k] = all.term[k] / accepted;
    e->report.worst_log_det = all.worst_log_det;
}

/* ---- reduction ---- */

/* g *= scale; the sum of its squares. */
NFI_CLONES static double scale_and_square(size_t n, nf_real scale, nf_real *g)
{
    double square = 0;
    NFI_SIMD_SUM(square)
    for (size_t i = 0; i < n; i++) {
        g[i] *= scale;
        square += (double)g[i] * (double)g[i];
    }
    return square;
}

static size_t block_end(size_t block, size_t length)
{
    size_t end = (block + 1) * NFI_BLOCK;
    return end < length ? end : length;
}

/* Pulls the prepared numbers' gradient back; norms of blocks are then those of theta's gradient. */
static void pull_back(engine *e, nf_real *g)
{
    const nf_shape *shape = &e->o->model->o->total;
    e->pulled = nf_model_pull_gradient(e->o->model, g, g);
    for (size_t b = 0; b < e->n_blocks; b++) {
        size_t first = b * NFI_BLOCK < shape->n_params ? b * NFI_BLOCK : shape->n_params;
        e->square[b] = scale_and_square(block_end(b, shape->n_params) - first, 1, g + first);
    }
}

/* After the shards: the mean gradient in half[0], its norm, and the finish. Called by every thread. */
static void reduce(engine *e, size_t thread, size_t n_threads)
{
    nf_real *g = e->sum.half[0];
    double accepted = (double)(e->step.n - e->report.rejected);
    nf_real scale = accepted > 0 ? (nf_real)(1 / accepted) : 0;
    for (size_t b = thread; b < e->n_blocks; b += n_threads) {
        size_t first = b * NFI_BLOCK, last = block_end(b, e->sum.length);
        nfi_sum_finish(&e->sum, first, last);
        e->square[b] = scale_and_square(last - first, scale, g + first);
    }
#pragma omp barrier
    if (e->o->model->o->total.n_prep) {
#pragma omp master
        pull_back(e, g);
#pragma omp barrier
    }
    double square = 0; /* every thread adds the same numbers in the same order */
    for (size_t b = 0; b < e->n_blocks; b++)
        square += e->square[b];
#pragma omp master
    e->report.grad_norm = sqrt(square);
    if (!e->finish)
        return;
#pragma omp barrier
    nfi_gradient gradient = {.g = g, .report = &e->report};
    gradient.finite = isfinite(square) && isfinite(e->report.loss) && e->pulled == NF_OK;
    e->finish(e->user, &gradient, thread, n_threads);
}

/* ---- the step ---- */

static nf_status reserve(engine *e)
{
    const nf_shape *shape = &e->o->model->o->total;
    nf_arena *memory = &e->ws->shared;
    nfi_tiling tiling = nfi_tile_batch(e->step.n, shape->n_saved);
    size_t length = e->step.gradient ? shape->n_params + shape->n_prep : 0;
    if (nfi_sum_begin(&e->sum, &tiling, length, e->ws->n_threads, memory) != NF_OK)
        return NF_ENOMEM;
    size_t shards = e->sum.n_shards, n_stats = e->step.gradient ? shards * shape->n_state : 0;
    e->n_blocks = (length + NFI_BLOCK - 1) / NFI_BLOCK;
    e->sums = nf_arena_alloc(memory, shards * sizeof *e->sums);
    e->square = nf_arena_alloc(memory, e->n_blocks * sizeof *e->square);
    double *stats = nf_arena_alloc(memory, n_stats * sizeof *stats);
    held *tiles = nf_arena_alloc(memory, tiling.n_tiles * sizeof *tiles);
    if (!e->sums || !e->square || !stats || !tiles)
        return NF_ENOMEM;
    memset(e->sums, 0, shards * sizeof *e->sums);
    memset(stats, 0, n_stats * sizeof *stats);
    e->stats = n_stats ? stats : NULL;
    e->held = e->o->type->gather ? tiles : NULL;
    return NF_OK;
}

static void run(engine *e)
{
#pragma omp parallel num_threads((int)e->ws->n_threads)
    {
        omp_set_num_threads(1); /* BLAS inside stays single-threaded; the caller's setting is untouched */
        size_t thread = (size_t)omp_get_thread_num(), n_threads = (size_t)omp_get_num_threads();
        nfi_thread *memory = &e->ws->thread[thread];
        nf_mark tape = nf_arena_mark(&memory->tape);
        if (e->held)
            forward_phase(e, memory);
        if (e->team.status == NF_OK || !e->held)
            nfi_sum_work(&e->sum, memory, backward_tile, e, &e->team);
#pragma omp barrier
        nf_arena_rewind(&memory->tape, tape);
        if (e->team.status == NF_OK) {
#pragma omp master
            fill_report(e);
#pragma omp barrier
            if (e->step.gradient)
                reduce(e, thread, n_threads);
        }
    }
}

/* Running statistics, summed over shards in order. */
static nf_status end_step(engine *e)
{
    const nf_shape *shape = &e->o->model->o->total;
    if (!e->stats || !isfinite(e->report.loss))
        return NF_OK;
    for (size_t i = 1; i < e->sum.n_shards; i++)
        for (size_t k = 0; k < shape->n_state; k++)
            e->stats[k] += e->stats[i * shape->n_state + k];
    return nfi_tree_end_step(e->o->model->o, e->stats, e->step.n, e->o->model->state);
}

nf_status nfi_step(nf_objective *o, nf_workspace *ws, const nf_step *step, nfi_finish_fn *finish, void *user,
                   nf_step_report *report)
{
    engine e = {.o = o, .ws = ws, .step = *step, .finish = finish, .user = user};
    e.noise = (nf_noise){.seed = step->seed, .step = step->step};
    atomic_init(&e.next, 0);
    nf_mark mark = nf_arena_mark(&ws->shared);
    nf_status status = o->type->begin ? o->type->begin(o->self, step) : NF_OK;
    if (status == NF_OK)
        status = reserve(&e);
    if (status == NF_OK) {
        run(&e);
        status = nfi_team_result(&e.team);
    }
    if (status == NF_OK)
        status = e.pulled == NF_OK ? end_step(&e) : e.pulled;
    nf_arena_rewind(&ws->shared, mark);
    if (status == NF_OK && report)
        *report = e.report;
    return status;
}
