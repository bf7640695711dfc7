/* Models: binding an object to its numbers, initialising, preparing, and pulling gradients back through preparation. */
#include "model/model.h"
#include "base/memory.h"
#include <omp.h>
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
    if (n && !x && m->o->kind != NFI_DIST)
        return nf_error(NF_EARG, "nf_model_init: `n` is %zu, but `x` is NULL, and a %s has no draws of its own", n,
                        m->o->part->name);
    if (n && !ctx && m->o->total.n_ctx)
        return nf_error(NF_EARG, "nf_model_init: `n` is %zu, but `ctx` is NULL, and the %s reads %zu rows of it", n,
                        m->o->part->name, m->o->total.n_ctx);
    return NF_OK;
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
#pragma omp parallel num_threads(1)
        {
            omp_set_num_threads(1); /* keeps a user's BLAS single-threaded here; the user's own setting stays */
            status = nfi_tree_init(m->o, &noise, n ? &batch : NULL, m->theta, m->state);
        }
    }
    nfi_arena_clear(&memory);
    return status == NF_OK ? nf_model_update(m, NF_EVAL) : status;
}

nfi_preparing nfi_preparing_of(const nf_model *m, nf_mode mode)
{
    return (nfi_preparing){
        .list = &m->preparation, .mode = mode, .theta = m->theta, .state = m->state, .prep = m->prep};
}

nf_status nf_model_update(nf_model *m, nf_mode mode)
{
    if (!m)
        return nf_error(NF_EARG, "nf_model_update: `m` is NULL");
    if (mode != NF_EVAL && mode != NF_TRAIN)
        return nf_error(NF_EARG, "nf_model_update: `mode` is %d, neither NF_EVAL nor NF_TRAIN", (int)mode);
    const bool fitting = m->readiness == NFI_FITTING;
    nfi_preparing run = nfi_preparing_of(m, mode);
    m->readiness = NFI_STALE;
    const nf_status status = nfi_prepare_all(&run, 0);
    if (status != NF_OK)
        return status;
    m->readiness = fitting ? NFI_FITTING : NFI_READY;
    if (!fitting) /* after the preparation, which may have moved the state */
        m->fingerprint = nfi_fingerprint_of(&m->preparation, m->theta, m->state);
    return NF_OK;
}

nf_status nfi_check_ready(const nf_model *m, const char *who)
{
    if (m->preparation.n == 0 || m->readiness == NFI_FITTING)
        return NF_OK;
    if (m->readiness == NFI_STALE)
        return nf_error(NF_ESTALE, "%s: the model's last nf_model_update() has failed", who);
    if (m->fingerprint == nfi_fingerprint_of(&m->preparation, m->theta, m->state))
        return NF_OK;
    return nf_error(NF_ESTALE, "%s: the model's theta or state has changed since the last nf_model_update()", who);
}

nf_status nfi_call_begin(const nf_model *m, const char *who, nf_workspace *ws, nf_workspace **mine)
{
    const nf_status status = nfi_check_ready(m, who);
    if (status != NF_OK)
        return status;
    *mine = nfi_workspace_borrow(ws);
    return *mine ? NF_OK : NF_ENOMEM;
}

static nf_status check_options(const nf_object *o, const nf_model_options *options, const char *who)
{
    const nf_shape *s = &o->total;
    if (!options->theta && options->state)
        return nf_error(NF_EARG, "%s: `options->state` is given without `theta`", who);
    if (options->theta && s->n_state && !options->state)
        return nf_error(NF_EARG,
                        "%s: `options->theta` is given, but `state` is NULL and the object has %zu numbers of it", who,
                        s->n_state);
    if (options->theta && options->n_init)
        return nf_error(NF_EARG, "%s: `options->n_init` is %zu, but the caller's `theta` is taken as it stands", who,
                        options->n_init);
    return NF_OK;
}

