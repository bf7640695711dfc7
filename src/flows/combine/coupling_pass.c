/* Coupling layer (Dinh et al. 2014, eq. 7; 2017, eqs. 4-8; Durkan et al. 2019, sec. 3). Some of the features, a, pass
   unchanged and determine how the other features, b, are transformed:

       y_a = x_a,   y_b = T(x_b; theta),   theta = net(x_a, context),   log|det dy/dx| = log|det dT/dx_b|.

   The inverse does the same with T^-1, since x_a = y_a is known. With g_theta the transform's gradient in theta,

       gx_b = T_b^T gy_b + g_log_det d(log_det)/dx_b,   gx_a = gy_a + (d theta / d x_a)^T g_theta.

   J = [1 0; T_a T_b] is block triangular. So J^-T u has v = T_b^-T u_b in the features b, and u_a - T_a^T v in the
   features a.

   The net may give the transform's context instead of its parameters, which are then among the tree's numbers
   (flows/combine/conditioned.h). */
#include "flows/combine/coupling.h"
#include "base/memory.h"
#include <string.h>

static void copy_rows(const nfi_rows *r, size_t ld, const nf_real *from, nf_real *to)
{
    for (size_t i = 0; i < r->n; i++)
        memcpy(to + r->row[i] * ld, from + r->row[i] * ld, ld * sizeof *to);
}

/* Memory for the features: in `tile` itself, or on scratch until put_rows copies them. NULL if there is no memory. */
static nf_real *place_rows(const nfi_rows *r, const nf_pass *p, nf_real *tile)
{
    if (r->consecutive)
        return tile + (r->n ? r->row[0] : 0) * p->ld;
    return nf_arena_reals(p->scratch, r->n, p->ld);
}

static void put_rows(const nfi_rows *r, const nf_pass *p, const nf_real *packed, nf_real *tile)
{
    for (size_t i = 0; !r->consecutive && i < r->n; i++)
        memcpy(tile + r->row[i] * p->ld, packed + i * p->ld, p->ld * sizeof *tile);
}

/* The features of `tile`, one after the other [n x ld]. */
static const nf_real *get_rows(const nfi_rows *r, const nf_pass *p, const nf_real *tile)
{
    if (r->consecutive)
        return tile + (r->n ? r->row[0] : 0) * p->ld;
    nf_real *packed = nf_arena_reals(p->scratch, r->n, p->ld);
    for (size_t i = 0; packed && i < r->n; i++)
        memcpy(packed + i * p->ld, tile + r->row[i] * p->ld, p->ld * sizeof *packed);
    return packed;
}

/* The features of `tile` as the net reads them [n x ld], on scratch. NULL if there is no memory. */
static const nf_real *read_rows(const nfi_rows *r, const nf_pass *p, const nf_real *tile)
{
    nf_real *packed = nf_arena_reals(p->scratch, r->n, p->ld);
    for (size_t i = 0; packed && i < r->n; i++)
        nfi_readable(p->ld, tile + r->row[i] * p->ld, packed + i * p->ld);
    return packed;
}

