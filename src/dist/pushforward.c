/* The distribution of y = f(z), z ~ base: log q(y) = log base(z) - log|det df/dz| (change of variables).
   Sampling runs f forward. Scoring runs f in the inverse direction, whose log|det| already has the other sign. */
#include "base/memory.h"
#include "dist/given.h"
#include "dist/types.h"
#include "flows/compose.h"
#include "object/parts.h"
#include <string.h>

enum { BASE, FLOW };

/* What a pass leaves on the tape: z, and what base and flow saved. */
typedef struct record {
    nf_real *z; /* [dim_in x ld] */
    void *base, *flow;
} record;

/* A new record, which *saved points to if it is on the tape. */
static record *new_record(const nf_object *o, const nf_pass *p, void **saved)
{
    record *r = nf_arena_alloc(nfi_saving_arena(p), sizeof *r);
    if (!r)
        return NULL;
    *r = (record){.z = nf_arena_reals(nfi_saving_arena(p), nf_child(o, FLOW)->total.dim_in, p->ld)};
    if (!r->z)
        return NULL;
    if (p->tape)
        *saved = r;
    return r;
}

/* to[s] += sign from[s]. */
static void add(size_t ld, double sign, const double *from, double *to)
{
    for (size_t s = 0; s < ld; s++)
        to[s] += sign * from[s];
}

/* Runs the flow in direction d. Adds `sign` times its log-det to log_q, and the forward log-det to
   p->log_det_total. */
