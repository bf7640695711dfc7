/* Arrays for benchmarks, aligned to cache lines. */
#ifndef BENCH_NUMBERS_H
#define BENCH_NUMBERS_H
#include "cli.h"
#include <nflow/noise.h>
#include <stdlib.h>

static inline nf_real *bench_zeros(size_t n)
{
    nf_real *v = aligned_alloc(64, (n * sizeof *v / 64 + 1) * 64);
    if (!v)
        cli_fail(1, "out of memory");
    for (size_t i = 0; i < n; i++)
        v[i] = 0;
    return v;
}

/* Normal draws with standard deviation `scale`. */
static inline nf_real *bench_normals(uint64_t seed, size_t n, double scale)
{
    nf_real *v = bench_zeros(n);
    if (n)
        nf_noise_normal(&(nf_noise){.seed = seed}, n, 1, 1, v);
    for (size_t i = 0; i < n; i++)
        v[i] *= (nf_real)scale;
    return v;
}

#endif
