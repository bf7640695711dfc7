/* Shift and affine flows with every form of scale, against their formulas in long double, and at extreme parameters. */
#include "expect.h"
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, huge = 1e30;
#else
static const double rounding = 2.3e-16, huge = 1e300;
#endif

static nf_model *model_of(nf_flow *f, nf_real *theta)
{
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.theta = theta});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* ---- the forms of the scale ---- */

static long double sigmoidl(long double t)
{
    return 1 / (1 + expl(-t));
}

/* log s by the definitions in flow.h, with the options' limits filled in by hand. */
static long double log_scale(const nf_scaled_affine_options *q, long double a)
{
    const long double t = a + q->bias, pi = acosl(-1), u = q->limit, l = q->lower;
    switch (q->scale) {
    case NF_SCALE_EXP:
        return t;
    case NF_SCALE_TANH:
        return u * tanhl(t / u);
    case NF_SCALE_CLAMP:
        return fmaxl(-l, fminl(u, t));
    case NF_SCALE_SOFTSIGN:
        return t / (1 + fabsl(t) / u);
    case NF_SCALE_ATAN:
        return 2 * u / pi * atanl(t / u);
    case NF_SCALE_ASYMMETRIC:
        return t < 0 ? 2 * l / pi * atanl(t / l) : 2 * u / pi * atanl(t / u);
    case NF_SCALE_SIGMOID:
        return q->floor > 0 ? logl(sigmoidl(t) + q->floor) : -(fmaxl(-t, 0) + log1pl(expl(-fabsl(t))));
    case NF_SCALE_INVERSE_SIGMOID:
        return fmaxl(-t, 0) + log1pl(expl(-fabsl(t)));
    case NF_SCALE_SOFTPLUS:
        return logl(fmaxl(t, 0) + log1pl(expl(-fabsl(t))) + q->floor);
    }
    return NAN;
}

static const nf_scaled_affine_options forms[] = {
    {.scale = NF_SCALE_EXP, .bias = -0.37},
    {.scale = NF_SCALE_TANH, .limit = 1.73},
    {.scale = NF_SCALE_CLAMP, .limit = 1.21, .lower = 2.83},
    {.scale = NF_SCALE_SOFTSIGN, .limit = 5.19, .bias = 0.18},
    {.scale = NF_SCALE_ATAN, .limit = 1.64},
    {.scale = NF_SCALE_ASYMMETRIC, .limit = 0.27, .lower = 1.46},
    {.scale = NF_SCALE_SIGMOID, .bias = 1.93},
    {.scale = NF_SCALE_SIGMOID, .bias = 2, .floor = 1e-3},
    {.scale = NF_SCALE_SIGMOID, .bias = 0.83, .gated = true},
    {.scale = NF_SCALE_SOFTPLUS},
    {.scale = NF_SCALE_SOFTPLUS, .floor = 1e-3, .bias = 0.54},
    {.scale = NF_SCALE_INVERSE_SIGMOID, .bias = 1.27},
};
enum { N_FORMS = sizeof forms / sizeof *forms };

Test(transforms, scales_are_the_papers_formulas)
{
    static const double as[] = {-87.3, -19.4, -3.71, -0.862, -1e-5, 0, 0.0473, 1.318, 4.27, 23.6};
    for (size_t k = 0; k < N_FORMS; k++)
        for (size_t i = 0; i < sizeof as / sizeof *as; i++) {
            nf_real theta[4] = {NF_R(0.731), (nf_real)as[i], NF_R(-1.294), (nf_real)(as[i] / 3)};
            const nf_real x[2] = {NF_R(-0.617), NF_R(2.183)};
            nf_real y[2];
            double log_det;
            long double expected = 0;
            nf_model *m = model_of(nf_scaled_affine(2, &forms[k]), theta);
            cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
            for (int r = 0; r < 2; r++) {
                const long double L = log_scale(&forms[k], theta[2 * r + 1]), s = expl(L);
                const long double moved = s * x[r] + (forms[k].gated ? 1 - s : 1) * theta[2 * r];
                cr_expect_float_eq(y[r], moved, 60 * rounding * (1 + fabsl(L)) * (1 + fabsl(s)),
                                   "form %zu, a = %g: y is %.12g, not %.12Lg", k, as[i], (double)y[r], moved);
                expected += L;
            }
            cr_expect_float_eq(log_det, expected, 30 * rounding * (1 + fabsl(expected)),
                               "form %zu, a = %g: log-det is %.12g, not %.12Lg", k, as[i], log_det, expected);
            nf_model_free(m);
        }
}

