/* The constraint of one number: its image y, l = log dy/dx, and the derivatives of both, in either direction.

       identity   y = x                    l = 0
       lower      y = a + e^x              l = x
       upper      y = b - e^x              l = x
       interval   y = a + w sigmoid(x)     l = log w - |x| - 2 log(1 + e^-|x|),   w = b - a
       scaled     y = a + w x              l = log w

   In an interval y is computed from the nearer end: with t = e^-|x|, y = a + w t / (1 + t) or b - w t / (1 + t),
   dy/dx = w t / (1 + t)^2, and dl/dx = -sign(x) (1 - t) / (1 + t). Inverse: x = log(y - a) - log(b - y),
   l = log w - log(y - a) - log(b - y). */
#ifndef NFI_BOUNDS_MAPS_H
#define NFI_BOUNDS_MAPS_H
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"

/* The image, l, and the derivatives of both. */
typedef struct point {
    nf_real y;
    double l;
    nf_real dy, dl;
} point;

NFI_INLINE point forward_point(nfi_bound_kind is, nfi_bound q, nf_real x)
{
    if (is == NFI_LOWER || is == NFI_UPPER) {
        const nf_real e = nfi_exp(x), slope = nfi_slope_exp(x);
        return (point){is == NFI_LOWER ? q.a + e : q.b - e, (double)x, is == NFI_LOWER ? slope : -slope, 1};
    }
    if (is == NFI_INTERVAL) {
        const nf_real size = nfi_abs(x), t = nfi_exp(-size), p = 1 / (1 + t), part = q.w * t * p;
        const nf_real tilt = (1 - t) * p;
        return (point){x < 0 ? q.a + part : q.b - part, q.log_w - (double)(size + 2 * nfi_log1p(t)), part * p,
                       x < 0 ? tilt : -tilt};
    }
    if (is == NFI_SCALED)
        return (point){q.a + q.w * x, q.log_w, q.w, 0};
    return (point){x, 0, 1, 0};
}

NFI_INLINE point inverse_point(nfi_bound_kind is, nfi_bound q, nf_real y)
{
    if (is == NFI_LOWER || is == NFI_UPPER) {
        const nf_real u = is == NFI_LOWER ? y - q.a : q.b - y, x = nfi_log(nfi_inside(u)), slope = nfi_inside_slope(u);
        return (point){x, nfi_support(u) - (double)x, is == NFI_LOWER ? slope : -slope,
                       is == NFI_LOWER ? -slope : slope};
    }
    if (is == NFI_INTERVAL) {
        const nf_real u = y - q.a, v = q.b - y, log_u = nfi_log(nfi_inside(u)), log_v = nfi_log(nfi_inside(v));
        const nf_real du = nfi_inside_slope(u), dv = nfi_inside_slope(v);
        return (point){log_u - log_v, q.log_w - (double)(log_u + log_v) + nfi_support(u) + nfi_support(v), du + dv,
                       dv - du};
    }
    if (is == NFI_SCALED)
        return (point){(y - q.a) / q.w, -q.log_w, 1 / q.w, 0};
    return (point){y, 0, 1, 0};
}

NFI_INLINE point point_at(nfi_bound_kind is, nf_direction d, nfi_bound q, nf_real x)
{
    return d == NF_FORWARD ? forward_point(is, q, x) : inverse_point(is, q, x);
}

#endif
