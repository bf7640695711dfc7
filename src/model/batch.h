/* What the calls for whole batches have in common. Such a call checks its arguments, begins, runs over the tiles of the
   batch, and for each tile makes the pass and loads the rows. */
#ifndef NFI_BATCH_H
#define NFI_BATCH_H
#include "model/model.h"
#include "object/tiles.h"

/* The arguments of a call for a batch through the whole object: NF_EARG if the model is NULL or not of that kind, if n
   is 0, if x is NULL, or if ctx is and the model reads context. Messages begin with `who`. */
nf_status nfi_check_batch(const char *who, const nf_model *m, nfi_kind kind, size_t n, const void *x,
                          const nf_real *ctx);
/* NF_EARG, with a message that begins with `who`, if the object draws random numbers whenever it is used, but noise is
   NULL. */
nf_status nfi_check_noise(const char *who, const nf_object *o, const nf_noise *noise);

/* Every call that reads a model begins here, after it has checked its arguments: it gets the caller's workspace, or a
   temporary one if `ws` is NULL, which nfi_workspace_return takes back. Errors: NF_ESTALE as nfi_check_ready, and
   NF_ENOMEM; then there is no workspace. */
nf_status nfi_call_begin(const nf_model *m, const char *who, nf_workspace *ws, nf_workspace **mine);

/* Runs f over the tiles of a batch of n samples, as nfi_for_tiles does, between nfi_call_begin and
   nfi_workspace_return. */
nf_status nfi_for_batch(const nf_model *m, const char *who, nf_workspace *ws, size_t n, nfi_tile_fn *f, void *user);

/* nf_transform and nf_transform_vjp with the penalty of each row, which those do without: penalty [n], written, NaN
   where a row fails; g_penalty [n], its cotangent. Both may be NULL. */
nf_status nfi_transform(const nf_model *m, nf_workspace *ws, const nf_noise *noise, nf_direction d, size_t n,
                        const nf_real *x, const nf_real *ctx, nf_real *y, double *log_det, double *penalty);
nf_status nfi_transform_vjp(const nf_model *m, nf_workspace *ws, const nf_noise *noise, nf_direction d, size_t n,
                            const nf_real *x, const nf_real *ctx, const nf_real *gy, const nf_real *g_log_det,
                            const nf_real *g_penalty, nf_real *gx, nf_real *g_ctx, nf_real *g_theta);

/* The pass of the whole bound object over one tile. Its samples have the numbers noise->first_sample + first and
   following. If memory is NULL, the pass has no arenas. `gradient` says whether it has a tape. */
nf_pass nfi_model_pass(const nf_model *m, nfi_thread *memory, const nf_noise *noise, size_t first, size_t n, size_t ld,
                       nf_mode mode, bool gradient);
/* The same in evaluation and without a tape, for a call whose tiles read the rows `ctx` [n x n_ctx] of a batch. *status
   is set when out of memory. */
nf_pass nfi_load_pass(const nf_model *m, const nf_noise *noise, const nf_real *ctx, size_t first, size_t n, size_t ld,
                      nfi_thread *memory, nf_status *status);
/* The flow of a model that is a flow or a pushforward; NULL (no message) if there is none. *root, the pass of the whole
   object, is moved to the flow's numbers. */
const nf_object *nfi_model_flow(const nf_model *m, nf_pass *root);
/* Loads samples of a row-major batch [n x dim] into a tile on scratch: column s of p is sample `first` +
   p->noise.column[s], or `first` + s without such numbers. If `batch` is NULL, the tile is not initialised. NULL with
   *status set when out of memory. */
nf_real *nfi_load_tile(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_status *status);
/* The same for cotangents: the padding is 0, and so is the whole tile if `batch` is NULL. */
nf_real *nfi_load_cotangent(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_status *status);

#endif
