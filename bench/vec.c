/* Throughput of vector maths on one thread, in cache: results per nanosecond, beside libm's scalar functions. */
#include "core/vec.h"
#include <stdio.h>
#include <time.h>

enum { LENGTH = 1024, CALLS = 500, TRIES = 20 };
typedef void loop_fn(size_t n, const nf_real *x, nf_real *y);

#ifdef NF_SINGLE
#define LIBM(name) name##f
#else
#define LIBM(name) name
#endif
#define LOOP(name, f)                                        \
    static void name(size_t n, const nf_real *x, nf_real *y) \
    {                                                        \
        NFI_SIMD                                             \
        for (size_t i = 0; i < n; i++)                       \
            y[i] = f(x[i]);                                  \
    }
#define LOOPS(f, libm) NFI_CLONES LOOP(f##_nflow, nfi_##f) LOOP(f##_libm, libm)
#define LIBM_SIGMOID(x) (1 / (1 + LIBM(exp)(-(x))))
#define LIBM_SOFTPLUS(x) (LIBM(log1p)(LIBM(exp)(x)))

LOOPS(exp, LIBM(exp))
LOOPS(expm1, LIBM(expm1))
LOOPS(log, LIBM(log))
LOOPS(log1p, LIBM(log1p))
LOOPS(tanh, LIBM(tanh))
LOOPS(sigmoid, LIBM_SIGMOID)
LOOPS(softplus, LIBM_SOFTPLUS)

static const struct entry {
    const char *name;
    loop_fn *nflow, *libm;
} entries[] = {
    {"exp", exp_nflow, exp_libm},
    {"expm1", expm1_nflow, expm1_libm},
    {"log", log_nflow, log_libm},
    {"log1p", log1p_nflow, log1p_libm},
    {"tanh", tanh_nflow, tanh_libm},
    {"sigmoid", sigmoid_nflow, sigmoid_libm},
    {"softplus", softplus_nflow, softplus_libm},
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of several tries, in 1e9 results per second. */
static double rate(loop_fn *loop)
{
    static _Alignas(64) nf_real x[LENGTH], y[LENGTH];
    double best = INFINITY;
    for (size_t i = 0; i < LENGTH; i++)
        x[i] = (nf_real)(0.01 + 7.31 * (double)i / LENGTH);
    for (int i = 0; i < TRIES; i++) {
        double start = seconds(), time;
        for (int j = 0; j < CALLS; j++)
            loop(LENGTH, x, y);
        time = seconds() - start;
        best = time < best ? time : best;
    }
    return 1e-9 * LENGTH * CALLS / best;
}

int main(void)
{
    printf("%-10s %8s %8s   (G/s, %s)\n", "", "nflow", "libm", sizeof(nf_real) == sizeof(double) ? "double" : "float");
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        printf("%-10s %8.2f %8.2f\n", entries[i].name, rate(entries[i].nflow), rate(entries[i].libm));
}
