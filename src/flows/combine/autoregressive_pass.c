/* The passes of autoregressive flows. The dimensions have an order, and the parameters (or the context, see
   conditioned.h) of each dimension's transform depend on the dimensions before:

       v_t = T(u_t; theta_t),   theta_t = net_t(u_0 .. u_(t-1), context),   log|det dv/du| = sum_t log|dT/du_t|.

   u -> v is one pass of the masked net: the parallel direction. v -> u goes step by step, u_t = T^-1(v_t; theta_t). But
   every hidden unit is computed only once, when its last input is known (nn/masked.h), so that the whole costs one
   pass, too. IAF (Kingma et al. 2016) is parallel in the forward direction, MAF (Papamakarios et al. 2017) in the
   inverse one: u is on the base's side or on the target's side.

   Backward in the parallel direction: first the transforms, then the net. Backward step by step, from the last t to the
   first: the gradient in u_t is complete when the gradients of all later parameters have gone through the net,

       gu_t += sum over t' > t of (d theta_t'/d u_t)^T g_theta_t',   then gv_t and g_theta_t from T^-1's VJP.

   J = dv/du is triangular, so J^-T c goes through the same steps: v_t = T_t'^-1 (c_t - sum over t' > t of
   (d theta_t'/d u_t)^T (dT/dtheta)^T v_t'). For the other direction J^T w is needed: with e = T' w from T^-1's
   solve_jt, (dT/dtheta)^T w is minus the VJP of T^-1, (dT^-1/dtheta)^T e. */
#include "flows/combine/autoregressive.h"
#include "nn/masked.h"
#include <string.h>

typedef struct record {
    nfi_masked_run run;
    nf_real *given;    /* [dim P x ld]: the net's output */
    void *transform[]; /* [dim]: what the transforms saved */
} record;

static const nf_object *net_of(const nf_object *o)
{
    return o->children[NFI_CONDITIONER];
}

/* ---- one dimension ---- */

/* The feature of a tile that is t-th in the order. */
static const nf_real *row_of(const nfi_autoregressive *a, size_t t, size_t ld, const nf_real *tile)
{
    return tile + a->order[t] * ld;
}
static nf_real *row_to(const nfi_autoregressive *a, size_t t, size_t ld, nf_real *tile)
{
    return tile + a->order[t] * ld;
}

static nf_status transform_apply(const nf_object *o, nf_direction d, const nf_pass *p, record *r, size_t t,
                                 const nf_real *x, nf_real *y, double *log_det)
{
    const nfi_autoregressive *a = o->self;
    const nf_pass c = nfi_transform_pass(o, p, r->given + t * a->per_dim * p->ld);
    return nf_flow_apply(o->children[NFI_TRANSFORM], d, &c, row_of(a, t, p->ld, x), row_to(a, t, p->ld, y), log_det,
                         &r->transform[t]);
}

/* gx [ld] is overwritten. g_given [dim P x ld] is added to, in the features of t. g has the layer's gradients, for a
   transform with numbers of its own. */
static nf_status transform_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const record *r, size_t t,
                               const nf_real *x, const nf_real *y, const nf_real *gy, const nf_real *g_log_det,
                               nf_real *gx, nf_real *g_given, const nf_grad *g)
{
    const nfi_autoregressive *a = o->self;
    const size_t at = t * a->per_dim * p->ld;
    const nf_pass c = nfi_transform_pass(o, p, r->given + at);
    const nf_grad gt = nfi_transform_grad(o, p, g, g_given + at);
    return nf_flow_vjp(o->children[NFI_TRANSFORM], d, &c, row_of(a, t, p->ld, x), row_of(a, t, p->ld, y),
                       r->transform[t], gy, g_log_det, gx, &gt);
}

static nf_status transform_solve(const nf_object *o, nf_direction d, const nf_pass *p, const record *r, size_t t,
                                 const nf_real *x, const nf_real *y, const nf_real *gx, nf_real *gy)
{
    const nfi_autoregressive *a = o->self;
    const nf_pass c = nfi_transform_pass(o, p, r->given + t * a->per_dim * p->ld);
    return nf_flow_solve_jt(o->children[NFI_TRANSFORM], d, &c, row_of(a, t, p->ld, x), row_of(a, t, p->ld, y),
                            r->transform[t], gx, gy);
}

