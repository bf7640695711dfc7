/* Vector maths against long double libm: errors in units in the last place (ulp), on dense grids, through the widest
   instruction set of the machine and through the plain one, and at the edges. */
#include "core/vec.h"
#include <criterion/criterion.h>
#include <float.h>

#ifdef NF_SINGLE
enum { DIGITS = FLT_MANT_DIG, MIN_EXP = FLT_MIN_EXP };
#define BOTH(d, f) (f)
#define TINY FLT_TRUE_MIN
#else
enum { DIGITS = DBL_MANT_DIG, MIN_EXP = DBL_MIN_EXP };
#define BOTH(d, f) (d)
#define TINY DBL_TRUE_MIN
#endif
enum { POINTS = 40000 };
#define INF ((nf_real)INFINITY)

/* Each function as a loop over lanes, in clones and without. */
#define LOOPS(type, name, f)                                             \
    NFI_CLONES static void name##_wide(size_t n, const type *x, type *y) \
    {                                                                    \
        NFI_SIMD                                                         \
        for (size_t i = 0; i < n; i++)                                   \
            y[i] = f(x[i]);                                              \
    }                                                                    \
    static void name##_plain(size_t n, const type *x, type *y)           \
    {                                                                    \
        NFI_SIMD                                                         \
        for (size_t i = 0; i < n; i++)                                   \
            y[i] = f(x[i]);                                              \
    }
LOOPS(nf_real, exp, nfi_exp)
LOOPS(nf_real, expm1, nfi_expm1)
LOOPS(nf_real, log, nfi_log)
LOOPS(nf_real, log1p, nfi_log1p)
LOOPS(nf_real, tanh, nfi_tanh)
LOOPS(nf_real, sigmoid, nfi_sigmoid)
LOOPS(nf_real, softplus, nfi_softplus)
LOOPS(nf_real, atan, nfi_atan)

static long double sigmoid_ref(long double x)
{
    return 1 / (1 + expl(-x));
}

static long double softplus_ref(long double x)
{
    return fmaxl(x, 0) + log1pl(expl(-fabsl(x)));
}

typedef void loop_fn(size_t n, const nf_real *x, nf_real *y);
typedef long double reference_fn(long double x);

enum { LINEAR, POSITIVE, NEGATIVE }; /* x from a to b; or +-2^x */

static const struct grid {
    const char *name;
    loop_fn *wide, *plain;
    reference_fn *reference;
    int scale;
    double a, b, ulp;
} grids[] = {
#define GRID(name, reference, scale, a, b, ulp)                       \
    {                                                                 \
#name, name##_wide, name##_plain, reference, scale, a, b, ulp \
    }
    GRID(exp, expl, LINEAR, BOTH(-707.7, -86.9), BOTH(709.78, 88.72), 1.3),
    GRID(exp, expl, LINEAR, -2.385, 2.171, 1.3),
    GRID(exp, expl, POSITIVE, -80.3, 6.4, 1.3),
    GRID(exp, expl, NEGATIVE, -80.3, 6.4, 1.3),
    GRID(expm1, expm1l, LINEAR, -51.3, BOTH(709.78, 88.72), 1.7),
    GRID(expm1, expm1l, LINEAR, -1.274, 1.193, 1.7),
    GRID(expm1, expm1l, POSITIVE, BOTH(-1020.7, -124.6), 0.53, 1.7),
    GRID(expm1, expm1l, NEGATIVE, BOTH(-1020.7, -124.6), 6.21, 1.7),
    GRID(log, logl, POSITIVE, BOTH(-1074, -149), BOTH(1023.99, 127.99), 1.),
    GRID(log, logl, LINEAR, 0.517, 2.391, 1.),
    GRID(log, logl, LINEAR, 0.991, 1.013, 1.),
    GRID(log1p, log1pl, POSITIVE, BOTH(-1074, -149), BOTH(1023.99, 127.99), 1.5),
    GRID(log1p, log1pl, NEGATIVE, BOTH(-1074, -149), -1e-3, 1.5),
    GRID(log1p, log1pl, LINEAR, -0.99997, 1.937, 1.5),
    GRID(tanh, tanhl, POSITIVE, BOTH(-1074, -149), 9.17, 2.6),
    GRID(tanh, tanhl, LINEAR, -4.231, 3.917, 2.6),
    GRID(sigmoid, sigmoid_ref, LINEAR, BOTH(-708.3, -87.2), 53.1, 2.6),
    GRID(sigmoid, sigmoid_ref, LINEAR, -4.231, 3.917, 2.6),
    GRID(softplus, softplus_ref, LINEAR, BOTH(-707.7, -86.9), 812.3, 1.7),
    GRID(softplus, softplus_ref, LINEAR, -4.231, 3.917, 1.7),
    GRID(softplus, softplus_ref, NEGATIVE, -70.3, 6.4, 1.7),
    GRID(atan, atanl, LINEAR, -4.231, 3.917, 2.6),
    GRID(atan, atanl, POSITIVE, BOTH(-1020.7, -124.6), BOTH(1023.99, 127.99), 2.6),
};

