/* Tangents of multilayer perceptrons. With z = W h + b, h' = f(z), for each of k directions

       dz = W dh,   dh' = f'(z) dz.

   Back, for cotangents gh' of h' and gdh' of dh', from the last layer to the first:

       gdz = f'(z) gdh',   gz = f'(z) gh' + f''(z) sum_j dz_j gdh'_j,
       gW += gz h^T + sum_j gdz_j dh_j^T,   gb += gz,   gh = W^T gz,   gdh = W^T gdz.

   Units of several products have forms of their own (units.c). The tape keeps for each hidden layer the products dz
   (for maxout units dh instead), and dz of the last layer if it has units. Otherwise dh is computed again from dz. */
#include "math/rows.h"
#include "nn/directions.h"
#include "nn/dropout.h"
#include "nn/mlp.h"
#include "nn/units.h"

/* Rows of k ld that are kept per hidden unit. */
static size_t kept_directions(const nfi_mlp *m)
{
    return m->kind == NFI_GATED ? 2 : 1;
}
/* Rows of k ld that are kept for the last layer. */
static size_t kept_output(const nfi_mlp *m)
{
    return m->output == NF_IDENTITY ? 0 : m->width[m->n_layers];
}

/* dh of a hidden layer, from what is kept of it: computed in `to`, or where it is kept. spare [width x ld]. */
static const nf_real *units_tangent(const nfi_mlp *m, size_t ld, size_t k, const nfi_mlp_stage *s, nf_real *spare,
                                    const nf_real *kept, nf_real *to)
{
    const nfi_mlp_block *b = &s->b;
    const size_t size = b->width * ld;
    if (m->kind == NFI_MAXOUT)
        return kept;
    if (m->kind == NFI_PLAIN) {
        nfi_hidden_tangent(&s->plain, ld, k, spare, kept, to);
    } else {
        nfi_gate_tangent(b->width, k, ld, b->more, b->more + size, kept, kept + k * size, to);
        if (b->mask)
            nfi_scale_directions(b->width, k, ld, b->mask, to, false, to);
    }
    return to;
}

nf_status nfi_mlp_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                          size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    (void)x;
    const nfi_mlp *m = nf_self(o);
    const bool drops = nfi_drops(p, m->dropout), maxout = m->kind == NFI_MAXOUT;
    const size_t ld = p->ld, wide = k * ld, rows = kept_directions(m);
    nf_mark mark;
    nf_real *kept = nfi_keep(p, rows * (p->tape ? m->n_hidden_units : m->widest) + kept_output(m), wide, &mark);
    nf_real *dh = nf_arena_reals(p->scratch, m->widest, wide), *spare = nf_arena_reals(p->scratch, m->widest, ld);
    nf_real *pieces = nf_arena_reals(p->scratch, maxout ? m->pieces * m->widest : 0, wide);
    if (!kept || !dh || !spare || !pieces) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    if (p->tape)
        *saved_tangent = kept;
    const nf_real *below = dx;
    for (size_t l = 0; l + 1 < m->n_layers; l++) {
        const nfi_mlp_stage s = nfi_mlp_stage_of(m, p, drops, saved, l);
        nfi_dense_tangent(&s.d, p, k, p->theta + s.at, below, false, maxout ? pieces : kept);
        if (maxout)
            nfi_maxout_tangent(s.b.width, m->pieces, k, ld, s.b.more, pieces, kept);
        if (maxout && s.b.mask)
            nfi_scale_directions(s.b.width, k, ld, s.b.mask, kept, false, kept);
        below = units_tangent(m, ld, k, &s, spare, kept, dh);
        kept += rows * (p->tape ? s.b.width : 0) * wide;
    }
    if (!p->tape)
        kept += rows * m->widest * wide;
    const nfi_mlp_stage last = nfi_mlp_stage_of(m, p, drops, NULL, m->n_layers - 1);
    const nfi_hidden output = nfi_mlp_output(m, &last.d, y);
    nfi_dense_tangent(&last.d, p, k, p->theta + last.at, below, false, kept_output(m) ? kept : dy);
    if (kept_output(m))
        nfi_hidden_tangent(&output, ld, k, spare, kept, dy);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* The arrays of one vector-Jacobian product: gradients of the products and of the units, the same for k directions, and
   temporaries. */
