/* The rule that says when values no longer improve, on sequences whose gain is known. */
#include "expect.h"
#include <math.h>
#include <nflow/nflow.h>
#include <nflow/noise.h>

/* A normal number for a step. */
static double noise(uint64_t step)
{
    nf_real x;
    nf_noise_normal(&(nf_noise){.seed = 7, .step = step}, 1, 1, 1, &x);
    return (double)x;
}

/* The number of steps after which a sequence settles; `most` if it does not. */
static uint64_t settles(nf_convergence *c, double (*value)(uint64_t step), uint64_t most)
{
    for (uint64_t t = 0; t < most; t++)
        if (nf_convergence_add(c, value(t)))
            return t + 1;
    return most;
}

static double constant(uint64_t t)
{
    (void)t;
    return -3;
}

Test(convergence, constants_settle_at_once)
{
    nf_convergence c = {0}, later = {.least = 333};
    cr_assert_eq(settles(&c, constant, 1000), 100);
    cr_assert(c.settled && c.gain == 0 && c.error == 0 && c.steps == 100);
    const uint64_t t = settles(&later, constant, 1000);
    cr_assert(t >= 333 && t < 333 + 16, "%zu", (size_t)t); /* at the end of a block */
}

/* The mean of the last quarter minus that of the quarter before is a quarter of n, times the slope. */
static double line(uint64_t t)
{
    return 1e-3 * (double)t;
}

Test(convergence, gain_of_a_line)
{
    nf_convergence c = {0};
    for (uint64_t t = 0; t < 4096; t++) {
        cr_assert(!nf_convergence_add(&c, line(t)));
        const uint64_t n = t + 1;
        cr_assert(n < 16 ? isnan(c.gain) && isnan(c.error) : true);
        if (n >= 16 && (n & (n - 1)) == 0) /* blocks of equally many steps, four quarters of equally many blocks */
            cr_assert_float_eq(c.gain, 1e-3 * (double)n / 4, 1e-12);
    }
}

/* 1 - exp(-t / 200): a third more steps gain what is left, about exp(-t / 200), less what is left after them. */
static double approach(uint64_t t)
{
    return 1 - exp(-(double)t / 200);
}

Test(convergence, an_approach_settles_when_little_is_left)
{
    nf_convergence c = {0};
    const double n = (double)settles(&c, approach, 100000), q = n / 4, tau = 200;
    /* (tau / q) exp(-n / 2 tau) (1 - exp(-q / tau))^2, the integral of the difference */
    const double gain = tau / q * exp(-n / (2 * tau)) * pow(1 - exp(-q / tau), 2);
    cr_assert(gain < 0.0055 && gain > 0.003, "%g after %g steps", gain, n);
    cr_assert_float_eq(c.gain, gain, 0.05 * gain + 1e-4, "%g, not %g", c.gain, gain);
    cr_assert(exp(-n / tau) < 0.01);
}

/* With noise of the deviation s the error is s sqrt(2 / (n / 4)), and the rule waits until it is below the tolerance.
 */
static double noisy(uint64_t t)
{
    return 0.1 * noise(t);
}

static double noisy_line(uint64_t t)
{
    return 0.1 * noise(t) + 2e-5 * (double)t;
}

Test(convergence, waits_until_noise_is_small)
{
    nf_convergence c = {.tolerance = 0.01}, up = {.tolerance = 0.01};
    const double expected = 8 * pow(0.1 / 0.01, 2);
    const double n = (double)settles(&c, noisy, 100000);
    cr_assert(n > 0.4 * expected && n < 2.5 * expected, "%g, expected about %g", n, expected);
    cr_assert(c.error < 0.01 && c.gain < 0.01);
    /* a gain of 5e-6 n is above the tolerance from 2000 steps on, where the error is 0.006: before that it may settle
     */
    up.least = 4000;
    cr_assert_eq(settles(&up, noisy_line, 50000), 50000);
    const double gain = 2e-5 * 50000 / 4;
    cr_assert_float_eq(up.gain, gain, 0.1 * gain + 4 * up.error, "%g, not %g", up.gain, gain);
}

/* The error is that of the gain: over many sequences, (gain / error)^2 has the mean of about 1. */
Test(convergence, error_of_the_gain)
{
    double sum = 0;
    enum { SEQUENCES = 400, STEPS = 1024 };
    for (uint64_t k = 0; k < SEQUENCES; k++) {
        nf_convergence c = {.tolerance = NF_ZERO};
        for (uint64_t t = 0; t < STEPS; t++)
            cr_assert(!nf_convergence_add(&c, noise(k * STEPS + t)));
        cr_assert_float_eq(c.error, sqrt(2 / (STEPS / 4.0)), 0.06);
        sum += c.gain * c.gain / (c.error * c.error);
    }
    /* of Student's t^2 with about 22 to 30 degrees of freedom: mean 1.1, deviation 1.7 */
    cr_assert_float_eq(sum / SEQUENCES, 1.1, 4 * 1.7 / sqrt(SEQUENCES));
}

Test(convergence, what_is_not_finite_starts_anew)
{
    nf_convergence c = {0};
    for (uint64_t t = 0; t < 99; t++)
        cr_assert(!nf_convergence_add(&c, -1));
    cr_assert(!nf_convergence_add(&c, -INFINITY));
    cr_assert_eq(c.steps, 100);
    for (uint64_t t = 0; t < 15; t++)
        cr_assert(!nf_convergence_add(&c, NAN) && !nf_convergence_add(&c, -1) && isnan(c.gain));
    const uint64_t more = settles(&c, constant, 1000);
    cr_assert(more >= 16 && more < 64, "%zu", (size_t)more);
    cr_assert(nf_convergence_add(&c, 1e9) && nf_convergence_add(&c, NAN) && c.settled); /* once and for all */
}

Test(convergence, copies_go_on_alike)
{
    nf_convergence c = {.tolerance = 0.02};
    for (uint64_t t = 0; t < 77; t++)
        nf_convergence_add(&c, noisy(t));
    nf_convergence d = c;
    for (uint64_t t = 77; t < 700; t++) {
        nf_convergence_add(&c, noisy(t));
        nf_convergence_add(&d, noisy(t));
        cr_assert(c.gain == d.gain || (isnan(c.gain) && isnan(d.gain)));
    }
    cr_assert(!nf_convergence_add(NULL, 1));
}
