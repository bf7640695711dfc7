/* A reparameterised draw from an amortised posterior on one tile, and the way back from its cotangents to the
   encoder's outputs:
   z = f(mean + exp(log_scale) * eps; ctx), log q(z) = log N(eps; 0, I) - sum log_scale - log|det df|
   (Rezende & Mohamed 2015, eq. 13 and section 4.2). */
#include "vae/vae.h"
#include <string.h>

nf_status nfi_draw_sample(nfi_draw *draw, const nf_object *posterior, const nf_pass *p, const nf_real *ctx,
                          nf_arena *memory)
{
    size_t dim = nf_object_shape(posterior)->dim_out;
    draw->pass = *p;
    draw->pass.ctx = ctx;
    draw->saved = NULL;
    draw->z = nf_arena_reals(memory, dim, p->ld);
    draw->log_q = nf_arena_alloc(memory, p->ld * sizeof *draw->log_q);
    if (!draw->z || !draw->log_q)
        return NF_ENOMEM;
    memset(draw->log_q, 0, p->ld * sizeof *draw->log_q);
    return nf_dist_sample(posterior, &draw->pass, draw->z, draw->log_q, &draw->saved);
}

nf_status nfi_draw_vjp(const nfi_draw *draw, const nf_object *posterior, const nf_real *gz, const nf_real *g_log_q,
                       nf_real *g_ctx, const nf_grad *g)
{
    nf_grad grad = *g;
    grad.ctx = g_ctx;
    if (g_ctx)
        memset(g_ctx, 0, nf_object_shape(posterior)->n_ctx * draw->pass.ld * sizeof *g_ctx);
    return nf_dist_sample_vjp(posterior, &draw->pass, draw->z, draw->saved, gz, g_log_q, &grad);
}
