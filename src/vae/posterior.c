/* The posterior plug-in: z ~ q(z | mean, log_scale, ctx) for an encoder outside the library, and its gradient. In
   training the forward call leaves the tapes of all tiles in the workspace. So the backward call computes nothing
   again, and may be called more than once. A forward call that fails leaves no tapes.

   Both calls run in the calling thread, with scratch of the workspace's first thread. Users may call from threads of
   their own: each thread brings its workspace, and they share the model. */
#include "model/batch.h"
#include "object/live.h"
#include "vae/vae.h"
#include <math.h>
#include <string.h>

/* What a forward call leaves in the workspace. All of it is in ws->plugin_tape. */
struct nfi_plugin {
    const nf_model *model;
    uint64_t fingerprint; /* the model's, of the numbers that the tapes belong to */
    nfi_tiling tiling;
    nfi_draw *draw; /* [n_tiles]; each has the samples with a result, as draw.pass lists them. NULL in evaluation */
    bool penalised; /* whether the caller has the penalties */
};

/* One of the caller's arrays: rows of `dim` numbers, `stride` apart. */
typedef struct block {
    const char *name;
    size_t dim, stride;
    const nf_real *in; /* what is read, or */
    nf_real *out;      /* what is written */
} block;

/* The parts of the posterior's context, in their order, and z or its cotangent. */
enum { MEAN, LOG_SCALE, CTX, PARTS, Z = PARTS, ARRAYS };

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

/* Checks the arrays and gives each the stride that 0 stands for. */
static nf_status settle(block array[ARRAYS], bool parts_needed, const char *who)
{
    for (size_t i = 0; i < ARRAYS; i++) {
        const bool given = array[i].in || array[i].out, needed = i == Z || parts_needed;
        const size_t dim = array[i].dim, stride = array[i].stride;
        const char *name = array[i].name;
        if (needed && !given && dim)
            return nf_error(NF_EARG, "%s: `%s` is NULL, but its rows have %zu numbers", who, name, dim);
        if (given && stride && stride < dim)
            return nf_error(NF_EDIM, "%s: `%s_stride` is %zu, but rows of `%s` have %zu numbers", who, name, stride,
                            name, dim);
        array[i].stride = stride ? stride : dim;
    }
    return NF_OK;
}

/* ---- forward ---- */

typedef struct forward_call {
    const nf_model *m;
    nf_workspace *ws;
    nf_mode mode;
    const nf_noise *noise;
    block array[ARRAYS];
    double *log_q, *penalty; /* [n] or NULL */
    nf_status status;
} forward_call;

/* Draws z for the samples that are left in *p. */
static nf_status draw_rows(const forward_call *c, size_t first, const nf_pass *p, nf_arena *memory, nfi_draw *draw)
{
    nf_real *ctx = nf_arena_reals(memory, c->m->o->total.n_ctx, p->ld), *part = ctx;
    if (!ctx)
        return NF_ENOMEM;
    for (const block *a = c->array; a < c->array + PARTS; part += a++->dim * p->ld)
        if (a->dim)
            nfi_pack_left(p, first, a->dim, a->in, a->stride, part);
    return nfi_draw_sample(draw, c->m->o, p, ctx, memory);
}

/* Marks samples without a result in *draw, and gives the caller what was drawn. Returns how many are marked, in
   `failed` [n], too, unless it is NULL. */
static size_t give(const forward_call *c, size_t first, nfi_draw *draw, unsigned char *failed)
{
    const size_t n_ctx = c->m->o->total.n_ctx, dim = c->array[Z].dim;
    const nf_pass *p = &draw->pass;
    const size_t n_failed =
        nfi_spoil(p, &(nfi_flow_of_tile){.n_ctx = n_ctx, .n_y = dim, .y = draw->z, .log = draw->log_q}, failed);
    nfi_unpack_left(p, first, dim, draw->z, c->array[Z].out, c->array[Z].stride);
    for (size_t s = 0; c->log_q && s < p->n; s++)
        c->log_q[nfi_sample_left(p, first, s)] = draw->log_q[s];
    for (size_t s = 0; c->penalty && s < p->n; s++) {
        const double penalty = p->penalty ? p->penalty[s] : 0;
        c->penalty[nfi_sample_left(p, first, s)] = isnan(draw->log_q[s]) ? NAN : penalty;
    }
    return n_failed;
}

