/* Vector maths against long double libm: errors in units in the last place (ulp), on dense grids and at the edges, in
   every instruction set that the processor has. */
#include "math/vec.h"
#include "vec_loops.h"
#include <criterion/criterion.h>
#include <float.h>
#include <string.h>

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

#define POINTER(set) &vec_loops_##set,
static const vec_loops *const all_sets[] = {VEC_SETS(POINTER)};
enum { N_SETS = sizeof all_sets / sizeof *all_sets };

/* The next set from *k on that the processor has; NULL: no more. */
static const vec_loops *next_set(size_t *k)
{
    while (*k < N_SETS) {
        const vec_loops *loops = all_sets[(*k)++];
        if (nf_choose_instruction_set(loops->set) == NF_OK)
            return loops;
    }
    return NULL;
}

static long double sigmoid_ref(long double x)
{
    return 1 / (1 + expl(-x));
}

static long double softplus_ref(long double x)
{
    return fmaxl(x, 0) + log1pl(expl(-fabsl(x)));
}

typedef long double reference_fn(long double x);

enum { LINEAR, POSITIVE, NEGATIVE }; /* x from a to b; or +-2^x */

static const struct grid {
    const char *name;
    int function;
    reference_fn *reference;
    int scale;
    double a, b, ulp;
} grids[] = {
#define GRID(name, reference, scale, a, b, ulp)        \
    {                                                  \
#name, VEC_##name, reference, scale, a, b, ulp \
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

static void check_grid(const struct grid *g, const vec_loops *loops)
{
    static nf_real x[POINTS], y[POINTS];
    for (size_t i = 0; i < POINTS; i++)
        x[i] = grid_point(g, i);
    loops->of[g->function](POINTS, x, y);
    size_t worst = 0;
    long double error = 0;
    for (size_t i = 0; i < POINTS; i++) {
        long double u = ulps(y[i], g->reference(x[i]));
        if (!(u <= error)) {
            error = u;
            worst = i;
        }
    }
    cr_expect(error <= g->ulp, "%s (%s): %.3Lf ulp at %.17g", g->name, loops->set, error, (double)x[worst]);
}

Test(vec, errors_on_grids)
{
    size_t k = 0;
    for (const vec_loops *loops; (loops = next_set(&k));)
        for (size_t i = 0; i < sizeof grids / sizeof *grids; i++)
            check_grid(&grids[i], loops);
}

/* Fused alike, both round alike. */
Test(vec, avx2_and_avx512_give_the_same_bits)
{
    static nf_real x[POINTS], y[2][POINTS];
    const vec_loops *alike[2];
    size_t found = 0, k = 0;
    for (const vec_loops *loops; (loops = next_set(&k));)
        if (strncmp(loops->set, "avx", 3) == 0)
            alike[found++] = loops;
    for (size_t i = 0; found == 2 && i < sizeof grids / sizeof *grids; i++) {
        for (size_t j = 0; j < POINTS; j++)
            x[j] = grid_point(&grids[i], j);
        for (size_t j = 0; j < 2; j++)
            alike[j]->of[grids[i].function](POINTS, x, y[j]);
        cr_expect_arr_eq(y[0], y[1], sizeof y[0], "%s", grids[i].name);
    }
}

static const struct edge {
    const char *name;
    int function;
    double x, y;
} edges[] = {
#define EDGE(name, x, y)        \
    {                           \
#name, VEC_##name, x, y \
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

static void check_edge(const struct edge *e, const vec_loops *loops)
{
    nf_real x[NFI_LANES], y[NFI_LANES], expected = (nf_real)e->y;
    for (size_t s = 0; s < NFI_LANES; s++)
        x[s] = (nf_real)e->x;
    loops->of[e->function](NFI_LANES, x, y);
    for (size_t s = 0; s < NFI_LANES; s++)
        cr_expect(isnan(expected) ? isnan(y[s]) : y[s] == expected, "%s(%g) = %g, not %g (%s)", e->name, e->x,
                  (double)y[s], e->y, loops->set);
}

Test(vec, edges)
{
    size_t k = 0;
    for (const vec_loops *loops; (loops = next_set(&k));)
        for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
            check_edge(&edges[i], loops);
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
Test(vec, sine_and_cosine_of_turns)
{
    const long double two_pi = 6.283185307179586476925286766559005768L;
    static double u[POINTS], c[POINTS], s[POINTS];
    for (size_t i = 0; i < POINTS; i++)
        u[i] = -1.137 + 3.291 * ((double)i + 0.3819) / POINTS;
    size_t k = 0;
    for (const vec_loops *loops; (loops = next_set(&k));) {
        loops->sin2pi(POINTS, u, s);
        loops->cos2pi(POINTS, u, c);
        for (size_t i = 0; i < POINTS; i++) {
            cr_assert_float_eq(s[i], (double)sinl(two_pi * u[i]), 5e-16);
            cr_assert_float_eq(c[i], (double)cosl(two_pi * u[i]), 5e-16);
        }
    }
    cr_expect_eq(nfi_cos2pi_d(0), 1);
    cr_expect_eq(nfi_sin2pi_d(0.25), 1);
    cr_expect_eq(nfi_cos2pi_d(0.25), 0);
    cr_expect_eq(nfi_cos2pi_d(0.5), -1);
}
