/* A user's flow that fails on demand: y = x exp(theta) in every dimension, but NaN, log-det too, where x_0 is above
   `limit` on the base's side, or, where `rate` is given, for so many of the samples by their names. Its vector-Jacobian
   product is written without care, so that a NaN in any column of a tile would reach the gradient in theta. */
#ifndef FRAGILE_H
#define FRAGILE_H
#include "expect.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>

typedef struct fragile {
    size_t dim;
    double limit, rate;
} fragile;

/* Whether the sample of this name fails; a function of the name alone. */
static inline bool fragile_fails(const nf_noise *noise, double rate, size_t s)
{
    const nf_noise name = {
        .seed = noise->seed, .step = noise->step, .first_sample = nf_noise_sample(noise, s), .site = 1000};
    nf_real u;
    nf_noise_uniform(&name, 1, 1, 1, &u);
    return (double)u < rate;
}

static inline nf_status fragile_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                      nf_real *y, double *log_det, void **saved)
{
    (void)saved;
    const fragile *f = nf_self(o);
    const double sign = d == NF_FORWARD ? 1 : -1, scale = exp(sign * (double)p->theta[0]);
    for (size_t s = 0; s < p->ld; s++) {
        const size_t column = s < p->n ? s : p->n - 1;
        for (size_t r = 0; r < f->dim; r++)
            y[r * p->ld + s] = (nf_real)(scale * (double)x[r * p->ld + column]);
        log_det[s] += sign * (double)f->dim * (double)p->theta[0];
        const double base = (double)(d == NF_FORWARD ? x : y)[s];
        if (!(base > f->limit) && !(f->rate > 0 && fragile_fails(&p->noise, f->rate, column)))
            continue;
        y[(f->dim - 1) * p->ld + s] = NAN; /* one feature has to be enough */
        log_det[s] = NAN;
    }
    return NF_OK;
}

static inline nf_status fragile_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                    const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det,
                                    nf_real *gx, const nf_grad *g)
{
    (void)saved, (void)x;
    const fragile *f = nf_self(o);
    const double sign = d == NF_FORWARD ? 1 : -1, scale = exp(sign * (double)p->theta[0]);
    double sum = 0;
    for (size_t s = 0; s < p->ld; s++) {
        for (size_t r = 0; r < f->dim; r++) {
            gx[r * p->ld + s] = (nf_real)(scale * (double)gy[r * p->ld + s]);
            sum += sign * (double)gy[r * p->ld + s] * (double)y[r * p->ld + s];
        }
        sum += sign * (double)f->dim * (double)g_log_det[s];
    }
    if (g->theta)
        g->theta[0] += (nf_real)sum;
    return NF_OK;
}

static const nf_flow_type fragile_type = {
    .part = {.name = "fragile", .destroy = free},
    .abi = sizeof(nf_flow_type),
    .apply = fragile_apply,
    .vjp = fragile_vjp,
};

/* limit INFINITY and rate 0: a sound one. */
static inline nf_flow *make_fragile(size_t dim, double limit, double rate)
{
    fragile *f = malloc(sizeof *f);
    *f = (fragile){.dim = dim, .limit = limit, .rate = rate};
    const nf_shape own = {.dim_in = dim, .dim_out = dim, .n_params = 1, .flags = rate > 0 ? NF_STOCHASTIC : 0};
    return nf_flow_new(&fragile_type, &own, f, NULL, 0);
}

/* Over a fragile flow a layer whose gradient sums over samples; on top, a third. */
static inline nf_flow *fragile_chain(size_t dim, double limit, double rate)
{
    return nf_chain((nf_flow *[]){nf_affine(dim), make_fragile(dim, limit, rate), nf_full_affine(dim)}, 3);
}

#endif
