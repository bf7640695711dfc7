/* See field.h. All directions are in one tile, so that a layer of the net is one product for all of them. */
#include "flows/ode/field.h"
#include "flows/compose.h"
#include "flows/ode/kernels.h"
#include "flows/param.h"
#include <string.h>

/* e, feature by feature k rows. */
static void draw_directions(const nf_pass *p, nfi_field *f)
{
    const size_t ld = p->ld, size = f->dim * f->k * ld;
    memset(f->e + size, 0, f->k * ld * sizeof *f->e);
    if (f->trace == NF_TRACE_EXACT) {
        for (size_t i = 0; i < size; i++)
            f->e[i] = i / (f->k * ld) == i / ld % f->k;
    } else if (f->trace == NF_TRACE_GAUSSIAN) {
        nf_noise_normal(&p->noise, f->dim * f->k, p->n, ld, f->e);
    } else {
        nf_noise_uniform(&p->noise, f->dim * f->k, p->n, ld, f->e);
        for (size_t i = 0; i < size; i++)
            f->e[i] = f->e[i] < NF_R(0.5) ? -1 : 1;
    }
}

nf_status nfi_field_begin(const nf_object *o, const nf_pass *p, nf_direction d, nfi_field *f)
{
    const nfi_continuous *c = nf_self(o);
    const size_t dim = o->own.dim_in;
    *f = (nfi_field){.net = nf_child(o, 0), .pass = nf_child_pass(o, 0, p), .flow = c, .dim = dim, .weight = 1};
    f->trace = p->mode == NF_TRAIN || c->options.score_by_probes ? c->options.trace : NF_TRACE_EXACT;
    f->k = f->trace == NF_TRACE_EXACT ? dim : c->options.probes;
    if (f->trace != NF_TRACE_EXACT)
        f->weight = 1 / (nf_real)f->k;
    const nf_real sign = d == NF_FORWARD ? 1 : -1;
    f->kinetic = sign * (nf_real)c->options.kinetic;
    f->jacobian = sign * f->weight * (nf_real)c->options.jacobian;
    f->has_penalty = c->options.kinetic > 0 || c->options.jacobian > 0;
    f->e = nf_arena_reals(p->scratch, (dim + 1) * f->k, p->ld);
    if (!f->e)
        return NF_ENOMEM;
    draw_directions(p, f);
    return NF_OK;
}

/* sums = the rate of the penalty. */
static void rate_of(const nfi_field *f, const nfi_field_point *at, nf_real *sums)
{
    const size_t ld = f->pass.ld;
    memset(sums, 0, ld * sizeof *sums);
    nfi_ode_squares(f->dim, ld, f->kinetic, at->y, sums);
    nfi_ode_squares(f->dim * f->k, ld, f->jacobian, at->dy, sums);
}

nf_status nfi_field_at(const nfi_field *f, const nf_real *u, nf_real *y, nf_real *trace, nf_real *rate, nf_arena *keep,
                       nfi_field_point *at)
{
    const size_t ld = f->pass.ld, size = f->dim * ld;
    const nf_mark mark = nf_arena_mark(f->pass.scratch);
    nf_arena *arena = at ? keep : f->pass.scratch;
    nfi_field_point here = {.u = u, .y = y, .has_trace = trace != NULL};
    nf_real *copy = at ? nf_arena_reals(arena, 2 * f->dim + 1, ld) : NULL;
    nf_pass q = f->pass;
    if (at && !copy)
        return NF_ENOMEM;
    q.tape = at || trace ? arena : NULL; /* a tangent reads what `apply` keeps on a tape */
    nf_status status = nf_net_apply(f->net, &q, u, y, &here.saved);
    if (status == NF_OK && at) {
        here.u = memcpy(copy, u, (size + ld) * sizeof *copy);
        here.y = memcpy(copy + size + ld, y, size * sizeof *copy);
    }
    if (status == NF_OK && trace) {
        q.tape = at ? arena : NULL;
        here.dy = nf_arena_reals(arena, f->dim * f->k, ld);
        status = here.dy ? nf_net_tangent(f->net, &q, u, y, here.saved, f->k, f->e, here.dy, &here.saved_tangent)
                         : NF_ENOMEM;
        if (status == NF_OK && f->trace == NF_TRACE_EXACT)
            nfi_ode_diagonal(f->dim, ld, here.dy, trace);
        else if (status == NF_OK)
            nfi_ode_trace(f->dim, f->k, ld, f->weight, f->e, here.dy, trace);
        if (status == NF_OK && rate)
            rate_of(f, &here, rate);
    }
    if (at)
        *at = here;
    else
        nf_arena_rewind(f->pass.scratch, mark);
    return status;
}

