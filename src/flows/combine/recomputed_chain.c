/* A chain whose pass saves nothing: the way back computes again what enters each flow, by the flow's inverse, and what
   the flow saves, by the flow itself (Gomez et al. 2017, "The reversible residual network"). The memory of a step is
   that of the largest flow, however many there are; a step takes one inverse and one forward pass of each flow more, or
   only the inverse of couplings, whose net reads the same numbers in both.

   With y_k = f_k(x_k), the way back goes from y_(n-1) = y: x_k' = f_k^-1(y_k), the vector-Jacobian product at x_k', and
   y_(k-1) = x_k'. So rounding errors of the inverses add up along the way, as they do in sampling what was scored. */
#include "base/memory.h"
#include "flows/combine/chain.h"
#include "flows/compose.h"
#include "flows/types.h"
#include <nflow/combine.h>

/* Arrays that the flows fill in turn: x_k' of the last two flows, their cotangents, and y_k again. */
typedef struct buffers {
    nf_real *x[2], *g[2], *again;
} buffers;

static nf_status begin(const nf_object *o, const nf_pass *p, buffers *b)
{
    const size_t rows = nfi_chain_most_rows(o);
    for (int i = 0; i < 2; i++) {
        b->x[i] = nf_arena_reals(p->scratch, rows, p->ld);
        b->g[i] = nf_arena_reals(p->scratch, rows, p->ld);
    }
    b->again = nf_arena_reals(p->scratch, rows, p->ld);
    return b->x[0] && b->x[1] && b->g[0] && b->g[1] && b->again ? NF_OK : NF_ENOMEM;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    nf_pass untaped = *p;
    void *none = NULL;
    untaped.tape = NULL;
    return nfi_chain_type.apply(o, d, &untaped, x, y, log_det, &none);
}

/* Flow k on the way, which gave y: x = what entered it, its pass, what it saves, on the tape, and *again, what it gives
   from x. */
static nf_status go_back(const nf_object *o, nf_direction d, const nf_pass *p, size_t k, const nf_real *y, buffers *b,
                         nf_pass *c, void **saved, const nf_real **again)
{
    const size_t i = nfi_chain_place(o, d, k);
    const nf_object *f = nf_child(o, i);
    nf_real *x = b->x[k % 2];
    *c = nf_child_pass(o, i, p);
    c->tape = nfi_saving_arena(p);
    c->penalty = NULL; /* the first pass has added it */
    *again = y;
    if (nf_object_shape(f)->flags & NFI_SAVES_ALIKE)
        return nf_flow_apply(f, nfi_opposite(d), c, y, x, NULL, saved);
    nf_pass untaped = *c;
    untaped.tape = NULL;
    *again = b->again;
    const nf_status status = nf_flow_apply(f, nfi_opposite(d), &untaped, y, x, NULL, NULL);
    return status == NF_OK ? nf_flow_apply(f, d, c, x, b->again, NULL, saved) : status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    buffers b;
    nf_status status = begin(o, p, &b);
    for (size_t k = o->n_children; k-- > 0 && status == NF_OK;) {
        nf_arena *tape = nfi_saving_arena(p);
        const nf_mark taped = nf_arena_mark(tape);
        const size_t i = nfi_chain_place(o, d, k);
        nf_pass c;
        void *of_flow = NULL;
        const nf_real *again = NULL;
        status = go_back(o, d, p, k, y, &b, &c, &of_flow, &again);
        if (status == NF_OK) {
            const nf_grad gc = nf_child_grad(o, i, p, g);
            nf_real *to = k ? b.g[k % 2] : gx;
            status = nf_flow_vjp(nf_child(o, i), d, &c, b.x[k % 2], again, of_flow, gy, g_log_det, to, &gc);
            gy = to;
            y = b.x[k % 2];
        }
        nf_arena_rewind(tape, taped);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* From x on: what each flow saves is needed in the order of the way. */
static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)y, (void)saved;
    const size_t n = o->n_children;
    const nf_mark mark = nf_arena_mark(p->scratch);
    buffers b;
    nf_status status = begin(o, p, &b);
    for (size_t k = 0; k < n && status == NF_OK; k++) {
        nf_arena *tape = nfi_saving_arena(p);
        const nf_mark taped = nf_arena_mark(tape);
        const size_t i = nfi_chain_place(o, d, k);
        nf_pass c = nf_child_pass(o, i, p);
        nf_real *next = b.x[k % 2], *to = k + 1 < n ? b.g[k % 2] : gy;
        void *of_flow = NULL;
        c.tape = tape;
        status = nf_flow_apply(nf_child(o, i), d, &c, x, next, NULL, &of_flow);
        if (status == NF_OK)
            status = nf_flow_solve_jt(nf_child(o, i), d, &c, x, next, of_flow, gx, to);
        nf_arena_rewind(tape, taped);
        gx = to;
        x = next;
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_flow *rebuild(nf_reader *r)
{
    return nfi_read_list(r, nf_recomputed_chain);
}

const nf_flow_type nfi_recomputed_chain_type = {
    .part = {.name = "recomputed_chain", .init = nfi_chain_init},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

static nf_status link(nf_shape *own, const nf_shape *s, size_t i)
{
    own->flags |= NFI_RECOMPUTES;
    const nf_status status = nfi_chain_link(own, s, i);
    own->n_saved = 0; /* what enters the flows is computed again */
    return status;
}

nf_flow *nf_recomputed_chain(nf_flow *const *f, size_t n)
{
    return nfi_flow_of_list(&nfi_recomputed_chain_type, "flow", link, f, n);
}
