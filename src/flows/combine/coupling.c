/* Coupling layers as objects: masks, model files, construction. coupling_pass.c computes with them. */
#include "flows/combine/coupling.h"
#include "base/memory.h"
#include "flows/types.h"
#include "object/parts.h"
#include <nflow/combine.h>

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const nfi_coupling *c = o->self;
    return nf_write_integers(w, "mask", c->dim, c->number + c->dim);
}

typedef nf_flow *constructor(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net);

static nf_flow *rebuild_with_mask(nf_reader *r, constructor *make)
{
    const size_t dim = nf_read_length(r, "mask");
    size_t *numbers = nfi_calloc(dim, sizeof *numbers);
    unsigned char *mask = nfi_calloc(dim, sizeof *mask);
    nf_flow *f = NULL;
    bool good = numbers && mask && nf_read_integers(r, "mask", dim, numbers) == NF_OK;
    for (size_t i = 0; i < dim && good; i++) {
        good = numbers[i] <= 1 || nf_error(NF_EFORMAT, "item %zu of the field 'mask' is neither 0 nor 1", i) == NF_OK;
        mask[i] = (unsigned char)numbers[i];
    }
    if (good) {
        nf_flow *transform = nfi_read_flow(r, NFI_TRANSFORM, NULL);
        f = make(dim, mask, transform, nfi_read_net(r, NFI_CONDITIONER, "a coupling"));
    }
    nfi_free(numbers);
    nfi_free(mask);
    return f;
}

static nf_flow *rebuild(nf_reader *r)
{
    return rebuild_with_mask(r, nf_coupling);
}

static nf_flow *rebuild_by_context(nf_reader *r)
{
    return rebuild_with_mask(r, nf_coupling_by_context);
}

const nf_flow_type nfi_coupling_type = {
    .part = {.name = "coupling", .init = nfi_coupling_init, .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = nfi_coupling_apply,
    .vjp = nfi_coupling_vjp,
    .solve_jt = nfi_coupling_solve_jt,
    .rebuild = rebuild,
};

const nf_flow_type nfi_coupling_by_context_type = {
    .part = {.name = "coupling_by_context",
             .init = nfi_coupling_init,
             .start_context = nfi_conditioned_start_context,
             .describe = describe,
             .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = nfi_coupling_apply,
    .vjp = nfi_coupling_vjp,
    .solve_jt = nfi_coupling_solve_jt,
    .rebuild = rebuild_by_context,
};

/* What differs between the two ways in which the net steers the transform. */
typedef struct way {
    const char *who;
    const nf_flow_type *type;
    nf_status (*check)(const nf_shape *transform, const char *who);
    size_t n_detached;
    const char *given; /* name of what the net gives, for messages */
} way;
static const way by_parameters = {"nf_coupling", &nfi_coupling_type, nfi_check_transform, 1, "parameters"};
static const way by_context = {"nf_coupling_by_context", &nfi_coupling_by_context_type, nfi_check_reader, 0,
                               "features of context"};

static size_t wanted_rows(const way *w, const nf_shape *t)
{
    return w->n_detached ? t->n_params : t->n_ctx;
}

static nf_status check(const way *w, size_t dim, size_t n_b, const nf_shape *t, const nf_shape *net)
{
    if (n_b == 0)
        return nf_error(NF_EARG, "%s: the mask transforms none of the %zu features", w->who, dim);
    if (w->check(t, w->who) != NF_OK)
        return nf_error_status();
    if (t->dim_in != n_b || t->dim_out != n_b)
        return nf_error(NF_EDIM, "%s: the mask transforms %zu features, but the flow takes %zu and gives %zu", w->who,
                        n_b, t->dim_in, t->dim_out);
    if (net->dim_in != dim - n_b)
        return nf_error(NF_EDIM, "%s: the mask passes %zu of %zu features, but the net takes %zu", w->who, dim - n_b,
                        dim, net->dim_in);
    if (net->dim_out != wanted_rows(w, t))
        return nf_error(NF_EDIM, "%s: the net gives %zu features, but the flow has %zu %s", w->who, net->dim_out,
                        wanted_rows(w, t), w->given);
    return NF_OK;
}

/* The features number[0 .. n-1], which are ascending. */
static nfi_rows rows_from(const size_t *number, size_t n)
{
    return (nfi_rows){.n = n, .row = number, .consecutive = n == 0 || number[n - 1] - number[0] == n - 1};
}

static nfi_coupling *new_coupling(const way *w, size_t dim, const unsigned char *mask, size_t n_b)
{
    size_t count, bytes;
    if (!nfi_mul(dim, 2, &count) || !nfi_mul(count, sizeof(size_t), &bytes) ||
        !nfi_add(bytes, sizeof(nfi_coupling), &bytes)) {
        nf_error(NF_EARG, "%s: the sizes overflow", w->who);
        return NULL;
    }
    nfi_coupling *c = nfi_calloc(1, bytes);
    if (!c)
        return NULL;
    size_t *a = c->number, *b = c->number + (dim - n_b);
    for (size_t i = 0; i < dim; i++) {
        c->number[dim + i] = mask[i] != 0;
        *(mask[i] ? b++ : a++) = i;
    }
    c->dim = dim;
    c->a = rows_from(c->number, dim - n_b);
    c->b = rows_from(c->number + (dim - n_b), n_b);
    return c;
}

static nf_flow *build(const way *w, size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net)
{
    const nf_shape *t = nf_flow_shape(transform), *n = nf_object_shape(nf_net_object(net));
    size_t n_b = 0;
    for (size_t i = 0; mask && i < dim; i++)
        n_b += mask[i] != 0;
    nf_object *const part[] = {nf_flow_object(transform), nf_net_object(net)};
    if (!nfi_parts_given(w->who, 2, part, (const char *const[]){"transform", "net"}))
        return NULL;
    nfi_coupling *c = NULL;
    if (!mask)
        nf_error(NF_EARG, "%s: `mask` is NULL", w->who);
    else if (check(w, dim, n_b, t, n) == NF_OK)
        c = new_coupling(w, dim, mask, n_b);
    if (c) {
        const nf_shape own = {.dim_in = dim,
                              .dim_out = dim,
                              .n_ctx = n->n_ctx,
                              .n_saved = wanted_rows(w, t),
                              .flags = NFI_WRITES_GRADIENT | (t->flags & NFI_SAVES_ALIKE)}; /* as the net does */
        return nfi_flow_new_detached(w->type, &own, c, part, 2, w->n_detached);
    }
    nf_flow_free(transform);
    nf_net_free(net);
    return NULL;
}

nf_flow *nf_coupling(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net)
{
    return build(&by_parameters, dim, mask, transform, net);
}

nf_flow *nf_coupling_by_context(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net)
{
    return build(&by_context, dim, mask, transform, net);
}
