/* Models from the inside. */
#ifndef NFI_MODEL_H
#define NFI_MODEL_H
#include "object/prepare.h"
#include "object/pack.h"
#include "object/tiles.h"
#include "object/tree.h"

struct nf_model {
    nf_object *o;
    nf_real *theta, *state, *prep;
    bool own_theta, own_state;
    nfi_preparation preparation; /* the nodes of o that are to be prepared */
};

/* A round of preparation over the model's numbers. To pull gradients back, set g_prep and g_theta in the result. */
nfi_preparing nfi_preparing_of(const nf_model *m, nf_mode mode);
/* As nf_model_pull_gradient, without its checks, on at most `threads` threads (0: as many as OpenMP would use). */
nf_status nfi_pull_gradient(const nf_model *m, size_t threads, nf_real *g, nf_real *g_theta);

/* The pass of the whole bound object over one tile. Its samples have the numbers noise->first_sample + first and
   following. If memory is NULL, the pass has no arenas. `gradient` says whether it has a tape. */
nf_pass nfi_model_pass(const nf_model *m, nfi_thread *memory, const nf_noise *noise, size_t first, size_t n, size_t ld,
                       nf_mode mode, bool gradient);
/* Binds an object of any kind; consumes it. */
nf_model *nfi_model_bind(nf_object *o, const nf_model_options *options, const char *who);
/* The flow of a model that is a flow or a pushforward; NULL (no message) if there is none. *root, the pass of the whole
   object, is moved to the flow's numbers. */
const nf_object *nfi_model_flow(const nf_model *m, nf_pass *root);

/* Loads samples of a row-major batch [n x dim] into a tile on scratch: column s of p is sample `first` +
   p->noise.column[s], or `first` + s without such numbers. If `batch` is NULL, the tile is not initialised. NULL with
   *status set when out of memory. */
nf_real *nfi_load_tile(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_status *status);
/* The same for cotangents: the padding is 0, and so is the whole tile if `batch` is NULL. */
nf_real *nfi_load_cotangent(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_status *status);
/* NF_EARG, with a message that begins with `who`, if the object draws random numbers whenever it is used, but noise is
   NULL. */
nf_status nfi_check_noise(const char *who, const nf_object *o, const nf_noise *noise);

/* Runs f over the tiles of a batch of n samples, as nfi_for_tiles does. If `ws` is NULL, it uses a temporary
   workspace. */
nf_status nfi_for_batch(const nf_model *m, nf_workspace *ws, size_t n, nfi_tile_fn *f, void *user);

#endif
