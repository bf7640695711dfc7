/* One bin of a monotone rational-quadratic spline (Gregory & Delbourgo 1982; Durkan et al. 2019, section 3.1).

   Bin k is [x0, x0 + w] -> [y0, y0 + h] with slopes d0, d1 at its ends. With t = (x - x0) / w, p = d0 w / h,
   q = d1 w / h, s = p + q - 2,

       f = (y - y0) / h = (t^2 + p t (1 - t)) / D,   D = 1 + s t (1 - t) >= 1/2,
       dy/dx = (h / w) N / D^2,                      N = q t^2 + 2 t (1 - t) + p (1 - t)^2 > 0.

   The inverse: (1 - b) t^2 + b t - f = 0 with b = p (1 - f) + (2 - q) f. Its discriminant b^2 + 4 f (1 - b) is
   (b - 2 f)^2 + 4 f (1 - f), which cannot be negative. Of the two forms t = 2 f / (b + root) = (root - b) / (2 (1 - b))
   one is free of cancellation, and that one is used.

   Everything depends on p and q only, so that no square of a slope is formed. Both are limited to NFI_MOST_RATIO, where
   the spline is a step to rounding. */
#ifndef NFI_SPLINE_H
#define NFI_SPLINE_H
#include "math/vec.h"
#include "flows/param.h"
#include <nflow/elementwise.h>

/* What describes a spline apart from its parameters: the options in the form that the kernels use. */
typedef struct nfi_spline {
    size_t bins;
    bool circular, free_ends;
    nf_real low, high, size;       /* the box [low, high] and high - low */
    nf_real first, last;           /* the first and the last number that the spline changes */
    nf_real middle, period, turns; /* if circular: of the box, high - low, 1 / (high - low); else 0 */
    nf_real min_width, spread_w;   /* a width is size (min_width + spread_w softmax(w)) */
    nf_real min_height, spread_h;  /* a height is formed likewise */
    nf_real min_slope, slope_bias; /* a slope is min_slope + softplus(d + slope_bias) */
    nf_real limit;                 /* NF_SPLINE_SOFT_CLIPPED: that of log slopes, and twice that of w and h */
} nfi_spline;

/* A number that is softly clipped to -limit .. limit, and the map's slope. */
typedef struct nfi_clipped {
    nf_real value, slope;
} nfi_clipped;

NFI_INLINE nfi_clipped nfi_soft_clip(nf_real x, nf_real limit)
{
    const nf_real f = 1 / (1 + nfi_abs(x) / limit);
    return (nfi_clipped){x * f, f * f};
}

/* The bin of a sample, and the sample's place t in the bin (-1: outside the box). On the tape each of these is a row
   [ld]. */
enum {
    NFI_BIN_INDEX,
    NFI_BIN_W_BEFORE, /* softmax(w) summed over the bins before; the next one: in the bin itself */
    NFI_BIN_W,
    NFI_BIN_H_BEFORE,
    NFI_BIN_H,
    NFI_BIN_D0, /* parameters of the slopes at the ends of the bin */
    NFI_BIN_D1,
    NFI_BIN_PLACE,
    NFI_BIN_ROWS
};

#ifdef NF_SINGLE
#define NFI_MOST_RATIO 1e15F
#define NFI_ROUND 0x1.8p23F
#else
#define NFI_MOST_RATIO 1e140
#define NFI_ROUND 0x1.8p52
#endif

typedef struct nfi_bin {
    nf_real x0, w, y0, h;
    nf_real d0_slope, d1_slope; /* derivatives of d0 and d1 in their parameters; 0 where the slope is fixed or
                                   limited */
    nf_real p, q;
} nfi_bin;

NFI_INLINE nf_real nfi_clamp(nf_real x, nf_real least, nf_real most)
{
    const nf_real up = x > least ? x : least;
    return up > most ? most : up;
}

/* A slope, and its derivative in its parameter. */
NFI_INLINE nfi_clipped nfi_knot_slope(nf_spline_form form, const nfi_spline *q, nf_real d)
{
    if (form == NF_SPLINE_SOFT_CLIPPED) {
        const nfi_clipped c = nfi_soft_clip(d, q->limit);
        const nf_real slope = nfi_exp(c.value);
        return (nfi_clipped){slope, slope * c.slope};
    }
    const nf_real sp = nfi_softplus(d + q->slope_bias);
    return (nfi_clipped){q->min_slope + sp, -nfi_expm1(-sp)}; /* sigmoid(d + slope_bias) */
}

