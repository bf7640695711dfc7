/* Chains of Householder reflections (Householder 1958; Tomczak & Welling 2016): y = x - tau v (v.x), tau = 2 /
   |v|^2, orthogonal to rounding for every v.

   A reflection is its own inverse and transpose, so that going back through a chain takes values and cotangents by the
   same step, and nothing need be saved: with a = v.y and b = v.gy of one reflection,

       x = y - tau a v,   gx = gy - tau b v,   gv = tau (a gy - b y).

   since v.x = -a and d tau / dv = -tau^2 v. Each block of lanes goes through the whole chain while its rows are in
   cache. */
#include "flows/reflections.h"
#include "flows/param.h"

NFI_INLINE void scales(size_t stride, size_t n, size_t dim, size_t ld, const nf_real *restrict v, nf_real *restrict tau)
{
    for (size_t j = 0; j < n; j++) {
        if (stride == 0) {
            nf_real sum = 0;
            NFI_SIMD_SUM(sum)
            for (size_t i = 0; i < dim; i++)
                sum += v[j * dim + i] * v[j * dim + i];
            tau[j] = sum < NFI_MIN_NORMAL ? 0 : 2 / sum;
            continue;
        }
        nf_real *restrict t = tau + j * ld;
        for (size_t s = 0; s < ld; s += NFI_LANES) {
            nfi_vec even = {0}, odd = {0};
            size_t i = 0;
            for (; i + 1 < dim; i += 2) {
                const nfi_vec p = NFI_CONST_LANES_AT(v + (j * dim + i) * ld + s);
                const nfi_vec q = NFI_CONST_LANES_AT(v + (j * dim + i + 1) * ld + s);
                even += p * p;
                odd += q * q;
            }
            if (i < dim) {
                const nfi_vec p = NFI_CONST_LANES_AT(v + (j * dim + i) * ld + s);
                even += p * p;
            }
            NFI_LANES_AT(t + s) = even + odd;
        }
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            t[s] = t[s] < NFI_MIN_NORMAL ? 0 : 2 / t[s];
    }
}

/* The k-th of n reflections on the way in direction d. */
NFI_INLINE size_t on_the_way(nf_direction d, size_t n, size_t k)
{
    return d == NF_FORWARD ? k : n - 1 - k;
}

/* Lanes s .. of `rows` rows into work [dim x NFI_LANES], zeros below. */
NFI_INLINE void load(size_t rows, size_t dim, size_t ld, const nf_real *x, size_t s, nf_real *restrict work)
{
    for (size_t i = 0; i < rows; i++)
        NFI_LANES_AT(work + i * NFI_LANES) = NFI_CONST_LANES_AT(x + i * ld + s);
    for (size_t i = rows; i < dim; i++)
        NFI_LANES_AT(work + i * NFI_LANES) = (nfi_vec){0};
}

NFI_INLINE void store(size_t rows, size_t ld, const nf_real *restrict work, nf_real *y, size_t s)
{
    for (size_t i = 0; i < rows; i++)
        NFI_LANES_AT(y + i * ld + s) = NFI_CONST_LANES_AT(work + i * NFI_LANES);
}

NFI_INLINE void reflect(size_t stride, nf_direction d, size_t n, size_t dim, size_t ld, const nf_real *restrict v,
                        const nf_real *restrict tau, size_t rows_in, const nf_real *x, size_t rows_out, nf_real *y,
                        nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    for (size_t s = 0; s < ld; s += NFI_LANES) {
        load(rows_in, dim, ld, x, s, work);
        for (size_t k = 0; k < n; k++) {
            const size_t j = on_the_way(d, n, k), first = j * dim;
            nfi_vec even = {0}, odd = {0};
            size_t i = 0;
            for (; i + 1 < dim; i += 2) {
                even += NFI_PARAM_LANES(v, stride, ld, first + i, s) * NFI_CONST_LANES_AT(work + i * NFI_LANES);
                odd +=
                    NFI_PARAM_LANES(v, stride, ld, first + i + 1, s) * NFI_CONST_LANES_AT(work + (i + 1) * NFI_LANES);
            }
            if (i < dim)
                even += NFI_PARAM_LANES(v, stride, ld, first + i, s) * NFI_CONST_LANES_AT(work + i * NFI_LANES);
            const nfi_vec c = NFI_PARAM_LANES(tau, stride, ld, j, s) * (even + odd);
            for (i = 0; i < dim; i++)
                NFI_LANES_AT(work + i * NFI_LANES) -= c * NFI_PARAM_LANES(v, stride, ld, first + i, s);
        }
        store(rows_out, ld, work, y, s);
    }
}

