/* How near an MLP's forward and backward pass comes to the matrix products it is made of, on one thread. For each net:
   rate of the pass and of bare gemm calls of the same shapes by the better of OpenBLAS and BLIS, alternating in one
   run, best of many. */
#include "cli.h"
#include "base/memory.h"
#include "gemm.h"
#include "isa.h"
#include "numbers.h"
#include "output.h"
#include <nflow/net.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct net_case {
    const char *name;
    size_t n_layers, width[4];
    nf_activation unit;
} net_case;

static const net_case cases[] = {
    {"784-300-300-80 relu", 3, {784, 300, 300, 80}, NF_RELU},
    {"40-300-300-784 relu", 3, {40, 300, 300, 784}, NF_RELU},
    {"784-400-400-400 softplus", 3, {784, 400, 400, 400}, NF_SOFTPLUS},
    {"10-64-64-10 tanh", 3, {10, 64, 64, 10}, NF_TANH},
};

enum { ROUNDS = 40, CALLS = 5 };

/* Everything both contestants work on. */
typedef struct arrays {
    nf_real *theta, *x, *y, *gy, *gx, *g_theta;
} arrays;

static void gemm_only(gemm_library b, const net_case *c, const arrays *a, size_t n, size_t ld)
{
    const nf_real *w = a->theta;
    for (size_t l = 0; l < c->n_layers; l++) {
        size_t in = c->width[l], out = c->width[l + 1];
        gemm(b, false, false, out, n, in, w, in, a->x, ld, 0, a->y, ld);
        gemm(b, false, true, out, in, n, a->gy, ld, a->x, ld, 1, a->g_theta + (w - a->theta), in);
        if (l)
            gemm(b, true, false, in, n, out, w, in, a->gy, ld, 0, a->gx, ld);
        w += out * (in + 1);
    }
}

static void both_ways(const nf_object *net, nf_pass *p, const arrays *a)
{
    void *saved = NULL;
    nf_grad g = {.theta = a->g_theta};
    nf_mark mark = nf_arena_mark(p->tape);
    if (nf_net_apply(net, p, a->x, a->y, &saved) != NF_OK ||
        nf_net_vjp(net, p, a->x, a->y, saved, a->gy, NULL, &g) != NF_OK)
        exit(1);
    nf_arena_rewind(p->tape, mark);
}

static void measure(js_file *j, const net_case *c, size_t n)
{
    size_t ld = (n + 15) / 16 * 16, widest = 784, flops = 0;
    nf_net *net = nf_mlp(c->width[0], c->width[c->n_layers], 0,
                         &(nf_mlp_options){.hidden = c->width + 1, .n_hidden = c->n_layers - 1, .activation = c->unit});
    size_t n_params = nf_object_shape(nf_net_object(net))->n_params;
    nf_real *v[6]; /* parameters, four tiles, gradients */
    for (size_t i = 0; i < 6; i++)
        v[i] = bench_normals(i, i % 5 ? widest * ld : n_params, 0.05);
    arrays a = {v[0], v[1], v[2], v[3], v[4], v[5]};
    nf_arena tape = {0}, scratch = {0};
    nf_pass p = {.n = n, .ld = ld, .theta = a.theta, .tape = &tape, .scratch = &scratch};
    for (size_t l = 0; l < c->n_layers; l++)
        flops += (l ? 6 : 4) * n * c->width[l] * c->width[l + 1];
    double best[2] = {1e9, 1e9}; /* ours, the better library's */
    for (int r = 0; r < ROUNDS; r++)
        for (int who = -1; who < GEMM_LIBRARIES; who++) {
            if (who >= 0 && !gemm_has((gemm_library)who))
                continue;
            double start = omp_get_wtime();
            for (int i = 0; i < CALLS; i++)
                who < 0 ? both_ways(nf_net_object(net), &p, &a) : gemm_only((gemm_library)who, c, &a, n, ld);
            double t = (omp_get_wtime() - start) / CALLS, *of = &best[who >= 0];
            *of = t < *of ? t : *of;
        }
    printf("%-26s n %3zu  %8.1f us  %6.1f GF/s  gemm alone %8.1f us  %6.1f GF/s  share %3.0f %%\n", c->name, n,
           best[0] * 1e6, 1e-9 * (double)flops / best[0], best[1] * 1e6, 1e-9 * (double)flops / best[1],
           100 * best[1] / best[0]);
    js_begin(j, NULL, '{');
    js_text(j, "net", c->name);
    js_number(j, "flops_per_second", (double)flops / best[0]);
    js_number(j, "best_flops_per_second", (double)flops / best[1]);
    js_end(j);
    nfi_arena_clear(&tape);
    nfi_arena_clear(&scratch);
    nf_real *all[] = {a.theta, a.x, a.y, a.gy, a.gx, a.g_theta};
    for (size_t i = 0; i < 6; i++)
        free(all[i]);
    nf_net_free(net);
}

static size_t samples = 50;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"samples", "N", "samples in a tile", .size = &samples, .min = 1, .max = 4096},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Times nets beside the matrix products they are made of.", options);
    bench_isa(isa);
    gemm_open();
    js_file *j = gemm_report(json_path, "nets");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        measure(j, &cases[i], samples);
    js_end(j);
    js_end(j);
    js_close(j);
    return 0;
}
