/* See given.h. */
#include "dist/given.h"
#include "base/memory.h"
#include <string.h>

nf_pass nfi_given_pass(const nf_object *o, size_t i, const nf_pass *p, const nf_real *ctx)
{
    nf_pass c = nf_child_pass(o, i, p);
    c.ctx = nf_child(o, i)->total.n_ctx ? ctx : NULL;
    c.log_weight = NULL;
    c.g_log_weight = NULL;
    return c;
}

nf_status nfi_draw_child(const nf_object *o, size_t i, const nf_noise *noise, const nf_batch *b, nf_real *theta,
                         nf_real *state, nf_arena *memory, const nf_real **x)
{
    nf_real *drawn = nf_arena_reals(memory, nf_child(o, i)->total.dim_out, b->ld);
    nf_pass p;
    const nf_status status = drawn ? nfi_init_pass(o, i, noise, b, theta, state, memory, &p) : NF_ENOMEM;
    *x = drawn;
    return status == NF_OK ? nf_dist_sample(nf_child(o, i), &p, drawn, NULL, NULL) : status;
}

const nf_real *nfi_given_context(const nf_object *part, size_t given, size_t ld, const nf_real *x, const nf_real *ctx,
                                 nf_arena *a)
{
    const size_t all = part->total.n_ctx;
    if (all <= given)
        return x;
    nf_real *both = nf_arena_reals(a, all, ld);
    if (both) {
        memcpy(both, x, given * ld * sizeof *both);
        memcpy(both + given * ld, ctx, (all - given) * ld * sizeof *both);
    }
    return both;
}

void nfi_given_context_vjp(const nf_object *part, size_t given, size_t ld, const nf_real *g_ctx, const nf_grad *g)
{
    for (size_t i = given * ld; g->ctx && i < part->total.n_ctx * ld; i++)
        g->ctx[i - given * ld] += g_ctx[i];
}

nf_status nfi_given_start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx)
{
    nf_noise moved = *noise;
    moved.site += o->place[0].site;
    return nf_start_context(nf_child(o, 0), &moved, ctx);
}

size_t nfi_given_others(const nf_shape *part, size_t given, size_t others, const char *who, const char *name,
                        const char *giver, nf_status *status)
{
    const size_t read = part->n_ctx > given ? part->n_ctx - given : 0;
    *status = NF_OK;
    if (part->n_ctx && part->n_ctx < given)
        *status = nf_error(NF_EDIM, "%s: `%s` reads %zu features of context, but must read none or the %zu of %s", who,
                           name, part->n_ctx, given, giver);
    else if (read && others && read != others)
        *status =
            nf_error(NF_EDIM, "%s: `%s` reads %zu features of context beside the %zu of %s, but the context has %zu",
                     who, name, read, given, giver, others);
    return read;
}
