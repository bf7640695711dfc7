/* The two directions of planar flows: see planar.c. */
#include "flows/residual/planar.h"
#include "math/vec.h"
#include "flows/param.h"

NFI_INLINE void coefficients(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta,
                             nf_real *restrict coef)
{
    const size_t m = nfi_param_columns(stride, ld);
    nf_real *restrict q = coef + INV_Q * m, *restrict wu = coef + SP * m;
    if (stride == 0) {
        q[0] = nfi_dot(dim, theta, theta);
        wu[0] = nfi_dot(dim, theta, theta + dim);
    }
    for (size_t s = 0; stride && s < ld; s += NFI_WIDTH) {
        nfi_vec ww = {0}, wu_sum = {0};
        for (size_t i = 0; i < dim; i++) {
            const nfi_vec w = NFI_CONST_VEC_AT(theta + i * ld + s);
            ww += w * w;
            wu_sum += w * NFI_CONST_VEC_AT(theta + (dim + i) * ld + s);
        }
        NFI_VEC_AT(q + s) = ww;
        NFI_VEC_AT(wu + s) = wu_sum;
    }
    nf_real *restrict e_row = coef + SIGMA * m; /* holds e^-|w.u| until sigma is computed */
    NFI_SIMD
    for (size_t s = 0; s < m; s++)
        e_row[s] = nfi_exp(-nfi_abs(wu[s]));
    NFI_SIMD
    for (size_t s = 0; s < m; s++) {
        const bool zero = q[s] < NFI_MIN_NORMAL;
        const nf_real inv_q = zero ? 0 : 1 / q[s], a = wu[s], e = e_row[s];
        const nf_real soft = (a > 0 ? a : 0) + nfi_log1p(e); /* softplus */
        const nf_real sp = zero ? 1 : (soft > NFI_MIN_NORMAL ? soft : NFI_MIN_NORMAL);
        coef[C * m + s] = (sp - 1 - a) * inv_q;
        coef[SIGMA * m + s] = zero ? 1 : (a > 0 ? 1 : e) / (1 + e);
        coef[SP * m + s] = sp;
        coef[INV_Q * m + s] = inv_q;
    }
}

/* out = w.x + b */
NFI_INLINE void argument(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict x,
                         nf_real *restrict out)
{
    for (size_t s = 0; s < ld; s += NFI_WIDTH) {
        nfi_vec sum = NFI_PARAM_VEC(theta, stride, ld, 2 * dim, s);
        for (size_t i = 0; i < dim; i++)
            sum += NFI_PARAM_VEC(theta, stride, ld, i, s) * NFI_CONST_VEC_AT(x + i * ld + s);
        NFI_VEC_AT(out + s) = sum;
    }
}

/* y = x + sign u^ h */
NFI_INLINE void shift(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict coef,
                      nf_real sign, const nf_real *restrict h, const nf_real *restrict x, nf_real *restrict y)
{
    for (size_t i = 0; i < dim; i++) {
        const nf_real *restrict from = x + i * ld;
        nf_real *restrict to = y + i * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real w = nfi_param(theta, stride, ld, i, s), u = nfi_param(theta, stride, ld, dim + i, s);
            to[s] = from[s] + sign * (u + nfi_param(coef, stride, ld, C, s) * w) * h[s];
        }
    }
}

NFI_INLINE void forward(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict x,
                        nf_real *restrict y, double *restrict log_det, nf_real *restrict h, nf_real *restrict coef)
{
    ld = nfi_lanes(ld);
    coefficients(stride, dim, ld, theta, coef);
    argument(stride, dim, ld, theta, x, h);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) /* a loop of its own: processors overlap several short chains of instructions
                                       better than one long chain */
        h[s] = nfi_tanh(h[s]);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] += (double)nfi_log_normal(nfi_planar_det(h[s], nfi_param(coef, stride, ld, SP, s)));
    shift(stride, dim, ld, theta, coef, 1, h, x, y);
}
NFI_INLINE void inverse(size_t stride, size_t dim, size_t ld, const nf_real *restrict theta, const nf_real *restrict y,
                        nf_real *restrict x, double *restrict log_det, nf_real *restrict coef, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict t = work, *restrict h = work + ld, *restrict active = work + 2 * ld;
    const nf_real *restrict sp = coef + SP * nfi_param_columns(stride, ld);
    coefficients(stride, dim, ld, theta, coef);
    argument(stride, dim, ld, theta, y, t);
    nfi_planar_solve(stride, ld, sp, t, h, active);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] -= (double)nfi_log_normal(nfi_planar_det(h[s], nfi_param(sp, stride, ld, 0, s)));
    shift(stride, dim, ld, theta, coef, -1, h, y, x);
}

void nfi_planar_forward(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *x, nf_real *y,
                        double *log_det, nf_real *h, nf_real *coef)
{
    NFI_BY_STRIDE(forward, stride, dim, ld, theta, x, y, log_det, h, coef);
}

void nfi_planar_inverse(size_t stride, size_t dim, size_t ld, const nf_real *theta, const nf_real *y, nf_real *x,
                        double *log_det, nf_real *coef, nf_real *work)
{
    NFI_BY_STRIDE(inverse, stride, dim, ld, theta, y, x, log_det, coef, work);
}
