/* The radial layer's own mathematics: the paper's formula, the centre, and distances that overflow when squared. */
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, far = 1e30;
#else
static const double rounding = 2.3e-16, far = 1e200;
#endif

static nf_model *with_parameters(size_t dim, nf_real *theta)
{
    nf_model *m = nf_model_of_flow(nf_radial(dim), &(nf_model_options){.theta = theta});
    cr_assert_not_null(m);
    return m;
}

Test(radial, is_the_papers_formula)
{
    static const double cases[][2] = {{-0.731, 1.28}, {1.94, -2.36}, {0.417, 0.093}, {-3.18, 4.27}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const double z0[3] = {0.371, -0.684, 1.522}, x[3] = {1.213, 0.275, -0.946}, a = cases[c][0], b = cases[c][1];
        nf_real theta[5] = {NF_R(z0[0]), NF_R(z0[1]), NF_R(z0[2]), NF_R(a), NF_R(b)};
        nf_real xs[3] = {NF_R(x[0]), NF_R(x[1]), NF_R(x[2])}, y[3], back[3];
        double log_det, r = 0;
        nf_model *m = with_parameters(3, theta);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, xs, NULL, y, &log_det), NF_OK);
        for (int i = 0; i < 3; i++)
            r += (x[i] - z0[i]) * (x[i] - z0[i]);
        r = sqrt(r);
        const double alpha = exp(a), beta = -alpha + log1p(exp(b)), h = 1 / (alpha + r), slope = -h * h;
        for (int i = 0; i < 3; i++)
            cr_assert_float_eq(y[i], x[i] + beta * h * (x[i] - z0[i]), 60 * rounding);
        const double det = pow(1 + beta * h, 2) * (1 + beta * h + beta * slope * r);
        cr_assert_float_eq(log_det, log(det), 60 * rounding * (1 + fabs(log(det))));
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, y, NULL, back, NULL), NF_OK);
        for (int i = 0; i < 3; i++)
            cr_assert_float_eq(back[i], x[i], 60 * rounding * exp(fabs(log_det)));
        nf_model_free(m);
    }
}

/* At the centre y = z0 and the determinant is (softplus(b) / alpha)^dim; gradients exist there. */
Test(radial, the_centre_is_a_fixed_point)
{
    nf_real theta[4] = {NF_R(0.371), NF_R(-0.684), NF_R(-0.517), NF_R(0.862)}, y[2], gx[2], g_theta[4] = {0};
    const nf_real gy[2] = {NF_R(0.63), NF_R(-1.81)}, g_l = NF_R(0.97);
    double log_det;
    nf_model *m = with_parameters(2, theta);
    const double expected = 2 * (log(log1p(exp(0.862))) + 0.517);
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        cr_assert_eq(nf_transform(m, NULL, NULL, d, 1, theta, NULL, y, &log_det), NF_OK);
        cr_assert_float_eq(y[0], theta[0], 0);
        cr_assert_float_eq(y[1], theta[1], 0);
        cr_assert_float_eq(log_det, d == NF_FORWARD ? expected : -expected, 20 * rounding);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, d, 1, theta, NULL, gy, &g_l, gx, NULL, g_theta), NF_OK);
        for (int i = 0; i < 4; i++)
            cr_assert(isfinite(g_theta[i]) && isfinite(gx[i % 2]));
    }
    nf_model_free(m);
}

/* Far away the layer is the identity, and r^2 would have overflowed. */
Test(radial, is_the_identity_far_away)
{
    nf_real theta[4] = {NF_R(0.371), NF_R(-0.684), NF_R(1.24), NF_R(-0.83)}, g_theta[4] = {0}, gx[2], y[2];
    const nf_real x[2] = {(nf_real)(0.6 * far), (nf_real)(-0.8 * far)}, gy[2] = {NF_R(0.63), NF_R(-1.81)};
    const nf_real g_l = NF_R(0.97);
    double log_det;
    nf_model *m = with_parameters(2, theta);
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        cr_assert_eq(nf_transform(m, NULL, NULL, d, 1, x, NULL, y, &log_det), NF_OK);
        cr_assert_float_eq(log_det, 0, 10 * rounding);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, d, 1, x, NULL, gy, &g_l, gx, NULL, g_theta), NF_OK);
        for (int i = 0; i < 2; i++) {
            cr_assert_float_eq(y[i] / x[i], 1, 10 * rounding);
            cr_assert_float_eq(gx[i], gy[i], 10 * rounding);
        }
        for (int i = 0; i < 4; i++)
            cr_assert(isfinite(g_theta[i]));
    }
    nf_model_free(m);
}

Test(radial, refuses_no_dimensions)
{
    cr_assert_null(nf_radial(0));
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_null(nf_radial(SIZE_MAX));
    cr_assert_eq(nf_error_status(), NF_EARG);
}
