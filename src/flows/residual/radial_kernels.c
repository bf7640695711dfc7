/* The radial flow (Rezende & Mohamed 2015, eq. 14 and appendix A.2), with d = x - z0, r = |d|:

       y = x + t d,   t = beta / (alpha + r),   alpha = exp(a),   beta = sp - alpha,   sp = softplus(b) > 0

   With v = 1 / (alpha + r), p = r v, q = alpha v (so p + q = 1) and k = sp v, all terms below are bounded and free of
   cancellation:
       A = 1 + t = p + k                        stretches the dim - 1 directions at right angles to d,
       B = 1 + t + t' r = p (1 + q) + q k       stretches the direction along d;
       t = k - q,   log-det = (dim - 1) log A + log B,   J = A I + (B - A) e e^T,   e = d / r (0 where r = 0).

   Inverse: rho = |y - z0| = A r gives r^2 + (sp - rho) r - rho alpha = 0, whose root is computed without cancellation;
   then x = y - (t / A) (y - z0). The gradients are in radial_gradient.c. */
#include "flows/residual/radial.h"
#include "math/vec.h"
#include "flows/param.h"

/* Bounds of alpha and sp. Within them the quotients of the two are finite and not 0. */
#ifdef NF_SINGLE
static const nf_real least = 0x1p-60f, most = 0x1p60f;
#else
static const nf_real least = 0x1p-500, most = 0x1p500;
#endif

NFI_INLINE nf_real bounded(nf_real v)
{
    const nf_real up = v > least ? v : least;
    return up < most ? up : most;
}

NFI_INLINE void bounded_coefficients(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta,
                                     nf_real *restrict coef)
{
    const size_t m = nfi_param_columns(stride, ld);
    NFI_SIMD
    for (size_t s = 0; s < m; s++) {
        const nf_real alpha = nfi_exp(nfi_param(theta, stride, ld, dim, s));
        const nf_real b = nfi_param(theta, stride, ld, dim + 1, s), sp = nfi_softplus(b);
        coef[NFI_RADIAL_ALPHA * m + s] = bounded(alpha);
        coef[NFI_RADIAL_SP * m + s] = bounded(sp);
        coef[NFI_RADIAL_SIGMA * m + s] = nfi_sigmoid(b);
    }
}

/* r = |x - z0|, computed with components divided by the largest one; work [ld] */
NFI_INLINE void distance(size_t stride, size_t dim, size_t ld, const nf_real *restrict z0, const nf_real *restrict x,
                         nf_real *restrict r, nf_real *restrict work)
{
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real d = nfi_abs(x[i * ld + s] - nfi_param(z0, stride, ld, i, s));
            work[s] = i && work[s] > d ? work[s] : d;
        }
    }
    if (dim == 1) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            r[s] = work[s];
        return;
    }
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real largest = work[s] > NFI_MIN_NORMAL ? work[s] : NFI_MIN_NORMAL;
            const nf_real d = (x[i * ld + s] - nfi_param(z0, stride, ld, i, s)) / largest;
            r[s] = (i ? r[s] : 0) + d * d;
        }
    }
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) { /* at most the largest number; NaN stays NaN */
        const nf_real length = work[s] * nfi_sqrt(r[s]);
        r[s] = length > NFI_LARGEST ? NFI_LARGEST : length;
    }
}

/* y = x + factor (x - z0), factor [ld] */
NFI_INLINE void stretch(size_t stride, size_t dim, size_t ld, const nf_real *restrict z0,
                        const nf_real *restrict factor, const nf_real *restrict x, nf_real *restrict y)
{
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            y[i * ld + s] = x[i * ld + s] + factor[s] * (x[i * ld + s] - nfi_param(z0, stride, ld, i, s));
    }
}

/* The root r of r^2 + (sp - rho) r - rho alpha = 0. */
NFI_INLINE nf_real root_of(nf_real rho, nf_real alpha, nf_real sp)
{
    /* root = sqrt(c^2 + 4 rho alpha), without overflow */
    const nf_real c = sp - rho, c_abs = nfi_abs(c), f = 2 * nfi_sqrt(rho) * nfi_sqrt(alpha);
    const nf_real larger = c_abs > f ? c_abs : f, smaller = c_abs > f ? f : c_abs;
    const nf_real ratio = smaller / (larger > NFI_MIN_NORMAL ? larger : NFI_MIN_NORMAL);
    const nf_real root = larger * nfi_sqrt(1 + ratio * ratio), sum = c_abs + root;
    const nf_real small = rho * (2 * alpha / (sum > NFI_MIN_NORMAL ? sum : NFI_MIN_NORMAL));
    return c > 0 ? small : c_abs / 2 + root / 2;
}

/* Either direction. r [ld] receives the distance from z0 of the array x that is given, in the inverse direction that
   of the flow's y. work [ld] */
NFI_INLINE void move(size_t stride, bool back, size_t dim, size_t ld, const nf_real *restrict theta,
                     const nf_real *restrict x, nf_real *restrict y, double *restrict log_det, nf_real *restrict r,
                     nf_real *restrict coef, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    bounded_coefficients(stride, dim, ld, theta, coef);
    distance(stride, dim, ld, theta, x, r, work);
    const nf_real *restrict alphas = coef, *restrict sps = coef + nfi_param_columns(stride, ld);
    const nf_real across = (nf_real)(dim - 1);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real alpha = nfi_param(alphas, stride, ld, 0, s), sp = nfi_param(sps, stride, ld, 0, s);
        const nfi_radial_geometry e = nfi_radial_at(back ? root_of(r[s], alpha, sp) : r[s], alpha, sp);
        const double l = (double)(across * nfi_log(e.A) + nfi_log(e.B));
        log_det[s] += back ? -l : l;
        work[s] = back ? -e.t / e.A : e.t;
    }
    stretch(stride, dim, ld, theta, work, x, y);
}

void nfi_radial_move(size_t stride, bool back, size_t dim, size_t ld, const nf_real *theta, const nf_real *x,
                     nf_real *y, double *log_det, nf_real *r, nf_real *coef, nf_real *work)
{
    if (back)
        NFI_BY_STRIDE(move, stride, true, dim, ld, theta, x, y, log_det, r, coef, work);
    else
        NFI_BY_STRIDE(move, stride, false, dim, ld, theta, x, y, log_det, r, coef, work);
}
