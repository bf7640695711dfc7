/* Tiles and teams: how a batch is cut into tiles, and how threads share the tiles. */
#ifndef NFI_TILES_H
#define NFI_TILES_H
#include "base/memory.h"
#include "object/pool.h"
#include <nflow/model.h>

/* n samples in n_tiles equal tiles (their sizes differ by at most one), each stored with row stride ld. The tiling
   follows from n and the object's size alone. */
typedef struct nfi_tiling {
    size_t n, n_tiles, ld;
} nfi_tiling;

/* reals_per_sample: about how many numbers a sample needs on the tape (nf_shape.n_saved). */
nfi_tiling nfi_tile_batch(size_t n, size_t reals_per_sample);
/* The first sample of tile t; for t = n_tiles it is n. */
static inline size_t nfi_tile_first(const nfi_tiling *t, size_t tile)
{
    size_t q = t->n / t->n_tiles, r = t->n % t->n_tiles;
    return tile * q + (tile < r ? tile : r);
}

/* The memory of one thread. The padding keeps threads out of each other's cache lines. */
typedef struct nfi_thread {
    nf_arena tape, scratch;
    size_t failed; /* samples of the present batch call that have no result */
    char padding[128];
} nfi_thread;

struct nf_workspace {
    size_t n_threads;
    nfi_pool pool;      /* the threads beside the calling one */
    nfi_thread *thread; /* [n_threads] */
    nf_arena shared;    /* the calling thread's: arrays of a whole batch */
    size_t failed;      /* samples of the last batch call that had no result */
    /* the tapes between nf_posterior_forward and nf_posterior_backward, NULL if there are none: see vae/posterior.c */
    struct nfi_plugin *plugin;
    nf_arena plugin_tape; /* an arena of its own, so that other calls may come in between */
};

/* Gives the caller's workspace, or a temporary one if `ws` is NULL; NULL when out of memory. nfi_workspace_return frees
   the temporary one. */
static inline nf_workspace *nfi_workspace_borrow(nf_workspace *ws)
{
    return ws ? ws : nf_workspace_new(0);
}
static inline void nfi_workspace_return(const nf_workspace *ws, nf_workspace *borrowed)
{
    if (borrowed != ws)
        nf_workspace_free(borrowed);
}

/* Call these before and after a batch call. nf_workspace_failed() is then what the threads of that call have
   counted. */
void nfi_failures_begin(nf_workspace *ws);
void nfi_failures_end(nf_workspace *ws);

/* f(user, the tile's first sample, number of samples, ld, the thread's memory). The thread's arenas are rewound after
   each tile. */
typedef nf_status nfi_tile_fn(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory);
/* Runs f over all tiles, on the workspace's threads; a user's BLAS is single-threaded inside. If several tiles fail,
   the error of the lowest one is returned, and its message becomes the calling thread's. */
nf_status nfi_for_tiles(nf_workspace *ws, const nfi_tiling *t, nfi_tile_fn *f, void *user);

/* From row-major [n x dim] (rows `stride` apart) to a feature-major tile [dim x ld], padding included; and back. */
void nfi_pack(size_t n, size_t dim, const nf_real *rows, size_t stride, size_t ld, nf_real *tile);
void nfi_unpack(size_t n, size_t dim, const nf_real *tile, size_t ld, nf_real *rows, size_t stride);
/* As nfi_pack, but with zeros in the padding: for cotangents. */
void nfi_pack_cotangent(size_t n, size_t dim, const nf_real *rows, size_t stride, size_t ld, nf_real *tile);
/* Packs those samples of a batch [n x dim] that are left in a tile: column s is sample `first` + p->noise.column[s]. If
   p->noise.column is NULL, column s is sample `first` + s. The padding is filled. nfi_unpack_left copies the tile's
   columns back to those samples. */
void nfi_pack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_real *tile);
void nfi_unpack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *tile, nf_real *batch);
/* Repeats column n-1 in the columns n..ld-1 of `rows` rows. */
void nfi_pad(size_t rows, size_t n, size_t ld, nf_real *tile);
/* Sets the columns n..ld-1 of `rows` rows to 0. */
void nfi_pad_zero(size_t rows, size_t n, size_t ld, nf_real *tile);

#endif
