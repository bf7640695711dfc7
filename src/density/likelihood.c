/*
 * Maximum likelihood over minibatches of a data set: loss = -log q(x), or -log q(x | context), by the change of
 * variables log q(x) = log base(f^-1(x)) + log|det d f^-1/dx|. data/minibatch.c shuffles the samples; data/data.c
 * reads and binarises them. With weights w_i of mean w over all n rows, the loss of a batch of b rows is
 *
 *     -sum_i w_i log q(x_i) / (b w),   whose mean over batches is -sum_i w_i log q(x_i) / sum_i w_i over all rows.
 *
 * In training rows may be moved by noise, x + noise eps + blur (u - 1/2) with normal eps and uniform u of their own in
 * each step (likelihood_options), and the flow's penalty of row i (nf_pass.penalty), R_i, joins -log q(x_i).
 */
#include "base/memory.h"
#include "object/pack.h"
#include "object/tree.h"
#include "data/data.h"
#include "data/minibatch.h"
#include "density/rows.h"
#include <math.h>
#include <nflow/density.h>
#include <string.h>

typedef struct likelihood {
    const nf_object *dist;
    nf_minibatches *rows;
    size_t dim, n_ctx;
    const double *weight; /* [rows], or NULL */
    double mean_weight;
    nf_real noise, *blur; /* deviation of normal noise; widths of uniform noise [dim], or NULL */
} likelihood;

static double weight_of(const likelihood *l, size_t sample)
{
    return l->weight ? l->weight[nf_minibatches_row(l->rows, sample)] : 1;
}

static nf_status begin(void *self, const nf_step *step)
{
    likelihood *l = self;
    return nf_minibatches_begin(l->rows, step->seed, step->step);
}

