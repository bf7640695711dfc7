/* What a step does with its tiles, by every thread of the team. */
#ifndef NFI_STEP_TILES_H
#define NFI_STEP_TILES_H
#include "fit/objective.h"

/* With a gather phase: all tiles forward, then the gathering, by the calling thread. Errors are the team's. */
void nfi_tiles_forward(nfi_engine *e, nfi_thread *memory, size_t thread, size_t n_threads);
/* A tile through the loss and backward: nfi_sum_fn of an engine. */
nf_status nfi_tile_backward(void *engine, size_t tile, size_t first, size_t n, size_t ld, nfi_thread *memory,
                            size_t shard, bool fresh, nf_real *g);

#endif
