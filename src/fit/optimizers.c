/*
 * First-order rules, elementwise over a block of parameters; rate a, gradient g, step t = 1, 2, ...
 *
 *     SGD       theta -= a g
 *     momentum  v = mu v + g;                 theta -= a v
 *     RMSProp   s = rho s + (1 - rho) g^2;    d = g / (sqrt(s) + eps);  v = mu v + d;  theta -= a v
 *               (Tieleman & Hinton 2012, lecture 6.5; theta -= a d where mu = 0, and no v is kept)
 *     Adam      m = b1 m + (1 - b1) g;  s = b2 s + (1 - b2) g^2;  theta -= a (m / c1) / (sqrt(s / c2) + eps),
 *               c = 1 - b^t  (Kingma & Ba 2015, algorithm 1), computed as a' m / (sqrt(s) + eps'),
 *               a' = a sqrt(c2) / c1, eps' = eps sqrt(c2)
 *     Adamax    m as above;  u = max(b2 u, |g|);  theta -= (a / c1) m / (u + eps)  (algorithm 2, with eps for u = 0)
 */
#include "fit/optimizers.h"
#include "core/kernel.h"
#include <math.h>

#ifdef NF_SINGLE
#define SQRT sqrtf
#define FABS fabsf
#else
#define SQRT sqrt
#define FABS fabs
#endif

NFI_CLONES static void sgd_block(size_t n, nf_real a, const nf_real *restrict g, nf_real *restrict theta)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        theta[i] -= a * g[i];
}

NFI_CLONES static void momentum_block(size_t n, nf_real a, nf_real mu, const nf_real *restrict g, nf_real *restrict v,
                                      nf_real *restrict theta)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        v[i] = mu * v[i] + g[i];
        theta[i] -= a * v[i];
    }
}

NFI_CLONES static void rmsprop_block(size_t n, nf_real a, nf_real mu, nf_real rho, nf_real eps,
                                     const nf_real *restrict g, nf_real *restrict sq, nf_real *restrict v,
                                     nf_real *restrict theta)
{
    const nf_real rest = 1 - rho;
    if (mu > 0) {
        NFI_SIMD
        for (size_t i = 0; i < n; i++) {
            sq[i] = rho * sq[i] + rest * g[i] * g[i];
            v[i] = mu * v[i] + g[i] / (SQRT(sq[i]) + eps);
            theta[i] -= a * v[i];
        }
    } else {
        NFI_SIMD
        for (size_t i = 0; i < n; i++) {
            sq[i] = rho * sq[i] + rest * g[i] * g[i];
            theta[i] -= a * g[i] / (SQRT(sq[i]) + eps);
        }
    }
}

NFI_CLONES static void adam_block(size_t n, nf_real a, nf_real b1, nf_real b2, nf_real eps, const nf_real *restrict g,
                                  nf_real *restrict m, nf_real *restrict sq, nf_real *restrict theta)
{
    const nf_real r1 = 1 - b1, r2 = 1 - b2;
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + r1 * g[i];
        sq[i] = b2 * sq[i] + r2 * g[i] * g[i];
        theta[i] -= a * m[i] / (SQRT(sq[i]) + eps);
    }
}

NFI_CLONES static void adamax_block(size_t n, nf_real a, nf_real b1, nf_real b2, nf_real eps, const nf_real *restrict g,
                                    nf_real *restrict m, nf_real *restrict u, nf_real *restrict theta)
{
    const nf_real r1 = 1 - b1;
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        nf_real size = FABS(g[i]), old = b2 * u[i];
        m[i] = b1 * m[i] + r1 * g[i];
        u[i] = old > size ? old : size;
        theta[i] -= a * m[i] / (u[i] + eps);
    }
}

static void sgd(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                nf_real *const *slot, nf_real *theta)
{
    (void)o, (void)t, (void)slot;
    sgd_block(n, (nf_real)rate, g, theta);
}

static void momentum(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                     nf_real *const *slot, nf_real *theta)
{
    (void)t;
    momentum_block(n, (nf_real)rate, (nf_real)o->momentum, g, slot[0], theta);
}

static void rmsprop(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                    nf_real *const *slot, nf_real *theta)
{
    (void)t;
    rmsprop_block(n, (nf_real)rate, (nf_real)o->momentum, (nf_real)o->beta2, (nf_real)o->epsilon, g, slot[0], slot[1],
                  theta);
}

/* 1 - b^t without cancellation */
static double correction(double b, uint64_t t)
{
    return b > 0 ? -expm1((double)t * log(b)) : 1;
}

static void adam(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                 nf_real *const *slot, nf_real *theta)
{
    double root = sqrt(correction(o->beta2, t));
    adam_block(n, (nf_real)(rate * root / correction(o->beta1, t)), (nf_real)o->beta1, (nf_real)o->beta2,
               (nf_real)(o->epsilon * root), g, slot[0], slot[1], theta);
}

static void adamax(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                   nf_real *const *slot, nf_real *theta)
{
    adamax_block(n, (nf_real)(rate / correction(o->beta1, t)), (nf_real)o->beta1, (nf_real)o->beta2,
                 (nf_real)o->epsilon, g, slot[0], slot[1], theta);
}

#define RULE(function, key, slots, ...)                                          \
    const nf_optimizer_type *nf_##function(void)                                 \
    {                                                                            \
        static const nf_optimizer_type type = {.name = key,                      \
                                               .abi = sizeof(nf_optimizer_type), \
                                               .n_slots = slots,                 \
                                               .defaults = {__VA_ARGS__},        \
                                               .update = function};              \
        return &type;                                                            \
    }
RULE(sgd, "sgd", 0, .momentum = 0)
RULE(momentum, "momentum", 1, .momentum = 0.9)
RULE(rmsprop, "rmsprop", 2, .beta2 = 0.99, .epsilon = 1e-8)
RULE(adam, "adam", 2, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8)
RULE(adamax, "adamax", 2, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8)

static double choose(double given, double standard)
{
    return given > 0 ? given : given < 0 ? 0 : standard;
}

nf_optimizer_options nfi_resolve(const nf_optimizer_type *type, const nf_optimizer_options *options)
{
    const nf_optimizer_options none = {0}, *o = options ? options : &none, *d = &type->defaults;
    return (nf_optimizer_options){.momentum = choose(o->momentum, d->momentum),
                                  .beta1 = choose(o->beta1, d->beta1),
                                  .beta2 = choose(o->beta2, d->beta2),
                                  .epsilon = choose(o->epsilon, d->epsilon)};
}
