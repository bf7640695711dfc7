/* An affine layer z = W (x, context) + b, its products and, by the chain rule, the gradients

       gW += gz (x, context)^T,   g(x, context) = W^T gz.

   The tangent is dz = W dx, with gW += sum_j gdz_j dx_j^T and gdx_j = W^T gdz_j. Initial weights are those of He et al.
   2015, eq. 10, or Glorot & Bengio 2010, eq. 12. Products run over the n samples only; the padding is set afterwards.
   The context is not copied next to x: the columns of W for x and those for the context make two products, which are
   added in one array. */
#include "nn/dense.h"
#include "base/memory.h"
#include "math/product.h"
#include "object/pack.h"
#include "object/tree.h"
#include "math/transpose.h"
#include "nn/directions.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

bool nfi_dense_count(const nfi_dense *d, size_t *total)
{
    size_t size;
    return nfi_add(d->in, d->n_ctx, &size) && nfi_add(size, 1, &size) && nfi_mul(size, d->out, &size) &&
           nfi_add(size, d->betas, &size) && nfi_add(*total, size, total);
}

/* The columns of W for x, or, if the caller starts at w + in, those for context. */
static nfi_matrix columns(const nfi_dense *d, size_t width)
{
    return (nfi_matrix){.n_rows = d->out, .width = width, .stride = nfi_dense_fan_in(d)};
}

void nfi_dense_apply(const nfi_dense *d, const nf_pass *p, const nf_real *w, const nf_real *x, bool add, nf_real *z)
{
    const nfi_matrix of_x = columns(d, d->in), of_ctx = columns(d, d->n_ctx);
    const size_t n = p->n, ld = p->ld;
    if (d->in)
        nfi_times(&of_x, w, 0, d->out, n, ld, x, add, z);
    if (d->n_ctx)
        nfi_times(&of_ctx, w + d->in, 0, d->out, n, ld, p->ctx, add || d->in, z);
    if (nfi_dense_fan_in(d) == 0 && !add)
        memset(z, 0, d->out * ld * sizeof *z);
    nfi_pad(d->out, n, ld, z);
}

nf_status nfi_weight_gradient(const nf_pass *p, const nfi_matrix *W, size_t rows, const nf_real *h, const nf_real *gz,
                              bool add, nf_real *gw)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    const size_t ldt = ((rows + NFI_LANES - 1) / NFI_LANES | 1) * NFI_LANES; /* odd: rows in different cache sets */
    nf_real *transposed = nf_arena_reals(p->scratch, p->n, ldt);
    if (!transposed)
        return NF_ENOMEM;
    nfi_transpose(rows, p->n, h, p->ld, transposed, ldt);
    nfi_outer(W, p->n, p->ld, gz, ldt, transposed, add, gw);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

nf_status nfi_dense_vjp(const nfi_dense *d, const nf_pass *p, size_t at, const nf_real *x, const nf_real *gz,
                        nf_real *gx, const nf_grad *g)
{
    const nf_real *w = p->theta + at;
    nf_real *gw = g->theta ? g->theta + at : NULL;
    const nfi_matrix of_x = columns(d, d->in), of_ctx = columns(d, d->n_ctx);
    const size_t ld = p->ld, n = p->n;
    nf_status status = NF_OK;
    if (gw && d->in)
        status = nfi_weight_gradient(p, &of_x, d->in, x, gz, !nfi_is_fresh(g), gw);
    if (gw && d->n_ctx && status == NF_OK)
        status = nfi_weight_gradient(p, &of_ctx, d->n_ctx, p->ctx, gz, !nfi_is_fresh(g), gw + d->in);
    if (g->ctx && d->n_ctx)
        nfi_times_transposed(&of_ctx, w + d->in, 0, d->n_ctx, n, ld, gz, true, g->ctx);
    if (gx && d->in) {
        nfi_times_transposed(&of_x, w, 0, d->in, n, ld, gz, false, gx);
        nfi_pad_zero(d->in, n, ld, gx);
    }
    return status;
}

void nfi_dense_tangent(const nfi_dense *d, const nf_pass *p, size_t k, const nf_real *w, const nf_real *dx, bool add,
                       nf_real *dz)
{
    const nfi_matrix of_x = columns(d, d->in);
    const size_t ld = k * p->ld;
    if (d->in)
        nfi_times(&of_x, w, 0, d->out, ld, ld, dx, add, dz);
    else if (!add)
        memset(dz, 0, d->out * ld * sizeof *dz);
}

