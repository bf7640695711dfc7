/* Passes of nets whose layers are gated by the time (FFJORD's concatsquash, Grathwohl et al. 2019, appendix B). With
   c = (t, context),

       v = W h + b,   s = sigmoid(G c + a),   z = v s + U c,   h' = f(z),

   and for each of k directions, of which dt is a part,

       dz = s dv + v s (1 - s) dq + U dt,   dv = W dh,   dq = G dt,   dh' = f'(z) dz.

   The products of values and gates, forward and back, are those of units.c; those of units are in hidden.c. Kept of a
   layer are v, s, the units h' and, for units that need it, z. Of its tangent: dv, dq and dz, and of hidden layers
   dh'. */
#include "nn/squash.h"
#include "math/rows.h"
#include "nn/directions.h"
#include "nn/units.h"
#include "object/tree.h"
#include <string.h>

/* What is kept of a layer; units that do not keep their argument have it in h until they overwrite it. */
typedef struct kept {
    nf_real *v, *s, *h, *z;     /* [out x ld] */
    nf_real *dv, *dq, *dz, *dh; /* [out x k ld]; NULL if there is no tangent */
} kept;

static size_t rows_kept(const nfi_squash *m)
{
    return 4 * (m->n_hidden_units + m->width[m->n_layers]);
}

/* Moves to layer `layer`; kept rows of all layers follow one another. dv NULL: no tangent. */
static kept kept_at(const nfi_squash *m, size_t layer, size_t ld, size_t k, nf_real *rows, nf_real *tangents)
{
    size_t before = 0;
    for (size_t l = 0; l < layer; l++)
        before += m->width[l + 1];
    const size_t size = m->width[layer + 1] * ld;
    nf_real *at = rows + 4 * before * ld, *of_k = tangents ? tangents + 4 * before * k * ld : NULL;
    return (kept){.v = at,
                  .s = at + size,
                  .h = at + 2 * size,
                  .z = at + 3 * size,
                  .dv = of_k,
                  .dq = of_k ? of_k + k * size : NULL,
                  .dz = of_k ? of_k + 2 * k * size : NULL,
                  .dh = of_k ? of_k + 3 * k * size : NULL};
}

static nfi_hidden units_of(const nfi_squash *m, const nf_pass *p, const nfi_squash_layer *l, size_t layer,
                           const kept *b)
{
    const nf_activation f = nfi_squash_unit(m, layer);
    const bool keeps = nfi_keeps_argument(f);
    return (nfi_hidden){.f = f,
                        .rows = l->value.out,
                        .beta = keeps ? p->theta + l->end - 1 : NULL,
                        .h = b->h,
                        .z = keeps ? b->z : NULL};
}

static const nf_real *time_of(const nfi_squash *m, size_t columns, const nf_real *x)
{
    return x + m->width[0] * columns;
}

nf_status nfi_squash_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    const nfi_squash *m = nf_self(o);
    const size_t ld = p->ld;
    nf_mark mark;
    nf_real *rows = nfi_keep(p, rows_kept(m), ld, &mark), *none = nf_arena_reals(p->scratch, m->widest, 1);
    if (!rows || !none) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    memset(none, 0, m->widest * sizeof *none);
    if (p->tape)
        *saved = rows;
    const nf_real *h = x, *t = time_of(m, ld, x);
    for (size_t i = 0, at = 0; i < m->n_layers; i++) {
        const nfi_squash_layer l = nfi_squash_layer_at(m, i, at);
        const nf_real *w = p->theta;
        const kept b = kept_at(m, i, ld, 0, rows, NULL);
        const nfi_hidden units = units_of(m, p, &l, i, &b);
        nfi_dense_apply(&l.value, p, w + l.at, h, false, b.v);
        nfi_dense_apply(&l.gate, p, w + l.gate_at, t, false, b.s);
        nfi_dense_apply(&l.shift, p, w + l.shift_at, t, false, b.z);
        nfi_gate(l.value.out, ld, w + l.at + nfi_dense_bias(&l.value), w + l.gate_at + nfi_dense_bias(&l.gate), b.v,
                 b.s, true, b.z);
        nfi_hidden_apply(&units, ld, none, b.z);
        h = b.h;
        at = l.end;
    }
    memcpy(y, h, m->width[m->n_layers] * ld * sizeof *y);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

