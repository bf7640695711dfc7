/*
 * A flow on some tiles of a batch: forward, and then back with cotangents that somebody else gives.
 *
 * What the flow saves for its gradient stays on the tape in between, so each tile runs forward once. Points where the
 * flow has no finite result are left out, as in a batch call of the flow: nobody is asked about them.
 */
#include "vi/flow_tiles.h"
#include "math/rows.h"
#include "model/batch.h"
#include <math.h>

/* ---- forward ---- */

typedef struct trial {
    const nfi_flow_tiles *g;
    nfi_flow_tile *t;
} trial;

/* An nfi_live_fn: runs the flow on the samples of p, and marks those without a finite result. */
static nf_status finite_tile(void *user, const nf_pass *p, unsigned char *failed)
{
    const trial *a = user;
    const nf_object *flow = a->g->flow;
    const size_t d = flow->total.dim_in, d_out = flow->total.dim_out;
    nfi_flow_tile *t = a->t;
    nf_status status = NF_OK;
    t->p = *p;
    t->x = nfi_load_tile(p, t->first, d, a->g->z, &status);
    t->y = nfi_load_tile(p, t->first, d_out, NULL, &status);
    t->log_det = nfi_zero_doubles(p->scratch, p->ld);
    t->saved = NULL;
    if (status != NF_OK || !t->log_det)
        return NF_ENOMEM;
    status = nf_flow_apply(flow, NF_FORWARD, p, t->x, t->y, t->log_det, &t->saved);
    nf_real mark[NFI_WIDEST] = {0};
    nfi_mark_not_finite(d, p->ld, t->x, mark);
    nfi_mark_not_finite(d_out, p->ld, t->y, mark);
    for (size_t s = 0; s < p->n; s++)
        failed[s] |= !isfinite(t->log_det[s]) || !isfinite(mark[s]);
    return status;
}

static nf_status forward_tile(nfi_flow_tiles *g, nfi_flow_tile *t, size_t n, size_t ld)
{
    const size_t d_out = g->flow->total.dim_out;
    nf_pass p = nfi_model_pass(g->model, g->memory, NULL, t->first, n, ld, NF_EVAL, g->gradient);
    nfi_model_flow(g->model, &p);
    const nf_status status = nfi_live_run(&t->live, &p, g->memory, finite_tile, &(trial){g, t});
    t->p = p;
    if (status != NF_OK || p.n == 0)
        return status;
    nfi_unpack_left(&p, t->first, d_out, t->y, g->t, d_out);
    for (size_t s = 0; s < p.n; s++) {
        const size_t i = nfi_sample_left(&p, t->first, s);
        g->log_det[i] = t->log_det[s];
        g->place[g->k++] = i;
    }
    return NF_OK;
}

nf_status nfi_flow_tiles_forward(nfi_flow_tiles *g, nf_arena *shared, const nfi_tiling *tiling, size_t t0,
                                 const double *z)
{
    const size_t d = g->flow->total.dim_in, d_out = g->flow->total.dim_out, base = nfi_tile_first(tiling, t0);
    g->n = nfi_tile_first(tiling, t0 + g->n_tiles) - base;
    g->k = 0;
    g->z = nf_arena_reals(shared, g->n, d);
    g->t = nf_arena_reals(shared, g->n, d_out);
    g->log_det = nf_arena_alloc(shared, 2 * g->n * sizeof *g->log_det);
    g->x = nf_arena_alloc(shared, g->n * d_out * sizeof *g->x);
    g->grad = g->gradient ? nf_arena_alloc(shared, g->n * d_out * sizeof *g->grad) : NULL;
    g->place = nf_arena_alloc(shared, g->n * sizeof *g->place);
    g->rejected = nf_arena_alloc(shared, g->n);
    g->tiles = nf_arena_alloc(shared, g->n_tiles * sizeof *g->tiles);
    if (!g->z || !g->t || !g->log_det || !g->x || (g->gradient && !g->grad) || !g->place || !g->rejected || !g->tiles)
        return NF_ENOMEM;
    g->log_p = g->log_det + g->n;
    for (size_t i = 0; i < g->n * d; i++)
        g->z[i] = (nf_real)z[base * d + i];
    const nf_mark tape = nf_arena_mark(&g->memory->tape), scratch = nf_arena_mark(&g->memory->scratch);
    nf_status status = NF_OK;
    for (size_t i = 0; i < g->n_tiles && status == NF_OK; i++) {
        g->tiles[i].first = nfi_tile_first(tiling, t0 + i) - base;
        const size_t n = nfi_tile_first(tiling, t0 + i + 1) - base - g->tiles[i].first;
        status = forward_tile(g, &g->tiles[i], n, tiling->ld);
        if (g->gradient)
            continue;
        nf_arena_rewind(&g->memory->tape, tape);
        nf_arena_rewind(&g->memory->scratch, scratch);
    }
    for (size_t j = 0; j < g->k; j++)
        for (size_t c = 0; c < d_out; c++)
            g->x[j * d_out + c] = (double)g->t[g->place[j] * d_out + c];
    return status;
}

/* ---- back ---- */

static nf_status backward_tile(const nfi_flow_tiles *g, const nfi_flow_tile *t)
{
    const nf_object *flow = g->flow;
    const size_t d = flow->total.dim_in, d_out = flow->total.dim_out;
    nf_status status = NF_OK;
    nf_real *gy = nfi_load_cotangent(&t->p, t->first, d_out, g->t, &status);
    nf_real *ones = nfi_load_cotangent(&t->p, t->first, 1, NULL, &status);
    nf_real *gx = nfi_load_tile(&t->p, t->first, d, NULL, &status);
    if (status != NF_OK)
        return status;
    for (size_t s = 0; s < t->p.n; s++)
        ones[s] = 1;
    status = nf_flow_vjp(flow, NF_FORWARD, &t->p, t->x, t->y, t->saved, gy, ones, gx, &(nf_grad){.theta = NULL});
    if (status == NF_OK)
        nfi_unpack_left(&t->p, t->first, d, gx, g->z, d);
    return status;
}

nf_status nfi_flow_tiles_backward(nfi_flow_tiles *g)
{
    const size_t d_out = g->flow->total.dim_out;
    for (size_t j = 0; j < g->k; j++)
        for (size_t c = 0; c < d_out; c++)
            g->t[g->place[j] * d_out + c] = (nf_real)g->grad[j * d_out + c];
    nf_status status = NF_OK;
    for (size_t i = 0; i < g->n_tiles && status == NF_OK; i++) {
        const nf_mark scratch = nf_arena_mark(&g->memory->scratch);
        if (g->tiles[i].p.n)
            status = backward_tile(g, &g->tiles[i]);
        nf_arena_rewind(&g->memory->scratch, scratch);
    }
    return status;
}