static nf_status evaluate_tile(const forward_call *c, size_t first, size_t n)
{
    nfi_thread *memory = &c->ws->thread[0];
    const nf_pass p = nfi_model_pass(c->m, memory, c->noise, first, n, c->ws->plugin->tiling.ld, NF_EVAL, false);
    const nf_mark mark = nf_arena_mark(p.scratch);
    nfi_draw draw;
    const nf_status status = draw_rows(c, first, &p, p.scratch, &draw);
    if (status == NF_OK)
        c->ws->failed += give(c, first, &draw, NULL);
    nf_arena_rewind(p.scratch, mark);
    return status;
}

/* Draws a tile. Samples without a result get NaN; the tape has only the other samples. */
static nf_status train_tile(const forward_call *c, size_t first, size_t n, nfi_draw *draw)
{
    nf_arena *memory = &c->ws->plugin_tape;
    const size_t ld = c->ws->plugin->tiling.ld;
    double *penalty = nf_arena_alloc(memory, ld * sizeof *penalty);
    if (!penalty)
        return NF_ENOMEM;
    const nf_mark tape = nf_arena_mark(memory);
    nf_pass p = nfi_model_pass(c->m, &c->ws->thread[0], c->noise, first, n, ld, NF_TRAIN, true);
    p.tape = memory;
    p.penalty = c->penalty ? penalty : NULL;
    nfi_live live;
    nfi_live_begin(&live, &p);
    for (;;) {
        memset(penalty, 0, ld * sizeof *penalty);
        nf_status status = draw_rows(c, first, &p, memory, draw);
        if (status != NF_OK)
            return status;
        give(c, first, draw, live.failed);
        if (!nfi_live_drop(&live, &p))
            break;
        draw->pass.n = p.n;
        if (p.n == 0)
            break;
        nf_arena_rewind(memory, tape);
    }
    c->ws->failed += live.n_failed;
    draw->pass.failed = NULL;
    draw->pass.penalty = NULL;
    if (live.n_failed) { /* the backward call needs the list, too */
        uint32_t *column = nf_arena_alloc(memory, n * sizeof *column);
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
    *plugin = (struct nfi_plugin){
        .model = m, .fingerprint = m->fingerprint, .tiling = nfi_tile_batch(n, m->o->total.n_saved)};
    ws->plugin = plugin;
    if (mode == NF_EVAL)
        return NF_OK;
    plugin->draw = nf_arena_alloc(&ws->plugin_tape, plugin->tiling.n_tiles * sizeof *plugin->draw);
    return plugin->draw ? NF_OK : NF_ENOMEM;
}

static void forward_tiles(void *user, size_t thread, size_t n_threads)
{
    (void)thread, (void)n_threads;
    forward_call *c = user;
    const struct nfi_plugin *plugin = c->ws->plugin;
    for (size_t i = 0; i < plugin->tiling.n_tiles && c->status == NF_OK; i++) {
        const size_t first = nfi_tile_first(&plugin->tiling, i), n = nfi_tile_first(&plugin->tiling, i + 1) - first;
        c->status = plugin->draw ? train_tile(c, first, n, &plugin->draw[i]) : evaluate_tile(c, first, n);
    }
}

static nf_status check_forward(forward_call *c, const nf_posterior_rows *rows, const char *who)
{
    nf_status status = check_model(c->m, c->ws, who);
    if (status != NF_OK)
        return status;
    if (c->mode != NF_EVAL && c->mode != NF_TRAIN)
        return nf_error(NF_EARG, "%s: `mode` is %d, neither NF_EVAL nor NF_TRAIN", who, (int)c->mode);
    if (!c->noise || !rows)
        return nf_error(NF_EARG, "%s: `%s` is NULL", who, c->noise ? "rows" : "noise");
    if (rows->n == 0)
        return nf_error(NF_EARG, "%s: `n` is 0", who);
    if (!rows->log_q && c->mode == NF_TRAIN)
        return nf_error(NF_EARG, "%s: `log_q` is NULL, but the mode is NF_TRAIN", who);
    const size_t dim = c->m->o->total.dim_out, n_flow = c->m->o->total.n_ctx - 2 * dim;
    c->array[MEAN] = (block){"mean", dim, rows->mean_stride, rows->mean, NULL};
    c->array[LOG_SCALE] = (block){"log_scale", dim, rows->log_scale_stride, rows->log_scale, NULL};
    c->array[CTX] = (block){"ctx", n_flow, rows->ctx_stride, rows->ctx, NULL};
    c->array[Z] = (block){"z", dim, rows->z_stride, NULL, rows->z};
    c->log_q = rows->log_q;
    c->penalty = rows->penalty;
    status = settle(c->array, true, who);
    return status == NF_OK ? nfi_check_ready(c->m, who) : status;
}

nf_status nf_posterior_forward(const nf_model *m, nf_workspace *ws, nf_mode mode, const nf_noise *noise,
                               const nf_posterior_rows *rows)
{
    if (ws)
        ws->plugin = NULL; /* from here on the tape of the last call is not valid, also if this call fails */
    forward_call c = {.m = m, .ws = ws, .mode = mode, .noise = noise};
    c.status = check_forward(&c, rows, "nf_posterior_forward");
    if (c.status != NF_OK)
        return c.status;
    nfi_failures_begin(ws);
    c.status = start(m, ws, mode, rows->n);
    if (c.status == NF_OK)
        ws->plugin->penalised = rows->penalty != NULL;
    if (c.status == NF_OK)
        nfi_run_alone(forward_tiles, &c);
    if (c.status != NF_OK)
        ws->plugin = NULL;
    return c.status;
}

/* ---- backward ---- */

typedef struct backward_call {
    const nf_model *m;
    nf_workspace *ws;
    block array[ARRAYS];
    const double *g_log_q, *g_penalty; /* the second one may be NULL */
    nf_grad grad;
    bool add; /* to the parts */
    nf_status status;
} backward_call;

static nf_status backward_tile(const backward_call *c, size_t tile)
{
    const struct nfi_plugin *plugin = c->ws->plugin;
    nfi_draw draw = plugin->draw[tile];
    const nf_pass *p = &draw.pass;
    draw.pass.theta = c->m->theta; /* which nf_model_rebind may have moved since */
    draw.pass.state = c->m->state;
    const size_t dim = c->array[Z].dim, ld = p->ld;
    const size_t first = nfi_tile_first(&plugin->tiling, tile), n = nfi_tile_first(&plugin->tiling, tile + 1) - first;
    bool want_ctx = false;
    for (const block *a = c->array; a < c->array + PARTS; a++) {
        want_ctx |= a->out != NULL;
        if (p->n < n && !c->add)
            nfi_fill_rows(first, n, a->dim, 0, a->out, a->stride);
    }
    if (p->n == 0)
        return NF_OK;
    nf_real *gz = nf_arena_reals(p->scratch, dim, ld), *g_log_q = nf_arena_reals(p->scratch, 2, ld);
    nf_real *g_ctx = want_ctx ? nf_arena_reals(p->scratch, c->m->o->total.n_ctx, ld) : NULL;
    if (!gz || !g_log_q || (want_ctx && !g_ctx))
        return NF_ENOMEM;
    nfi_pack_left(p, first, dim, c->array[Z].in, c->array[Z].stride, gz);
    nfi_pad_zero(dim, p->n, ld, gz);
    draw.pass.g_penalty = c->g_penalty ? g_log_q + ld : NULL;
    for (size_t s = 0; s < ld; s++) {
        const size_t i = s < p->n ? nfi_sample_left(p, first, s) : 0;
        g_log_q[s] = s < p->n ? (nf_real)c->g_log_q[i] : 0;
        g_log_q[ld + s] = s < p->n && c->g_penalty ? (nf_real)c->g_penalty[i] : 0;
    }
    const nf_status status = nfi_draw_vjp(&draw, c->m->o, gz, g_log_q, g_ctx, &c->grad);
    size_t feature = 0;
    for (const block *a = c->array; a < c->array + PARTS && status == NF_OK; feature += a++->dim)
        if (a->out && a->dim)
            (c->add ? nfi_add_left : nfi_unpack_left)(p, first, a->dim, g_ctx + feature * ld, a->out, a->stride);
    return status;
}

static void backward_tiles(void *user, size_t thread, size_t n_threads)
{
    (void)thread, (void)n_threads;
    backward_call *c = user;
    for (size_t i = 0; i < c->ws->plugin->tiling.n_tiles && c->status == NF_OK; i++) {
        c->ws->thread[0].scratch.end = (nf_mark){0};
        c->status = backward_tile(c, i);
    }
}

static nf_status check_backward(backward_call *c, const nf_posterior_gradients *r, const char *who)
{
    nf_status status = check_model(c->m, c->ws, who);
    if (status != NF_OK)
        return status;
    if (!r || !r->g_log_q)
        return nf_error(NF_EARG, "%s: `%s` is NULL", who, r ? "g_log_q" : "gradients");
    if ((int)r->accumulate < NF_ADD_TO_G || r->accumulate > NF_ADD_TO_NONE)
        return nf_error(NF_EARG, "%s: `accumulate` is %d, which is none of its values", who, (int)r->accumulate);
    const struct nfi_plugin *plugin = c->ws->plugin;
    if (!plugin)
        return nf_error(NF_EARG, "%s: this workspace has seen no successful nf_posterior_forward", who);
    if (plugin->model != c->m)
        return nf_error(NF_EARG, "%s: this workspace's last nf_posterior_forward was of another model", who);
    if (!plugin->draw)
        return nf_error(NF_EARG, "%s: this workspace's last nf_posterior_forward was in NF_EVAL, which keeps no tape",
                        who);
    if (r->n != plugin->tiling.n)
        return nf_error(NF_EDIM, "%s: `n` is %zu, but this workspace's last nf_posterior_forward had %zu rows", who,
                        r->n, plugin->tiling.n);
    const size_t dim = c->m->o->total.dim_out, n_flow = c->m->o->total.n_ctx - 2 * dim;
    c->array[MEAN] = (block){"g_mean", dim, r->g_mean_stride, NULL, r->g_mean};
    c->array[LOG_SCALE] = (block){"g_log_scale", dim, r->g_log_scale_stride, NULL, r->g_log_scale};
    c->array[CTX] = (block){"g_ctx", n_flow, r->g_ctx_stride, NULL, r->g_ctx};
    c->array[Z] = (block){"gz", dim, r->gz_stride, r->gz, NULL};
    if (r->g_penalty && !plugin->penalised)
        return nf_error(NF_EARG, "%s: `g_penalty` is given, but the forward call gave no `penalty`", who);
    c->g_log_q = r->g_log_q;
    c->g_penalty = r->g_penalty;
    c->add = r->accumulate == NF_ADD_TO_ALL;
    c->grad = (nf_grad){.theta = r->g, .prep = r->g ? r->g + c->m->o->total.n_params : NULL, .stats = r->stats};
    status = settle(c->array, false, who);
    if (status == NF_OK)
        status = nfi_check_ready(c->m, who);
    if (status == NF_OK && plugin->fingerprint != c->m->fingerprint)
        return nf_error(NF_ESTALE, "%s: the model was prepared for other numbers since nf_posterior_forward", who);
    return status;
}

nf_status nf_posterior_backward(const nf_model *m, nf_workspace *ws, const nf_posterior_gradients *gradients)
{
    backward_call c = {.m = m, .ws = ws};
    c.status = check_backward(&c, gradients, "nf_posterior_backward");
    if (c.status != NF_OK)
        return c.status;
    if (gradients->g && gradients->accumulate == NF_ADD_TO_NONE)
        memset(gradients->g, 0, nf_model_gradient_size(m) * sizeof *gradients->g);
    const nf_mark tape = nf_arena_mark(&ws->plugin_tape);
    nfi_run_alone(backward_tiles, &c);
    nf_arena_rewind(&ws->plugin_tape, tape);
    return c.status;
}