typedef struct back {
    nf_real *gz, *gh, *spare, *g_beta; /* [pieces * widest x ld], [widest x ld], [3 widest x ld], [ld] */
    nf_real *gdz, *gdh, *dh;           /* [pieces * widest x k ld], [widest x k ld], [widest x k ld] */
} back;

static bool begin_back(const nfi_mlp *m, const nf_pass *p, size_t k, back *b)
{
    const size_t ld = p->ld, wide = k * ld, products = m->pieces * m->widest;
    b->gz = nf_arena_reals(p->scratch, products, ld);
    b->gh = nf_arena_reals(p->scratch, m->widest, ld);
    b->spare = nf_arena_reals(p->scratch, 3 * m->widest, ld);
    b->g_beta = nfi_beta_row(p, m->activation);
    b->gdz = nf_arena_reals(p->scratch, products, wide);
    b->gdh = nf_arena_reals(p->scratch, m->widest, wide);
    b->dh = nf_arena_reals(p->scratch, m->widest, wide);
    return b->gz && b->gh && b->spare && b->gdz && b->gdh && b->dh && (b->g_beta || !nfi_keeps_argument(m->activation));
}

/* Computes gz and gdz of a hidden layer from gh and gdh. */
static void units_tangent_vjp(const nfi_mlp *m, size_t ld, size_t k, const nfi_mlp_stage *s, const nf_real *kept,
                              const back *g, nf_real *g_bias)
{
    const nfi_mlp_block *b = &s->b;
    const size_t size = b->width * ld;
    if (m->kind == NFI_PLAIN) {
        nfi_hidden_tangent_vjp(&s->plain, ld, k, g->spare, kept, g->gh, g->gdh, false, g->gz, g->gdz, g_bias,
                               g->g_beta);
        return;
    }
    if (b->mask) {
        nfi_multiply(size, b->mask, g->gh);
        nfi_scale_directions(b->width, k, ld, b->mask, g->gdh, false, g->gdh);
    }
    if (m->kind == NFI_GATED) {
        nfi_gate_tangent_vjp(b->width, k, ld, b->more, b->more + size, kept, kept + k * size, g->gh, g->gdh, g->gz,
                             g->gz + size, g->gdz, g->gdz + k * size);
        if (g_bias)
            nfi_add_row_sums(2 * b->width, ld, 1, g->gz, g_bias);
    } else {
        nfi_maxout_vjp(b->width, m->pieces, ld, b->more, g->gh, g->gz, g_bias);
        nfi_maxout_tangent_vjp(b->width, m->pieces, k, ld, b->more, g->gdh, g->gdz);
    }
}

nf_status nfi_mlp_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                              size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                              const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    (void)dy;
    const nfi_mlp *m = nf_self(o);
    const bool drops = nfi_drops(p, m->dropout);
    const size_t ld = p->ld, wide = k * ld, rows = kept_directions(m);
    const nf_mark mark = nf_arena_mark(p->scratch);
    back b;
    if (!begin_back(m, p, k, &b)) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    const nf_real *kept = (const nf_real *)saved_tangent + rows * m->n_hidden_units * wide;
    nf_status status = NF_OK;
    for (size_t l = m->n_layers; l-- > 0 && status == NF_OK;) {
        const nfi_mlp_stage s = nfi_mlp_stage_of(m, p, drops, saved, l);
        nf_real *g_bias = nfi_bias_gradient(g, s.at + nfi_dense_bias(&s.d), s.d.out);
        if (l + 1 == m->n_layers) {
            const nfi_hidden output = nfi_mlp_output(m, &s.d, y);
            nfi_hidden_tangent_vjp(&output, ld, k, b.spare, kept, gy, gdy, false, b.gz, b.gdz, g_bias, NULL);
        } else {
            units_tangent_vjp(m, ld, k, &s, kept, &b, g_bias);
            nfi_beta_gradient(&s.plain, ld, g, s.at + nfi_dense_beta(&s.d), b.g_beta);
        }
        const nf_real *h = x, *dh = dx;
        if (l) {
            const nfi_mlp_stage below = nfi_mlp_stage_of(m, p, drops, saved, l - 1);
            kept -= rows * s.d.in * wide;
            h = below.b.h;
            dh = units_tangent(m, ld, k, &below, b.spare, kept, b.dh);
        }
        status = nfi_dense_tangent_vjp(&s.d, p, k, s.at, h, dh, b.gz, b.gdz, l ? b.gh : gx, l ? b.gdh : gdx, g);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}