NFI_INLINE void reflect_vjp(size_t stride, nf_direction d, size_t n, size_t dim, size_t ld, const nf_real *restrict v,
                            const nf_real *restrict tau, const nf_real *y, size_t rows_in, const nf_real *gy,
                            size_t rows_out, nf_real *gx, nf_real *restrict g_v, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict value = work, *restrict g = work + dim * NFI_LANES;
    const size_t g_ld = stride ? ld : NFI_LANES;
    for (size_t s = 0; s < ld; s += NFI_LANES) {
        load(dim, dim, ld, y, s, value);
        load(rows_in, dim, ld, gy, s, g);
        for (size_t k = n; k-- > 0;) {
            const size_t j = on_the_way(d, n, k), first = j * dim;
            nf_real *restrict grad = g_v + first * g_ld + (stride ? s : 0);
            nfi_vec a = {0}, b = {0};
            for (size_t i = 0; i < dim; i++) {
                const nfi_vec vi = NFI_PARAM_LANES(v, stride, ld, first + i, s);
                a += vi * NFI_CONST_LANES_AT(value + i * NFI_LANES);
                b += vi * NFI_CONST_LANES_AT(g + i * NFI_LANES);
            }
            a *= NFI_PARAM_LANES(tau, stride, ld, j, s);
            b *= NFI_PARAM_LANES(tau, stride, ld, j, s);
            for (size_t i = 0; i < dim; i++) {
                const nfi_vec vi = NFI_PARAM_LANES(v, stride, ld, first + i, s);
                const nfi_vec yi = NFI_CONST_LANES_AT(value + i * NFI_LANES);
                const nfi_vec gi = NFI_CONST_LANES_AT(g + i * NFI_LANES);
                NFI_LANES_AT(grad + i * g_ld) += a * gi - b * yi;
                NFI_LANES_AT(value + i * NFI_LANES) = yi - a * vi;
                NFI_LANES_AT(g + i * NFI_LANES) = gi - b * vi;
            }
        }
        store(rows_out, ld, g, gx, s);
    }
}

NFI_SPECIALISE(reflections, scales, (size_t n, size_t dim, size_t ld, const nf_real *v, nf_real *tau), n, dim, ld, v,
               tau)
NFI_SPECIALISE(reflections, reflect,
               (nf_direction d, size_t n, size_t dim, size_t ld, const nf_real *v, const nf_real *tau, size_t rows_in,
                const nf_real *x, size_t rows_out, nf_real *y, nf_real *work),
               d, n, dim, ld, v, tau, rows_in, x, rows_out, y, work)
NFI_SPECIALISE(reflections, reflect_vjp,
               (nf_direction d, size_t n, size_t dim, size_t ld, const nf_real *v, const nf_real *tau, const nf_real *y,
                size_t rows_in, const nf_real *gy, size_t rows_out, nf_real *gx, nf_real *g_v, nf_real *work),
               d, n, dim, ld, v, tau, y, rows_in, gy, rows_out, gx, g_v, work)

void nfi_reflection_scales(size_t stride, size_t n, size_t dim, size_t ld, const nf_real *v, nf_real *tau)
{
    (stride ? reflections_scales_each : reflections_scales_shared)(n, dim, ld, v, tau);
}

void nfi_reflect(const nfi_reflections *q, nf_direction d, size_t rows_in, const nf_real *x, size_t rows_out,
                 nf_real *y, nf_real *work)
{
    (q->stride ? reflections_reflect_each : reflections_reflect_shared)(d, q->n, q->dim, q->ld, q->v, q->tau, rows_in,
                                                                        x, rows_out, y, work);
}

void nfi_reflect_vjp(const nfi_reflections *q, nf_direction d, const nf_real *y, size_t rows_in, const nf_real *gy,
                     size_t rows_out, nf_real *gx, nf_real *g_v, nf_real *work)
{
    (q->stride ? reflections_reflect_vjp_each : reflections_reflect_vjp_shared)(d, q->n, q->dim, q->ld, q->v, q->tau, y,
                                                                                rows_in, gy, rows_out, gx, g_v, work);
}
