/* Nets of convolutions: gradients. With g the cotangents, from the last layer to the first,

       gs_l = f'(s_l) ga_l,   gW_l += the products of gs_l and a_(l-1),   gb_l += sum gs_l,   ga_(l-1) = W_l^T * gs_l.

   The stream of a residual net has one cotangent gh, to which the units that read it add; it is gs of the layers in the
   stream, and where the context gates, gs_l = gate gh. The product of a tangent is the same with k directions beside,
   and with the second derivatives of the units (directions.h), so both are one walk over the layers. */
#include "math/rows.h"
#include "nn/conv_net.h"
#include "nn/directions.h"
#include "nn/dropout.h"
#include "nn/units.h"
#include "object/tree.h"
#include <string.h>

/* The arrays of one walk. Cotangents of products and of units; in the stream, of h and of what is gated; sums over
   pixels; x as a grid. Then the same of k directions, if there are any. */
typedef struct back {
    nf_real *gz, *ga, *gh, *gt, *sums, *spare, *x, *g_beta;
    nf_real *gdz, *gda, *gdh, *gdt, *da, *dx;
    size_t k;
} back;

static nf_real *channels(const nfi_conv_net *m, const nf_pass *p, size_t n, size_t ld)
{
    return nf_arena_reals(p->scratch, n * m->grid.pixels, ld);
}

static bool begin(const nfi_conv_net *m, const nf_pass *p, size_t k, back *b)
{
    const size_t ld = p->ld, stream = nfi_conv_is_residual(m) ? m->list[0] : 0, wide = k * ld;
    nf_pass plane = *p;
    plane.ld = m->grid.pixels * ld;
    b->k = k;
    b->gz = channels(m, p, m->widest, ld);
    b->ga = channels(m, p, m->widest, ld);
    b->gh = channels(m, p, stream, ld);
    b->gt = channels(m, p, m->n_ctx ? stream : 0, ld);
    b->x = channels(m, p, m->read, ld);
    b->sums = nf_arena_reals(p->scratch, m->n_ctx ? 2 * m->widest : 0, ld);
    b->spare = channels(m, p, k ? 3 * m->widest : nfi_drops(p, m->options.dropout) ? m->widest : 0, ld);
    b->gdz = channels(m, p, k ? m->widest : 0, wide);
    b->gda = channels(m, p, k ? m->widest : 0, wide);
    b->da = channels(m, p, k ? m->widest : 0, wide);
    b->gdh = channels(m, p, stream, wide);
    b->gdt = channels(m, p, m->n_ctx ? stream : 0, wide);
    b->dx = channels(m, p, k ? m->read : 0, wide);
    b->g_beta = nfi_beta_row(&plane, m->options.activation);
    return b->gz && b->ga && b->gh && b->gt && b->x && b->sums && b->spare && b->gdz && b->gda && b->da && b->gdh &&
           b->gdt && b->dx && (b->g_beta || !nfi_keeps_argument(m->options.activation));
}

/* From the cotangents of a layer's units, ga and gda, those of its products or of the stream, and the gradients of the
   biases and of the units' parameter. ds is what the tangent kept. */
static void units_vjp(const nfi_conv_net *m, const nfi_conv_layer *s, const nf_pass *p, size_t layer,
                      const nfi_conv_block *at, const nf_real *ds, const back *b, const nf_grad *g)
{
    const size_t ld = p->ld, plane = m->grid.pixels * ld, size = s->units * plane, k = b->k;
    nf_real *g_bias = s->has_gate ? NULL : nfi_bias_gradient(g, s->bias, s->c.out);
    nf_real *gs = s->in_stream ? b->gh : b->gz, *gds = s->in_stream ? b->gdh : b->gdz;
    const bool add = s->in_stream && layer + 2 < m->n_layers; /* the last units that read the stream are the first */
    nfi_hidden wide = at->u;                                  /* for directions, every pixel is a row */
    wide.rows *= m->grid.pixels;
    if (at->pair && at->mask) {
        nfi_multiply(size, at->mask, b->ga);
        if (k)
            nfi_scale_directions(wide.rows, k, ld, at->mask, b->gda, false, b->gda);
    }
    if (at->pair && k)
        nfi_gate_tangent_vjp(wide.rows, k, ld, at->pair, at->pair + size, ds, ds + k * size, b->ga, b->gda, gs,
                             gs + size, gds, gds + k * size);
    else if (at->pair)
        nfi_gate_vjp(s->units, plane, at->pair, at->pair + size, b->ga, gs, gs + size, g_bias,
                     g_bias ? g_bias + s->units : NULL);
    else if (k)
        nfi_hidden_tangent_vjp(&wide, ld, k, b->spare, ds, b->ga, b->gda, add, gs, gds, NULL, b->g_beta);
    else
        nfi_hidden_vjp(&at->u, plane, b->spare, b->ga, add, gs, g_bias, b->g_beta);
    if (g_bias && k)
        nfi_add_row_sums(s->c.out, plane, 1, gs, g_bias);
    nfi_beta_gradient(&at->u, plane, g, s->beta, b->g_beta);
}

