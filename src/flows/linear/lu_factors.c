/* The matrices of LU-linear, computed once a step: M = L V, V = U + diag(sign e^s), its inverse M^-1 = V^-1 L^-1, and
   log|det| = sum s. (W = P M is M with its rows in another order; the tiles read them in that order.) The gradients in
   M and M^-1, summed over the batch, are pulled back by

       G = gM - M^-T g(M^-1) M^-T,   gL = G V^T,   gV = L^T G,   gs = gV_jj sign e^s + g(sum s).

   Of gL the part below the diagonal counts, of gV the rest. If only M^-1 has a gradient, as in the inverse direction,
   half of the products cancel: with S = -V^-T g(M^-1) L^-T

       gL = L^-T S,   gV = S V^-T.

   In all of this a triangular matrix T, which is L, V or one of their transposes, multiplies a matrix Y from the left,
   or a system with T is solved: Y becomes T Y or -T^-1 Y, in place. T is halved again and again,

       T = [A 0; C B]:   T Y = (A y, C y + B z),   -T^-1 (y, z) = (u, -B^-1 (z + C u)),   u = -A^-1 y,

   so that nearly all work is products with blocks C, which the library's kernels compute. The minus sign makes these
   products add in both cases.

   Conditioning: the solves are stable as long as L and V are well scaled. The inverse direction loses about log10 of
   W's condition number in digits. */
#include "math/product.h"
#include "math/rows.h"
#include "math/transpose.h"
#include "flows/linear/lu_linear.h"
#include <math.h>
#include <string.h>

enum { CHUNK = 96 /* the weights of so many rows of a block stay in the second-level cache */ };

typedef enum triangle { L, L_TRANSPOSED, V, V_TRANSPOSED } triangle;
/* Which columns of row r of Y are wanted, or are not 0: all, those up to r, or those from r on. */
typedef enum columns { ALL, UP_TO_ROW, FROM_ROW } columns;

typedef struct task {
    const nfi_lu_linear *q;
    const nf_real *theta, *diagonal; /* diagonal [dim]: that of V */
    nf_real *y;                      /* [dim x stride] */
    triangle t;
    bool solve; /* true: -T^-1 Y; false: T Y */
    columns columns;
} task;

static bool of_v(const task *a)
{
    return a->t == V || a->t == V_TRANSPOSED;
}

static bool transposed(const task *a)
{
    return a->t == L_TRANSPOSED || a->t == V_TRANSPOSED;
}

/* Whether T is lower triangular: then a row depends on the rows above it. */
static bool from_above(const task *a)
{
    return a->t == L || a->t == V_TRANSPOSED;
}

static nf_real *row_of(const task *a, size_t r)
{
    return a->y + r * nfi_lu_stride(a->q->dim);
}

/* The number of T in row r and column k != r. */
static nf_real element(const task *a, size_t r, size_t k)
{
    const size_t *begin = of_v(a) ? a->q->upper : a->q->lower;
    return transposed(a) ? a->theta[begin[k] + r] : a->theta[begin[r] + k];
}

static void scale(size_t n, nf_real factor, nf_real *x)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

static void divide(size_t n, nf_real divisor, nf_real *x)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        x[i] /= divisor;
}

/* Rows first .. last - 1, with the diagonal block of T of the same rows and columns. A product needs the other rows
   as they were before, a solve needs them done; that decides whether rows go from the first or from the last. */
static void small_block(const task *a, size_t first, size_t last)
{
    const size_t from = a->columns == FROM_ROW ? first : 0, to = a->columns == UP_TO_ROW ? last : a->q->dim;
    const size_t n = to - from;
    const bool ascending = from_above(a) == a->solve;
    for (size_t i = 0; i < last - first; i++) {
        const size_t r = ascending ? first + i : last - 1 - i;
        const size_t k_first = from_above(a) ? first : r + 1, k_last = from_above(a) ? r : last;
        const nf_real pivot = of_v(a) ? a->diagonal[r] : 1;
        nf_real *y = row_of(a, r) + from;
        if (!a->solve && of_v(a))
            scale(n, pivot, y);
        for (size_t k = k_first; k < k_last; k++)
            nfi_add_scaled(n, element(a, r, k), row_of(a, k) + from, y);
        if (a->solve)
            divide(n, -pivot, y);
    }
}

