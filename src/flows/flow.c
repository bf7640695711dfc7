/* Calls of a flow's hooks, and the gradient of a direction whose type leaves it to the library.

   Let f(z; theta) be the direction that has a VJP and l(z; theta) its log-det. The other direction, z = f^-1(y; theta),
   has log-det L(y; theta) = -l(z(y, theta); theta). With J = df/dz at the solution, f(z(y, theta); theta) = y gives

       dz = J^-1 (dy - f_theta dtheta),   dL = -l_z dz - l_theta dtheta.

   For cotangents gz of z and gL of L let c = gz - gL l_z and v = J^-T c. Then

       <gz, dz> + gL dL = <c, dz> - gL l_theta dtheta = <v, dy> - (f_theta^T v + gL l_theta) dtheta.

   So gy = v, and the gradients in parameters and context are those of f's VJP at the cotangents (-v, -gL). At the
   cotangents (0, -gL) the same VJP gives -gL l_z, the second part of c. The code is the same whether f is the forward
   or the inverse direction.

   A penalty R(z; theta) of f (nf_pass.penalty) is the implicit direction's, too, at the solution. With its cotangent
   gR, c has gR R_z in addition and the gradient in parameters gR R_theta: f's VJP is given gR as it is, both times.

   J^-T of the implicit direction is J^T of the explicit one: f's VJP without log-det and penalty. */
#include "base/memory.h"
#include "flows/compose.h"

static const nf_flow_type *type_of(const nf_object *flow)
{
    return flow->type;
}

static bool is_implicit(const nf_object *flow, nf_direction d)
{
    return flow->own.flags & (d == NF_FORWARD ? NF_IMPLICIT_FORWARD : NF_IMPLICIT_INVERSE);
}

static nf_pass without_penalty(const nf_pass *p)
{
    nf_pass q = *p;
    q.penalty = NULL;
    q.g_penalty = NULL;
    return q;
}

/* Runs the explicit direction at the solution y, so that it saves what its VJP needs and adds its penalty. */
static nf_status run_explicit(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *y, void **saved)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *x = nf_arena_reals(p->scratch, nfi_rows_in(flow, d), p->ld);
    double *log_det = nfi_zero_doubles(p->scratch, p->ld);
    if (!x || !log_det)
        return NF_ENOMEM;
    nf_status status = type_of(flow)->apply(flow, nfi_opposite(d), p, y, x, log_det, saved);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status apply(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    if (!(p->tape || p->penalty) || !is_implicit(flow, d) || flow->own.flags & NFI_SAVES_EXPLICIT)
        return type_of(flow)->apply(flow, d, p, x, y, log_det, saved);
    nf_pass value = without_penalty(p);
    value.tape = NULL;
    nf_status status = type_of(flow)->apply(flow, d, &value, x, y, log_det, saved);
    return status == NF_OK ? run_explicit(flow, d, p, y, saved) : status;
}

nf_status nf_flow_apply(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                        double *log_det, void **saved)
{
    void *none = NULL;
    saved = saved ? saved : &none;
    if (log_det)
        return apply(flow, d, p, x, y, log_det, saved);
    const nf_mark mark = nf_arena_mark(p->scratch);
    log_det = nfi_zero_doubles(p->scratch, p->ld);
    nf_status status = log_det ? apply(flow, d, p, x, y, log_det, saved) : NF_ENOMEM;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status implicit_vjp(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                              const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx,
                              const nf_grad *g)
{
    const nf_flow_type *type = type_of(flow);
    const nf_direction e = nfi_opposite(d);
    const size_t ld = p->ld, rows_x = nfi_rows_in(flow, d), rows_y = nfi_rows_out(flow, d);
    const nf_grad none = {0};
    if (!type->solve_jt)
        return nf_error(NF_EUNSUPPORTED, "nf_flow_vjp: type %s has no solve_jt", type->part.name);
    nf_real *v = nfi_zeros(p->scratch, rows_x, ld), *c = nf_arena_reals(p->scratch, rows_y, ld);
    nf_real *g_l = nf_arena_reals(p->scratch, 1, ld);
    if (!v || !c || !g_l)
        return NF_ENOMEM;
    for (size_t s = 0; s < ld; s++)
        g_l[s] = -g_log_det[s];
    nf_status status = type->vjp(flow, e, p, y, x, saved, v, g_l, c, &none);
    for (size_t i = 0; i < rows_y * ld; i++)
        c[i] += gy[i];
    const nf_pass of_jacobian = without_penalty(p);
    if (status == NF_OK)
        status = type->solve_jt(flow, e, &of_jacobian, y, x, saved, c, gx);
    if (status != NF_OK || !(g->theta || g->prep || g->ctx || g->stats))
        return status;
    for (size_t i = 0; i < rows_x * ld; i++)
        v[i] = -gx[i];
    return type->vjp(flow, e, p, y, x, saved, v, g_l, c, g);
}

nf_status nf_flow_vjp(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                      void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const nf_grad own = nfi_grad_of(flow, g);
    if (!is_implicit(flow, d) && gx)
        return type_of(flow)->vjp(flow, d, p, x, y, saved, gy, g_log_det, gx, &own);
    const nf_mark mark = nf_arena_mark(p->scratch);
    gx = gx ? gx : nf_arena_reals(p->scratch, nfi_rows_in(flow, d), p->ld);
    nf_status status = NF_ENOMEM;
    if (gx)
        status = is_implicit(flow, d) ? implicit_vjp(flow, d, p, x, y, saved, gy, g_log_det, gx, &own)
                                      : type_of(flow)->vjp(flow, d, p, x, y, saved, gy, g_log_det, gx, &own);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nf_flow_solve_jt(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                           void *saved, const nf_real *gx, nf_real *gy)
{
    const nf_flow_type *type = type_of(flow);
    const nf_pass of_jacobian = without_penalty(p);
    if (is_implicit(flow, d)) {
        const nf_mark mark = nf_arena_mark(p->scratch);
        const nf_grad none = {0};
        const nf_real *no_log_det = nfi_zeros(p->scratch, 1, p->ld);
        nf_status status = NF_ENOMEM;
        if (no_log_det)
            status = type->vjp(flow, nfi_opposite(d), &of_jacobian, y, x, saved, gx, no_log_det, gy, &none);
        nf_arena_rewind(p->scratch, mark);
        return status;
    }
    if (!type->solve_jt)
        return nf_error(NF_EUNSUPPORTED, "nf_flow_solve_jt: type %s has no solve_jt", type->part.name);
    return type->solve_jt(flow, d, &of_jacobian, x, y, saved, gx, gy);
}
