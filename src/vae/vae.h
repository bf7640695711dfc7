/* What a VAE consists of: its three parts, and a draw from its posterior on a tile. */
#ifndef NFI_VAE_H
#define NFI_VAE_H
#include "model/model.h"
#include "vae/likelihood.h"
#include <nflow/vae.h>

enum { NFI_ENCODER, NFI_POSTERIOR, NFI_DECODER }; /* indices of the children */

static inline nf_likelihood nfi_vae_likelihood(const nf_object *vae)
{
    return *(const nf_likelihood *)nf_self(vae);
}
/* The VAE that a model is bound to. NULL if the model is NULL or of another kind; the error message then begins with
   `who`. */
const nf_object *nfi_model_vae(const nf_model *m, const char *who);
/* The rows of a data set for this VAE, as minibatches. NULL if the data do not fit it; the message begins with `who`.
 */
nf_minibatches *nfi_vae_rows(const nf_object *vae, const nf_data *data, size_t batch, const char *who);
/* Makes the VAE that a model file describes. */
nf_vae *nfi_vae_rebuild(nf_reader *r);

/* ---- z ~ q(z | ctx) on a tile, for the VAE and for the plug-in ---- */

typedef struct nfi_draw {
    nf_pass pass;  /* the posterior's pass, with its context */
    nf_real *z;    /* [dim x ld] */
    double *log_q; /* [ld] */
    void *saved;
} nfi_draw;

/* ctx [n_ctx x ld] remains the caller's. The memory of z and log_q is taken from `memory`. `p` is the posterior's
   pass. */
nf_status nfi_draw_sample(nfi_draw *draw, const nf_object *posterior, const nf_pass *p, const nf_real *ctx,
                          nf_arena *memory);
/* The gradient of <gz, z> + <g_log_q, log_q>. g_ctx [n_ctx x ld] is overwritten (NULL: not wanted). *g is added to;
   its ctx is ignored. */
nf_status nfi_draw_vjp(const nfi_draw *draw, const nf_object *posterior, const nf_real *gz, const nf_real *g_log_q,
                       nf_real *g_ctx, const nf_grad *g);

#endif