/* form is a constant wherever this function is used. */
NFI_INLINE nfi_bin nfi_bin_at(nf_spline_form form, const nfi_spline *q, const nf_real *restrict rows, size_t ld,
                              size_t s)
{
    nfi_bin e;
    const nf_real k = rows[NFI_BIN_INDEX * ld + s], last = (nf_real)(q->bins - 1);
    e.x0 = q->size * (k * q->min_width + q->spread_w * rows[NFI_BIN_W_BEFORE * ld + s]) + q->low;
    e.y0 = q->size * (k * q->min_height + q->spread_h * rows[NFI_BIN_H_BEFORE * ld + s]) + q->low;
    e.w = q->size * (q->min_width + q->spread_w * rows[NFI_BIN_W * ld + s]);
    e.h = q->size * (q->min_height + q->spread_h * rows[NFI_BIN_H * ld + s]);
    const bool fixed = !(q->circular | q->free_ends), first = fixed & (k <= 0), end = fixed & (k >= last);
    const nfi_clipped k0 = nfi_knot_slope(form, q, rows[NFI_BIN_D0 * ld + s]);
    const nfi_clipped k1 = nfi_knot_slope(form, q, rows[NFI_BIN_D1 * ld + s]);
    const nf_real d0 = first ? 1 : k0.value, d1 = end ? 1 : k1.value;
    const nf_real ratio = e.w / e.h, p = d0 * ratio, r = d1 * ratio;
    e.d0_slope = (first | (p > NFI_MOST_RATIO)) ? 0 : k0.slope;
    e.d1_slope = (end | (r > NFI_MOST_RATIO)) ? 0 : k1.slope;
    e.p = p > NFI_MOST_RATIO ? NFI_MOST_RATIO : p;
    e.q = r > NFI_MOST_RATIO ? NFI_MOST_RATIO : r;
    return e;
}

/* The place of a sample in its bin. */
typedef struct nfi_bin_place {
    nf_real t, f, D, N; /* as in the comment at the top */
} nfi_bin_place;

NFI_INLINE nfi_bin_place nfi_bin_place_at(nfi_bin e, nf_real t)
{
    const nf_real u = 1 - t, tu = t * u, D = 1 + (e.p + e.q - 2) * tu;
    nfi_bin_place c;
    c.t = t;
    c.f = nfi_clamp((t * t + e.p * tu) / D, 0, 1);
    c.D = D;
    c.N = e.q * t * t + 2 * tu + e.p * u * u;
    return c;
}

/* t from x, in [0, 1]. */
NFI_INLINE nf_real nfi_bin_forward(nfi_bin e, nf_real x)
{
    return nfi_clamp((x - e.x0) / e.w, 0, 1);
}

/* t from y, in [0, 1]. */
NFI_INLINE nf_real nfi_bin_inverse(nfi_bin e, nf_real y)
{
    const nf_real f = nfi_clamp((y - e.y0) / e.h, 0, 1), b = e.p * (1 - f) + (2 - e.q) * f, c = b - 2 * f;
    const nf_real root = nfi_sqrt(c * c + 4 * f * (1 - f));
    const bool rising = b > 0;
    const nf_real above = rising ? 2 * f : root - b, below = rising ? b + root : 2 * (1 - b);
    return nfi_clamp(above / below, 0, 1);
}

/* dy/dx. */
NFI_INLINE nf_real nfi_bin_slope(nfi_bin e, nfi_bin_place c)
{
    return e.h / e.w * (c.N / c.D / c.D);
}

/* The multiple of the period that takes x into the box when it is subtracted. 0 if the spline is not circular. Where
   x has so many periods that they cannot be rounded to a whole number, x itself. */
NFI_INLINE nf_real nfi_turn(const nfi_spline *q, nf_real x)
{
    const nf_real u = (x - q->middle) * q->turns, n = u + NFI_ROUND - NFI_ROUND;
    return q->period * (nfi_abs(u) < NFI_ROUND / 4 ? n : u);
}

NFI_INLINE bool nfi_in_box(const nfi_spline *q, nf_real x)
{
    return q->circular | ((x >= q->first) & (x <= q->last));
}

/* ---- kernels (spline_kernels.c), each for one dimension ---- */

/* The arrays of a dimension: its parameters [3 bins - 1, 3 bins or 3 bins + 1, x ld or 1], the softmaxes of widths and
   heights [2 bins x ld or 1], the bins of its samples [NFI_BIN_ROWS x ld]. */
typedef struct nfi_spline_rows {
    const nf_real *theta;
    nf_real *parts, *bins;
} nfi_spline_rows;

enum { NFI_SPLINE_APPLY_WORK = 3, NFI_SPLINE_VJP_WORK = 10 }; /* numbers of rows [ld] that `work` has */

/* Computes y, and r's parts and bins, from x. Adds to log_det. */
NFI_KERNEL void nfi_spline_apply(nf_spline_form form, size_t stride, const nfi_spline *q, nf_direction d, size_t ld,
                                 nfi_spline_rows r, const nf_real *x, nf_real *y, double *log_det, nf_real *work);
/* Computes gx, and adds to g_theta unless it is NULL. */
NFI_KERNEL void nfi_spline_vjp(nf_spline_form form, size_t stride, const nfi_spline *q, nf_direction d, size_t ld,
                               nfi_spline_rows r, const nf_real *gy, const nf_real *g_log_det, nf_real *gx,
                               nf_real *g_theta, nf_real *work);
/* gy = gx / (dy/dx), where y is the output of direction d. */
NFI_KERNEL void nfi_spline_solve(nf_spline_form form, const nfi_spline *q, nf_direction d, size_t ld, nfi_spline_rows r,
                                 const nf_real *gx, nf_real *gy);

#endif