/* The features of a tile in the flow's order, as the net reads them, on scratch. NULL if there is no memory. */
static const nf_real *in_order(const nfi_autoregressive *a, const nf_pass *p, const nf_real *tile)
{
    nf_real *u = nf_arena_reals(p->scratch, a->dim, p->ld);
    for (size_t t = 0; u && t < a->dim; t++)
        nfi_readable(p->ld, row_of(a, t, p->ld, tile), u + t * p->ld);
    return u;
}

/* ---- apply ---- */

static nf_status apply_parallel(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net, record *r,
                                const nf_real *x, nf_real *y, double *log_det)
{
    const nfi_autoregressive *a = o->self;
    const nf_real *u = in_order(a, p, x);
    nf_status status = u ? NF_OK : NF_ENOMEM;
    if (u)
        nfi_masked_times(net_of(o), net, &r->run, 0, a->dim, u, r->given);
    for (size_t t = 0; t < a->dim && status == NF_OK; t++)
        status = transform_apply(o, d, p, r, t, x, y, log_det);
    return status;
}

static nf_status apply_stepwise(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net, record *r,
                                const nf_real *x, nf_real *y, double *log_det)
{
    const nfi_autoregressive *a = o->self;
    nf_real *u = nf_arena_reals(p->scratch, a->dim, p->ld);
    nf_status status = u ? NF_OK : NF_ENOMEM;
    for (size_t t = 0; t < a->dim && status == NF_OK; t++) {
        nfi_masked_times(net_of(o), net, &r->run, t, t + 1, u, r->given);
        status = transform_apply(o, d, p, r, t, x, y, log_det);
        nfi_readable(p->ld, row_of(a, t, p->ld, y), u + t * p->ld);
    }
    return status;
}

nf_status nfi_autoregressive_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                                   double *log_det, void **saved)
{
    const nfi_autoregressive *a = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_arena *memory = nfi_saving_arena(p);
    record *r = nf_arena_alloc(memory, sizeof *r + a->dim * sizeof *r->transform);
    nf_pass net;
    if (!r || nfi_conditioner_pass(o, p, &net) != NF_OK ||
        nfi_masked_begin(net_of(o), &net, memory, &r->run) != NF_OK ||
        !(r->given = nf_arena_reals(memory, a->dim * a->per_dim, p->ld)))
        return NF_ENOMEM;
    for (size_t t = 0; t < a->dim; t++)
        r->transform[t] = NULL;
    nf_status status = (d == a->parallel ? apply_parallel : apply_stepwise)(o, d, p, &net, r, x, y, log_det);
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = r;
    return status;
}

/* ---- gradients ---- */

/* The layer's gradients for the VJPs of the transform, one for each dimension, which must all add. If the gradient of
   the transform's own numbers is fresh, it is cleared first. */
static nf_grad added_to(const nf_object *o, const nf_pass *p, const nf_grad *g)
{
    nf_grad own = *g;
    if (nfi_is_fresh(&own) && own.theta && !o->place[NFI_TRANSFORM].detached) {
        const nf_grad gt = nf_child_grad(o, NFI_TRANSFORM, p, g);
        memset(gt.theta, 0, o->children[NFI_TRANSFORM]->total.n_params * sizeof *gt.theta);
    }
    own.internal &= ~NFI_FRESH;
    return own;
}

/* What the way back through the net needs; all on scratch. */
typedef struct back {
    const nf_real *u; /* [dim x ld] the net's input */
    nf_real *g_given; /* [dim P x ld] */
    nf_real *g;       /* [nfi_masked_gradients x ld] */
    nf_real *gu;      /* [dim x ld], in the flow's order */
    nf_real *row;     /* [ld] */
} back;

static bool begin_back(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                       back *b)
{
    const nfi_autoregressive *a = o->self;
    const size_t units = nfi_masked_gradients(net_of(o));
    b->u = in_order(a, p, d == a->parallel ? x : y);
    b->g_given = nfi_zeros(p->scratch, a->dim * a->per_dim, p->ld);
    b->g = nf_arena_reals(p->scratch, units, p->ld);
    b->gu = nfi_zeros(p->scratch, a->dim, p->ld);
    b->row = nf_arena_reals(p->scratch, 1, p->ld);
    return b->u && b->g_given && b->g && b->gu && b->row;
}

