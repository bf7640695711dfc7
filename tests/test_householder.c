/* The Householder chain's own mathematics: the paper's formula, orthogonality, rotations by twice an angle, v = 0. */
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, tiny = 1e-25;
#else
static const double rounding = 2.3e-16, tiny = 1e-170;
#endif

static nf_model *with_parameters(size_t dim, size_t n, nf_real *theta)
{
    nf_model *m = nf_model_of_flow(nf_householder(dim, n), &(nf_model_options){.theta = theta});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* v_0 first, then v_1, ... (Tomczak & Welling 2016), in double by the formula itself. */
Test(householder, is_the_papers_formula)
{
    enum { DIM = 4, N = 3 };
    nf_real v[N * DIM], x[DIM] = {NF_R(1.913), NF_R(-0.257), NF_R(0.841), NF_R(-1.372)}, y[DIM], back[DIM];
    double expected[DIM], log_det = 1;
    nf_noise_normal(&(nf_noise){.seed = 2385}, N * DIM, 1, 1, v);
    for (size_t i = 0; i < DIM; i++)
        expected[i] = (double)x[i];
    for (size_t j = 0; j < N; j++) {
        double vx = 0, vv = 0;
        for (size_t i = 0; i < DIM; i++) {
            vx += (double)v[j * DIM + i] * expected[i];
            vv += (double)v[j * DIM + i] * (double)v[j * DIM + i];
        }
        for (size_t i = 0; i < DIM; i++)
            expected[i] -= 2 * (double)v[j * DIM + i] * vx / vv;
    }
    nf_model *m = with_parameters(DIM, N, v);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
    cr_assert_float_eq(log_det, 0, 0);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, y, NULL, back, &log_det), NF_OK);
    for (size_t i = 0; i < DIM; i++) {
        cr_assert_float_eq(y[i], expected[i], 20 * rounding);
        cr_assert_float_eq(back[i], x[i], 20 * rounding);
    }
    nf_model_free(m);
}

/* Two reflections in a plane turn it by twice the angle from the first vector to the second. */
Test(householder, two_reflections_are_a_rotation)
{
    static const double turns[] = {0.173, 1.294, -0.731, 3.0};
    for (size_t k = 0; k < sizeof turns / sizeof *turns; k++) {
        const double a = 0.448, b = a + turns[k], angle = 2 * turns[k];
        nf_real v[4] = {(nf_real)(2.3 * cos(a)), (nf_real)(2.3 * sin(a)), (nf_real)(0.17 * cos(b)),
                        (nf_real)(0.17 * sin(b))};
        nf_real x[2] = {NF_R(0.629), NF_R(-1.117)}, y[2];
        nf_model *m = with_parameters(2, 2, v);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
        cr_assert_float_eq(y[0], 0.629 * cos(angle) + 1.117 * sin(angle), 20 * rounding);
        cr_assert_float_eq(y[1], 0.629 * sin(angle) - 1.117 * cos(angle), 20 * rounding);
        nf_model_free(m);
    }
}

/* The images of the unit vectors are orthonormal to rounding, however the lengths of the v differ. */
Test(householder, is_orthogonal_to_rounding)
{
    enum { DIM = 61, N = 64 };
    static nf_real v[N * DIM], e[DIM * DIM], q[DIM * DIM];
    nf_noise_normal(&(nf_noise){.seed = 733}, N * DIM, 1, 1, v);
    for (size_t j = 0; j < N; j++)
        for (size_t i = 0; i < DIM; i++)
            v[j * DIM + i] *= (nf_real)pow(10, (double)(j % 13) - 6);
    for (size_t i = 0; i < DIM; i++)
        e[i * DIM + i] = 1;
    nf_model *m = with_parameters(DIM, N, v);
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        cr_assert_eq(nf_transform(m, NULL, NULL, d, DIM, e, NULL, q, NULL), NF_OK);
        for (size_t a = 0; a < DIM; a++)
            for (size_t b = 0; b <= a; b++) {
                double sum = 0;
                for (size_t i = 0; i < DIM; i++)
                    sum += (double)q[a * DIM + i] * (double)q[b * DIM + i];
                cr_assert_float_eq(sum, a == b, 40 * rounding, "columns %zu and %zu: %g", a, b, sum);
            }
    }
    nf_model_free(m);
}

