/*
 * The evidence lower bound: loss = kl_t log q(x) - beta_t log p(x), x ~ q. elbo_tile.c has the formulas.
 *
 * A thread-safe target is called once for each tile, between the tile's sampling and its gradient. A serial target
 * is called once for all draws of this process: the tiles write the draws into shared arrays, and later read the
 * answers from them. Both ways compute the same numbers in the same order. Groups of draws, whose members may be in
 * several tiles, need the shared arrays with either kind of target: between the two ways through the tiles they are
 * given their weights.
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
    e->wants_gradient = step->gradient && e->gradient != NF_GRADIENT_SCORE;
    e->gathered = false;
    const size_t end = step->first + step->n;
    if (step->first % e->group || (end % e->group && end < step->total))
        return nf_error(NF_EUNSUPPORTED, "nf_elbo: a rank has the draws %zu to %zu, which are not whole groups of %zu",
                        step->first, end - 1, e->group);
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
    nf_mark mark = nf_arena_mark(p->scratch);
    double *memory = nf_arena_alloc(p->scratch, p->n * nfi_draw_doubles(e->d, e->wants_gradient) * sizeof *memory);
    nfi_elbo_tile t;
    nf_status st = memory ? NF_OK : NF_ENOMEM;
    if (!st) {
        nfi_draws w = nfi_draws_in(memory, p->n, e->d, e->wants_gradient);
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

/* ---- serial targets and groups: all tiles are drawn, then come the gradients ---- */

/* Asks the target about n draws from the sample `first` on. */
static nf_status ask(const nfi_elbo *e, size_t first, size_t n)
{
    nfi_draws here = nfi_draws_part(&e->batch, first, NULL);
    here.grad = e->wants_gradient ? here.grad : NULL;
    return nfi_draws_ask(&here, e->target, first, n);
}

static bool is_serial(const nfi_elbo *e)
{
    return nf_target_rule(e->target) == NF_SERIAL;
}

static nf_status draw_tile(void *self, const nf_pass *p, size_t first, void **saved)
{
    const nfi_elbo *e = self;
    nfi_draws w = nfi_draws_part(&e->batch, first, p->noise.column);
    nf_mark mark = nf_arena_mark(p->scratch);
    nfi_elbo_tile *t = nf_arena_alloc(nfi_saving_arena(p), sizeof *t);
    nf_status st = t ? nfi_elbo_draw(e, p, nfi_saving_arena(p), t, &w) : NF_ENOMEM;
    *saved = p->tape ? t : NULL;
    if (!st && !some_left_out(p) && !e->gathered) { /* if it is drawn again, the answers are there */
        for (size_t s = 0; s < p->n; s++)
            w.drawn[nfi_draw_place(&w, s)] = 1;
        st = is_serial(e) ? NF_OK : ask(e, first, nfi_draw_place(&w, p->n - 1) + 1);
    }
    nf_arena_rewind(p->scratch, mark);
    return st;
}

static nf_status gather(void *self, const nf_step *step)
{
    nfi_elbo *e = self;
    const nf_status st = is_serial(e) ? ask(e, step->first, step->n) : NF_OK;
    if (!st && e->group > 1)
        nfi_groups_weigh(e, step);
    e->gathered = true;
    return st;
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
static const nf_objective_type gathered_type = {COMMON, .forward = draw_tile, .gather = gather,
                                                .backward = finish_tile};

/* Checks the options, and *n, the number of draws that they ask for. */
static nf_status check_options(const nf_elbo_options *q, size_t *n)
{
    static const nf_elbo_options defaults = {.draws = 0};
    q = q ? q : &defaults;
    const size_t group = q->importance > 1 ? q->importance : 1;
    *n = q->draws;
    if (!q->draws && group > SIZE_MAX / 2)
        return nf_error(NF_EARG, "nf_elbo: `importance` is %zu", q->importance);
    if (!q->draws)
        *n = (100 + group - 1) / group * group;
    if (nfi_check_schedule("nf_elbo", "joint", &q->joint) != NF_OK ||
        nfi_check_schedule("nf_elbo", "kl", &q->kl) != NF_OK)
        return nf_error_status();
    if ((unsigned)q->gradient > NF_GRADIENT_STL)
        return nf_error(NF_EARG, "nf_elbo: gradient is %d, not one of nf_gradient", (int)q->gradient);
    if (group > 1 && q->gradient == NF_GRADIENT_SCORE)
        return nf_error(NF_EUNSUPPORTED, "nf_elbo: groups (`importance`) have no gradient by the score");
    if (*n % group)
        return nf_error(NF_EARG, "nf_elbo: %zu draws are not whole groups of %zu (`importance`)", *n, group);
    if (!isfinite(q->alpha))
        return nf_error(NF_EARG, "nf_elbo: `alpha` is %g", q->alpha);
    if (q->alpha != 0 && group == 1)
        return nf_error(NF_EARG, "nf_elbo: `alpha` is %g, but without groups (`importance`) it has no meaning",
                        q->alpha);
    return NF_OK;
}

/* The arrays for the n draws of a step, and for groups two numbers a draw more. */
static nf_status make_batch(nfi_elbo *e, size_t n)
{
    const bool groups = e->group > 1;
    size_t count;
    if (!nfi_mul(n, nfi_draw_doubles(e->d, true) + (groups ? 2 : 0), &count))
        return nf_error(NF_ENOMEM, "nf_elbo: %zu draws in %zu dimensions do not fit in memory", n, e->d);
    e->memory = nfi_calloc(count, sizeof *e->memory);
    if (!e->memory)
        return NF_ENOMEM;
    e->batch = nfi_draws_in(e->memory, n, e->d, true);
    e->batch.drawn = nfi_calloc(n, 1);
    if (groups) {
        e->batch.pull = e->memory + count - 2 * n;
        e->batch.group_loss = e->batch.pull + n;
    }
    return e->batch.drawn ? NF_OK : NF_ENOMEM;
}

nf_objective *nf_elbo(nf_model *model, const nf_target *target, const nf_elbo_options *options)
{
    if (!model || !target) {
        nfi_missing("nf_elbo", !model ? "`model`" : "`target`");
        return NULL;
    }
    nf_object *o = nf_model_object(model);
    const nf_shape *shape = nf_object_shape(o);
    size_t d = nf_target_dim(target), n;
    if (check_options(options, &n) != NF_OK)
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
    nfi_elbo *e = nfi_calloc(1, sizeof *e);
    if (!e)
        return NULL;
    *e = (nfi_elbo){.dist = o, .target = target, .d = d, .group = 1, .beta = 1, .weight = 1};
    if (options) {
        e->joint = options->joint;
        e->kl = options->kl;
        e->gradient = options->gradient;
        e->group = options->importance > 1 ? options->importance : 1;
        e->alpha = options->alpha;
    }
    const bool gathers = is_serial(e) || e->group > 1;
    if (gathers && make_batch(e, n) != NF_OK) {
        destroy(e);
        return NULL;
    }
    return nf_objective_new(gathers ? &gathered_type : &fused_type, model, n, e);
}