nf_status nfi_squash_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    (void)x, (void)y;
    const nfi_squash *m = nf_self(o);
    const size_t ld = p->ld, wide = k * ld;
    nf_mark mark;
    nf_real *tangents = nfi_keep(p, rows_kept(m), wide, &mark), *spare = nf_arena_reals(p->scratch, m->widest, ld);
    if (!tangents || !spare) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    if (p->tape)
        *saved_tangent = tangents;
    const nf_real *dh = dx, *dt = time_of(m, wide, dx);
    for (size_t i = 0, at = 0; i < m->n_layers; i++) {
        const nfi_squash_layer l = nfi_squash_layer_at(m, i, at);
        const kept b = kept_at(m, i, ld, k, saved, tangents);
        const nfi_hidden units = units_of(m, p, &l, i, &b);
        nfi_dense_tangent(&l.value, p, k, p->theta + l.at, dh, false, b.dv);
        nfi_dense_tangent(&l.gate, p, k, p->theta + l.gate_at, dt, false, b.dq);
        nfi_gate_tangent(l.value.out, k, ld, b.v, b.s, b.dv, b.dq, b.dz);
        nfi_dense_tangent(&l.shift, p, k, p->theta + l.shift_at, dt, true, b.dz);
        nfi_hidden_tangent(&units, ld, k, spare, b.dz, b.dh);
        dh = b.dh;
        at = l.end;
    }
    memcpy(dy, dh, m->width[m->n_layers] * wide * sizeof *dy);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* ---- back ---- */

/* The arrays of a vector-Jacobian product, k = 0 where there are no directions: cotangents of a layer's units, z, v and
   gates [widest x ld], and the same of k directions. */
typedef struct back {
    nf_real *gh, *gz, *gv, *gs, *gt, *g_beta, *spare;
    nf_real *gdh, *gdz, *gdv, *gdq, *gdt;
} back;

static bool begin_back(const nfi_squash *m, const nf_pass *p, size_t k, back *b)
{
    const size_t rows = m->widest > m->width[0] ? m->widest : m->width[0], ld = p->ld;
    nf_real *one = nf_arena_reals(p->scratch, 7 * rows + 1, ld);
    nf_real *wide = nf_arena_reals(p->scratch, 4 * rows + 1, (k ? k : 1) * ld);
    b->g_beta = nfi_beta_row(p, m->options.activation);
    if (!one || !wide || (!b->g_beta && nfi_keeps_argument(m->options.activation)))
        return false;
    const size_t size = rows * ld;
    b->gh = one, b->gz = one + size, b->gv = one + 2 * size, b->gs = one + 3 * size, b->spare = one + 4 * size;
    b->gt = one + 7 * size;
    b->gdh = wide, b->gdz = wide + k * size, b->gdv = wide + 2 * k * size, b->gdq = wide + 3 * k * size;
    b->gdt = wide + 4 * k * size;
    return true;
}

/* Back through a map of time and context, from the cotangents gz, and gdz of k directions: adds to that of the time. */
static nf_status back_through_time(const nfi_dense *d, const nf_pass *p, size_t at, size_t k, const nf_real *t,
                                   const nf_real *dt, const nf_real *gz, const nf_real *gdz, const back *b, nf_real *gt,
                                   nf_real *gdt, const nf_grad *g)
{
    nf_status status;
    if (k)
        status = nfi_dense_tangent_vjp(d, p, k, at, t, dt, gz, gdz, gt ? b->gt : NULL, gdt ? b->gdt : NULL, g);
    else
        status = nfi_dense_vjp(d, p, at, t, gz, gt ? b->gt : NULL, g);
    if (gt && status == NF_OK)
        nfi_add_scaled(p->ld, 1, b->gt, gt);
    if (gdt && status == NF_OK)
        nfi_add_scaled(k * p->ld, 1, b->gdt, gdt);
    return status;
}

