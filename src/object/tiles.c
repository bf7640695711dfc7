/* Tiles and teams. A batch is cut into equal tiles, whose width follows from the object's size and n alone. Threads
   take tiles as they come. The results do not depend on which thread took which tile. */
#include "object/tiles.h"
#include "base/kernel.h"
#include "object/live.h"
#include "math/transpose.h"
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
    WIDTH_MIN = 64, /* least width, except where a sample needs much tape (big images) */
    WIDTH_MAX = NFI_WIDEST,
    WIDTH_FLOOR = 8,
    WIDE_BYTES = 1 << 18, /* up to so much tape wider tiles pay: in light layers calls cost much, in nets little */
    TAPE_BYTES = 1 << 25, /* above so much tape, tiles get narrower; not sooner, as each reads all weights */
    TILES_WANTED = 8      /* enough tiles for the threads of a small machine */
};

static size_t clamp(size_t x, size_t lo, size_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

nfi_tiling nfi_tile_batch(size_t n, size_t reals_per_sample)
{
    size_t bytes = (reals_per_sample ? reals_per_sample : 1) * sizeof(nf_real);
    size_t least = clamp(TAPE_BYTES / bytes, WIDTH_FLOOR, WIDTH_MIN);
    size_t most = clamp(WIDE_BYTES / bytes / NFI_LANES * NFI_LANES, least, WIDTH_MAX);
    size_t width = clamp((n + TILES_WANTED - 1) / TILES_WANTED, least, most);
    nfi_tiling t = {.n = n, .n_tiles = (n + width - 1) / width};
    size_t widest = (n + t.n_tiles - 1) / t.n_tiles;
    t.ld = (widest + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    return t;
}

nf_workspace *nf_workspace_new(size_t threads)
{
    const nfi_pool pool = nfi_pool_of(threads);
    threads = pool.most;
    nf_workspace *ws = nfi_calloc(1, sizeof *ws);
    nfi_thread *thread = nfi_calloc(threads, sizeof *thread);
    if (!ws || !thread) {
        nfi_free(ws);
        nfi_free(thread);
        return NULL;
    }
    ws->n_threads = threads;
    ws->pool = pool;
    ws->thread = thread;
    return ws;
}

void nf_workspace_free(nf_workspace *ws)
{
    if (!ws)
        return;
    nfi_pool_end(&ws->pool);
    for (size_t i = 0; i < ws->n_threads; i++) {
        nfi_arena_clear(&ws->thread[i].tape);
        nfi_arena_clear(&ws->thread[i].scratch);
    }
    nfi_arena_clear(&ws->shared);
    nfi_arena_clear(&ws->plugin_tape);
    nfi_free(ws->thread);
    nfi_free(ws);
}

size_t nf_workspace_threads(const nf_workspace *ws)
{
    return ws ? nfi_pool_threads(&ws->pool) : 0;
}

size_t nf_workspace_failed(const nf_workspace *ws)
{
    return ws ? ws->failed : 0;
}

void nfi_failures_begin(nf_workspace *ws)
{
    ws->failed = 0;
    for (size_t i = 0; i < ws->n_threads; i++)
        ws->thread[i].failed = 0;
}

void nfi_failures_end(nf_workspace *ws)
{
    for (size_t i = 0; i < ws->n_threads; i++)
        ws->failed += ws->thread[i].failed;
}

size_t nf_workspace_bytes(const nf_workspace *ws)
{
    if (!ws)
        return 0;
    size_t bytes = nfi_arena_bytes(&ws->shared) + nfi_arena_bytes(&ws->plugin_tape);
    for (size_t i = 0; i < ws->n_threads; i++)
        bytes += nfi_arena_bytes(&ws->thread[i].tape) + nfi_arena_bytes(&ws->thread[i].scratch);
    return bytes;
}

/* ---- teams ---- */

typedef struct tile_work {
    const nfi_tiling *tiling;
    nfi_tile_fn *f;
    void *user;
    nfi_thread *thread;
    nfi_team team;
    atomic_size_t next;
} tile_work;

static void work_on_tiles(void *user, size_t thread, size_t n_threads)
{
    (void)n_threads;
    tile_work *w = user;
    const nfi_tiling *t = w->tiling;
    nfi_thread *memory = &w->thread[thread];
    nf_mark tape = nf_arena_mark(&memory->tape), scratch = nf_arena_mark(&memory->scratch);
    for (size_t i; (i = atomic_fetch_add(&w->next, 1)) < t->n_tiles;) {
        size_t first = nfi_tile_first(t, i);
        nf_status status = w->f(w->user, first, nfi_tile_first(t, i + 1) - first, t->ld, memory);
        nf_arena_rewind(&memory->tape, tape);
        nf_arena_rewind(&memory->scratch, scratch);
        if (status != NF_OK)
            nfi_team_error(&w->team, i, status);
    }
}

nf_status nfi_for_tiles(nf_workspace *ws, const nfi_tiling *t, nfi_tile_fn *f, void *user)
{
    tile_work w = {.tiling = t, .f = f, .user = user, .thread = ws->thread};
    if (nfi_team_begin(&w.team) != NF_OK)
        return NF_ENOMEM;
    nfi_pool_run(&ws->pool, t->n_tiles, work_on_tiles, &w);
    nf_status status = nfi_team_result(&w.team);
    nfi_team_end(&w.team);
    return status;
}

/* ---- layouts ---- */

void nfi_pad(size_t rows, size_t n, size_t ld, nf_real *tile)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t s = n; s < ld; s++)
            tile[r * ld + s] = tile[r * ld + n - 1];
}

void nfi_pad_zero(size_t rows, size_t n, size_t ld, nf_real *tile)
{
    for (size_t r = 0; r < rows && n < ld; r++)
        memset(tile + r * ld + n, 0, (ld - n) * sizeof *tile);
}

void nfi_pack(size_t n, size_t dim, const nf_real *rows, size_t stride, size_t ld, nf_real *tile)
{
    nfi_transpose(n, dim, rows, stride, tile, ld);
    nfi_pad(dim, n, ld, tile);
}

void nfi_pack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_real *tile)
{
    if (!p->noise.column) {
        nfi_pack(p->n, dim, batch + first * dim, dim, p->ld, tile);
        return;
    }
    for (size_t s = 0; s < p->n; s++)
        for (size_t r = 0; r < dim; r++)
            tile[r * p->ld + s] = batch[(first + p->noise.column[s]) * dim + r];
    nfi_pad(dim, p->n, p->ld, tile);
}

void nfi_unpack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *tile, nf_real *batch)
{
    if (!p->noise.column) {
        nfi_unpack(p->n, dim, tile, p->ld, batch + first * dim, dim);
        return;
    }
    for (size_t s = 0; s < p->n; s++)
        for (size_t r = 0; r < dim; r++)
            batch[(first + p->noise.column[s]) * dim + r] = tile[r * p->ld + s];
}

void nfi_pack_cotangent(size_t n, size_t dim, const nf_real *rows, size_t stride, size_t ld, nf_real *tile)
{
    nfi_transpose(n, dim, rows, stride, tile, ld);
    nfi_pad_zero(dim, n, ld, tile);
}

void nfi_unpack(size_t n, size_t dim, const nf_real *tile, size_t ld, nf_real *rows, size_t stride)
{
    nfi_transpose(dim, n, tile, ld, rows, stride);
}
