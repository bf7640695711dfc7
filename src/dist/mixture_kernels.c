/* The score of a mixture of K diagonal normals and its gradients:

       log q(x) = log sum_k exp l_k,    l_k = log w_k - sum_d (z_kd^2 / 2 + s_kd + log(2 pi) / 2),
       z_kd = (x_d - m_kd) exp(-s_kd),    r_k = exp(l_k - log q):
       d/d log w_k = r_k,  d/dm_kd = r_k z_kd e^-s_kd,  d/ds_kd = r_k (z_kd^2 - 1),  d/dx_d = -sum_k r_k z_kd e^-s_kd.

   All is computed in double, also in the float build: far from a narrow component z^2 is too large for a float, though
   r is 0 there. */
#include "dist/mixture.h"
#include "math/vec.h"
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

void nfi_mixture_terms(nfi_mixture q, const nf_real *x, double *l)
{
    size_t ld = nfi_lanes(q.ld);
    for (size_t k = 0; k < q.K; k++) {
        double *lk = l + k * ld, constant = (double)q.log_w[k];
        for (size_t d = 0; d < q.dim; d++)
            constant -= NFI_HALF_LOG_2PI + (double)q.s[k * q.dim + d];
        for (size_t i = 0; i < ld; i++)
            lk[i] = constant;
        for (size_t d = 0; d < q.dim; d++) {
            const nf_real *xd = x + d * ld;
            double m = (double)q.m[k * q.dim + d], root = root_precision(q.s[k * q.dim + d]);
            NFI_SIMD
            for (size_t i = 0; i < ld; i++) {
                double z = ((double)xd[i] - m) * root * root;
                lk[i] -= 0.5 * z * z;
            }
        }
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            lk[i] = lk[i] < -DBL_MAX ? -DBL_MAX : lk[i];
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

enum { SUMS = 8 }; /* eight partial sums over samples, sample i in lane i % SUMS, the same for every instruction set */

NFI_INLINE double sum_of(const double lanes[SUMS])
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

void nfi_mixture_gradient(nfi_mixture q, const nf_real *x, const nf_real *r, const nf_real *g_log, nf_real *gx,
                          nf_real *g_theta, nf_real *g_log_w)
{
    size_t ld = nfi_lanes(q.ld);
    nf_real *g_m = g_theta ? g_theta + q.K : NULL, *g_s = g_theta ? g_m + q.K * q.dim : NULL;
    for (size_t k = 0; k < q.K; k++) {
        const nf_real *rk = r + k * ld;
        double lanes[SUMS] = {0};
        for (size_t i = 0; i < ld; i += SUMS) {
            NFI_SIMD
            for (size_t j = 0; j < SUMS; j++)
                lanes[j] += (double)g_log[i + j] * (double)rk[i + j];
        }
        const double all = sum_of(lanes);
        if (g_log_w)
            g_log_w[k] += (nf_real)all;
        for (size_t d = 0; d < q.dim; d++) {
            const nf_real *xd = x + d * ld;
            double m = (double)q.m[k * q.dim + d], root = root_precision(q.s[k * q.dim + d]);
            double lanes_m[SUMS] = {0}, lanes_s[SUMS] = {0};
            for (size_t i = 0; i < ld; i += SUMS) {
                NFI_SIMD
                for (size_t j = 0; j < SUMS; j++) {
                    double z = ((double)xd[i + j] - m) * root * root;
                    double u = (double)g_log[i + j] * (double)rk[i + j] * z;
                    lanes_m[j] += u;
                    lanes_s[j] += u * z;
                }
            }
            if (g_theta) {
                g_m[k * q.dim + d] += (nf_real)(sum_of(lanes_m) * root * root);
                g_s[k * q.dim + d] += (nf_real)(sum_of(lanes_s) - all);
            }
            if (!gx)
                continue;
            NFI_SIMD
            for (size_t i = 0; i < ld; i++)
                gx[d * ld + i] -=
                    (nf_real)((double)g_log[i] * (double)rk[i] * ((double)xd[i] - m) * root * root * root * root);
        }
    }
}
