/*
 * A target pulled back through a flow T: the log density of z = T^-1(x) where x has the given target's,
 *
 *     log p(T(z)) + log|det dT/dz|,    gradient  J^T grad log p(T(z)) + d log|det dT/dz| / dz,  J = dT/dz,
 *
 * as in NeuTra (Hoffman et al. 2019). A whitened target and one of constrained parameters are the same. Of a chart
 * (constraints.h) the determinant is that of the map to the chart.
 *
 * A batch is cut into tiles, which run forward, wait for what the target behind answers, and run back (flow_tiles.c). A
 * thread-safe target is asked about one tile at a time, a serial one about as many as TAPE_BYTES allow. Points where
 * the flow has no finite result are rejected, and the target behind does not see them.
 */
#include "vi/pulled_back.h"
#include "model/batch.h"
#include "vi/flow_tiles.h"
#include "vi/spares.h"
#include "vi/target.h"
#include <math.h>
#include <string.h>

enum { TAPE_BYTES = 1 << 26 };

/* What the target's callbacks get. */
typedef struct pulled {
    const nf_target *behind;
    const nf_model *model;
    const nf_object *flow; /* the model's */
    nfi_spares spares;
} pulled;

/* A call of either callback. */
typedef struct call {
    pulled *q;
    size_t n;
    const double *z;
    double *log_p, *grad;    /* of the density */
    unsigned char *rejected; /* likewise */
    nfi_reason why;          /* of the first rejected sample of the batch */
    double *outputs;         /* of the outputs */
    nf_status status;
} call;

/* The first of the samples that the flow has no result for; n if there is none. */
static size_t first_failed(const nfi_flow_tiles *g)
{
    size_t i = 0;
    while (i < g->k && g->place[i] == i)
        i++;
    return i;
}

/* Keeps why the first sample was rejected: by the target behind, or because the flow has no result there. */
static void keep_reason(call *c, const nfi_flow_tiles *g, size_t base, const nfi_reason *theirs)
{
    const size_t failed = first_failed(g), d = g->flow->total.dim_in;
    const bool said = theirs->text[0] && g->rejected[theirs->sample];
    if (c->why.text[0] || (failed == g->n && !said))
        return;
    if (said && g->place[theirs->sample] < failed)
        c->why = *theirs;
    else
        nfi_point_text(d, c->z + (base + failed) * d, "the flow has no finite result", c->why.text);
}

static nf_status density(call *c, nfi_flow_tiles *g, size_t base)
{
    const size_t d = g->flow->total.dim_in;
    nfi_reason why = {.words = false};
    nf_status status = NF_OK;
    if (g->k)
        status = nfi_target_ask(c->q->behind, &why, g->k, g->x, g->log_p, g->grad, g->rejected);
    if (status == NF_OK && g->gradient)
        status = nfi_flow_tiles_backward(g);
    if (status != NF_OK)
        return status;
    memset(c->rejected + base, 1, g->n); /* who is not left */
    for (size_t j = 0; j < g->k; j++) {
        const size_t i = base + g->place[j];
        c->rejected[i] = g->rejected[j];
        c->log_p[i] = g->log_p[j] + g->log_det[g->place[j]];
        for (size_t r = 0; r < d && g->gradient; r++)
            c->grad[i * d + r] = (double)g->z[g->place[j] * d + r];
    }
    keep_reason(c, g, base, &why);
    return NF_OK;
}

static nf_status outputs(call *c, nfi_flow_tiles *g, size_t base)
{
    const size_t width = nf_target_n_outputs(c->q->behind);
    double *y = c->outputs + base * width;
    const nf_status status = g->k ? nf_target_outputs(c->q->behind, g->k, g->x, y) : NF_OK;
    for (size_t i = g->n, j = g->k; i-- > 0 && status == NF_OK;) {
        const bool left = j && g->place[j - 1] == i;
        if (left)
            memmove(y + i * width, y + --j * width, width * sizeof *y);
        for (size_t r = 0; r < width && !left; r++)
            y[i * width + r] = NAN;
    }
    return status;
}

