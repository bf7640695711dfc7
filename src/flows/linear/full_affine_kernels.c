/* Affine flow with a triangular matrix: y = m + L x, L_ii = e^s_i, L_ij = l_ij for j < i. It takes a standard normal to
   any normal, with covariance L L^T. log|det dy/dx| = sum s.

   The inverse is forward substitution. With u the cotangent on the target's side (forward gy; inverse -gx, where
   gx = L^-T gy) and x on the base's side,

       gm += u,   gl_ij += u_i x_j,   gs_i += u_i x_i e^s_i + g_log_det (inverse: - g_log_det).

   The products with L, L^-1, L^T and L^-T are one loop over rows, with NFI_LANES samples at a time, so that these stay
   in the cache. The rows go in the order in which a solve finds them: L's from the first on, L^T's from the last. A
   parameter is read once a tile (theta_stride 0) or once a sample (1: amortised full covariances). Conditioning:
   substitution is backward stable; the inverse loses about log10 of L's condition number in digits. */
#include "flows/linear/full_affine.h"
#include "flows/param.h"
#include "flows/elementwise/root_scale.h"

/* The index of L_ij in l. */
NFI_INLINE size_t lower_at(size_t i, size_t j)
{
    return i * (i - 1) / 2 + j;
}

/* ROWS rows of the result are summed at once, each in so many vectors: eight sums overlap in the processor, a shared
   parameter is read once for all samples, and a number of x once for all rows. Each sum runs from the first known row
   to the last, whatever ROWS is. */
enum { AT_ONCE = NFI_LANES / NFI_WIDTH, ROWS = NFI_WIDTH / 2 };
#define EACH(i, count) for (size_t i = 0; i < (count); i++)

/* sum += the product of L's number in row k and column e, in the order of solving, with row e of `known`. */
NFI_INLINE void add_product(size_t stride, bool transposed, nfi_full_affine q, size_t k, size_t e, size_t s,
                            const nf_real *known, nfi_vec *sum)
{
    const size_t last = q.dim - 1, l = transposed ? lower_at(last - e, last - k) : lower_at(k, e);
    known += (transposed ? last - e : e) * q.ld + s;
    EACH(v, AT_ONCE)
    sum[v] += NFI_PARAM_VEC(q.l, stride, q.ld, l, s + v * NFI_WIDTH) * NFI_CONST_VEC_AT(known + v * NFI_WIDTH);
}

/* Rows k .. k + R - 1, in the order of solving, of NFI_LANES samples from s on. */
NFI_INLINE void multiply_rows(const size_t R, size_t stride, nfi_l_product kind, nfi_full_affine q, size_t k, size_t s,
                              const nf_real *root, const nf_real *in, nf_real *out)
{
    const bool transposed = kind == NFI_L_TIMES_TRANSPOSED || kind == NFI_L_SOLVE_TRANSPOSED;
    const bool solve = kind == NFI_L_SOLVE || kind == NFI_L_SOLVE_TRANSPOSED;
    const nf_real *known = solve ? out : in;
    nfi_vec sum[ROWS][AT_ONCE];
    EACH(r, R) EACH(v, AT_ONCE) sum[r][v] = (nfi_vec){0};
    for (size_t e = 0; e < k; e++)
        EACH(r, R) add_product(stride, transposed, q, k + r, e, s, known, sum[r]);
    EACH(r, R)
    {
        EACH(e, r) add_product(stride, transposed, q, k + r, k + e, s, known, sum[r]);
        const size_t i = transposed ? q.dim - 1 - k - r : k + r;
        EACH(v, AT_ONCE)
        {
            const size_t at = s + v * NFI_WIDTH;
            const nfi_vec e = NFI_PARAM_VEC(root, stride, q.ld, i, at), x = NFI_CONST_VEC_AT(in + i * q.ld + at);
            if (!transposed)
                sum[r][v] += NFI_PARAM_VEC(q.m, stride, q.ld, i, at);
            NFI_VEC_AT(out + i * q.ld + at) = solve ? (x - sum[r][v]) * e * e : x * e * e + sum[r][v];
        }
    }
}