/* The block C of T, beside the diagonal blocks of rows first .. mid - 1 and mid .. last - 1: multiplies the rows of Y
   that belong to C's columns, and adds to the rows of Y that belong to C's rows. */
static void add_product(const task *a, size_t first, size_t mid, size_t last)
{
    const nfi_lu_linear *q = a->q;
    const size_t ld = nfi_lu_stride(q->dim), from = a->columns == FROM_ROW ? first / NFI_LANES * NFI_LANES : 0;
    const size_t to = ((a->columns == UP_TO_ROW ? mid : q->dim) + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    const size_t row = of_v(a) ? first : mid, column = of_v(a) ? mid : first; /* where C begins in L or V */
    const nfi_matrix C = {.n_rows = of_v(a) ? mid - first : last - mid,
                          .width = of_v(a) ? last - mid : mid - first,
                          .offset = (of_v(a) ? q->upper : q->lower) + row};
    const nf_real *c = a->theta + column;
    if (transposed(a)) {
        nfi_times_transposed(&C, c, 0, C.width, to - from, ld, row_of(a, row) + from, true, row_of(a, column) + from);
        return;
    }
    for (size_t r = 0; r < C.n_rows; r += CHUNK)
        nfi_times(&C, c, r, r + CHUNK < C.n_rows ? r + CHUNK : C.n_rows, to - from, ld, row_of(a, column) + from, true,
                  row_of(a, row) + from);
}

/* Rows first .. last - 1, with the diagonal block of T of the same rows and columns: halves the block. */
static void block(const task *a, size_t first, size_t last)
{
    if (last - first <= NFI_LU_LEAF) {
        small_block(a, first, last);
        return;
    }
    const size_t half = (last - first) / 2, mid = first + (half + NFI_LU_LEAF - 1) / NFI_LU_LEAF * NFI_LU_LEAF;
    if (from_above(a) == a->solve)
        block(a, first, mid);
    else
        block(a, mid, last);
    add_product(a, first, mid, last);
    if (from_above(a) == a->solve)
        block(a, mid, last);
    else
        block(a, first, mid);
}

/* Y = T Y, or -T^-1 Y if a.solve, for the triangle t. c says which columns are wanted. */
static void multiply(task a, triangle t, columns c, nf_real *y)
{
    a.t = t;
    a.columns = c;
    a.y = y;
    block(&a, 0, a.q->dim);
}

static void solve(task a, triangle t, columns c, nf_real *y)
{
    a.solve = true;
    multiply(a, t, c, y);
}

void nfi_lu_prepare(const nfi_lu_linear *q, const nf_real *theta, nf_real *prep)
{
    const size_t d = q->dim, ld = nfi_lu_stride(d);
    nf_real *m = prep, *inverse = prep + d * ld, *diagonal = prep + nfi_lu_diagonal_at(d);
    const task a = {.q = q, .theta = theta, .diagonal = diagonal};
    double log_det = 0;
    memset(prep, 0, 2 * d * ld * sizeof *prep);
    for (size_t r = 0; r < d; r++) {
        const double s = (double)theta[nfi_lu_scale_at(d) + r];
        diagonal[r] = m[r * ld + r] = q->sign[r] * (nf_real)exp(s);
        memcpy(m + r * ld + r + 1, theta + q->upper[r] + r + 1, (d - 1 - r) * sizeof *m);
        inverse[r * ld + r] = 1;
        log_det += s;
    }
    multiply(a, L, FROM_ROW, m);
    solve(a, L, UP_TO_ROW, inverse);
    solve(a, V, ALL, inverse);
    prep[nfi_lu_log_det_at(d)] = (nf_real)log_det;
}

/* ---- gradients ---- */

static bool all_zero(size_t d, size_t ld, const nf_real *y)
{
    for (size_t r = 0; r < d; r++)
        for (size_t c = 0; c < d; c++)
            if (!(y[r * ld + c] == 0))
                return false;
    return true;
}

static void copy_block(size_t rows, size_t columns, const nf_real *from, size_t ld_from, nf_real *to, size_t ld_to)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(to + r * ld_to, from + r * ld_from, columns * sizeof *to);
}

