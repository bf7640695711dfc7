/* The posterior plug-in: z ~ q(z | mean, log_scale, ctx) for an encoder outside the library, and its gradient. The
   forward call leaves the tapes of all tiles in the workspace. So the backward call computes nothing again, and may
   be called more than once. A forward call that fails leaves no tapes.

   Both calls run in the calling thread, with scratch of the workspace's first thread. Users may call from threads of
   their own: each thread brings its workspace, and they share the model. */
#include "model/batch.h"
#include "object/live.h"
#include "vae/vae.h"
#include <string.h>

/* What a forward call leaves in the workspace. All of it is in ws->plugin_tape. */
struct nfi_plugin {
    const nf_model *model;
    nf_mode mode;
    nfi_tiling tiling;
    nfi_draw *draw; /* [n_tiles]; each has the samples with a result, as draw.pass lists them */
};

static nf_status check_model(const nf_model *m, const nf_workspace *ws, const char *who)
{
    if (!m || !ws)
        return nf_error(NF_EARG, "%s: `%s` is NULL", who, m ? "ws" : "m");
    if (m->o->kind != NFI_DIST)
        return nf_error(NF_EARG, "%s: the model is of `%s`, not of a posterior", who, nf_object_name(m->o));
    size_t dim = m->o->total.dim_out, n_ctx = m->o->total.n_ctx;
    if (n_ctx < 2 * dim)
        return nf_error(
            NF_EDIM,
            "%s: the model is of `%s` over %zu dimensions with %zu features of context, but a posterior takes "
            "%zu for its means and log-scales",
            who, nf_object_name(m->o), dim, n_ctx, 2 * dim);
    return NF_OK;
}

/* ---- forward ---- */

/* Draws z for the samples that are left in *p. */
static nf_status draw_rows(const nf_model *m, nf_workspace *ws, size_t first, const nf_pass *p, const nf_real *mean,
                           const nf_real *log_scale, const nf_real *flow_ctx, nfi_draw *draw)
{
    const size_t dim = m->o->total.dim_out, n_ctx = m->o->total.n_ctx, n_flow = n_ctx - 2 * dim;
    nf_real *ctx = nf_arena_reals(&ws->plugin_tape, n_ctx, p->ld);
    if (!ctx)
        return NF_ENOMEM;
    nfi_pack_left(p, first, dim, mean, ctx);
    nfi_pack_left(p, first, dim, log_scale, ctx + dim * p->ld);
    if (n_flow)
        nfi_pack_left(p, first, n_flow, flow_ctx, ctx + 2 * dim * p->ld);
    return nfi_draw_sample(draw, m->o, p, ctx, &ws->plugin_tape);
}

/* Draws a tile. Samples without a result get NaN; the tape has only the other samples. */
static nf_status forward_tile(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t tile,
                              const nf_real *mean, const nf_real *log_scale, const nf_real *flow_ctx, nf_real *z,
                              double *log_q)
{
    struct nfi_plugin *plugin = ws->plugin;
    const size_t dim = m->o->total.dim_out, ld = plugin->tiling.ld;
    size_t first = nfi_tile_first(&plugin->tiling, tile), n = nfi_tile_first(&plugin->tiling, tile + 1) - first;
    const nf_mark tape = nf_arena_mark(&ws->plugin_tape);
    nf_pass p = nfi_model_pass(m, &ws->thread[0], noise, first, n, ld, plugin->mode, true);
    p.tape = &ws->plugin_tape;
    nfi_draw *draw = &plugin->draw[tile];
    nfi_live live;
    nfi_live_begin(&live, &p);
    for (;;) {
        nf_status status = draw_rows(m, ws, first, &p, mean, log_scale, flow_ctx, draw);
        if (status != NF_OK)
            return status;
        const size_t n_ctx = m->o->total.n_ctx; /* of draw->pass: means, log-scales and the flow's context */
        nfi_spoil(&draw->pass, &(nfi_flow_of_tile){.n_ctx = n_ctx, .n_y = dim, .y = draw->z, .log = draw->log_q},
                  live.failed);
        nfi_unpack_left(&p, first, dim, draw->z, z);
        for (size_t s = 0; s < p.n; s++)
            log_q[first + (p.noise.column ? p.noise.column[s] : s)] = draw->log_q[s];
        if (!nfi_live_drop(&live, &p))
            break;
        draw->pass.n = p.n;
        if (p.n == 0)
            break;
        nf_arena_rewind(&ws->plugin_tape, tape);
    }
    ws->failed += live.n_failed;
    draw->pass.failed = NULL;
    if (live.n_failed) { /* the backward call needs the list, too */
        uint32_t *column = nf_arena_alloc(&ws->plugin_tape, n * sizeof *column);
        if (!column)
            return NF_ENOMEM;
        memcpy(column, live.column, p.n * sizeof *column);
        draw->pass.noise.column = column;
    }
    return NF_OK;
}

