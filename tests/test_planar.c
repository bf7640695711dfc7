/* The planar layer's own mathematics: the scalar equation of its inverse, its constraint, and w = 0. */
#include "object/workspace.h"
#include "flows/residual/planar.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

/* alpha + wu tanh(alpha + b) = wy, in long double, for the root that the kernel found for t = alpha + b. */
static void check_root(double wy, double wu, double b, double t, double h)
{
    /* The equation as the kernel was given it: kappa = wy + b and sp = 1 + wu, both rounded. */
    const long double kappa = (nf_real)(wy + b), m = (long double)(nf_real)(1 + wu) - 1;
    const double residual = (double)((long double)t + m * tanhl((long double)t) - kappa);
    const double scale = fabs(t) + fabs((double)m) + fabs((double)kappa);
    cr_assert_float_eq(residual, 0, 4 * rounding * scale, "wy %g, wu %g, b %g: residual %g at t = %.17g", wy, wu, b,
                       residual, t);
    cr_assert_float_eq(h, tanh(t), 4 * rounding, "tanh");
}

Test(planar, scalar_equation_holds_to_rounding)
{
    static const double wys[] = {-20.3, -3, -1.5, 0, 5, 7.25, 12.3, 1e-9, -3e-14};
    static const double wus[] = {-1, -.5, -1e-20, 0, 1e-20, 3, 11. / 3, 17.2, 4e5, -1 + 1e-6};
    static const double bs[] = {-19.3, -8. / 3, -1, 0, .5, 3, 4.3, 1e15, -1e8, 2.5e-7};
    enum { LD = 16 };
    for (size_t i = 0; i < sizeof wys / sizeof *wys; i++)
        for (size_t j = 0; j < sizeof wus / sizeof *wus; j++)
            for (size_t stride = 0; stride < 2; stride++) {
                nf_real sp[LD], t[LD], h[LD], active[LD];
                for (size_t k = 0; k < LD; k++) {
                    sp[k] = (nf_real)(1 + wus[j]);
                    t[k] = (nf_real)(wys[i] + bs[k % 10]);
                }
                nfi_planar_solve(stride, LD, sp, t, h, active);
                for (size_t k = 0; k < LD; k++)
                    check_root(wys[i], wus[j], bs[k % 10], (double)t[k], (double)h[k]);
            }
}

static nf_model *with_parameters(size_t dim, nf_real *theta)
{
    nf_model *m = nf_model_of_flow(nf_planar(dim), &(nf_model_options){.theta = theta});
    cr_assert_not_null(m);
    return m;
}

/* y = x + u^ h by the paper's own formulas. */
Test(planar, is_the_papers_formula)
{
    const double w[3] = {0.731, -1.294, 0.448}, u[3] = {-2.385, 1.117, 0.629}, b = 0.362, x[3] = {1.913, -0.257, 0.841};
    nf_real theta[7], xs[3], y[3];
    double wu = 0, ww = 0, wx = b, log_det;
    for (size_t i = 0; i < 3; i++) {
        theta[i] = (nf_real)w[i];
        theta[3 + i] = (nf_real)u[i];
        xs[i] = (nf_real)x[i];
        wu += w[i] * u[i];
        ww += w[i] * w[i];
        wx += w[i] * x[i];
    }
    theta[6] = (nf_real)b;
    nf_model *m = with_parameters(3, theta);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, xs, NULL, y, &log_det), NF_OK);
    const double m_wu = -1 + log1p(exp(wu)), h = tanh(wx), slope = 1 - h * h;
    double psi_u = 0;
    for (size_t i = 0; i < 3; i++) {
        const double u_hat = u[i] + (m_wu - wu) * w[i] / ww;
        psi_u += slope * w[i] * u_hat;
        cr_assert_float_eq(y[i], x[i] + u_hat * h, 40 * rounding);
    }
    cr_assert_float_eq(log_det, log(fabs(1 + psi_u)), 40 * rounding);
    nf_model_free(m);
}

