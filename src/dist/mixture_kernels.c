/* The score of a mixture of K diagonal normals and its gradients:

       log q(x) = log sum_k exp l_k,    l_k = log w_k - sum_d (z_kd^2 / 2 + s_kd + log(2 pi) / 2),
       z_kd = (x_d - m_kd) exp(-s_kd),    r_k = exp(l_k - log q):
       d/d log w_k = r_k,  d/dm_kd = r_k z_kd e^-s_kd,  d/ds_kd = r_k (z_kd^2 - 1),  d/dx_d = -sum_k r_k z_kd e^-s_kd,

   and for w = softmax(logits), with g_k the gradient in log w_k: d/d logit_k = g_k - w_k sum_j g_j.

   If parameters are per sample (stride 1), log w and the gradients are, too; otherwise gradients are summed over
   samples. A component without responsibility has no gradient, even where z is infinite. All is computed in double,
   also in the float build: far from a narrow component z^2 is too large for a float, though r is 0 there. */
#include "dist/mixture.h"
#include "math/double_sums.h"
#include "math/vec.h"
#include "flows/param.h"
#include "dist/types.h"
#include <float.h>
#include <string.h>

/* e^(-s/2). A difference is multiplied by this factor twice: the product with e^-s then does not overflow or vanish
   only because e^-s itself would. */
NFI_INLINE double root_precision(nf_real s)
{
    const double half = -0.5 * (double)s, most = 700;
    return nfi_exp_d(half > most ? most : half < -most ? -most : half);
}

NFI_INLINE void weights(size_t stride, nfi_mixture q)
{
    const size_t columns = nfi_param_columns(stride, nfi_lanes(q.ld));
    double *restrict most = q.log_w + q.K * columns, *restrict sum = most + columns;
    for (size_t k = 0; k < q.K; k++) {
        NFI_SIMD
        for (size_t i = 0; i < columns; i++) {
            const double a = (double)q.logits[k * columns + i];
            most[i] = k && most[i] > a ? most[i] : a;
        }
    }
    for (size_t k = 0; k < q.K; k++) {
        NFI_SIMD
        for (size_t i = 0; i < columns; i++)
            sum[i] = (k ? sum[i] : 0) + nfi_exp_d((double)q.logits[k * columns + i] - most[i]);
    }
    for (size_t k = 0; k < q.K; k++) {
        NFI_SIMD
        for (size_t i = 0; i < columns; i++)
            q.log_w[k * columns + i] = (double)q.logits[k * columns + i] - most[i] - nfi_log_d(sum[i]);
    }
}

void nfi_mixture_weights(nfi_mixture q)
{
    NFI_BY_STRIDE(weights, q.stride, q);
}

NFI_INLINE void weights_vjp(size_t stride, nfi_mixture q, const double *restrict g_log_w, nf_real *restrict g_logits)
{
    const size_t columns = nfi_param_columns(stride, nfi_lanes(q.ld));
    double *restrict sum = q.log_w + q.K * columns;
    for (size_t k = 0; k < q.K; k++) {
        NFI_SIMD
        for (size_t i = 0; i < columns; i++)
            sum[i] = (k ? sum[i] : 0) + g_log_w[k * columns + i];
    }
    for (size_t k = 0; k < q.K; k++) {
        NFI_SIMD
        for (size_t i = 0; i < columns; i++)
            g_logits[k * columns + i] +=
                (nf_real)(g_log_w[k * columns + i] - nfi_exp_d(q.log_w[k * columns + i]) * sum[i]);
    }
}

void nfi_mixture_weights_vjp(nfi_mixture q, const double *g_log_w, nf_real *g_theta)
{
    NFI_BY_STRIDE(weights_vjp, q.stride, q, g_log_w, g_theta);
}

