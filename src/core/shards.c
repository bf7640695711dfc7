/* Deterministic sums over tiles: see shards.h. The tree is a heap: node k has children 2k and 2k+1, shard i is node S +
   i. Whoever brings a node's second half adds the two (a + b = b + a, so who it is does not matter) and carries the sum
   up. */
#include "core/shards.h"
#include "core/kernel.h"
#include <string.h>

enum { SMALL_BYTES = 1 << 16, MIDDLE_BYTES = 1 << 20, MIDDLE_SHARDS = 16, FEW_SHARDS = 8 };

size_t nfi_shard_count(size_t n_tiles, size_t bytes)
{
    size_t most = bytes <= SMALL_BYTES ? NFI_MAX_SHARDS : bytes <= MIDDLE_BYTES ? MIDDLE_SHARDS : FEW_SHARDS;
    size_t shards = 1;
    while (2 * shards <= n_tiles && 2 * shards <= most)
        shards *= 2;
    return shards;
}

nf_status nfi_sum_begin(nfi_sum *s, const nfi_tiling *t, size_t length, size_t threads, nf_arena *memory)
{
    s->tiling = *t;
    s->length = length;
    s->n_shards = nfi_shard_count(t->n_tiles, length * sizeof(nf_real));
    size_t levels = 1;
    for (size_t k = s->n_shards; k > 1; k /= 2)
        levels++;
    s->n_buffers = threads * levels < s->n_shards ? threads * levels : s->n_shards;
    s->half[0] = s->half[1] = NULL;
    atomic_init(&s->next, 0);
    for (size_t i = 0; i < s->n_shards; i++)
        atomic_init(&s->waiting[i], NULL);
    for (size_t i = 0; i < s->n_buffers; i++) {
        nf_real *buffer = nf_arena_reals(memory, 1, length);
        if (!buffer)
            return NF_ENOMEM;
        atomic_init(&s->pool[i], buffer);
    }
    return NF_OK;
}

/* There is always one: see the bound in shards.h. */
static nf_real *take(nfi_sum *s)
{
    for (size_t i = 0;; i = (i + 1) % s->n_buffers) {
        nf_real *buffer = atomic_exchange(&s->pool[i], NULL);
        if (buffer)
            return buffer;
    }
}

static void give_back(nfi_sum *s, nf_real *buffer)
{
    for (size_t i = 0;; i = (i + 1) % s->n_buffers) {
        nf_real *empty = NULL;
        if (atomic_compare_exchange_strong(&s->pool[i], &empty, buffer))
            return;
    }
}

NFI_CLONES static void add(size_t n, const nf_real *from, nf_real *to)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void carry_up(nfi_sum *s, size_t node, nf_real *sum)
{
    while (node > 3) {
        node /= 2;
        nf_real *other = atomic_exchange(&s->waiting[node], sum);
        if (!other)
            return;
        add(s->length, other, sum);
        give_back(s, other);
    }
    s->half[node & 1 && node > 1] = sum; /* node 2 or 3, or 1 where there is one shard */
}

void nfi_sum_work(nfi_sum *s, nfi_thread *memory, nfi_sum_fn *f, void *user, nfi_team *team)
{
    const nfi_tiling *t = &s->tiling;
    nf_mark scratch = nf_arena_mark(&memory->scratch), tape = nf_arena_mark(&memory->tape);
    for (size_t shard; (shard = atomic_fetch_add(&s->next, 1)) < s->n_shards;) {
        nf_real *g = take(s);
        memset(g, 0, s->length * sizeof *g);
        size_t end = (shard + 1) * t->n_tiles / s->n_shards;
        for (size_t tile = shard * t->n_tiles / s->n_shards; tile < end; tile++) {
            size_t first = nfi_tile_first(t, tile);
            nf_status status = f(user, tile, first, nfi_tile_first(t, tile + 1) - first, t->ld, memory, shard, g);
            if (status != NF_OK)
                nfi_team_error(team, tile, status);
            nf_arena_rewind(&memory->scratch, scratch);
            nf_arena_rewind(&memory->tape, tape);
        }
        carry_up(s, s->n_shards + shard, g);
    }
}

void nfi_sum_finish(nfi_sum *s, size_t first, size_t last)
{
    if (s->half[1])
        add(last - first, s->half[1] + first, s->half[0] + first);
}
