/* Numbers for tests: draws, and comparisons. */
#ifndef NUMBERS_H
#define NUMBERS_H
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/noise.h>
#include <stdlib.h>
#include <string.h>

/* n zeros, to be freed. */
static inline nf_real *reals(size_t n)
{
    nf_real *v = calloc(n + 1, sizeof *v);
    cr_assert_not_null(v);
    return v;
}

/* Normal draws with standard deviation `scale`. */
static inline void draw(uint64_t seed, size_t n, double scale, nf_real *v)
{
    if (n)
        nf_noise_normal(&(nf_noise){.seed = seed, .site = 77}, n, 1, 1, v);
    for (size_t i = 0; i < n; i++)
        v[i] = (nf_real)(scale * (double)v[i]);
}

/* The same, to be freed. */
static inline nf_real *normals(uint64_t seed, size_t n, double scale)
{
    nf_real *v = reals(n);
    draw(seed, n, scale, v);
    return v;
}

static inline double dot(size_t n, const nf_real *a, const nf_real *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static inline bool all_finite(size_t n, const nf_real *v)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

/* Number i of what is called `what` is the wanted one, up to a relative error (below 1: an absolute one). */
static inline void near(double got, double wanted, double tolerance, const char *what, size_t i)
{
    cr_assert_float_eq(got, wanted, tolerance * (1 + fabs(wanted)), "%s %zu: %.12g, not %.12g", what, i, got, wanted);
}

/* The same numbers, bit for bit; under sanitizers to rounding: around their checks clang fuses multiply and add in one
   place of a tile and not in another. */
static inline void same_numbers(size_t n, const nf_real *a, const nf_real *b, const char *what)
{
    const double epsilon = sizeof(nf_real) == sizeof(float) ? 1.2e-7 : 2.3e-16,
                 allowed = NFLOW_THIN == 1 ? 100 * epsilon : 0;
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            cr_assert_float_eq((double)a[i], (double)b[i], allowed * (1 + fabs((double)b[i])),
                               "%s %zu: %.17g, not %.17g", what, i, (double)a[i], (double)b[i]);
}

#endif
