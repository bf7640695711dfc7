/* Residual flows y = x + g(x; context) of a contraction g (Behrmann et al. 2019; Chen et al. 2019): the passes.

   log det(I + J), J = dg/dx, is exact, from the factors of I + J, or an estimate (contraction_estimate.c). Which of the
   two, and with how many terms, may be another matter in training than outside (nfi_log_det_method). */
#include "flows/residual/contraction.h"
#include "base/memory.h"
#include "object/options.h"
#include "object/parts.h"
#include <math.h>
#include <string.h>

nf_status nfi_contraction_net(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q)
{
    const nf_pass inner = nfi_contraction_pass(o, p, nfi_saving_arena(p));
    q->g = nf_arena_reals(nfi_saving_arena(p), nf_object_shape(o)->dim_in, p->ld);
    return q->g ? nf_net_apply(nf_child(o, 0), &inner, x, q->g, &q->net) : NF_ENOMEM;
}

/* All unit directions [dim x dim ld], from scratch. */
static nf_real *unit_directions(size_t dim, size_t ld, nf_arena *scratch)
{
    nf_real *e = nf_arena_reals(scratch, dim * dim, ld);
    for (size_t r = 0; e && r < dim; r++)
        nfi_contraction_unit(dim, ld, r, NULL, e + r * dim * ld);
    return e;
}

nf_status nfi_contraction_factors(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_det,
                                  nfi_contraction_saved *q)
{
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld;
    nf_arena *memory = nfi_saving_arena(p);
    const nf_pass inner = nfi_contraction_pass(o, p, p->tape);
    q->jacobian = nf_arena_reals(memory, dim * dim, ld);
    q->factors = nf_arena_reals(memory, dim * dim, ld);
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_real *e = unit_directions(dim, ld, p->scratch);
    if (!q->jacobian || !q->factors || !e)
        return NF_ENOMEM;
    const nf_status status = nf_net_tangent(nf_child(o, 0), &inner, x, q->g, q->net, dim, e, q->jacobian, &q->tangent);
    if (status == NF_OK)
        nfi_contraction_lu(dim, ld, q->jacobian, q->factors, log_det);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* ---- hooks ---- */

/* y = x + g(x) (NULL: not wanted), and the log-det. What a gradient needs is kept in q. */
static nf_status forward(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, double *log_det,
                         nfi_contraction_saved *q)
{
    const size_t size = nf_object_shape(o)->dim_in * p->ld;
    nf_status status = nfi_contraction_net(o, p, x, q);
    if (status == NF_OK && y)
        for (size_t i = 0; i < size; i++)
            y[i] = x[i] + q->g[i];
    if (status != NF_OK)
        return status;
    if (nfi_contraction_method(o, p)->log_det == NF_LOG_DET_EXACT)
        return nfi_contraction_factors(o, p, x, log_det, q);
    return nfi_contraction_estimate(o, p, x, log_det, q);
}

/* x solves x + g(x) = y. With a tape q is what `forward` keeps at x. Without one, Newton's last step has the log-det.
 */
static nf_status inverse(const nf_object *o, const nf_pass *p, const nf_real *y, nf_real *x, double *log_det,
                         nfi_contraction_saved *q)
{
    nf_pass solving = *p;
    solving.tape = NULL;
    double *sum = nfi_zero_doubles(p->scratch, p->ld);
    nf_status status = sum ? nfi_contraction_invert(o, &solving, y, x, sum) : NF_ENOMEM;
    const bool found = nfi_contraction_of(o)->newton && nfi_contraction_method(o, p)->log_det == NF_LOG_DET_EXACT;
    if (status == NF_OK && (p->tape || !found)) {
        memset(sum, 0, p->ld * sizeof *sum);
        status = forward(o, p, x, NULL, sum, q);
    }
    for (size_t s = 0; status == NF_OK && s < p->ld; s++)
        log_det[s] -= sum[s];
    return status;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    nfi_contraction_saved none = {.g = NULL}, *q = &none;
    if (p->tape && !(q = nf_arena_alloc(p->tape, sizeof *q)))
        return NF_ENOMEM;
    *q = none;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_status status = d == NF_FORWARD ? forward(o, p, x, y, log_det, q) : inverse(o, p, x, y, log_det, q);
    if (p->tape)
        *saved = q;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)y;
    nfi_contraction_saved *q = saved;
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld, k = nfi_contraction_method(o, p)->directions;
    const bool exact = q->factors;
    const nf_object *net = nf_child(o, 0);
    const nf_pass inner = nfi_contraction_pass(o, p, p->tape);
    const nf_grad g_net = nf_child_grad(o, 0, p, g);
    const nf_mark mark = nf_arena_mark(p->scratch);
    bool moves = false;
    for (size_t s = 0; s < ld && !moves; s++)
        moves = !(g_log_det[s] == 0);
    nf_status status;
    if (!moves && exact && !(g->theta || g->prep || g->ctx || g->stats)) {
        nfi_contraction_transposed(dim, ld, q->jacobian, gy, gx);
        return NF_OK;
    }
    if (!moves) {
        status = nf_net_vjp(net, &inner, x, q->g, q->net, gy, gx, &g_net);
    } else {
        nf_real *gdy = nf_arena_reals(p->scratch, dim, k * ld), *dx = q->w, *dy = q->jacobian;
        void *tangent = q->tangent;
        status = gdy ? NF_OK : NF_ENOMEM;
        if (status == NF_OK && exact) { /* the cotangent of J is g_log_det (I + J)^-T */
            dx = unit_directions(dim, ld, p->scratch);
            status = dx ? NF_OK : NF_ENOMEM;
            for (size_t r = 0; r < dim && dx; r++) {
                nfi_contraction_unit(dim, ld, r, g_log_det, gdy + r * dim * ld);
                nfi_contraction_lu_solve(dim, ld, q->factors, false, gdy + r * dim * ld);
            }
        } else if (status == NF_OK) {
            status = nfi_contraction_estimate_vjp(o, p, x, q, g_log_det, gdy, &dy, &tangent);
        }
        if (status == NF_OK)
            status = nf_net_tangent_vjp(net, &inner, x, q->g, q->net, k, dx, dy, tangent, gy, gdy, gx, NULL, &g_net);
    }
    for (size_t i = 0; status == NF_OK && i < dim * ld; i++)
        gx[i] += gy[i];
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)y;
    nfi_contraction_saved *q = saved;
    const size_t dim = nf_object_shape(o)->dim_in;
    if (!q->factors)
        return nfi_contraction_solve_jt(o, p, x, q, gx, gy);
    memcpy(gy, gx, dim * p->ld * sizeof *gy);
    nfi_contraction_lu_solve(dim, p->ld, q->factors, true, gy);
    return NF_OK;
}

