/*
 * The evidence lower bound with the reparameterised gradient (Kingma & Welling 2014; Rezende & Mohamed 2015, eq. 15,
 * 20). With x = x(theta, noise) ~ q and the weights beta_t of the joint and w_t of the entropy,
 *
 *     loss = w_t log q(x) - beta_t log p(x),
 *     d loss / d theta = (-beta_t grad log p(x))^T dx/d theta + w_t d log q / d theta    with the noise held.
 *
 * A distribution that stratifies (a mixture) gives weighted samples, E[weight f(x)] = E_q[f]. The loss is then
 * weight (w_t log q - beta_t log p), and its derivative in log weight is the loss itself.
 *
 * A thread-safe target is called once for each tile, between the tile's sampling and its gradient. A serial target
 * is called once for all draws of this process: the tiles write the draws into shared arrays, and later read the
 * answers from them. Both ways compute the same numbers in the same order.
 *
 * A draw is left out if its log q is not finite, or if the target gives no finite log p or gradient for it.
 */
#include "object/live.h"
#include "object/pack.h"
#include "fit/schedule.h"
#include "base/memory.h"
#include "math/rows.h"
#include "object/tree.h"
#include "vi/draws.h"
#include <math.h>
#include <nflow/vi.h>
#include <string.h>

typedef struct elbo {
    const nf_object *dist;
    const nf_target *target;
    size_t d;
    nf_schedule joint, kl;
    double beta, weight; /* the values of the two schedules in this step */
    nfi_draws batch;     /* only for serial targets */
    double *memory;      /* the memory that the arrays of `batch` are in */
} elbo;

/* What is kept of a tile until its gradient is computed. */
typedef struct tile {
    nf_real *x; /* [d x ld] */
    void *saved;
} tile;

enum { LOG_Q, LOG_P };

static nf_status begin(void *self, const nf_step *step)
{
    elbo *e = self;
    e->beta = nf_schedule_value(&e->joint, step->step);
    e->weight = nf_schedule_value(&e->kl, step->step);
    if (e->batch.drawn)
        memset(e->batch.drawn + step->first, 0, step->n);
    nfi_target_step(e->target);
    return NF_OK;
}

/* Samples a tile. *t receives x and what the gradient needs, in memory of `keep`. If no draw has failed (see
   p->failed), `to` receives x, log q, log-dets and weights. */
static nf_status draw(const elbo *e, const nf_pass *p, nf_arena *keep, tile *t, const nfi_draws *to)
{
    size_t d = e->d, n = p->n, ld = p->ld;
    t->saved = NULL;
    t->x = nf_arena_reals(keep, d, ld);
    nf_mark mark = nf_arena_mark(p->scratch);
    double *log_q = nf_arena_alloc(p->scratch, 3 * ld * sizeof *log_q);
    if (!t->x || !log_q)
        return NF_ENOMEM;
    memset(log_q, 0, 3 * ld * sizeof *log_q);
    nf_pass pass = *p;
    double *log_weight = pass.log_weight = log_q + 2 * ld;
    pass.log_det_total = log_q + ld;
    nf_status st = nf_dist_sample(e->dist, &pass, t->x, log_q, &t->saved);
    if (!st && !nf_leave_out(p, log_q)) {
        for (size_t s = 0; s < n; s++) {
            const size_t i = nfi_draw_place(to, s);
            to->log_q[i] = log_q[s];
            to->log_det[i] = log_q[ld + s];
            to->weight[i] = log_weight[s] == 0 ? 1 : exp(log_weight[s]);
        }
        for (size_t r = 0; r < d; r++)
            for (size_t s = 0; s < n; s++)
                to->x[nfi_draw_place(to, s) * d + r] = (double)t->x[r * ld + s];
    }
    nf_arena_rewind(p->scratch, mark);
    return st;
}

/* loss [n]: the loss of each draw, 0 for a rejected one. */
static void losses(const elbo *e, size_t n, const nfi_draws *w, double *loss)
{
    for (size_t s = 0; s < n; s++) {
        const size_t i = nfi_draw_place(w, s);
        loss[s] = w->rejected[i] ? 0 : w->weight[i] * (e->weight * w->log_q[i] - e->beta * w->log_p[i]);
    }
}

/* The gradient of a tile's loss in x, log q and log weight: gx [d x ld], the others [ld]. Rejected draws have
   zeros. */
static void cotangents(const elbo *e, size_t n, size_t ld, const nfi_draws *w, const double *loss, nf_real *gx,
                       nf_real *g_log_q, nf_real *g_log_weight)
{
    const size_t d = e->d;
    for (size_t s = 0; s < n; s++) {
        const size_t i = nfi_draw_place(w, s);
        g_log_q[s] = w->rejected[i] ? 0 : (nf_real)(w->weight[i] * e->weight);
        g_log_weight[s] = (nf_real)loss[s];
    }
    for (size_t r = 0; r < d; r++) /* the target's gradient of a rejected draw is 0 already */
        for (size_t s = 0; s < n; s++) {
            const size_t i = nfi_draw_place(w, s);
            gx[r * ld + s] = (nf_real)(-e->beta * w->weight[i] * w->grad[i * d + r]);
        }
    nfi_pad_zero(d + 2, n, ld, gx); /* also g_log_q and g_log_weight, which follow gx */
}

static void add_up(size_t n, const nfi_draws *w, const double *loss, nf_sums *sums)
{
    for (size_t s = 0; s < n; s++) {
        const size_t i = nfi_draw_place(w, s);
        double size = fabs(w->log_det[i]);
        sums->worst_log_det = size > sums->worst_log_det ? size : sums->worst_log_det;
        if (w->rejected[i]) {
            sums->rejected++;
            continue;
        }
        sums->loss += loss[s];
        sums->term[LOG_Q] += w->weight[i] * w->log_q[i];
        sums->term[LOG_P] += w->weight[i] * w->log_p[i];
    }
}

