/* The kernels of the affine flow with a low-rank matrix, y = m + e^s (x + W W^T x), W [dim x r]. In other words,
   y = m + D M x with D = diag(e^s) and M = I + W W^T. With C = I + W^T W [r x r] = R R^T (Cholesky),

       log|det dy/dx| = sum s + log det C = sum s + 2 sum log R_kk        (Sylvester's determinant identity)
       M^-1 = I - W C^-1 W^T                                              (Woodbury).

   A standard normal x gives y the covariance D M^2 D, and M^2 = I + W (2 I + W^T W) W^T. Let V [dim x r] be any matrix,
   with singular values v_k. The W with the same singular vectors and singular values w_k, w_k^2 = sqrt(1 + v_k^2) - 1,
   has M^2 = I + V V^T, since w^2 (2 + w^2) = v^2. So the covariances are exactly D^2 + U U^T, where U = D V is any
   [dim x r] matrix: those of factor analysis. (M is symmetric, so that it needs no parameters for a rotation.)

   Backward, with t = W^T x, x on the base's side, and on the target's side the cotangent w, forward gy and inverse -gx:

       forward gx = M D gy, inverse gx = D^-1 M^-1 gy;   u = D w,   q = W^T u,   gm += w,   gs += u (x + W t) + g_l,
       gW += u t^T + x q^T + 2 g_l W C^-1,   g_l the log-det's cotangent (inverse: its negative).

   At W = 0 every loss has a saddle in W; so W starts small, but not at 0. Conditioning: cond(M) = 1 + |W|^2; the
   inverse loses digits accordingly, and log det C loses digits where columns of W are nearly parallel. |W|^2 must not
   overflow. */
#include "flows/linear/low_rank.h"
#include "flows/param.h"
#include "flows/elementwise/root_scale.h"

/* C is summed row by row of W, and R is computed column by column, so that no inner loop is a sum. Inner loops go
   over samples or, if samples share parameters, over numbers that do not depend on each other. The order of a sum is
   then the same in every instruction set. */
NFI_INLINE void prepare(size_t stride, nfi_low_rank n, size_t ld, const nf_real *theta, nf_real *root, nf_real *R)
{
    const size_t c = nfi_param_columns(stride, nfi_lanes(ld));
    const nf_real *W = theta + 2 * n.dim * c;
    nfi_root_scales(n.dim * c, 1, theta + n.dim * c, root);
    for (size_t k = 0; k < n.r; k++)
        for (size_t l = 0; l <= k; l++) {
            nf_real *restrict to = R + nfi_low_rank_factor(k, l) * c;
            NFI_SIMD
            for (size_t s = 0; s < c; s++)
                to[s] = k == l;
        }
    for (size_t i = 0; i < n.dim; i++)
        for (size_t k = 0; k < n.r; k++)
            for (size_t l = 0; l <= k; l++) {
                nf_real *restrict to = R + nfi_low_rank_factor(k, l) * c;
                const nf_real *a = W + (i * n.r + k) * c, *b = W + (i * n.r + l) * c;
                NFI_SIMD
                for (size_t s = 0; s < c; s++)
                    to[s] += a[s] * b[s];
            }
    for (size_t l = 0; l < n.r; l++) { /* turns C, whose lower half is there, into R in place */
        nf_real *restrict pivot = R + nfi_low_rank_factor(l, l) * c;
        NFI_SIMD
        for (size_t s = 0; s < c; s++) /* pivots of I + W^T W are at least 1, even if rounding made them smaller */
            pivot[s] = nfi_sqrt(pivot[s] < 1 ? 1 : pivot[s]);
        for (size_t k = l + 1; k < n.r; k++) {
            nf_real *restrict a = R + nfi_low_rank_factor(k, l) * c;
            NFI_SIMD
            for (size_t s = 0; s < c; s++)
                a[s] /= pivot[s];
            for (size_t j = l + 1; j <= k; j++) {
                nf_real *restrict to = R + nfi_low_rank_factor(k, j) * c;
                const nf_real *b = R + nfi_low_rank_factor(j, l) * c;
                NFI_SIMD
                for (size_t s = 0; s < c; s++)
                    to[s] -= a[s] * b[s];
            }
        }
    }
}

