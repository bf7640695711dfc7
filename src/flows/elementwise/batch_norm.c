/* Batch normalisation by lagged moving statistics (Dinh et al. 2017, Real NVP, appendix E): in the inverse direction

       x = (y - mean) / sqrt(variance + eps),   log|det dx/dy| = -1/2 sum log(variance + eps).

   mean and variance are those that earlier steps have left in `state`, never those of the present batch. So a sample's
   image does not depend on the other samples, the layer is one pass and exactly invertible, the log-det is that of the
   map that is applied, statistics are constants to the gradient, and training and evaluation use the same ones. (The
   paper's average includes the current batch.) The layer is nf_affine at m = mean, s = log(variance + eps) / 2, which
   are `prep`.

   The inverse passes of a step sum y - mean and its square, S1 and S2, over n samples (without padding). With
   delta = S1 / n and the weight r of the past,

       mean' = mean + (1 - r) delta,   variance' = r variance + (1 - r) (S2 / n - (1 - r) delta^2).

   These are the mean and variance of past and batch taken as one distribution with weights r and 1 - r: the batch
   contributes its own variance plus r delta^2. So batches of one sample give the right variance, too. r is the
   decay, but t / (t + 1) after t steps if that is less: then the batches of the first steps have equal weights, and
   the initial values 0 and 1 have none. */
#include "base/memory.h"
#include "flows/elementwise/affine.h"
#include "flows/moments.h"
#include "flows/param.h"
#include "flows/types.h"
#include "object/options.h"
#include "object/tree.h"
#include <math.h>

typedef nf_batch_norm_options batch_norm; /* with defaults filled in */

static nf_status prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    (void)mode, (void)theta;
    const batch_norm *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in;
    for (size_t i = 0; i < dim; i++) {
        prep[i] = state[i];
        prep[dim + i] = (nf_real)(0.5 * log((double)state[dim + i] + q->eps));
    }
    return NF_OK;
}

static nf_pass affine_pass(const nf_pass *p)
{
    nf_pass inner = *p;
    inner.theta = p->prep;
    return inner;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nf_pass inner = affine_pass(p);
    return nfi_affine_apply(o, d, &inner, x, y, log_det, saved);
}

/* Adds the sums over y [dim x ld] to stats, which has S1 [dim], S2 [dim], n. */
static void add_moments(size_t dim, size_t n, size_t ld, const nf_real *mean, const nf_real *y, double *stats)
{
    for (size_t i = 0; i < dim; i++) {
        double first = 0, second = 0;
        for (size_t s = 0; s < n; s++) {
            const double d = (double)y[i * ld + s] - (double)mean[i];
            first += d;
            second += d * d;
        }
        stats[i] += first;
        stats[dim + i] += second;
    }
    stats[2 * dim] += (double)n;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const nf_pass inner = affine_pass(p);
    if (g->stats && d == NF_INVERSE)
        add_moments(nf_object_shape(o)->dim_in, p->n, p->ld, p->state, x, g->stats);
    return nfi_affine_vjp(o, d, &inner, x, y, saved, gy, g_log_det, gx, &(nf_grad){.theta = NULL});
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const nf_pass inner = affine_pass(p);
    return nfi_affine_solve_jt(o, d, &inner, x, y, saved, gx, gy);
}

/* A variance of 0 to the largest number of nf_real. */
static nf_real representable(double variance)
{
    return (nf_real)fmin(fmax(variance, 0), (double)NFI_LARGEST);
}

/* state: mean [dim], variance [dim], t. The number of samples is read from stats: inverse passes may have seen fewer
   than the n of the step, or none (in forward steps). A feature with a sum that is not finite keeps its statistics; a
   rejected draw may have any values. */
static nf_status end_step(const nf_object *o, const double *stats, size_t n, nf_real *state)
{
    (void)n;
    const batch_norm *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in;
    const double count = stats[2 * dim], t = (double)state[2 * dim], r = fmin(q->decay, t / (t + 1));
    if (count == 0)
        return NF_OK;
    for (size_t i = 0; i < dim; i++) {
        const double delta = stats[i] / count, square = stats[dim + i] / count;
        if (!isfinite(square) || !isfinite(delta))
            continue;
        state[i] = (nf_real)((double)state[i] + (1 - r) * delta);
        const double variance = r * (double)state[dim + i] + (1 - r) * (square - (1 - r) * delta * delta);
        state[dim + i] =
            representable(variance); /* rounding may give less than 0 for equal numbers far from the mean */
    }
    state[2 * dim] = (nf_real)(t + 1);
    return NF_OK;
}

/* Data that enter on the target's side set the statistics. These then have the weight of a long past. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)noise, (void)theta;
    const batch_norm *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in;
    const bool data = batch && batch->direction == NF_INVERSE;
    for (size_t i = 0; i < dim; i++) {
        nfi_moments at = {.mean = 0, .variance = 1};
        if (data)
            at = nfi_row_moments(batch->n, batch->x + i * batch->ld);
        state[i] = (nf_real)at.mean;
        state[dim + i] = representable(at.variance);
        if (!isfinite(state[i]) || !isfinite(at.variance))
            return nf_error(NF_ENOTFINITE,
                            "nf_batch_norm: feature %zu of the initial batch has mean %g and variance %g", i, at.mean,
                            at.variance);
    }
    state[2 * dim] = data ? (nf_real)(1 / (1 - q->decay)) : 0;
    return NF_OK;
}

static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_REAL, batch_norm, decay), .most = 1, .flags = NF_OPTION_BELOW, .former = "momentum",
     .help = "weight of the past in a step's statistics"},
    {NF_OPTION(NF_OPTION_REAL, batch_norm, eps), .most = 1, .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW,
     .help = "added to the variance"},
};
static const batch_norm defaults = {.decay = 0.9, .eps = 1e-5};
static const nf_option_table table = NF_OPTION_TABLE("nf_batch_norm", batch_norm, options_of_type, &defaults);

NFI_REBUILD(flow, batch_norm, nf_batch_norm(nf_read_dim_in(r), q))

const nf_flow_type nfi_batch_norm_type = {
    .part = {.name = "batch_norm", .prepare = prepare, .end_step = end_step, .init = init, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

nf_flow *nf_batch_norm(size_t dim, const nf_batch_norm_options *options)
{
    batch_norm q;
    if (dim == 0 || dim > SIZE_MAX / 2 - 1) {
        nf_error(NF_EARG, "nf_batch_norm: `dim` is %zu", dim);
        return NULL;
    }
    if (nf_options_settle(&table, options, &q) != NF_OK)
        return NULL;
    batch_norm *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = q;
    const nf_shape own = {
        .dim_in = dim, .dim_out = dim, .n_state = 2 * dim + 1, .n_prep = 2 * dim, .flags = NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_batch_norm_type, &own, self, NULL, 0);
}
