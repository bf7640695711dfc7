/* The terms of a mixture of normals with full covariances, and their gradients. With z_k = L_k^-1 (x - m_k),

       l_k = log w_k - |z_k|^2 / 2 - sum_d (s_kd + log(2 pi) / 2),

   which is the log-density of a standard normal pushed through the triangular affine flow, so its kernels make z_k by a
   solve for all samples of the tile and pull the cotangent of z_k back. The solve is in nf_real. Where it overflows,
   l_k is the most negative number, as the density is 0. */
#include "base/memory.h"
#include "dist/mixture.h"
#include "flows/param.h"
#include "math/rows.h"
#include <float.h>
#include <math.h>

/* Component k as the flow that takes a standard normal to it. */
static nfi_full_affine component(const nfi_mixture *q, size_t k)
{
    const size_t columns = nfi_param_columns(q->stride, q->ld);
    return (nfi_full_affine){.stride = q->stride,
                             .dim = q->dim,
                             .ld = q->ld,
                             .m = q->m + k * q->dim * columns,
                             .s = q->s + k * q->dim * columns,
                             .l = q->l + k * nfi_below(q->dim) * columns};
}

static bool all_finite(const nf_real *a, size_t n, size_t stride)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(a[i * stride]))
            return false;
    return true;
}

/* Whether z of sample i is NaN only because numbers have overflowed. */
static bool has_overflowed(const nfi_full_affine *c, const nf_real *x, size_t i)
{
    const size_t stride = c->stride ? c->ld : 1, at = c->stride ? i : 0;
    for (size_t d = 0; d < c->dim; d++)
        if (isnan(x[d * c->ld + i]))
            return false;
    return all_finite(c->m + at, c->dim, stride) && all_finite(c->s + at, c->dim, stride) &&
           all_finite(c->l + at, nfi_below(c->dim), stride);
}

nf_status nfi_full_terms(const nfi_mixture *q, nf_arena *scratch, const nf_real *x, double *l)
{
    const nf_mark mark = nf_arena_mark(scratch);
    nf_real *root = nf_arena_reals(scratch, q->dim, nfi_param_columns(q->stride, q->ld));
    nf_real *z = nf_arena_reals(scratch, q->dim, q->ld);
    for (size_t k = 0; k < q->K && root && z; k++) {
        const nfi_full_affine c = component(q, k);
        nfi_full_affine_multiply(c, NFI_L_SOLVE, root, x, z);
        nfi_full_term(*q, k, z, l + k * q->ld);
        for (size_t i = 0; i < q->ld; i++)
            if (isnan(l[k * q->ld + i]) && has_overflowed(&c, x, i))
                l[k * q->ld + i] = -DBL_MAX;
    }
    nf_arena_rewind(scratch, mark);
    return root && z ? NF_OK : NF_ENOMEM;
}

nf_status nfi_full_gradient(const nfi_mixture *q, nf_arena *scratch, const nf_real *x, const nf_real *r,
                            const nf_real *g_log, nf_real *gx, nf_real *g_theta, double *g_log_w)
{
    const nf_mark mark = nf_arena_mark(scratch);
    const size_t ld = q->ld, columns = nfi_param_columns(q->stride, ld);
    nf_real *root = nf_arena_reals(scratch, q->dim, columns), *z = nf_arena_reals(scratch, 3 * q->dim + 2, ld);
    nf_real *gz = z ? z + q->dim * ld : NULL, *back = z ? gz + q->dim * ld : NULL;
    nf_real *u = z ? back + q->dim * ld : NULL;
    for (size_t k = 0; k < q->K && root && z; k++) {
        const nfi_full_affine c = component(q, k);
        nfi_full_affine_multiply(c, NFI_L_SOLVE, root, x, z);
        nfi_full_cotangent(*q, k, r, g_log, z, u, gz);
        nfi_full_affine_multiply(c, NFI_L_SOLVE_TRANSPOSED, root, gz, back);
        if (gx)
            nfi_add_scaled(q->dim * ld, 1, back, gx);
        if (!g_theta)
            continue;
        const nfi_full_affine_grad g = {g_theta + (c.m - q->logits), g_theta + (c.s - q->logits),
                                        g_theta + (c.l - q->logits)};
        nfi_full_affine_add_gradient(c, -1, root, z, back, u, u + ld, g);
        for (size_t i = 0; i < ld; i++)
            g_log_w[k * columns + (q->stride ? i : 0)] += (double)u[i];
    }
    nf_arena_rewind(scratch, mark);
    return root && z ? NF_OK : NF_ENOMEM;
}