static long double ulps(nf_real y, long double reference)
{
    int e;
    frexpl(reference, &e);
    return fabsl(y - reference) / ldexpl(1, (e > MIN_EXP ? e : MIN_EXP) - DIGITS);
}

static nf_real grid_point(const struct grid *g, size_t i)
{
    double t = g->a + (g->b - g->a) * ((double)i + 0.3819) / POINTS;
    return (nf_real)(g->scale == LINEAR ? t : g->scale == POSITIVE ? exp2(t) : -exp2(t));
}

static void check_grid(const struct grid *g, loop_fn *loop, const char *how)
{
    static nf_real x[POINTS], y[POINTS];
    for (size_t i = 0; i < POINTS; i++)
        x[i] = grid_point(g, i);
    loop(POINTS, x, y);
    size_t worst = 0;
    long double error = 0;
    for (size_t i = 0; i < POINTS; i++) {
        long double u = ulps(y[i], g->reference(x[i]));
        if (!(u <= error)) {
            error = u;
            worst = i;
        }
    }
    cr_expect(error <= g->ulp, "%s (%s): %.3Lf ulp at %.17g", g->name, how, error, (double)x[worst]);
}

Test(vec, errors_on_grids)
{
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++) {
        check_grid(&grids[i], grids[i].wide, "wide");
        check_grid(&grids[i], grids[i].plain, "plain");
    }
}

static const struct edge {
    const char *name;
    loop_fn *wide, *plain;
    double x, y;
} edges[] = {
#define EDGE(name, x, y)                       \
    {                                          \
#name, name##_wide, name##_plain, x, y \
    }
    EDGE(exp, 0, 1),
    EDGE(exp, INFINITY, INFINITY),
    EDGE(exp, -INFINITY, 0),
    EDGE(exp, BOTH(709.79, 88.73), INFINITY),
    EDGE(exp, BOTH(1e300, 1e35), INFINITY),
    EDGE(exp, BOTH(-708.8, -87.7), 0),
    EDGE(exp, BOTH(-1e300, -1e35), 0),
    EDGE(exp, TINY, 1),
    EDGE(exp, NAN, NAN),
    EDGE(expm1, 0, 0),
    EDGE(expm1, INFINITY, INFINITY),
    EDGE(expm1, BOTH(709.79, 88.73), INFINITY),
    EDGE(expm1, -INFINITY, -1),
    EDGE(expm1, -1e30, -1),
    EDGE(expm1, 2 * TINY, 2 * TINY),
    EDGE(expm1, NAN, NAN),
    EDGE(log, 1, 0),
    EDGE(log, 0, -INFINITY),
    EDGE(log, -0., -INFINITY),
    EDGE(log, -TINY, NAN),
    EDGE(log, -2.385, NAN),
    EDGE(log, -INFINITY, NAN),
    EDGE(log, INFINITY, INFINITY),
    EDGE(log, NAN, NAN),
    EDGE(log1p, 0, 0),
    EDGE(log1p, TINY, TINY),
    EDGE(log1p, -TINY, -TINY),
    EDGE(log1p, -1, -INFINITY),
    EDGE(log1p, -1.0625, NAN),
    EDGE(log1p, -INFINITY, NAN),
    EDGE(log1p, INFINITY, INFINITY),
    EDGE(log1p, NAN, NAN),
    EDGE(tanh, TINY, TINY),
    EDGE(tanh, -TINY, -TINY),
    EDGE(tanh, 0, 0),
    EDGE(tanh, 1e30, 1),
    EDGE(tanh, -1e30, -1),
    EDGE(tanh, INFINITY, 1),
    EDGE(tanh, -INFINITY, -1),
    EDGE(tanh, NAN, NAN),
    EDGE(atan, 0, 0),
    EDGE(atan, TINY, TINY),
    EDGE(atan, INFINITY, 1.5707963267948966),
    EDGE(atan, -INFINITY, -1.5707963267948966),
    EDGE(atan, NAN, NAN),
    EDGE(sigmoid, 0, 0.5),
    EDGE(sigmoid, 1e30, 1),
    EDGE(sigmoid, -1e30, 0),
    EDGE(sigmoid, INFINITY, 1),
    EDGE(sigmoid, -INFINITY, 0),
    EDGE(sigmoid, NAN, NAN),
    EDGE(softplus, 800, 800),
    EDGE(softplus, 1e30F, 1e30F),
    EDGE(softplus, -1e30, 0),
    EDGE(softplus, INFINITY, INFINITY),
    EDGE(softplus, -INFINITY, 0),
    EDGE(softplus, NAN, NAN),
};