/* h += gate t: the cotangents of t and of the gate, and the gradients of t's bias and of the gate's numbers. */
static nf_status gate_vjp(const nfi_conv_net *m, const nfi_conv_layer *s, const nf_pass *p, const nfi_conv_block *at,
                          const nf_real *ds, const back *b, const nf_grad *g)
{
    const nfi_dense gate = nfi_conv_gate(m, s);
    const size_t ld = p->ld, pixels = m->grid.pixels, size = s->units * pixels * ld, k = b->k;
    nf_real *g_open = b->sums, *more = b->sums + s->units * ld;
    nfi_scale_directions(s->units, pixels, ld, at->gate, b->gh, false, b->gt);
    nfi_dot_directions(s->units, pixels, ld, b->gh, at->t, g_open);
    if (k) {
        nfi_scale_directions(s->units, pixels * k, ld, at->gate, b->gdh, false, b->gdt);
        nfi_dot_directions(s->units, pixels * k, ld, b->gdh, ds + k * size, more);
        nfi_add_scaled(s->units * ld, 1, more, g_open);
    }
    if (g->theta)
        nfi_add_row_sums(s->units, pixels * ld, 1, b->gt, nfi_bias_gradient(g, s->bias, s->units));
    nfi_activate_vjp(NF_SIGMOID, s->units, ld, at->gate, g_open, g_open,
                     nfi_bias_gradient(g, s->gate + nfi_dense_bias(&gate), s->units));
    return nfi_dense_vjp(&gate, p, s->gate, NULL, g_open, NULL, g);
}

/* From the cotangents of a layer's products: the gradients of its weights and of the context, and, if `below`, ga and
   gda. in and din are what the layer reads. */
static nf_status layer_vjp(const nfi_conv_layer *s, const nf_pass *p, bool below, const nf_real *in, const nf_real *din,
                           const nf_real *gz, const nf_real *gdz, const back *b, const nf_grad *g)
{
    const size_t ld = p->ld, k = b->k;
    const nf_real *w = p->theta + s->weight;
    nf_real *gw = g->theta ? g->theta + s->weight : NULL;
    nf_status status = gw ? nfi_conv_outer(&s->c, ld, p->scratch, in, gz, !nfi_is_fresh(g), gw) : NF_OK;
    if (gw && k && status == NF_OK)
        status = nfi_conv_outer(&s->c, k * ld, p->scratch, din, gdz, true, gw);
    if (s->n_ctx && status == NF_OK) {
        const nfi_dense context = nfi_conv_context(s);
        nfi_sum_directions(s->c.out, s->c.grid.pixels, ld, gz, b->sums);
        status = nfi_dense_vjp(&context, p, s->context, NULL, b->sums, NULL, g);
    }
    if (below && status == NF_OK) {
        nfi_conv_transposed(&s->c, ld, w, gz, b->ga);
        if (k)
            nfi_conv_transposed(&s->c, k * ld, w, gdz, b->gda);
    }
    return status;
}

/* The walk. b has gz and x, and gdz and dx if there are directions; `kept` is what their tangent kept. Afterwards ga
   and gda are the cotangents of x and dx, if `below`. */