NFI_INLINE void add_log_det(size_t stride, double sign, nfi_low_rank n, size_t ld, const nf_real *log_scale,
                            const nf_real *R, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < n.dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += sign * (double)nfi_param(log_scale, stride, ld, i, s);
    }
    for (size_t k = 0; k < n.r; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += sign * 2 * (double)nfi_log(nfi_param(R, stride, ld, nfi_low_rank_factor(k, k), s));
    }
}

/* t = C^-1 t, t [r x columns]: solves with R, then with R^T. Each row is divided; then its multiples are subtracted
   from the rows that are solved later. */
NFI_INLINE void solve(size_t stride, nfi_low_rank n, size_t ld, size_t columns, const nf_real *R, nf_real *t)
{
    for (size_t pass = 0; pass < 2; pass++)
        for (size_t step = 0; step < n.r; step++) {
            const size_t k = pass ? n.r - 1 - step : step;
            nf_real *restrict from = t + k * columns;
            NFI_SIMD
            for (size_t s = 0; s < columns; s++)
                from[s] /= nfi_param(R, stride, ld, nfi_low_rank_factor(k, k), s);
            for (size_t j = pass ? 0 : k + 1; j < (pass ? k : n.r); j++) {
                const size_t at = pass ? nfi_low_rank_factor(k, j) : nfi_low_rank_factor(j, k);
                nf_real *restrict to = t + j * columns;
                NFI_SIMD
                for (size_t s = 0; s < columns; s++)
                    to[s] -= nfi_param(R, stride, ld, at, s) * from[s];
            }
        }
}

/* out = D in, or D^-1 in if `divide`. If m is not NULL: out = m + D in, or D^-1 (in - m). in may be out. */
NFI_INLINE void scale(size_t stride, bool divide, nfi_low_rank n, size_t ld, const nf_real *m, const nf_real *root,
                      const nf_real *in, nf_real *out)
{
    for (size_t i = 0; i < n.dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = nfi_param(root, stride, ld, i, s), shift = m ? nfi_param(m, stride, ld, i, s) : 0;
            out[i * ld + s] = divide ? (in[i * ld + s] - shift) / e / e : in[i * ld + s] * e * e + shift;
        }
    }
}

/* t = W^T in [r x ld] */
NFI_INLINE void project(size_t stride, nfi_low_rank n, size_t ld, const nf_real *W, const nf_real *in, nf_real *t)
{
    for (size_t i = 0; i < n.dim; i++)
        for (size_t k = 0; k < n.r; k++) {
            nf_real *restrict to = t + k * ld;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                to[s] = (i ? to[s] : 0) + nfi_param(W, stride, ld, i * n.r + k, s) * in[i * ld + s];
        }
}

/* row = in + sign (W t)_i, where `in` is feature i. row may be in. */
NFI_INLINE void expand(size_t stride, nf_real sign, nfi_low_rank n, size_t ld, size_t i, const nf_real *W,
                       const nf_real *t, const nf_real *in, nf_real *row)
{
    for (size_t k = 0; k < n.r; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            row[s] = (k ? row[s] : in[s]) + sign * nfi_param(W, stride, ld, i * n.r + k, s) * t[k * ld + s];
    }
}

/* out = M in with t = W^T in; with `divide` M^-1 in with t = C^-1 W^T in. in may be out. */
NFI_INLINE void times_M(size_t stride, bool divide, nfi_low_rank n, size_t ld, const nf_real *W, const nf_real *R,
                        const nf_real *in, nf_real *t, nf_real *out)
{
    project(stride, n, ld, W, in, t);
    if (divide)
        solve(stride, n, ld, ld, R, t);
    for (size_t i = 0; i < n.dim; i++)
        expand(stride, divide ? -1 : 1, n, ld, i, W, t, in + i * ld, out + i * ld);
}

