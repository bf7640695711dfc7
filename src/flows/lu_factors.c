/* LU-linear's matrices, once a step: W = P L V, V = U + diag(sign e^s), its inverse W^-1 = V^-1 L^-1 P^T by triangular
   solves, and log|det W| = sum s. Gradients with respect to W and W^-1, summed over the batch, are pulled back by

       G = gW - W^-T g(W^-1) W^-T,   gL = P^T G V^T,   gV = L^T P^T G,   gs = gV_jj sign e^s + g(sum s).

   Conditioning: both triangular solves are stable as long as L and V are well scaled; the inverse direction loses
   about log10 of W's condition number in digits. */
#include "flows/lu_linear.h"
#include "core/rows.h"
#include <math.h>
#include <string.h>

static nf_real diagonal(const nfi_lu_linear *q, const nf_real *theta, size_t j)
{
    return q->sign[j] * (nf_real)exp((double)theta[nfi_lu_scale_at(q->dim) + j]);
}

/* B = V^-1 L^-1 P^T, [dim x dim]: substitution on all columns at once. */
static void invert(const nfi_lu_linear *q, const nf_real *theta, nf_real *b)
{
    size_t d = q->dim;
    memset(b, 0, d * d * sizeof *b);
    for (size_t i = 0; i < d; i++)
        b[q->order[i] * d + i] = 1;
    for (size_t r = 1; r < d; r++)
        for (size_t j = 0; j < r; j++)
            nfi_add_scaled(d, -theta[nfi_lu_lower_at(r) + j], b + j * d, b + r * d);
    for (size_t r = d; r-- > 0;) {
        const nf_real *u = theta + nfi_lu_upper_at(d, r);
        for (size_t j = r + 1; j < d; j++)
            nfi_add_scaled(d, -u[j - r - 1], b + j * d, b + r * d);
        nf_real pivot = diagonal(q, theta, r);
        for (size_t i = 0; i < d; i++)
            b[r * d + i] /= pivot;
    }
}

void nfi_lu_prepare(const nfi_lu_linear *q, const nf_real *theta, nf_real *prep)
{
    size_t d = q->dim;
    nf_real *w = prep;
    memset(w, 0, d * d * sizeof *w);
    for (size_t j = 0; j < d; j++) {
        nf_real pivot = diagonal(q, theta, j);
        for (size_t i = 0; i < d; i++) {
            size_t r = q->order[i];
            if (r < j)
                continue;
            nf_real l = r == j ? 1 : theta[nfi_lu_lower_at(r) + j];
            w[i * d + j] += l * pivot;
            nfi_add_scaled(d - 1 - j, l, theta + nfi_lu_upper_at(d, j), w + i * d + j + 1);
        }
    }
    invert(q, theta, prep + d * d);
    double log_det = 0;
    for (size_t j = 0; j < d; j++)
        log_det += (double)theta[nfi_lu_scale_at(d) + j];
    prep[2 * d * d] = (nf_real)log_det;
}

/* G -= A^T B A^T for A, B, G [d x d]; B is overwritten by B A^T, by way of `row` [d]. */
static void subtract_congruence(size_t d, const nf_real *a, nf_real *b, nf_real *row, nf_real *g)
{
    for (size_t i = 0; i < d; i++) {
        for (size_t j = 0; j < d; j++)
            row[j] = nfi_dot(d, b + i * d, a + j * d);
        memcpy(b + i * d, row, d * sizeof *row);
    }
    for (size_t i = 0; i < d; i++)
        for (size_t k = 0; k < d; k++)
            nfi_add_scaled(d, -a[k * d + i], b + k * d, g + i * d);
}

static bool all_zero(size_t n, const nf_real *x)
{
    for (size_t i = 0; i < n; i++)
        if (!(x[i] == 0))
            return false;
    return true;
}

void nfi_lu_prepare_vjp(const nfi_lu_linear *q, const nf_real *theta, const nf_real *prep, nf_real *g_prep,
                        nf_real *g_theta)
{
    size_t d = q->dim;
    nf_real *g = g_prep, *g_inverse = g_prep + d * d, g_log_det = g_prep[2 * d * d], *row = g_prep + 2 * d * d + 1;
    if (!all_zero(d * d, g_inverse)) /* W^-1 is used by one of the two directions only */
        subtract_congruence(d, prep + d * d, g_inverse, row, g);
    for (size_t j = 0; j < d; j++) {
        nf_real pivot = diagonal(q, theta, j);
        const nf_real *u = theta + nfi_lu_upper_at(d, j);
        nf_real *gu = g_theta + nfi_lu_upper_at(d, j), g_pivot = 0;
        for (size_t i = 0; i < d; i++) { /* row i of G is row r of P^T G */
            size_t r = q->order[i], rest = d - 1 - j;
            const nf_real *gr = g + i * d + j;
            if (r < j)
                continue;
            nf_real l = r == j ? 1 : theta[nfi_lu_lower_at(r) + j];
            g_pivot += l * gr[0];
            nfi_add_scaled(rest, l, gr + 1, gu);
            if (r > j)
                g_theta[nfi_lu_lower_at(r) + j] += gr[0] * pivot + nfi_dot(rest, gr + 1, u);
        }
        g_theta[nfi_lu_scale_at(d) + j] += g_pivot * pivot + g_log_det;
    }
}
