/* f[n-1] o ... o f[0]: values go through the flows in order, log-dets add up, and cotangents come back in the
   opposite order. The inverse takes the flows in the opposite order. */
#include "base/memory.h"
#include "flows/combine/chain.h"
#include "flows/compose.h"
#include "flows/types.h"
#include <nflow/combine.h>

/* What a pass saves for its VJP: between[k] is what enters the k-th flow on the way (k >= 1), saved[k] is what this
   flow itself saved. */
typedef struct trail {
    nf_real **between;
    void **saved;
} trail;

size_t nfi_chain_most_rows(const nf_object *o)
{
    size_t most = o->total.dim_in;
    for (size_t i = 0; i < o->n_children; i++)
        most = o->children[i]->total.dim_out > most ? o->children[i]->total.dim_out : most;
    return most;
}

static trail *new_trail(nf_arena *a, size_t n)
{
    trail *t = nf_arena_alloc(a, sizeof *t + n * (sizeof *t->between + sizeof *t->saved));
    if (!t)
        return NULL;
    t->between = (nf_real **)(t + 1);
    t->saved = (void **)(t->between + n);
    for (size_t k = 0; k < n; k++) {
        t->between[k] = NULL;
        t->saved[k] = NULL;
    }
    return t;
}

/* Two buffers that are used in turn. */
static nf_status two_buffers(const nf_object *o, const nf_pass *p, nf_real *buffer[2])
{
    if (o->n_children < 2)
        return NF_OK;
    const size_t rows = nfi_chain_most_rows(o);
    buffer[0] = nf_arena_reals(p->scratch, rows, p->ld);
    buffer[1] = nf_arena_reals(p->scratch, rows, p->ld);
    return buffer[0] && buffer[1] ? NF_OK : NF_ENOMEM;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const size_t n = o->n_children;
    const nf_mark mark = nf_arena_mark(p->scratch);
    trail *t = p->tape ? new_trail(p->tape, n) : NULL;
    nf_real *buffer[2] = {NULL, NULL};
    nf_status status = p->tape ? (t ? NF_OK : NF_ENOMEM) : two_buffers(o, p, buffer);
    for (size_t k = 0; k < n && status == NF_OK; k++) {
        const size_t i = nfi_chain_place(o, d, k);
        const nf_object *f = o->children[i];
        const nf_pass c = nf_child_pass(o, i, p);
        nf_real *to = y;
        void *none = NULL;
        if (k + 1 < n)
            to = t ? t->between[k + 1] = nf_arena_reals(p->tape, nfi_rows_out(f, d), p->ld) : buffer[k % 2];
        status = to ? nf_flow_apply(f, d, &c, x, to, log_det, t ? &t->saved[k] : &none) : NF_ENOMEM;
        x = to;
    }
    nf_arena_rewind(p->scratch, mark);
    if (t && status == NF_OK)
        *saved = t;
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const trail *t = saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *buffer[2] = {NULL, NULL};
    nf_status status = two_buffers(o, p, buffer);
    for (size_t k = o->n_children; k-- > 0 && status == NF_OK;) {
        const size_t i = nfi_chain_place(o, d, k);
        const nf_pass c = nf_child_pass(o, i, p);
        const nf_grad gc = nf_child_grad(o, i, p, g);
        const nf_real *from = k ? t->between[k] : x;
        nf_real *to = k ? buffer[k % 2] : gx;
        status = nf_flow_vjp(o->children[i], d, &c, from, y, t->saved[k], gy, g_log_det, to, &gc);
        gy = to;
        y = from;
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* Takes gx along, from the first flow on the way to the last: J^-T = J[n-1]^-T ... J[0]^-T. With g_log_det, the
   log-det's gradient as well (see opposite.c). */
static nf_status along(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                       void *saved, const nf_real *gx, const nf_real *g_log_det, nf_real *gy)
{
    const trail *t = saved;
    const size_t n = o->n_children;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *buffer[2] = {NULL, NULL};
    nf_status status = two_buffers(o, p, buffer);
    for (size_t k = 0; k < n && status == NF_OK; k++) {
        const size_t i = nfi_chain_place(o, d, k);
        const nf_pass c = nf_child_pass(o, i, p);
        const nf_real *next = k + 1 < n ? t->between[k + 1] : y;
        nf_real *to = k + 1 < n ? buffer[k % 2] : gy;
        status = g_log_det ? nfi_flow_vjp_opposite(o->children[i], d, &c, x, next, t->saved[k], gx, g_log_det, to)
                           : nf_flow_solve_jt(o->children[i], d, &c, x, next, t->saved[k], gx, to);
        gx = to;
        x = next;
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    return along(o, d, p, x, y, saved, gx, NULL, gy);
}

nf_status nfi_chain_vjp_opposite(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                 const nf_real *y, void *saved, const nf_real *gx, const nf_real *g_log_det,
                                 nf_real *gy)
{
    return along(o, d, p, x, y, saved, gx, g_log_det, gy);
}

nf_status nfi_chain_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                         nf_real *state)
{
    const nf_direction d = batch ? batch->direction : NF_FORWARD;
    nf_batch here = batch ? *batch : (nf_batch){.n = 0};
    nf_arena memory[2] = {{.n_chunks = 0}, {.n_chunks = 0}}; /* used in turn: one has a flow's input, the other its
                                                                output */
    nf_status status = NF_OK;
    for (size_t k = 0; k < o->n_children && status == NF_OK; k++) {
        const size_t i = nfi_chain_place(o, d, k);
        status = nf_init_child(o, i, noise, batch ? &here : NULL, theta, state);
        if (status == NF_OK && batch && k + 1 < o->n_children)
            status = nfi_hand_on(o, i, noise, &here, theta, state, &memory[k % 2]);
    }
    nfi_arena_clear(&memory[0]);
    nfi_arena_clear(&memory[1]);
    return status;
}

static nf_flow *rebuild(nf_reader *r)
{
    return nfi_read_list(r, nf_chain);
}

const nf_flow_type nfi_chain_type = {
    .part = {.name = "chain", .init = nfi_chain_init},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_status nfi_chain_link(nf_shape *own, const nf_shape *s, size_t i)
{
    if (i == 0)
        own->dim_in = s->dim_in;
    else if (s->dim_in != own->dim_out)
        return nf_error(NF_EDIM, "nf_chain: flow %zu takes %zu features, but flow %zu gives %zu", i, s->dim_in, i - 1,
                        own->dim_out);
    else if (!nfi_add(own->n_saved, s->dim_in, &own->n_saved))
        return nf_error(NF_EARG, "nf_chain: the sizes overflow at flow %zu", i);
    own->dim_out = s->dim_out;
    return NF_OK;
}

nf_flow *nf_chain(nf_flow *const *f, size_t n)
{
    return nfi_flow_of_list(&nfi_chain_type, "flow", nfi_chain_link, f, n);
}
