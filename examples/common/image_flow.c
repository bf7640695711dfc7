#include "image_flow.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>

static nf_real middle(const image_flow *f, unsigned char k)
{
    return ((nf_real)k + NF_R(0.5)) / (nf_real)f->levels;
}

void image_flow_encode(const image_flow *f, size_t n, const unsigned char *k, const nf_real *ctx, nf_real *z)
{
    nf_real *v = cli_allocate(n, f->dim * sizeof *v);
    for (size_t i = 0; i < n * f->dim; i++)
        v[i] = middle(f, k[i]);
    cli_ok(nf_transform(f->density, f->ws, NULL, NF_INVERSE, n, v, ctx, z, NULL));
    free(v);
}

void image_flow_decode(const image_flow *f, size_t n, const nf_real *z, const nf_real *ctx, unsigned char *k,
                       nf_real *v)
{
    nf_real *own = v ? NULL : cli_allocate(n, f->dim * sizeof *own);
    v = v ? v : own;
    cli_ok(nf_transform(f->density, f->ws, NULL, NF_FORWARD, n, z, ctx, v, NULL));
    const nf_real levels = (nf_real)f->levels;
    for (size_t i = 0; i < n * f->dim; i++) /* where there is no number, 0 */
        k[i] = (unsigned char)fmin(fmax(floor((double)(levels * v[i])), 0), (double)levels - 1);
    free(own);
}

void image_flow_latents(const image_flow *f, size_t n, uint64_t seed, nf_real *z)
{
    for (size_t i = 0; i < n; i++)
        nf_noise_normal(&(nf_noise){.seed = seed, .first_sample = i}, f->dim, 1, 1, z + i * f->dim);
}

image_round_trip image_flow_round_trip(const image_flow *f, size_t n, const unsigned char *k, const nf_real *ctx,
                                       unsigned char *again)
{
    nf_real *z = cli_allocate(n, f->dim * sizeof *z), *v = cli_allocate(n, f->dim * sizeof *v);
    unsigned char *own = again ? NULL : cli_allocate(n, f->dim);
    again = again ? again : own;
    image_flow_encode(f, n, k, ctx, z);
    image_flow_decode(f, n, z, ctx, again, v);
    image_round_trip r = {.images = n};
    for (size_t i = 0; i < n * f->dim; i++) {
        const double error = fabs((double)(v[i] - middle(f, k[i])));
        r.wrong += again[i] != k[i];
        if (error > r.error || (i == 0 && !(error <= 0))) {
            r.error = error;
            r.image = i / f->dim;
            r.pixel = i % f->dim;
        }
    }
    r.column = r.pixel % f->size.width;
    r.row = r.pixel / f->size.width % f->size.height;
    r.channel = r.pixel / f->size.width / f->size.height;
    free(z);
    free(v);
    free(own);
    return r;
}
