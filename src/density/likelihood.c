/*
 * Maximum likelihood over minibatches of a data set: loss = -log q(x), or -log q(x | context), by the change of
 * variables log q(x) = log base(f^-1(x)) + log|det d f^-1/dx|. data/minibatch.c shuffles the samples; data/data.c
 * reads and binarises them.
 */
#include "base/memory.h"
#include "object/tree.h"
#include "data/minibatch.h"
#include <math.h>
#include <nflow/density.h>
#include <string.h>

typedef struct likelihood {
    const nf_object *dist;
    nf_minibatches *rows;
    size_t dim, n_ctx;
} likelihood;

static nf_status begin(void *self, const nf_step *step)
{
    likelihood *l = self;
    return nf_minibatches_begin(l->rows, step->seed, step->step);
}

static nf_status score(const likelihood *l, const nf_pass *p, size_t first, nf_sums *sums, const nf_grad *g)
{
    size_t n = p->n, ld = p->ld;
    nf_real *x = nf_arena_reals(p->scratch, l->dim, ld), *ctx = NULL;
    nf_real *g_log_p = nf_arena_reals(p->scratch, 1, ld);
    double *log_p = nf_arena_alloc(p->scratch, 2 * ld * sizeof *log_p);
    void *saved = NULL;
    nf_pass pass = *p;
    if (l->n_ctx)
        pass.ctx = ctx = nf_arena_reals(p->scratch, l->n_ctx, ld);
    if (!x || !g_log_p || !log_p || (l->n_ctx && !ctx))
        return NF_ENOMEM;
    memset(log_p, 0, 2 * ld * sizeof *log_p);
    double *log_det = pass.log_det_total = log_p + ld;
    nf_status st = nf_minibatches_tile(l->rows, p, first, x, ctx);
    if (!st)
        st = nf_dist_score(l->dist, &pass, x, log_p, &saved);
    if (st)
        return st;
    if (nf_leave_out(p, log_p))
        return NF_OK;
    for (size_t s = 0; s < n; s++) {
        double size = fabs(log_det[s]);
        sums->worst_log_det = size > sums->worst_log_det ? size : sums->worst_log_det;
        sums->loss -= log_p[s];
        sums->term[0] += log_p[s];
    }
    for (size_t s = 0; s < ld; s++)
        g_log_p[s] = s < n ? NF_R(-1) : 0;
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

static void destroy(void *self)
{
    likelihood *l = self;
    nf_minibatches_free(l->rows);
    nfi_free(l);
}

static const nf_objective_type likelihood_type = {.name = "maximum likelihood",
                                                  .abi = sizeof(nf_objective_type),
                                                  .terms = {"log_p"},
                                                  .begin = begin,
                                                  .backward = backward,
                                                  .destroy = destroy,
                                                  .internal = NFI_HANDS_GRADIENT_ON};

nf_objective *nf_maximum_likelihood(nf_model *model, const nf_data *data, const nf_likelihood_options *options)
{
    const char *who = "nf_maximum_likelihood";
    if (!model) {
        nf_error(NF_EARG, "%s: model is NULL", who);
        return NULL;
    }
    nf_object *o = nf_model_object(model);
    const nf_shape *shape = nf_object_shape(o);
    if (!nfi_as_dist(o)) {
        nf_error(NF_EARG, "%s: the model is of `%s`, not of a distribution", who, nf_object_name(o));
        return NULL;
    }
    if (data && (data->dim != shape->dim_out || data->n_ctx != shape->n_ctx)) {
        nf_error(NF_EDIM, "%s: data has %zu columns and %zu of context, but the model %zu and %zu", who, data->dim,
                 data->n_ctx, shape->dim_out, shape->n_ctx);
        return NULL;
    }
    likelihood *l = nfi_calloc(1, sizeof *l);
    if (!l)
        return NULL;
    *l = (likelihood){.dist = o, .dim = shape->dim_out, .n_ctx = shape->n_ctx};
    l->rows = nfi_minibatches_new(data, options && options->batch ? options->batch : 100, who);
    if (!l->rows) {
        destroy(l);
        return NULL;
    }
    return nf_objective_new(&likelihood_type, model, nf_minibatches_batch(l->rows), l);
}
