/* Tiles: how a batch is cut into tiles, and how threads share the tiles. */
#ifndef NFI_TILES_H
#define NFI_TILES_H
#include "object/workspace.h"

/* n samples in n_tiles equal tiles (their sizes differ by at most one), each stored with stride ld. The tiling
   follows from n and the object's size alone. */
typedef struct nfi_tiling {
    size_t n, n_tiles, ld;
} nfi_tiling;

enum { NFI_WIDEST = 256 }; /* samples in a tile, at most */

/* reals_per_sample: about how many numbers a sample needs on the tape (nf_shape.n_saved). */
nfi_tiling nfi_tile_batch(size_t n, size_t reals_per_sample);
/* The first sample of tile t; for t = n_tiles it is n. */
static inline size_t nfi_tile_first(const nfi_tiling *t, size_t tile)
{
    size_t q = t->n / t->n_tiles, r = t->n % t->n_tiles;
    return tile * q + (tile < r ? tile : r);
}

/* f(user, the tile's first sample, number of samples, ld, the thread's memory). The thread's arenas are rewound after
   each tile. */
typedef nf_status nfi_tile_fn(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory);
/* Runs f over all tiles, on the workspace's threads; a user's BLAS is single-threaded inside. If several tiles fail,
   the error of the lowest one is returned, and its message becomes the calling thread's. */
nf_status nfi_for_tiles(nf_workspace *ws, const nfi_tiling *t, nfi_tile_fn *f, void *user);

#endif
