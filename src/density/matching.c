/*
 * Flow matching on conditional optimal-transport paths (Lipman, Chen, Ben-Hamu, Nickel & Le 2023, section 4.1; Tong et
 * al. 2024): the field f of a continuous flow is trained by regression, without solving. For a draw x0 of the base, a
 * row x1 of the data and the share a of the way, uniform in [0, 1],
 *
 *     loss = |f(z, t) - v|^2,   z = (1 - (1 - s_min) a) x0 + a x1,   v = dz/dt = (x1 - (1 - s_min) x0) / T,   t = a T.
 *
 * Under an inverse the flow's own time runs the other way: t = (1 - a) T, and v has the other sign.
 *
 * With optimal coupling the whole batch is drawn and paired when a step begins (pairs.c), by one thread and, where
 * several ranks make a step, by each of them. Its draws have the same names there as they have in a tile.
 *
 * Sample i of a batch of n has a = (k_i + u_i) / n, with a random permutation k and a uniform u_i in (0, 1).
 */
#include "base/memory.h"
#include "object/options.h"
#include "object/pack.h"
#include "object/tree.h"
#include "math/noise.h"
#include "flows/ode/field.h"
#include "model/batch.h"
#include "data/data.h"
#include "data/minibatch.h"
#include "density/matching.h"
#include "density/pairs.h"
#include "density/rows.h"
#include "density/stages.h"
#include <nflow/density.h>
#include <string.h>

enum { MOST_PAIRS = 4096 };

typedef struct matching {
    nf_model *model;
    nfi_stages stages;
    nf_minibatches *rows;
    nfi_permutation order; /* of the step's times */
    size_t dim;            /* features of the field */
    size_t dim_data, n_ctx;
    nf_real left, end; /* 1 - s_min, T */
    const double *weight;
    double mean_weight;
    bool paired;       /* optimal coupling */
    nfi_pairs pairs;   /* of the step */
    nfi_thread memory; /* in which the step's draws and rows are made */
} matching;

static double weight_of(const matching *m, size_t sample)
{
    return m->weight ? m->weight[nf_minibatches_row(m->rows, sample)] : 1;
}

/* The ends of the paths of a tile's samples, x0 and x1 [dim x ld], and their contexts, ctx [n_ctx x ld]. */
static nf_status ends(const matching *m, const nf_pass *p, size_t first, nf_real *ctx, nf_real *x0, nf_real *x1)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_pass root = *p;
    root.ctx = ctx;
    nf_real *x = nf_arena_reals(p->scratch, m->dim_data, p->ld);
    nf_status status = x ? nf_minibatches_tile(m->rows, p, first, x, ctx) : NF_ENOMEM;
    if (status == NF_OK)
        status = nfi_stages_take_back(&m->stages, &root, x, x1);
    nf_arena_rewind(p->scratch, mark);
    return status == NF_OK ? nfi_stages_draw(&m->stages, &root, x0) : status;
}

/* Pairs the draws and rows of a step. */
static nf_status pair(matching *m, const nf_step *step)
{
    const nfi_tiling tiling = nfi_tile_batch(m->pairs.n, 0);
    const nf_noise noise = {.seed = step->seed, .step = step->step};
    nf_status status = NF_OK;
    for (size_t i = 0; i < tiling.n_tiles && status == NF_OK; i++) {
        const size_t first = nfi_tile_first(&tiling, i), n = nfi_tile_first(&tiling, i + 1) - first;
        nf_pass p = nfi_model_pass(m->model, &m->memory, &noise, first, n, tiling.ld, NF_EVAL, false);
        const nf_mark mark = nf_arena_mark(p.scratch);
        nf_real *x0 = nf_arena_reals(p.scratch, m->dim, p.ld), *x1 = nf_arena_reals(p.scratch, m->dim, p.ld);
        status = x0 && x1 ? ends(m, &p, first, NULL, x0, x1) : NF_ENOMEM;
        if (status == NF_OK)
            nfi_pairs_put(&m->pairs, first, n, p.ld, x0, x1);
        nf_arena_rewind(p.scratch, mark);
    }
    if (status == NF_OK)
        nfi_pairs_solve(&m->pairs);
    return status;
}