/* Times first <= t < last go back through the net. Their g_given must be complete. */
static void net_back(const nf_object *o, const nf_pass *p, const record *r, const back *b, size_t first, size_t last)
{
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    nfi_masked_back(net_of(o), &net, &r->run, first, last, b->g_given, b->g);
}

static void net_back_input(const nf_object *o, const nf_pass *p, const back *b, size_t first, size_t last)
{
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    const nfi_masked *m = net_of(o)->self;
    nfi_masked_back_input(net_of(o), &net, first, last, m->n_layers > 1 ? b->g : b->g_given, b->gu);
}

/* Adds sign gu, whose features are in the flow's order, to the features of `to`. */
static void add_in_order(const nfi_autoregressive *a, size_t ld, nf_real sign, const nf_real *gu, nf_real *to)
{
    for (size_t t = 0; t < a->dim; t++)
        for (size_t s = 0; s < ld; s++)
            row_to(a, t, ld, to)[s] += sign * gu[t * ld + s];
}

static nf_status vjp_parallel(const nf_object *o, nf_direction d, const nf_pass *p, const record *r, const back *b,
                              const nf_real *x, const nf_real *y, const nf_real *gy, const nf_real *g_log_det,
                              nf_real *gx, const nf_grad *g)
{
    const nfi_autoregressive *a = o->self;
    const size_t ld = p->ld;
    nf_status status = NF_OK;
    for (size_t t = 0; t < a->dim && status == NF_OK; t++)
        status =
            transform_vjp(o, d, p, r, t, x, y, row_of(a, t, ld, gy), g_log_det, row_to(a, t, ld, gx), b->g_given, g);
    if (status != NF_OK)
        return status;
    net_back(o, p, r, b, 0, a->dim);
    net_back_input(o, p, b, 0, a->dim);
    add_in_order(a, ld, 1, b->gu, gx);
    return NF_OK;
}

static nf_status vjp_stepwise(const nf_object *o, nf_direction d, const nf_pass *p, const record *r, const back *b,
                              const nf_real *x, const nf_real *y, const nf_real *gy, const nf_real *g_log_det,
                              nf_real *gx, const nf_grad *g)
{
    const nfi_autoregressive *a = o->self;
    const size_t ld = p->ld;
    nf_status status = NF_OK;
    for (size_t t = a->dim; t-- > 0 && status == NF_OK;) {
        net_back_input(o, p, b, t, t + 1);
        for (size_t s = 0; s < ld; s++)
            b->row[s] = row_of(a, t, ld, gy)[s] + b->gu[t * ld + s];
        status = transform_vjp(o, d, p, r, t, x, y, b->row, g_log_det, row_to(a, t, ld, gx), b->g_given, g);
        net_back(o, p, r, b, t, t + 1);
    }
    return status;
}

nf_status nfi_autoregressive_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                 const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det,
                                 nf_real *gx, const nf_grad *g)
{
    const nfi_autoregressive *a = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const record *r = saved;
    const nf_grad once = added_to(o, p, g);
    back b;
    if (!begin_back(o, d, p, x, y, &b))
        return NF_ENOMEM;
    nf_status status = (d == a->parallel ? vjp_parallel : vjp_stepwise)(o, d, p, r, &b, x, y, gy, g_log_det, gx, &once);
    if (status == NF_OK && (g->theta || g->ctx)) {
        nf_pass net;
        const nf_grad g_net = nf_child_grad(o, NFI_CONDITIONER, p, g);
        status = nfi_conditioner_pass(o, p, &net);
        if (status == NF_OK)
            status = nfi_masked_back_numbers(net_of(o), &net, &r->run, b.u, b.g_given, b.g, &g_net);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nfi_autoregressive_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                      const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    const nfi_autoregressive *a = o->self;
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
            status =
                transform_vjp(o, d, p, saved, t, x, y, v, no_log_det, unused, b.g_given, &(nf_grad){.theta = NULL});
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
