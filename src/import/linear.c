/* Layers that have no net: affine maps of each feature, permutations, and matrices.

   A matrix is W = P L U with partial pivoting (Golub & Van Loan, section 3.4): row pivot[i] of W is row i of L U. The
   library's nf_lu_linear has a positive diagonal, so U = A S with A = U S and the signs S of U's diagonal, and S is a
   product of reflections along coordinate axes. */
#include "import/import.h"
#include <nflow/linear.h>
#include <math.h>
#include <string.h>

/* A flow of channels for each of n_pixels pixels. */
static nf_flow *for_pixels(nf_flow *f, size_t n_pixels)
{
    return f && n_pixels > 1 ? nf_pixelwise(f, n_pixels) : f;
}

void nfi_import_affine(nfi_import *im, bool from_data, size_t n, size_t n_pixels, const double *m, const double *s,
                       const char *prefix)
{
    if (im->status != NF_OK)
        return;
    nfi_import_dim(im, n * n_pixels, prefix);
    nfi_put(im, n, m);
    nfi_put(im, n, s);
    nfi_import_add(im, from_data, for_pixels(nf_affine(n), n_pixels), prefix);
}

void nfi_import_permutation(nfi_import *im, bool from_data, size_t n, const size_t *order, const char *prefix)
{
    if (im->status != NF_OK)
        return;
    nfi_import_dim(im, n, prefix);
    nfi_import_add(im, from_data, nf_permutation(n, order), prefix);
}

void nfi_import_lu(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n = NFI_ANY;
    double *d = nfi_import_take(im, prefix, "unconstrained_upper_diag", 1, &n);
    size_t n_triangle = d ? n * (n - 1) / 2 : 0;
    const double *lower = nfi_import_take(im, prefix, "lower_entries", 1, &n_triangle);
    const double *upper = nfi_import_take(im, prefix, "upper_entries", 1, &n_triangle);
    const double *bias = nfi_import_take(im, prefix, "bias", 1, &n);
    if (im->status != NF_OK)
        return;
    for (size_t i = 0; i < n; i++)
        d[i] = log(fmax(d[i], 0) + log1p(exp(-fabs(d[i]))) + 1e-3);
    nfi_import_dim(im, n, prefix);
    nfi_put(im, n_triangle, lower);
    nfi_put(im, n_triangle, upper);
    nfi_put(im, n, d);
    nfi_put(im, n, bias);
    nfi_import_add(im, from_data, nf_lu_linear(n, NF_LU_IDENTITY), prefix);
}

/* ---- matrices ---- */

static void swap_rows(size_t n, double *a, double *b)
{
    for (size_t j = 0; j < n; j++) {
        const double kept = a[j];
        a[j] = b[j];
        b[j] = kept;
    }
}

/* Replaces W by L below its diagonal and U above, and fills in pivot [n]. False: it is singular, or not finite. */
static bool decompose(size_t n, double *W, size_t *pivot)
{
    for (size_t i = 0; i < n; i++)
        pivot[i] = i;
    for (size_t k = 0; k < n; k++) {
        size_t top = k;
        for (size_t i = k + 1; i < n; i++)
            if (fabs(W[i * n + k]) > fabs(W[top * n + k]))
                top = i;
        if (!(fabs(W[top * n + k]) > 0) || !isfinite(W[top * n + k]))
            return false;
        if (top != k) {
            swap_rows(n, W + top * n, W + k * n);
            const size_t kept = pivot[top];
            pivot[top] = pivot[k];
            pivot[k] = kept;
        }
        for (size_t i = k + 1; i < n; i++) {
            const double factor = W[i * n + k] /= W[k * n + k];
            for (size_t j = k + 1; j < n; j++)
                W[i * n + j] -= factor * W[k * n + j];
        }
    }
    return true;
}