/* ---- structure ---- */

static const char *const log_dets[] = {
    [NF_LOG_DET_EXACT] = "exact", [NF_LOG_DET_SERIES] = "series", [NF_LOG_DET_ROULETTE] = "roulette"};
static const nf_choices log_det_choices = {.what = "log-det", .n = 4, .names = log_dets};
static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_CHOICE, nf_residual_flow_options, log_det), .choices = &log_det_choices,
     .flags = NF_OPTION_DEPENDS, .help = "how log-dets are computed"},
    {NF_OPTION(NF_OPTION_SIZE, nf_residual_flow_options, terms), .least = 1, .most = 10000,
     .help = "terms of the series that are always there"},
    {NF_OPTION(NF_OPTION_REAL, nf_residual_flow_options, survival), .most = 1,
     .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW, .help = "probability that a random series goes on after a term"},
    {NF_OPTION(NF_OPTION_SIZE, nf_residual_flow_options, probes), .least = 1, .most = 10000,
     .help = "random vectors of an estimate"},
    {NF_OPTION(NF_OPTION_REAL, nf_residual_flow_options, tolerance), .most = 1,
     .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW, .help = "of the inverse"},
    {NF_OPTION(NF_OPTION_SIZE, nf_residual_flow_options, max_steps), .least = 1, .most = 1000000,
     .help = "most steps of the inverse"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_residual_flow_options, score_log_det), .choices = &log_det_choices,
     .flags = NF_OPTION_DEPENDS | NF_OPTION_ADDED, .help = "how log-dets are computed outside training"},
    {NF_OPTION(NF_OPTION_SIZE, nf_residual_flow_options, score_terms), .least = 1, .most = 10000,
     .flags = NF_OPTION_ADDED, .help = "as `terms`, outside training"},
};
static const nf_residual_flow_options defaults = {
    .terms = 8, .survival = 0.5, .probes = 1, .tolerance = 1e-10, .max_steps = 500, .score_terms = 20};
