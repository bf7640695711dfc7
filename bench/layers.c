/*
 * Each layer under each instruction set that this processor has, one thread: a batch forward and backward with
 * gradients in x and in the parameters, shared by the batch or, for layers that allow it, one set a sample. The sets
 * take turns; the best of many turns counts. A better set should never be slower than a lesser one.
 */
#include "cli.h"
#include "base/instruction_set.h"
#include "numbers.h"
#include "output.h"
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>

enum { DIM = 16, BATCH = 512, MOST_SETS = 8 };
static size_t turns = 15, milliseconds = 2;
static const char *json_path;
static const cli_option options[] = {
    {"turns", "N", "turns of each set", .size = &turns, .min = 1, .max = 10000},
    {"time", "MS", "milliseconds a turn", .size = &milliseconds, .min = 1, .max = 1000},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

static nf_flow *spline(void)
{
    return nf_spline(DIM, &(nf_spline_options){.bins = 8, .box = 3});
}
static nf_flow *sylvester(void)
{
    return nf_sylvester(DIM, &(nf_sylvester_options){.kind = NF_SYLVESTER_ORTHOGONAL, .columns = 8});
}
static const struct {
    const char *name;
    nf_flow *(*make)(void); /* or: */
    nf_flow *(*of_dim)(size_t);
    bool per_sample;
} layers[] = {
    {"affine", NULL, nf_affine, true},
    {"planar", NULL, nf_planar, true},
    {"radial", NULL, nf_radial, true},
    {"full affine", NULL, nf_full_affine, true},
    {"spline, 8 bins", spline, NULL, true},
    {"Sylvester, M = 8", sylvester, NULL, true},
    {"ordered", NULL, nf_ordered, false},
    {"simplex, stick", NULL, nf_simplex_stick, false},
    {"simplex, ilr", NULL, nf_simplex_ilr, false},
};
enum { LAYERS = sizeof layers / sizeof *layers };

/* What one call works on. */
typedef struct work {
    nf_model *model;
    nf_workspace *ws;
    nf_real *x, *y, *ctx, *gy, *g_log_det, *gx, *g_ctx, *g_theta;
    double *log_det;
} work;

static work new_work(nf_flow *flow)
{
    work w = {.model = cli_made(nf_model_of_flow(flow, NULL)), .ws = cli_made(nf_workspace_new(1))};
    const nf_shape *shape = nf_model_shape(w.model);
    w.x = bench_normals(1, BATCH * shape->dim_in, 1);
    w.y = bench_normals(2, BATCH * shape->dim_out, 1);
    w.gy = bench_normals(3, BATCH * shape->dim_out, 1);
    w.g_log_det = bench_normals(4, BATCH, 1);
    w.ctx = bench_normals(5, BATCH * shape->n_ctx, 1);
    w.gx = bench_normals(6, BATCH * shape->dim_in, 1);
    w.g_ctx = bench_normals(7, BATCH * shape->n_ctx, 1);
    w.g_theta = bench_normals(8, shape->n_params, 1);
    w.log_det = calloc(BATCH, sizeof *w.log_det);
    if (!w.log_det)
        cli_fail(1, "out of memory");
    if (shape->n_ctx) { /* parameters scatter about the initial ones */
        nf_real *start = bench_normals(9, shape->n_ctx, 1);
        cli_ok(nf_start_context(nf_model_object(w.model), &(nf_noise){.seed = 5}, start));
        for (size_t i = 0; i < BATCH * shape->n_ctx; i++)
            w.ctx[i] = start[i % shape->n_ctx] + NF_R(0.1) * w.ctx[i];
        free(start);
    }
    return w;
}

static void free_work(work *w)
{
    free(w->x), free(w->y), free(w->ctx), free(w->gy), free(w->g_log_det), free(w->gx), free(w->g_ctx);
    free(w->g_theta), free(w->log_det);
    nf_workspace_free(w->ws);
    nf_model_free(w->model);
}

static void both_ways(const work *w)
{
    cli_ok(nf_transform(w->model, w->ws, NULL, NF_FORWARD, BATCH, w->x, w->ctx, w->y, w->log_det));
    cli_ok(nf_transform_vjp(w->model, w->ws, NULL, NF_FORWARD, BATCH, w->x, w->ctx, w->gy, w->g_log_det, w->gx,
                            w->g_ctx, w->g_theta));
}

/* Seconds a call, the best over the turns, of each set that the processor has; their number. */
static size_t measure(const work *w, const char *sets[MOST_SETS], double seconds[MOST_SETS])
{
    size_t n = 0;
    for (size_t i = 0; nfi_set_names[i] && n < MOST_SETS; i++)
        if (nf_choose_instruction_set(nfi_set_names[i]) == NF_OK)
            sets[n++] = nfi_set_names[i];
    for (size_t turn = 0; turn < turns; turn++)
        for (size_t k = 0; k < n; k++) {
            cli_ok(nf_choose_instruction_set(sets[k]));
            both_ways(w); /* warms up */
            const double start = cli_seconds(), end = start + 1e-3 * (double)milliseconds;
            size_t calls = 0;
            double now = start;
            for (; now < end; now = cli_seconds(), calls++)
                both_ways(w);
            const double t = (now - start) / (double)calls;
            seconds[k] = turn == 0 || t < seconds[k] ? t : seconds[k];
        }
    return n;
}

static void report(js_file *j, const char *name, bool per_sample, nf_flow *flow)
{
    const char *sets[MOST_SETS];
    double seconds[MOST_SETS];
    work w = new_work(cli_made(flow));
    const size_t n = measure(&w, sets, seconds);
    printf("%-18s %-11s", name, per_sample ? "per sample" : "shared");
    js_begin(j, NULL, '{');
    js_text(j, "layer", name);
    js_text(j, "parameters", per_sample ? "per sample" : "shared");
    for (size_t k = 0; k < n; k++) {
        printf("  %s %8.1f us", sets[k], 1e6 * seconds[k]);
        if (k)
            printf(" (%.2f)", seconds[k - 1] / seconds[k]);
        js_number(j, sets[k], seconds[k]);
    }
    printf("\n");
    js_end(j);
    free_work(&w);
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Times layers under each instruction set; in brackets, against the set before.", options);
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_text(j, "precision", sizeof(nf_real) == 8 ? "double" : "float");
    js_begin(j, "layers", '[');
    for (size_t i = 0; i < LAYERS; i++)
        for (int per_sample = 0; per_sample <= layers[i].per_sample; per_sample++) {
            nf_flow *flow = cli_made(layers[i].make ? layers[i].make() : layers[i].of_dim(DIM));
            report(j, layers[i].name, per_sample, per_sample ? nf_amortized_by_context(flow) : flow);
        }
    js_end(j);
    js_end(j);
    js_close(j);
    return 0;
}
