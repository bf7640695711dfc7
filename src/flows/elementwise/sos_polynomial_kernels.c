/* Sum-of-squares polynomials (Jaini, Selby & Yu 2019, eq. 9). With v = x / B clipped to [-1, 1],

       g(v) = 1/K sum_k p_k(v)^2 + m,   p_k(v) = 1 + sum_j a_kj v^j   (j = 0 .. n - 1),
       y = c + B integral_0^v g + (x - B v) g(v),   dy/dx = g(v).

   The integral is v sum_i w_i g(v t_i), by Gauss-Legendre quadrature with n nodes, exact for g's degree 2 n - 2 and
   without cancellation. With t_n = 1, D = g_log_slope / g(v), W_i = gy B v w_i and W_n = gy (x - B v) + D,

       ga_kj = sum_i W_i 2/K p_k(v t_i) (v t_i)^j,   gc = gy,   gx = gy g(v) + D g'(v) / B, the last inside the box. */
#include "flows/elementwise/sos_polynomial.h"
#include "math/rows.h"
#include "math/vec.h"

/* p_k(u) for the samples from s on; *slope = p_k'(u). */
NFI_INLINE nfi_vec polynomial(size_t stride, const nf_feature *f, size_t k, size_t s, nfi_vec u, nfi_vec *slope)
{
    const size_t n = ((const nfi_sos *)f->options)->n;
    nfi_vec p = {0}, d = {0};
    for (size_t j = n; j-- > 0;) {
        d = d * u + p;
        p = p * u + NFI_PARAM_VEC(f->theta, stride, f->ld, k * n + j, s);
    }
    *slope = d;
    return p + 1;
}

/* g(u); *slope = g'(u). */
NFI_INLINE nfi_vec squares(size_t stride, const nf_feature *f, size_t s, nfi_vec u, nfi_vec *slope)
{
    const nfi_sos *q = f->options;
    nfi_vec sum = {0}, sum_slope = {0}, d;
    for (size_t k = 0; k < q->K; k++) {
        const nfi_vec p = polynomial(stride, f, k, s, u, &d);
        sum += p * p, sum_slope += p * d;
    }
    *slope = 2 * sum_slope / (nf_real)q->K;
    return sum / (nf_real)q->K + q->min_slope;
}

NFI_INLINE void forward(size_t stride, const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope)
{
    const nfi_sos *q = f->options;
    nfi_clip(f->ld, q->box, x, log_slope);
    for (size_t s = 0; s < f->ld; s += NFI_WIDTH) {
        const nfi_vec inner = NFI_CONST_VEC_AT(log_slope + s), v = inner / q->box;
        nfi_vec unused, mean = {0}, end = squares(stride, f, s, v, &unused);
        for (size_t i = 0; i < q->n; i++)
            mean += q->weight[i] * squares(stride, f, s, v * q->node[i], &unused);
        NFI_VEC_AT(y + s) = NFI_PARAM_VEC(f->theta, stride, f->ld, q->K * q->n, s) + inner * mean +
                            (NFI_CONST_VEC_AT(x + s) - inner) * end;
        NFI_VEC_AT(log_slope + s) = end;
    }
    NFI_SIMD
    for (size_t s = 0; s < f->ld; s++)
        log_slope[s] = nfi_log(log_slope[s]);
}

NFI_INLINE void vjp(size_t stride, const nf_feature *f, const nf_real *x, const nf_real *gy, const nf_real *g_l,
                    nf_real *gx, nf_real *g)
{
    const nfi_sos *q = f->options;
    nfi_clip(f->ld, q->box, x, gx);
    for (size_t s = 0; s < f->ld; s += NFI_WIDTH) {
        const nfi_vec inner = NFI_CONST_VEC_AT(gx + s), v = inner / q->box, to = NFI_CONST_VEC_AT(gy + s);
        nfi_vec slope, unused, end = squares(stride, f, s, v, &slope), D = NFI_CONST_VEC_AT(g_l + s) / end;
        for (size_t i = 0; g && i <= q->n; i++) {
            const nfi_vec at_end = to * (NFI_CONST_VEC_AT(x + s) - inner) + D, u = v * q->node[i];
            const nfi_vec W = 2 / (nf_real)q->K * (i < q->n ? to * inner * q->weight[i] : at_end);
            for (size_t k = 0; k < q->K; k++) {
                nfi_vec term = W * polynomial(stride, f, k, s, u, &unused);
                for (size_t j = 0; j < q->n; j++, term *= u) {
                    nf_real *sum = g + (k * q->n + j) * f->ld + s;
                    NFI_VEC_AT(sum) = i ? NFI_CONST_VEC_AT(sum) + term : term;
                }
            }
        }
        if (g)
            NFI_VEC_AT(g + q->K * q->n * f->ld + s) = to;
        const __typeof__(v < v) inside = (v < 1) & (v > -1); /* all bits set, or none */
        NFI_VEC_AT(gx + s) = to * end + (nfi_vec)((__typeof__(v < v))(D * slope / q->box) & inside);
    }
}

NFI_FORMULA_KERNELS(sos)
