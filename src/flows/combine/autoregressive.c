/* Autoregressive flows as objects: order, initial parameters, model files, construction. autoregressive_pass.c
   computes with them. */
#include "flows/combine/autoregressive.h"
#include "object/options.h"
#include "base/kernel.h"
#include "base/memory.h"
#include "object/pack.h"
#include "object/parts.h"
#include "flows/types.h"
#include "nn/masked.h"
#include <nflow/combine.h>
#include <string.h>

/* Each dimension's transform starts at the transform's own initial parameters. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch;
    const nfi_autoregressive *a = o->self;
    return nfi_conditioned_init_net(o, noise, NULL, a->dim, theta, state);
}

/* Puts the samples of all dimensions one after the other, as the one-dimensional transform reads them. The feature of a
   tile [dim x ld] that is t-th in the order becomes the numbers t n .. (t + 1) n - 1. */
static void side_by_side(const nfi_autoregressive *a, const nf_batch *batch, nf_real *x)
{
    for (size_t t = 0; t < a->dim; t++)
        memcpy(x + t * batch->n, batch->x + a->order[t] * batch->ld, batch->n * sizeof *x);
}

/* All dimensions share one transform, which is therefore initialised from the samples of all of them. Its context is
   taken to be the one at which the net's output starts, where the transform starts well. The net's real output could
   not always be computed: if data come against the parallel direction, it depends on features that only the transform
   can give. */
static nf_status init_by_context(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                                 nf_real *state)
{
    const nfi_autoregressive *a = o->self;
    nf_status status = nfi_conditioned_init_net(o, noise, NULL, a->dim, theta, state);
    if (status != NF_OK || !batch)
        return status == NF_OK ? nf_init_child(o, NFI_TRANSFORM, noise, NULL, theta, state) : status;
    nf_arena memory = {.n_chunks = 0};
    const size_t n = a->dim * batch->n, ld = (n + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    nf_real *x = nf_arena_reals(&memory, 1, ld), *ctx = nf_arena_reals(&memory, a->per_dim, ld);
    nf_real *start = nfi_calloc(a->per_dim, sizeof *start);
    status = x && ctx && start ? nfi_transform_start(o, noise, start) : NF_ENOMEM;
    if (status == NF_OK) {
        side_by_side(a, batch, x);
        nfi_pad(1, n, ld, x);
        for (size_t k = 0; k < a->per_dim; k++)
            for (size_t s = 0; s < ld; s++)
                ctx[k * ld + s] = start[k];
        const nf_batch all = {.n = n, .ld = ld, .direction = batch->direction, .x = x, .ctx = ctx};
        status = nf_init_child(o, NFI_TRANSFORM, noise, &all, theta, state);
    }
    nfi_free(start);
    nfi_arena_clear(&memory);
    return status;
}

static const char *const directions[] = {[NF_FORWARD] = "forward", [NF_INVERSE] = "inverse"};

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const nfi_autoregressive *a = o->self;
    nf_status status = nf_write_integers(w, "order", a->dim, a->order);
    return status == NF_OK ? nf_write_choice(w, "parallel", NFI_N_NAMES(directions), directions, a->parallel) : status;
}

typedef nf_flow *constructor(nf_flow *transform, nf_net *masked, const size_t *order, nf_direction parallel);

static nf_flow *rebuild_with_order(nf_reader *r, constructor *make)
{
    const size_t dim = nf_read_length(r, "order");
    size_t *order = nfi_calloc(dim, sizeof *order);
    const bool ordered = nf_read_has(r, "order");
    size_t parallel = 0;
    nf_flow *f = NULL;
    if (order && (!ordered || nf_read_integers(r, "order", dim, order) == NF_OK) &&
        nf_read_choice(r, "parallel", NFI_N_NAMES(directions), directions, &parallel) == NF_OK) {
        nf_flow *transform = nfi_read_flow(r, NFI_TRANSFORM, NULL);
        nf_net *net = nfi_read_net(r, NFI_CONDITIONER, "an autoregressive flow");
        if (net && ordered && nf_object_shape(nf_net_object(net))->dim_in != dim) {
            nf_error(NF_EFORMAT, "an order of %zu dimensions, but a net of %zu", dim,
                     nf_object_shape(nf_net_object(net))->dim_in);
            nf_net_free(net);
            net = NULL;
        }
        f = make(transform, net, ordered ? order : NULL, (nf_direction)parallel);
    }
    nfi_free(order);
    return f;
}

static nf_flow *rebuild(nf_reader *r)
{
    return rebuild_with_order(r, nf_autoregressive);
}

static nf_flow *rebuild_by_context(nf_reader *r)
{
    return rebuild_with_order(r, nf_autoregressive_by_context);
}