static nf_status run_flow(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                          double sign, double *log_q, void **saved)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    double *log_det = nfi_zero_doubles(p->scratch, p->ld);
    if (!log_det)
        return NF_ENOMEM;
    nf_pass flow_pass = nf_child_pass(o, FLOW, p);
    nf_status status = nf_flow_apply(nf_child(o, FLOW), d, &flow_pass, x, y, log_det, saved);
    if (status == NF_OK) {
        add(p->ld, sign, log_det, log_q);
        if (p->log_det_total)
            add(p->ld, -sign, log_det, p->log_det_total);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    record *r = new_record(o, p, saved);
    nf_status status = r ? NF_OK : NF_ENOMEM;
    if (r) {
        nf_pass base_pass = nf_child_pass(o, BASE, p);
        status = nf_dist_sample(nf_child(o, BASE), &base_pass, r->z, log_q, &r->base);
    }
    if (status == NF_OK)
        status = run_flow(o, NF_FORWARD, p, r->z, x, -1, log_q, &r->flow);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status sample_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g)
{
    const record *r = saved;
    nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gz = nf_arena_reals(p->scratch, nf_child(o, FLOW)->total.dim_in, p->ld);
    nf_real *g_log_det = nf_arena_reals(p->scratch, 1, p->ld);
    nf_status status = gz && g_log_det ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        for (size_t s = 0; s < p->ld; s++)
            g_log_det[s] = -g_log_q[s];
        nf_pass pass = nf_child_pass(o, FLOW, p);
        nf_grad grad = nf_child_grad(o, FLOW, p, g);
        status = nf_flow_vjp(nf_child(o, FLOW), NF_FORWARD, &pass, r->z, x, r->flow, gx, g_log_det, gz, &grad);
    }
    if (status == NF_OK) {
        nf_pass pass = nf_child_pass(o, BASE, p);
        nf_grad grad = nf_child_grad(o, BASE, p, g);
        status = nf_dist_sample_vjp(nf_child(o, BASE), &pass, r->z, r->base, gz, g_log_q, &grad);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    record *r = new_record(o, p, saved);
    nf_status status = r ? run_flow(o, NF_INVERSE, p, x, r->z, 1, log_p, &r->flow) : NF_ENOMEM;
    if (status == NF_OK) {
        nf_pass base_pass = nf_child_pass(o, BASE, p);
        status = nf_dist_score(nf_child(o, BASE), &base_pass, r->z, log_p, &r->base);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    const record *r = saved;
    const nf_shape *flow = &nf_child(o, FLOW)->total;
    nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gz = nf_arena_reals(p->scratch, flow->dim_in, p->ld);
    nf_real *gy = gx ? gx : nf_arena_reals(p->scratch, flow->dim_out, p->ld);
    nf_status status = gz && gy ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        nf_pass pass = nf_child_pass(o, BASE, p);
        nf_grad grad = nf_child_grad(o, BASE, p, g);
        status = nf_dist_score_vjp(nf_child(o, BASE), &pass, r->z, r->base, g_log_p, gz, &grad);
    }
    if (status == NF_OK) {
        nf_pass pass = nf_child_pass(o, FLOW, p);
        nf_grad grad = nf_child_grad(o, FLOW, p, g);
        status = nf_flow_vjp(nf_child(o, FLOW), NF_INVERSE, &pass, x, r->z, r->flow, gz, g_log_p, gy, &grad);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* ---- d log q(x) / dx at draws ---- */

/* Of a distribution without a flow: the draws are scored as given points. */
static nf_status scored_again(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *one, nf_real *gx)
{
    const nf_grad none = {.theta = NULL};
    const nf_mark mark = nf_arena_mark(p->scratch), tape = nf_arena_mark(p->tape);
    double *log_q = nfi_zero_doubles(p->scratch, p->ld);
    void *saved = NULL;
    nf_status status = log_q ? nf_dist_score(o, p, x, log_q, &saved) : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_dist_score_vjp(o, p, x, saved, one, gx, &none);
    nf_arena_rewind(p->tape, tape);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* one [ld] is the cotangent of log q. That of the base's draw goes through the flow without its inverse. */
static nf_status draw_score(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *one,
                            nf_real *gx)
{
    if (o->type != &nfi_pushforward_type)
        return scored_again(o, p, x, one, gx);
    const record *r = saved;
    const nf_object *flow = nf_child(o, FLOW);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gz = nf_arena_reals(p->scratch, flow->total.dim_in, p->ld);
    const nf_pass of_base = nf_child_pass(o, BASE, p), of_flow = nf_child_pass(o, FLOW, p);
    nf_status status = gz ? draw_score(nf_child(o, BASE), &of_base, r->z, r->base, one, gz) : NF_ENOMEM;
    if (status == NF_OK)
        status = nfi_flow_vjp_opposite(flow, NF_FORWARD, &of_flow, r->z, x, r->flow, gz, one, gx);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nfi_draw_score(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, nf_real *gx)
{
    nf_pass pass = *p;
    pass.penalty = NULL;
    pass.g_penalty = NULL;
    pass.log_det_total = NULL;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *one = nf_arena_reals(p->scratch, 1, p->ld);
    for (size_t s = 0; one && s < p->ld; s++)
        one[s] = s < p->n;
    nf_status status = one ? draw_score(o, &pass, x, saved, one, gx) : NF_ENOMEM;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* In the inverse direction the flow is initialised first, from the data; the base then gets what the flow makes of
   the data. In the forward direction the base is initialised first; the flow then gets draws of the base. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    const bool draws = batch && batch->direction == NF_FORWARD;
    const size_t first = draws ? BASE : FLOW, second = draws ? FLOW : BASE;
    nf_batch here = batch ? *batch : (nf_batch){.n = 0};
    nf_arena memory = {.n_chunks = 0};
    nf_status status = nf_init_child(o, first, noise, batch, theta, state);
    if (status == NF_OK && draws)
        status = nfi_draw_child(o, BASE, noise, batch, theta, state, &memory, &here.x);
    else if (status == NF_OK && batch)
        status = nfi_hand_on(o, FLOW, noise, &here, theta, state, &memory);
    if (status == NF_OK)
        status = nf_init_child(o, second, noise, batch ? &here : NULL, theta, state);
    nfi_arena_clear(&memory);
    return status;
}

static nf_dist *rebuild(nf_reader *r)
{
    return nf_pushforward(nfi_read_dist(r, BASE, NULL), nfi_read_flow(r, FLOW, NULL));
}

const nf_dist_type nfi_pushforward_type = {
    .part = {.name = "pushforward", .init = init},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .sample_vjp = sample_vjp,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
};

nf_dist *nf_pushforward(nf_dist *base, nf_flow *flow)
{
    nf_object *const part[] = {nf_dist_object(base), nf_flow_object(flow)};
    if (!nfi_parts_given("nf_pushforward", 2, part, (const char *const[]){"base", "flow"}))
        return NULL;
    const nf_shape *b = &base->o.total, *f = &flow->o.total;
    if (b->dim_out != f->dim_in)
        nf_error(NF_EDIM, "nf_pushforward: the base has dimension %zu, but the flow starts from %zu", b->dim_out,
                 f->dim_in);
    else if (b->n_ctx && f->n_ctx && b->n_ctx != f->n_ctx)
        nf_error(NF_EDIM, "nf_pushforward: the base reads %zu features of context, but the flow %zu", b->n_ctx,
                 f->n_ctx);
    else {
        const nf_shape own = {.dim_in = f->dim_in,
                              .dim_out = f->dim_out,
                              .n_ctx = b->n_ctx ? b->n_ctx : f->n_ctx,
                              .n_saved = f->dim_in + f->dim_out,
                              .flags = NFI_WRITES_GRADIENT | (b->flags & f->flags & NF_PER_SAMPLE)};
        return nf_dist_new(&nfi_pushforward_type, &own, NULL, part, 2);
    }
    nf_dist_free(base);
    nf_flow_free(flow);
    return NULL;
}
