/* What the calls for whole batches have in common: their arguments, a workspace, the loop over tiles, and how a tile
   gets its pass and its numbers. */
#include "model/batch.h"
#include <string.h>

nf_status nfi_check_batch(const char *who, const nf_model *m, nfi_kind kind, size_t n, const void *x,
                          const nf_real *ctx)
{
    if (!m)
        return nf_error(NF_EARG, "%s: `m` is NULL", who);
    if (m->o->kind != kind)
        return nf_error(NF_EARG, "%s: the model is of a `%s`, which is not what this call is for", who,
                        m->o->part->name);
    if (n == 0)
        return nf_error(NF_EARG, "%s: `n` is 0", who);
    if (!x)
        return nf_error(NF_EARG, "%s: `x` is NULL", who);
    if (m->o->total.n_ctx && !ctx)
        return nf_error(NF_EARG, "%s: `ctx` is NULL, but the model reads %zu features of context", who,
                        m->o->total.n_ctx);
    return NF_OK;
}

nf_status nfi_check_noise(const char *who, const nf_object *o, const nf_noise *noise)
{
    if (noise || !(o->total.flags & NF_STOCHASTIC))
        return NF_OK;
    return nf_error(NF_EARG, "%s: `noise` is NULL, but the %s draws noise whenever it is used", who, o->part->name);
}

nf_status nfi_call_begin(const nf_model *m, const char *who, nf_workspace *ws, nf_workspace **mine)
{
    const nf_status status = nfi_check_ready(m, who);
    if (status != NF_OK)
        return status;
    *mine = nfi_workspace_borrow(ws);
    return *mine ? NF_OK : NF_ENOMEM;
}

nf_status nfi_for_batch(const nf_model *m, const char *who, nf_workspace *ws, size_t n, nfi_tile_fn *f, void *user)
{
    nf_workspace *mine;
    nf_status status = nfi_call_begin(m, who, ws, &mine);
    if (status != NF_OK)
        return status;
    nfi_tiling tiling = nfi_tile_batch(n, m->o->total.n_saved);
    nfi_failures_begin(mine);
    status = nfi_for_tiles(mine, &tiling, f, user);
    nfi_failures_end(mine);
    nfi_workspace_return(ws, mine);
    return status;
}

nf_pass nfi_model_pass(const nf_model *m, nfi_thread *memory, const nf_noise *noise, size_t first, size_t n, size_t ld,
                       nf_mode mode, bool gradient)
{
    nf_pass p = {.n = n, .ld = ld, .theta = m->theta, .state = m->state, .prep = m->prep, .mode = mode};
    if (noise) {
        p.noise = *noise;
        p.noise.first_sample += first;
        p.noise.column = NULL;
    }
    if (memory) {
        p.tape = gradient ? &memory->tape : NULL;
        p.scratch = &memory->scratch;
    }
    return p;
}

nf_pass nfi_load_pass(const nf_model *m, const nf_noise *noise, const nf_real *ctx, size_t first, size_t n, size_t ld,
                      nfi_thread *memory, nf_status *status)
{
    nf_pass p = nfi_model_pass(m, memory, noise, first, n, ld, NF_EVAL, false);
    if (m->o->total.n_ctx)
        p.ctx = nfi_load_tile(&p, first, m->o->total.n_ctx, ctx, status);
    return p;
}

const nf_object *nfi_model_flow(const nf_model *m, nf_pass *root)
{
    if (m->o->kind == NFI_FLOW)
        return m->o;
    for (size_t i = m->o->n_children; m->o->kind == NFI_DIST && i-- > 0;)
        if (m->o->children[i]->kind == NFI_FLOW) {
            *root = nf_child_pass(m->o, i, root);
            return m->o->children[i];
        }
    return NULL;
}

nf_real *nfi_load_tile(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_status *status)
{
    nf_real *tile = nf_arena_reals(p->scratch, dim, p->ld);
    if (!tile)
        *status = NF_ENOMEM;
    else if (batch)
        nfi_pack_left(p, first, dim, batch, dim, tile);
    return tile;
}

nf_real *nfi_load_cotangent(const nf_pass *p, size_t first, size_t dim, const nf_real *batch, nf_status *status)
{
    nf_real *tile = nfi_load_tile(p, first, dim, batch, status);
    if (tile && batch)
        nfi_pad_zero(dim, p->n, p->ld, tile);
    else if (tile)
        memset(tile, 0, dim * p->ld * sizeof *tile);
    return tile;
}
