/* The residual net of neural spline flows (Durkan et al. 2019, sec. 4; pre-activation: He et al. 2016, eq. 4). Context
   gates each block (Dauphin et al. 2017, eq. 1):

       h_0 = W0 (x, c) + b0,   u_k = drop(f(W1 f(h_k) + b1)),   t_k = W2 u_k + b2,
       h_(k+1) = h_k + t_k sigmoid(Wc c + bc)   (without context h_k + t_k),   out = Wl h_K + bl.

   h is one array, to which the blocks add. Some biases are part of every later h: b0, and without context each b2.
   These are not added to h sample by sample. Their sum is added where f is taken, and to h itself at the end.

   The tape keeps h_K and, for each block, a = f(h) and u; with context also t and the gate; for units that keep
   arguments also these; with dropout also the block's mask. */
#include "nn/resnet.h"
#include "math/rows.h"
#include "nn/dropout.h"
#include "nn/units.h"
#include <string.h>

static size_t width_of(const nfi_resnet *r)
{
    return r->block.out;
}

nfi_resnet_places nfi_resnet_places_of(const nfi_resnet *r, size_t block)
{
    const size_t context = nfi_dense_size(&r->initial) + block * r->block_size;
    const size_t first = context + (r->context.n_ctx ? nfi_dense_size(&r->context) : 0);
    const size_t second = first + nfi_dense_size(&r->block);
    return (nfi_resnet_places){.context = context,
                               .first = first,
                               .second = second,
                               .bias_c = context + nfi_dense_bias(&r->context),
                               .bias_1 = first + nfi_dense_bias(&r->block),
                               .bias_2 = second + nfi_dense_bias(&r->block),
                               .beta_1 = first + nfi_dense_beta(&r->block),
                               .beta_2 = second + nfi_dense_beta(&r->block)};
}

nfi_resnet_block nfi_resnet_block_at(const nfi_resnet *r, const nf_pass *p, bool drops, nf_real *h, size_t block,
                                     size_t slot)
{
    const size_t size = width_of(r) * p->ld;
    const bool keeps = nfi_keeps_argument(r->activation);
    const nfi_resnet_places w = nfi_resnet_places_of(r, block);
    nf_real *at = h + size + slot * nfi_resnet_kept(r, drops) * p->ld;
    nfi_resnet_block b = {.a = {.f = r->activation, .rows = width_of(r), .h = at}};
    b.u = b.a;
    b.u.h = at += size;
    if (r->context.n_ctx) {
        b.t = at += size;
        b.gate = at += size;
    }
    if (keeps) {
        b.a.beta = p->theta + w.beta_1;
        b.u.beta = p->theta + w.beta_2;
        b.a.z = at += size;
        b.u.z = at += size;
    }
    if (drops)
        b.u.mask = b.mask = at + size;
    b.u.dropout = r->dropout;
    return b;
}

/* h += the block's t. Without context, the bias b2 is added to `bias` instead. bias [width] is what h lacks. */
static void block_apply(const nfi_resnet *r, const nf_pass *p, bool drops, size_t k, const nfi_resnet_block *at,
                        nf_real *bias, nf_real *h)
{
    const size_t ld = p->ld, width = width_of(r);
    const nfi_resnet_places w = nfi_resnet_places_of(r, k);
    const nf_real *theta = p->theta;
    nf_real *product = at->u.z ? at->u.z : at->u.h;
    nfi_hidden_apply(&at->a, ld, bias, h);
    nfi_dense_apply(&r->block, p, theta + w.first, at->a.h, false, product);
    nfi_hidden_apply(&at->u, ld, theta + w.bias_1, product);
    if (drops)
        nfi_dropout(p, k, r->dropout, width, at->mask, at->u.h);
    if (r->context.n_ctx) {
        nfi_dense_apply(&r->block, p, theta + w.second, at->u.h, false, at->t);
        nfi_dense_apply(&r->context, p, theta + w.context, NULL, false, at->gate);
        nfi_gate(width, ld, theta + w.bias_2, theta + w.bias_c, at->t, at->gate, true, h);
    } else {
        nfi_dense_apply(&r->block, p, theta + w.second, at->u.h, true, h);
        for (size_t i = 0; i < width; i++)
            bias[i] += theta[w.bias_2 + i];
    }
}

