/* Unconstrained monotone nets (Wehenkel & Louppe 2019, UMNN, section 3): for one feature, with the context b, c,

       F(x) = b + x sum_k w_k f(x t_k, c),   f(t, c) = u(net(t, c)) + m,   u(z) = log(1 + exp z),
       F'(x) = sum_k w_k (f_k + T_k f'_k),   T_k = x t_k,   ' = d/dT,

   by Gauss-Legendre quadrature. F' is the derivative of this sum itself, by the net's tangent: exact for any number of
   nodes. With D = g_log_slope / F' the cotangents of f_k and f'_k are w_k (x gy + D) and w_k T_k D, of which the
   tangent's product makes gT_k and all else; gx = gy sum_k w_k f_k + D sum_k w_k t_k f'_k + sum_k t_k gT_k, gb = gy.
   Nothing is kept on the tape, which a net at 32 points of each feature would fill: to run it again costs little more.
 */
#include "flows/compose.h"
#include "flows/types.h"
#include "math/gauss_legendre.h"
#include "nn/activation.h"
#include "nn/points.h"
#include "object/options.h"
#include "object/parts.h"
#include <math.h>
#include <nflow/elementwise.h>
#include <nflow/monotone.h>

enum { MOST_NODES = 256 };
typedef struct own {
    nf_monotone_net_options options; /* with defaults filled in */
    nf_real node[MOST_NODES], weight[MOST_NODES];
} own;

/* Runs the net; *u [n] is u of its outputs, then come u' and u''. */
static nf_status run(const nf_feature *f, const nf_real *x, nfi_points *r, nf_real **u)
{
    const own *q = f->options;
    const size_t k = q->options.nodes, n = k * f->ld;
    *u = nf_arena_reals(f->pass->scratch, 3, n);
    const nf_status status =
        *u ? nfi_points_run(f->flow, 0, f->pass, k, q->node, x, f->ctx ? f->ctx + f->ld : NULL, r) : NF_ENOMEM;
    if (status != NF_OK)
        return status;
    nfi_activate_to(NF_SOFTPLUS, 1, n, &(nf_real){0}, r->y, *u);
    nfi_activate_slopes(NF_SOFTPLUS, n, 1, *u, *u + n);
    nfi_activate_curves(NF_SOFTPLUS, n, 1, *u, *u + 2 * n);
    return NF_OK;
}

/* sum_k w_k f_k; *slope = F', *moving = sum_k w_k t_k f'_k. */
static nf_real sums_at(const nf_feature *f, const nfi_points *r, const nf_real *u, size_t s, nf_real *slope,
                       nf_real *moving)
{
    const own *q = f->options;
    nf_real mean = *slope = *moving = 0;
    for (size_t k = 0, i = s; k < q->options.nodes; k++, i += f->ld) {
        const nf_real w = q->weight[k], value = u[i] + (nf_real)q->options.min_slope;
        const nf_real d = u[r->n + i] * r->dy[i];
        mean += w * value;
        *slope += w * (value + r->t[i] * d);
        *moving += w * q->node[k] * d;
    }
    return mean;
}

static nf_status forward(const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope)
{
    const nf_mark mark = nf_arena_mark(f->pass->scratch);
    nfi_points r;
    nf_real *u, slope, moving;
    const nf_status status = run(f, x, &r, &u);
    for (size_t s = 0; s < f->ld && status == NF_OK; s++) {
        y[s] = (f->ctx ? f->ctx[s] : 0) + x[s] * sums_at(f, &r, u, s, &slope, &moving);
        log_slope[s] = (nf_real)log((double)slope);
    }
    nf_arena_rewind(f->pass->scratch, mark);
    return status;
}

