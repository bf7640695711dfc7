/*
 * The library's products of weights with tiles beside those of OpenBLAS and BLIS on the same instruction set, one
 * thread: y = W x, gx = W^T g and gW = g x^T for W [m x k] and n samples. All take turns, and the best of many turns
 * counts. Beside them a plain loop as the compiler vectorises it, for the processor's least set: a set of kernels that
 * is slower than that would be pointless.
 *
 * Last come convolutions (src/nn/conv.c), beside the library's own products of equal size: a kernel of 3 x 3 from `in`
 * to `out` channels is a matrix [out x 9 in]. Multiplications by the zeros outside the image are not counted, since
 * they are not made.
 */
#include "cli.h"
#include "math/product.h"
#include "nn/conv.h"
#include "base/memory.h"
#include "gemm.h"
#include "isa.h"
#include "numbers.h"
#include "output.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct shape {
    size_t m, k, n;
} shape;
/* Square, then the layers of bench_mlp's nets on a tile of 50 samples. */
static const shape shapes[] = {{256, 256, 64}, {300, 784, 50}, {300, 300, 50}, {80, 300, 50},
                               {300, 40, 50},  {784, 300, 50}, {400, 784, 50}, {400, 400, 50},
                               {64, 10, 50},   {64, 64, 50},   {10, 64, 50}};
static const char *const products[] = {"W x", "W^T g", "g x^T"};
enum { OURS, PLAIN, OTHERS, CONTESTANTS = OTHERS + GEMM_LIBRARIES, PRODUCTS = 3 };

static size_t turns = 20, microseconds = 300;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"turns", "N", "turns of each", .size = &turns, .min = 1, .max = 10000},
    {"time", "US", "microseconds a turn", .size = &microseconds, .min = 1, .max = 1000000},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

typedef struct arrays {
    size_t ld, ldt;
    nf_real *w, *x, *y, *xt;
} arrays;

static void ours(const shape *s, int product, const arrays *a)
{
    const nfi_matrix W = {.n_rows = s->m, .width = s->k, .stride = s->k};
    if (product == 0)
        nfi_times(&W, a->w, 0, s->m, s->n, a->ld, a->x, false, a->y);
    else if (product == 1)
        nfi_times_transposed(&W, a->w, 0, s->k, s->n, a->ld, a->y, false, a->x);
    else
        nfi_outer(&W, s->n, a->ld, a->y, a->ldt, a->xt, false, a->w);
}

/* c[i][j] = sum over l of the elements at a[i * da + l * dl] times those at b[l][j]. */
static void plain_product(size_t m, size_t n, size_t k, const nf_real *restrict a, size_t da, size_t dl,
                          const nf_real *restrict b, size_t ldb, nf_real *restrict c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++)
            c[i * ldc + j] = 0;
        for (size_t l = 0; l < k; l++)
            for (size_t j = 0; j < n; j++)
                c[i * ldc + j] += a[i * da + l * dl] * b[l * ldb + j];
    }
}

static void plain(const shape *s, int product, const arrays *a)
{
    if (product == 0)
        plain_product(s->m, s->n, s->k, a->w, s->k, 1, a->x, a->ld, a->y, a->ld);
    else if (product == 1)
        plain_product(s->k, s->n, s->m, a->w, 1, s->k, a->y, a->ld, a->x, a->ld);
    else
        plain_product(s->m, s->k, s->n, a->y, a->ld, 1, a->xt, a->ldt, a->w, s->k);
}

static void other(gemm_library l, const shape *s, int product, const arrays *a)
{
    if (product == 0)
        gemm(l, false, false, s->m, s->n, s->k, a->w, s->k, a->x, a->ld, 0, a->y, a->ld);
    else if (product == 1)
        gemm(l, true, false, s->k, s->n, s->m, a->w, s->k, a->y, a->ld, 0, a->x, a->ld);
    else
        gemm(l, false, true, s->m, s->k, s->n, a->y, a->ld, a->x, a->ld, 0, a->w, s->k);
}

