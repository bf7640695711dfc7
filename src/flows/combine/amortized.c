/* A flow whose parameters, for each sample, are a net's output or the context itself (Rezende & Mohamed 2015,
   sec. 4.2), or a flow whose context is a net's output:

       y = f(x; theta),   theta = head(context)   or   theta = context,
       y = f(x; theta, c),    c = net(context).

   The gradient of f in what the net gives is the cotangent of the net's output. Without a net the gradient goes
   straight into that of the context. */
#include "flows/combine/conditioned.h"
#include "flows/types.h"
#include "object/parts.h"
#include <nflow/combine.h>

/* Child 0 is f; it is detached unless the net gives its context. Child 1 is the head or the net, if there is one. */
static bool has_head(const nf_object *o)
{
    return o->n_children > NFI_CONDITIONER;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    if (has_head(o)) {
        const nf_mark mark = nf_arena_mark(p->scratch);
        const nf_pass h = nfi_head_pass(o, p);
        const nf_real *ctx = nfi_read_rows(p, o->own.n_ctx, p->ctx);
        const nf_status status = ctx ? nfi_conditioned_apply(o, d, p, &h, ctx, x, y, log_det, saved) : NF_ENOMEM;
        nf_arena_rewind(p->scratch, mark);
        return status;
    }
    const nf_pass c = nfi_transform_pass(o, p, p->ctx);
    return nf_flow_apply(o->children[NFI_TRANSFORM], d, &c, x, y, log_det, saved);
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    if (!has_head(o)) {
        const nf_pass c = nfi_transform_pass(o, p, p->ctx);
        const nf_grad gf = {.theta = g->ctx};
        return nf_flow_vjp(o->children[NFI_TRANSFORM], d, &c, x, y, saved, gy, g_log_det, gx, &gf);
    }
    const size_t size = o->own.n_ctx * p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_pass h = nfi_head_pass(o, p);
    nf_grad gh = nf_child_grad(o, NFI_CONDITIONER, p, g);
    gh.ctx = NULL;
    nf_real *g_ctx = NULL;
    const nf_real *ctx = nfi_read_rows(p, o->own.n_ctx, p->ctx);
    if (!ctx || (g->ctx && !(g_ctx = nf_arena_reals(p->scratch, o->own.n_ctx, p->ld))))
        return NF_ENOMEM;
    nf_status status = nfi_conditioned_vjp(o, d, p, &h, ctx, x, y, saved, gy, g_log_det, gx, g_ctx, g, &gh);
    for (size_t i = 0; g_ctx && status == NF_OK && i < size; i++)
        g->ctx[i] += g_ctx[i];
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    if (has_head(o))
        return nfi_conditioned_solve_jt(o, d, p, x, y, saved, gx, gy);
    const nf_pass c = nfi_transform_pass(o, p, p->ctx);
    return nf_flow_solve_jt(o->children[NFI_TRANSFORM], d, &c, x, y, saved, gx, gy);
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    return has_head(o) ? nfi_conditioned_init(o, noise, batch, theta, state) : NF_OK;
}

static nf_status start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx)
{
    return has_head(o) ? NF_OK : nfi_transform_start(o, noise, ctx);
}

/* For a flow with a context net, where f has numbers of its own. f is initialised from the batch, with what the net
   makes of the batch's context. */
static nf_status init_by_net(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                             nf_real *state)
{
    if (!batch)
        return nfi_conditioned_init(o, noise, NULL, theta, state);
    nf_batch own = *batch;
    own.ctx = NULL;
    const nf_status status = nfi_conditioned_init_net(o, noise, NULL, 1, theta, state);
    return status == NF_OK ? nfi_init_steered(o, noise, &own, batch->ctx, theta, state) : status;
}

static nf_flow *rebuild(nf_reader *r)
{
    nf_flow *f = nfi_read_flow(r, NFI_TRANSFORM, NULL);
    if (nf_read_n_children(r) <= NFI_CONDITIONER)
        return nf_amortized_by_context(f);
    return nf_amortized(f, nfi_read_net(r, NFI_CONDITIONER, "an amortised flow"));
}

const nf_flow_type nfi_amortized_type = {
    .part = {.name = "amortized", .init = init, .start_context = start_context},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

static nf_flow *rebuild_by_net(nf_reader *r)
{
    nf_flow *f = nfi_read_flow(r, NFI_TRANSFORM, NULL);
    return nf_context_net(f, nfi_read_net(r, NFI_CONDITIONER, "a flow with a context net"));
}

const nf_flow_type nfi_context_net_type = {
    .part = {.name = "context_net", .init = init_by_net, .start_context = nfi_conditioned_start_context},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild_by_net,
};

static nf_shape amortized_shape(const nf_shape *s, size_t n_ctx, size_t n_saved)
{
    return (nf_shape){
        .dim_in = s->dim_in, .dim_out = s->dim_out, .n_ctx = n_ctx, .n_saved = n_saved, .flags = NFI_WRITES_GRADIENT};
}

static nf_status check_context_net(const nf_shape *s, const nf_shape *net)
{
    if (nfi_check_reader(s, "nf_context_net") != NF_OK)
        return nf_error_status();
    if (net->dim_out != s->n_ctx)
        return nf_error(NF_EDIM,
                        "nf_context_net: the net gives %zu features, but the flow reads %zu features of context",
                        net->dim_out, s->n_ctx);
    return nfi_check_input(net, "nf_context_net", "net");
}

nf_flow *nf_context_net(nf_flow *f, nf_net *net)
{
    const nf_shape *s = nf_flow_shape(f), *n = nf_object_shape(nf_net_object(net));
    nf_object *const part[] = {nf_flow_object(f), nf_net_object(net)};
    if (!nfi_parts_given("nf_context_net", 2, part, (const char *const[]){"f", "net"}))
        return NULL;
    if (check_context_net(s, n) == NF_OK) {
        const nf_shape own = amortized_shape(s, n->dim_in, s->n_ctx);
        return nf_flow_new(&nfi_context_net_type, &own, NULL, part, 2);
    }
    nf_flow_free(f);
    nf_net_free(net);
    return NULL;
}

nf_flow *nf_amortized(nf_flow *f, nf_net *head)
{
    const nf_shape *s = nf_flow_shape(f), *h = nf_object_shape(nf_net_object(head));
    nf_object *const part[] = {nf_flow_object(f), nf_net_object(head)};
    if (!nfi_parts_given("nf_amortized", 2, part, (const char *const[]){"f", "head"}))
        return NULL;
    if (nfi_check_transform(s, "nf_amortized") == NF_OK && nfi_check_head(s, h, "nf_amortized", "flow") == NF_OK) {
        const nf_shape own = amortized_shape(s, h->dim_in, s->n_params);
        return nfi_flow_new_detached(&nfi_amortized_type, &own, NULL, part, 2, 1);
    }
    nf_flow_free(f);
    nf_net_free(head);
    return NULL;
}

nf_flow *nf_amortized_by_context(nf_flow *f)
{
    const nf_shape *s = nf_flow_shape(f);
    nf_object *const part[] = {nf_flow_object(f)};
    if (!nfi_parts_given("nf_amortized_by_context", 1, part, (const char *const[]){"f"}))
        return NULL;
    if (nfi_check_transform(s, "nf_amortized_by_context") == NF_OK) {
        const nf_shape own = amortized_shape(s, s->n_params, 0);
        return nfi_flow_new_detached(&nfi_amortized_type, &own, NULL, part, 1, 1);
    }
    nf_flow_free(f);
    return NULL;
}
