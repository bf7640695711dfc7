/*
 * Patches of grey images as tables of numbers, by the recipe of Zoran & Weiss (2011) and of RNADE and MAF (Uria, Murray
 * & Larochelle 2013; Papamakarios et al. 2017): patches of 8 x 8 pixels at random places, (pixel + u) / 256 with
 * uniform u, less the patch's mean, and without the last pixel, which the others then tell: 63 numbers.
 *
 *     bench/bench_patches --images $NFLOW_DATA/bsds300/bsds300_train_gray_u8.npy.xz --rows 1000000 --out train.npy
 */
#include "../examples/common/npy.h"
#include "../tools/nflow/write.h"
#include "cli.h"
#include <nflow/nflow.h>
#include <stdlib.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE, COLUMNS = PIXELS - 1 };
static const char *images, *out;
static size_t n_rows = 1000000;
static size_t n_draws = 1;
static uint64_t seed = 1;
static const cli_option options[] = {
    {"images", "FILE", "an array of bytes [images][height][width], .npy or .npy.xz", .text = &images},
    {"out", "FILE", "the table [rows][63], .npy or .csv", .text = &out},
    {"rows", "N", "patches", .size = &n_rows, .min = 1, .max = 1e9},
    {"draws", "N", "rows of each patch, which differ by u alone", .size = &n_draws, .min = 1, .max = 1e6},
    {"seed", "S", "of places and of u", .seed = &seed},
    {0},
};

/* Uniform numbers of the k-th row of patch i: three for its place, the same for all k, and 64 for u. */
static void draw(size_t i, size_t k, nf_real *u)
{
    nf_noise_uniform(&(nf_noise){.seed = seed, .step = k, .first_sample = i}, PIXELS + 3, 1, 1, u);
    if (k)
        nf_noise_uniform(&(nf_noise){.seed = seed, .first_sample = i}, 3, 1, 1, u);
}

static size_t below(nf_real u, size_t n)
{
    const size_t k = (size_t)((double)u * (double)n);
    return k < n ? k : n - 1;
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Cuts patches out of grey images.", options);
    if (!images || !out)
        cli_fail(2, "--images and --out are needed");
    npy a = npy_read(images);
    if (a.rank != 3 || a.extent[1] < SIDE || a.extent[2] < SIDE)
        cli_fail(1, "%s: not images of at least 8 x 8 pixels", images);
    char *name[COLUMNS];
    for (size_t k = 0; k < COLUMNS; k++)
        name[k] = cli_text("x%zu", k + 1);
    const size_t total = n_rows * n_draws;
    writer *w = writer_open(out, total, COLUMNS, name);
    for (size_t i = 0; i < total; i++) {
        nf_real u[PIXELS + 3];
        double x[PIXELS], mean = 0;
        draw(i % n_rows, i / n_rows, u);
        const size_t image = below(u[0], a.extent[0]), top = below(u[1], a.extent[1] - SIDE + 1),
                     left = below(u[2], a.extent[2] - SIDE + 1);
        for (size_t k = 0; k < PIXELS; k++) {
            const size_t at = (image * a.extent[1] + top + k / SIDE) * a.extent[2] + left + k % SIDE;
            x[k] = ((double)a.data[at] + (double)u[3 + k]) / 256;
            mean += x[k] / PIXELS;
        }
        for (size_t k = 0; k < COLUMNS; k++)
            x[k] -= mean;
        writer_rows(w, 1, x);
        cli_progress("patches", (double)i, (double)total, "%zu", i);
    }
    cli_progress_clear();
    writer_close(w);
    for (size_t k = 0; k < COLUMNS; k++)
        free(name[k]);
    free(a.data);
    return 0;
}
