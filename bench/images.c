/*
 * Times a Glow on images, float as users have it: a training step (maximum likelihood, Adam) or a batch of samples.
 * Every level has `steps` times (actnorm, 1x1 convolution by LU, coupling by a net 3x3, 1x1, 3x3), and what is split
 * off is standard normal. peers_images.py holds the same in normflows. Beside the time of a step the memory of the
 * workspace is told.
 */
#include "cli.h"
#include "isa.h"
#include "numbers.h"
#include "timing.h"
#include <nflow/nflow.h>
#include <stdlib.h>

static size_t workload, threads = 2, steps = 20, batch = 64, depth = 8, levels = 2, channels = 64, recompute;
static const char *isa, *json_path;
static const cli_option options[] = {
    {"workload", "glow-28-train|glow-28-sample|glow-16-train|glow-16-sample", "what to time", .choice = &workload},
    {"steps", "N", "steps to time", .size = &steps, .min = 1},
    {"batch", "N", "images of a step", .size = &batch, .min = 1, .max = 1e5},
    {"depth", "K", "steps of flow of each level", .size = &depth, .min = 1, .max = 1000},
    {"levels", "L", "scales", .size = &levels, .min = 1, .max = 4},
    {"channels", "C", "channels of the nets' hidden layers", .size = &channels, .min = 1, .max = 1000},
    {"recompute", "default|never|always", "whether what gradients need is computed again", .choice = &recompute},
    {"threads", "N", "threads", .size = &threads, .min = 1, .max = 1024},
    {"isa", BENCH_ISA_HELP, .text = &isa},
    {"json", "FILE", "write the result there", .text = &json_path},
    {0},
};

static const struct {
    const char *title;
    nf_image image;
    bool trains;
} workloads[] = {
    /* in the order of --workload */
    {"Glow, 28 x 28 x 1: training step", {1, 28, 28}, true},
    {"Glow, 28 x 28 x 1: sampling", {1, 28, 28}, false},
    {"Glow, 16 x 16 x 3: training step", {3, 16, 16}, true},
    {"Glow, 16 x 16 x 3: sampling", {3, 16, 16}, false},
};

static void sample(nf_model *m, nf_real *x, timing *t)
{
    nf_workspace *ws = cli_made(nf_workspace_new(threads));
    for (size_t i = 1; i <= steps; i++) {
        cli_ok(nf_sample(m, ws, &(nf_noise){.seed = 1, .step = i}, batch, NULL, x, NULL));
        timing_step(t, &(nf_progress){.step = i, .steps = steps});
    }
    t->bytes = nf_workspace_bytes(ws);
    nf_workspace_free(ws);
}

int main(int argc, char **argv)
{
    const double start = cli_seconds();
    cli_parse(argc, argv, "Times a Glow on images.", options);
    bench_isa(isa);
    const nf_image image = workloads[workload].image;
    const size_t dim = image.channels * image.height * image.width;
    const nf_image_recipe_options glow = {.n_levels = levels,
                                          .n_steps = depth,
                                          .hidden = channels,
                                          .prior = NF_PRIOR_STANDARD,
                                          .recompute = (nf_recompute)recompute};
    nf_real *x = bench_normals(2, batch * dim, 1);
    nf_model *m = cli_made(nf_model_of_dist(nf_pushforward(nf_normal(dim), nf_glow(image, &glow)), NULL));
    static timing t;
    timing_start(&t, start, 1);
    if (workloads[workload].trains)
        timing_train(&t, m, batch, dim, x, steps, threads);
    else
        sample(m, x, &t);
    timing_report(&t, json_path, workloads[workload].title, threads);
    free(x);
    nf_model_free(m);
    return 0;
}
