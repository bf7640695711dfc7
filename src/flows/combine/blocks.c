/* Flows side by side: block i takes its own features and gives its own features,

       y = (f[0](x_0), ..., f[n-1](x_{n-1})),   log|det| = the blocks' sum,   J block diagonal.

   The features of a block are consecutive, so that its part of a tile is given by a pointer. */
#include "base/memory.h"
#include "flows/compose.h"
#include "flows/types.h"
#include <nflow/combine.h>

/* The first feature of a block, among those that enter and among those that leave. */
typedef struct place {
    size_t in, out;
} place;

static place after(const nf_object *block, nf_direction d, place at)
{
    return (place){at.in + nfi_rows_in(block, d), at.out + nfi_rows_out(block, d)};
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    void **each = p->tape ? nf_arena_alloc(p->tape, o->n_children * sizeof *each) : NULL;
    nf_status status = p->tape && !each ? NF_ENOMEM : NF_OK;
    place at = {0, 0};
    for (size_t i = 0; i < o->n_children && status == NF_OK; i++) {
        const nf_object *f = o->children[i];
        const nf_pass c = nf_child_pass(o, i, p);
        void *of_block = NULL;
        status = nf_flow_apply(f, d, &c, x + at.in * p->ld, y + at.out * p->ld, log_det, &of_block);
        if (each)
            each[i] = of_block;
        at = after(f, d, at);
    }
    if (each && status == NF_OK)
        *saved = each;
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    void *const *each = saved;
    nf_status status = NF_OK;
    place at = {0, 0};
    for (size_t i = 0; i < o->n_children && status == NF_OK; i++) {
        const nf_object *f = o->children[i];
        const nf_pass c = nf_child_pass(o, i, p);
        const nf_grad gc = nf_child_grad(o, i, p, g);
        const size_t in = at.in * p->ld, out = at.out * p->ld;
        status = nf_flow_vjp(f, d, &c, x + in, y + out, each[i], gy + out, g_log_det, gx + in, &gc);
        at = after(f, d, at);
    }
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    void *const *each = saved;
    nf_status status = NF_OK;
    place at = {0, 0};
    for (size_t i = 0; i < o->n_children && status == NF_OK; i++) {
        const nf_object *f = o->children[i];
        const nf_pass c = nf_child_pass(o, i, p);
        const size_t in = at.in * p->ld, out = at.out * p->ld;
        status = nf_flow_solve_jt(f, d, &c, x + in, y + out, each[i], gx + in, gy + out);
        at = after(f, d, at);
    }
    return status;
}

/* Each block gets its own features of the data. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    nf_status status = NF_OK;
    place at = {0, 0};
    for (size_t i = 0; i < o->n_children && status == NF_OK; i++) {
        nf_batch part = batch ? *batch : (nf_batch){.n = 0};
        if (batch) {
            part.x = batch->x + at.in * batch->ld;
            at = after(o->children[i], batch->direction, at);
        }
        status = nf_init_child(o, i, noise, batch ? &part : NULL, theta, state);
    }
    return status;
}

static nf_flow *rebuild(nf_reader *r)
{
    return nfi_read_list(r, nf_blocks);
}

const nf_flow_type nfi_blocks_type = {
    .part = {.name = "blocks", .init = init},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

static nf_status add_block(nf_shape *own, const nf_shape *s, size_t i)
{
    if (!nfi_add(own->dim_in, s->dim_in, &own->dim_in) || !nfi_add(own->dim_out, s->dim_out, &own->dim_out))
        return nf_error(NF_EARG, "nf_blocks: the sizes overflow at block %zu", i);
    return NF_OK;
}

nf_flow *nf_blocks(nf_flow *const *f, size_t n)
{
    return nfi_flow_of_list(&nfi_blocks_type, "block", add_block, f, n);
}
