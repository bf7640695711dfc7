/* Optimizers against the formulas of their papers, written out a number at a time; schedules. */
#include "fit/optimizers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

#ifdef NF_SINGLE
static const double tolerance = 2e-6;
#else
static const double tolerance = 1e-14;
#endif

enum { SGD, MOMENTUM, RMSPROP, ADAM, ADAMAX, N_RULES };
static const nf_optimizer_type *rule(size_t i)
{
    const nf_optimizer_type *const all[N_RULES] = {nf_sgd(), nf_momentum(), nf_rmsprop(), nf_adam(), nf_adamax()};
    return all[i];
}

/* One step of one parameter as the papers have it; s: what is remembered. */
static double formula(size_t kind, const nf_optimizer_options *o, double rate, int t, double g, double s[2],
                      double theta)
{
    double mu = o->momentum, b1 = o->beta1, b2 = o->beta2, eps = o->epsilon;
    switch (kind) {
    case SGD:
        return theta - rate * g;
    case MOMENTUM:
        s[0] = mu * s[0] + g;
        return theta - rate * s[0];
    case RMSPROP:
        s[0] = b2 * s[0] + (1 - b2) * g * g;
        s[1] = mu * s[1] + g / (sqrt(s[0]) + eps);
        return theta - rate * s[1];
    case ADAM:
        s[0] = b1 * s[0] + (1 - b1) * g;
        s[1] = b2 * s[1] + (1 - b2) * g * g;
        return theta - rate * (s[0] / (1 - pow(b1, t))) / (sqrt(s[1] / (1 - pow(b2, t))) + eps);
    default:
        s[0] = b1 * s[0] + (1 - b1) * g;
        s[1] = fmax(b2 * s[1], fabs(g));
        return theta - rate / (1 - pow(b1, t)) * s[0] / (s[1] + eps);
    }
}

/* Gradients of many sizes, as steps and places vary. */
static double gradient(size_t i, int t)
{
    return exp(3.1 * sin(1.7 * (double)i + 0.9)) * cos(0.37 * (double)i + 2.3 * t) + 0.01;
}

static void compare(size_t kind, const nf_optimizer_options *given, int steps)
{
    enum { N = 1037 }; /* no multiple of any vector's width */
    static nf_real theta[N + 1], slot0[N + 1], slot1[N + 1], g[N];
    static double wanted[N], s[N][2];
    const nf_optimizer_type *type = rule(kind);
    nf_optimizer_options o = nfi_resolve(type, given);
    nf_real *const slot[NF_MAX_SLOTS] = {slot0, slot1};
    memset(slot0, 0, sizeof slot0);
    memset(slot1, 0, sizeof slot1);
    memset(s, 0, sizeof s);
    for (size_t i = 0; i < N; i++)
        wanted[i] = theta[i] = (nf_real)(2.3 * sin(0.61 * (double)i));
    theta[N] = slot0[N] = slot1[N] = NF_R(0.4371);
    for (int t = 1; t <= steps; t++) {
        double rate = 0.0137 / t;
        for (size_t i = 0; i < N; i++)
            g[i] = (nf_real)gradient(i, t);
        type->update(&o, rate, (uint64_t)t, N, g, slot, theta);
        for (size_t i = 0; i < N; i++)
            wanted[i] = formula(kind, &o, rate, t, (double)g[i], s[i], wanted[i]);
    }
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(theta[i], wanted[i], tolerance * (1 + fabs(wanted[i])) * steps, "%s: %zu: %.17g %.17g",
                           type->name, i, (double)theta[i], wanted[i]);
    cr_assert(theta[N] == NF_R(0.4371) && slot0[N] == NF_R(0.4371) && slot1[N] == NF_R(0.4371), "%s: past the end",
              type->name);
}

Test(optimizers, follow_the_papers)
{
    const nf_optimizer_options other = {.momentum = 0.73, .beta1 = 0.81, .beta2 = 0.9617, .epsilon = 0.0137};
    const nf_optimizer_options no_memory = {.momentum = -1, .beta1 = -1, .beta2 = -1};
    for (size_t k = 0; k < N_RULES; k++) {
        compare(k, NULL, 1);
        compare(k, NULL, 2);
        compare(k, NULL, 7);
        compare(k, &other, 7);
        compare(k, &no_memory, 3);
    }
}

/* By hand, with round numbers: theta 0, gradients 1 then -3, rate 1. */
Test(optimizers, two_steps_by_hand)
{
    const double wanted[N_RULES][2] = {
        {-1, 2},
        {-1, -1 - (0.9 - 3)},
        {-1 / 0.1, -10 + 3 / sqrt(0.99 * 0.01 + 0.01 * 9)},
        /* m: 0.1 then 0.09 - 0.3; s: 0.001 then 0.000999 + 0.009 */
        {-1, -1 + 0.21 / 0.19 / sqrt(0.009999 / 0.001999)},
        {-1, -1 + 0.21 / 0.19 / 3},
    };
    for (size_t k = 0; k < N_RULES; k++) {
        nf_real theta = 0, m = 0, s = 0, *const slot[] = {&m, &s};
        nf_optimizer_options o = nfi_resolve(rule(k), NULL);
        for (uint64_t t = 1; t <= 2; t++) {
            nf_real g = t == 1 ? NF_R(1) : NF_R(-3);
            rule(k)->update(&o, 1, t, 1, &g, slot, &theta);
            cr_assert_float_eq(theta, wanted[k][t - 1], 1e-5, "%s, step %d: %g %g", rule(k)->name, (int)t,
                               (double)theta, wanted[k][t - 1]);
        }
    }
}

