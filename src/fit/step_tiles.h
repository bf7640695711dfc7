/* What the threads of the team do with the tiles of a step. */
#ifndef NFI_STEP_TILES_H
#define NFI_STEP_TILES_H
#include "fit/objective.h"

/* For an objective with `gather`: every thread takes tiles forward; then thread 0 calls `gather`. Errors are left in
   the team. */
void nfi_tiles_forward(nfi_engine *e, nfi_thread *memory, size_t thread, size_t n_threads);
/* Takes a tile through the loss and backward: an engine's nfi_sum_fn. */
nf_status nfi_tile_backward(void *engine, size_t tile, size_t first, size_t n, size_t ld, nfi_thread *memory,
                            size_t shard, bool fresh, nf_real *g);

#endif
