/* The joint distribution of two parts, of which the second may depend on the first:

       q(h, z | context) = first(h | context) rest(z | h, context).

   x has the features of h, then those of z. What `rest` reads as its context is h, which is where x begins, or h and
   then the context, of which a copy is made. A model of images with several scales is such parts inside each other
   (Dinh, Sohl-Dickstein & Bengio 2017, section 3.6; with a prior that depends on h: Kingma & Dhariwal 2018). */
#include "base/memory.h"
#include "dist/given.h"
#include "dist/types.h"
#include "flows/compose.h"
#include "object/parts.h"
#include <string.h>

enum { FIRST, REST };

/* What a pass leaves on the tape. */
typedef struct record {
    void *part[2]; /* what the two saved */
} record;

static const nf_shape *shape_of(const nf_object *o, size_t part)
{
    return &nf_child(o, part)->total;
}

static nf_pass pass_of_first(const nf_object *o, const nf_pass *p)
{
    nf_pass c = nf_child_pass(o, FIRST, p);
    c.ctx = shape_of(o, FIRST)->n_ctx ? p->ctx : NULL;
    return c;
}

/* ---- draws and scores ---- */

/* Draws to `drawn`, or scores x if `drawn` is NULL. */
static nf_status draw_or_score(const nf_object *o, const nf_pass *p, nf_real *drawn, const nf_real *x, double *log_q,
                               void **saved)
{
    const nf_object *first = nf_child(o, FIRST), *rest = nf_child(o, REST);
    const size_t of_h = shape_of(o, FIRST)->dim_out * p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    record *r = nf_arena_alloc(nfi_saving_arena(p), sizeof *r);
    if (!r)
        return NF_ENOMEM;
    *r = (record){.part = {NULL, NULL}};
    nf_pass c = pass_of_first(o, p);
    nf_status status = drawn ? nf_dist_sample(first, &c, drawn, log_q, &r->part[FIRST])
                             : nf_dist_score(first, &c, x, log_q, &r->part[FIRST]);
    const nf_real *ctx =
        nfi_given_context(rest, shape_of(o, FIRST)->dim_out, p->ld, drawn ? drawn : x, p->ctx, p->scratch);
    if (!ctx)
        status = NF_ENOMEM;
    c = nfi_given_pass(o, REST, p, ctx);
    if (status == NF_OK)
        status = drawn ? nf_dist_sample(rest, &c, drawn + of_h, log_q, &r->part[REST])
                       : nf_dist_score(rest, &c, x + of_h, log_q, &r->part[REST]);
    if (p->tape)
        *saved = r;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    return draw_or_score(o, p, x, NULL, log_q, saved);
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    return draw_or_score(o, p, NULL, x, log_p, saved);
}

/* ---- gradients ---- */

/* to += from, n numbers. */
static void add(size_t n, const nf_real *from, nf_real *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* Of draws if their cotangent g_drawn is given, else of scores, to gx unless that is NULL. */
static nf_status draw_or_score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const record *r,
                                   const nf_real *g_drawn, const nf_real *g_log_q, nf_real *gx, const nf_grad *g)
{
    const nf_object *first = nf_child(o, FIRST), *rest = nf_child(o, REST);
    const size_t h = shape_of(o, FIRST)->dim_out, of_h = h * p->ld, n_ctx = shape_of(o, REST)->n_ctx;
    const bool wanted = n_ctx && (g_drawn || gx), both = wanted || (n_ctx > h && g->ctx);
    const nf_real *ctx = nfi_given_context(rest, h, p->ld, x, p->ctx, p->scratch);
    nf_real *g_ctx = both ? nfi_zeros(p->scratch, n_ctx, p->ld) : NULL;
    nf_real *gh = g_drawn ? nf_arena_reals(p->scratch, h, p->ld) : gx;
    if (!ctx || (both && !g_ctx) || (g_drawn && !gh))
        return NF_ENOMEM;
    nf_pass c = nfi_given_pass(o, REST, p, ctx);
    nf_grad gc = nf_child_grad(o, REST, p, g);
    gc.ctx = g_ctx;
    nf_status status = g_drawn
                           ? nf_dist_sample_vjp(rest, &c, x + of_h, r->part[REST], g_drawn + of_h, g_log_q, &gc)
                           : nf_dist_score_vjp(rest, &c, x + of_h, r->part[REST], g_log_q, gx ? gx + of_h : NULL, &gc);
    if (status != NF_OK)
        return status;
    if (g_ctx)
        nfi_given_context_vjp(rest, h, p->ld, g_ctx, g);
    c = pass_of_first(o, p);
    gc = nf_child_grad(o, FIRST, p, g);
    gc.ctx = shape_of(o, FIRST)->n_ctx ? g->ctx : NULL;
    if (g_drawn) {
        memcpy(gh, g_drawn, of_h * sizeof *gh);
        if (wanted)
            add(of_h, g_ctx, gh);
        return nf_dist_sample_vjp(first, &c, x, r->part[FIRST], gh, g_log_q, &gc);
    }
    status = nf_dist_score_vjp(first, &c, x, r->part[FIRST], g_log_q, gx, &gc);
    if (status == NF_OK && wanted)
        add(of_h, g_ctx, gx);
    return status;
}