static nf_status walk(const nfi_conv_net *m, const nf_pass *p, nf_real *saved, const nf_real *kept, bool below,
                      const back *b, const nf_grad *g)
{
    const size_t ld = p->ld, wide = b->k * ld;
    nf_status status = NF_OK;
    nfi_conv_layer s = nfi_conv_layer_of(m, m->n_layers - 1), next;
    nfi_conv_block at = {.pair = NULL}, of_next;
    if (g->theta)
        nfi_add_row_sums(s.c.out, m->grid.pixels * ld, 1, b->gz, nfi_bias_gradient(g, s.bias, s.c.out));
    for (size_t l = 0; b->k && l + 1 < m->n_layers; l++) {
        next = nfi_conv_structure(m, l);
        kept += nfi_conv_kept_tangent(m, &next) * wide;
    }
    for (size_t l = m->n_layers; l-- > 0 && status == NF_OK; s = next, at = of_next) {
        if (!s.is_last)
            units_vjp(m, &s, p, l, &at, kept, b, g);
        if (s.has_gate)
            status = gate_vjp(m, &s, p, &at, kept, b, g);
        const nf_real *gz = s.has_gate ? b->gt : s.in_stream ? b->gh : b->gz, *in = b->x, *din = b->dx;
        const nf_real *gdz = s.has_gate ? b->gdt : s.in_stream ? b->gdh : b->gdz;
        if (l) {
            next = nfi_conv_layer_of(m, l - 1);
            of_next = nfi_conv_block_at(m, &next, p, saved + nfi_conv_kept_before(m, l - 1) * ld);
            in = of_next.u.h;
        }
        if (l && b->k) {
            kept -= nfi_conv_kept_tangent(m, &next) * wide;
            nfi_conv_units_tangent(m, &of_next, ld, b->k, kept, b->spare, b->da);
            din = b->da;
        }
        if (status == NF_OK)
            status = layer_vjp(&s, p, l || below, in, din, gz, gdz, b, g);
    }
    return status;
}

/* g_image [channels x (image's pixels) ld] += the part of ga that belongs to the context's image. */
static void add_image_gradient(const nfi_conv_net *m, size_t ld, const nf_real *ga, nf_real *g_image)
{
    const size_t plane = m->grid.pixels * ld, image = m->grid.height * m->grid.width * ld;
    for (size_t c = 0; c < m->options.ctx_channels; c++)
        nfi_add_scaled(image, 1, ga + (m->in.channels + c) * plane, g_image + c * image);
}

/* Both products; k is 0 for that of the net alone. */
static nf_status both(const nf_object *o, const nf_pass *pass, const nf_real *x, void *saved, size_t k,
                      const nf_real *dx, void *saved_tangent, const nf_real *gy, const nf_real *gdy, nf_real *gx,
                      nf_real *gdx, const nf_grad *grad)
{
    const nfi_conv_net *m = nf_self(o);
    const nf_pass q = nfi_conv_numbers_pass(m, pass), *p = &q;
    const nf_grad numbers = nfi_conv_numbers_grad(m, pass->ld, grad), *g = &numbers;
    const nf_pixels in = m->options.in_pixels, out = m->options.out_pixels;
    const size_t n_in = m->in.channels, n_image = m->options.ctx_channels, ld = p->ld;
    nf_real *g_image = n_image ? grad->ctx : NULL;
    const nf_mark mark = nf_arena_mark(p->scratch);
    back b;
    nf_status status = begin(m, p, k, &b) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        nfi_conv_read(m, ld, x, pass->ctx, b.x);
        nfi_to_grid(&m->grid, out, m->options.n_per_feature, m->out_channels, ld, gy, b.gz);
        if (k) {
            nfi_conv_read(m, k * ld, dx, NULL, b.dx);
            nfi_to_grid(&m->grid, out, m->options.n_per_feature, m->out_channels, k * ld, gdy, b.gdz);
        }
        status = walk(m, p, saved, saved_tangent, gx || gdx || g_image, &b, g);
    }
    if (status == NF_OK && gx)
        nfi_from_grid(&m->grid, in, 1, n_in, ld, b.ga, gx);
    if (status == NF_OK && gdx)
        nfi_from_grid(&m->grid, in, 1, n_in, k * ld, b.gda, gdx);
    if (status == NF_OK && g_image)
        add_image_gradient(m, ld, b.ga, g_image);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nfi_conv_net_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                           const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)y;
    return both(o, p, x, saved, 0, NULL, NULL, gy, NULL, gx, NULL, g);
}

nf_status nfi_conv_net_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y,
                                   void *saved, size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent,
                                   const nf_real *gy, const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    (void)y, (void)dy;
    return both(o, p, x, saved, k, dx, saved_tangent, gy, gdy, gx, gdx, g);
}
