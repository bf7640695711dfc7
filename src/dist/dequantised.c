/* A distribution of whole numbers, by a density of real ones and noise that fills the gaps between them (Theis, van den
   Oord & Bethge 2016; with learnt noise: Ho et al. 2019, "Flow++"). Of x = step (k_1, ..., k_D), 0 <= k < L,

       log P(x) >= E[log p((k + u) / L) - D log L - log q(u | x)],   u ~ q(. | x) in [0, 1)^D.

   A score is this with one draw of u: an estimate of a bound, and its gradient goes through the draw. Uniform noise has
   log q = 0. A sample is the whole numbers below L v, v ~ p; its log q is its score. */
#include "base/memory.h"
#include "dist/given.h"
#include "dist/types.h"
#include "flows/compose.h"
#include "object/options.h"
#include "object/parts.h"
#include <math.h>
#include <string.h>

enum { DENSITY, NOISE };

/* What a pass leaves on the tape. */
typedef struct record {
    nf_real *numbers; /* x as noise reads it, k / L [dim x ld] */
    nf_real *u, *v;   /* [dim x ld] */
    bool *has_none;   /* [ld], samples that are no whole numbers in range */
    void *part[2];
} record;

static const nf_dequantised_options *options_of(const nf_object *o)
{
    return nf_self(o);
}

static size_t dim_of(const nf_object *o)
{
    return o->own.dim_out;
}

static record *new_record(const nf_object *o, const nf_pass *p)
{
    nf_arena *a = nfi_saving_arena(p);
    record *r = nf_arena_alloc(a, sizeof *r);
    if (!r)
        return NULL;
    *r = (record){.numbers = nf_arena_reals(a, 3 * dim_of(o), p->ld), .has_none = nf_arena_alloc(a, p->ld)};
    if (!r->numbers || !r->has_none)
        return NULL;
    r->u = r->numbers + dim_of(o) * p->ld;
    r->v = r->u + dim_of(o) * p->ld;
    return r;
}

/* Writes numbers [dim x ld] = k / L, the nearest that there are to x, and adds -infinity to the log p of samples that
   are not near. NaN stays. */
static void read_numbers(const nf_dequantised_options *q, size_t dim, size_t ld, const nf_real *x, record *r,
                         double *log_p)
{
    const double levels = (double)q->levels;
    memset(r->has_none, 0, ld * sizeof *r->has_none);
    for (size_t i = 0; i < dim * ld; i++) {
        const double k = (double)x[i] / q->step, whole = nearbyint(k);
        const bool near = fabs(k - whole) <= 0.01 && whole >= 0 && whole < levels;
        r->has_none[i % ld] |= !near;
        r->numbers[i] = (nf_real)(near || isnan(k) ? whole / levels : 0);
    }
    for (size_t s = 0; s < ld; s++)
        log_p[s] -= r->has_none[s] ? INFINITY : 0;
}

/* v = numbers + u / L. A sample whose noise is outside the cube is in another's place: its v becomes NaN. */
static void fill_gaps(size_t levels, size_t size, const nf_real *numbers, const nf_real *u, nf_real *v)
{
    for (size_t i = 0; i < size; i++)
        v[i] = u[i] >= 0 && u[i] <= 1 ? numbers[i] + u[i] / (nf_real)levels : (nf_real)NAN;
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    const nf_dequantised_options *q = options_of(o);
    const size_t dim = dim_of(o), ld = p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    record *r = new_record(o, p);
    double *log_q = nfi_zero_doubles(p->scratch, ld);
    const nf_real *ctx = NULL;
    if (r && log_q) {
        read_numbers(q, dim, ld, x, r, log_p);
        ctx = nfi_given_context(nf_child(o, NOISE), dim, ld, r->numbers, p->ctx, p->scratch);
    }
    nf_status status = ctx ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        const nf_pass c = nfi_given_pass(o, NOISE, p, ctx);
        status = nf_dist_sample(nf_child(o, NOISE), &c, r->u, log_q, &r->part[NOISE]);
    }
    if (status == NF_OK) {
        const nf_pass c = nfi_given_pass(o, DENSITY, p, p->ctx);
        fill_gaps(q->levels, dim * ld, r->numbers, r->u, r->v);
        status = nf_dist_score(nf_child(o, DENSITY), &c, r->v, log_p, &r->part[DENSITY]);
    }
    for (size_t s = 0; s < ld && status == NF_OK; s++)
        log_p[s] -= log_q[s] + (double)dim * log((double)q->levels);
    if (p->tape)
        *saved = r;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* x are whole numbers, and log p has no derivative in them: gx is 0. */
