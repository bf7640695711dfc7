/* Models from the inside. */
#ifndef NFI_MODEL_H
#define NFI_MODEL_H
#include "core/prepare.h"
#include "core/tiles.h"
#include "core/tree.h"

struct nf_model {
    nf_object *o;
    nf_real *theta, *state, *prep;
    bool own_theta, own_state;
    nfi_preparation preparation; /* of o */
};

/* A round of preparation over the model's numbers. For the way back set g_prep and g_theta. */
nfi_preparing nfi_preparing_of(const nf_model *m, nf_mode mode);
/* As nf_model_pull_gradient, without its checks, on at most `threads` threads (0: as many as OpenMP would use). */
nf_status nfi_pull_gradient(const nf_model *m, size_t threads, nf_real *g, nf_real *g_theta);

/* The pass of the whole bound object over one tile; samples are named from noise->first_sample + first.
   memory NULL: no arenas. gradient: whether a tape is wanted. */
nf_pass nfi_model_pass(const nf_model *m, nfi_thread *memory, const nf_noise *noise, size_t first, size_t n, size_t ld,
                       nf_mode mode, bool gradient);
/* Binds an object of any kind; consumes it. */
nf_model *nfi_model_bind(nf_object *o, const nf_model_options *options, const char *who);
/* The flow of a model of a flow or of a pushforward; *root, the pass of the whole object, is moved to the flow's
   numbers. NULL if there is none (no message). */
const nf_object *nfi_model_flow(const nf_model *m, nf_pass *root);

/* The rows of a row-major batch [n x dim] that belong to p's columns, first + column s, as a tile on scratch; `batch`
   NULL: the tile is not initialised. NULL with *status set when out of memory. */
nf_real *nfi_load_tile(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_status *status);
/* The same of cotangents: 0 in the padding, and everywhere if `batch` is NULL. */
nf_real *nfi_load_cotangent(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_status *status);
/* NF_EARG, with a message that begins with `who`, if the object draws whenever it is used and has no noise to do so. */
nf_status nfi_check_noise(const char *who, const nf_object *o, const nf_noise *noise);

/* Runs f over the tiles of a batch of n, as nfi_for_tiles does; `ws` NULL: in a temporary workspace. */
nf_status nfi_for_batch(const nf_model *m, nf_workspace *ws, size_t n, nfi_tile_fn *f, void *user);

#endif