/* Back through layer i; gh and gdh are those of its units and become those of its input, or gx and gdx. */
static nf_status back_through(const nfi_squash *m, const nf_pass *p, size_t i, size_t at, size_t k, const nf_real *x,
                              const nf_real *dx, nf_real *saved, nf_real *tangents, const back *b, nf_real *gx,
                              nf_real *gdx, const nf_grad *g)
{
    const nfi_squash_layer l = nfi_squash_layer_at(m, i, at);
    const size_t ld = p->ld, out = l.value.out, d = m->width[0];
    const kept here = kept_at(m, i, ld, k, saved, tangents);
    const kept below = i ? kept_at(m, i - 1, ld, k, saved, tangents) : (kept){.v = NULL};
    const nfi_hidden units = units_of(m, p, &l, i, &here);
    nf_real *g_bias = nfi_bias_gradient(g, l.at + nfi_dense_bias(&l.value), out);
    nf_real *g_gate = nfi_bias_gradient(g, l.gate_at + nfi_dense_bias(&l.gate), out);
    nf_real *to = i ? b->gh : gx, *dto = i ? b->gdh : gdx, *gt = gx ? gx + d * ld : NULL;
    nf_real *gdt = gdx ? gdx + d * k * ld : NULL;
    const nf_real *h = i ? below.h : x, *dh = i ? below.dh : dx, *t = time_of(m, ld, x), *dt = dx;
    nf_status status;
    if (k) {
        dt = time_of(m, k * ld, dx);
        nfi_hidden_tangent_vjp(&units, ld, k, b->spare, here.dz, b->gh, b->gdh, false, b->gz, b->gdz, NULL, b->g_beta);
        nfi_gate_tangent_vjp(out, k, ld, here.v, here.s, here.dv, here.dq, b->gz, b->gdz, b->gv, b->gs, b->gdv, b->gdq);
        if (g_bias) {
            nfi_add_row_sums(out, ld, 1, b->gv, g_bias);
            nfi_add_row_sums(out, ld, 1, b->gs, g_gate);
        }
        status = nfi_dense_tangent_vjp(&l.value, p, k, l.at, h, dh, b->gv, b->gdv, to, dto, g);
    } else {
        nfi_hidden_vjp(&units, ld, b->spare, b->gh, false, b->gz, NULL, b->g_beta);
        nfi_gate_vjp(out, ld, here.v, here.s, b->gz, b->gv, b->gs, g_bias, g_gate);
        status = nfi_dense_vjp(&l.value, p, l.at, h, b->gv, to, g);
    }
    nfi_beta_gradient(&units, ld, g, l.end - 1, b->g_beta);
    if (status == NF_OK)
        status = back_through_time(&l.gate, p, l.gate_at, k, t, dt, b->gs, b->gdq, b, gt, gdt, g);
    if (status == NF_OK)
        status = back_through_time(&l.shift, p, l.shift_at, k, t, dt, b->gz, b->gdz, b, gt, gdt, g);
    return status;
}

/* Both products: with k = 0 that of the net itself. */
static nf_status go_back(const nf_object *o, const nf_pass *p, size_t k, const nf_real *x, const nf_real *dx,
                         nf_real *saved, nf_real *tangents, const nf_real *gy, const nf_real *gdy, nf_real *gx,
                         nf_real *gdx, const nf_grad *g)
{
    const nfi_squash *m = nf_self(o);
    const size_t ld = p->ld, out = m->width[m->n_layers], d = m->width[0];
    const nf_mark mark = nf_arena_mark(p->scratch);
    back b;
    nf_status status = begin_back(m, p, k, &b) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        memcpy(b.gh, gy, out * ld * sizeof *gy);
        if (k)
            memcpy(b.gdh, gdy, out * k * ld * sizeof *gdy);
        if (gx)
            memset(gx + d * ld, 0, ld * sizeof *gx);
        if (gdx)
            memset(gdx + d * k * ld, 0, k * ld * sizeof *gdx);
    }
    for (size_t i = m->n_layers, end = nf_object_shape(o)->n_params; i-- > 0 && status == NF_OK;) {
        const nfi_squash_layer l = nfi_squash_layer_at(m, i, 0);
        end -= l.end; /* the layer's first number */
        status = back_through(m, p, i, end, k, x, dx, saved, tangents, &b, gx, gdx, g);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nfi_squash_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)y;
    return go_back(o, p, 0, x, NULL, saved, NULL, gy, NULL, gx, NULL, g);
}

nf_status nfi_squash_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                 size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                 const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    (void)y, (void)dy;
    return go_back(o, p, k, x, dx, saved, saved_tangent, gy, gdy, gx, gdx, g);
}
