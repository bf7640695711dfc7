/* Autoregressive flows: in some order of the dimensions, the parameters of each one's transform depend on those before,

       v_t = T(u_t; theta_t),   theta_t = net_t(u_0 .. u_(t-1), context),   log|det dv/du| = sum_t log|dT/du_t|.

   u -> v is one pass of the masked net: the parallel direction. v -> u goes step by step, u_t = T^-1(v_t; theta_t), but
   every hidden unit is computed once, when its last input is known (nn/masked.h), so that it costs one pass too. IAF
   (Kingma et al. 2016) is parallel forward, MAF (Papamakarios et al. 2017) is parallel inverse: u is the base side or
   the target side.

   Backward, parallel: the transforms, then the net. Backward, step by step, from the last t to the first: the gradient
   in u_t is complete when all later parameters' gradients have gone through the net,

       gu_t += sum over t' > t of (d theta_t'/d u_t)^T g_theta_t',   then gv_t and g_theta_t from T^-1's product.

   J = dv/du is triangular, so J^-T c is the same sweep: v_t = T_t'^-1 (c_t - sum over t' > t of (d theta_t'/d u_t)^T
   (dT/dtheta)^T v_t'). For the other direction J^T w: with e = T' w from T^-1's solve_jt, (dT/dtheta)^T w is minus
   T^-1's product (dT^-1/dtheta)^T e. */
#include "core/memory.h"
#include "flows/conditioned.h"
#include "flows/types.h"
#include "nn/masked.h"
#include <string.h>

typedef struct autoregressive {
    size_t dim, per_dim;
    nf_direction parallel;
    bool natural;   /* row t is the t-th dimension */
    size_t order[]; /* [dim]: the row of the t-th dimension */
} autoregressive;

typedef struct record {
    nfi_masked_run run;
    nf_real *theta;    /* [dim P x ld] */
    void *transform[]; /* [dim]: what the transforms saved */
} record;

static const nf_object *net_of(const nf_object *o)
{
    return o->children[NFI_CONDITIONER];
}

/* ---- one dimension ---- */

/* The t-th row of a tile. */
static const nf_real *row_of(const autoregressive *a, size_t t, size_t ld, const nf_real *tile)
{
    return tile + a->order[t] * ld;
}
static nf_real *row_to(const autoregressive *a, size_t t, size_t ld, nf_real *tile)
{
    return tile + a->order[t] * ld;
}

static nf_status transform_apply(const nf_object *o, nf_direction d, const nf_pass *p, record *r, size_t t,
                                 const nf_real *x, nf_real *y, double *log_det)
{
    const autoregressive *a = o->self;
    const nf_pass c = nfi_transform_pass(o, p, r->theta + t * a->per_dim * p->ld);
    return nf_flow_apply(o->children[NFI_TRANSFORM], d, &c, row_of(a, t, p->ld, x), row_to(a, t, p->ld, y), log_det,
                         &r->transform[t]);
}

/* gx [ld]; g_theta [dim P x ld] is added to at t's rows. */
static nf_status transform_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const record *r, size_t t,
                               const nf_real *x, const nf_real *y, const nf_real *gy, const nf_real *g_log_det,
                               nf_real *gx, nf_real *g_theta)
{
    const autoregressive *a = o->self;
    const size_t at = t * a->per_dim * p->ld;
    const nf_pass c = nfi_transform_pass(o, p, r->theta + at);
    return nf_flow_vjp(o->children[NFI_TRANSFORM], d, &c, row_of(a, t, p->ld, x), row_of(a, t, p->ld, y),
                       r->transform[t], gy, g_log_det, gx, &(nf_grad){.theta = g_theta + at});
}

static nf_status transform_solve(const nf_object *o, nf_direction d, const nf_pass *p, const record *r, size_t t,
                                 const nf_real *x, const nf_real *y, const nf_real *gx, nf_real *gy)
{
    const autoregressive *a = o->self;
    const nf_pass c = nfi_transform_pass(o, p, r->theta + t * a->per_dim * p->ld);
    return nf_flow_solve_jt(o->children[NFI_TRANSFORM], d, &c, row_of(a, t, p->ld, x), row_of(a, t, p->ld, y),
                            r->transform[t], gx, gy);
}