/* Adds noise to x [dim x ld]. */
static nf_status move_rows(const likelihood *l, const nf_pass *p, nf_real *x)
{
    if (p->mode != NF_TRAIN || (l->noise <= 0 && !l->blur))
        return NF_OK;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *eps = nf_arena_reals(p->scratch, l->dim, p->ld);
    nf_noise noise = p->noise;
    if (!eps)
        return NF_ENOMEM;
    if (l->noise > 0) {
        noise.site = NFI_JITTER_SITE;
        nf_noise_normal(&noise, l->dim, p->n, p->ld, eps);
        for (size_t i = 0; i < l->dim * p->ld; i++)
            x[i] += l->noise * eps[i];
    }
    if (l->blur) {
        noise.site = NFI_BLUR_SITE;
        nf_noise_uniform(&noise, l->dim, p->n, p->ld, eps);
        for (size_t i = 0; i < l->dim * p->ld; i++)
            x[i] += l->blur[i / p->ld] * (eps[i] - NF_R(0.5));
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status score(const likelihood *l, const nf_pass *p, size_t first, nf_sums *sums, const nf_grad *g)
{
    size_t n = p->n, ld = p->ld;
    nf_real *x = nf_arena_reals(p->scratch, l->dim, ld), *ctx = NULL;
    nf_real *g_log_p = nf_arena_reals(p->scratch, 2, ld), *g_penalty = g_log_p ? g_log_p + ld : NULL;
    double *log_p = nf_arena_alloc(p->scratch, 4 * ld * sizeof *log_p);
    void *saved = NULL;
    nf_pass pass = *p;
    if (l->n_ctx)
        pass.ctx = ctx = nf_arena_reals(p->scratch, l->n_ctx, ld);
    if (!x || !g_log_p || !log_p || (l->n_ctx && !ctx))
        return NF_ENOMEM;
    memset(log_p, 0, 3 * ld * sizeof *log_p);
    double *log_det = pass.log_det_total = log_p + ld, *penalty = log_p + 2 * ld, *loss = log_p + 3 * ld;
    pass.penalty = p->mode == NF_TRAIN ? penalty : NULL;
    nf_status st = nf_minibatches_tile(l->rows, p, first, x, ctx);
    if (!st)
        st = move_rows(l, p, x);
    if (!st)
        st = nf_dist_score(l->dist, &pass, x, log_p, &saved);
    if (st)
        return st;
    for (size_t s = 0; s < n; s++)
        loss[s] = penalty[s] - log_p[s];
    if (nf_leave_out(p, loss))
        return NF_OK;
    for (size_t s = 0; s < n; s++) {
        double size = fabs(log_det[s]);
        sums->worst_log_det = size > sums->worst_log_det ? size : sums->worst_log_det;
        const size_t sample = first + (p->noise.column ? p->noise.column[s] : s);
        const double w = weight_of(l, sample);
        if (w > 0)
            nf_add_to_spread(&sums->spread, sample, loss[s]);
        sums->loss += w * loss[s];
        sums->penalty += w * penalty[s];
        sums->term[0] += w * log_p[s];
        g_log_p[s] = (nf_real)-w;
        g_penalty[s] = (nf_real)w;
    }
    nfi_pad_zero(2, n, ld, g_log_p); /* also g_penalty, which follows g_log_p */
    pass.g_penalty = g_penalty;
    return g ? nf_dist_score_vjp(l->dist, &pass, x, saved, g_log_p, NULL, g) : NF_OK;
}

static nf_status backward(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    (void)saved;
    nf_mark mark = nf_arena_mark(p->scratch);
    nf_status st = score(self, p, first, sums, g);
    nf_arena_rewind(p->scratch, mark);
    return st;
}

static double means(void *self, const nf_step *step, const nf_sums *sums, nf_step_report *report)
{
    const likelihood *l = self;
    const double divisor = ((double)step->total - sums->failed) * l->mean_weight;
    report->loss = sums->loss / divisor;
    report->term[0] = sums->term[0] / divisor;
    report->penalty = sums->penalty / divisor;
    report->worst_row = nf_minibatches_row(l->rows, report->worst_row);
    return divisor;
}

static void destroy(void *self)
{
    likelihood *l = self;
    nf_minibatches_free(l->rows);
    nfi_free(l->blur);
    nfi_free(l);
}

static const nf_objective_type likelihood_type = {.name = "maximum likelihood",
                                                  .abi = sizeof(nf_objective_type),
                                                  .terms = {"log_p"},
                                                  .begin = begin,
                                                  .backward = backward,
                                                  .destroy = destroy,
                                                  .means = means,
                                                  .internal = NFI_HANDS_GRADIENT_ON};

/* Checks the noise and takes it over. */
static nf_status take_noise(likelihood *l, const nf_likelihood_options *options, const char *who)
{
    const double *blur = options->blur;
    if (!(options->noise >= 0) || !isfinite(options->noise))
        return nf_error(NF_EARG, "%s: `options->noise` is %g, but is a deviation", who, options->noise);
    l->noise = (nf_real)options->noise;
    l->blur = blur ? nfi_calloc(l->dim, sizeof *l->blur) : NULL;
    if (blur && !l->blur)
        return NF_ENOMEM;
    for (size_t j = 0; blur && j < l->dim; j++) {
        if (!(blur[j] >= 0) || !isfinite(blur[j]))
            return nf_error(NF_EARG, "%s: `options->blur[%zu]` is %g, but is a width", who, j, blur[j]);
        l->blur[j] = (nf_real)blur[j];
    }
    return NF_OK;
}

nf_objective *nf_maximum_likelihood(nf_model *model, const nf_data *data, const nf_likelihood_options *options)
{
    const char *who = "nf_maximum_likelihood";
    const nf_object *o = nfi_density_model(model, data, who);
    likelihood *l = o ? nfi_calloc(1, sizeof *l) : NULL;
    if (!l)
        return NULL;
    *l = (likelihood){.dist = o, .dim = data->dim, .n_ctx = data->n_ctx};
    l->rows = nfi_minibatches_new(data, options && options->batch ? options->batch : 100, who);
    l->weight = l->rows ? data->weight : NULL;
    l->mean_weight = l->rows ? nfi_mean_weight(data, who) : -1;
    if (l->mean_weight < 0 || (options && take_noise(l, options, who) != NF_OK)) {
        destroy(l);
        return NULL;
    }
    return nf_objective_new(&likelihood_type, model, nf_minibatches_batch(l->rows), l);
}