static nf_status vjp(const nf_feature *f, const nf_real *x, const nf_real *gy, const nf_real *g_log_slope, nf_real *gx,
                     nf_real *g_theta)
{
    (void)g_theta;
    const own *q = f->options;
    const nf_mark mark = nf_arena_mark(f->pass->scratch);
    nf_real *u, *gz = nf_arena_reals(f->pass->scratch, 2, q->options.nodes * f->ld);
    nfi_points r;
    nf_status status = gz ? run(f, x, &r, &u) : NF_ENOMEM;
    for (size_t s = 0; s < f->ld && status == NF_OK; s++) {
        nf_real slope, moving, mean = sums_at(f, &r, u, s, &slope, &moving), D = g_log_slope[s] / slope;
        gx[s] = gy[s] * mean + D * moving;
        for (size_t k = 0, i = s; k < q->options.nodes; k++, i += f->ld) { /* of z, z': f = u(z), f' = u'(z) z' */
            const nf_real g = q->weight[k] * (x[s] * gy[s] + D), gd = q->weight[k] * r.t[i] * D;
            gz[i] = u[r.n + i] * g + u[2 * r.n + i] * r.dy[i] * gd;
            gz[r.n + i] = u[r.n + i] * gd;
        }
        if (f->g_ctx)
            f->g_ctx[s] += gy[s];
    }
    if (status == NF_OK)
        status = nfi_points_vjp(f->flow, 0, f->pass, q->node, &r, gz, gz + r.n, gx, f->g_ctx ? f->g_ctx + f->ld : NULL,
                                f->grad);
    nf_arena_rewind(f->pass->scratch, mark);
    return status;
}

/* Moves the net's output to where the slope is 1. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch;
    const nf_real start = (nf_real)log(expm1(1 - ((const own *)nf_formula_options(o))->options.min_slope));
    const nf_status status = nf_init_child(o, 0, noise, NULL, theta, state);
    return status == NF_OK ? nfi_shift_child(o, 0, &start, theta) : status;
}

static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_SIZE, nf_monotone_net_options, nodes), .least = 1, .most = MOST_NODES,
     .help = "of the quadrature"},
    {NF_OPTION(NF_OPTION_REAL, nf_monotone_net_options, min_slope), .least = 1e-6, .most = 0.5, .help = "least slope"}};
static const nf_monotone_net_options defaults = {.nodes = 32, .min_slope = 1e-3};
static const nf_option_table table =
    NF_OPTION_TABLE("nf_monotone_net", nf_monotone_net_options, options_of_type, &defaults);
NFI_REBUILD(flow, nf_monotone_net_options, nf_monotone_net(nf_read_dim_in(r), nfi_read_net(r, 0, "a monotone net"), q))

static const nf_formula formula = {.abi = sizeof(nf_formula), .forward = forward, .vjp = vjp};
const nf_flow_type nfi_monotone_net_type = {NF_FORMULA_HOOKS, .part.name = "monotone_net", .part.init = init,
                                            .rebuild = rebuild, .options = &table};

nf_flow *nf_monotone_net(size_t dim, nf_net *net, const nf_monotone_net_options *options)
{
    const nf_shape *s = nf_object_shape(nf_net_object(net));
    nf_object *const part[] = {nf_net_object(net)};
    if (!nfi_parts_given("nf_monotone_net", 1, part, (const char *const[]){"net"}))
        return NULL;
    own q = {.options = {.nodes = 0}};
    const bool settled = nf_options_settle(&table, options, &q.options) == NF_OK;
    if (settled && (s->dim_in != 1 || s->dim_out != 1 || s->n_ctx > SIZE_MAX / (dim + 1) - 1))
        nf_error(NF_EDIM, "nf_monotone_net: the net takes %zu features, gives %zu, not 1", s->dim_in, s->dim_out);
    else if (settled && s->flags & NF_STOCHASTIC)
        nf_error(NF_EUNSUPPORTED, "nf_monotone_net: the net draws noise");
    else if (settled) {
        const nf_shape own = {
            .dim_in = dim, .n_ctx = s->n_ctx ? dim * (1 + s->n_ctx) : 0, .n_saved = q.options.nodes * s->n_saved};
        nfi_gauss_legendre(q.options.nodes, q.node, q.weight);
        return nf_formula_flow(&nfi_monotone_net_type, &formula, &own, &q, sizeof q, part, 1);
    }
    nf_net_free(net);
    return NULL;
}