nf_model *nfi_model_bind(nf_object *o, const nf_model_options *options, const char *who)
{
    static const nf_model_options none;
    if (!o)
        return NULL;
    options = options ? options : &none;
    nf_model *m = NULL;
    if (check_options(o, options, who) == NF_OK)
        m = nfi_calloc(1, sizeof *m);
    if (!m) {
        nf_object_free(o);
        return NULL;
    }
    m->o = o;
    m->own_theta = !options->theta;
    m->own_state = !options->state;
    m->theta = m->own_theta ? nfi_calloc(o->total.n_params, sizeof(nf_real)) : options->theta;
    m->state = m->own_state ? nfi_calloc(o->total.n_state, sizeof(nf_real)) : options->state;
    m->prep = nfi_calloc(o->total.n_prep, sizeof(nf_real));
    nf_status status = m->theta && m->state && m->prep ? nfi_list_prepared(o, &m->preparation) : NF_ENOMEM;
    if (status == NF_OK)
        status = m->own_theta ? nf_model_init(m, options->seed, options->n_init, options->init_x, options->init_ctx)
                              : nf_model_update(m, NF_EVAL);
    if (status != NF_OK) {
        nf_model_free(m);
        return NULL;
    }
    return m;
}

nf_model *nf_model_of_dist(nf_dist *dist, const nf_model_options *options)
{
    return nfi_model_bind((nf_object *)dist, options, "nf_model_of_dist");
}

nf_model *nf_model_of_flow(nf_flow *flow, const nf_model_options *options)
{
    return nfi_model_bind((nf_object *)flow, options, "nf_model_of_flow");
}

nf_model *nf_model_of_net(nf_net *net, const nf_model_options *options)
{
    return nfi_model_bind((nf_object *)net, options, "nf_model_of_net");
}

nf_model *nf_model_of_vae(nf_vae *vae, const nf_model_options *options)
{
    return nfi_model_bind((nf_object *)vae, options, "nf_model_of_vae");
}

nf_model *nf_model_of_object(nf_object *o, const nf_model_options *options)
{
    return nfi_model_bind(o, options, "nf_model_of_object");
}

void nf_model_free(nf_model *m)
{
    if (!m)
        return;
    if (m->own_theta)
        nfi_free(m->theta);
    if (m->own_state)
        nfi_free(m->state);
    nfi_free(m->prep);
    nfi_preparation_clear(&m->preparation);
    nf_object_free(m->o);
    nfi_free(m);
}

nf_object *nf_model_object(const nf_model *m)
{
    return m ? m->o : NULL;
}

const nf_shape *nf_model_shape(const nf_model *m)
{
    return nf_object_shape(m ? m->o : NULL);
}

nf_real *nf_model_theta(nf_model *m)
{
    return m ? m->theta : NULL;
}

nf_real *nf_model_state(nf_model *m)
{
    return m ? m->state : NULL;
}

size_t nf_model_gradient_size(const nf_model *m)
{
    return m ? m->o->total.n_params + m->o->total.n_prep : 0;
}

nf_status nf_model_pull_gradient(const nf_model *m, nf_real *g, nf_real *g_theta)
{
    if (!m || !g || !g_theta)
        return nf_error(NF_EARG, "nf_model_pull_gradient: `%s` is NULL", !m ? "m" : !g ? "g" : "g_theta");
    const nf_status status = nfi_check_ready(m, "nf_model_pull_gradient");
    return status == NF_OK ? nfi_pull_gradient(m, 0, g, g_theta) : status;
}

nf_status nfi_pull_gradient(const nf_model *m, size_t threads, nf_real *g, nf_real *g_theta)
{
    const size_t n_params = m->o->total.n_params;
    nfi_preparing run = nfi_preparing_of(m, NF_TRAIN);
    if (g != g_theta)
        for (size_t i = 0; i < n_params; i++)
            g_theta[i] += g[i];
    run.g_prep = g + n_params;
    run.g_theta = g_theta;
    return nfi_prepare_all(&run, threads);
}

nf_status nf_model_end_step(nf_model *m, const double *stats, size_t n)
{
    if (!m || !stats)
        return nf_error(NF_EARG, "nf_model_end_step: `%s` is NULL", m ? "stats" : "m");
    if (n == 0)
        return nf_error(NF_EARG, "nf_model_end_step: `n` is 0");
    return nfi_tree_end_step(m->o, stats, n, m->state);
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
        nfi_pack_left(p, first, dim, batch, tile);
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

nf_status nfi_check_noise(const char *who, const nf_object *o, const nf_noise *noise)
{
    if (noise || !(o->total.flags & NF_STOCHASTIC))
        return NF_OK;
    return nf_error(NF_EARG, "%s: `noise` is NULL, but the %s draws noise whenever it is used", who, o->part->name);
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
