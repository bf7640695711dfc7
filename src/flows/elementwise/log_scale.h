/* log s as a function of a parameter a, and its slope; t = a + bias, u and l are the upper and the lower limit.

     exp         L = t
     tanh        L = u tanh(t / u)                                           (Real NVP: Dinh et al. 2017, section 4.1)
     clamp       L = t clipped to [-l, u]; the slope is 0 outside
     softsign    L = t / (1 + |t| / u)                                      (as in zuko, where u = ln 1000)
     atan        L = (2 u / pi) atan(t / u)                                  (Ardizzone et al. 2019, cINN, section 3.4)
     asymmetric  as atan, with u for t >= 0 and l for t < 0: twice differentiable   (Andrade 2024, section 4)
     sigmoid     s = sigmoid(t) + floor;  without a floor L = -softplus(-t), slope sigmoid(-t)
     inverse     s = 1 / sigmoid(t), L = softplus(-t)                        (Glow: Kingma & Dhariwal 2018, the code)
     softplus    s = softplus(t) + floor; L = t, slope 1, where softplus(t) = e^t to rounding and there is no floor

   L is exact also where s itself underflows. */
#ifndef NFI_LOG_SCALE_H
#define NFI_LOG_SCALE_H
#include "math/vec.h"
#include <nflow/elementwise.h>

typedef struct nfi_log_scale {
    nf_real upper, lower, bias, floor;
} nfi_log_scale;

typedef struct nfi_log_scale_value {
    nf_real log, slope;
} nfi_log_scale_value;

#define NFI_TWO_OVER_PI NF_R(0.63661977236758134)

/* kind is a constant wherever this function is used. */
NFI_INLINE nfi_log_scale_value nfi_log_scale_at(nf_scale kind, nfi_log_scale q, nf_real a)
{
    const nf_real t = a + q.bias;
    if (kind == NF_SCALE_TANH) {
        const nf_real h = nfi_tanh(t / q.upper);
        return (nfi_log_scale_value){q.upper * h, (1 - h) * (1 + h)};
    }
    if (kind == NF_SCALE_CLAMP) {
        const nf_real least = t < -q.lower ? -q.lower : t, both = least > q.upper ? q.upper : least;
        return (nfi_log_scale_value){both, t < -q.lower || t > q.upper ? 0 : 1};
    }
    if (kind == NF_SCALE_SOFTSIGN) {
        const nf_real f = 1 / (1 + nfi_abs(t) / q.upper);
        return (nfi_log_scale_value){t * f, f * f};
    }
    if (kind == NF_SCALE_ATAN || kind == NF_SCALE_ASYMMETRIC) {
        const nf_real c = t < 0 ? q.lower : q.upper, r = t / c;
        return (nfi_log_scale_value){c * (NFI_TWO_OVER_PI * nfi_atan(r)), NFI_TWO_OVER_PI / (1 + r * r)};
    }
    if (kind == NF_SCALE_SIGMOID) {
        const nf_real up = nfi_sigmoid(t), down = nfi_sigmoid(-t);
        const bool bare = q.floor <= 0;
        const nf_real s = bare ? 1 : up + q.floor; /* if `bare`, s is not used */
        return (nfi_log_scale_value){bare ? -nfi_softplus(-t) : nfi_log(s), bare ? down : up * down / s};
    }
    if (kind == NF_SCALE_INVERSE_SIGMOID)
        return (nfi_log_scale_value){nfi_softplus(-t), -nfi_sigmoid(-t)};
    if (kind == NF_SCALE_SOFTPLUS) {
        const bool alone = q.floor <= 0 && t < (sizeof(nf_real) == 8 ? -40 : -18);
        const nf_real s = alone ? 1 : nfi_softplus(t) + q.floor;
        return (nfi_log_scale_value){alone ? t : nfi_log(s), alone ? 1 : nfi_sigmoid(t) / s};
    }
    return (nfi_log_scale_value){t, 1};
}

#endif