/* Puts the numbers of the reflections along the axes where U's diagonal is negative; returns how many there are. */
static size_t put_signs(nfi_import *im, size_t n, const double *LU, double *row)
{
    size_t n_negative = 0;
    for (size_t j = 0; j < n; j++)
        if (LU[j * n + j] < 0) {
            memset(row, 0, n * sizeof *row);
            row[j] = 1;
            nfi_put(im, n, row);
            n_negative++;
        }
    return n_negative;
}

void nfi_import_matrix(nfi_import *im, bool from_data, size_t n, size_t n_pixels, const double *W, const double *b,
                       const char *prefix)
{
    double *LU = nfi_import_memory(im, n * n, sizeof *LU), *row = nfi_import_memory(im, n, sizeof *row);
    size_t *pivot = nfi_import_memory(im, n, sizeof *pivot), *order = nfi_import_memory(im, n, sizeof *order);
    if (!W || !order)
        return;
    memcpy(LU, W, n * n * sizeof *LU);
    nfi_import_dim(im, n * n_pixels, prefix);
    if (!decompose(n, LU, pivot)) {
        nfi_import_fail(im, NF_EFORMAT, "the matrix of '%s...' is singular or not finite", prefix);
        return;
    }
    const size_t n_negative = put_signs(im, n, LU, row);
    for (size_t i = 0; i < n; i++)
        nfi_put(im, i, LU + i * n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            const double a = LU[j * n + j] < 0 ? -LU[i * n + j] : LU[i * n + j];
            nfi_put(im, 1, &a);
        }
    for (size_t i = 0; i < n; i++)
        row[i] = log(fabs(LU[i * n + i]));
    nfi_put(im, n, row);
    for (size_t i = 0; i < n; i++) {
        row[i] = b ? b[pivot[i]] : 0;
        order[pivot[i]] = i;
    }
    nfi_put(im, n, row);
    nf_flow *f[3];
    size_t n_flows = 0;
    if (n_negative)
        f[n_flows++] = nf_householder(n, n_negative);
    f[n_flows++] = nf_lu_linear(n, NF_LU_IDENTITY);
    f[n_flows++] = nf_permutation(n, order);
    nfi_import_add(im, from_data, for_pixels(nf_chain(f, n_flows), n_pixels), prefix);
}

double *nfi_import_take_matrix(nfi_import *im, const char *prefix, size_t *n)
{
    size_t square[2] = {NFI_ANY, NFI_ANY};
    if (nfi_import_has(im, prefix, "W")) {
        double *W = nfi_import_take(im, prefix, "W", 2, square);
        *n = square[0];
        return W && square[0] != square[1] ? nfi_import_fail(im, NF_EFORMAT, "tensor '%sW' is not square", prefix) : W;
    }
    *n = NFI_ANY;
    const double *s = nfi_import_take(im, prefix, "log_S", 1, n), *sign = nfi_import_take(im, prefix, "sign_S", 1, n);
    square[0] = square[1] = *n;
    const double *P = nfi_import_take(im, prefix, "P", 2, square), *L = nfi_import_take(im, prefix, "L", 2, square);
    const double *U = nfi_import_take(im, prefix, "U", 2, square);
    nfi_import_skip(im, prefix, "eye");
    double *W = nfi_import_memory(im, im->status == NF_OK ? *n * *n : 0, sizeof *W);
    double *row = nfi_import_memory(im, im->status == NF_OK ? *n : 0, sizeof *row);
    for (size_t k = 0; row && k < *n; k++) { /* row k of L U goes to the rows where column k of P is not 0 */
        for (size_t j = 0; j < *n; j++) {
            row[j] = 0;
            for (size_t l = 0; l <= k && l <= j; l++)
                row[j] += (l == k ? 1 : L[k * *n + l]) * (l == j ? sign[j] * exp(s[j]) : U[l * *n + j]);
        }
        for (size_t i = 0; i < *n; i++)
            for (size_t j = 0; j < *n && fabs(P[i * *n + k]) > 0; j++)
                W[i * *n + j] += P[i * *n + k] * row[j];
    }
    return row ? W : NULL;
}
