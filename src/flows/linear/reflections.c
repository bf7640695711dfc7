/* Chains of Householder reflections (Householder 1958; Tomczak & Welling 2016): y = x - tau v (v.x),
   tau = 2 / |v|^2, orthogonal to rounding for every v.

   A reflection is its own inverse and its own transpose. So the way back through a chain takes values and cotangents by
   the same step, and nothing need be saved. With a = v.y and b = v.gy of one reflection,

       x = y - tau a v,   gx = gy - tau b v,   gv = tau (a gy - b y),

   since v.x = -a and d tau / dv = -tau^2 v. A block of NFI_SUMS samples, 64 bytes of every feature, goes through the
   whole chain while its features are in the cache. A dot product has one sum for the even and one for the odd features,
   so that fewer additions wait for the one before. */
#include "flows/linear/reflections.h"
#include "flows/lane_sums.h"

/* sum += (number i of v) * row, for the block of samples from s on. */
NFI_INLINE void add_products(size_t stride, size_t ld, const nf_real *restrict v, size_t i, size_t s,
                             const nf_real *row, nfi_wide *sum)
{
    for (size_t p = 0, l = 0; p < NFI_PARTS; p++, l += NFI_WIDTH)
        sum->part[p] += NFI_PARAM_VEC(v, stride, ld, i, s + l) * NFI_CONST_VEC_AT(row + l);
}

NFI_INLINE void scales(size_t stride, size_t n, size_t dim, size_t ld, const nf_real *restrict v, nf_real *restrict tau)
{
    ld = nfi_lanes(ld);
    for (size_t j = 0; j < n; j++) {
        if (stride == 0) {
            const nf_real sum = nfi_dot(dim, v + j * dim, v + j * dim);
            tau[j] = sum < NFI_MIN_NORMAL ? 0 : 2 / sum;
            continue;
        }
        nf_real *restrict t = tau + j * ld;
        for (size_t s = 0; s < ld; s += NFI_SUMS) {
            const nf_real *restrict first = v + j * dim * ld + s;
            nfi_wide even = {0}, odd = {0};
            size_t i = 0;
            for (; i + 1 < dim; i += 2) {
                add_products(1, ld, first, i, 0, first + i * ld, &even);
                add_products(1, ld, first, i + 1, 0, first + (i + 1) * ld, &odd);
            }
            if (i < dim)
                add_products(1, ld, first, i, 0, first + i * ld, &even);
            for (size_t p = 0; p < NFI_PARTS; p++)
                NFI_VEC_AT(t + s + p * NFI_WIDTH) = even.part[p] + odd.part[p];
        }
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            t[s] = t[s] < NFI_MIN_NORMAL ? 0 : 2 / t[s];
    }
}

/* The number of the reflection that is k-th on the way in direction d, of n. */
NFI_INLINE size_t on_the_way(nf_direction d, size_t n, size_t k)
{
    return d == NF_FORWARD ? k : n - 1 - k;
}

/* Copies the samples from s on of `rows` features into work [dim x NFI_SUMS]; the other features become zeros. */
NFI_INLINE void load(size_t rows, size_t dim, size_t ld, const nf_real *x, size_t s, nf_real *restrict work)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t l = 0; l < NFI_SUMS; l += NFI_WIDTH)
            NFI_VEC_AT(work + i * NFI_SUMS + l) = NFI_CONST_VEC_AT(x + i * ld + s + l);
    for (size_t k = rows * NFI_SUMS; k < dim * NFI_SUMS; k += NFI_WIDTH)
        NFI_VEC_AT(work + k) = (nfi_vec){0};
}

NFI_INLINE void store(size_t rows, size_t ld, const nf_real *restrict work, nf_real *y, size_t s)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t l = 0; l < NFI_SUMS; l += NFI_WIDTH)
            NFI_VEC_AT(y + i * ld + s + l) = NFI_CONST_VEC_AT(work + i * NFI_SUMS + l);
}