static void run(int who, const shape *s, int product, const arrays *a)
{
    if (who == OURS)
        ours(s, product, a);
    else if (who == PLAIN)
        plain(s, product, a);
    else
        other((gemm_library)(who - OTHERS), s, product, a);
}

static bool takes_part(int who)
{
    return who < OTHERS || gemm_has((gemm_library)(who - OTHERS));
}

/* The best seconds of each contestant, 0 for those that do not take part. */
static void measure(const shape *s, int product, const arrays *a, double seconds[CONTESTANTS])
{
    const double flops = 2 * (double)(s->m * s->k * s->n);
    const size_t calls = (size_t)(50e3 * (double)microseconds / flops) + 1; /* for 50 GF/s */
    for (int who = 0; who < CONTESTANTS; who++)
        seconds[who] = 0;
    for (size_t turn = 0; turn < turns; turn++)
        for (int who = 0; who < CONTESTANTS; who++) {
            if (!takes_part(who) || (who == PLAIN && turn > turns / 4))
                continue;
            const double start = cli_seconds();
            for (size_t i = 0; i < calls; i++)
                run(who, s, product, a);
            const double t = (cli_seconds() - start) / (double)calls;
            if (seconds[who] == 0 || t < seconds[who])
                seconds[who] = t;
        }
}

static void report(js_file *j, const shape *s, int product, const double seconds[CONTESTANTS])
{
    const double flops = 2 * (double)(s->m * s->k * s->n);
    double best = 0; /* rate of the better library */
    printf("%-5s %3zu x %3zu, %2zu samples  ours %6.1f GF/s  plain loop %5.1f", products[product], s->m, s->k, s->n,
           1e-9 * flops / seconds[OURS], 1e-9 * flops / seconds[PLAIN]);
    for (gemm_library l = 0; l < GEMM_LIBRARIES; l++)
        if (gemm_has(l)) {
            const double rate = flops / seconds[OTHERS + l];
            printf("  %s %6.1f", gemm_name(l), 1e-9 * rate);
            best = rate > best ? rate : best;
        }
    if (best > 0)
        printf("  share of the better %3.0f %%", 100 * flops / seconds[OURS] / best);
    printf("\n");
    js_begin(j, NULL, '{');
    js_text(j, "product", products[product]);
    js_integer(j, "rows", s->m);
    js_integer(j, "columns", s->k);
    js_integer(j, "samples", s->n);
    js_number(j, "flops_per_second", flops / seconds[OURS]);
    js_number(j, "plain_flops_per_second", flops / seconds[PLAIN]);
    js_number(j, "best_flops_per_second", best);
    js_end(j);
}

/* ---- convolutions ---- */

typedef struct picture {
    size_t height, width, in, out, side, n;
} picture;
/* A residual net on MNIST after one squeeze, Glow's nets there, and on images of 8 x 8 and 16 x 16; the first scale of
   bench_images. */
static const picture pictures[] = {{14, 14, 128, 128, 3, 64}, {14, 14, 128, 128, 1, 64}, {14, 14, 2, 128, 3, 64},
                                   {14, 14, 128, 4, 3, 64},   {8, 8, 64, 64, 3, 64},     {16, 16, 64, 64, 3, 32},
                                   {14, 14, 2, 64, 3, 32},    {14, 14, 64, 64, 1, 32},   {14, 14, 64, 4, 3, 32},
                                   {8, 8, 6, 64, 3, 32},      {8, 8, 64, 64, 1, 32},     {8, 8, 64, 12, 3, 32}};
static const char *const convolutions[] = {"W * x", "W^T * g", "g * x"};

typedef struct grids {
    nfi_conv c;
    nf_real *w, *x, *y;
    nf_arena scratch;
} grids;

/* Processor time: one convolution takes longer than a busy machine leaves a program alone. */
static double processor_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static double convolve(grids *g, int product, size_t n)
{
    const double start = processor_seconds();
    if (product == 0)
        nfi_conv_apply(&g->c, n, g->w, g->x, false, g->y);
    else if (product == 1)
        nfi_conv_transposed(&g->c, n, g->w, g->y, g->x);
    else if (nfi_conv_outer(&g->c, n, &g->scratch, g->x, g->y, false, g->w) != NF_OK)
        exit(1);
    return processor_seconds() - start;
}

