/* Walks over object trees: passes of children, preparation, initialisation, names of tensors. */
#include "base/memory.h"
#include "object/tree.h"
#include <stdio.h>
#include <string.h>

/* Written field by field. If the pass were copied and some fields written afterwards, gcc would store and load them
   again and wait for the stores. This took a tenth of the time of a step of planar flows. */
nf_pass nf_child_pass(const nf_object *o, size_t i, const nf_pass *p)
{
    const nfi_place *at = &o->place[i];
    const size_t step = p->theta_stride ? p->ld : 1;
    const bool is_net = o->children[i]->kind == NFI_NET; /* nets have no penalties: see nf_pass.penalty */
    _Static_assert(sizeof *p == offsetof(nf_pass, g_penalty) + sizeof p->g_penalty, "a field more: copy it below");
    return (nf_pass){.n = p->n,
                     .ld = p->ld,
                     .theta = p->theta ? p->theta + at->theta * step : NULL,
                     .state = p->state ? p->state + at->state : NULL,
                     .prep = p->prep ? p->prep + at->prep : NULL,
                     .theta_stride = p->theta_stride,
                     .ctx = p->ctx,
                     .noise = {.seed = p->noise.seed,
                               .step = p->noise.step,
                               .first_sample = p->noise.first_sample,
                               .site = p->noise.site + at->site,
                               .column = p->noise.column},
                     .mode = p->mode,
                     .tape = p->tape,
                     .scratch = p->scratch,
                     .log_det_total = p->log_det_total,
                     .log_weight = p->log_weight,
                     .g_log_weight = p->g_log_weight,
                     .failed = p->failed,
                     .penalty = is_net ? NULL : p->penalty,
                     .g_penalty = is_net ? NULL : p->g_penalty};
}

nf_grad nf_child_grad(const nf_object *o, size_t i, const nf_pass *p, const nf_grad *g)
{
    const nfi_place *at = &o->place[i];
    size_t step = p->theta_stride ? p->ld : 1;
    nf_grad c = *g;
    c.theta = g->theta ? g->theta + at->theta * step : NULL;
    c.prep = g->prep ? g->prep + at->prep : NULL;
    c.stats = g->stats ? g->stats + at->state : NULL;
    return c;
}

nf_grad nfi_grad_of(const nf_object *o, const nf_grad *g)
{
    nf_grad c = g ? *g : (nf_grad){.theta = NULL};
    if (nfi_is_fresh(&c) && !(o->own.flags & NFI_WRITES_GRADIENT)) {
        if (c.theta)
            memset(c.theta, 0, o->total.n_params * sizeof *c.theta);
        c.internal &= ~NFI_FRESH;
    }
    return c;
}

nf_status nfi_tree_prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    nf_status status = o->part->prepare ? o->part->prepare(o, mode, theta, state, prep) : NF_OK;
    for (size_t i = 0; i < o->n_children && status == NF_OK; i++) {
        const nfi_place *at = &o->place[i];
        if (!at->detached)
            status = nfi_tree_prepare(o->children[i], mode, theta + at->theta, state + at->state, prep + at->prep);
    }
    return status;
}

nf_status nfi_tree_end_step(const nf_object *o, const double *stats, size_t n, nf_real *state)
{
    if (o->total.n_state == 0)
        return NF_OK;
    nf_status status = o->part->end_step ? o->part->end_step(o, stats, n, state) : NF_OK;
    for (size_t i = 0; i < o->n_children && status == NF_OK; i++) {
        const nfi_place *at = &o->place[i];
        if (!at->detached)
            status = nfi_tree_end_step(o->children[i], stats + at->state, n, state + at->state);
    }
    return status;
}

nf_status nf_init_child(const nf_object *o, size_t i, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                        nf_real *state)
{
    const nfi_place *at = &o->place[i];
    nf_noise moved = *noise;
    moved.site += at->site;
    return at->detached
               ? NF_OK
               : nfi_tree_init(o->children[i], &moved, batch, theta + at->theta, state ? state + at->state : NULL);
}