/* An nfi_work_fn: the batch of a call, some tiles at a time. */
static void work(void *user, size_t thread, size_t n_threads)
{
    (void)thread, (void)n_threads;
    call *c = user;
    pulled *q = c->q;
    c->status = nfi_check_ready(q->model, "the flow");
    nfi_spare *spare = c->status == NF_OK ? nfi_spares_take(&q->spares) : NULL;
    if (!spare) {
        c->status = c->status == NF_OK ? NF_ENOMEM : c->status;
        return;
    }
    const nf_shape *s = &q->flow->total;
    const nfi_tiling tiling = nfi_tile_batch(c->n, s->n_saved);
    const size_t bytes = tiling.ld * (s->n_saved + 2 * s->dim_in + 4 * s->dim_out + 4) * sizeof(double); /* of a tile */
    const size_t together = nf_target_rule(q->behind) == NF_THREADSAFE || bytes > TAPE_BYTES ? 1 : TAPE_BYTES / bytes;
    const nf_mark tape = nf_arena_mark(&spare->ws->thread->tape), scratch = nf_arena_mark(&spare->ws->thread->scratch);
    for (size_t t = 0; t < tiling.n_tiles && c->status == NF_OK; t += together) {
        const size_t left = tiling.n_tiles - t;
        const nf_mark shared = nf_arena_mark(&spare->ws->shared);
        nfi_flow_tiles g = {.model = q->model,
                            .flow = q->flow,
                            .memory = spare->ws->thread,
                            .gradient = c->grad,
                            .n_tiles = left < together ? left : together};
        c->status = nfi_flow_tiles_forward(&g, &spare->ws->shared, &tiling, t, c->z);
        if (c->status == NF_OK)
            c->status = (c->outputs ? outputs : density)(c, &g, nfi_tile_first(&tiling, t));
        nf_arena_rewind(&spare->ws->shared, shared);
        nf_arena_rewind(&spare->ws->thread->tape, tape);
        nf_arena_rewind(&spare->ws->thread->scratch, scratch);
    }
    nfi_spares_give_back(&q->spares, spare);
}

/* Runs a call; its status for who has called. */
static int run(call *c)
{
    nfi_run_alone(work, c);
    if (c->status != NF_OK && c->status != NF_ETARGET)
        nf_error(NF_ETARGET, "nf_target_pulled_back: %s", nf_error_message());
    else if (c->status == NF_OK && c->why.text[0])
        nf_error(NF_ETARGET, "%s", c->why.text);
    return c->status == NF_OK ? 0 : NF_ETARGET;
}

/* An nf_target_fn. */
static int log_density(void *user, size_t n, size_t d, const double *z, double *log_p, double *grad,
                       unsigned char *rejected)
{
    (void)d;
    return run(&(call){.q = user, .n = n, .z = z, .log_p = log_p, .grad = grad, .rejected = rejected});
}

/* An nf_outputs_fn: the outputs of the target behind, at T(z). */
static int outputs_behind(void *user, size_t n, size_t d, const double *z, double *y)
{
    (void)d;
    return run(&(call){.q = user, .n = n, .z = z, .outputs = y});
}

static void destroy(void *user)
{
    pulled *q = user;
    nfi_spares_end(&q->spares);
    nfi_free(q);
}

nf_target *nfi_pulled_back(const char *who, const nf_target *t, const nf_model *flow)
{
    nf_pass root = {.ld = 1};
    const nf_object *f = flow ? nfi_model_flow(flow, &root) : NULL;
    if (!t || !flow) {
        nfi_missing(who, t ? "`flow`" : "`t`");
        return NULL;
    }
    if (!f) {
        nf_error(NF_EARG, "%s: the model is of a `%s`, which has no flow", who, flow->o->part->name);
        return NULL;
    }
    const nf_shape *s = &f->total;
    if (s->n_ctx != 0 || s->dim_out != t->d) {
        if (s->n_ctx)
            nf_error(NF_EDIM, "%s: the flow reads a context of %zu features, but must read 0", who, s->n_ctx);
        else
            nf_error(NF_EDIM, "%s: the flow gives %zu features, but the target has %zu dimensions", who, s->dim_out,
                     t->d);
        return NULL;
    }
    if (s->flags & NF_STOCHASTIC) {
        nf_error(NF_EUNSUPPORTED, "%s: the %s draws noise whenever it is used", who, f->part->name);
        return NULL;
    }
    if (s->dim_in == 0) {
        nf_error(NF_EARG, "%s: the flow takes 0 features, so that nothing is left to vary", who);
        return NULL;
    }
    pulled *q = nfi_calloc(1, sizeof *q);
    if (!q || nfi_spares_begin(&q->spares) != NF_OK) {
        nfi_free(q);
        return NULL;
    }
    q->behind = t;
    q->model = flow;
    q->flow = f;
    const nf_target as = {.d = s->dim_in,
                          .rule = t->rule,
                          .f = log_density,
                          .user = q,
                          .outputs = {.f = outputs_behind, .user = q},
                          .behind = t};
    return nf_target_own(nfi_target_new(&as, true, who), q, destroy);
}

nf_target *nf_target_pulled_back(const nf_target *t, const nf_model *flow)
{
    return nfi_pulled_back("nf_target_pulled_back", t, flow);
}