static nf_status start(const nf_model *m, nf_workspace *ws, nf_mode mode, size_t n)
{
    ws->plugin_tape.end = ws->thread[0].scratch.end = (nf_mark){0};
    struct nfi_plugin *plugin = nf_arena_alloc(&ws->plugin_tape, sizeof *plugin);
    if (!plugin)
        return NF_ENOMEM;
    *plugin = (struct nfi_plugin){.model = m, .mode = mode, .tiling = nfi_tile_batch(n, m->o->total.n_saved)};
    plugin->draw = nf_arena_alloc(&ws->plugin_tape, plugin->tiling.n_tiles * sizeof *plugin->draw);
    ws->plugin = plugin;
    return plugin->draw ? NF_OK : NF_ENOMEM;
}

typedef struct forward_work {
    const nf_model *m;
    nf_workspace *ws;
    const nf_noise *noise;
    const nf_real *mean, *log_scale, *ctx;
    nf_real *z;
    double *log_q;
    nf_status status;
} forward_work;

static void forward_tiles(void *user, size_t thread, size_t n_threads)
{
    (void)thread, (void)n_threads;
    forward_work *w = user;
    for (size_t i = 0; i < w->ws->plugin->tiling.n_tiles && w->status == NF_OK; i++)
        w->status = forward_tile(w->m, w->ws, w->noise, i, w->mean, w->log_scale, w->ctx, w->z, w->log_q);
}

nf_status nf_posterior_forward(const nf_model *m, nf_workspace *ws, nf_mode mode, const nf_noise *noise, size_t n,
                               const nf_real *mean, const nf_real *log_scale, const nf_real *ctx, nf_real *z,
                               double *log_q)
{
    if (ws)
        ws->plugin = NULL; /* from here on the tape of the last call is not valid, also if this call fails */
    nf_status status = check_model(m, ws, "nf_posterior_forward");
    if (status != NF_OK)
        return status;
    if (mode != NF_EVAL && mode != NF_TRAIN)
        return nf_error(NF_EARG, "nf_posterior_forward: `mode` is %d, neither NF_EVAL nor NF_TRAIN", (int)mode);
    if (!noise || !mean || !log_scale || !z || !log_q)
        return nf_error(NF_EARG, "nf_posterior_forward: `%s` is NULL",
                        !noise       ? "noise"
                        : !mean      ? "mean"
                        : !log_scale ? "log_scale"
                        : !z         ? "z"
                                     : "log_q");
    if (n == 0)
        return nf_error(NF_EARG, "nf_posterior_forward: `n` is 0");
    size_t n_flow = m->o->total.n_ctx - 2 * m->o->total.dim_out;
    if (n_flow && !ctx)
        return nf_error(NF_EARG, "nf_posterior_forward: `ctx` is NULL, but the flow takes %zu features of context",
                        n_flow);
    status = nfi_check_ready(m, "nf_posterior_forward");
    if (status != NF_OK)
        return status;
    nfi_failures_begin(ws);
    status = start(m, ws, mode, n);
    if (status == NF_OK) {
        forward_work w = {m, ws, noise, mean, log_scale, ctx, z, log_q, NF_OK};
        nfi_run_alone(forward_tiles, &w);
        status = w.status;
    }
    if (status != NF_OK)
        ws->plugin = NULL;
    return status;
}

/* ---- backward ---- */

