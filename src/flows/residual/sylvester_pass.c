/* The passes of a Sylvester flow: y = x + Q w, where u = Q^T x -> u + w is the triangular map of sylvester_kernels.c.

   Gradient: gw = Q^T gy; the map gives gu; gx = gy + Q gu. On both ways through the reflections the gradients in
   their v are added (reflections.c). Q itself is never formed. */
#include "math/rows.h"
#include "flows/lane_sums.h"
#include "flows/linear/reflections.h"
#include "flows/residual/sylvester.h"

/* What a pass saves for its VJP. */
typedef struct record {
    nf_real *coef, *tau; /* coefficients of the triangles; scales of the reflections */
    nf_real *u, *h;      /* u [dim x ld]: Q^T x, with reflections also the features below it; h [M x ld] */
    nf_real *shift;      /* Q w [dim x ld] */
} record;

static nfi_reflections reflections(const nf_object *o, const nf_pass *p, const record *r)
{
    const nfi_sylvester *q = nf_self(o);
    return (nfi_reflections){.stride = p->theta_stride,
                             .n = q->n,
                             .dim = nf_object_shape(o)->dim_in,
                             .ld = p->ld,
                             .v = p->theta,
                             .tau = r->tau};
}

static nfi_triangles triangles(const nf_object *o, const nf_pass *p, const record *r)
{
    const nfi_sylvester *q = nf_self(o);
    const size_t first = q->n * nf_object_shape(o)->dim_in;
    return (nfi_triangles){.stride = p->theta_stride,
                           .m = q->m,
                           .ld = p->ld,
                           .theta = p->theta + first * nfi_param_columns(p->theta_stride, p->ld),
                           .coef = r->coef};
}

static void permute(bool reversed, size_t dim, size_t ld, const nf_real *x, nf_real *y)
{
    for (size_t i = 0; i < dim; i++)
        for (size_t s = 0; s < ld; s++)
            y[i * ld + s] = x[(reversed ? dim - 1 - i : i) * ld + s];
}

/* u = Q^T x; with reflections also the features that follow, so that u has `rows` features. work [dim x NFI_LANES] */
static void take_off(const nf_object *o, const nf_pass *p, const record *r, const nf_real *x, size_t rows, nf_real *u,
                     nf_real *work)
{
    const nfi_sylvester *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in;
    const nfi_reflections chain = reflections(o, p, r);
    if (q->n)
        nfi_reflect(&chain, NF_FORWARD, dim, x, rows, u, work);
    else
        permute(q->options.reversed, dim, p->ld, x, u);
}

/* y = Q w */
static void put_on(const nf_object *o, const nf_pass *p, const record *r, const nf_real *w, nf_real *y, nf_real *work)
{
    const nfi_sylvester *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in;
    const nfi_reflections chain = reflections(o, p, r);
    if (q->n)
        nfi_reflect(&chain, NF_INVERSE, q->m, w, dim, y, work);
    else
        permute(q->options.reversed, dim, p->ld, w, y);
}

static nf_status new_record(const nf_object *o, const nf_pass *p, nf_arena *a, record *r)
{
    const nfi_sylvester *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in, columns = nfi_param_columns(p->theta_stride, p->ld);
    r->coef = nf_arena_reals(a, nfi_triangles_coefficients(q->m), columns);
    r->tau = nf_arena_reals(a, q->n, columns);
    r->u = nf_arena_reals(a, dim, p->ld);
    r->h = nf_arena_reals(a, q->m, p->ld);
    r->shift = nf_arena_reals(a, dim, p->ld);
    if (!r->coef || !r->tau || !r->u || !r->h || !r->shift)
        return NF_ENOMEM;
    const nfi_triangles t = triangles(o, p, r);
    nfi_reflection_scales(t.stride, q->n, dim, t.ld, p->theta, r->tau);
    nfi_triangles_prepare(t.stride, t.m, t.ld, t.theta, r->coef);
    return NF_OK;
}