const nf_flow_type nfi_autoregressive_type = {
    .part = {.name = "autoregressive", .init = init, .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = nfi_autoregressive_apply,
    .vjp = nfi_autoregressive_vjp,
    .solve_jt = nfi_autoregressive_solve_jt,
    .rebuild = rebuild,
};

const nf_flow_type nfi_autoregressive_by_context_type = {
    .part = {.name = "autoregressive_by_context",
             .init = init_by_context,
             .start_context = nfi_conditioned_start_context,
             .describe = describe,
             .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = nfi_autoregressive_apply,
    .vjp = nfi_autoregressive_vjp,
    .solve_jt = nfi_autoregressive_solve_jt,
    .rebuild = rebuild_by_context,
};

/* Whether a step of training may move the state of an object or of one inside it. */
static bool moves_state(const nf_object *o)
{
    bool moves = o->own.n_state && (o->part->end_step || o->part->prepare);
    for (size_t i = 0; i < o->n_children; i++)
        moves = moves || moves_state(o->children[i]);
    return moves;
}

static nf_status check(const nf_object *transform, const nf_object *net, nf_direction parallel, bool by_context,
                       const char *who)
{
    const nf_shape *t = &transform->total;
    const size_t per_dim = by_context ? t->n_ctx : t->n_params;
    if ((by_context ? nfi_check_reader : nfi_check_transform)(t, who) != NF_OK)
        return nf_error_status();
    if (moves_state(transform)) /* sums over samples would count each sample several times */
        return nf_error(NF_EUNSUPPORTED,
                        "%s: the transform has state that training moves, which dimensions cannot share", who);
    if (t->dim_in != 1 || t->dim_out != 1)
        return nf_error(NF_EDIM, "%s: the transform has %zu dimensions, but must have 1", who, t->dim_in);
    if (!nfi_is_masked(net))
        return nf_error(NF_EARG, "%s: the net is a %s, but must be a masked net", who, nf_object_name(net));
    if (net->total.dim_out != net->total.dim_in * per_dim)
        return nf_error(NF_EDIM, "%s: the net gives %zu features for %zu dimensions, but the transform has %zu %s", who,
                        net->total.dim_out, net->total.dim_in, per_dim,
                        by_context ? "features of context" : "parameters");
    if (parallel != NF_FORWARD && parallel != NF_INVERSE)
        return nf_error(NF_EARG, "%s: `parallel` is %d", who, (int)parallel);
    return NF_OK;
}

/* order [dim]; NULL: ascending. */
static nfi_autoregressive *new_autoregressive(size_t dim, size_t per_dim, const size_t *order, nf_direction parallel,
                                              const char *who)
{
    nfi_autoregressive *a = nfi_calloc(1, sizeof *a + dim * sizeof *a->order); /* no overflow: dim is the number of
                                                                                  features of an existing net */
    unsigned char *seen = nfi_calloc(dim, 1);
    bool valid = true;
    for (size_t t = 0; a && seen && t < dim; t++) {
        a->order[t] = order ? order[t] : t;
        valid = valid && a->order[t] < dim && !seen[a->order[t]]++;
    }
    if (a && seen && valid) {
        a->dim = dim;
        a->per_dim = per_dim;
        a->parallel = parallel;
        nfi_free(seen);
        return a;
    }
    if (a && seen)
        nf_error(NF_EARG, "%s: `order` is not a permutation of 0 .. %zu", who, dim - 1);
    nfi_free(seen);
    nfi_free(a);
    return NULL;
}

static nf_flow *build(nf_flow *transform, nf_net *net, const size_t *order, nf_direction parallel, bool by_context,
                      const char *who)
{
    const nf_shape *t = nf_flow_shape(transform), *n = nf_object_shape(nf_net_object(net));
    const size_t per_dim = by_context ? t->n_ctx : t->n_params;
    nf_object *const part[] = {nf_flow_object(transform), nf_net_object(net)};
    if (!nfi_parts_given(who, 2, part, (const char *const[]){"transform", "masked"}))
        return NULL;
    nfi_autoregressive *a = NULL;
    if (check(nf_flow_object(transform), nf_net_object(net), parallel, by_context, who) == NF_OK)
        a = new_autoregressive(n->dim_in, per_dim, order, parallel, who);
    if (a) {
        const nf_shape own = {.dim_in = n->dim_in,
                              .dim_out = n->dim_in,
                              .n_ctx = n->n_ctx,
                              .n_saved = n->dim_in * (per_dim + t->n_saved + 1),
                              .flags = NFI_WRITES_GRADIENT | (t->flags & NFI_SAVES_ALIKE)}; /* as the net does */
        return nfi_flow_new_detached(by_context ? &nfi_autoregressive_by_context_type : &nfi_autoregressive_type, &own,
                                     a, part, 2, by_context ? 0 : 1);
    }
    nf_flow_free(transform);
    nf_net_free(net);
    return NULL;
}

nf_flow *nf_autoregressive(nf_flow *transform, nf_net *net, const size_t *order, nf_direction parallel)
{
    return build(transform, net, order, parallel, false, "nf_autoregressive");
}

nf_flow *nf_autoregressive_by_context(nf_flow *transform, nf_net *net, const size_t *order, nf_direction parallel)
{
    return build(transform, net, order, parallel, true, "nf_autoregressive_by_context");
}