/* The constraint w.u^ >= -1 keeps the determinant positive however far w.u goes. */
Test(planar, stays_invertible_for_any_parameters)
{
    static const double us[] = {-3e4, -700, -95.3, -40.7, -1, 0, 41.9, 1e3, 3e4};
    for (size_t k = 0; k < sizeof us / sizeof *us; k++) {
        nf_real theta[5] = {NF_R(0.8), NF_R(-0.6), (nf_real)(0.8 * us[k] + 0.06), (nf_real)(-0.6 * us[k] + 0.08),
                            NF_R(0.173)};
        nf_real x[2] = {NF_R(-0.31), NF_R(0.77)}, y[2], back[2];
        double log_det, log_det_back;
        nf_model *m = with_parameters(2, theta);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, y, NULL, back, &log_det_back), NF_OK);
        cr_assert(isfinite(log_det) && isfinite(log_det_back), "w.u = %g: log-dets %g and %g", us[k], log_det,
                  log_det_back);
        for (int i = 0; i < 2; i++) { /* u^ is as exact as u; of y's digits det tells how many are left */
            const double lost =
                (1 + fabs(us[k])) * (1 + fabs((double)y[0]) + fabs((double)y[1])) * fmax(1, exp(-log_det));
            cr_assert_float_eq(back[i], x[i], 100 * rounding * lost, "w.u = %g: %g came back as %g", us[k],
                               (double)x[i], (double)back[i]);
        }
        nf_model_free(m);
    }
}

Test(planar, w_of_zero_is_a_translation)
{
    nf_real theta[5] = {0, 0, NF_R(1.37), NF_R(-0.42), NF_R(0.85)}, x[2] = {NF_R(0.314), NF_R(-2.72)}, y[2], gx[2];
    nf_real gy[2] = {NF_R(0.63), NF_R(-1.81)}, g_l = NF_R(0.97), g_theta[5] = {0};
    double log_det;
    nf_model *m = with_parameters(2, theta);
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        const double sign = d == NF_FORWARD ? 1 : -1;
        cr_assert_eq(nf_transform(m, NULL, NULL, d, 1, x, NULL, y, &log_det), NF_OK);
        cr_assert_float_eq(log_det, 0, 0);
        for (int i = 0; i < 2; i++)
            cr_assert_float_eq(y[i], (double)x[i] + sign * (double)theta[2 + i] * tanh(0.85), 10 * rounding);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, d, 1, x, NULL, gy, &g_l, gx, NULL, g_theta), NF_OK);
        for (int i = 0; i < 5; i++)
            cr_assert(isfinite(g_theta[i]) && (i > 1 || fabs((double)(gx[i] - gy[i])) <= 0));
    }
    nf_model_free(m);
}

/* Layers start near the identity, and no two alike. */
Test(planar, starts_near_the_identity_in_a_direction_of_its_own)
{
    nf_model *m =
        nf_model_of_flow(nf_chain((nf_flow *[]){nf_planar(2), nf_planar(2)}, 2), &(nf_model_options){.seed = 11});
    const nf_real *w = nf_model_theta(m), *v = w + 5;
    cr_assert_gt(fabs((double)(w[0] * v[1] - w[1] * v[0])), 1e-3, "two layers start in the same direction");
    nf_real x[2] = {NF_R(0.83), NF_R(-1.21)}, y[2];
    double log_det;
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
    cr_assert_lt(fabs(log_det), 0.3);
    cr_assert_lt(fabs((double)(y[0] - x[0])) + fabs((double)(y[1] - x[1])), 1);
    nf_model_free(m);
}

Test(planar, refuses_no_dimensions)
{
    cr_assert_null(nf_planar(0));
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_null(nf_planar(SIZE_MAX));
    cr_assert_eq(nf_error_status(), NF_EARG);
}
