/* First-order rules and their defaults. Formulas and kernels are in optimizers_kernels.c. Here is what a step
   computes once for all parameters. */
#include "fit/optimizers.h"
#include "object/table.h"
#include <math.h>

static void sgd(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                nf_real *const *slot, nf_real *theta)
{
    (void)o, (void)t, (void)slot;
    nfi_sgd(n, (nf_real)rate, g, theta);
}

static void momentum(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                     nf_real *const *slot, nf_real *theta)
{
    (void)t;
    nfi_momentum(n, (nf_real)rate, (nf_real)o->momentum, g, slot[0], theta);
}

static void rmsprop(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                    nf_real *const *slot, nf_real *theta)
{
    (void)t;
    nfi_rmsprop(n, (nf_real)rate, (nf_real)o->momentum, (nf_real)o->beta2, (nf_real)o->epsilon, g, slot[0], slot[1],
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
    nfi_adam(n, (nf_real)(rate * root / correction(o->beta1, t)), (nf_real)o->beta1, (nf_real)o->beta2,
             (nf_real)(o->epsilon * root), g, slot[0], slot[1], theta);
}

static void adamax(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                   nf_real *const *slot, nf_real *theta)
{
    nfi_adamax(n, (nf_real)(rate / correction(o->beta1, t)), (nf_real)o->beta1, (nf_real)o->beta2, (nf_real)o->epsilon,
               g, slot[0], slot[1], theta);
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

nf_status nfi_check_optimizer(const char *who, const nf_optimizer_type *type, nf_optimizer_type *whole)
{
    nf_status status = nfi_check_abi(who, "options->optimizer", type->abi, NFI_END_OF(nf_optimizer_type, update),
                                     sizeof(nf_optimizer_type));
    if (status != NF_OK)
        return status;
    nfi_complete_table(whole, type, type->abi, sizeof *whole);
    if (!whole->update || whole->n_slots > NF_MAX_SLOTS)
        return nf_error(NF_EARG, "%s: `options->optimizer` has no update, or %zu slots of %d", who, whole->n_slots,
                        NF_MAX_SLOTS);
    return NF_OK;
}