/* Y = Y^T in place: blocks above and below the diagonal are exchanged. */
static void transpose(size_t d, size_t ld, nf_real *y)
{
    enum { B = 16 };
    nf_real above[B * B], below[B * B];
    for (size_t i = 0; i < d; i += B)
        for (size_t j = i; j < d; j += B) {
            const size_t rows = d - i < B ? d - i : B, columns = d - j < B ? d - j : B;
            nfi_transpose(rows, columns, y + i * ld + j, ld, above, B);
            if (j > i)
                nfi_transpose(columns, rows, y + j * ld + i, ld, below, B);
            copy_block(columns, rows, above, B, y + j * ld + i, ld);
            if (j > i)
                copy_block(rows, columns, below, B, y + i * ld + j, ld);
        }
}

/* Adds gL, in gl, and gV, in gv, [dim x stride] each, to theta's gradient. */
static void add_to_theta(const task *a, const nf_real *gl, const nf_real *gv, nf_real *g_theta)
{
    const nfi_lu_linear *q = a->q;
    const size_t d = q->dim, ld = nfi_lu_stride(d);
    for (size_t r = 0; r < d; r++) {
        nfi_add_scaled(r, 1, gl + r * ld, g_theta + q->lower[r]);
        nfi_add_scaled(d - 1 - r, 1, gv + r * ld + r + 1, g_theta + q->upper[r] + r + 1);
        g_theta[nfi_lu_scale_at(d) + r] += gv[r * ld + r] * a->diagonal[r];
    }
}

void nfi_lu_prepare_vjp(const nfi_lu_linear *q, const nf_real *theta, const nf_real *prep, nf_real *g_prep,
                        nf_real *g_theta)
{
    const size_t d = q->dim, ld = nfi_lu_stride(d);
    nf_real *g = g_prep, *h = g_prep + d * ld, g_log_det = g_prep[nfi_lu_log_det_at(d)];
    const task a = {.q = q, .theta = theta, .diagonal = prep + nfi_lu_diagonal_at(d)};
    const bool of_m = !all_zero(d, ld, g), of_inverse = !all_zero(d, ld, h);
    if (of_inverse) { /* after this h = -S^T */
        solve(a, V_TRANSPOSED, ALL, h);
        transpose(d, ld, h);
        solve(a, L, ALL, h);
    }
    if (of_inverse && !of_m) {
        nfi_transpose(d, d, h, ld, g, ld);
        solve(a, L_TRANSPOSED, UP_TO_ROW, g);
        solve(a, V, UP_TO_ROW, h);
        transpose(d, ld, h);
        add_to_theta(&a, g, h, g_theta);
    }
    if (of_inverse && of_m) { /* after this h = -L^-T S V^-T, G = g - h */
        solve(a, V, ALL, h);
        transpose(d, ld, h);
        solve(a, L_TRANSPOSED, ALL, h);
        for (size_t r = 0; r < d; r++)
            nfi_add_scaled(d, -1, h + r * ld, g + r * ld);
    }
    if (of_m) {
        nfi_transpose(d, d, g, ld, h, ld);
        multiply(a, V, FROM_ROW, h);
        transpose(d, ld, h);
        multiply(a, L_TRANSPOSED, FROM_ROW, g);
        add_to_theta(&a, h, g, g_theta);
    }
    for (size_t j = 0; j < d; j++)
        g_theta[nfi_lu_scale_at(d) + j] += g_log_det;
}
