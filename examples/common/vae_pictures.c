#include "vae_pictures.h"
#include "cli.h"
#include "output.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 10, ROWS = 6 };
enum { CURVES, RECONSTRUCTIONS, SAMPLES };

void vae_picture_path(const char *prefix, size_t k, char path[4096])
{
    static const char *const names[] = {"curves", "reconstructions", "samples"};
    snprintf(path, 4096, "%s-%s.png", prefix, names[k]);
}

static void draw_curves(const char *png, const curve *c)
{
    FILE *p = plot_open(png, 720, 420);
    fprintf(p, "set xlabel 'updates'\nset ylabel 'ELBO (nats)'\nset key bottom right\nset grid\n"
               "plot '-' using 1:2 with lines lw 2 title 'training, running mean', "
               "'-' using 1:3 with lines lw 2 title 'validation'\n");
    for (int twice = 0; twice < 2; twice++) {
        for (size_t i = 0; i < c->n; i++)
            fprintf(p, "%g %g %g\n", c->point[i][0], c->point[i][1], c->point[i][2]);
        fputs("e\n", p);
    }
    plot_close(p);
}

void vae_pictures(const char *prefix, const nf_model *m, nf_workspace *ws, const images *d, const curve *c,
                  uint64_t seed)
{
    char path[4096];
    vae_picture_path(prefix, CURVES, path);
    if (c->n)
        draw_curves(path, c);
    const size_t dim = d->test.dim, latent = nf_model_shape(m)->dim_out, n = COLUMNS * ROWS;
    const size_t shown = d->test.n < COLUMNS * ROWS / 2 ? d->test.n : n / 2;
    nf_real *x = calloc(n * dim, sizeof *x), *in = calloc(n * dim, sizeof *in), *z = calloc(n * latent, sizeof *z);
    if (!x || !in || !z)
        cli_fail(1, "out of memory");
    nf_noise noise = {.seed = seed, .step = 1};
    for (size_t i = 0; i < shown; i++)
        images_row(&d->test, i * d->test.n / shown, in + i * dim); /* from all over: the set may be sorted */
    cli_ok(nf_vae_encode(m, ws, &noise, shown, in, z, NULL));
    cli_ok(nf_vae_decode(m, ws, NULL, shown, z, x));
    for (size_t r = ROWS / 2; r-- > 0;) { /* rows of pictures: images and, under each, its reconstruction */
        memcpy(in + 2 * r * COLUMNS * dim, in + r * COLUMNS * dim, COLUMNS * dim * sizeof *in);
        memcpy(in + (2 * r + 1) * COLUMNS * dim, x + r * COLUMNS * dim, COLUMNS * dim * sizeof *in);
    }
    vae_picture_path(prefix, RECONSTRUCTIONS, path);
    images_draw(path, "Test images, reconstructions below", ROWS, COLUMNS, d->height, d->width, in);

    cli_ok(nf_vae_decode(m, ws, &noise, n, NULL, x));
    vae_picture_path(prefix, SAMPLES, path);
    images_draw(path, "Draws from the prior", ROWS, COLUMNS, d->height, d->width, x);
    free(x);
    free(in);
    free(z);
}