static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    (void)x;
    const record *r = saved;
    const nf_object *density = nf_child(o, DENSITY), *noise = nf_child(o, NOISE);
    const size_t dim = dim_of(o), ld = p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gv = nf_arena_reals(p->scratch, dim, ld), *g_log = nf_arena_reals(p->scratch, 1, ld);
    const nf_real *ctx = nfi_given_context(noise, dim, ld, r->numbers, p->ctx, p->scratch);
    nf_real *g_ctx = g->ctx ? nfi_zeros(p->scratch, noise->total.n_ctx + 1, ld) : NULL;
    nf_status status = gv && g_log && ctx && (g_ctx || !g->ctx) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        const nf_pass c = nfi_given_pass(o, DENSITY, p, p->ctx);
        nf_grad gc = nf_child_grad(o, DENSITY, p, g);
        gc.ctx = density->total.n_ctx ? g->ctx : NULL;
        for (size_t s = 0; s < ld; s++)
            g_log[s] = r->has_none[s] ? 0 : g_log_p[s];
        status = nf_dist_score_vjp(density, &c, r->v, r->part[DENSITY], g_log, gv, &gc);
    }
    if (status == NF_OK) {
        const nf_pass c = nfi_given_pass(o, NOISE, p, ctx);
        nf_grad gc = nf_child_grad(o, NOISE, p, g);
        gc.ctx = g_ctx;
        for (size_t i = 0; i < dim * ld; i++)
            gv[i] /= (nf_real)options_of(o)->levels;
        for (size_t s = 0; s < ld; s++)
            g_log[s] = -g_log[s];
        status = nf_dist_sample_vjp(noise, &c, r->u, r->part[NOISE], gv, g_log, &gc);
    }
    if (status == NF_OK && g_ctx)
        nfi_given_context_vjp(noise, dim, ld, g_ctx, g);
    if (gx)
        memset(gx, 0, dim * ld * sizeof *gx);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    const nf_dequantised_options *q = options_of(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_pass c = nfi_given_pass(o, DENSITY, p, p->ctx);
    c.tape = NULL;    /* whole numbers have no gradient */
    c.penalty = NULL; /* that of the score counts */
    nf_status status = nf_dist_sample(nf_child(o, DENSITY), &c, x, NULL, NULL);
    for (size_t i = 0; i < dim_of(o) * p->ld && status == NF_OK; i++) {
        const double k = floor((double)x[i] * (double)q->levels), most = (double)(q->levels - 1);
        x[i] = (nf_real)(q->step * (k < 0 ? 0 : k > most ? most : k));
    }
    if (status == NF_OK)
        status = score(o, p, x, log_q, saved);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* ---- the start ---- */

/* Draws noise for the batch of data, whose part of the model has just been initialised: b->x becomes v. */
static nf_status fill_batch(const nf_object *o, const nf_noise *noise, nf_batch *b, nf_real *theta, nf_real *state,
                            nf_arena *memory)
{
    const nf_object *part = nf_child(o, NOISE);
    const size_t dim = dim_of(o);
    record r = {.numbers = nf_arena_reals(memory, 2 * dim, b->ld), .has_none = nf_arena_alloc(memory, b->ld)};
    double *unused = nfi_zero_doubles(memory, b->ld);
    if (!r.numbers || !r.has_none || !unused)
        return NF_ENOMEM;
    r.v = r.numbers + dim * b->ld;
    read_numbers(options_of(o), dim, b->ld, b->x, &r, unused);
    nf_batch forward = {.n = b->n, .ld = b->ld, .direction = NF_FORWARD};
    forward.ctx = nfi_given_context(part, dim, b->ld, r.numbers, b->ctx, memory);
    if (!forward.ctx)
        return NF_ENOMEM;
    if (!part->total.n_ctx)
        forward.ctx = NULL;
    const nf_real *u = NULL;
    nf_status status = nf_init_child(o, NOISE, noise, &forward, theta, state);
    if (status == NF_OK)
        status = nfi_draw_child(o, NOISE, noise, &forward, theta, state, memory, &u);
    if (status == NF_OK)
        fill_gaps(options_of(o)->levels, dim * b->ld, r.numbers, u, r.v);
    b->x = r.v;
    return status;
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    const bool from_data = batch && batch->direction == NF_INVERSE;
    nf_batch b = batch ? *batch : (nf_batch){.n = 0};
    nf_arena memory = {.n_chunks = 0};
    nf_status status = from_data ? fill_batch(o, noise, &b, theta, state, &memory)
                                 : nf_init_child(o, NOISE, noise, NULL, theta, state);
    if (status == NF_OK)
        status = nf_init_child(o, DENSITY, noise, batch ? &b : NULL, theta, state);
    nfi_arena_clear(&memory);
    return status;
}

static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_SIZE, nf_dequantised_options, levels), .least = 2, .most = 65536, .help = "whole numbers"},
    {NF_OPTION(NF_OPTION_REAL, nf_dequantised_options, step), .most = 1e9,
     .help = "from one level to the next, in the units of x; 0: 1 / (levels - 1)"},
};
static const nf_dequantised_options defaults = {.levels = 256};
static const nf_option_table table =
    NF_OPTION_TABLE("nf_dequantised", nf_dequantised_options, options_of_type, &defaults);

