/* The kernels of the rational-quadratic spline; spline.h has the formulas of a bin. All loop over samples without
   branches: a sample's bin is found by comparing the sample with every knot in turn.

   With l = log dy/dx and subscripts for derivatives,

       f_t = N / D^2,   f_p = t (1 - t) (1 - f) / D,   f_q = -t (1 - t) f / D,
       l_t = N_t / N - 2 D_t / D,   l_p = (1 - t)^2 / N - 2 t (1 - t) / D,   l_q = t^2 / N - 2 t (1 - t) / D.

   Forward, from cotangents gy of y and g of l: gf = h gy, gt = gf f_t + g l_t, gp = gf f_p + g l_p, gq likewise;

       gx = gt / w,   gx0 = -gx,   gw = (gp p + gq q - g - gt t) / w,   gy0 = gy,   gh = f gy - (gp p + gq q - g) / h.

   Inverse, from cotangents gx of x and g of -l: gy = (gx - g l_t / w) / (dy/dx). The gradients in the parameters are
   those of the forward map at the cotangents -gy, -g, where gt becomes -w gx (see the implicit directions in flow.c).

   Widths are w_j = size (min + spread S_j), where S is the softmax, and x0 is the sum of the widths before bin k. So
   the gradient in the softmax's argument j is S_j (G_j - sum_i S_i G_i), G_j = size spread (gx0 [j < k] + gw [j = k]).
 */
#include "flows/elementwise/spline.h"

/* What the softmax of widths or heights reads: its parameter a, or that softly clipped; and the slope of this map. */
NFI_INLINE nfi_clipped share(nf_spline_form form, const nfi_spline *q, nf_real a)
{
    return form == NF_SPLINE_SOFT_CLIPPED ? nfi_soft_clip(a, q->limit / 2) : (nfi_clipped){a, 1};
}

/* S [bins x columns] is the softmax of a [bins x columns]; work [2 x columns]. */
NFI_INLINE void softmax(nf_spline_form form, const nfi_spline *q, size_t bins, size_t columns,
                        const nf_real *restrict a, nf_real *restrict S, nf_real *restrict work)
{
    nf_real *restrict top = work, *restrict sum = work + columns;
    for (size_t j = 0; j < bins; j++) {
        NFI_SIMD
        for (size_t s = 0; s < columns; s++) {
            const nf_real v = share(form, q, a[j * columns + s]).value;
            top[s] = j && top[s] > v ? top[s] : v;
        }
    }
    for (size_t j = 0; j < bins; j++) {
        NFI_SIMD
        for (size_t s = 0; s < columns; s++) {
            const nf_real e = nfi_exp(share(form, q, a[j * columns + s]).value - top[s]);
            S[j * columns + s] = e;
            sum[s] = (j ? sum[s] : 0) + e;
        }
    }
    for (size_t j = 0; j < bins; j++) {
        NFI_SIMD
        for (size_t s = 0; s < columns; s++)
            S[j * columns + s] /= sum[s];
    }
}

/* The row of the slope parameters that belongs to knot j = 0 .. bins; FIXED if the slope at that knot is fixed. */
#define FIXED SIZE_MAX
NFI_INLINE size_t slope_row(const nfi_spline *q, size_t j)
{
    if (q->circular)
        return j == q->bins ? 0 : j;
    if (q->free_ends)
        return j;
    return j == 0 || j == q->bins ? FIXED : j - 1;
}

/* Finds the bins of all samples. at [ld]: the samples on the side whose knots are compared (x forward, y in the
   inverse direction). work [2 x columns]. */
