/*
 * The evidence lower bound: loss = kl_t log q(x) - beta_t log p(x), x ~ q. elbo_tile.c has the formulas.
 *
 * A thread-safe target is called once for each tile, between the tile's sampling and its gradient. A serial target
 * is called once for all draws of this process: the tiles write the draws into shared arrays, and later read the
 * answers from them. Both ways compute the same numbers in the same order.
 *
 * A draw is left out if its log q is not finite, or if the target gives log p = +infinity or no finite gradient.
 */
#include "object/live.h"
#include "object/pack.h"
#include "fit/schedule.h"
#include "base/memory.h"
#include "math/rows.h"
#include "object/tree.h"
#include "vi/elbo.h"
#include <math.h>
#include <string.h>

static nf_status begin(void *self, const nf_step *step)
{
    nfi_elbo *e = self;
    e->beta = nf_schedule_value(&e->joint, step->step);
    e->weight = nf_schedule_value(&e->kl, step->step);
    if (e->batch.drawn)
        memset(e->batch.drawn + step->first, 0, step->n);
    nfi_target_step(e->target);
    return NF_OK;
}

/* Whether a hook has left samples out, so that it will be called again. */
static bool some_left_out(const nf_pass *p)
{
    return p->failed && memchr(p->failed, 1, p->n);
}

/* ---- thread-safe targets: a tile is drawn, asked about and finished in one call ---- */

static nf_status fused(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    (void)saved;
    const nfi_elbo *e = self;
    const bool gradient = g && e->gradient != NF_GRADIENT_SCORE; /* the target's gradient is wanted */
    nf_mark mark = nf_arena_mark(p->scratch);
    double *memory = nf_arena_alloc(p->scratch, p->n * nfi_draw_doubles(e->d, gradient) * sizeof *memory);
    nfi_elbo_tile t;
    nf_status st = memory ? NF_OK : NF_ENOMEM;
    if (!st) {
        nfi_draws w = nfi_draws_in(memory, p->n, e->d, gradient);
        st = nfi_elbo_draw(e, p, p->scratch, &t, &w);
        if (!st && !some_left_out(p)) {
            st = nfi_target_draws(e->target, first, p->n, w.x, w.log_p, w.grad, w.rejected);
            if (!st)
                st = nfi_elbo_finish(e, p, &t, &w, sums, g);
        }
    }
    nf_arena_rewind(p->scratch, mark);
    return st;
}

/* ---- serial targets: all tiles are drawn, the target is asked once, then come the gradients ---- */

static nf_status draw_tile(void *self, const nf_pass *p, size_t first, void **saved)
{
    const nfi_elbo *e = self;
    nfi_draws w = nfi_draws_part(&e->batch, first, p->noise.column);
    nf_mark mark = nf_arena_mark(p->scratch);
    nfi_elbo_tile *t = nf_arena_alloc(nfi_saving_arena(p), sizeof *t);
    nf_status st = t ? nfi_elbo_draw(e, p, nfi_saving_arena(p), t, &w) : NF_ENOMEM;
    *saved = p->tape ? t : NULL;
    if (!st && !some_left_out(p))
        for (size_t s = 0; s < p->n; s++)
            w.drawn[nfi_draw_place(&w, s)] = 1;
    nf_arena_rewind(p->scratch, mark);
    return st;
}

static nf_status ask(void *self, const nf_step *step)
{
    const nfi_elbo *e = self;
    nfi_draws here = nfi_draws_part(&e->batch, step->first, NULL);
    here.grad = step->gradient && e->gradient != NF_GRADIENT_SCORE ? here.grad : NULL;
    return nfi_draws_ask(&here, e->target, step->first, step->n);
}

static nf_status finish_tile(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    const nfi_elbo *e = self;
    nfi_draws w = nfi_draws_part(&e->batch, first, p->noise.column);
    return nfi_elbo_finish(e, p, saved, &w, sums, g);
}

static const char *explain(void *self)
{
    return nf_target_rejection(((const nfi_elbo *)self)->target);
}

static void destroy(void *self)
{
    nfi_elbo *e = self;
    nfi_free(e->memory);
    nfi_free(e->batch.drawn);
    nfi_free(e);
}

#define COMMON                                                                                                     \
    .name = "elbo", .abi = sizeof(nf_objective_type), .terms = {"log_q", "log_p", "log_accepted"}, .begin = begin, \
    .destroy = destroy, .internal = NFI_HANDS_GRADIENT_ON, .means = nfi_elbo_means, .explain = explain
static const nf_objective_type fused_type = {COMMON, .backward = fused};
static const nf_objective_type serial_type = {COMMON, .forward = draw_tile, .gather = ask, .backward = finish_tile};

nf_objective *nf_elbo(nf_model *model, const nf_target *target, const nf_elbo_options *options)
{
    if (!model || !target) {
        nfi_missing("nf_elbo", !model ? "`model`" : "`target`");
        return NULL;
    }
    nf_object *o = nf_model_object(model);
    const nf_shape *shape = nf_object_shape(o);
    size_t d = nf_target_dim(target), n = options && options->draws ? options->draws : 100, count;
    if (options && (nfi_check_schedule("nf_elbo", "joint", &options->joint) != NF_OK ||
                    nfi_check_schedule("nf_elbo", "kl", &options->kl) != NF_OK))
        return NULL;
    if (!nfi_as_dist(o)) {
        nf_error(NF_EARG, "nf_elbo: the model is of `%s`, not of a distribution", nf_object_name(o));
        return NULL;
    }
    if (shape->dim_out != d) {
        nf_error(NF_EDIM, "nf_elbo: the model has %zu dimensions, but the target %zu", shape->dim_out, d);
        return NULL;
    }
    if (shape->n_ctx != 0) {
        nf_error(NF_EDIM, "nf_elbo: the model reads a context of %zu features, but must read 0", shape->n_ctx);
        return NULL;
    }
    if (options && (unsigned)options->gradient > NF_GRADIENT_STL) {
        nf_error(NF_EARG, "nf_elbo: gradient is %d, not one of nf_gradient", (int)options->gradient);
        return NULL;
    }
    bool serial = nf_target_rule(target) == NF_SERIAL;
    if (serial && !nfi_mul(n, nfi_draw_doubles(d, true), &count)) {
        nf_error(NF_ENOMEM, "nf_elbo: %zu draws in %zu dimensions do not fit in memory", n, d);
        return NULL;
    }
    nfi_elbo *e = nfi_calloc(1, sizeof *e);
    if (!e)
        return NULL;
    *e = (nfi_elbo){.dist = o, .target = target, .d = d, .beta = 1, .weight = 1};
    if (options) {
        e->joint = options->joint;
        e->kl = options->kl;
        e->gradient = options->gradient;
    }
    if (serial) {
        e->memory = nfi_calloc(count, sizeof *e->memory);
        if (e->memory)
            e->batch = nfi_draws_in(e->memory, n, d, true);
        e->batch.drawn = nfi_calloc(n, 1);
        if (!e->memory || !e->batch.drawn) {
            destroy(e);
            return NULL;
        }
    }
    return nf_objective_new(serial ? &serial_type : &fused_type, model, n, e);
}