static nf_status backward_tile(const nf_model *m, nf_workspace *ws, size_t tile, const nf_real *gz,
                               const nf_real *g_log_q, nf_real *g_mean, nf_real *g_log_scale, nf_real *g_flow_ctx,
                               nf_real *g, double *stats)
{
    const struct nfi_plugin *plugin = ws->plugin;
    const nf_pass *p = &plugin->draw[tile].pass;
    size_t dim = m->o->total.dim_out, n_ctx = m->o->total.n_ctx, n_flow = n_ctx - 2 * dim, ld = p->ld;
    size_t first = nfi_tile_first(&plugin->tiling, tile), n = nfi_tile_first(&plugin->tiling, tile + 1) - first;
    bool want_ctx = g_mean || g_log_scale || g_flow_ctx;
    if (p->n < n) {
        nfi_fill_rows(first, n, dim, 0, g_mean);
        nfi_fill_rows(first, n, dim, 0, g_log_scale);
        nfi_fill_rows(first, n, n_flow, 0, g_flow_ctx);
    }
    if (p->n == 0)
        return NF_OK;
    nf_status status = NF_OK;
    nf_real *gz_tile = nfi_load_cotangent(p, first, dim, gz, &status);
    nf_real *g_log_q_tile = nfi_load_cotangent(p, first, 1, g_log_q, &status);
    nf_real *g_ctx = want_ctx ? nfi_load_tile(p, first, n_ctx, NULL, &status) : NULL;
    if (status != NF_OK)
        return status;
    nf_grad grad = {.theta = g, .prep = g ? g + m->o->total.n_params : NULL};
    grad.stats = plugin->mode == NF_TRAIN ? stats : NULL;
    status = nfi_draw_vjp(&plugin->draw[tile], m->o, gz_tile, g_log_q_tile, g_ctx, &grad);
    if (status != NF_OK)
        return status;
    if (g_mean)
        nfi_unpack_left(p, first, dim, g_ctx, g_mean);
    if (g_log_scale)
        nfi_unpack_left(p, first, dim, g_ctx + dim * ld, g_log_scale);
    if (g_flow_ctx)
        nfi_unpack_left(p, first, n_flow, g_ctx + 2 * dim * ld, g_flow_ctx);
    return NF_OK;
}

typedef struct backward_work {
    const nf_model *m;
    nf_workspace *ws;
    const nf_real *gz, *g_log_q;
    nf_real *g_mean, *g_log_scale, *g_ctx, *g;
    double *stats;
    nf_status status;
} backward_work;

static void backward_tiles(void *user, size_t thread, size_t n_threads)
{
    (void)thread, (void)n_threads;
    backward_work *w = user;
    for (size_t i = 0; i < w->ws->plugin->tiling.n_tiles && w->status == NF_OK; i++) {
        w->ws->thread[0].scratch.end = (nf_mark){0};
        w->status =
            backward_tile(w->m, w->ws, i, w->gz, w->g_log_q, w->g_mean, w->g_log_scale, w->g_ctx, w->g, w->stats);
    }
}

nf_status nf_posterior_backward(const nf_model *m, nf_workspace *ws, const nf_real *gz, const nf_real *g_log_q,
                                nf_real *g_mean, nf_real *g_log_scale, nf_real *g_ctx, nf_real *g, double *stats)
{
    nf_status status = check_model(m, ws, "nf_posterior_backward");
    if (status != NF_OK)
        return status;
    if (!gz || !g_log_q)
        return nf_error(NF_EARG, "nf_posterior_backward: `%s` is NULL", gz ? "g_log_q" : "gz");
    if (!ws->plugin)
        return nf_error(NF_EARG, "nf_posterior_backward: this workspace has seen no successful nf_posterior_forward");
    if (ws->plugin->model != m)
        return nf_error(NF_EARG,
                        "nf_posterior_backward: this workspace's last nf_posterior_forward was of another model");
    status = nfi_check_ready(m, "nf_posterior_backward");
    if (status != NF_OK)
        return status;
    nf_mark tape = nf_arena_mark(&ws->plugin_tape);
    backward_work w = {m, ws, gz, g_log_q, g_mean, g_log_scale, g_ctx, g, stats, NF_OK};
    nfi_run_alone(backward_tiles, &w);
    nf_arena_rewind(&ws->plugin_tape, tape);
    return w.status;
}
