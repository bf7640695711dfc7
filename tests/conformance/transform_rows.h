/* Rows of the elementwise transforms: shift, scaled affine, spline. */
#ifndef CONFORMANCE_TRANSFORM_ROWS_H
#define CONFORMANCE_TRANSFORM_ROWS_H
#include <nflow/nflow.h>

static inline nf_flow *build_shift(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_shift(dim);
}

/* A builder of nf_<layer> with options. */
#define WITH_OPTIONS(layer, name, ...)                                \
    static inline nf_flow *build_##name(size_t dim, size_t n_ctx)     \
    {                                                                 \
        (void)n_ctx;                                                  \
        return nf_##layer(dim, &(nf_##layer##_options){__VA_ARGS__}); \
    }
WITH_OPTIONS(scaled_affine, scale_exp, .bias = 0.172)
WITH_OPTIONS(scaled_affine, scale_tanh, .scale = NF_SCALE_TANH, .limit = 0.83)
WITH_OPTIONS(scaled_affine, scale_clamp, .scale = NF_SCALE_CLAMP, .limit = 0.517, .lower = 0.731)
WITH_OPTIONS(scaled_affine, scale_softsign, .scale = NF_SCALE_SOFTSIGN)
WITH_OPTIONS(scaled_affine, scale_atan, .scale = NF_SCALE_ATAN)
WITH_OPTIONS(scaled_affine, scale_asymmetric, .scale = NF_SCALE_ASYMMETRIC, .limit = 0.63)
WITH_OPTIONS(scaled_affine, scale_sigmoid, .scale = NF_SCALE_SIGMOID, .bias = 2, .floor = 1e-3)
WITH_OPTIONS(scaled_affine, scale_gated, .scale = NF_SCALE_SIGMOID, .bias = 1.37, .gated = true)
WITH_OPTIONS(scaled_affine, scale_softplus, .scale = NF_SCALE_SOFTPLUS, .bias = 0.41, .floor = 1e-3)
WITH_OPTIONS(scaled_affine, scale_inverse, .scale = NF_SCALE_INVERSE_SIGMOID, .bias = 1.62)
WITH_OPTIONS(spline, spline, .bins = 0)
WITH_OPTIONS(spline, small_spline, .bins = 5, .box = 1.37, .min_width = 0.021, .min_height = 0.013)
WITH_OPTIONS(spline, circular_spline, .bins = 4, .box = 1.91, .circular = true)
WITH_OPTIONS(spline, clipped_spline, .bins = 5, .box = 2.87, .min_slope = 0.037, .form = NF_SPLINE_SOFT_CLIPPED)
WITH_OPTIONS(spline, free_spline, .bins = 4, .low = -4.3, .high = 5.1, .free_ends = true)
WITH_OPTIONS(sos_polynomial, sos_polynomial, .polynomials = 2, .min_slope = 0.2)
WITH_OPTIONS(sos_polynomial, small_sos_polynomial, .degree = 3, .box = 1.37, .min_slope = 0.017)
WITH_OPTIONS(soft_log, soft_log, .threshold = 0.917)

/* The transforms that also have rows in a coupling and in an autoregressive flow (conditioned_rows.h):
   DO(transform, name, whether derivatives jump, the parallel direction of its autoregressive flow) */
#define CONDITIONED_TRANSFORMS(DO)                                \
    DO(shift, "shift", false, NF_FORWARD)                         \
    DO(scale_exp, "exp scale", false, NF_INVERSE)                 \
    DO(scale_tanh, "tanh scale", false, NF_FORWARD)               \
    DO(scale_clamp, "clamped scale", true, NF_INVERSE)            \
    DO(scale_softsign, "softsign scale", false, NF_FORWARD)       \
    DO(scale_atan, "atan scale", false, NF_INVERSE)               \
    DO(scale_asymmetric, "asymmetric scale", false, NF_FORWARD)   \
    DO(scale_sigmoid, "sigmoid scale", false, NF_INVERSE)         \
    DO(scale_gated, "gated scale", false, NF_FORWARD)             \
    DO(scale_softplus, "softplus scale", false, NF_INVERSE)       \
    DO(scale_inverse, "inverse sigmoid scale", false, NF_FORWARD) \
    DO(small_spline, "spline in a small box", true, NF_FORWARD)   \
    DO(circular_spline, "circular spline", true, NF_INVERSE)      \
    DO(free_spline, "spline with free ends", true, NF_FORWARD)    \
    DO(clipped_spline, "softly clipped spline", true, NF_INVERSE) \
    DO(sos_polynomial, "SOS polynomial", false, NF_FORWARD)       \
    DO(small_sos_polynomial, "SOS polynomial in a small box", true, NF_INVERSE)

#define TRANSFORM_ROWS                                                                                   \
    {"shift", build_shift, 0.5, 1, false, 0}, {"scaled affine, exp", build_scale_exp, 0.5, 1, false, 0}, \
        {"scaled affine, tanh", build_scale_tanh, 0.5, 1, false, 0},                                     \
        {"scaled affine, clamp", build_scale_clamp, 0.5, 1, false, ROUGH},                               \
        {"scaled affine, softsign", build_scale_softsign, 0.5, 1, false, 0},                             \
        {"scaled affine, atan", build_scale_atan, 0.5, 1, false, 0},                                     \
        {"scaled affine, asymmetric", build_scale_asymmetric, 0.5, 1, false, 0},                         \
        {"scaled affine, sigmoid", build_scale_sigmoid, 0.5, 1, false, 0},                               \
        {"scaled affine, gated", build_scale_gated, 0.5, 1, false, 0},                                   \
        {"scaled affine, softplus", build_scale_softplus, 0.5, 1, false, 0},                             \
        {"scaled affine, inverse sigmoid", build_scale_inverse, 0.5, 1, false, 0},                       \
        {"spline", build_spline, 0.2, 10, false, ROUGH},                                                 \
        {"spline in a small box", build_small_spline, 0.2, 10, false, ROUGH},                            \
        {"circular spline", build_circular_spline, 0.2, 10, false, ROUGH},                               \
        {"spline with free ends", build_free_spline, 0.2, 10, false, ROUGH},                             \
        {"softly clipped spline", build_clipped_spline, 0.2, 10, false, ROUGH},                          \
        {"SOS polynomial", build_sos_polynomial, 0.3, 10, false, 0},                                     \
        {"SOS polynomial in a small box", build_small_sos_polynomial, 0.3, 10, false, ROUGH},            \
        {"soft-log", build_soft_log, 0, 1, false, ROUGH},

#endif
