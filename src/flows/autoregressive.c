/* Autoregressive flows as objects: order, initial parameters, model files, construction. What they compute is in
   autoregressive_pass.c. */
#include "flows/autoregressive.h"
#include "core/fields.h"
#include "core/memory.h"
#include "flows/types.h"
#include "nn/masked.h"

/* Each dimension's transform starts at its own initial parameters. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch;
    const nfi_autoregressive *a = o->self;
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

static const char *const directions[] = {[NF_FORWARD] = "forward", [NF_INVERSE] = "inverse"};

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const nfi_autoregressive *a = o->self;
    nf_status status = nf_write_integers(w, "order", a->dim, a->order);
    return status == NF_OK ? nf_write_choice(w, "parallel", NFI_N_NAMES(directions), directions, a->parallel) : status;
}

static nf_flow *rebuild(nf_reader *r)
{
    const size_t dim = nf_read_length(r, "order");
    size_t *order = nfi_calloc(dim, sizeof *order);
    const bool ordered = nf_read_has(r, "order");
    size_t parallel = 0;
    nf_flow *f = NULL;
    if (order && (!ordered || nf_read_integers(r, "order", dim, order) == NF_OK) &&
        nf_read_choice(r, "parallel", NFI_N_NAMES(directions), directions, &parallel) == NF_OK) {
        nf_flow *transform = nfi_read_flow(r, NFI_TRANSFORM);
        nf_net *net = nfi_read_net(r, NFI_CONDITIONER, "an autoregressive flow");
        if (net && ordered && nf_object_shape(nf_net_object(net))->dim_in != dim) {
            nf_error(NF_EFORMAT, "an order of %zu dimensions, but a net of %zu", dim,
                     nf_object_shape(nf_net_object(net))->dim_in);
            nf_net_free(net);
            net = NULL;
        }
        f = nf_autoregressive(transform, net, ordered ? order : NULL, (nf_direction)parallel);
    }
    nfi_free(order);
    return f;
}

const nf_flow_type nfi_autoregressive_type = {
    .part = {.name = "autoregressive", .init = init, .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = nfi_autoregressive_apply,
    .vjp = nfi_autoregressive_vjp,
    .solve_jt = nfi_autoregressive_solve_jt,
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
static nfi_autoregressive *new_autoregressive(size_t dim, size_t per_dim, const size_t *order, nf_direction parallel)
{
    nfi_autoregressive *a = nfi_calloc(1, sizeof *a + dim * sizeof *a->order); /* dim: rows of a net that exists */
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
        nf_error(NF_EARG, "nf_autoregressive: `order` is not a permutation of 0 .. %zu", dim - 1);
    nfi_free(seen);
    nfi_free(a);
    return NULL;
}

nf_flow *nf_autoregressive(nf_flow *transform, nf_net *net, const size_t *order, nf_direction parallel)
{
    const nf_shape *t = nf_flow_shape(transform), *n = nf_object_shape(nf_net_object(net));
    nfi_autoregressive *a = NULL;
    if (transform && net && check(t, nf_net_object(net), parallel) == NF_OK)
        a = new_autoregressive(n->dim_in, t->n_params, order, parallel);
    if (a) {
        const nf_shape own = {.dim_in = n->dim_in,
                              .dim_out = n->dim_in,
                              .n_ctx = n->n_ctx,
                              .n_saved = n->dim_in * (t->n_params + t->n_saved + 1),
                              .flags = NFI_WRITES_GRADIENT};
        return nfi_flow_new_detached(&nfi_autoregressive_type, &own, a,
                                     (nf_object *[]){nf_flow_object(transform), nf_net_object(net)}, 2, 1);
    }
    nf_flow_free(transform);
    nf_net_free(net);
    return NULL;
}
