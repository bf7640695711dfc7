/* Tangents of residual nets. The gates depend on the context alone, which does not move. For each of k directions, with
   s the gate,

       dh_0 = W0 dx,   da = f'(h_k) dh_k,   dz = W1 da,   du = drop'(f'(z) dz),   dt = W2 du,
       dh_(k+1) = dh_k + s dt (without context dh_k + dt),   dy = Wl dh_K.

   The way back is the chain rule, as in resnet.c, with the second derivatives of f (hidden.c) and of the gate
   (units.c): the gradient of s is gh t + sum_j gdh_j dt_j. The tape keeps dh_K and, for each block, dh_k and dz; with
   context also dt. */
#include "math/rows.h"
#include "nn/directions.h"
#include "nn/dropout.h"
#include "nn/resnet.h"
#include "nn/units.h"
#include <string.h>

/* The directions of a block, [width x k ld] each. */
typedef struct kept_block {
    nf_real *dh, *dz, *dt;
} kept_block;

static size_t rows_kept(const nfi_resnet *r)
{
    return (r->context.n_ctx ? 3u : 2u) * r->block.out;
}
static kept_block kept_at(const nfi_resnet *r, nf_real *at, size_t wide)
{
    const size_t size = r->block.out * wide;
    return (kept_block){.dh = at, .dz = at + size, .dt = at + 2 * size};
}

nf_status nfi_resnet_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    (void)x, (void)y;
    const nfi_resnet *r = nf_self(o);
    const bool drops = nfi_drops(p, r->dropout);
    const size_t ld = p->ld, wide = k * ld, width = r->block.out, rows = rows_kept(r);
    nf_mark mark;
    nf_real *at = nfi_keep(p, p->tape ? rows * r->n_blocks + width : rows, wide, &mark);
    nf_real *da = nf_arena_reals(p->scratch, width, wide), *spare = nf_arena_reals(p->scratch, width, ld);
    if (!at || !da || !spare) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    if (p->tape)
        *saved_tangent = at;
    nfi_dense_tangent(&r->initial, p, k, p->theta, dx, false, at);
    for (size_t i = 0; i < r->n_blocks; i++) {
        const nfi_resnet_places w = nfi_resnet_places_of(r, i);
        const nfi_resnet_block b = nfi_resnet_block_at(r, p, drops, saved, i, i);
        const kept_block d = kept_at(r, at, wide);
        at += p->tape ? rows * wide : 0;
        if (p->tape)
            memcpy(at, d.dh, width * wide * sizeof *at); /* becomes the next dh */
        nfi_hidden_tangent(&b.a, ld, k, spare, d.dh, da);
        nfi_dense_tangent(&r->block, p, k, p->theta + w.first, da, false, d.dz);
        nfi_hidden_tangent(&b.u, ld, k, spare, d.dz, da);
        if (r->context.n_ctx) {
            nfi_dense_tangent(&r->block, p, k, p->theta + w.second, da, false, d.dt);
            nfi_scale_directions(width, k, ld, b.gate, d.dt, true, at);
        } else {
            nfi_dense_tangent(&r->block, p, k, p->theta + w.second, da, true, at);
        }
    }
    nfi_dense_tangent(&r->final, p, k, p->theta + nfi_resnet_places_of(r, r->n_blocks).context, at, false, dy);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* The gradients on the way back: those of h, of a block's t and gate, and of what is inside a block; then those of k
   directions of the same. */
typedef struct back {
    nf_real *gh, *gt, *g_open, *gu, *spare, *g_beta; /* [width x ld], spare 3 of them, g_beta [ld] */
    nf_real *gdh, *gdt, *gdu, *da;                   /* [width x k ld] */
} back;

static bool begin_back(const nfi_resnet *r, const nf_pass *p, size_t k, back *b)
{
    const size_t size = r->block.out * p->ld;
    b->g_beta = nfi_beta_row(p, r->activation);
    b->gh = nf_arena_reals(p->scratch, 7 * r->block.out, p->ld);
    b->gdh = nf_arena_reals(p->scratch, 4 * r->block.out, k * p->ld);
    if (!b->gh || !b->gdh || (!b->g_beta && nfi_keeps_argument(r->activation)))
        return false;
    b->gt = b->gh + size;
    b->g_open = b->gt + size;
    b->gu = b->g_open + size;
    b->spare = b->gu + size;
    b->gdt = b->gdh + k * size;
    b->gdu = b->gdt + k * size;
    b->da = b->gdu + k * size;
    return true;
}