nf_status nfi_resnet_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    const nfi_resnet *r = nf_self(o);
    const bool drops = nfi_drops(p, r->dropout);
    const size_t width = width_of(r), n_kept = p->tape ? r->n_blocks : 1;
    nf_mark mark;
    nf_real *h = nfi_keep(p, width + n_kept * nfi_resnet_kept(r, drops), p->ld, &mark);
    nf_real *bias = nf_arena_reals(p->scratch, width, 1);
    if (!h || !bias) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    nfi_dense_apply(&r->initial, p, p->theta, x, false, h);
    memcpy(bias, p->theta + nfi_dense_bias(&r->initial), width * sizeof *bias);
    for (size_t k = 0; k < r->n_blocks; k++) {
        const nfi_resnet_block at = nfi_resnet_block_at(r, p, drops, h, k, p->tape ? k : 0);
        block_apply(r, p, drops, k, &at, bias, h);
    }
    nfi_activate(NF_IDENTITY, width, p->ld, bias, h);
    const nf_real *last = p->theta + nfi_resnet_places_of(r, r->n_blocks).context;
    nfi_dense_apply(&r->final, p, last, h, false, y);
    nfi_activate(NF_IDENTITY, r->final.out, p->ld, last + nfi_dense_bias(&r->final), y);
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = h;
    return NF_OK;
}

/* gh is the gradient of h after block k; it becomes the gradient of h before that block. gt, gu [width x ld] are
   temporaries. g_bias is for the gradient of the last bias that h has before the block, which is the sum of the new gh;
   NULL if there is no such bias, or its gradient is not wanted. */
static nf_status block_vjp(const nfi_resnet *r, const nf_pass *p, size_t k, const nfi_resnet_block *at, nf_real *gh,
                           nf_real *gt, nf_real *gu, nf_real *g_bias, nf_real *g_beta, const nf_grad *g)
{
    const size_t ld = p->ld, width = width_of(r);
    const nfi_resnet_places w = nfi_resnet_places_of(r, k);
    const nf_real *g_second = gh;
    nf_status status = NF_OK;
    if (r->context.n_ctx) {
        nf_real *g_open = gu;
        nfi_gate_vjp(width, ld, at->t, at->gate, gh, gt, g_open, nfi_bias_gradient(g, w.bias_2, width),
                     nfi_bias_gradient(g, w.bias_c, width));
        status = nfi_dense_vjp(&r->context, p, w.context, NULL, g_open, NULL, g);
        g_second = gt;
    }
    if (status == NF_OK)
        status = nfi_dense_vjp(&r->block, p, w.second, at->u.h, g_second, gu, g);
    if (status != NF_OK)
        return status;
    nfi_hidden_vjp(&at->u, ld, gt, gu, false, gu, nfi_bias_gradient(g, w.bias_1, width), g_beta);
    nfi_beta_gradient(&at->u, ld, g, w.beta_2, g_beta);
    status = nfi_dense_vjp(&r->block, p, w.first, at->a.h, gu, gt, g);
    if (status == NF_OK) {
        nfi_hidden_vjp(&at->a, ld, NULL, gt, true, gh, g_bias, g_beta);
        nfi_beta_gradient(&at->a, ld, g, w.beta_1, g_beta);
    }
    return status;
}

nf_status nfi_resnet_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)y;
    const nfi_resnet *r = nf_self(o);
    const bool drops = nfi_drops(p, r->dropout), gated = r->context.n_ctx;
    const size_t ld = p->ld, width = width_of(r), size = width * ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *h = saved, *gh = nf_arena_reals(p->scratch, 3 * width, ld);
    nf_real *g_beta = nfi_beta_row(p, r->activation);
    if (!gh || (!g_beta && nfi_keeps_argument(r->activation))) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    const size_t last = nfi_resnet_places_of(r, r->n_blocks).context;
    if (g->theta)
        nfi_add_row_sums(r->final.out, ld, 1, gy, nfi_bias_gradient(g, last + nfi_dense_bias(&r->final), r->final.out));
    nf_status status = nfi_dense_vjp(&r->final, p, last, h, gy, gh, g);
    if (g->theta && !gated && status == NF_OK)
        nfi_add_row_sums(width, ld, 1, gh,
                         nfi_bias_gradient(g, nfi_resnet_places_of(r, r->n_blocks - 1).bias_2, width));
    for (size_t k = r->n_blocks; k-- > 0 && status == NF_OK;) {
        nf_real *g_bias = NULL;
        if (k == 0)
            g_bias = nfi_bias_gradient(g, nfi_dense_bias(&r->initial), width);
        else if (!gated)
            g_bias = nfi_bias_gradient(g, nfi_resnet_places_of(r, k - 1).bias_2, width);
        const nfi_resnet_block at = nfi_resnet_block_at(r, p, drops, h, k, k);
        status = block_vjp(r, p, k, &at, gh, gh + size, gh + 2 * size, g_bias, g_beta, g);
    }
    if (status == NF_OK)
        status = nfi_dense_vjp(&r->initial, p, 0, x, gh, gx, g);
    nf_arena_rewind(p->scratch, mark);
    return status;
}