static nf_status apply_in(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                          double *log_det, void **saved)
{
    const bool save = p->tape && d == NF_FORWARD;
    const nfi_sylvester *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld;
    record here, *r = save ? nf_arena_alloc(p->tape, sizeof *r) : &here;
    nf_status status = r ? new_record(o, p, save ? p->tape : p->scratch, r) : NF_ENOMEM;
    nf_real *w = nf_arena_reals(p->scratch, q->m, ld), *work = nf_arena_reals(p->scratch, dim, NFI_LANES);
    nf_real *rows = nf_arena_reals(p->scratch, 2 * q->m + 2, ld);
    if (status != NF_OK || !w || !work || !rows)
        return NF_ENOMEM;
    const nfi_triangles t = triangles(o, p, r);
    take_off(o, p, r, x, dim, r->u, work);
    if (d == NF_FORWARD)
        nfi_triangles_forward(&t, r->u, r->h, w, log_det);
    else
        nfi_triangles_inverse(&t, r->u, w, log_det, rows);
    put_on(o, p, r, w, r->shift, work);
    nfi_move(dim * ld, d == NF_FORWARD ? 1 : -1, x, r->shift, y);
    if (save)
        *saved = r;
    return NF_OK;
}

nf_status nfi_sylvester_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                              double *log_det, void **saved)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_status status = apply_in(o, d, p, x, y, log_det, saved);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* The VJP with gradients in the parameters. The reflections add theirs on both ways through Q. */
static nf_status pull_back(const nf_object *o, const nf_pass *p, const record *r, const nf_real *gy,
                           const nf_real *g_log_det, nf_real *gw, nf_real *gu, nf_real *shift, nf_real *g_theta,
                           nf_real *work, nf_real *rows)
{
    const nfi_sylvester *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in, n_params = nf_object_shape(o)->n_params;
    const nfi_reflections chain = reflections(o, p, r);
    const nfi_triangles t = triangles(o, p, r);
    nf_real *sums = nfi_lane_sums(p, n_params, g_theta);
    if (!sums)
        return NF_ENOMEM;
    if (q->n)
        nfi_reflect_vjp(&chain, NF_INVERSE, r->shift, dim, gy, q->m, gw, sums, work);
    else
        take_off(o, p, r, gy, q->m, gw, work);
    nfi_triangles_vjp(&t, r->u, r->h, gw, g_log_det, gu, sums + q->n * dim * nfi_lane_columns(p->theta_stride, p->ld),
                      rows);
    if (q->n)
        nfi_reflect_vjp(&chain, NF_FORWARD, r->u, q->m, gu, dim, shift, sums, work);
    else
        put_on(o, p, r, gu, shift, work);
    nfi_add_lane_sums(p, n_params, sums, g_theta);
    return NF_OK;
}

nf_status nfi_sylvester_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                            void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)x, (void)y;
    const nfi_sylvester *q = nf_self(o);
    const record *r = saved;
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gw = nf_arena_reals(p->scratch, q->m, ld), *gu = nf_arena_reals(p->scratch, q->m, ld);
    nf_real *shift = nf_arena_reals(p->scratch, dim, ld), *rows = nf_arena_reals(p->scratch, q->m, ld);
    nf_real *work = nf_arena_reals(p->scratch, 2 * dim, NFI_LANES);
    if (!gw || !gu || !shift || !rows || !work)
        return NF_ENOMEM;
    nf_status status = NF_OK;
    if (g->theta) {
        status = pull_back(o, p, r, gy, g_log_det, gw, gu, shift, g->theta, work, rows);
    } else {
        const nfi_triangles t = triangles(o, p, r);
        take_off(o, p, r, gy, q->m, gw, work);
        nfi_triangles_vjp(&t, r->u, r->h, gw, g_log_det, gu, NULL, rows);
        put_on(o, p, r, gu, shift, work);
    }
    if (status == NF_OK)
        nfi_move(dim * ld, 1, gy, shift, gx);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* J^-T = I + Q (K^-T - I) Q^T, where K is the Jacobian of the triangular map. */
nf_status nfi_sylvester_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                 const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)x, (void)y;
    const nfi_sylvester *q = nf_self(o);
    const record *r = saved;
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld;
    const nfi_triangles t = triangles(o, p, r);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gu = nf_arena_reals(p->scratch, q->m, ld), *gw = nf_arena_reals(p->scratch, q->m, ld);
    nf_real *shift = nf_arena_reals(p->scratch, dim, ld), *work = nf_arena_reals(p->scratch, 2 * dim, NFI_LANES);
    if (!gu || !gw || !shift || !work)
        return NF_ENOMEM;
    take_off(o, p, r, gx, q->m, gu, work);
    nfi_triangles_solve_jt(&t, r->h, gu, gw, work);
    put_on(o, p, r, gw, shift, work);
    nfi_move(dim * ld, 1, gx, shift, gy);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}