NFI_REBUILD(dist, nf_dequantised_options,
            nf_dequantised(nfi_read_dist(r, DENSITY, NULL), nfi_read_dist(r, NOISE, NULL), q))

const nf_dist_type nfi_dequantised_type = {
    .part = {.name = "dequantised", .init = init, .start_context = nfi_given_start_context, .destroy = nfi_free},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
    .options = &table,
};

nf_dist *nf_dequantised(nf_dist *density, nf_dist *noise, const nf_dequantised_options *options)
{
    static const char who[] = "nf_dequantised";
    nf_object *const part[] = {nf_dist_object(density), nf_dist_object(noise)};
    if (!nfi_parts_given(who, 2, part, (const char *const[]){"density", "noise"}))
        return NULL;
    const nf_shape *d = &density->o.total, *u = &noise->o.total;
    nf_dequantised_options *self = nfi_calloc(1, sizeof *self);
    nf_status status = self ? nf_options_settle(&table, options, self) : NF_ENOMEM;
    size_t others = 0;
    if (status == NF_OK && d->dim_out != u->dim_out)
        status = nf_error(NF_EDIM, "%s: `density` has dimension %zu, but `noise` %zu", who, d->dim_out, u->dim_out);
    if (status == NF_OK)
        others = nfi_given_others(u, d->dim_out, d->n_ctx, who, "noise", "x", &status);
    if (status == NF_OK) {
        if (!(self->step > 0))
            self->step = 1 / (double)(self->levels - 1);
        const nf_shape own = {.dim_in = d->dim_out,
                              .dim_out = d->dim_out,
                              .n_ctx = d->n_ctx ? d->n_ctx : others,
                              .n_saved = 3 * d->dim_out,
                              .flags = NF_STOCHASTIC | NFI_WRITES_GRADIENT};
        return nf_dist_new(&nfi_dequantised_type, &own, self, part, 2);
    }
    nfi_free(self);
    nf_dist_free(density);
    nf_dist_free(noise);
    return NULL;
}