NFI_INLINE void reflect(size_t stride, nf_direction d, size_t n, size_t dim, size_t ld, const nf_real *restrict v,
                        const nf_real *restrict tau, size_t rows_in, const nf_real *x, size_t rows_out, nf_real *y,
                        nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    for (size_t s = 0; s < ld; s += NFI_SUMS) {
        load(rows_in, dim, ld, x, s, work);
        for (size_t k = 0; k < n; k++) {
            const size_t j = on_the_way(d, n, k), first = j * dim;
            nfi_wide even = {0}, odd = {0}, c;
            size_t i = 0;
            for (; i + 1 < dim; i += 2) {
                add_products(stride, ld, v, first + i, s, work + i * NFI_SUMS, &even);
                add_products(stride, ld, v, first + i + 1, s, work + (i + 1) * NFI_SUMS, &odd);
            }
            if (i < dim)
                add_products(stride, ld, v, first + i, s, work + i * NFI_SUMS, &even);
            for (size_t p = 0; p < NFI_PARTS; p++)
                c.part[p] = NFI_PARAM_VEC(tau, stride, ld, j, s + p * NFI_WIDTH) * (even.part[p] + odd.part[p]);
            for (i = 0; i < dim; i++)
                for (size_t p = 0, l = 0; p < NFI_PARTS; p++, l += NFI_WIDTH)
                    NFI_VEC_AT(work + i * NFI_SUMS + l) -= c.part[p] * NFI_PARAM_VEC(v, stride, ld, first + i, s + l);
        }
        store(rows_out, ld, work, y, s);
    }
}

NFI_INLINE void reflect_vjp(size_t stride, nf_direction d, size_t n, size_t dim, size_t ld, const nf_real *restrict v,
                            const nf_real *restrict tau, const nf_real *y, size_t rows_in, const nf_real *gy,
                            size_t rows_out, nf_real *gx, nf_real *restrict g_v, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict value = work, *restrict g = work + dim * NFI_SUMS;
    const size_t g_ld = nfi_lane_columns(stride, ld);
    for (size_t s = 0; s < ld; s += NFI_SUMS) {
        load(dim, dim, ld, y, s, value);
        load(rows_in, dim, ld, gy, s, g);
        for (size_t k = n; k-- > 0;) {
            const size_t j = on_the_way(d, n, k), first = j * dim;
            nf_real *restrict grad = g_v + first * g_ld + nfi_lane_at(stride, s);
            nfi_wide a = {0}, b = {0};
            for (size_t i = 0; i < dim; i++) {
                add_products(stride, ld, v, first + i, s, value + i * NFI_SUMS, &a);
                add_products(stride, ld, v, first + i, s, g + i * NFI_SUMS, &b);
            }
            for (size_t p = 0; p < NFI_PARTS; p++) {
                a.part[p] *= NFI_PARAM_VEC(tau, stride, ld, j, s + p * NFI_WIDTH);
                b.part[p] *= NFI_PARAM_VEC(tau, stride, ld, j, s + p * NFI_WIDTH);
            }
            for (size_t i = 0; i < dim; i++)
                for (size_t p = 0, l = 0; p < NFI_PARTS; p++, l += NFI_WIDTH) {
                    const nfi_vec vi = NFI_PARAM_VEC(v, stride, ld, first + i, s + l);
                    const nfi_vec yi = NFI_CONST_VEC_AT(value + i * NFI_SUMS + l);
                    const nfi_vec gi = NFI_CONST_VEC_AT(g + i * NFI_SUMS + l);
                    NFI_VEC_AT(grad + i * g_ld + l) += a.part[p] * gi - b.part[p] * yi;
                    NFI_VEC_AT(value + i * NFI_SUMS + l) = yi - a.part[p] * vi;
                    NFI_VEC_AT(g + i * NFI_SUMS + l) = gi - b.part[p] * vi;
                }
        }
        store(rows_out, ld, g, gx, s);
    }
}

void nfi_reflection_scales(size_t stride, size_t n, size_t dim, size_t ld, const nf_real *v, nf_real *tau)
{
    NFI_BY_STRIDE(scales, stride, n, dim, ld, v, tau);
}

void nfi_reflect(const nfi_reflections *q, nf_direction d, size_t rows_in, const nf_real *x, size_t rows_out,
                 nf_real *y, nf_real *work)
{
    NFI_BY_STRIDE(reflect, q->stride, d, q->n, q->dim, q->ld, q->v, q->tau, rows_in, x, rows_out, y, work);
}

void nfi_reflect_vjp(const nfi_reflections *q, nf_direction d, const nf_real *y, size_t rows_in, const nf_real *gy,
                     size_t rows_out, nf_real *gx, nf_real *g_v, nf_real *work)
{
    NFI_BY_STRIDE(reflect_vjp, q->stride, d, q->n, q->dim, q->ld, q->v, q->tau, y, rows_in, gy, rows_out, gx, g_v,
                  work);
}