NFI_INLINE void terms(size_t stride, nfi_mixture q, const nf_real *restrict x, double *restrict l)
{
    const size_t ld = nfi_lanes(q.ld), columns = nfi_param_columns(stride, ld);
    for (size_t k = 0; k < q.K; k++) {
        const nf_real *restrict m = q.m + k * q.dim * columns, *restrict s = q.s + k * q.dim * columns;
        double *restrict lk = l + k * ld, constant = q.log_w[k * columns];
        for (size_t d = 0; d < q.dim && !stride; d++)
            constant -= NFI_HALF_LOG_2PI + (double)s[d];
        for (size_t i = 0; i < ld; i++)
            lk[i] = stride ? q.log_w[k * ld + i] : constant;
        for (size_t d = 0; d < q.dim && stride; d++) {
            NFI_SIMD
            for (size_t i = 0; i < ld; i++)
                lk[i] -= NFI_HALF_LOG_2PI + (double)s[d * ld + i];
        }
        for (size_t d = 0; d < q.dim; d++, m += columns, s += columns) {
            const nf_real *restrict xd = x + d * ld;
            const double m0 = (double)m[0], root0 = root_precision(s[0]);
            NFI_SIMD
            for (size_t i = 0; i < ld; i++) {
                const double mean = stride ? (double)m[i] : m0, root = stride ? root_precision(s[i]) : root0;
                const double z = ((double)xd[i] - mean) * root * root;
                lk[i] -= 0.5 * z * z;
            }
        }
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            lk[i] = lk[i] < -DBL_MAX ? -DBL_MAX : lk[i];
    }
}

void nfi_mixture_terms(nfi_mixture q, const nf_real *x, double *l)
{
    NFI_BY_STRIDE(terms, q.stride, q, x, l);
}

NFI_INLINE void place(size_t stride, nfi_mixture q, const uint32_t *restrict from, nf_real *x)
{
    const size_t ld = nfi_lanes(q.ld), columns = nfi_param_columns(stride, ld), below = nfi_below(q.dim);
    for (size_t d = q.dim; d-- > 0;) {
        nf_real *restrict xd = x + d * ld;
        NFI_SIMD
        for (size_t i = 0; i < ld; i++) {
            const size_t at = (from[i] * q.dim + d) * columns + (stride ? i : 0);
            xd[i] = (nf_real)((double)q.m[at] + nfi_exp_d((double)q.s[at]) * (double)xd[i]);
        }
        for (size_t j = 0; q.l && j < d; j++) {
            NFI_SIMD
            for (size_t i = 0; i < ld; i++)
                xd[i] += q.l[(from[i] * below + nfi_below(d) + j) * columns + (stride ? i : 0)] * x[j * ld + i];
        }
    }
}

void nfi_mixture_place(nfi_mixture q, const uint32_t *from, nf_real *x)
{
    NFI_BY_STRIDE(place, q.stride, q, from, x);
}

/* One sample after the other, as several may have one component. */
void nfi_mixture_place_vjp(nfi_mixture q, size_t n, const uint32_t *from, const nf_real *g, const nf_real *eps,
                           nf_real *g_theta)
{
    const size_t columns = nfi_param_columns(q.stride, q.ld), below = nfi_below(q.dim);
    nf_real *g_m = g_theta + (q.m - q.logits), *g_s = g_theta + (q.s - q.logits);
    nf_real *g_l = q.l ? g_theta + (q.l - q.logits) : NULL;
    for (size_t d = 0; d < q.dim; d++)
        for (size_t i = 0; i < n; i++) {
            const size_t own = q.stride ? i : 0, at = (from[i] * q.dim + d) * columns + own;
            const size_t row = from[i] * below + nfi_below(d);
            const nf_real gd = g[d * q.ld + i];
            g_m[at] += gd;
            g_s[at] += gd * (nf_real)(nfi_exp_d((double)q.s[at]) * (double)eps[d * q.ld + i]);
            for (size_t j = 0; g_l && j < d; j++)
                g_l[(row + j) * columns + own] += gd * eps[j * q.ld + i];
        }
}

void nfi_mixture_sum(nfi_mixture q, const double *l, double *most, double *sum, double *log_q, nf_real *r)
{
    size_t ld = nfi_lanes(q.ld);
    memcpy(most, l, ld * sizeof *most);
    memset(sum, 0, ld * sizeof *sum);
    for (size_t k = 1; k < q.K; k++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            most[i] = l[k * ld + i] > most[i] ? l[k * ld + i] : most[i];
    }
    for (size_t k = 0; k < q.K; k++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            sum[i] += nfi_exp_d(l[k * ld + i] - most[i]);
    }
    NFI_SIMD
    for (size_t i = 0; i < ld; i++) {
        most[i] += nfi_log_d(sum[i]);
        log_q[i] += most[i];
    }
    for (size_t k = 0; r && k < q.K; k++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            r[k * ld + i] = (nf_real)nfi_exp_d(l[k * ld + i] - most[i]);
    }
}