NFI_INLINE void search(size_t stride, const nfi_spline *q, bool forward, size_t ld, const nf_real *restrict d,
                       const nf_real *restrict parts, const nf_real *restrict at, nf_real *restrict bins,
                       nf_real *restrict work)
{
    const size_t K = q->bins, columns = nfi_param_columns(stride, ld);
    const nf_real *restrict Sw = parts, *restrict Sh = parts + K * columns;
    nf_real *restrict sum_w = work, *restrict sum_h = work + columns;
    const nf_real *restrict sum = forward ? sum_w : sum_h;
    const nf_real least = forward ? q->min_width : q->min_height, spread = forward ? q->spread_w : q->spread_h;
    for (size_t j = 0; j < K; j++) {
        NFI_SIMD
        for (size_t s = 0; s < columns; s++) {
            sum_w[s] = j ? sum_w[s] + Sw[(j - 1) * columns + s] : 0;
            sum_h[s] = j ? sum_h[s] + Sh[(j - 1) * columns + s] : 0;
        }
        const size_t row0 = slope_row(q, j), row1 = slope_row(q, j + 1);
        const bool free0 = row0 != FIXED, free1 = row1 != FIXED;
        const nf_real *restrict d0 = d + (free0 ? row0 * columns : 0), *restrict d1 = d + (free1 ? row1 * columns : 0);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const size_t c = stride ? s : 0;
            const nf_real knot = q->size * ((nf_real)j * least + spread * sum[c]) + q->low;
            const bool take = (j == 0) | (at[s] >= knot);
            const nf_real new_w = sum_w[c], new_h = sum_h[c], part_w = Sw[j * columns + c],
                          part_h = Sh[j * columns + c];
            nf_real *restrict bin = bins + s;
            bin[NFI_BIN_INDEX * ld] = take ? (nf_real)j : bin[NFI_BIN_INDEX * ld];
            bin[NFI_BIN_W_BEFORE * ld] = take ? new_w : bin[NFI_BIN_W_BEFORE * ld];
            bin[NFI_BIN_W * ld] = take ? part_w : bin[NFI_BIN_W * ld];
            bin[NFI_BIN_H_BEFORE * ld] = take ? new_h : bin[NFI_BIN_H_BEFORE * ld];
            bin[NFI_BIN_H * ld] = take ? part_h : bin[NFI_BIN_H * ld];
        }
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const bool take = bins[NFI_BIN_INDEX * ld + s] >= (nf_real)j; /* whether the loop above has just taken bin
                                                                             j */
            const nf_real end0 = free0 ? d0[stride ? s : 0] : 0, end1 = free1 ? d1[stride ? s : 0] : 0;
            bins[NFI_BIN_D0 * ld + s] = take ? end0 : bins[NFI_BIN_D0 * ld + s];
            bins[NFI_BIN_D1 * ld + s] = take ? end1 : bins[NFI_BIN_D1 * ld + s];
        }
    }
}

NFI_INLINE void locate(nf_spline_form form, const nfi_spline *q, bool forward, size_t ld, const nfi_spline_rows *r,
                       const nf_real *restrict x, nf_real *restrict work, size_t stride)
{
    ld = nfi_lanes(ld);
    const size_t K = q->bins, columns = nfi_param_columns(stride, ld);
    nf_real *restrict at = work + 2 * ld;
    softmax(form, q, K, columns, r->theta, r->parts, work);
    softmax(form, q, K, columns, r->theta + K * columns, r->parts + K * columns, work);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        at[s] = nfi_clamp(x[s] - nfi_turn(q, x[s]), q->low, q->high);
    search(stride, q, forward, ld, r->theta + 2 * K * columns, r->parts, at, r->bins, work);
}

NFI_INLINE void evaluate(nf_spline_form form, const nfi_spline *q, size_t ld, nf_real *restrict bins,
                         const nf_real *restrict x, nf_real *restrict y, double *restrict log_det, bool forward)
{
    ld = nfi_lanes(ld);
    const nfi_spline k = *q; /* a copy, which no store in the loop can change */
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nfi_bin e = nfi_bin_at(form, &k, bins, ld, s);
        const bool inside = nfi_in_box(&k, x[s]);
        const nf_real turn = nfi_turn(&k, x[s]), at = nfi_clamp(x[s] - turn, k.low, k.high);
        const nf_real t = forward ? nfi_bin_forward(e, at) : nfi_bin_inverse(e, at);
        const nfi_bin_place c = nfi_bin_place_at(e, t);
        const nf_real to = nfi_clamp(forward ? e.y0 + e.h * c.f : e.x0 + e.w * t, k.low, k.high);
        const nf_real l = nfi_log(nfi_bin_slope(e, c)), l_inside = inside ? l : 0;
        y[s] = inside ? to + turn : x[s];
        log_det[s] += (double)(forward ? l_inside : -l_inside);
        bins[NFI_BIN_PLACE * ld + s] = inside ? t : -1;
    }
}