nf_status nfi_dense_tangent_vjp(const nfi_dense *d, const nf_pass *p, size_t k, size_t at, const nf_real *x,
                                const nf_real *dx, const nf_real *gz, const nf_real *gdz, nf_real *gx, nf_real *gdx,
                                const nf_grad *g)
{
    const nfi_matrix of_x = columns(d, d->in);
    const nf_pass wide = nfi_wide_pass(p, k);
    nf_status status = nfi_dense_vjp(d, p, at, x, gz, gx, g);
    if (status == NF_OK && g->theta && d->in)
        status = nfi_weight_gradient(&wide, &of_x, d->in, dx, gdz, true, g->theta + at);
    if (gdx && d->in)
        nfi_times_transposed(&of_x, p->theta + at, 0, d->in, wide.n, wide.ld, gdz, false, gdx);
    return status;
}

nf_real *nfi_bias_gradient(const nf_grad *g, size_t at, size_t rows)
{
    if (g->theta && nfi_is_fresh(g))
        memset(g->theta + at, 0, rows * sizeof *g->theta);
    return g->theta ? g->theta + at : NULL;
}

/* ---- initial weights ---- */

static double weight_deviation(nf_initialisation init, nf_activation unit, double fan_in, double fan_out)
{
    bool rectifier = unit != NF_TANH && unit != NF_SOFTPLUS && unit != NF_SIGMOID && unit != NF_IDENTITY;
    switch (init) {
    case NF_INIT_AUTO:
        return rectifier ? sqrt(2 / fan_in) : sqrt(2 / (fan_in + fan_out));
    case NF_INIT_HE:
        return sqrt(2 / fan_in);
    case NF_INIT_GLOROT:
        return sqrt(2 / (fan_in + fan_out));
    case NF_INIT_LECUN:
    case NF_INIT_TORCH: /* here the bound of a uniform, not a deviation */
        return sqrt(1 / fan_in);
    case NF_INIT_SMALL:
        return 0.001;
    }
    return 0;
}

/* Draws n numbers as two long rows, since noise is fastest over many samples. */
static void draw(void (*noise)(const nf_noise *, size_t, size_t, size_t, nf_real *), const nf_noise *name, size_t n,
                 nf_real *out)
{
    if (n > 1)
        noise(name, 2, n / 2, n / 2, out);
    nf_noise last = *name;
    last.first_sample += n / 2;
    if (n % 2)
        noise(&last, 1, 1, 1, out + n - 1);
}

static void scale(double factor, size_t n, nf_real *w)
{
    for (size_t i = 0; i < n; i++)
        w[i] = (nf_real)(factor * (double)w[i]);
}

static void draw_uniform(double bound, const nf_noise *noise, size_t n, nf_real *w)
{
    draw(nf_noise_uniform, noise, n, w);
    for (size_t i = 0; i < n; i++)
        w[i] = 2 * w[i] - 1;
    scale(bound, n, w);
}

void nfi_dense_init_uniform(const nfi_dense *d, double bound, const nf_noise *noise, nf_real *w)
{
    draw_uniform(bound, noise, nfi_dense_beta(d), w);
}

void nfi_draw_weights(nf_initialisation init, nf_activation unit, size_t fan_in, size_t fan_out, double factor,
                      const nf_noise *noise, size_t n_weights, size_t n_biases, nf_real *w)
{
    double deviation = fan_in ? factor * weight_deviation(init, unit, (double)fan_in, (double)fan_out) : 0;
    if (init == NF_INIT_TORCH) {
        draw_uniform(deviation, noise, n_weights + n_biases, w);
        return;
    }
    draw(nf_noise_normal, noise, n_weights, w);
    scale(deviation, n_weights, w);
}

void nfi_dense_init(const nfi_dense *d, nf_initialisation init, nf_activation unit, size_t fan_out, double factor,
                    const nf_noise *noise, nf_real *w)
{
    nfi_draw_weights(init, unit, nfi_dense_fan_in(d), fan_out, factor, noise, nfi_dense_bias(d), d->out, w);
}

void nfi_dense_slices(const nfi_dense *d, const char *layer, size_t at, nf_slice_fn *each, void *user)
{
    char name[80];
    size_t extents[2] = {d->out, nfi_dense_fan_in(d)};
    snprintf(name, sizeof name, "%s.weight", layer);
    each(user, name, at, 2, extents);
    snprintf(name, sizeof name, "%s.bias", layer);
    each(user, name, at + nfi_dense_bias(d), 1, extents);
    snprintf(name, sizeof name, "%s.beta", layer);
    if (d->betas)
        each(user, name, at + nfi_dense_beta(d), 1, &d->betas);
}
