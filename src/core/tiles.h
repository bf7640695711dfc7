/* Tiles and teams: how a batch is cut, and how threads share the tiles. */
#ifndef NFI_TILES_H
#define NFI_TILES_H
#include "core/memory.h"
#include "core/team.h"
#include <nflow/model.h>

/* n samples in n_tiles equal tiles (sizes differ by at most one), each stored with row stride ld. A function of n and
   the object's size alone. */
typedef struct nfi_tiling {
    size_t n, n_tiles, ld;
} nfi_tiling;

/* reals_per_sample: about what a sample costs on the tape (nf_shape.n_saved). */
nfi_tiling nfi_tile_batch(size_t n, size_t reals_per_sample);
/* First sample of tile t; t = n_tiles gives n. */
static inline size_t nfi_tile_first(const nfi_tiling *t, size_t tile)
{
    size_t q = t->n / t->n_tiles, r = t->n % t->n_tiles;
    return tile * q + (tile < r ? tile : r);
}

/* One thread's memory. The padding keeps threads out of each other's cache lines. */
typedef struct nfi_thread {
    nf_arena tape, scratch;
    size_t failed; /* rows of the batch call under way that have no result */
    char padding[128];
} nfi_thread;

struct nf_workspace {
    size_t n_threads;
    nfi_thread *thread; /* [n_threads] */
    nf_arena shared;    /* of the calling thread: whole-batch arrays */
    size_t failed;      /* rows of the last batch call that had no result */
    /* the tapes between nf_posterior_forward and nf_posterior_backward, NULL if there are none: see vae/posterior.c */
    struct nfi_plugin *plugin;
    nf_arena plugin_tape; /* of its own, so that other calls may come in between */
};

/* The caller's workspace, or a temporary one where he has none (NULL: out of memory); and its end. */
static inline nf_workspace *nfi_workspace_borrow(nf_workspace *ws)
{
    return ws ? ws : nf_workspace_new(0);
}
static inline void nfi_workspace_return(const nf_workspace *ws, nf_workspace *borrowed)
{
    if (borrowed != ws)
        nf_workspace_free(borrowed);
}

/* Around a batch call: nf_workspace_failed() is then what its threads have counted. */
void nfi_failures_begin(nf_workspace *ws);
void nfi_failures_end(nf_workspace *ws);

/* f(user, tile's first sample, samples, ld, thread's memory). Its arenas are rewound after each tile. */
typedef nf_status nfi_tile_fn(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory);
/* Runs f over all tiles, on the workspace's threads; a user's BLAS is single-threaded inside. Of several errors the
   lowest tile's is returned, with its message in the calling thread. */
nf_status nfi_for_tiles(nf_workspace *ws, const nfi_tiling *t, nfi_tile_fn *f, void *user);

/* Row-major [n x dim] (rows `stride` apart) to feature-major [dim x ld], padding included; and back. */
void nfi_pack(size_t n, size_t dim, const nf_real *rows, size_t stride, size_t ld, nf_real *tile);
void nfi_unpack(size_t n, size_t dim, const nf_real *tile, size_t ld, nf_real *rows, size_t stride);
/* The same with zeros as padding: for cotangents. */
void nfi_pack_cotangent(size_t n, size_t dim, const nf_real *rows, size_t stride, size_t ld, nf_real *tile);
/* Rows `first` + p->noise.column[s] of a batch [n x dim], or, where that is NULL, the p->n rows from `first` on;
   padding included. And a tile's columns to those rows. */
void nfi_pack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_real *tile);
void nfi_unpack_left(const nf_pass *p, size_t first, size_t dim, const nf_real *tile, nf_real *batch);
/* Repeats column n-1 into columns n..ld-1 of `rows` rows. */
void nfi_pad(size_t rows, size_t n, size_t ld, nf_real *tile);
/* Sets columns n..ld-1 to 0. */
void nfi_pad_zero(size_t rows, size_t n, size_t ld, nf_real *tile);

#endif
