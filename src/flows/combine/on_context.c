/* A flow that reads some consecutive features of a longer context. */
#include "base/memory.h"
#include "flows/compose.h"
#include "flows/types.h"
#include "object/parts.h"
#include <nflow/combine.h>

typedef struct part_of_context {
    size_t first;
} part_of_context;

size_t nfi_on_context_first(const nf_object *o)
{
    return ((const part_of_context *)o->self)->first;
}

static nf_pass child_pass(const nf_object *o, const nf_pass *p)
{
    const part_of_context *c = o->self;
    nf_pass q = nf_child_pass(o, 0, p);
    q.ctx = o->children[0]->total.n_ctx ? p->ctx + c->first * p->ld : NULL;
    return q;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nf_pass c = child_pass(o, p);
    return nf_flow_apply(o->children[0], d, &c, x, y, log_det, saved);
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const part_of_context *part = o->self;
    const nf_pass c = child_pass(o, p);
    nf_grad gc = nf_child_grad(o, 0, p, g);
    gc.ctx = g->ctx ? g->ctx + part->first * p->ld : NULL;
    return nf_flow_vjp(o->children[0], d, &c, x, y, saved, gy, g_log_det, gx, &gc);
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const nf_pass c = child_pass(o, p);
    return nf_flow_solve_jt(o->children[0], d, &c, x, y, saved, gx, gy);
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    const part_of_context *part = o->self;
    nf_batch narrowed;
    if (batch) {
        narrowed = *batch;
        narrowed.ctx = batch->ctx && o->children[0]->total.n_ctx ? batch->ctx + part->first * batch->ld : NULL;
    }
    return nf_init_child(o, 0, noise, batch ? &narrowed : NULL, theta, state);
}

static nf_status start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx)
{
    const part_of_context *part = o->self;
    nf_noise moved = *noise;
    moved.site += o->place[0].site;
    return nf_start_context(o->children[0], &moved, ctx + part->first);
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const part_of_context *part = o->self;
    return nf_write_integer(w, "first", part->first);
}

static nf_flow *rebuild(nf_reader *r)
{
    uint64_t first = 0;
    if (nf_read_integer(r, "first", &first) != NF_OK)
        return NULL;
    return nf_on_context(nfi_read_flow(r, 0, NULL), nf_read_n_ctx(r), (size_t)first);
}

const nf_flow_type nfi_on_context_type = {
    .part =
        {.name = "on_context", .init = init, .start_context = start_context, .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_on_context(nf_flow *f, size_t n_ctx, size_t first)
{
    nf_object *const part[] = {nf_flow_object(f)};
    if (!nfi_parts_given("nf_on_context", 1, part, (const char *const[]){"f"}))
        return NULL;
    const nf_shape *s = nf_flow_shape(f);
    if (n_ctx == 0 || first > n_ctx || s->n_ctx > n_ctx - first) {
        nf_error(NF_EDIM, "nf_on_context: the flow reads %zu features from feature %zu, but the context has %zu",
                 s->n_ctx, first, n_ctx);
        nf_flow_free(f);
        return NULL;
    }
    part_of_context *self = nfi_calloc(1, sizeof *self);
    if (!self) {
        nf_flow_free(f);
        return NULL;
    }
    self->first = first;
    const nf_shape own = {.dim_in = s->dim_in,
                          .dim_out = s->dim_out,
                          .n_ctx = n_ctx,
                          .flags = (s->flags & NF_PER_SAMPLE) | NFI_WRITES_GRADIENT};
    return nf_flow_new(&nfi_on_context_type, &own, self, part, 1);
}