static nf_status sample_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_status status = draw_or_score_vjp(o, p, x, saved, gx, g_log_q, NULL, g);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_status status = draw_or_score_vjp(o, p, x, saved, NULL, g_log_p, gx, g);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* ---- the start ---- */

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    if (!batch) {
        const nf_status status = nf_init_child(o, FIRST, noise, NULL, theta, state);
        return status == NF_OK ? nf_init_child(o, REST, noise, NULL, theta, state) : status;
    }
    nf_arena memory = {.n_chunks = 0};
    nf_batch b = *batch;
    b.ctx = shape_of(o, FIRST)->n_ctx ? batch->ctx : NULL;
    nf_status status = nf_init_child(o, FIRST, noise, &b, theta, state);
    const nf_real *h = batch->x;
    if (status == NF_OK && !h)
        status = nfi_draw_child(o, FIRST, noise, &b, theta, state, &memory, &h);
    if (status == NF_OK) {
        b.x = batch->x ? batch->x + shape_of(o, FIRST)->dim_out * b.ld : NULL;
        b.ctx = nfi_given_context(nf_child(o, REST), shape_of(o, FIRST)->dim_out, b.ld, h, batch->ctx, &memory);
        status = b.ctx ? NF_OK : NF_ENOMEM;
        if (!shape_of(o, REST)->n_ctx)
            b.ctx = NULL;
    }
    if (status == NF_OK)
        status = nf_init_child(o, REST, noise, &b, theta, state);
    nfi_arena_clear(&memory);
    return status;
}

static nf_dist *rebuild(nf_reader *r)
{
    return nf_joint(nfi_read_dist(r, FIRST, NULL), nfi_read_dist(r, REST, NULL));
}

const nf_dist_type nfi_joint_type = {
    .part = {.name = "joint", .init = init, .start_context = nfi_given_start_context},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .sample_vjp = sample_vjp,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
};

nf_dist *nf_joint(nf_dist *first, nf_dist *rest)
{
    nf_object *const part[] = {nf_dist_object(first), nf_dist_object(rest)};
    if (!nfi_parts_given("nf_joint", 2, part, (const char *const[]){"first", "rest"}))
        return NULL;
    const nf_shape *f = &first->o.total, *r = &rest->o.total;
    nf_status status;
    const size_t others = nfi_given_others(r, f->dim_out, f->n_ctx, "nf_joint", "rest", "`first`", &status);
    size_t dim;
    if (status == NF_OK && !nfi_add(f->dim_out, r->dim_out, &dim))
        status = nf_error(NF_EARG, "nf_joint: %zu and %zu features", f->dim_out, r->dim_out);
    if (status == NF_OK) {
        const nf_shape own = {.dim_in = dim,
                              .dim_out = dim,
                              .n_ctx = f->n_ctx ? f->n_ctx : others,
                              .n_saved = others ? r->n_ctx : 0,
                              .flags = NFI_WRITES_GRADIENT | (f->flags & r->flags & NF_PER_SAMPLE)};
        return nf_dist_new(&nfi_joint_type, &own, NULL, part, 2);
    }
    nf_dist_free(first);
    nf_dist_free(rest);
    return NULL;
}