/* root: e^(s/2); for the two solves e^(-s/2). */
NFI_INLINE void multiply(size_t stride, nfi_l_product kind, nfi_full_affine q, const nf_real *root, const nf_real *in,
                         nf_real *out)
{
    for (size_t s = 0; s < q.ld; s += NFI_LANES) {
        size_t k = 0;
        for (; ROWS > 1 && k + ROWS <= q.dim; k += ROWS)
            multiply_rows(ROWS, stride, kind, q, k, s, root, in, out);
        for (; k < q.dim; k++)
            multiply_rows(1, stride, kind, q, k, s, root, in, out);
    }
}

NFI_INLINE void multiply_kinds(size_t stride, nfi_full_affine q, nfi_l_product kind, nf_real *root, const nf_real *in,
                               nf_real *out)
{
    q.ld = nfi_lanes(q.ld);
    const nf_real sign = kind == NFI_L_TIMES || kind == NFI_L_TIMES_TRANSPOSED ? 1 : -1;
    nfi_root_scales(q.dim * nfi_param_columns(stride, q.ld), sign, q.s, root);
    switch (kind) {
    case NFI_L_TIMES:
        multiply(stride, NFI_L_TIMES, q, root, in, out);
        break;
    case NFI_L_SOLVE:
        multiply(stride, NFI_L_SOLVE, q, root, in, out);
        break;
    case NFI_L_TIMES_TRANSPOSED:
        multiply(stride, NFI_L_TIMES_TRANSPOSED, q, root, in, out);
        break;
    case NFI_L_SOLVE_TRANSPOSED:
        multiply(stride, NFI_L_SOLVE_TRANSPOSED, q, root, in, out);
        break;
    }
}

NFI_INLINE void add_log_det(size_t stride, nfi_full_affine q, nf_real sign, double *restrict log_det)
{
    const size_t ld = nfi_lanes(q.ld);
    for (size_t i = 0; i < q.dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += (double)(sign * nfi_param(q.s, stride, ld, i, s));
    }
}

NFI_INLINE void add_gradient(size_t stride, nfi_full_affine q, nf_real sign, nf_real *root, const nf_real *x,
                             const nf_real *w, const nf_real *g_log_det, nf_real *u, nfi_full_affine_grad g)
{
    const size_t ld = nfi_lanes(q.ld), columns = nfi_param_columns(stride, ld);
    nfi_root_scales(q.dim * columns, 1, q.s, root);
    for (size_t i = 0; i < q.dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            u[s] = sign * w[i * ld + s];
        nfi_param_add(stride, ld, u, NULL, g.m + i * columns);
        for (size_t j = 0; j < i; j++)
            nfi_param_add(stride, ld, u, x + j * ld, g.l + lower_at(i, j) * columns);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = nfi_param(root, stride, ld, i, s);
            u[s] = u[s] * (x[i * ld + s] * e * e) + sign * g_log_det[s];
        }
        nfi_param_add(stride, ld, u, NULL, g.s + i * columns);
    }
}

void nfi_full_affine_multiply(nfi_full_affine q, nfi_l_product kind, nf_real *root, const nf_real *in, nf_real *out)
{
    NFI_BY_STRIDE(multiply_kinds, q.stride, q, kind, root, in, out);
}

void nfi_full_affine_add_log_det(nfi_full_affine q, nf_real sign, double *log_det)
{
    NFI_BY_STRIDE(add_log_det, q.stride, q, sign, log_det);
}

void nfi_full_affine_add_gradient(nfi_full_affine q, nf_real sign, nf_real *root, const nf_real *x, const nf_real *w,
                                  const nf_real *g_log_det, nf_real *u, nfi_full_affine_grad g)
{
    NFI_BY_STRIDE(add_gradient, q.stride, q, sign, root, x, w, g_log_det, u, g);
}
