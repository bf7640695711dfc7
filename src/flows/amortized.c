/* A flow whose parameters are, for each sample, a net's output or the context itself (Rezende & Mohamed 2015,
   sec. 4.2):

       y = f(x; theta),   theta = head(context)   or   theta = context.

   f's gradient in theta [n_params x ld] is the cotangent of the head's output, or goes straight into the context's. */
#include "core/memory.h"
#include "flows/compose.h"
#include "flows/types.h"

/* Child 0 is f, detached: it has no numbers of its own. Child 1, if there is one, is the head. */
enum { FLOW, HEAD };

typedef struct record {
    const nf_real *theta; /* [n_params x ld] */
    void *flow, *head;    /* what they saved */
} record;

static bool has_head(const nf_object *o)
{
    return o->n_children > HEAD;
}

static nf_pass flow_pass(const nf_object *o, const nf_pass *p, const nf_real *theta)
{
    nf_pass c = nf_child_pass(o, FLOW, p);
    c.theta = theta;
    c.theta_stride = 1;
    c.state = c.prep = c.ctx = NULL;
    return c;
}

static nf_pass head_pass(const nf_object *o, const nf_pass *p)
{
    nf_pass c = nf_child_pass(o, HEAD, p);
    c.ctx = NULL; /* it reads the context as its input */
    return c;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nf_object *f = o->children[FLOW];
    const nf_mark mark = nf_arena_mark(p->scratch);
    record here = {.theta = p->ctx}, *r = p->tape ? nf_arena_alloc(p->tape, sizeof *r) : &here;
    if (!r)
        return NF_ENOMEM;
    *r = here;
    if (has_head(o)) {
        const nf_pass h = head_pass(o, p);
        nf_real *theta = nf_arena_reals(p->tape ? p->tape : p->scratch, f->total.n_params, p->ld);
        if (!theta)
            return NF_ENOMEM;
        r->theta = theta;
        nf_status status = nf_net_apply(o->children[HEAD], &h, p->ctx, theta, &r->head);
        if (status != NF_OK)
            return status;
    }
    const nf_pass c = flow_pass(o, p, r->theta);
    nf_status status = nf_flow_apply(f, d, &c, x, y, log_det, &r->flow);
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = r;
    return status;
}

/* Pulls f's gradient in theta through the head. */
static nf_status head_vjp(const nf_object *o, const nf_pass *p, const record *r, const nf_real *g_theta,
                          const nf_grad *g)
{
    const nf_object *head = o->children[HEAD];
    const size_t size = head->total.dim_in * p->ld;
    const nf_pass h = head_pass(o, p);
    nf_grad gh = nf_child_grad(o, HEAD, p, g);
    gh.ctx = NULL;
    nf_real *g_ctx = NULL;
    if (g->ctx && !(g_ctx = nf_arena_reals(p->scratch, head->total.dim_in, p->ld)))
        return NF_ENOMEM;
    nf_status status = nf_net_vjp(head, &h, p->ctx, r->theta, r->head, g_theta, g_ctx, &gh);
    for (size_t i = 0; g_ctx && status == NF_OK && i < size; i++)
        g->ctx[i] += g_ctx[i];
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const record *r = saved;
    const nf_object *f = o->children[FLOW];
    const size_t n_params = f->total.n_params;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_pass c = flow_pass(o, p, r->theta);
    const bool wanted = has_head(o) && (g->theta || g->prep || g->ctx || g->stats);
    nf_grad gf = {.theta = has_head(o) ? NULL : g->ctx};
    if (wanted) {
        gf.theta = nf_arena_reals(p->scratch, n_params, p->ld);
        if (!gf.theta)
            return NF_ENOMEM;
        for (size_t i = 0; i < n_params * p->ld; i++)
            gf.theta[i] = 0;
    }
    nf_status status = nf_flow_vjp(f, d, &c, x, y, r->flow, gy, g_log_det, gx, &gf);
    if (status == NF_OK && wanted)
        status = head_vjp(o, p, r, gf.theta, g);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const record *r = saved;
    const nf_pass c = flow_pass(o, p, r->theta);
    return nf_flow_solve_jt(o->children[FLOW], d, &c, x, y, r->flow, gx, gy);
}