static const nf_option_table table =
    NF_OPTION_TABLE("nf_residual_flow", nf_residual_flow_options, options_of_type, &defaults);

NFI_REBUILD(flow, nf_residual_flow_options, nf_residual_flow(nfi_read_net(r, 0, "a residual flow"), q))

const nf_flow_type nfi_residual_type = {
    .abi = sizeof(nf_flow_type),
    .part = {.name = "residual", .destroy = nfi_free},
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

static nf_status settle(const nf_object *net, const nf_residual_flow_options *options, nf_residual_flow_options *q)
{
    const nf_shape *s = nf_object_shape(net);
    const nf_net_type *type = net->type;
    if (s->dim_in != s->dim_out || s->dim_in == 0)
        return nf_error(NF_EDIM, "nf_residual_flow: `net` has %zu features in and %zu out, which must be as many",
                        s->dim_in, s->dim_out);
    if (!type->tangent || !type->tangent_vjp)
        return nf_error(NF_EUNSUPPORTED, "nf_residual_flow: nets of type `%s` have no tangent map", net->part->name);
    if (nf_options_settle(&table, options, q) != NF_OK)
        return nf_error_status();
    if (q->log_det == NF_LOG_DET_DEFAULT)
        q->log_det = s->dim_in <= NF_LOG_DET_EASY ? NF_LOG_DET_EXACT : NF_LOG_DET_ROULETTE;
    const bool of_training = q->log_det == NF_LOG_DET_EXACT;
    if ((of_training || q->score_log_det == NF_LOG_DET_EXACT) && s->dim_in > NF_LOG_DET_MOST)
        return nf_error(NF_EARG, "nf_residual_flow: `%s` is NF_LOG_DET_EXACT with %zu features, more than %d",
                        of_training ? "log_det" : "score_log_det", s->dim_in, NF_LOG_DET_MOST);
    return NF_OK;
}

static nfi_log_det_method method_of(size_t dim, nf_log_det log_det, size_t terms, size_t probes)
{
    if (log_det == NF_LOG_DET_DEFAULT)
        log_det = dim <= NF_LOG_DET_MOST ? NF_LOG_DET_EXACT : NF_LOG_DET_ROULETTE;
    return (nfi_log_det_method){
        .log_det = log_det, .terms = terms, .directions = log_det == NF_LOG_DET_EXACT ? dim : probes};
}

nf_flow *nf_residual_flow(nf_net *net, const nf_residual_flow_options *options)
{
    nf_object *child = nf_net_object(net);
    if (!nfi_parts_given("nf_residual_flow", 1, &child, (const char *const[]){"net"}))
        return NULL;
    nf_residual_flow_options settled;
    nfi_contraction *q = NULL;
    if (settle(child, options, &settled) == NF_OK)
        q = nfi_calloc(1, sizeof *q);
    if (!q) {
        nf_net_free(net);
        return NULL;
    }
    const nf_shape *s = nf_object_shape(child);
    const size_t dim = s->dim_in;
    *q = (nfi_contraction){.options = settled, .newton = settled.log_det == NF_LOG_DET_EXACT};
    nfi_log_det_method *training = &q->method[NF_TRAIN], *scores = &q->method[NF_EVAL];
    *training = method_of(dim, settled.log_det, settled.terms, settled.probes);
    *scores = method_of(dim, settled.score_log_det, settled.score_terms, settled.probes);
    const size_t of_tangent = training->log_det == NF_LOG_DET_EXACT ? dim * s->n_saved : 0;
    const nf_shape own = {.dim_in = dim,
                          .dim_out = s->dim_out,
                          .n_ctx = s->n_ctx,
                          .n_saved = dim * (1 + 2 * training->directions) + of_tangent,
                          .flags = NF_IMPLICIT_INVERSE | NFI_SAVES_EXPLICIT |
                                   (scores->log_det == NF_LOG_DET_EXACT ? 0 : NF_STOCHASTIC)};
    return nf_flow_new(&nfi_residual_type, &own, q, &child, 1);
}
