/* Units of a layer: which kernel computes them, and their derivatives if some are dropped. With the mask m,

       h = m f(z),   dh = m f'(z) dz,

   so slopes and second derivatives are multiplied by m. If only the output is kept, f' needs the output as it was
   before it was multiplied by m, which is (1 - dropout) h. Where m is 0, this value does not matter. b = softplus(beta)
   keeps the b of swish positive (Chen et al. 2019, sec. 3.3). */
#include "nn/hidden.h"
#include "math/rows.h"
#include "object/tree.h"
#include "nn/directions.h"
#include "nn/dropout.h"
#include "nn/swish.h"
#include <math.h>
#include <string.h>

/* height is c, and steepness is b, in c z sigmoid(b z). */
static nf_real height(const nfi_hidden *u)
{
    return u->f == NF_LIPSWISH ? NF_R(1 / 1.1) : 1;
}
static nf_real steepness(const nfi_hidden *u)
{
    const double beta = (double)*u->beta;
    return (nf_real)(fmax(beta, 0) + log1p(exp(-fabs(beta))));
}

nf_real nfi_first_beta(nf_activation f)
{
    return (nf_real)(f == NF_SWISH ? log(exp(1) - 1) : 0.5); /* swish: b = 1; LipSwish: as in the paper */
}

void nfi_hidden_apply(const nfi_hidden *u, size_t ld, const nf_real *bias, const nf_real *x)
{
    if (u->z)
        nfi_swish(height(u), steepness(u), u->rows, ld, bias, x, u->z, u->h);
    else
        nfi_activate_to(u->f, u->rows, ld, bias, x, u->h);
}

void nfi_hidden_vjp(const nfi_hidden *u, size_t ld, nf_real *spare, nf_real *gh, bool add, nf_real *g, nf_real *g_bias,
                    nf_real *g_beta)
{
    const nf_real *y = u->h;
    if (u->mask) {
        nfi_dropout_vjp(u->dropout, u->rows, ld, u->mask, u->h, gh, spare);
        y = spare;
    }
    if (!u->z && add)
        nfi_activate_vjp_add(u->f, u->rows, ld, y, gh, g, g_bias);
    else if (!u->z)
        nfi_activate_vjp(u->f, u->rows, ld, y, gh, g, g_bias);
    else {
        nfi_swish_vjp(height(u), steepness(u), u->rows, ld, u->z, gh, add, g, g_beta);
        if (g_bias)
            nfi_add_row_sums(u->rows, ld, 1, g, g_bias);
    }
}

/* slope = m f' and, if curve is not NULL, curve = m f'', of units that do not keep their argument. */
static void derivatives(const nfi_hidden *u, size_t ld, nf_real *slope, nf_real *curve)
{
    const size_t n = u->rows * ld;
    const nf_real share = u->mask ? (nf_real)(1 - u->dropout) : 1;
    nfi_activate_slopes(u->f, n, share, u->h, slope);
    if (curve)
        nfi_activate_curves(u->f, n, share, u->h, curve);
    if (u->mask)
        nfi_multiply(n, u->mask, slope);
    if (u->mask && curve)
        nfi_multiply(n, u->mask, curve);
}

void nfi_hidden_tangent(const nfi_hidden *u, size_t ld, size_t k, nf_real *spare, const nf_real *dz, nf_real *dh)
{
    if (u->z) {
        nfi_swish_tangent(height(u), steepness(u), u->rows, k, ld, u->z, u->mask, spare, dz, dh);
        return;
    }
    if (!u->mask) {
        nfi_activate_tangent(u->f, u->rows, k, ld, u->h, dz, dh);
        return;
    }
    derivatives(u, ld, spare, NULL);
    nfi_scale_directions(u->rows, k, ld, spare, dz, false, dh);
}

void nfi_hidden_tangent_vjp(const nfi_hidden *u, size_t ld, size_t k, nf_real *spare, const nf_real *dz,
                            const nf_real *gh, const nf_real *gdh, bool add, nf_real *gz, nf_real *gdz, nf_real *g_bias,
                            nf_real *g_beta)
{
    const size_t n = u->rows * ld;
    nf_real *slope = spare, *curve = spare + n, *sums = spare + 2 * n;
    const bool curved = nfi_is_curved(u->f);
    if (u->z) {
        nfi_swish_tangent_vjp(height(u), steepness(u), u->rows, k, ld, u->z, u->mask, spare, dz, gh, gdh, add, gz, gdz,
                              g_beta);
    } else if (curved && !u->mask && !add) { /* others do not read dz, which may not be there */
        nfi_activate_tangent_vjp(u->f, u->rows, k, ld, u->h, dz, gh, gdh, gz, gdz);
    } else {
        derivatives(u, ld, slope, curved ? curve : NULL);
        if (curved)
            nfi_dot_directions(u->rows, k, ld, dz, gdh, sums);
        nfi_scale_directions(u->rows, k, ld, slope, gdh, add, gdz);
        if (curved)
            nfi_add_products(n, slope, gh, curve, sums, add, gz);
        else
            nfi_scale_directions(u->rows, 1, ld, slope, gh, add, gz);
    }
    if (g_bias)
        nfi_add_row_sums(u->rows, ld, 1, gz, g_bias);
}

nf_real *nfi_beta_row(const nf_pass *p, nf_activation f)
{
    nf_real *row = nfi_keeps_argument(f) ? nf_arena_reals(p->scratch, 1, p->ld) : NULL;
    if (row)
        memset(row, 0, p->ld * sizeof *row);
    return row;
}

void nfi_beta_gradient(const nfi_hidden *u, size_t ld, const nf_grad *g, size_t at, nf_real *g_beta)
{
    if (!u->z)
        return;
    if (g->theta) {
        nf_real sum = 0;
        nfi_add_row_sums(1, ld, 1, g_beta, &sum);
        const nf_real in_beta = (nf_real)((double)sum / (1 + exp(-(double)*u->beta)));
        g->theta[at] = nfi_is_fresh(g) ? in_beta : g->theta[at] + in_beta;
    }
    memset(g_beta, 0, ld * sizeof *g_beta);
}
