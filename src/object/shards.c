/* Sums over tiles that do not depend on threads: see shards.h. The tree is a heap: node k has the children 2k and 2k+1,
   and shard i is node S + i. The thread that brings a node's second half adds the two halves and carries the sum up.
   Since a + b = b + a, it does not matter which thread this is. */
#include "object/shards.h"

/* The longer the gradient, the fewer shards there are. So the memory that a large batch needs stays little more than
   that of a small batch. */
enum { SMALL_BYTES = 1 << 14, MIDDLE_BYTES = 1 << 20, MIDDLE_SHARDS = 16, FEW_SHARDS = 8 };
_Static_assert(NFI_MAX_PARTS == 8, "nfi_add_parts knows 1, 2, 4 and 8 parts");

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
    return nfi_sum_begin_part(s, t, length, 0, 1, threads, memory);
}

nf_status nfi_sum_begin_part(nfi_sum *s, const nfi_tiling *t, size_t length, size_t rank, size_t n_ranks,
                             size_t threads, nf_arena *memory)
{
    s->tiling = *t;
    s->length = length;
    s->all_shards = nfi_shard_count(t->n_tiles, length * sizeof(nf_real));
    s->n_shards = s->all_shards / n_ranks;
    s->first_shard = rank * s->n_shards;
    s->n_parts = s->n_shards < NFI_MAX_PARTS ? s->n_shards : NFI_MAX_PARTS;
    size_t levels = 0;
    for (size_t k = s->n_shards; k > s->n_parts; k /= 2)
        levels++;
    s->n_buffers = s->n_parts + threads * levels < s->n_shards ? s->n_parts + threads * levels : s->n_shards;
    const size_t stride = (length + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    nf_real *buffers = nf_arena_reals(memory, s->n_buffers, stride); /* all in one chunk that fits */
    if (!buffers)
        return NF_ENOMEM;
    atomic_init(&s->next, 0);
    for (size_t i = 0; i < s->n_shards; i++)
        atomic_init(&s->waiting[i], NULL);
    for (size_t i = 0; i < NFI_MAX_PARTS; i++)
        s->part[i] = NULL;
    for (size_t i = 0; i < s->n_buffers; i++)
        atomic_init(&s->pool[i], buffers + i * stride);
    return NF_OK;
}

/* There is always a free buffer: see the bound in shards.h. */
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

static void carry_up(nfi_sum *s, size_t node, nf_real *sum)
{
    while (node >= 2 * s->n_parts) {
        node /= 2;
        nf_real *other = atomic_exchange(&s->waiting[node], sum);
        if (!other)
            return;
        nfi_add_parts(2, (nf_real *[]){sum, other}, 0, s->length);
        give_back(s, other);
    }
    s->part[node - s->n_parts] = sum;
}

void nfi_sum_work(nfi_sum *s, nfi_thread *memory, nfi_sum_fn *f, void *user, nfi_team *team)
{
    const nfi_tiling *t = &s->tiling;
    nf_mark scratch = nf_arena_mark(&memory->scratch), tape = nf_arena_mark(&memory->tape);
    for (size_t shard; (shard = atomic_fetch_add(&s->next, 1)) < s->n_shards;) {
        nf_real *g = take(s);
        size_t begin = nfi_shard_first_tile(t, s->first_shard + shard, s->all_shards);
        size_t end = nfi_shard_first_tile(t, s->first_shard + shard + 1, s->all_shards);
        for (size_t tile = begin; tile < end; tile++) {
            size_t first = nfi_tile_first(t, tile);
            nf_status status =
                f(user, tile, first, nfi_tile_first(t, tile + 1) - first, t->ld, memory, shard, tile == begin, g);
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
    nfi_add_parts(s->n_parts, s->part, first, last);
}