/* A v of 0, or so short that its square is not a normal number, reflects nothing and has no gradient; the others do. */
Test(householder, v_of_zero_reflects_nothing)
{
    enum { DIM = 3 };
    nf_real v[4 * DIM] = {0, 0, 0, NF_R(0.83), NF_R(-1.4), NF_R(0.37), (nf_real)tiny, (nf_real)-tiny, 0, 0, 0, 0};
    nf_real x[DIM] = {NF_R(1.21), NF_R(0.35), NF_R(-0.94)}, y[DIM], alone[DIM], gx[DIM], g[4 * DIM] = {0};
    const nf_real gy[DIM] = {NF_R(0.63), NF_R(-1.81), NF_R(0.77)};
    nf_model *m = with_parameters(DIM, 4, v), *one = with_parameters(DIM, 1, v + DIM);
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        cr_assert_eq(nf_transform(m, NULL, NULL, d, 1, x, NULL, y, NULL), NF_OK);
        cr_assert_eq(nf_transform(one, NULL, NULL, d, 1, x, NULL, alone, NULL), NF_OK);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, d, 1, x, NULL, gy, NULL, gx, NULL, g), NF_OK);
        for (size_t i = 0; i < DIM; i++)
            cr_assert_float_eq(y[i], alone[i], 0);
        for (size_t i = 0; i < 4 * DIM; i++)
            cr_assert(i / DIM == 1 ? fabs((double)g[i]) > 1e-3 : fabs((double)g[i]) <= 0, "gradient %zu is %g", i,
                      (double)g[i]);
    }
    nf_model_free(m);
    nf_model_free(one);
}

/* The length of v does not matter, so that the gradient is across v and goes as 1 / |v|. */
Test(householder, gradient_is_across_v)
{
    enum { DIM = 5, N = 2 };
    nf_real v[N * DIM], x[DIM], gy[DIM], gx[DIM], g[2][N * DIM] = {{0}};
    nf_noise_normal(&(nf_noise){.seed = 91}, N * DIM, 1, 1, v);
    nf_noise_normal(&(nf_noise){.seed = 92}, DIM, 1, 1, x);
    nf_noise_normal(&(nf_noise){.seed = 93}, DIM, 1, 1, gy);
    for (int k = 0; k < 2; k++) {
        nf_model *m = with_parameters(DIM, N, v);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, x, NULL, gy, NULL, gx, NULL, g[k]), NF_OK);
        nf_model_free(m);
        for (size_t j = 0; j < N; j++) {
            double along = 0, scale = 0;
            for (size_t i = 0; i < DIM; i++) {
                along += (double)v[j * DIM + i] * (double)g[k][j * DIM + i];
                scale += fabs((double)v[j * DIM + i] * (double)g[k][j * DIM + i]);
            }
            cr_assert_gt(scale, 0.01);
            cr_assert_float_eq(along, 0, 20 * rounding * scale);
        }
        for (size_t i = 0; i < N * DIM; i++)
            v[i] *= NF_R(-3.5);
    }
    for (size_t i = 0; i < N * DIM; i++)
        cr_assert_float_eq(g[1][i], (double)g[0][i] / -3.5, 20 * rounding * (1 + fabs((double)g[0][i])));
}

Test(householder, starts_in_directions_of_its_own)
{
    nf_model *m = nf_model_of_flow(nf_householder(40, 2), &(nf_model_options){.seed = 5});
    const nf_real *v = nf_model_theta(m);
    double vv = 0, ww = 0, vw = 0;
    for (size_t i = 0; i < 40; i++) {
        vv += (double)v[i] * (double)v[i];
        ww += (double)v[40 + i] * (double)v[40 + i];
        vw += (double)v[i] * (double)v[40 + i];
    }
    cr_assert(fabs(vv - 1) < 0.9 && fabs(ww - 1) < 0.9 && fabs(vw) < 0.64, "%g, %g, %g", vv, ww, vw); /* 4 s.e. */
    nf_model_free(m);
}

Test(householder, refuses_impossible_sizes)
{
    static const size_t bad[][2] = {{0, 1}, {1, 0}, {SIZE_MAX, 2}, {SIZE_MAX / 32, 1}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        cr_assert_null(nf_householder(bad[k][0], bad[k][1]));
        cr_assert_eq(nf_error_status(), NF_EARG);
    }
}