static void measure_picture(js_file *j, const picture *q)
{
    const nf_image image = {q->in, q->height, q->width};
    grids g = {.c = {q->in, q->out, q->side, nfi_grid_of(&image)}};
    const shape same = {q->out, q->side * q->side * q->in, q->n};
    arrays a = {.ld = q->n, .ldt = (same.k + 15) / 16 * 16};
    g.w = a.w = bench_normals(0, same.m * same.k, 0.3);
    g.x = bench_normals(1, q->in * g.c.grid.pixels * q->n, 0.3);
    g.y = bench_normals(2, q->out * g.c.grid.pixels * q->n, 0.3);
    a.x = bench_normals(3, same.k * a.ld, 0.3);
    a.y = bench_normals(4, same.m * a.ld, 0.3);
    a.xt = bench_normals(5, same.n * a.ldt, 0.3);
    /* Taps inside the image, over all pixels; (3 H - 2) (3 W - 2) of a kernel of 3 x 3. */
    const size_t out = q->side / 2 * (q->side / 2 + 1);
    const double taps = (double)((q->side * q->height - out) * (q->side * q->width - out));
    const double flops = 2 * (double)(q->in * q->out * q->n) * taps, of_dense = 2 * (double)(same.m * same.k * same.n);
    for (int product = 0; product < PRODUCTS; product++) {
        double best = 0, dense = 0;
        for (size_t turn = 0; turn < turns; turn++) {
            const double t = convolve(&g, product, q->n), start = processor_seconds();
            const size_t calls = (size_t)(flops / of_dense) + 1;
            for (size_t i = 0; i < calls; i++)
                ours(&same, product, &a);
            const double d = (processor_seconds() - start) / (double)calls;
            best = turn == 0 || t < best ? t : best;
            dense = turn == 0 || d < dense ? d : dense;
        }
        printf("%-7s %zu x %zu, %3zu -> %3zu channels, %zu x %zu, %zu samples  %6.1f GF/s, products %6.1f: %3.0f %%\n",
               convolutions[product], q->height, q->width, q->in, q->out, q->side, q->side, q->n, 1e-9 * flops / best,
               1e-9 * of_dense / dense, 100 * flops / best / (of_dense / dense));
        js_begin(j, NULL, '{');
        js_text(j, "product", convolutions[product]);
        js_integer(j, "height", q->height);
        js_integer(j, "width", q->width);
        js_integer(j, "side", q->side);
        js_integer(j, "in", q->in);
        js_integer(j, "out", q->out);
        js_integer(j, "samples", q->n);
        js_number(j, "flops_per_second", flops / best);
        js_number(j, "dense_flops_per_second", of_dense / dense);
        js_end(j);
    }
    free(a.w), free(g.x), free(g.y), free(a.x), free(a.y), free(a.xt);
    nfi_arena_clear(&g.scratch);
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Times products of weights with tiles.", options);
    bench_isa(isa);
    gemm_open();
    js_file *j = gemm_report(json_path, "products");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape *s = &shapes[i];
        arrays a = {.ld = (s->n + 15) / 16 * 16, .ldt = (s->k + 15) / 16 * 16};
        a.w = bench_normals(0, s->m * s->k, 0.3);
        a.x = bench_normals(1, s->k * a.ld, 0.3);
        a.y = bench_normals(2, s->m * a.ld, 0.3);
        a.xt = bench_normals(3, s->n * a.ldt, 0.3);
        for (int product = 0; product < PRODUCTS; product++) {
            double seconds[CONTESTANTS];
            measure(s, product, &a, seconds);
            report(j, s, product, seconds);
        }
        free(a.w), free(a.x), free(a.y), free(a.xt);
    }
    js_end(j);
    js_begin(j, "convolutions", '[');
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        measure_picture(j, &pictures[i]);
    js_end(j);
    js_end(j);
    js_close(j);
    return 0;
}
