/* Residual flows y = x + g(x; context) of a contraction g (Behrmann et al. 2019; Chen et al. 2019): the passes.

   With J = dg/dx, log det(I + J) is exact, from the factors of I + J, or the estimate (Chen et al. 2019, eq. 6)

       sum_k c_k / k <v, J^k v>,   c_k = (-1)^(k+1) / P(N >= k) for k <= N, else 0,

   the mean over probes v of independent signs. N is a number of terms, or random: `terms` more a geometric number.
   Since tr(M dJ) has the estimate <v, dJ M v>, the gradient of the log-det, tr((I + J)^-1 dJ), has the estimate (eq. 8)

       <v, dJ w>,   w = sum_k c_k J^(k-1) v constant.

   So both need the same tangents J^k v, the way back one product whatever N is, and the memory does not grow with N.
   The gradient is the truncated sum's in the mean over v, and not probe by probe. */
#include "flows/residual/contraction.h"
#include "base/memory.h"
#include "object/parts.h"
#include <math.h>
#include <string.h>

static const nfi_contraction *self_of(const nf_object *o)
{
    return nf_self(o);
}

static bool is_exact(const nf_object *o)
{
    return self_of(o)->options.log_det == NF_LOG_DET_EXACT;
}

/* The net's pass, with its records on `memory`. */
static nf_pass net_pass(const nf_object *o, const nf_pass *p, nf_arena *memory)
{
    nf_pass q = nf_child_pass(o, 0, p);
    q.tape = memory;
    return q;
}

