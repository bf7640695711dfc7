/* The adjoint equation (Chen et al. 2018, appendix B; with a trace: Grathwohl et al. 2019). For a loss with cotangents
   a of z and gl of the log-det,

       da/dt = -(a^T df/dz + gl dtr/dz),   d(g theta)/dt = -(a^T df/dtheta + gl dtr/dtheta),

   from a = gy at y back to x, where a is gx. With a penalty of rate r and cotangent gr, gl tr has gr r beside it. z is
   computed along. Each sample has steps of its own, chosen by the error of (a, z). The gradients in parameters and
   context are sums over the stages of accepted steps, with the weights -h b_i; they read nothing back and do not choose
   steps. */
#include "flows/compose.h"
#include "flows/ode/field.h"
#include "flows/ode/kernels.h"
#include "flows/param.h"
#include "math/rows.h"
#include <math.h>
#include <string.h>

typedef struct adjoint {
    const nfi_field *field;
    const nf_real *g_log_det, *g_penalty; /* the second one may be NULL */
    const nf_grad *g;                     /* the net's */
} adjoint;

/* u is (a, z, t); k = (da/dt, dz/dt). */
static nf_status derivatives(const nfi_ode *o, const nf_real *u, bool quadrature, nf_real *k)
{
    (void)quadrature;
    const adjoint *w = o->user;
    const size_t ld = o->pass->ld, dim = w->field->dim;
    const nf_mark mark = nf_arena_mark(o->pass->scratch);
    nf_real *trace = nf_arena_reals(o->pass->scratch, 1, ld), *gu = nf_arena_reals(o->pass->scratch, dim + 1, ld);
    nfi_field_point at;
    nf_status status = trace && gu
                           ? nfi_field_at(w->field, u + dim * ld, k + dim * ld, trace, NULL, o->pass->scratch, &at)
                           : NF_ENOMEM;
    if (status == NF_OK)
        status = nfi_field_vjp(w->field, &at, u, w->g_log_det, w->g_penalty, gu, &(nf_grad){.theta = NULL});
    for (size_t i = 0; i < dim * ld && status == NF_OK; i++)
        k[i] = -gu[i];
    nf_arena_rewind(o->pass->scratch, mark);
    return status;
}

/* Adds what a step contributes to the gradients in parameters and context. */
static nf_status add_step(const nfi_ode *o, const nf_real *points, const nf_real *h)
{
    const adjoint *w = o->user;
    const size_t ld = o->pass->ld, dim = w->field->dim;
    const nf_mark mark = nf_arena_mark(o->pass->scratch);
    nf_real *y = nf_arena_reals(o->pass->scratch, dim, ld), *trace = nf_arena_reals(o->pass->scratch, 1, ld);
    nf_real *ga = nf_arena_reals(o->pass->scratch, dim, ld), *gl = nf_arena_reals(o->pass->scratch, 2, ld);
    nf_status status = y && trace && ga && gl ? NF_OK : NF_ENOMEM;
    for (size_t i = 0; i < o->rule->stages && status == NF_OK; i++) {
        const nf_mark stage = nf_arena_mark(o->pass->scratch);
        const nf_real *u = points + i * o->rows * ld, weight = -o->rule->b[i];
        nfi_field_point at;
        if (!(weight < 0 || weight > 0))
            continue;
        nfi_ode_combine(dim, ld, 1, &weight, h, 0, u, NULL, ga);
        nfi_ode_combine(1, ld, 1, &weight, h, 0, w->g_log_det, NULL, gl);
        if (w->g_penalty)
            nfi_ode_combine(1, ld, 1, &weight, h, 0, w->g_penalty, NULL, gl + ld);
        status = nfi_field_at(w->field, u + dim * ld, y, trace, NULL, o->pass->scratch, &at);
        if (status == NF_OK)
            status = nfi_field_vjp(w->field, &at, ga, gl, w->g_penalty ? gl + ld : NULL, NULL, w->g);
        nf_arena_rewind(o->pass->scratch, stage);
    }
    nf_arena_rewind(o->pass->scratch, mark);
    return status;
}

nf_status nfi_adjoint(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *y, const nf_real *gy,
                      const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const nfi_continuous *c = nf_self(o);
    const size_t dim = o->own.dim_in, size = dim * p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_grad of_net = nf_child_grad(o, 0, p, g);
    nfi_field field;
    nf_status status = nfi_field_begin(o, p, d, &field);
    adjoint w = {.field = &field, .g_log_det = g_log_det, .g_penalty = nfi_field_g_rate(&field, p), .g = &of_net};
    nfi_ode ode = nfi_continuous_ode(o, p, nfi_opposite(d));
    ode.rows = 2 * dim + 1;
    ode.columns = p->n; /* the padding has other cotangents than sample n - 1, so it would have other steps */
    ode.f = derivatives;
    ode.step = g->theta || g->ctx || g->prep ? add_step : NULL;
    ode.user = &w;
    nf_real *u = nf_arena_reals(p->scratch, ode.rows, p->ld);
    if (!u)
        status = NF_ENOMEM;
    if (status == NF_OK) {
        memcpy(u, gy, size * sizeof *u);
        memcpy(u + size, y, size * sizeof *u);
        status = nfi_continuous_solve(c, &ode, u, NULL);
    }
    if (status == NF_OK)
        memcpy(gx, u, size * sizeof *gx);          /* in the padding it is gy: 0 */
    if (status == NF_OK && ode.failed && g->theta) /* what is added up lacks these samples: a step must not use it */
        g->theta[0] = (nf_real)NAN;
    nf_arena_rewind(p->scratch, mark);
    return status;
}
