/* The initial numbers of a model, from a seed and, for layers that begin from data, a batch. The batch becomes one big
   tile, which the walk over the tree hands on from part to part (object/walk.c). */
#include "base/memory.h"
#include "model/model.h"
#include "object/tiles.h"
#include <string.h>

/* Packs row-major initial data into one big tile. In a flow or a distribution, the data enter at the target's side; in
   a net or a VAE, they are its input. A distribution without data goes forward from its own draws. */
static nf_status pack_batch(const nf_model *m, size_t n, const nf_real *x, const nf_real *ctx, nf_arena *memory,
                            nf_batch *batch)
{
    const nf_shape *s = &m->o->total;
    const bool target_side = x && (m->o->kind == NFI_FLOW || m->o->kind == NFI_DIST);
    const size_t ld = (n + 15) / 16 * 16, dim = target_side ? s->dim_out : s->dim_in;
    *batch = (nf_batch){.n = n, .ld = ld, .direction = target_side ? NF_INVERSE : NF_FORWARD};
    nf_real *xt = nf_arena_reals(memory, x ? dim : 0, ld), *ct = nf_arena_reals(memory, s->n_ctx, ld);
    if (!xt || !ct)
        return NF_ENOMEM;
    if (x) {
        nfi_pack(n, dim, x, dim, ld, xt);
        batch->x = xt;
    }
    if (s->n_ctx) {
        nfi_pack(n, s->n_ctx, ctx, s->n_ctx, ld, ct);
        batch->ctx = ct;
    }
    return NF_OK;
}

static nf_status check_batch(const nf_model *m, size_t n, const nf_real *x, const nf_real *ctx)
{
    if (n == 0 && (x || ctx))
        return nf_error(NF_EARG, "nf_model_init: `%s` is given, but `n`, the number of rows, is 0", x ? "x" : "ctx");
    if (n && !x && m->o->kind != NFI_DIST)
        return nf_error(NF_EARG, "nf_model_init: `n` is %zu, but `x` is NULL, and a %s has no draws of its own", n,
                        m->o->part->name);
    if (n && !ctx && m->o->total.n_ctx)
        return nf_error(NF_EARG, "nf_model_init: `n` is %zu, but `ctx` is NULL, and the %s reads %zu features of it", n,
                        m->o->part->name, m->o->total.n_ctx);
    return NF_OK;
}

typedef struct initialisation {
    nf_model *m;
    const nf_noise *noise;
    nf_batch *batch;
    nf_status status;
} initialisation;

static void initialise(void *user, size_t thread, size_t n_threads)
{
    (void)thread, (void)n_threads;
    initialisation *w = user;
    w->status = nfi_tree_init(w->m->o, w->noise, w->batch, w->m->theta, w->m->state);
}

nf_status nf_model_init(nf_model *m, uint64_t seed, size_t n, const nf_real *x, const nf_real *ctx)
{
    if (!m)
        return nf_error(NF_EARG, "nf_model_init: `m` is NULL");
    nf_arena memory = {0};
    nf_batch batch;
    nf_noise noise = {.seed = seed};
    nf_status status = check_batch(m, n, x, ctx);
    if (status == NF_OK && n)
        status = pack_batch(m, n, x, ctx, &memory, &batch);
    if (status == NF_OK) {
        memset(m->theta, 0, m->o->total.n_params * sizeof(nf_real));
        memset(m->state, 0, m->o->total.n_state * sizeof(nf_real));
        initialisation w = {.m = m, .noise = &noise, .batch = n ? &batch : NULL};
        nfi_run_alone(initialise, &w);
        status = w.status;
    }
    nfi_arena_clear(&memory);
    return status == NF_OK ? nf_model_update(m, NF_EVAL) : status;
}