/* The flow's own initial parameters: where the head's output, or the context, should start. */
static nf_status initial_parameters(const nf_object *o, const nf_noise *noise, nf_real *theta)
{
    nf_noise moved = *noise;
    moved.site += o->place[FLOW].site;
    return nfi_tree_init(o->children[FLOW], &moved, NULL, theta, NULL);
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch;
    if (!has_head(o))
        return NF_OK;
    nf_status status = nf_init_child(o, HEAD, noise, NULL, theta, state);
    nf_real *start = nfi_calloc(o->children[FLOW]->total.n_params, sizeof *start);
    if (!start)
        return NF_ENOMEM;
    if (status == NF_OK)
        status = initial_parameters(o, noise, start);
    if (status == NF_OK)
        status = nfi_shift_child(o, HEAD, start, theta);
    nfi_free(start);
    return status;
}

static nf_status start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx)
{
    return has_head(o) ? NF_OK : initial_parameters(o, noise, ctx);
}

static nf_flow *rebuild(nf_reader *r)
{
    if (nf_read_n_children(r) <= HEAD)
        return nf_amortized_by_context(nfi_read_flow(r, FLOW));
    nf_flow *f = nfi_read_flow(r, FLOW);
    nf_object *head = nf_read_child(r, HEAD);
    if (head && !nfi_as_net(head)) {
        nf_error(NF_EFORMAT, "nf_load: the head of an amortised flow is a %s, not a net", nf_object_name(head));
        nf_object_free(head);
        head = NULL;
    }
    return nf_amortized(f, (nf_net *)head);
}

const nf_flow_type nfi_amortized_type = {
    .part = {.name = "amortized", .init = init, .start_context = start_context},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

static nf_status check_flow(const nf_shape *s, const char *who)
{
    if (!(s->flags & NF_PER_SAMPLE))
        return nf_error(NF_EUNSUPPORTED, "%s: the flow cannot take its parameters per sample (NF_PER_SAMPLE)", who);
    if (s->n_ctx)
        return nf_error(NF_EDIM, "%s: the flow reads %zu rows of context of its own, but may read none", who, s->n_ctx);
    if (s->n_params == 0)
        return nf_error(NF_EARG, "%s: the flow has no parameters", who);
    if (s->n_state)
        return nf_error(NF_EUNSUPPORTED, "%s: the flow has state, which cannot be amortised", who);
    return NF_OK;
}

static nf_status check_head(const nf_shape *s, const nf_shape *h)
{
    if (h->dim_out != s->n_params)
        return nf_error(NF_EDIM, "nf_amortized: the head gives %zu rows, but the flow has %zu parameters", h->dim_out,
                        s->n_params);
    if (h->dim_in == 0 || h->n_ctx)
        return nf_error(NF_EDIM,
                        "nf_amortized: the head must read the context as its input, but takes %zu rows and "
                        "%zu of context",
                        h->dim_in, h->n_ctx);
    return NF_OK;
}

static nf_shape amortized_shape(const nf_shape *s, size_t n_ctx, size_t n_saved)
{
    return (nf_shape){.dim_in = s->dim_in,
                      .dim_out = s->dim_out,
                      .n_ctx = n_ctx,
                      .n_saved = n_saved,
                      .flags = s->flags & NFI_INHERITED & ~(unsigned)NF_PER_SAMPLE};
}

nf_flow *nf_amortized(nf_flow *f, nf_net *head)
{
    const nf_shape *s = nf_flow_shape(f), *h = nf_object_shape(nf_net_object(head));
    if (f && head && check_flow(s, "nf_amortized") == NF_OK && check_head(s, h) == NF_OK) {
        const nf_shape own = amortized_shape(s, h->dim_in, s->n_params);
        return nfi_flow_new_detached(&nfi_amortized_type, &own, NULL,
                                     (nf_object *[]){nf_flow_object(f), nf_net_object(head)}, 2, 1);
    }
    nf_flow_free(f);
    nf_net_free(head);
    return NULL;
}

nf_flow *nf_amortized_by_context(nf_flow *f)
{
    const nf_shape *s = nf_flow_shape(f);
    if (f && check_flow(s, "nf_amortized_by_context") == NF_OK) {
        const nf_shape own = amortized_shape(s, s->n_params, 0);
        return nfi_flow_new_detached(&nfi_amortized_type, &own, NULL, (nf_object *[]){nf_flow_object(f)}, 1, 1);
    }
    nf_flow_free(f);
    return NULL;
}
