/* The tiles of a step: each goes forward, through the loss and backward by the objective's hooks. Samples that fail
   are left out, and their tile is run again without them (object/live.h).

   Objectives with a `gather` phase need the whole batch between forward and backward. Therefore the tapes of the
   tiles are kept, up to a limit of memory. Beyond the limit a tile's forward is run again; the noise is reproducible,
   so it gives the same result. */
#include "base/memory.h"
#include "fit/step_tiles.h"
#include "model/batch.h"
#include <string.h>

static const size_t tape_cap = (size_t)256 << 20; /* bytes, for all threads together */

static nf_pass tile_pass(const nfi_engine *e, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    nf_mode mode = e->step.gradient ? NF_TRAIN : NF_EVAL;
    return nfi_model_pass(e->o->model, memory, &e->noise, first, n, ld, mode, e->step.gradient);
}

/* ---- forward, where there is a gather ---- */

static nf_status forward_tile(nfi_engine *e, size_t tile, nfi_thread *memory)
{
    const nfi_tiling *t = &e->sum.tiling;
    nfi_held *held = &e->held[tile];
    size_t first = nfi_tile_first(t, tile), n = nfi_tile_first(t, tile + 1) - first;
    nf_mark tape = nf_arena_mark(&memory->tape), scratch = nf_arena_mark(&memory->scratch);
    nf_pass p = tile_pass(e, first, n, t->ld, memory);
    nf_status status;
    nfi_live live;
    nfi_live_begin(&live, &p);
    do {
        nf_arena_rewind(&memory->tape, tape);
        status = e->o->type->forward(e->o->self, &p, first, &held->saved);
        nf_arena_rewind(&memory->scratch, scratch);
    } while (status == NF_OK && nfi_live_drop(&live, &p) && p.n);
    held->n_failed = live.n_failed;
    memcpy(e->columns + (first - e->step.first), live.column, (live.n_failed ? p.n : 0) * sizeof *e->columns);
    held->kept = nfi_arena_used(&memory->tape) <= tape_cap / e->ws->n_threads;
    if (!held->kept)
        nf_arena_rewind(&memory->tape, tape);
    return status;
}

void nfi_tiles_forward(nfi_engine *e, nfi_thread *memory, size_t thread, size_t n_threads)
{
    const nfi_sum *sum = &e->sum;
    const size_t end = nfi_shard_first_tile(&sum->tiling, sum->first_shard + sum->n_shards, sum->all_shards);
    for (size_t tile; (tile = atomic_fetch_add(&e->next, 1)) < end;) {
        nf_status status = forward_tile(e, tile, memory);
        if (status != NF_OK)
            nfi_team_error(&e->team, tile, status);
    }
    nfi_team_wait(&e->team, n_threads);
    if (thread == 0 && e->team.status == NF_OK) {
        nf_status status = e->o->type->gather(e->o->self, &e->step);
        if (status != NF_OK)
            nfi_team_error(&e->team, 0, status);
    }
    nfi_team_wait(&e->team, n_threads);
}

/* ---- backward ---- */

nf_status nfi_tile_backward(void *engine, size_t tile, size_t first, size_t n, size_t ld, nfi_thread *memory,
                            size_t shard, bool fresh, nf_real *g)
{
    nfi_engine *e = engine;
    const nf_objective_type *type = e->o->type;
    const nf_shape *shape = &e->o->model->o->total;
    const nfi_held *held = e->held ? &e->held[tile] : NULL;
    nf_pass p = tile_pass(e, first, held ? n - held->n_failed : n, ld, memory);
    nfi_live live;
    nfi_live_resume(&live, &p, held ? held->n_failed : 0, e->columns ? e->columns + (first - e->step.first) : NULL);
    nf_grad grad = {.theta = g, .prep = g + shape->n_params};
    if (fresh && type->internal & NFI_HANDS_GRADIENT_ON)
        grad.internal |= NFI_FRESH;
    if (fresh && e->step.gradient) { /* clears what no hook writes first */
        const size_t kept = nfi_is_fresh(&grad) ? shape->n_params : 0;
        memset(g + kept, 0, (e->sum.length - kept) * sizeof *g);
    }
    grad.stats = e->stats ? e->stats + shard * shape->n_state : NULL;
    nf_mark tape = nf_arena_mark(&memory->tape), scratch = nf_arena_mark(&memory->scratch);
    nf_status status = NF_OK;
    bool again = false;
    while (status == NF_OK && p.n) {
        void *saved = NULL;
        if (held && held->kept && !again)
            saved = held->saved;
        else if (type->forward)
            status = type->forward(e->o->self, &p, first, &saved);
        if (status == NF_OK && !memchr(live.failed, 1, p.n))
            status = type->backward(e->o->self, &p, first, saved, &e->sums[shard], e->step.gradient ? &grad : NULL);
        again = nfi_live_drop(&live, &p);
        if (!again)
            break;
        nf_arena_rewind(&memory->tape, tape);
        nf_arena_rewind(&memory->scratch, scratch);
    }
    if (p.n == 0 && nfi_is_fresh(&grad) && e->step.gradient) /* all samples failed, so no hook has written it */
        memset(g, 0, shape->n_params * sizeof *g);
    e->sums[shard].failed += (double)live.n_failed;
    return status;
}