nf_status nfi_contraction_net(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q)
{
    const nf_pass inner = net_pass(o, p, nfi_saving_arena(p));
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
    const nf_pass inner = net_pass(o, p, p->tape);
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

/* ---- estimates ---- */

/* The terms of the series: P(N >= k), in 0 beyond the last one. */
static double share_of_term(const nf_residual_flow_options *q, size_t k)
{
    if (k <= q->terms)
        return 1;
    return q->log_det == NF_LOG_DET_ROULETTE ? pow(q->survival, (double)(k - q->terms)) : 0;
}

/* Independent signs v [dim x probes x ld], and a uniform number u [ld] for each sample. */
static nf_status draw(const nf_object *o, const nf_pass *p, nf_real *v, nf_real **u)
{
    const size_t rows = nf_object_shape(o)->dim_in * self_of(o)->directions, ld = p->ld;
    nf_real *numbers = nf_arena_reals(p->scratch, rows + 1, ld);
    if (!numbers)
        return NF_ENOMEM;
    nf_noise_uniform(&p->noise, rows + 1, p->n, ld, numbers);
    for (size_t i = 0; i < rows * ld; i++)
        v[i] = numbers[i] < NF_R(0.5) ? -1 : 1;
    *u = numbers + rows * ld;
    return NF_OK;
}

/* log_det += the estimate; q->v and q->w for its gradient. */
static nf_status estimate(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_det,
                          nfi_contraction_saved *q)
{
    const nfi_contraction *self = self_of(o);
    const size_t probes = self->directions, rows = nf_object_shape(o)->dim_in, wide = probes * p->ld;
    q->v = nf_arena_reals(nfi_saving_arena(p), rows, wide);
    q->w = nf_arena_reals(nfi_saving_arena(p), rows, wide);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *power[2] = {nf_arena_reals(p->scratch, rows, wide), nf_arena_reals(p->scratch, rows, wide)}, *u = NULL;
    nf_real *c = nf_arena_reals(p->scratch, probes, p->ld);
    double *sum = nfi_zero_doubles(p->scratch, wide);
    nf_status status = q->v && q->w && power[0] && power[1] && c && sum ? draw(o, p, q->v, &u) : NF_ENOMEM;
    if (status == NF_OK) {
        memcpy(power[0], q->v, rows * wide * sizeof *q->v);
        memset(q->w, 0, rows * wide * sizeof *q->w);
    }
    nf_pass inner = net_pass(o, p, NULL);
    for (size_t k = 1; status == NF_OK; k++) {
        const double share = share_of_term(&self->options, k);
        if (nfi_contraction_coefficients(p->ld, k % 2 ? 1 : -1, share, u, c) == 0)
            break;
        for (size_t j = 1; j < probes; j++)
            memcpy(c + j * p->ld, c, p->ld * sizeof *c);
        nf_real *from = power[(k - 1) % 2], *to = power[k % 2];
        nfi_contraction_add(rows, wide, c, from, q->w);
        status = nf_net_tangent(nf_child(o, 0), &inner, x, q->g, q->net, probes, from, to, NULL);
        nfi_contraction_term(rows, wide, 1 / ((double)k * (double)probes), c, q->v, to, sum);
    }
    for (size_t i = 0; status == NF_OK && i < wide; i++)
        log_det[i % p->ld] += sum[i];
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* The cotangents g_log_det v / probes of J w, and the tangent at w. */
static nf_status estimate_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q,
                              const nf_real *g_log_det, nf_real *gdy, nf_real **dy, void **tangent)
{
    const size_t probes = self_of(o)->directions, rows = nf_object_shape(o)->dim_in, ld = p->ld;
    for (size_t i = 0; i < rows * probes; i++)
        nfi_contraction_scale(1, ld, 1 / (nf_real)probes, g_log_det, q->v + i * ld, gdy + i * ld);
    *dy = nf_arena_reals(p->scratch, rows, probes * ld);
    const nf_pass inner = net_pass(o, p, p->scratch);
    return *dy ? nf_net_tangent(nf_child(o, 0), &inner, x, q->g, q->net, probes, q->w, *dy, tangent) : NF_ENOMEM;
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
    return is_exact(o) ? nfi_contraction_factors(o, p, x, log_det, q) : estimate(o, p, x, log_det, q);
}

static nf_status inverse(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, double *log_det)
{
    nfi_contraction_saved at = {.g = NULL};
    double *sum = nfi_zero_doubles(p->scratch, p->ld);
    nf_status status = sum ? nfi_contraction_invert(o, p, x, y) : NF_ENOMEM;
    if (status == NF_OK)
        status = forward(o, p, y, NULL, sum, &at);
    for (size_t s = 0; status == NF_OK && s < p->ld; s++)
        log_det[s] -= sum[s];
    return status;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_status status;
    if (d == NF_FORWARD) {
        nfi_contraction_saved none = {.g = NULL}, *q = &none;
        if (p->tape && !(q = nf_arena_alloc(p->tape, sizeof *q)))
            return NF_ENOMEM;
        *q = none;
        status = forward(o, p, x, y, log_det, q);
        if (p->tape)
            *saved = q;
    } else {
        status = inverse(o, p, x, y, log_det);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)y;
    nfi_contraction_saved *q = saved;
    const nfi_contraction *self = self_of(o);
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld, k = self->directions;
    const nf_object *net = nf_child(o, 0);
    const nf_pass inner = net_pass(o, p, p->tape);
    const nf_grad g_net = nf_child_grad(o, 0, p, g);
    const nf_mark mark = nf_arena_mark(p->scratch);
    bool moves = false;
    for (size_t s = 0; s < ld && !moves; s++)
        moves = !(g_log_det[s] == 0);
    nf_status status;
    if (!moves && is_exact(o) && !(g->theta || g->prep || g->ctx || g->stats)) {
        nfi_contraction_transposed(dim, ld, q->jacobian, gy, gx);
        return NF_OK;
    }
    if (!moves) {
        status = nf_net_vjp(net, &inner, x, q->g, q->net, gy, gx, &g_net);
    } else {
        nf_real *gdy = nf_arena_reals(p->scratch, dim, k * ld), *dx = q->w, *dy = q->jacobian;
        void *tangent = q->tangent;
        status = gdy ? NF_OK : NF_ENOMEM;
        if (status == NF_OK && is_exact(o)) { /* the cotangent of J is g_log_det (I + J)^-T */
            dx = unit_directions(dim, ld, p->scratch);
            status = dx ? NF_OK : NF_ENOMEM;
            for (size_t r = 0; r < dim && dx; r++) {
                nfi_contraction_unit(dim, ld, r, g_log_det, gdy + r * dim * ld);
                nfi_contraction_lu_solve(dim, ld, q->factors, false, gdy + r * dim * ld);
            }
        } else if (status == NF_OK) {
            status = estimate_vjp(o, p, x, q, g_log_det, gdy, &dy, &tangent);
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
    if (!is_exact(o))
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
};
static const nf_residual_flow_options defaults = {
    .terms = 8, .survival = 0.5, .probes = 1, .tolerance = 1e-10, .max_steps = 500};
static const nf_option_table table =
    NF_OPTION_TABLE("nf_residual_flow", nf_residual_flow_options, options_of_type, &defaults);

static nf_flow *rebuild(nf_reader *r)
{
    const nf_residual_flow_options *q = nf_options_read(r, &table);
    nf_object *net = q ? nf_read_child(r, 0) : NULL;
    if (q && !nfi_as_net(net)) {
        nf_error(NF_EFORMAT, "part 0 of a residual flow is %s where a net is needed", net ? "no net" : "missing");
        nf_object_free(net);
        return NULL;
    }
    return q ? nf_residual_flow((nf_net *)net, q) : NULL;
}

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
    if (q->log_det == NF_LOG_DET_EXACT && s->dim_in > NF_LOG_DET_MOST)
        return nf_error(NF_EARG, "nf_residual_flow: `log_det` is NF_LOG_DET_EXACT with %zu features, more than %d",
                        s->dim_in, NF_LOG_DET_MOST);
    return NF_OK;
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
    const bool exact = settled.log_det == NF_LOG_DET_EXACT;
    *q = (nfi_contraction){.options = settled, .directions = exact ? s->dim_in : settled.probes};
    const nf_shape own = {.dim_in = s->dim_in,
                          .dim_out = s->dim_out,
                          .n_ctx = s->n_ctx,
                          .n_saved = s->dim_in * (1 + 2 * q->directions) + (exact ? s->dim_in * s->n_saved : 0),
                          .flags = NF_IMPLICIT_INVERSE | (exact ? 0 : NF_STOCHASTIC)};
    return nf_flow_new(&nfi_residual_type, &own, q, &child, 1);
}
