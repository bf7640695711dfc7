/* Affine flow with a triangular matrix: y = m + L x, L_ii = e^s_i, L_ij = l_ij for j < i. It takes a standard normal to
   any normal, with covariance L L^T. log|det dy/dx| = sum s.

   The inverse is forward substitution. With u the cotangent on the target's side (forward gy; inverse -gx, where
   gx = L^-T gy) and x on the base's side,

       gm += u,   gl_ij += u_i x_j,   gs_i += u_i x_i e^s_i + g_log_det (inverse: - g_log_det).

   The products with L, L^-1, L^T and L^-T are one loop over rows, with NFI_LANES samples at a time, so that these stay
   in the cache. A parameter is read once a tile (theta_stride 0) or once a sample (1: amortised full covariances).
   Conditioning: substitution is backward stable; the inverse loses about log10 of L's condition number in digits. */
#include "flows/linear/full_affine.h"
#include "flows/param.h"
#include "flows/elementwise/root_scale.h"

/* The index of L_ij in theta. */
NFI_INLINE size_t lower_at(size_t dim, size_t i, size_t j)
{
    return 2 * dim + i * (i - 1) / 2 + j;
}

/* So many vectors of a feature are summed side by side: processors overlap the sums, and a shared parameter is read
   once for all. */
enum { AT_ONCE = NFI_LANES / NFI_WIDTH };

/* root: e^(s/2); for the two solves e^(-s/2). */
NFI_INLINE void multiply(size_t stride, nfi_l_product kind, size_t dim, size_t ld, const nf_real *theta,
                         const nf_real *root, const nf_real *in, nf_real *out)
{
    const bool transposed = kind == NFI_L_TIMES_TRANSPOSED || kind == NFI_L_SOLVE_TRANSPOSED;
    const bool solve = kind == NFI_L_SOLVE || kind == NFI_L_SOLVE_TRANSPOSED;
    const nf_real *known = solve ? out : in;
    for (size_t s = 0; s < ld; s += NFI_LANES)
        for (size_t k = 0; k < dim; k++) {
            const size_t i = transposed ? dim - 1 - k : k;
            nfi_vec sum[AT_ONCE];
            for (size_t v = 0; v < AT_ONCE; v++)
                sum[v] = (nfi_vec){0};
            for (size_t j = transposed ? i + 1 : 0; j < (transposed ? dim : i); j++) {
                const size_t l = transposed ? lower_at(dim, j, i) : lower_at(dim, i, j);
                for (size_t v = 0, at = s; v < AT_ONCE; v++, at += NFI_WIDTH)
                    sum[v] += NFI_PARAM_VEC(theta, stride, ld, l, at) * NFI_CONST_VEC_AT(known + j * ld + at);
            }
            for (size_t v = 0, at = s; v < AT_ONCE; v++, at += NFI_WIDTH) {
                const nfi_vec e = NFI_PARAM_VEC(root, stride, ld, i, at), x = NFI_CONST_VEC_AT(in + i * ld + at);
                if (!transposed)
                    sum[v] += NFI_PARAM_VEC(theta, stride, ld, i, at);
                NFI_VEC_AT(out + i * ld + at) = solve ? (x - sum[v]) * e * e : x * e * e + sum[v];
            }
        }
}

NFI_INLINE void multiply_kinds(size_t stride, nfi_l_product kind, size_t dim, size_t ld, const nf_real *theta,
                               nf_real *root, const nf_real *in, nf_real *out)
{
    ld = nfi_lanes(ld);
    const nf_real sign = kind == NFI_L_TIMES || kind == NFI_L_TIMES_TRANSPOSED ? 1 : -1;
    const size_t columns = nfi_param_columns(stride, ld);
    nfi_root_scales(dim * columns, sign, theta + dim * columns, root);
    switch (kind) {
    case NFI_L_TIMES:
        multiply(stride, NFI_L_TIMES, dim, ld, theta, root, in, out);
        break;
    case NFI_L_SOLVE:
        multiply(stride, NFI_L_SOLVE, dim, ld, theta, root, in, out);
        break;
    case NFI_L_TIMES_TRANSPOSED:
        multiply(stride, NFI_L_TIMES_TRANSPOSED, dim, ld, theta, root, in, out);
        break;
    case NFI_L_SOLVE_TRANSPOSED:
        multiply(stride, NFI_L_SOLVE_TRANSPOSED, dim, ld, theta, root, in, out);
        break;
    }
}

NFI_INLINE void add_log_det(size_t stride, nf_real sign, size_t dim, size_t ld, const nf_real *restrict log_scale,
                            double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += (double)(sign * nfi_param(log_scale, stride, ld, i, s));
    }
}

NFI_INLINE void add_gradient(size_t stride, nf_real sign, size_t dim, size_t ld, const nf_real *theta, nf_real *root,
                             const nf_real *x, const nf_real *w, const nf_real *g_log_det, nf_real *u, nf_real *g)
{
    ld = nfi_lanes(ld);
    const size_t columns = nfi_param_columns(stride, ld);
    nfi_root_scales(dim * columns, 1, theta + dim * columns, root);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            u[s] = sign * w[i * ld + s];
        nfi_param_add(stride, ld, u, NULL, g + i * columns);
        for (size_t j = 0; j < i; j++)
            nfi_param_add(stride, ld, u, x + j * ld, g + lower_at(dim, i, j) * columns);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = nfi_param(root, stride, ld, i, s);
            u[s] = u[s] * (x[i * ld + s] * e * e) + sign * g_log_det[s];
        }
        nfi_param_add(stride, ld, u, NULL, g + (dim + i) * columns);
    }
}

void nfi_full_affine_multiply(size_t stride, nfi_l_product kind, size_t dim, size_t ld, const nf_real *theta,
                              nf_real *root, const nf_real *in, nf_real *out)
{
    NFI_BY_STRIDE(multiply_kinds, stride, kind, dim, ld, theta, root, in, out);
}

void nfi_full_affine_add_log_det(size_t stride, nf_real sign, size_t dim, size_t ld, const nf_real *log_scale,
                                 double *log_det)
{
    NFI_BY_STRIDE(add_log_det, stride, sign, dim, ld, log_scale, log_det);
}

void nfi_full_affine_add_gradient(size_t stride, nf_real sign, size_t dim, size_t ld, const nf_real *theta,
                                  nf_real *root, const nf_real *x, const nf_real *w, const nf_real *g_log_det,
                                  nf_real *u, nf_real *g)
{
    NFI_BY_STRIDE(add_gradient, stride, sign, dim, ld, theta, root, x, w, g_log_det, u, g);
}
