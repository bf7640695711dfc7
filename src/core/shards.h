/* Sums over tiles that do not depend on the number of threads: S = 2^m shards of consecutive tiles, each summed in
   order by one thread, combined by a fixed binary tree: as they come in, up to the tree's NFI_MAX_PARTS nodes near the
   root, which are left to be added at one go, block by block, by all threads. S follows from the tiles and the length
   alone. In-order dispatch bounds the buffers alive: a part that is done or begun holds one, and below a begun one each
   thread at work in it log2(S / parts) more, its path's waiting halves. */
#ifndef NFI_SHARDS_H
#define NFI_SHARDS_H
#include "core/kernel.h"
#include "core/tiles.h"
#include <stdatomic.h>

enum { NFI_MAX_SHARDS = 64, NFI_MAX_BUFFERS = NFI_MAX_SHARDS, NFI_MAX_PARTS = 8 };

typedef struct nfi_sum {
    nfi_tiling tiling; /* of all samples */
    size_t n_shards, n_parts, length, n_buffers;
    size_t first_shard, all_shards;             /* these n_shards are a node of the tree over all_shards */
    atomic_size_t next;                         /* shard to be handed out */
    _Atomic(nf_real *) waiting[NFI_MAX_SHARDS]; /* per inner node: the half that came first */
    _Atomic(nf_real *) pool[NFI_MAX_BUFFERS];   /* free buffers */
    nf_real *part[NFI_MAX_PARTS];               /* [n_parts] whose sum, by the same tree, is the result */
} nfi_sum;

size_t nfi_shard_count(size_t n_tiles, size_t bytes);
/* Prepares a sum of `length` numbers (0 is allowed) over a tiling, buffers on `memory`. */
nf_status nfi_sum_begin(nfi_sum *s, const nfi_tiling *t, size_t length, size_t threads, nf_arena *memory);
/* The same for one of n_ranks (a power of two, at most the number of shards): its node of the tree. The sum of the
   ranks' results by the rest of the tree has the bits of the whole. */
nf_status nfi_sum_begin_part(nfi_sum *s, const nfi_tiling *t, size_t length, size_t rank, size_t n_ranks,
                             size_t threads, nf_arena *memory);
/* The first tile of shard i of n; i = n gives n_tiles. */
static inline size_t nfi_shard_first_tile(const nfi_tiling *t, size_t shard, size_t n_shards)
{
    return shard * t->n_tiles / n_shards;
}

/* A tile's contribution: g [length] +=, or, if g is fresh (undefined as yet), g =. Tiles and samples are numbered in
   the whole, shards from this part's first. */
typedef nf_status nfi_sum_fn(void *user, size_t tile, size_t first, size_t n, size_t ld, nfi_thread *memory,
                             size_t shard, bool fresh, nf_real *g);
/* One thread's work, inside a parallel region, until no shard is left. The arenas are rewound after each tile. */
void nfi_sum_work(nfi_sum *s, nfi_thread *memory, nfi_sum_fn *f, void *user, nfi_team *team);
/* Leaves the result in part[0][i] for first <= i < last: after all threads are done. */
void nfi_sum_finish(nfi_sum *s, size_t first, size_t last);

/* part[0][i] += the others', i from first to last, by the tree; n_parts 1, 2, 4 or 8. */
NFI_KERNEL void nfi_add_parts(size_t n_parts, nf_real *const *part, size_t first, size_t last);

#endif
