/* Sums over tiles that do not depend on the number of threads. There are S = 2^m shards of consecutive tiles, and one
   thread sums each shard in order. A fixed binary tree combines the shards as they come in, up to the NFI_MAX_PARTS
   nodes near the root, which are called parts. In the end all threads add the parts at one go, block by block. S
   follows from the number of tiles and the length of the sum alone.

   Since shards are handed out in order, few buffers are in use at once. Each part that is begun or done holds one. Each
   thread that works in a part needs at most log2(S / parts) more, for the halves that wait on its path up the tree. */
#ifndef NFI_SHARDS_H
#define NFI_SHARDS_H
#include "base/kernel.h"
#include "object/team.h"
#include "object/tiles.h"
#include <stdatomic.h>

enum { NFI_MAX_SHARDS = 64, NFI_MAX_BUFFERS = NFI_MAX_SHARDS, NFI_MAX_PARTS = 8 };

typedef struct nfi_sum {
    nfi_tiling tiling; /* that of all samples */
    size_t n_shards, n_parts, length, n_buffers;
    size_t first_shard, all_shards;             /* these n_shards shards are one node of the tree over all_shards */
    atomic_size_t next;                         /* the next shard to be handed out */
    _Atomic(nf_real *) waiting[NFI_MAX_SHARDS]; /* for each inner node: the half that came first */
    _Atomic(nf_real *) pool[NFI_MAX_BUFFERS];   /* free buffers */
    nf_real *part[NFI_MAX_PARTS];               /* [n_parts] their sum, by the same tree, is the result */
} nfi_sum;

size_t nfi_shard_count(size_t n_tiles, size_t bytes);
/* Prepares a sum of `length` numbers (0 is allowed) over a tiling, with its buffers on `memory`. */
nf_status nfi_sum_begin(nfi_sum *s, const nfi_tiling *t, size_t length, size_t threads, nf_arena *memory);
/* The same for rank `rank` of n_ranks (a power of two, at most the number of shards): the sum of the rank's node of the
   tree. If the ranks' results are added by the rest of the tree, the sum has the same bits as that of a single
   process. */
nf_status nfi_sum_begin_part(nfi_sum *s, const nfi_tiling *t, size_t length, size_t rank, size_t n_ranks,
                             size_t threads, nf_arena *memory);
/* The first tile of shard i of n; for i = n it is n_tiles. */
static inline size_t nfi_shard_first_tile(const nfi_tiling *t, size_t shard, size_t n_shards)
{
    return shard * t->n_tiles / n_shards;
}

/* Computes a tile's contribution. It is added to g [length], or overwrites g if g is fresh (not yet written). Tiles and
   samples are numbered over all ranks, shards from this rank's first. */
typedef nf_status nfi_sum_fn(void *user, size_t tile, size_t first, size_t n, size_t ld, nfi_thread *memory,
                             size_t shard, bool fresh, nf_real *g);
/* The work of one thread inside a parallel region, until no shard is left. The arenas are rewound after each tile. */
void nfi_sum_work(nfi_sum *s, nfi_thread *memory, nfi_sum_fn *f, void *user, nfi_team *team);
/* Leaves the result in part[0][i] for first <= i < last. Call it only when all threads are done with nfi_sum_work. */
void nfi_sum_finish(nfi_sum *s, size_t first, size_t last);

/* Adds the other parts to part[0], for the numbers first <= i < last, by the tree; n_parts is 1, 2, 4 or 8. */
NFI_KERNEL void nfi_add_parts(size_t n_parts, nf_real *const *part, size_t first, size_t last);

#endif