/* The rows of a tile in order: itself, or a copy in scratch. NULL when out of memory. */
static const nf_real *in_order(const autoregressive *a, const nf_pass *p, const nf_real *tile)
{
    if (a->natural)
        return tile;
    nf_real *u = nf_arena_reals(p->scratch, a->dim, p->ld);
    for (size_t t = 0; u && t < a->dim; t++)
        memcpy(u + t * p->ld, row_of(a, t, p->ld, tile), p->ld * sizeof *u);
    return u;
}

/* ---- apply ---- */

static nf_status apply_parallel(const nf_object *o, nf_direction d, const nf_pass *p, record *r, const nf_real *x,
                                nf_real *y, double *log_det)
{
    const autoregressive *a = o->self;
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    const nf_real *u = in_order(a, p, x);
    nf_status status = u ? NF_OK : NF_ENOMEM;
    if (u)
        nfi_masked_times(net_of(o), &net, &r->run, 0, a->dim, u, r->theta);
    for (size_t t = 0; t < a->dim && status == NF_OK; t++)
        status = transform_apply(o, d, p, r, t, x, y, log_det);
    return status;
}

static nf_status apply_stepwise(const nf_object *o, nf_direction d, const nf_pass *p, record *r, const nf_real *x,
                                nf_real *y, double *log_det)
{
    const autoregressive *a = o->self;
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    nf_real *u = a->natural ? y : nf_arena_reals(p->scratch, a->dim, p->ld);
    nf_status status = u ? NF_OK : NF_ENOMEM;
    for (size_t t = 0; t < a->dim && status == NF_OK; t++) {
        nfi_masked_times(net_of(o), &net, &r->run, t, t + 1, u, r->theta);
        status = transform_apply(o, d, p, r, t, x, y, log_det);
        if (!a->natural)
            memcpy(u + t * p->ld, row_of(a, t, p->ld, y), p->ld * sizeof *u);
    }
    return status;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const autoregressive *a = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_arena *memory = p->tape ? p->tape : p->scratch;
    record *r = nf_arena_alloc(memory, sizeof *r + a->dim * sizeof *r->transform);
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    if (!r || nfi_masked_begin(net_of(o), &net, memory, &r->run) != NF_OK ||
        !(r->theta = nf_arena_reals(memory, a->dim * a->per_dim, p->ld)))
        return NF_ENOMEM;
    for (size_t t = 0; t < a->dim; t++)
        r->transform[t] = NULL;
    nf_status status = (d == a->parallel ? apply_parallel : apply_stepwise)(o, d, p, r, x, y, log_det);
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = r;
    return status;
}

/* ---- gradients ---- */

/* What goes back through the net; all in scratch. */
typedef struct back {
    const nf_real *u; /* [dim x ld] the net's input */
    nf_real *g_theta; /* [dim P x ld] */
    nf_real *g;       /* [nfi_masked_gradients x ld] */
    nf_real *gu;      /* [dim x ld] in order */
    nf_real *row;     /* [ld] */
} back;

static bool begin_back(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                       back *b)
{
    const autoregressive *a = o->self;
    const size_t units = nfi_masked_gradients(net_of(o));
    b->u = in_order(a, p, d == a->parallel ? x : y);
    b->g_theta = nfi_zeros(p->scratch, a->dim * a->per_dim, p->ld);
    b->g = nf_arena_reals(p->scratch, units, p->ld);
    b->gu = nfi_zeros(p->scratch, a->dim, p->ld);
    b->row = nf_arena_reals(p->scratch, 1, p->ld);
    return b->u && b->g_theta && b->g && b->gu && b->row;
}

/* Times first <= t < last through the net, g_theta being there. */
static void net_back(const nf_object *o, const nf_pass *p, const record *r, const back *b, size_t first, size_t last)
{
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    nfi_masked_back(net_of(o), &net, &r->run, first, last, b->g_theta, b->g);
}

static void net_back_input(const nf_object *o, const nf_pass *p, const back *b, size_t first, size_t last)
{
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    const nfi_masked *m = net_of(o)->self;
    nfi_masked_back_input(net_of(o), &net, first, last, m->n_layers > 1 ? b->g : b->g_theta, b->gu);
}

/* to's rows += sign gu */
static void add_in_order(const autoregressive *a, size_t ld, nf_real sign, const nf_real *gu, nf_real *to)
{
    for (size_t t = 0; t < a->dim; t++)
        for (size_t s = 0; s < ld; s++)
            row_to(a, t, ld, to)[s] += sign * gu[t * ld + s];
}