/* gh and gdh are the gradients of h and dh after block i; they become those before it. */
static nf_status block_tangent_vjp(const nfi_resnet *r, const nf_pass *p, size_t k, size_t i, const nfi_resnet_block *b,
                                   const kept_block *d, const back *t, const nf_grad *g)
{
    const size_t ld = p->ld, width = r->block.out;
    const nfi_resnet_places w = nfi_resnet_places_of(r, i);
    const bool gated = r->context.n_ctx;
    nf_status status = NF_OK;
    if (gated) {
        nfi_gate_tangent_vjp(width, k, ld, b->t, b->gate, d->dt, NULL, t->gh, t->gdh, t->gt, t->g_open, t->gdt, NULL);
        if (g->theta)
            nfi_add_row_sums(width, ld, 1, t->g_open, nfi_bias_gradient(g, w.bias_c, width));
        status = nfi_dense_vjp(&r->context, p, w.context, NULL, t->g_open, NULL, g);
    }
    if (g->theta)
        nfi_add_row_sums(width, ld, 1, gated ? t->gt : t->gh, nfi_bias_gradient(g, w.bias_2, width));
    nfi_hidden_tangent(&b->u, ld, k, t->spare, d->dz, t->da);
    if (status == NF_OK)
        status = nfi_dense_tangent_vjp(&r->block, p, k, w.second, b->u.h, t->da, gated ? t->gt : t->gh,
                                       gated ? t->gdt : t->gdh, t->gu, t->gdu, g);
    if (status != NF_OK)
        return status;
    nfi_hidden_tangent_vjp(&b->u, ld, k, t->spare, d->dz, t->gu, t->gdu, false, t->gu, t->gdu,
                           nfi_bias_gradient(g, w.bias_1, width), t->g_beta);
    nfi_beta_gradient(&b->u, ld, g, w.beta_2, t->g_beta);
    nfi_hidden_tangent(&b->a, ld, k, t->spare, d->dh, t->da);
    status = nfi_dense_tangent_vjp(&r->block, p, k, w.first, b->a.h, t->da, t->gu, t->gdu, t->gt, t->gdt, g);
    if (status != NF_OK)
        return status;
    nfi_hidden_tangent_vjp(&b->a, ld, k, t->spare, d->dh, t->gt, t->gdt, true, t->gh, t->gdh, NULL, t->g_beta);
    nfi_beta_gradient(&b->a, ld, g, w.beta_1, t->g_beta);
    return NF_OK;
}

nf_status nfi_resnet_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                 size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                 const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    (void)y, (void)dy;
    const nfi_resnet *r = nf_self(o);
    const bool drops = nfi_drops(p, r->dropout);
    const size_t ld = p->ld, width = r->block.out, size = rows_kept(r) * k * ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *h = saved, *kept = saved_tangent;
    back t;
    if (!begin_back(r, p, k, &t)) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    const size_t last = nfi_resnet_places_of(r, r->n_blocks).context, out = r->final.out;
    if (g->theta)
        nfi_add_row_sums(out, ld, 1, gy, nfi_bias_gradient(g, last + nfi_dense_bias(&r->final), out));
    nf_status status =
        nfi_dense_tangent_vjp(&r->final, p, k, last, h, kept + r->n_blocks * size, gy, gdy, t.gh, t.gdh, g);
    for (size_t i = r->n_blocks; i-- > 0 && status == NF_OK;) {
        const nfi_resnet_block b = nfi_resnet_block_at(r, p, drops, h, i, i);
        const kept_block d = kept_at(r, kept + i * size, k * ld);
        status = block_tangent_vjp(r, p, k, i, &b, &d, &t, g);
    }
    if (g->theta && status == NF_OK)
        nfi_add_row_sums(width, ld, 1, t.gh, nfi_bias_gradient(g, nfi_dense_bias(&r->initial), width));
    if (status == NF_OK)
        status = nfi_dense_tangent_vjp(&r->initial, p, k, 0, x, dx, t.gh, t.gdh, gx, gdx, g);
    nf_arena_rewind(p->scratch, mark);
    return status;
}