NFI_INLINE void multiply(size_t stride, bool divide, bool transposed, nfi_low_rank n, size_t ld, const nf_real *theta,
                         const nf_real *root, const nf_real *R, const nf_real *in, nf_real *t, nf_real *out)
{
    ld = nfi_lanes(ld);
    const nf_real *W = theta + 2 * n.dim * nfi_param_columns(stride, ld), *m = transposed ? NULL : theta;
    const bool scale_first = divide != transposed;
    if (scale_first)
        scale(stride, divide, n, ld, m, root, in, out);
    times_M(stride, divide, n, ld, W, R, scale_first ? out : in, t, out);
    if (!scale_first)
        scale(stride, divide, n, ld, m, root, out, out);
}

/* work: W^T x [r x ld], a row of W C^-1 [r x ld], two more rows. */
NFI_INLINE void add_gradient(size_t stride, nf_real sign, nfi_low_rank n, size_t ld, const nf_real *theta,
                             const nf_real *root, const nf_real *R, const nf_real *x, const nf_real *w,
                             const nf_real *t, const nf_real *g_log_det, nf_real *work, nf_real *g)
{
    ld = nfi_lanes(ld);
    const size_t c = nfi_param_columns(stride, ld);
    const nf_real *W = theta + 2 * n.dim * c;
    nf_real *tx = work, *wc = work + n.r * ld, *restrict u = wc + n.r * ld, *restrict row = u + ld;
    nf_real *gW = g + 2 * n.dim * c;
    const nf_real all = stride ? 0 : nfi_row_sum(ld, g_log_det);
    project(stride, n, ld, W, x, tx);
    for (size_t i = 0; i < n.dim; i++) {
        const nf_real *xi = x + i * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            u[s] = sign * w[i * ld + s];
        nfi_param_add(stride, ld, u, NULL, g + i * c);
        expand(stride, 1, n, ld, i, W, tx, xi, row);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = nfi_param(root, stride, ld, i, s);
            u[s] = u[s] * e * e;
            row[s] = u[s] * row[s] + sign * g_log_det[s];
        }
        nfi_param_add(stride, ld, row, NULL, g + (n.dim + i) * c);
        for (size_t k = 0; k < n.r * c; k++)
            wc[k] = W[i * n.r * c + k];
        solve(stride, n, ld, c, R, wc);
        for (size_t k = 0; k < n.r; k++) {
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                row[s] = u[s] * tx[k * ld + s] + sign * xi[s] * t[k * ld + s] +
                         (stride ? 2 * sign * g_log_det[s] * wc[k * ld + s] : 0);
            nfi_param_add(stride, ld, row, NULL, gW + (i * n.r + k) * c);
            if (!stride)
                gW[i * n.r + k] += 2 * sign * all * wc[k];
        }
    }
}

void nfi_low_rank_prepare(size_t stride, nfi_low_rank n, size_t ld, const nf_real *theta, nf_real *root, nf_real *R)
{
    NFI_BY_STRIDE(prepare, stride, n, ld, theta, root, R);
}

void nfi_low_rank_log_det(size_t stride, double sign, nfi_low_rank n, size_t ld, const nf_real *log_scale,
                          const nf_real *R, double *log_det)
{
    NFI_BY_STRIDE(add_log_det, stride, sign, n, ld, log_scale, R, log_det);
}

void nfi_low_rank_multiply(size_t stride, bool divide, bool transposed, nfi_low_rank n, size_t ld, const nf_real *theta,
                           const nf_real *root, const nf_real *R, const nf_real *in, nf_real *t, nf_real *out)
{
    NFI_BY_STRIDE(multiply, stride, divide, transposed, n, ld, theta, root, R, in, t, out);
}

void nfi_low_rank_gradient(size_t stride, nf_real sign, nfi_low_rank n, size_t ld, const nf_real *theta,
                           const nf_real *root, const nf_real *R, const nf_real *x, const nf_real *w, const nf_real *t,
                           const nf_real *g_log_det, nf_real *work, nf_real *g)
{
    NFI_BY_STRIDE(add_gradient, stride, sign, n, ld, theta, root, R, x, w, t, g_log_det, work, g);
}
