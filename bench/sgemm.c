/*
 * The rate of matrix products, as a bound for everything made of them: each thread multiplies matrices of its own, as
 * the library's threads do. The best of OpenBLAS and BLIS, of two shapes: a hidden layer's square and a large one.
 */
#include "cli.h"
#include "gemm.h"
#include "isa.h"
#include "numbers.h"
#include "output.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct shape {
    size_t m, n, k;
} shape;

static const shape shapes[] = {{256, 256, 256}, {1024, 1024, 1024}};
enum { SHAPES = sizeof shapes / sizeof *shapes, LARGEST = 1024 * 1024 };

static size_t threads = 2, milliseconds = 300;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"threads", "N", "threads", .size = &threads, .min = 1, .max = 1024},
    {"time", "MS", "milliseconds a shape", .size = &milliseconds, .min = 1, .max = 60000},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

/* Products of one shape on the calling thread until the clock says `end`; how many. */
static size_t products(gemm_library l, const shape *s, double end, const nf_real *a, const nf_real *b, nf_real *c)
{
    size_t count = 0;
    for (; omp_get_wtime() < end; count++)
        gemm(l, false, false, s->m, s->n, s->k, a, s->k, b, s->n, 0, c, s->n);
    return count;
}

/* FLOP/s of all threads together. */
static double rate(gemm_library l, const shape *s)
{
    double total = 0;
#pragma omp parallel num_threads((int)threads) reduction(+ : total)
    {
        omp_set_num_threads(1); /* of the products */
        nf_real *a = bench_normals(1, LARGEST, 0.3), *b = bench_normals(2, LARGEST, 0.3), *c = bench_zeros(LARGEST);
        products(l, s, omp_get_wtime() + 0.02, a, b, c); /* warms up */
#pragma omp barrier
        const double start = omp_get_wtime();
        const size_t count = products(l, s, start + 1e-3 * (double)milliseconds, a, b, c);
        total += 2 * (double)(s->m * s->n * s->k * count) / (omp_get_wtime() - start);
        free(a), free(b), free(c);
    }
    return total;
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Times matrix products.", options);
    bench_isa(isa);
    gemm_open();
    double best = 0;
    for (gemm_library l = 0; l < GEMM_LIBRARIES; l++)
        for (size_t i = 0; i < SHAPES && gemm_has(l); i++) {
            const double r = rate(l, &shapes[i]);
            printf("%-8s %4zu x %4zu x %4zu  %8.1f GF/s\n", gemm_name(l), shapes[i].m, shapes[i].n, shapes[i].k,
                   1e-9 * r);
            best = r > best ? r : best;
        }
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_integer(j, "threads", threads);
    js_text(j, "instruction_set", nf_instruction_set());
    js_number(j, "flops_per_second", best);
    js_end(j);
    js_close(j);
    return 0;
}