Test(vec, edges)
{
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        const struct edge *e = &edges[i];
        for (int plain = 0; plain < 2; plain++) {
            nf_real x[NFI_LANES], y[NFI_LANES], expected = (nf_real)e->y;
            for (size_t s = 0; s < NFI_LANES; s++)
                x[s] = (nf_real)e->x;
            (plain ? e->plain : e->wide)(NFI_LANES, x, y);
            for (size_t s = 0; s < NFI_LANES; s++)
                cr_expect(isnan(expected) ? isnan(y[s]) : y[s] == expected, "%s(%g) = %g, not %g", e->name, e->x,
                          (double)y[s], e->y);
        }
    }
}

/* exp is right up to the last finite result and down to where it becomes 0. */
Test(vec, exp_to_its_limits)
{
    nf_real top = (nf_real)BOTH(709.782712893383973, 88.7228317F), bottom = (nf_real)BOTH(-708.04, -86.98);
    for (int i = 0; i < 100; i++, top = BOTH(nextafter, nextafterf)(top, 0))
        cr_expect_lt(ulps(nfi_exp(top), expl(top)), 1.1L);
    cr_expect_lt(ulps(nfi_exp(bottom), expl(bottom)), 1.1L);
    cr_expect_gt(nfi_exp(bottom), 0);
    cr_expect_lt(expl(BOTH(-708.1L, -87.1L)), ldexpl(1, BOTH(-1021, -125)));
}

Test(vec, tanh_is_odd_and_keeps_the_sign_of_zero)
{
    for (int i = 1; i < 1000; i++) {
        nf_real x = (nf_real)(0.00771 * i);
        cr_assert_eq(nfi_tanh(-x), -nfi_tanh(x));
    }
    cr_expect(signbit(nfi_tanh((nf_real)-0.)));
    cr_expect(!signbit(nfi_tanh((nf_real)0.)));
}

/* The pieces of Box and Muller's formula, in double in both builds. */
LOOPS(double, sin2pi, nfi_sin2pi_d)
LOOPS(double, cos2pi, nfi_cos2pi_d)

Test(vec, sine_and_cosine_of_turns)
{
    const long double two_pi = 6.283185307179586476925286766559005768L;
    static double u[POINTS], c[2][POINTS], s[2][POINTS];
    for (size_t i = 0; i < POINTS; i++)
        u[i] = -1.137 + 3.291 * ((double)i + 0.3819) / POINTS;
    sin2pi_wide(POINTS, u, s[0]);
    cos2pi_wide(POINTS, u, c[0]);
    sin2pi_plain(POINTS, u, s[1]);
    cos2pi_plain(POINTS, u, c[1]);
    for (int plain = 0; plain < 2; plain++)
        for (size_t i = 0; i < POINTS; i++) {
            cr_assert_float_eq(s[plain][i], (double)sinl(two_pi * u[i]), 5e-16);
            cr_assert_float_eq(c[plain][i], (double)cosl(two_pi * u[i]), 5e-16);
        }
    cr_expect_eq(nfi_cos2pi_d(0), 1);
    cr_expect_eq(nfi_sin2pi_d(0.25), 1);
    cr_expect_eq(nfi_cos2pi_d(0.25), 0);
    cr_expect_eq(nfi_cos2pi_d(0.5), -1);
}