static nf_status begin(void *self, const nf_step *step)
{
    matching *m = self;
    m->order = nfi_permutation_named(&(nf_noise){.seed = step->seed, .step = step->step, .site = NFI_TIME_SITE},
                                     nf_minibatches_batch(m->rows));
    const nf_status status = nf_minibatches_begin(m->rows, step->seed, step->step);
    return status == NF_OK && m->paired ? pair(m, step) : status;
}

/* The shares of the way a [ld] and, in the field's own time, t [ld]. */
static void times(const matching *m, const nf_pass *p, size_t first, nf_real *a, nf_real *t)
{
    const bool backward = m->stages.stage[m->stages.field].d == NF_INVERSE;
    const double n = (double)nf_minibatches_batch(m->rows);
    nf_noise noise = p->noise;
    noise.site = NFI_TIME_SITE;
    nf_noise_uniform(&noise, 1, p->n, p->ld, a);
    for (size_t s = 0; s < p->n; s++)
        a[s] = (nf_real)(((double)nfi_permuted(&m->order, nfi_sample_left(p, first, s)) + (double)a[s]) / n);
    nfi_pad(1, p->n, p->ld, a);
    for (size_t s = 0; s < p->ld; s++)
        t[s] = m->end * (backward ? 1 - a[s] : a[s]);
}

/* What one tile works on, all on scratch. */
typedef struct tile {
    nf_real *ctx, *x0, *x1, *u, *a, *v, *f, *w;
    double *loss, *square;
} tile;

static bool new_tile(const matching *m, const nf_pass *p, tile *t)
{
    const size_t dim = m->dim;
    t->ctx = m->n_ctx ? nf_arena_reals(p->scratch, m->n_ctx, p->ld) : NULL;
    nf_real *all = nf_arena_reals(p->scratch, 5 * dim + 3, p->ld);
    t->loss = nf_arena_alloc(p->scratch, 2 * p->ld * sizeof *t->loss);
    if (!all || !t->loss || (m->n_ctx && !t->ctx))
        return false;
    t->x0 = all;
    t->x1 = t->x0 + dim * p->ld;
    t->v = t->x1 + dim * p->ld;
    t->f = t->v + dim * p->ld;
    t->u = t->f + dim * p->ld; /* dim + 1 features, of which the last one is the time */
    t->a = t->u + (dim + 1) * p->ld;
    t->w = t->a + p->ld;
    t->square = t->loss + p->ld;
    return true;
}

static nf_status tile_loss(const matching *m, const nf_pass *p, size_t first, nf_sums *sums, const nf_grad *g)
{
    const nfi_stage *field = &m->stages.stage[m->stages.field];
    const nf_real speed = (field->d == NF_FORWARD ? 1 : -1) / m->end;
    nf_pass root = *p;
    tile t;
    if (!new_tile(m, p, &t))
        return NF_ENOMEM;
    root.ctx = t.ctx;
    nf_status status = NF_OK;
    if (m->paired)
        nfi_pairs_take(&m->pairs, p, first, t.x0, t.x1);
    else
        status = ends(m, p, first, t.ctx, t.x0, t.x1);
    if (status != NF_OK)
        return status;
    times(m, p, first, t.a, t.u + m->dim * p->ld);
    nfi_matching_path(m->dim, p->ld, m->left, speed, t.a, t.x0, t.x1, t.u, t.v);
    const nf_pass flow = nfi_stage_pass(field, &root), q = nf_child_pass(field->o, 0, &flow);
    void *saved = NULL;
    status = nf_net_apply(nf_child(field->o, 0), &q, t.u, t.f, &saved);
    if (status != NF_OK)
        return status;
    nfi_matching_loss(m->dim, p->ld, t.f, t.v, t.loss, t.square);
    if (nf_leave_out(p, t.loss))
        return NF_OK;
    for (size_t s = 0; s < p->n; s++) {
        const double w = weight_of(m, nfi_sample_left(p, first, s));
        sums->loss += w * t.loss[s];
        sums->term[0] += w * t.square[s];
        t.w[s] = (nf_real)w;
    }
    if (!g)
        return NF_OK;
    nfi_pad_zero(1, p->n, p->ld, t.w);
    nfi_matching_gradient(m->dim, p->ld, t.w, t.f, t.v, t.x0);
    const nf_grad of_flow = nfi_stage_grad(field, g), of_net = nf_child_grad(field->o, 0, &flow, &of_flow);
    return nf_net_vjp(nf_child(field->o, 0), &q, t.u, t.f, saved, t.x0, NULL, &of_net);
}