/* Whether every draw has a finite loss and, if gx is given, a finite gradient. Draws that do not are left out. value
   [n] is memory to compute with. */
static bool all_finite(const elbo *e, const nf_pass *p, const double *loss, const nf_real *gx, double *value)
{
    nf_real mark[NFI_WIDEST];
    memset(mark, 0, p->ld * sizeof *mark);
    if (gx)
        nfi_mark_not_finite(e->d, p->ld, gx, mark);
    for (size_t s = 0; s < p->n; s++)
        value[s] = loss[s] + (double)mark[s];
    return !nf_leave_out(p, value);
}

/* Computes a tile's sums and gradient from the target's answers. */
static nf_status finish(const elbo *e, const nf_pass *p, const tile *t, const nfi_draws *w, nf_sums *sums,
                        const nf_grad *g)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    double *loss = nf_arena_alloc(p->scratch, 2 * p->ld * sizeof *loss);
    nf_real *gx = g ? nf_arena_reals(p->scratch, e->d + 2, p->ld) : NULL;
    nf_real *g_log_q = gx ? gx + e->d * p->ld : NULL, *g_log_weight = gx ? g_log_q + p->ld : NULL;
    nf_status st = loss && (!g || gx) ? NF_OK : NF_ENOMEM;
    if (!st)
        losses(e, p->n, w, loss);
    if (!st && g)
        cotangents(e, p->n, p->ld, w, loss, gx, g_log_q, g_log_weight);
    if (!st && all_finite(e, p, loss, gx, loss + p->ld)) {
        nf_pass pass = *p;
        pass.g_log_weight = g_log_weight;
        add_up(p->n, w, loss, sums);
        if (g)
            st = nf_dist_sample_vjp(e->dist, &pass, t->x, t->saved, gx, g_log_q, g);
    }
    nf_arena_rewind(p->scratch, mark);
    return st;
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
    const elbo *e = self;
    nf_mark mark = nf_arena_mark(p->scratch);
    double *memory = nf_arena_alloc(p->scratch, p->n * nfi_draw_doubles(e->d, g) * sizeof *memory);
    tile t;
    nf_status st = memory ? NF_OK : NF_ENOMEM;
    if (!st) {
        nfi_draws w = nfi_draws_in(memory, p->n, e->d, g);
        st = draw(e, p, p->scratch, &t, &w);
        if (!st && !some_left_out(p)) {
            st = nfi_target_draws(e->target, first, p->n, w.x, w.log_p, w.grad, w.rejected);
            if (!st)
                st = finish(e, p, &t, &w, sums, g);
        }
    }
    nf_arena_rewind(p->scratch, mark);
    return st;
}

/* ---- serial targets: all tiles are drawn, the target is asked once, then come the gradients ---- */

static nf_status draw_tile(void *self, const nf_pass *p, size_t first, void **saved)
{
    const elbo *e = self;
    nfi_draws w = nfi_draws_part(&e->batch, first, p->noise.column);
    nf_mark mark = nf_arena_mark(p->scratch);
    tile *t = nf_arena_alloc(nfi_saving_arena(p), sizeof *t);
    nf_status st = t ? draw(e, p, nfi_saving_arena(p), t, &w) : NF_ENOMEM;
    *saved = p->tape ? t : NULL;
    if (!st && !some_left_out(p))
        for (size_t s = 0; s < p->n; s++)
            w.drawn[nfi_draw_place(&w, s)] = 1;
    nf_arena_rewind(p->scratch, mark);
    return st;
}

static nf_status ask(void *self, const nf_step *step)
{
    const elbo *e = self;
    nfi_draws here = nfi_draws_part(&e->batch, step->first, NULL);
    here.grad = step->gradient ? here.grad : NULL;
    return nfi_draws_ask(&here, e->target, step->first, step->n);
}

static nf_status finish_tile(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    const elbo *e = self;
    nfi_draws w = nfi_draws_part(&e->batch, first, p->noise.column);
    return finish(e, p, saved, &w, sums, g);
}

static void destroy(void *self)
{
    elbo *e = self;
    nfi_free(e->memory);
    nfi_free(e->batch.drawn);
    nfi_free(e);
}

#define COMMON                                                                                                         \
    .name = "elbo", .abi = sizeof(nf_objective_type), .terms = {[LOG_Q] = "log_q", [LOG_P] = "log_p"}, .begin = begin, \
    .destroy = destroy, .internal = NFI_HANDS_GRADIENT_ON
static const nf_objective_type fused_type = {COMMON, .backward = fused};
static const nf_objective_type serial_type = {COMMON, .forward = draw_tile, .gather = ask, .backward = finish_tile};

nf_objective *nf_elbo(nf_model *model, const nf_target *target, const nf_elbo_options *options)
{
    if (!model || !target) {
        nf_error(NF_EARG, "nf_elbo: %s is NULL", !model ? "model" : "target");
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
        nf_error(NF_EDIM, "nf_elbo: the model reads a context of %zu rows, but must read 0", shape->n_ctx);
        return NULL;
    }
    bool serial = nf_target_rule(target) == NF_SERIAL;
    if (serial && !nfi_mul(n, nfi_draw_doubles(d, true), &count)) {
        nf_error(NF_ENOMEM, "nf_elbo: %zu draws in %zu dimensions do not fit in memory", n, d);
        return NULL;
    }
    elbo *e = nfi_calloc(1, sizeof *e);
    if (!e)
        return NULL;
    *e = (elbo){.dist = o, .target = target, .d = d, .beta = 1, .weight = 1};
    if (options) {
        e->joint = options->joint;
        e->kl = options->kl;
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
