/* Tiling: a batch is cut into equal tiles, whose width follows from the object's size and n alone. Threads take tiles
   as they come. The results do not depend on which thread took which tile. */
#include "object/tiles.h"
#include "base/kernel.h"
#include "object/team.h"
#include <omp.h>
#include <stdatomic.h>

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

nf_status nfi_for_tiles(nf_workspace *ws, const nfi_tiling *t, nfi_tile_fn *f, void *user)
{
    nfi_team team;
    if (nfi_team_begin(&team) != NF_OK)
        return NF_ENOMEM;
    atomic_size_t next = 0;
    int threads = (int)(ws->n_threads < t->n_tiles ? ws->n_threads : t->n_tiles);
#pragma omp parallel num_threads(threads)
    {
        omp_set_num_threads(1); /* keeps a user's BLAS single-threaded here; the user's own setting stays */
        nfi_thread *memory = &ws->thread[omp_get_thread_num()];
        nf_mark tape = nf_arena_mark(&memory->tape), scratch = nf_arena_mark(&memory->scratch);
        for (size_t i; (i = atomic_fetch_add(&next, 1)) < t->n_tiles;) {
            size_t first = nfi_tile_first(t, i);
            nf_status status = f(user, first, nfi_tile_first(t, i + 1) - first, t->ld, memory);
            nf_arena_rewind(&memory->tape, tape);
            nf_arena_rewind(&memory->scratch, scratch);
            if (status != NF_OK)
                nfi_team_error(&team, i, status);
        }
    }
    nf_status status = nfi_team_result(&team);
    nfi_team_end(&team);
    return status;
}
