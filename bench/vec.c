/* Throughput of vector maths on one thread, in cache: results per nanosecond in each instruction set that the processor
   has, beside libm's scalar functions. */
#include "math/vec.h"
#include "vec_loops.h"
#include <stdio.h>
#include <time.h>

enum { LENGTH = 1024, CALLS = 500, TRIES = 20 };

#ifdef NF_SINGLE
#define LIBM(name) name##f
#else
#define LIBM(name) name
#endif
#define LIBM_exp LIBM(exp)
#define LIBM_expm1 LIBM(expm1)
#define LIBM_log LIBM(log)
#define LIBM_log1p LIBM(log1p)
#define LIBM_tanh LIBM(tanh)
#define LIBM_sigmoid(x) (1 / (1 + LIBM(exp)(-(x))))
#define LIBM_softplus(x) (LIBM(log1p)(LIBM(exp)(x)))
#define LIBM_atan LIBM(atan)

#define LIBM_LOOP(name)                                             \
    static void name##_libm(size_t n, const nf_real *x, nf_real *y) \
    {                                                               \
        for (size_t i = 0; i < n; i++)                              \
            y[i] = LIBM_##name(x[i]);                               \
    }
VEC_FUNCTIONS(LIBM_LOOP)

#define ENTRY(name) {#name, name##_libm},
static const struct entry {
    const char *name;
    vec_loop *libm;
} entries[] = {VEC_FUNCTIONS(ENTRY)};

#define POINTER(set) &vec_loops_##set,
static const vec_loops *const all_sets[] = {VEC_SETS(POINTER)};
enum { N_SETS = sizeof all_sets / sizeof *all_sets };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of several tries, in 1e9 results per second. */
static double rate(vec_loop *loop)
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
    const vec_loops *set[N_SETS];
    size_t n = 0;
    for (size_t k = 0; k < N_SETS; k++)
        if (nf_choose_instruction_set(all_sets[k]->set) == NF_OK)
            set[n++] = all_sets[k];
    printf("%-10s", "");
    for (size_t k = 0; k < n; k++)
        printf(" %8s", set[k]->set);
    printf(" %8s   (G/s, %s)\n", "libm", sizeof(nf_real) == sizeof(double) ? "double" : "float");
    for (size_t i = 0; i < N_VEC_FUNCTIONS; i++) {
        printf("%-10s", entries[i].name);
        for (size_t k = 0; k < n; k++)
            printf(" %8.2f", rate(set[k]->of[i]));
        printf(" %8.2f\n", rate(entries[i].libm));
    }
}