/* Calls `function` with the form, and whether a condition holds, as constants. */
#define BY_FORM(function, form, condition, ...)                   \
    do {                                                          \
        if ((form) == NF_SPLINE_SOFT_CLIPPED && (condition))      \
            function(NF_SPLINE_SOFT_CLIPPED, __VA_ARGS__, true);  \
        else if ((form) == NF_SPLINE_SOFT_CLIPPED)                \
            function(NF_SPLINE_SOFT_CLIPPED, __VA_ARGS__, false); \
        else if (condition)                                       \
            function(NF_SPLINE_SOFTPLUS, __VA_ARGS__, true);      \
        else                                                      \
            function(NF_SPLINE_SOFTPLUS, __VA_ARGS__, false);     \
    } while (0)

void nfi_spline_apply(nf_spline_form form, size_t stride, const nfi_spline *q, nf_direction d, size_t ld,
                      nfi_spline_rows r, const nf_real *x, nf_real *y, double *log_det, nf_real *work)
{
    BY_FORM(locate, form, stride != 0, q, d == NF_FORWARD, ld, &r, x, work);
    BY_FORM(evaluate, form, d == NF_FORWARD, q, ld, r.bins, x, y, log_det);
}

/* The gradients of a sample, each a row [ld]: in the arguments j of the two softmaxes, without the factor S_j, for
   j < k, j = k and j > k, where k is the sample's bin; and in the parameters of the slopes at the ends of its bin. */
enum { W_LESS, W_SAME, W_MORE, H_LESS, H_SAME, H_MORE, END0, END1, N_GRADIENTS };

NFI_INLINE void pull_back(nf_spline_form form, const nfi_spline *q, size_t ld, const nf_real *restrict bins,
                          const nf_real *restrict gy, const nf_real *restrict g_log_det, nf_real *restrict gx,
                          nf_real *restrict out, bool forward)
{
    ld = nfi_lanes(ld);
    const nfi_spline k = *q; /* a copy, which no store in the loop can change */
    const nf_real scale_w = k.size * k.spread_w, scale_h = k.size * k.spread_h;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nfi_bin e = nfi_bin_at(form, &k, bins, ld, s);
        const nf_real place = bins[NFI_BIN_PLACE * ld + s], gy_s = gy[s], g_l_s = g_log_det[s];
        const bool inside = place >= 0;
        const nf_real t = inside ? place : 0, u = 1 - t, tu = t * u;
        const nfi_bin_place c = nfi_bin_place_at(e, t);
        const nf_real l_t = 2 * (e.q * t + (u - t) - e.p * u) / c.N - 2 * (e.p + e.q - 2) * (u - t) / c.D;
        const nf_real f_t = c.N / c.D / c.D, from = inside ? gy_s : 0, of_l = inside ? g_l_s : 0;
        const nf_real to =
            forward ? (from * e.h * f_t + of_l * l_t) / e.w : (from - of_l * l_t / e.w) / (e.h / e.w * f_t);
        gx[s] = inside ? to : gy_s;
        /* the cotangents of the forward map */
        const nf_real g_y = forward ? from : -to, g_l = forward ? of_l : -of_l, g_x = forward ? to : -from;
        const nf_real gp = g_y * e.h * (tu * (1 - c.f) / c.D) + g_l * (u * u / c.N - 2 * tu / c.D);
        const nf_real gq = -g_y * e.h * (tu * c.f / c.D) + g_l * (t * t / c.N - 2 * tu / c.D);
        const nf_real g_ratio = gp * e.p + gq * e.q - g_l; /* the gradient in the ratio w / h, times this ratio */
        const nf_real gw = scale_w * (g_ratio / e.w - g_x * t), gx0 = -scale_w * g_x;
        const nf_real gh = scale_h * (g_y * c.f - g_ratio / e.h), gy0 = scale_h * g_y;
        const nf_real mean_w = gx0 * bins[NFI_BIN_W_BEFORE * ld + s] + gw * bins[NFI_BIN_W * ld + s];
        const nf_real mean_h = gy0 * bins[NFI_BIN_H_BEFORE * ld + s] + gh * bins[NFI_BIN_H * ld + s];
        out[W_LESS * ld + s] = gx0 - mean_w;
        out[W_SAME * ld + s] = gw - mean_w;
        out[W_MORE * ld + s] = -mean_w;
        out[H_LESS * ld + s] = gy0 - mean_h;
        out[H_SAME * ld + s] = gh - mean_h;
        out[H_MORE * ld + s] = -mean_h;
        out[END0 * ld + s] = gp * (e.w / e.h) * e.d0_slope;
        out[END1 * ld + s] = gq * (e.w / e.h) * e.d1_slope;
    }
}