/* The gradient in a against central differences of the formula in long double. */
Test(transforms, the_scales_gradient_is_that_of_the_formula)
{
    static const double as[] = {-31.7, -4.11, -0.693, 0.219, 0.981, 3.37, 17.9};
    for (size_t k = 0; k < N_FORMS; k++)
        for (size_t i = 0; i < sizeof as / sizeof *as; i++) {
            nf_real theta[2] = {NF_R(0.731), (nf_real)as[i]}, gx, g_theta[2] = {0};
            const nf_real x = 0, gy = 0, g_l = 1;
            const long double h = 1e-5L, a = theta[1];
            const long double slope = (log_scale(&forms[k], a + h) - log_scale(&forms[k], a - h)) / (2 * h);
            nf_model *m = model_of(nf_scaled_affine(1, &forms[k]), theta);
            cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, &x, NULL, &gy, &g_l, &gx, NULL, g_theta),
                         NF_OK);
            cr_expect_float_eq(g_theta[1], slope, 1e-9 + 20 * rounding, "form %zu, a = %g: %.12g, not %.12Lg", k, as[i],
                               (double)g_theta[1], slope);
            nf_model_free(m);
        }
}

Test(transforms, zero_parameters_are_the_identity)
{
    for (size_t k = 0; k <= NF_SCALE_ASYMMETRIC; k++) {
        nf_real theta[6] = {0}, y[3];
        const nf_real x[3] = {NF_R(-2.317), NF_R(0.0591), NF_R(417.3)};
        double log_det;
        nf_model *m = model_of(nf_scaled_affine(3, &(nf_scaled_affine_options){.scale = (nf_scale)k}), theta);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
        cr_assert_eq(memcmp(x, y, sizeof x), 0, "form %zu", k);
        cr_assert_float_eq(log_det, 0, 0);
        nf_model_free(m);
    }
}

/* Bounds are reached exactly and not passed, and every gradient there is finite. */
Test(transforms, saturated_scales_stay_at_their_bounds)
{
    for (size_t k = 0; k < N_FORMS; k++)
        for (int sign = -1; sign <= 1; sign += 2) {
            const nf_scaled_affine_options *q = &forms[k];
            nf_real theta[2] = {NF_R(0.317), (nf_real)(sign * huge)}, y, gx, g_theta[2] = {0};
            const nf_real x = NF_R(-1.283), gy = NF_R(0.719), g_l = NF_R(-0.463);
            const bool bounded = q->limit > 0 || q->floor > 0;
            if (!bounded)
                continue;
            double log_det;
            nf_model *m = model_of(nf_scaled_affine(1, q), theta);
            const double upper = q->limit, lower = q->lower > 0 ? q->lower : q->limit;
            if (q->scale != NF_SCALE_SOFTPLUS || sign < 0)
                for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
                    cr_assert_eq(nf_transform(m, NULL, NULL, d, 1, &x, NULL, &y, &log_det), NF_OK);
                    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, d, 1, &x, NULL, &gy, &g_l, &gx, NULL, g_theta), NF_OK);
                    cr_expect(isfinite(y) && isfinite(gx) && isfinite(g_theta[0]) && isfinite(g_theta[1]),
                              "form %zu, direction %d, %g", k, (int)d, (double)theta[1]);
                    if (upper > 0)
                        cr_expect_float_eq(d == NF_FORWARD ? log_det : -log_det, sign > 0 ? upper : -lower,
                                           rounding * fmax(upper, lower), "form %zu: %.17g", k, log_det);
                }
            nf_model_free(m);
        }
}