nf_status nfi_tree_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                        nf_real *state)
{
    if (o->part->init)
        return o->part->init(o, noise, batch, theta, state);
    nf_status status = NF_OK;
    for (size_t i = 0; i < o->n_children && status == NF_OK; i++)
        status = nf_init_child(o, i, noise, NULL, theta, state);
    return status;
}

nf_status nfi_init_pass(const nf_object *o, size_t i, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                        nf_real *state, nf_arena *memory, nf_pass *p)
{
    const nf_object *child = o->children[i];
    const nfi_place *at = &o->place[i];
    nf_real *prep = nf_arena_reals(memory, 1, child->total.n_prep);
    if (!prep)
        return NF_ENOMEM;
    *p = (nf_pass){.n = batch->n,
                   .ld = batch->ld,
                   .theta = theta + at->theta,
                   .state = state + at->state,
                   .prep = prep,
                   .ctx = batch->ctx,
                   .noise = *noise,
                   .mode = NF_EVAL,
                   .scratch = memory};
    p->noise.site += at->site;
    p->noise.step = UINT64_MAX; /* another step than the initial numbers, which are drawn with step 0 */
    return nfi_tree_prepare(child, NF_EVAL, p->theta, state + at->state, prep);
}

static nf_status walk_context(const nf_object *o, const nf_noise *noise, nf_real *ctx)
{
    if (o->part->start_context)
        return o->part->start_context(o, noise, ctx);
    nf_status status = NF_OK;
    for (size_t i = 0; i < o->n_children && status == NF_OK; i++) {
        nf_noise moved = *noise;
        moved.site += o->place[i].site;
        if (o->children[i]->total.n_ctx == o->total.n_ctx)
            status = walk_context(o->children[i], &moved, ctx);
    }
    return status;
}

nf_status nf_start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx)
{
    if (!o || !noise || (!ctx && o->total.n_ctx))
        return nf_error(NF_EARG, "nf_start_context: `%s` is NULL", !o ? "o" : !noise ? "noise" : "ctx");
    if (o->total.n_ctx == 0)
        return NF_OK;
    memset(ctx, 0, o->total.n_ctx * sizeof *ctx);
    return walk_context(o, noise, ctx);
}

nf_status nfi_shift_child(const nf_object *o, size_t i, const nf_real *shift, nf_real *theta)
{
    const nf_object *net = o->children[i];
    const nf_net_type *type = net->type;
    return type->shift_output ? type->shift_output(net, shift, theta + o->place[i].theta) : NF_OK;
}

/* ---- names ---- */

enum { NAME_SIZE = 1024 };

typedef struct naming {
    nf_slice_fn *each;
    void *user;
    size_t first;         /* the node's first parameter in the vector of the whole tree */
    char path[NAME_SIZE]; /* "1.chain.0.planar." */
    size_t length;
} naming;

static void name_slice(void *user, const char *name, size_t offset, size_t rank, const size_t *extents)
{
    naming *n = user;
    char full[NAME_SIZE + 64];
    snprintf(full, sizeof full, "%.*s%s", (int)n->length, n->path, name);
    n->each(n->user, full, n->first + offset, rank, extents);
}

static void walk_slices(const nf_object *o, naming *n)
{
    if (o->part->slices)
        o->part->slices(o, name_slice, n);
    else if (o->own.n_params)
        name_slice(n, "theta", 0, 1, &o->own.n_params);
    for (size_t i = 0; i < o->n_children; i++) {
        if (o->place[i].detached)
            continue;
        size_t first = n->first, length = n->length;
        int more = snprintf(n->path + length, sizeof n->path - length, "%zu.%s.", i, o->children[i]->part->name);
        n->length = more > 0 && length + (size_t)more < sizeof n->path ? length + (size_t)more : length;
        n->first = first + o->place[i].theta;
        walk_slices(o->children[i], n);
        n->first = first;
        n->length = length;
    }
}

void nfi_tree_slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    naming n = {.each = each, .user = user};
    walk_slices(o, &n);
}