/* Adds to g the number `in` of each sample whose bin is `at`. row [ld] is scratch. */
NFI_INLINE void scatter_end(size_t stride, size_t ld, nf_real at, const nf_real *restrict index,
                            const nf_real *restrict in, nf_real *restrict g, nf_real *restrict row)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real here = at == index[s] ? in[s] : 0;
        if (stride)
            g[s] += here;
        else
            row[s] = here;
    }
    if (!stride)
        *g += nfi_row_sum(ld, row);
}

/* Adds to g_theta, for all parameters of the dimension, from each sample's gradients `in`. Scratch [2 x ld] follows
   the rows of `in`. */
NFI_INLINE void scatter(nf_spline_form form, const nfi_spline *q, size_t ld, const nfi_spline_rows *r, nf_real *in,
                        nf_real *restrict g_theta, size_t stride)
{
    ld = nfi_lanes(ld);
    const size_t K = q->bins, columns = nfi_param_columns(stride, ld);
    const nf_real *restrict index = r->bins + NFI_BIN_INDEX * ld, *restrict Sw = r->parts,
                            *restrict Sh = r->parts + K * columns;
    const nf_real *restrict aw = r->theta, *restrict ah = r->theta + K * columns;
    nf_real *restrict gw = g_theta, *restrict gh = g_theta + K * columns, *restrict gd = g_theta + 2 * K * columns;
    nf_real *restrict row_w = in + N_GRADIENTS * ld, *restrict row_h = row_w + ld;
    for (size_t j = 0; j < K; j++) {
        const nf_real at = (nf_real)j;
        const size_t row0 = slope_row(q, j), row1 = slope_row(q, j + 1);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const bool less = at < index[s], same = at == index[s];
            const nf_real w = less ? in[W_LESS * ld + s] : same ? in[W_SAME * ld + s] : in[W_MORE * ld + s];
            const nf_real h = less ? in[H_LESS * ld + s] : same ? in[H_SAME * ld + s] : in[H_MORE * ld + s];
            if (stride) {
                gw[j * ld + s] += share(form, q, aw[j * ld + s]).slope * (Sw[j * ld + s] * w);
                gh[j * ld + s] += share(form, q, ah[j * ld + s]).slope * (Sh[j * ld + s] * h);
            } else {
                row_w[s] = w;
                row_h[s] = h;
            }
        }
        if (!stride) {
            gw[j] += share(form, q, aw[j]).slope * (Sw[j] * nfi_row_sum(ld, row_w));
            gh[j] += share(form, q, ah[j]).slope * (Sh[j] * nfi_row_sum(ld, row_h));
        }
        if (row0 != FIXED)
            scatter_end(stride, ld, at, index, in + END0 * ld, gd + row0 * columns, row_w);
        if (row1 != FIXED)
            scatter_end(stride, ld, at, index, in + END1 * ld, gd + row1 * columns, row_w);
    }
}

void nfi_spline_vjp(nf_spline_form form, size_t stride, const nfi_spline *q, nf_direction d, size_t ld,
                    nfi_spline_rows r, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, nf_real *g_theta,
                    nf_real *work)
{
    BY_FORM(pull_back, form, d == NF_FORWARD, q, ld, r.bins, gy, g_log_det, gx, work);
    if (g_theta)
        BY_FORM(scatter, form, stride != 0, q, ld, &r, work, g_theta);
}

NFI_INLINE void solve(nf_spline_form form, const nfi_spline *q, size_t ld, const nf_real *restrict bins,
                      const nf_real *restrict gx, nf_real *restrict gy, bool divide)
{
    ld = nfi_lanes(ld);
    const nfi_spline k = *q;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nfi_bin e = nfi_bin_at(form, &k, bins, ld, s);
        const nf_real place = bins[NFI_BIN_PLACE * ld + s];
        const nfi_bin_place c = nfi_bin_place_at(e, place > 0 ? place : 0);
        const nf_real inner = nfi_bin_slope(e, c), slope = place >= 0 ? inner : 1;
        gy[s] = divide ? gx[s] / slope : gx[s] * slope;
    }
}

void nfi_spline_solve(nf_spline_form form, const nfi_spline *q, nf_direction d, size_t ld, nfi_spline_rows r,
                      const nf_real *gx, nf_real *gy)
{
    BY_FORM(solve, form, d == NF_FORWARD, q, ld, r.bins, gx, gy);
}