static nf_status vjp_parallel(const nf_object *o, nf_direction d, const nf_pass *p, const record *r, const back *b,
                              const nf_real *x, const nf_real *y, const nf_real *gy, const nf_real *g_log_det,
                              nf_real *gx)
{
    const autoregressive *a = o->self;
    const size_t ld = p->ld;
    nf_status status = NF_OK;
    for (size_t t = 0; t < a->dim && status == NF_OK; t++)
        status = transform_vjp(o, d, p, r, t, x, y, row_of(a, t, ld, gy), g_log_det, row_to(a, t, ld, gx), b->g_theta);
    if (status != NF_OK)
        return status;
    net_back(o, p, r, b, 0, a->dim);
    net_back_input(o, p, b, 0, a->dim);
    add_in_order(a, ld, 1, b->gu, gx);
    return NF_OK;
}

static nf_status vjp_stepwise(const nf_object *o, nf_direction d, const nf_pass *p, const record *r, const back *b,
                              const nf_real *x, const nf_real *y, const nf_real *gy, const nf_real *g_log_det,
                              nf_real *gx)
{
    const autoregressive *a = o->self;
    const size_t ld = p->ld;
    nf_status status = NF_OK;
    for (size_t t = a->dim; t-- > 0 && status == NF_OK;) {
        net_back_input(o, p, b, t, t + 1);
        for (size_t s = 0; s < ld; s++)
            b->row[s] = row_of(a, t, ld, gy)[s] + b->gu[t * ld + s];
        status = transform_vjp(o, d, p, r, t, x, y, b->row, g_log_det, row_to(a, t, ld, gx), b->g_theta);
        net_back(o, p, r, b, t, t + 1);
    }
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const autoregressive *a = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const record *r = saved;
    back b;
    if (!begin_back(o, d, p, x, y, &b))
        return NF_ENOMEM;
    nf_status status = (d == a->parallel ? vjp_parallel : vjp_stepwise)(o, d, p, r, &b, x, y, gy, g_log_det, gx);
    if (status == NF_OK && (g->theta || g->ctx)) {
        const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
        const nf_grad g_net = nf_child_grad(o, NFI_CONDITIONER, p, g);
        status = nfi_masked_back_numbers(net_of(o), &net, &r->run, b.u, b.g_theta, b.g, &g_net);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const autoregressive *a = o->self;
    const size_t ld = p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const bool sweep = d == a->parallel;
    back b;
    nf_real *unused = nf_arena_reals(p->scratch, 1, ld);
    const nf_real *no_log_det = nfi_zeros(p->scratch, 1, ld);
    if (!unused || !no_log_det || !begin_back(o, d, p, x, y, &b))
        return NF_ENOMEM;
    nf_status status = NF_OK;
    for (size_t t = a->dim; t-- > 0 && status == NF_OK;) {
        nf_real *v = row_to(a, t, ld, gy);
        if (sweep)
            net_back_input(o, p, &b, t, t + 1);
        for (size_t s = 0; s < ld; s++)
            b.row[s] = row_of(a, t, ld, gx)[s] - b.gu[t * ld + s];
        status = transform_solve(o, d, p, saved, t, x, y, b.row, v);
        if (status == NF_OK)
            status = transform_vjp(o, d, p, saved, t, x, y, v, no_log_det, unused, b.g_theta);
        if (sweep)
            net_back(o, p, saved, &b, t, t + 1);
    }
    if (!sweep && status == NF_OK) {
        net_back(o, p, saved, &b, 0, a->dim);
        net_back_input(o, p, &b, 0, a->dim);
        add_in_order(a, ld, -1, b.gu, gy);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* ---- structure ---- */

/* Each dimension's transform starts at its own initial parameters. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch;
    const autoregressive *a = o->self;
    nf_status status = nf_init_child(o, NFI_CONDITIONER, noise, NULL, theta, state);
    nf_real *start = nfi_calloc(a->dim * a->per_dim, sizeof *start);
    if (!start)
        return NF_ENOMEM;
    if (status == NF_OK)
        status = nfi_transform_start(o, noise, start);
    for (size_t i = a->per_dim; i < a->dim * a->per_dim; i++)
        start[i] = start[i - a->per_dim];
    if (status == NF_OK)
        status = nfi_shift_child(o, NFI_CONDITIONER, start, theta);
    nfi_free(start);
    return status;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const autoregressive *a = o->self;
    nf_status status = nf_write_integers(w, "order", a->dim, a->order);
    return status == NF_OK ? nf_write_integer(w, "parallel", a->parallel) : status;
}

static nf_flow *rebuild(nf_reader *r)
{
    const size_t dim = nf_read_length(r, "order");
    size_t *order = nfi_calloc(dim, sizeof *order);
    uint64_t parallel = 0;
    nf_flow *f = NULL;
    if (order && nf_read_integers(r, "order", dim, order) == NF_OK &&
        nf_read_integer(r, "parallel", &parallel) == NF_OK) {
        nf_flow *transform = nfi_read_flow(r, NFI_TRANSFORM);
        nf_net *net = nfi_read_net(r, NFI_CONDITIONER, "an autoregressive flow");
        if (net && nf_object_shape(nf_net_object(net))->dim_in != dim) {
            nf_error(NF_EFORMAT, "nf_load: an order of %zu dimensions, but a net of %zu", dim,
                     nf_object_shape(nf_net_object(net))->dim_in);
            nf_net_free(net);
            net = NULL;
        }
        f = nf_autoregressive(transform, net, order, parallel ? NF_INVERSE : NF_FORWARD);
    }
    nfi_free(order);
    return f;
}

const nf_flow_type nfi_autoregressive_type = {
    .part = {.name = "autoregressive", .init = init, .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

static nf_status check(const nf_shape *t, const nf_object *net, nf_direction parallel)
{
    if (nfi_check_transform(t, "nf_autoregressive") != NF_OK)
        return nf_error_status();
    if (t->dim_in != 1 || t->dim_out != 1)
        return nf_error(NF_EDIM, "nf_autoregressive: the transform has %zu dimensions, but must have 1", t->dim_in);
    if (!nfi_is_masked(net))
        return nf_error(NF_EARG, "nf_autoregressive: the net is a %s, but must be a masked net", nf_object_name(net));
    if (net->total.dim_out != net->total.dim_in * t->n_params)
        return nf_error(NF_EDIM,
                        "nf_autoregressive: the net gives %zu rows for %zu dimensions, but the transform has %zu "
                        "parameters",
                        net->total.dim_out, net->total.dim_in, t->n_params);
    if (parallel != NF_FORWARD && parallel != NF_INVERSE)
        return nf_error(NF_EARG, "nf_autoregressive: `parallel` is %d", (int)parallel);
    return NF_OK;
}

/* order [dim], NULL: ascending. */
static autoregressive *new_autoregressive(size_t dim, size_t per_dim, const size_t *order, nf_direction parallel)
{
    autoregressive *a = nfi_calloc(1, sizeof *a + dim * sizeof *a->order); /* dim: rows of a net that exists */
    unsigned char *seen = nfi_calloc(dim, 1);
    bool valid = true;
    for (size_t t = 0; a && seen && t < dim; t++) {
        a->order[t] = order ? order[t] : t;
        valid = valid && a->order[t] < dim && !seen[a->order[t]]++;
        a->natural = valid && (t ? a->natural : true) && a->order[t] == t;
    }
    if (a && seen && valid) {
        a->dim = dim;
        a->per_dim = per_dim;
        a->parallel = parallel;
        nfi_free(seen);
        return a;
    }
    if (a && seen)
        nf_error(NF_EARG, "nf_autoregressive: `order` is not a permutation of 0 .. %zu", dim - 1);
    nfi_free(seen);
    nfi_free(a);
    return NULL;
}

nf_flow *nf_autoregressive(nf_flow *transform, nf_net *net, const size_t *order, nf_direction parallel)
{
    const nf_shape *t = nf_flow_shape(transform), *n = nf_object_shape(nf_net_object(net));
    autoregressive *a = NULL;
    if (transform && net && check(t, nf_net_object(net), parallel) == NF_OK)
        a = new_autoregressive(n->dim_in, t->n_params, order, parallel);
    if (a) {
        const nf_shape own = {.dim_in = n->dim_in,
                              .dim_out = n->dim_in,
                              .n_ctx = n->n_ctx,
                              .n_saved = n->dim_in * (t->n_params + t->n_saved + 1),
                              .flags = (t->flags & NFI_PASSED_ON) | NF_WRITES_GRADIENT};
        return nfi_flow_new_detached(&nfi_autoregressive_type, &own, a,
                                     (nf_object *[]){nf_flow_object(transform), nf_net_object(net)}, 2, 1);
    }
    nf_flow_free(transform);
    nf_net_free(net);
    return NULL;
}