/* Gradients in the parameters of component k, feature d, all [1]: sums over samples, g_log times r is g. */
NFI_INLINE void shared_gradient(size_t ld, double all, double m, double root, const nf_real *restrict x,
                                const nf_real *restrict r, const nf_real *restrict g_log, nf_real *g_m, nf_real *g_s)
{
    double lanes_m[NFI_DOUBLE_SUMS] = {0}, lanes_s[NFI_DOUBLE_SUMS] = {0};
    for (size_t i = 0; i < ld; i += NFI_DOUBLE_SUMS) {
        NFI_SIMD
        for (size_t j = 0; j < NFI_DOUBLE_SUMS; j++) {
            const double z = r[i + j] > 0 ? ((double)x[i + j] - m) * root * root : 0;
            const double u = (double)g_log[i + j] * (double)r[i + j] * z;
            lanes_m[j] += u;
            lanes_s[j] += u * z;
        }
    }
    *g_m += (nf_real)(nfi_double_sum(lanes_m) * root * root);
    *g_s += (nf_real)(nfi_double_sum(lanes_s) - all);
}

/* The sum of <g_log, r>. */
NFI_INLINE double sum_of_products(size_t ld, const nf_real *restrict g_log, const nf_real *restrict r)
{
    double lanes[NFI_DOUBLE_SUMS] = {0};
    for (size_t i = 0; i < ld; i += NFI_DOUBLE_SUMS) {
        NFI_SIMD
        for (size_t j = 0; j < NFI_DOUBLE_SUMS; j++)
            lanes[j] += (double)g_log[i + j] * (double)r[i + j];
    }
    return nfi_double_sum(lanes);
}

NFI_INLINE void gradient(size_t stride, nfi_mixture q, const nf_real *restrict x, const nf_real *restrict r,
                         const nf_real *restrict g_log, nf_real *restrict gx, nf_real *restrict g_theta,
                         double *restrict g_log_w)
{
    const size_t ld = nfi_lanes(q.ld), columns = nfi_param_columns(stride, ld), means = q.K * q.dim * columns;
    nf_real *restrict g_m = g_theta ? g_theta + q.K * columns : NULL, *restrict g_s = g_theta ? g_m + means : NULL;
    for (size_t k = 0; k < q.K; k++) {
        const nf_real *restrict rk = r + k * ld;
        const double all = stride || !g_theta ? 0 : sum_of_products(ld, g_log, rk);
        if (g_theta && !stride)
            g_log_w[k] += all;
        if (g_theta && stride) {
            NFI_SIMD
            for (size_t i = 0; i < ld; i++)
                g_log_w[k * ld + i] += (double)g_log[i] * (double)rk[i];
        }
        for (size_t d = 0; d < q.dim; d++) {
            const size_t at = (k * q.dim + d) * columns;
            const nf_real *restrict xd = x + d * ld, *restrict m = q.m + at, *restrict s = q.s + at;
            const double m0 = (double)m[0], root0 = root_precision(s[0]);
            if (g_theta && !stride)
                shared_gradient(ld, all, m0, root0, xd, rk, g_log, g_m + at, g_s + at);
            if (g_theta && stride) {
                NFI_SIMD
                for (size_t i = 0; i < ld; i++) {
                    const double root = root_precision(s[i]), g = (double)g_log[i] * (double)rk[i];
                    const double z = rk[i] > 0 ? ((double)xd[i] - (double)m[i]) * root * root : 0;
                    g_m[at + i] += (nf_real)(g * z * root * root);
                    g_s[at + i] += (nf_real)(g * z * z - g);
                }
            }
            if (!gx)
                continue;
            NFI_SIMD
            for (size_t i = 0; i < ld; i++) {
                const double mean = stride ? (double)m[i] : m0, root = stride ? root_precision(s[i]) : root0;
                const double z = rk[i] > 0 ? ((double)xd[i] - mean) * root * root : 0;
                gx[d * ld + i] -= (nf_real)((double)g_log[i] * (double)rk[i] * z * root * root);
            }
        }
    }
}

void nfi_mixture_gradient(nfi_mixture q, const nf_real *x, const nf_real *r, const nf_real *g_log, nf_real *gx,
                          nf_real *g_theta, double *g_log_w)
{
    NFI_BY_STRIDE(gradient, q.stride, q, x, r, g_log, gx, g_theta, g_log_w);
}