nf_status nfi_coupling_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                             double *log_det, void **saved)
{
    const nfi_coupling *c = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_pass net;
    const nf_real *x_a = read_rows(&c->a, p, x), *x_b = get_rows(&c->b, p, x);
    nf_real *y_b = place_rows(&c->b, p, y);
    if (!x_a || !x_b || !y_b || nfi_conditioner_pass(o, p, &net) != NF_OK)
        return NF_ENOMEM;
    copy_rows(&c->a, p->ld, x, y);
    nf_status status = nfi_conditioned_apply(o, d, p, &net, x_a, x_b, y_b, log_det, saved);
    put_rows(&c->b, p, y_b, y);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* The VJPs of the transform and of the net, at cotangents gy_b and g_log_det. Gives gx_b, and g_a, the part of the
   cotangent of x_a that comes through the net. */
static nf_status pull_back(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                           void *saved, const nf_real *gy_b, const nf_real *g_log_det, nf_real *gx_b, nf_real *g_a,
                           const nf_grad *g)
{
    const nfi_coupling *c = o->self;
    nf_pass net;
    const nf_grad g_net = nf_child_grad(o, NFI_CONDITIONER, p, g);
    const nf_real *x_a = read_rows(&c->a, p, x), *x_b = get_rows(&c->b, p, x), *y_b = get_rows(&c->b, p, y);
    if (!x_a || !x_b || !y_b || nfi_conditioner_pass(o, p, &net) != NF_OK)
        return NF_ENOMEM;
    return nfi_conditioned_vjp(o, d, p, &net, x_a, x_b, y_b, saved, gy_b, g_log_det, gx_b, c->a.n ? g_a : NULL, g,
                               &g_net);
}

/* In the features a: gx = gy + sign g_a. */
static void add_to_passed(const nfi_rows *a, size_t ld, nf_real sign, const nf_real *g_a, const nf_real *gy,
                          nf_real *gx)
{
    for (size_t i = 0; i < a->n; i++)
        for (size_t s = 0, at = a->row[i] * ld; s < ld; s++)
            gx[at + s] = gy[at + s] + sign * g_a[i * ld + s];
}

nf_status nfi_coupling_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                           void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const nfi_coupling *c = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_real *gy_b = get_rows(&c->b, p, gy);
    nf_real *gx_b = place_rows(&c->b, p, gx), *g_a = nf_arena_reals(p->scratch, c->a.n, p->ld);
    if (!gy_b || !gx_b || !g_a)
        return NF_ENOMEM;
    nf_status status = pull_back(o, d, p, x, y, saved, gy_b, g_log_det, gx_b, g_a, g);
    if (status == NF_OK) {
        put_rows(&c->b, p, gx_b, gx);
        add_to_passed(&c->a, p->ld, 1, g_a, gy, gx);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nfi_coupling_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    const nfi_coupling *c = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_real *x_b = get_rows(&c->b, p, x), *y_b = get_rows(&c->b, p, y), *gx_b = get_rows(&c->b, p, gx);
    const nf_real *no_log_det = nfi_zeros(p->scratch, 1, p->ld);
    nf_real *v = place_rows(&c->b, p, gy), *g_a = nf_arena_reals(p->scratch, c->a.n, p->ld);
    nf_real *unused = nf_arena_reals(p->scratch, c->b.n, p->ld);
    if (!x_b || !y_b || !gx_b || !no_log_det || !v || !g_a || !unused)
        return NF_ENOMEM;
    nf_status status = nfi_conditioned_solve_jt(o, d, p, x_b, y_b, saved, gx_b, v);
    if (status == NF_OK && c->a.n)
        status = pull_back(o, d, p, x, y, saved, v, no_log_det, unused, g_a, &(nf_grad){.theta = NULL});
    if (status == NF_OK) {
        put_rows(&c->b, p, v, gy);
        add_to_passed(&c->a, p->ld, -1, g_a, gx, gy);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* The net gets the features that it reads; a transform with numbers of its own, those that it is to transform. */
nf_status nfi_coupling_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                            nf_real *state)
{
    if (!batch)
        return nfi_conditioned_init(o, noise, NULL, theta, state);
    const nfi_coupling *c = o->self;
    nf_arena memory = {.n_chunks = 0};
    const nf_pass p = {.n = batch->n, .ld = batch->ld, .scratch = &memory};
    const nf_real *x_a = read_rows(&c->a, &p, batch->x), *x_b = get_rows(&c->b, &p, batch->x);
    nf_batch rows_a = *batch, rows_b = *batch;
    rows_a.x = x_a;
    rows_b.x = x_b;
    nf_status status = x_a && x_b ? nfi_conditioned_init_net(o, noise, &rows_a, 1, theta, state) : NF_ENOMEM;
    if (status == NF_OK && o->place[NFI_TRANSFORM].detached)
        status = nf_init_child(o, NFI_TRANSFORM, noise, NULL, theta, state);
    else if (status == NF_OK)
        status = nfi_init_steered(o, noise, &rows_b, x_a, theta, state);
    nfi_arena_clear(&memory);
    return status;
}