Test(optimizers, find_the_foot_of_a_quadratic)
{
    const nf_real foot[] = {NF_R(1.3172), NF_R(-0.4415), NF_R(0.0271)}, steep[] = {NF_R(0.5), NF_R(3.7), NF_R(1.1)};
    for (size_t k = 0; k < N_RULES; k++) {
        const nf_optimizer_type *type = rule(k);
        cr_assert_eq(type->abi, sizeof(nf_optimizer_type));
        cr_assert_leq(type->n_slots, NF_MAX_SLOTS);
        nf_real theta[3] = {0}, slots[2][3] = {{0}}, *const slot[] = {slots[0], slots[1]}, g[3];
        nf_optimizer_options o = nfi_resolve(type, NULL);
        for (uint64_t t = 1; t <= 6000; t++) {
            for (size_t i = 0; i < 3; i++)
                g[i] = steep[i] * (theta[i] - foot[i]);
            type->update(&o, 0.1 / (1 + 0.01 * (double)t), t, 3, g, slot, theta);
        }
        for (size_t i = 0; i < 3; i++)
            cr_assert_float_eq(theta[i], foot[i], 2e-3, "%s: %g, not %g", type->name, (double)theta[i],
                               (double)foot[i]);
    }
}

Test(optimizers, options)
{
    nf_optimizer_options o = nfi_resolve(nf_adam(), NULL);
    cr_assert(o.beta1 == 0.9 && o.beta2 == 0.999 && o.epsilon == 1e-8);
    o = nfi_resolve(nf_rmsprop(), &(nf_optimizer_options){.beta2 = 0.87, .epsilon = -1});
    cr_assert(o.beta2 == 0.87 && o.epsilon == 0 && o.momentum == 0);
    o = nfi_resolve(nf_momentum(), &(nf_optimizer_options){.beta1 = 0.2});
    cr_assert(o.momentum == 0.9);
}

static double squares(void *user, uint64_t t)
{
    return *(const double *)user * (double)(t * t);
}

Test(schedules, values)
{
    const double tiny = 1e-14;
    nf_schedule s = {0};
    cr_assert_eq(nf_schedule_value(&s, 0), 1);
    cr_assert_eq(nf_schedule_value(&s, UINT64_MAX), 1);
    cr_assert_eq(nf_schedule_value(NULL, 3), 1);
    s = (nf_schedule){.kind = NF_CONSTANT, .from = 0.37};
    cr_assert_eq(nf_schedule_value(&s, 812), 0.37);
    s = (nf_schedule){.kind = NF_CONSTANT}; /* exactly `from` */
    cr_assert_eq(nf_schedule_value(&s, 812), 0);
    s = (nf_schedule){.warmup = 4}; /* the default rises to 1 */
    cr_assert_eq(nf_schedule_value(&s, 1), 0.5);
    cr_assert_eq(nf_schedule_value(&s, 4), 1);
    /* the paper's annealing: min(1, 0.01 + t / 10000) */
    s = (nf_schedule){.kind = NF_LINEAR, .from = 0.01, .to = 1, .steps = 9900};
    for (uint64_t t = 0; t < 12000; t += 97)
        cr_assert_float_eq(nf_schedule_value(&s, t), fmin(1, 0.01 + (double)t / 10000), tiny);
    cr_assert_eq(nf_schedule_value(&s, 9900), 1);
    s = (nf_schedule){.kind = NF_COSINE, .from = 0.8, .to = 0.2, .steps = 1000};
    cr_assert_float_eq(nf_schedule_value(&s, 0), 0.8, tiny);
    cr_assert_float_eq(nf_schedule_value(&s, 500), 0.5, tiny);
    cr_assert_float_eq(nf_schedule_value(&s, 333), 0.2 + 0.3 * (1 + cos(acos(-1) * 0.333)), tiny);
    cr_assert_float_eq(nf_schedule_value(&s, 1000), 0.2, tiny);
    cr_assert_float_eq(nf_schedule_value(&s, 123456), 0.2, tiny);
    s = (nf_schedule){.kind = NF_STAIRS, .from = 2, .to = 0.3, .steps = 50};
    cr_assert_float_eq(nf_schedule_value(&s, 49), 2, tiny);
    cr_assert_float_eq(nf_schedule_value(&s, 50), 0.6, tiny);
    cr_assert_float_eq(nf_schedule_value(&s, 149), 0.18, tiny);
    double scale = 0.013;
    s = (nf_schedule){.kind = NF_CUSTOM, .call = squares, .user = &scale};
    cr_assert_float_eq(nf_schedule_value(&s, 11), 1.573, tiny);
    s.call = NULL;
    cr_assert_eq(nf_schedule_value(&s, 11), 1);
}

Test(schedules, length_zero_is_the_end)
{
    nf_schedule s = {.kind = NF_LINEAR, .from = 0.2, .to = 0.7};
    cr_assert_eq(nf_schedule_value(&s, 0), 0.7);
    s.kind = NF_COSINE;
    cr_assert_float_eq(nf_schedule_value(&s, 0), 0.7, 1e-15);
    s.kind = NF_STAIRS;
    cr_assert_eq(nf_schedule_value(&s, 9), 0.2);
}

Test(schedules, warm_up_comes_before)
{
    nf_schedule s = {.kind = NF_STAIRS, .from = 3, .to = 0.5, .steps = 10, .warmup = 4};
    const double wanted[] = {0.75, 1.5, 2.25, 3};
    for (uint64_t t = 0; t < 4; t++)
        cr_assert_float_eq(nf_schedule_value(&s, t), wanted[t], 1e-14);
    cr_assert_eq(nf_schedule_value(&s, 13), 3);
    cr_assert_eq(nf_schedule_value(&s, 14), 1.5);
}