/* Factors that overflow or vanish, products that do neither. */
Test(transforms, extreme_scales_give_what_is_representable)
{
    const double big = sizeof(nf_real) == 8 ? 1100 : 130; /* e^big overflows */
    const nf_scaled_affine_options options[] = {{.scale = NF_SCALE_EXP}, {.scale = NF_SCALE_SIGMOID}};
    for (int k = 0; k < 2; k++)
        for (int sign = -1; sign <= (k ? -1 : 1); sign += 2) {
            nf_real theta[2] = {0, (nf_real)(sign * big)}, y, back, gx, g_theta[2] = {0};
            const nf_real x[2] = {0, (nf_real)exp(-sign * big * 0.6)};
            nf_model *m = model_of(nf_scaled_affine(1, &options[k]), theta);
            for (int i = 0; i < 2; i++) {
                double l, l_back;
                const nf_real gy = (nf_real)exp(-sign * big * 0.55), g_l = NF_R(0.371);
                cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, &x[i], NULL, &y, &l), NF_OK);
                cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, &y, NULL, &back, &l_back), NF_OK);
                cr_expect_float_eq(l, sign * big, 0);
                cr_expect_float_eq(l_back, -sign * big, 0);
                cr_expect_float_eq(y, i ? exp(sign * big * 0.4) : 0, big * 40 * rounding * exp(sign * big * 0.4));
                cr_expect_float_eq(back, x[i], big * 40 * rounding * (double)x[i]);
                cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, &x[i], NULL, &gy, &g_l, &gx, NULL, g_theta),
                             NF_OK);
                cr_expect_float_eq(gx, exp(sign * big * 0.45), big * 40 * rounding * exp(sign * big * 0.45));
                cr_expect(isfinite(g_theta[0]) && isfinite(g_theta[1]));
            }
            nf_model_free(m);
        }
    /* a gradient that overflows does not make a NaN of the others */
    nf_real theta[2] = {0, (nf_real)big}, gx, g_theta[2] = {0};
    const nf_real x = 0, gy = 1, g_l = NF_R(0.25);
    nf_model *m = model_of(nf_scaled_affine(1, NULL), theta);
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, &x, NULL, &gy, &g_l, &gx, NULL, g_theta), NF_OK);
    cr_expect_float_eq(g_theta[1], 0.25, 0);
    cr_expect(isinf(gx));
    nf_model_free(m);
}

/* ---- shift ---- */

Test(transforms, a_shift_shifts)
{
    nf_real theta[2] = {NF_R(1.375), NF_R(-0.59375)}, y[2], gx[2], g_theta[2] = {0};
    const nf_real x[2] = {NF_R(-2.25), NF_R(0.8125)}, gy[2] = {NF_R(0.71), NF_R(-1.93)}, g_l = NF_R(5.1);
    double log_det;
    nf_model *m = model_of(nf_shift(2), theta);
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        const nf_real sign = d == NF_FORWARD ? 1 : -1;
        g_theta[0] = g_theta[1] = 0;
        cr_assert_eq(nf_transform(m, NULL, NULL, d, 1, x, NULL, y, &log_det), NF_OK);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, d, 1, x, NULL, gy, &g_l, gx, NULL, g_theta), NF_OK);
        cr_expect_float_eq(log_det, 0, 0);
        for (int i = 0; i < 2; i++) {
            cr_expect_eq(y[i], x[i] + sign * theta[i]);
            cr_expect_eq(gx[i], gy[i]);
            cr_expect_eq(g_theta[i], sign * gy[i], "direction %d, feature %d: %.17g, not %.17g", (int)d, i,
                         (double)g_theta[i], (double)(sign * gy[i]));
        }
    }
    nf_model_free(m);
}

/* ---- arguments ---- */

Test(transforms, bad_arguments_are_named)
{
    expect_none(nf_shift(0), NF_EARG, "`dim`");
    expect_none(nf_scaled_affine(0, NULL), NF_EARG, "`dim`");
    expect_none(nf_scaled_affine(SIZE_MAX, NULL), NF_EARG, "`dim`");
    expect_none(nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = (nf_scale)17}), NF_EARG, "`scale`");
    expect_none(nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH, .limit = -1}), NF_EARG,
                "`limit`");
    expect_none(nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH, .limit = NAN}), NF_EARG,
                "`limit`");
    expect_none(nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_EXP, .limit = 2}), NF_EARG,
                "`limit`");
    expect_none(nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_ATAN, .lower = 2}), NF_EARG,
                "`lower`");
    expect_none(nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH, .floor = 1e-3}), NF_EARG,
                "`floor`");
    expect_none(nf_scaled_affine(2, &(nf_scaled_affine_options){.bias = INFINITY}), NF_EARG, "`bias`");
    expect_none(nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_SOFTPLUS, .gated = true}), NF_EARG,
                "`gated`");
}