static nf_status backward(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    (void)saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_status status = tile_loss(self, p, first, sums, g);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static double means(void *self, const nf_step *step, const nf_sums *sums, nf_step_report *report)
{
    const matching *m = self;
    const double divisor = ((double)step->total - sums->failed) * m->mean_weight;
    report->loss = sums->loss / divisor;
    report->term[0] = sums->term[0] / divisor;
    return divisor;
}

static void destroy(void *self)
{
    matching *m = self;
    nf_minibatches_free(m->rows);
    nfi_stages_free(&m->stages);
    nfi_pairs_end(&m->pairs);
    nfi_arena_clear(&m->memory.tape);
    nfi_arena_clear(&m->memory.scratch);
    nfi_free(m);
}

static const nf_objective_type matching_type = {.name = "flow matching",
                                                .abi = sizeof(nf_objective_type),
                                                .terms = {"velocity"},
                                                .begin = begin,
                                                .backward = backward,
                                                .destroy = destroy,
                                                .means = means};

static const char *const couplings[] = {[NF_COUPLING_INDEPENDENT] = "independent", [NF_COUPLING_OPTIMAL] = "optimal"};
static const nf_choices coupling_choices = NFI_CHOICES("coupling", couplings);
static const nf_option options_of_matching[] = {
    {NF_OPTION(NF_OPTION_SIZE, nf_matching_options, batch), .least = 1, .help = "rows a step"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_matching_options, coupling), .choices = &coupling_choices,
     .help = "of draws and rows"},
    {NF_OPTION(NF_OPTION_REAL, nf_matching_options, s_min), .most = 1, .flags = NF_OPTION_BELOW,
     .help = "what is left of a draw"},
};
static const nf_matching_options defaults = {.batch = 100};
static const nf_option_table table =
    NF_OPTION_TABLE("nf_flow_matching", nf_matching_options, options_of_matching, &defaults);

/* Prepares optimal coupling, if the data allow it. */
static nf_status begin_pairs(matching *m)
{
    const char *who = table.function;
    const size_t n = nf_minibatches_batch(m->rows);
    if (m->n_ctx || m->weight)
        return nf_error(NF_EUNSUPPORTED,
                        "%s: with %s, optimal coupling would give single rows draws that are not distributed like the "
                        "base; take NF_COUPLING_INDEPENDENT",
                        who, m->n_ctx ? "contexts" : "weights");
    if (n > MOST_PAIRS)
        return nf_error(NF_EARG, "%s: a batch has %zu rows, but optimal coupling takes at most %d", who, n, MOST_PAIRS);
    m->paired = true;
    return nfi_pairs_begin(&m->pairs, n, m->dim);
}

/* Checks the data, finds the continuous flow, and allocates what a step needs. */
static nf_status fill(matching *m, const nf_object *dist, const nf_data *data, const nf_matching_options *q)
{
    const char *who = table.function;
    nf_status status = nfi_stages_of(dist, who, &m->stages);
    if (status != NF_OK)
        return status;
    const nf_object *flow = m->stages.stage[m->stages.field].o;
    m->dim = flow->own.dim_in;
    m->end = (nf_real)((const nfi_continuous *)nf_self(flow))->options.end;
    m->left = (nf_real)(1 - q->s_min);
    m->dim_data = data->dim;
    m->n_ctx = data->n_ctx;
    m->weight = data->weight;
    m->rows = nfi_minibatches_new(data, q->batch, who);
    m->mean_weight = m->rows ? nfi_mean_weight(data, who) : -1;
    if (m->mean_weight < 0)
        return nf_error_status();
    return q->coupling == NF_COUPLING_OPTIMAL ? begin_pairs(m) : NF_OK;
}

nf_objective *nf_flow_matching(nf_model *model, const nf_data *data, const nf_matching_options *options)
{
    nf_matching_options q;
    const nf_object *dist = nfi_density_model(model, data, table.function);
    if (!dist || nf_options_settle(&table, options, &q) != NF_OK)
        return NULL;
    matching *m = nfi_calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->model = model;
    if (fill(m, dist, data, &q) != NF_OK) {
        destroy(m);
        return NULL;
    }
    return nf_objective_new(&matching_type, model, nf_minibatches_batch(m->rows), m);
}