nf_status nfi_field_vjp(const nfi_field *f, const nfi_field_point *at, const nf_real *gy, const nf_real *g_trace,
                        const nf_real *g_rate, nf_real *gu, const nf_grad *g)
{
    const nf_mark mark = nf_arena_mark(f->pass.scratch);
    const size_t ld = f->pass.ld, size = f->dim * ld;
    nf_status status;
    atomic_fetch_add_explicit(&f->flow->tally->gradients, 1, memory_order_relaxed);
    if (!g_trace) {
        status = nf_net_vjp(f->net, &f->pass, at->u, at->y, at->saved, gy, gu, g);
    } else {
        nf_real *gdy = nf_arena_reals(f->pass.scratch, f->dim * f->k, ld);
        nf_real *sum = g_rate ? nf_arena_reals(f->pass.scratch, f->dim, ld) : NULL;
        status = gdy && (sum || !g_rate) ? NF_OK : NF_ENOMEM;
        if (status == NF_OK)
            nfi_ode_trace_vjp(f->dim, f->k, ld, f->weight, g_trace, f->e, gdy);
        if (status == NF_OK && g_rate) {
            gy = memcpy(sum, gy, size * sizeof *sum);
            nfi_ode_squares_vjp(f->dim, ld, f->kinetic, g_rate, at->y, sum);
            nfi_ode_squares_vjp(f->dim * f->k, ld, f->jacobian, g_rate, at->dy, gdy);
        }
        if (status == NF_OK)
            status = nf_net_tangent_vjp(f->net, &f->pass, at->u, at->y, at->saved, f->k, f->e, at->dy,
                                        at->saved_tangent, gy, gdy, gu, NULL, g);
    }
    nf_arena_rewind(f->pass.scratch, mark);
    return status;
}

static nf_real tolerance(double asked)
{
    const nf_real least = 10 * NFI_EPSILON;
    return (nf_real)asked > least ? (nf_real)asked : least;
}

nfi_ode nfi_continuous_ode(const nf_object *o, const nf_pass *p, nf_direction d)
{
    const nf_continuous_options *q = &((const nfi_continuous *)nf_self(o))->options;
    const nf_real end = (nf_real)q->end;
    return (nfi_ode){.pass = p,
                     .rule = &nfi_rules[q->solver],
                     .rtol = tolerance(q->rtol),
                     .atol = tolerance(q->atol),
                     .from = d == NF_FORWARD ? 0 : end,
                     .to = d == NF_FORWARD ? end : 0,
                     .most = nfi_rules[q->solver].adaptive ? q->max_steps : q->steps,
                     .columns = p->ld};
}

nf_status nfi_continuous_solve(const nfi_continuous *c, nfi_ode *ode, nf_real *u, nf_real *l)
{
    nfi_ode_tally *t = c->tally;
    const nf_status status = nfi_ode_solve(ode, u, l);
    atomic_fetch_add_explicit(&t->solves, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->evaluations, ode->evaluations, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->steps, ode->taken, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->rejected, ode->rejected, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->failed, ode->failed, memory_order_relaxed);
    return status;
}
