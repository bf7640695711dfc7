/* A flow with its forward and its inverse direction exchanged. */
#include "flows/compose.h"
#include "flows/types.h"
#include "object/parts.h"
#include <nflow/combine.h>

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nf_pass c = nf_child_pass(o, 0, p);
    return nf_flow_apply(o->children[0], nfi_opposite(d), &c, x, y, log_det, saved);
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const nf_pass c = nf_child_pass(o, 0, p);
    const nf_grad gc = nf_child_grad(o, 0, p, g);
    return nf_flow_vjp(o->children[0], nfi_opposite(d), &c, x, y, saved, gy, g_log_det, gx, &gc);
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const nf_pass c = nf_child_pass(o, 0, p);
    return nf_flow_solve_jt(o->children[0], nfi_opposite(d), &c, x, y, saved, gx, gy);
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    nf_batch turned;
    if (batch) {
        turned = *batch;
        turned.direction = nfi_opposite(batch->direction);
    }
    return nf_init_child(o, 0, noise, batch ? &turned : NULL, theta, state);
}

static nf_flow *rebuild(nf_reader *r)
{
    return nf_invert(nfi_read_flow(r, 0, NULL));
}

const nf_flow_type nfi_invert_type = {
    .part = {.name = "invert", .init = init},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_invert(nf_flow *f)
{
    nf_object *const part[] = {nf_flow_object(f)};
    if (!nfi_parts_given("nf_invert", 1, part, (const char *const[]){"f"}))
        return NULL;
    const nf_shape *s = nf_flow_shape(f);
    const nf_shape own = {.dim_in = s->dim_out,
                          .dim_out = s->dim_in,
                          .n_ctx = s->n_ctx,
                          .flags = (s->flags & NF_PER_SAMPLE) | NFI_WRITES_GRADIENT};
    return nf_flow_new(&nfi_invert_type, &own, NULL, part, 1);
}
