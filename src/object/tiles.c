/* Tiling: a batch is cut into equal tiles, whose width follows from the object's size and n alone. Threads take tiles
   as they come. The results do not depend on which thread took which tile. */
#include "object/tiles.h"
#include "base/kernel.h"
#include <stdatomic.h>

enum {
    WIDTH_MIN = 64, /* least width for most objects */
    WIDTH_MAX = NFI_WIDEST,
    HEAVY = 8192, /* numbers of a sample on the tape: from there on (images) half that width is work enough, and a
                     batch of 64 is shared by two threads */
    WIDE_BYTES = 1 << 18, /* up to so much tape wider tiles pay: in light layers calls cost much, in nets little */
    TAPE_BYTES = 1 << 24, /* above so much tape, tiles get narrower, so that several threads' tapes find room in the
                             last cache; not sooner, as short runs make products slow */
    TILES_WANTED = 8      /* enough tiles for the threads of a small machine */
};

static size_t clamp(size_t x, size_t lo, size_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

nfi_tiling nfi_tile_batch(size_t n, size_t reals_per_sample)
{
    size_t bytes = (reals_per_sample ? reals_per_sample : 1) * sizeof(nf_real);
    size_t enough = reals_per_sample < HEAVY ? WIDTH_MIN : WIDTH_MIN / 2;
    size_t least = clamp(TAPE_BYTES / bytes / NFI_LANES * NFI_LANES, NFI_LANES, enough); /* padding is work, too */
    size_t most = clamp(WIDE_BYTES / bytes / NFI_LANES * NFI_LANES, least, WIDTH_MAX);
    size_t width = clamp((n + TILES_WANTED - 1) / TILES_WANTED, least, most);
    nfi_tiling t = {.n = n, .n_tiles = (n + width - 1) / width};
    size_t widest = (n + t.n_tiles - 1) / t.n_tiles;
    t.ld = (widest + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    return t;
}

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
