/* A net at several points for each sample; see points.h. */
#include "nn/points.h"
#include "math/rows.h"
#include <string.h>

/* No net reads more, so that an infinite x does not make NaN of what is finite. */
static const nf_real most = sizeof(nf_real) == sizeof(double) ? NF_R(0x1p100) : NF_R(0x1p60);

nf_status nfi_points_run(const nf_object *o, size_t child, const nf_pass *p, size_t n_nodes, const nf_real *node,
                         const nf_real *x, const nf_real *ctx, nfi_points *r)
{
    const nf_object *net = nf_child(o, child);
    const size_t ld = p->ld, n = n_nodes * ld, n_ctx = nf_object_shape(net)->n_ctx;
    nf_real *t = nf_arena_reals(p->scratch, 4 + n_ctx, n);
    if (!t)
        return NF_ENOMEM;
    nf_real *wide = t + 4 * n;
    *r =
        (nfi_points){.n = n, .t = t, .y = t + n, .dy = t + 2 * n, .one = t + 3 * n, .pass = nf_child_pass(o, child, p)};
    for (size_t i = 0; i < n; i++) {
        r->t[i] = node[i / ld] * x[i % ld];
        r->one[i] = 1;
    }
    nfi_clip(n, most, r->t, r->t);
    for (size_t j = 0; j < n_ctx; j++)
        for (size_t k = 0; k < n_nodes; k++)
            memcpy(wide + j * n + k * ld, ctx + j * ld, ld * sizeof *wide);
    r->pass.n = r->pass.ld = n;
    r->pass.ctx = n_ctx ? wide : NULL;
    r->pass.mode = NF_EVAL;
    r->pass.tape = p->scratch; /* a tangent needs what apply saves, see nf_net_type.apply */
    const nf_status status = nf_net_apply(net, &r->pass, r->t, r->y, &r->saved);
    return status != NF_OK ? status
                           : nf_net_tangent(net, &r->pass, r->t, r->y, r->saved, 1, r->one, r->dy, &r->saved_tangent);
}

nf_status nfi_points_vjp(const nf_object *o, size_t child, const nf_pass *p, const nf_real *node, const nfi_points *r,
                         const nf_real *gy, const nf_real *gdy, nf_real *gx, nf_real *g_ctx, const nf_grad *g)
{
    const nf_object *net = nf_child(o, child);
    const size_t ld = p->ld, n = r->n, n_ctx = g_ctx ? nf_object_shape(net)->n_ctx : 0;
    nf_real *gt = nf_arena_reals(p->scratch, 1 + n_ctx, n);
    if (!gt)
        return NF_ENOMEM;
    nf_real *wide = gt + n;
    memset(wide, 0, n_ctx * n * sizeof *wide);
    nf_grad inner = nf_child_grad(o, child, p, g);
    inner.ctx = n_ctx ? wide : NULL;
    const nf_status status = nf_net_tangent_vjp(net, &r->pass, r->t, r->y, r->saved, 1, r->one, r->dy, r->saved_tangent,
                                                gy, gdy, gt, NULL, &inner);
    for (size_t i = 0; i < n; i++)
        gx[i % ld] += node[i / ld] * gt[i];
    for (size_t i = 0; i < n_ctx * n; i++)
        g_ctx[i / n * ld + i % ld] += wide[i];
    return status;
}
