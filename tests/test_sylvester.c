/* Sylvester flows' own mathematics: the paper's formula, planar as the case of one column, the constraint at its edge,
   the inverse's residual, the reversed order, the start. */
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

enum { MOST = 512 };

static const nf_sylvester_options kinds[] = {
    {.kind = NF_SYLVESTER_ORTHOGONAL, .columns = 3},
    {.kind = NF_SYLVESTER_HOUSEHOLDER, .reflections = 4},
    {.kind = NF_SYLVESTER_TRIANGULAR},
    {.kind = NF_SYLVESTER_TRIANGULAR, .reversed = true},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static nf_model *with_parameters(size_t dim, const nf_sylvester_options *o, nf_real *theta)
{
    nf_model *m = nf_model_of_flow(nf_sylvester(dim, o), &(nf_model_options){.theta = theta});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static size_t columns(size_t dim, const nf_sylvester_options *o)
{
    return o->kind == NF_SYLVESTER_ORTHOGONAL ? o->columns : dim;
}

static size_t n_reflections(const nf_sylvester_options *o)
{
    return o->kind == NF_SYLVESTER_ORTHOGONAL ? o->columns : o->reflections;
}

/* Q [dim x M], column by column: H_0 ... H_{n-1} e_k, or e_k or e_{dim-1-k}. */
static void make_q(size_t dim, const nf_sylvester_options *o, const nf_real *v, double *q)
{
    const size_t m = columns(dim, o);
    for (size_t k = 0; k < m; k++) {
        double *c = q + k * dim;
        memset(c, 0, dim * sizeof *c);
        c[o->reversed ? dim - 1 - k : k] = 1;
        for (size_t j = n_reflections(o); j-- > 0;) {
            double vc = 0, vv = 0;
            for (size_t i = 0; i < dim; i++) {
                vc += (double)v[j * dim + i] * c[i];
                vv += (double)v[j * dim + i] * (double)v[j * dim + i];
            }
            for (size_t i = 0; i < dim; i++)
                c[i] -= 2 * (double)v[j * dim + i] * vc / vv;
        }
    }
}

/* y = x + Q R tanh(R~ Q^T x + b) and log det = sum log(1 + tanh' r r~), by dense loops in double. */
Test(sylvester, is_the_papers_formula)
{
    enum { DIM = 5 };
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        const nf_sylvester_options *o = &kinds[kind];
        const size_t m = columns(DIM, o), strict = m * (m - 1) / 2;
        nf_real theta[MOST], x[DIM], y[DIM];
        double q[DIM * DIM], R[2][DIM][DIM] = {{{0}}}, h[DIM], expected[DIM], log_expected = 0, log_det;
        draw(2385 + kind, MOST, 0.7, theta);
        draw(7, DIM, 1.3, x);
        make_q(DIM, o, theta, q);
        const nf_real *above = theta + n_reflections(o) * DIM, *alpha = above + 2 * strict, *b = alpha + 2 * m;
        for (size_t t = 0, k = 0; t < 2; t++)
            for (size_t i = 0; i < m; i++) {
                R[t][i][i] = tanh((double)alpha[t * m + i]);
                for (size_t j = i + 1; j < m; j++)
                    R[t][i][j] = (double)above[k++];
            }
        for (size_t i = 0; i < m; i++) {
            double a = (double)b[i];
            for (size_t j = i; j < m; j++)
                for (size_t k = 0; k < DIM; k++)
                    a += R[1][i][j] * q[j * DIM + k] * (double)x[k];
            h[i] = tanh(a);
            log_expected += log(1 + (1 - h[i] * h[i]) * R[0][i][i] * R[1][i][i]);
        }
        for (size_t k = 0; k < DIM; k++) {
            expected[k] = (double)x[k];
            for (size_t i = 0; i < m; i++)
                for (size_t j = i; j < m; j++)
                    expected[k] += q[i * DIM + k] * R[0][i][j] * h[j];
        }
        nf_model *model = with_parameters(DIM, o, theta);
        cr_assert_eq(nf_model_shape(model)->n_params, n_reflections(o) * DIM + m * (m - 1) + 3 * m);
        cr_assert_eq(nf_transform(model, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
        for (size_t k = 0; k < DIM; k++)
            cr_assert_float_eq(y[k], expected[k], 60 * rounding, "kind %zu, feature %zu: %.17g, %.17g", kind, k,
                               (double)y[k], expected[k]);
        cr_assert_float_eq(log_det, log_expected, 60 * rounding, "kind %zu: %.17g, %.17g", kind, log_det, log_expected);
        nf_model_free(model);
    }
}

/* One column is a planar flow: w = r~ q, u^ = r q. */
Test(sylvester, one_column_is_planar)
{
    enum { DIM = 3 };
    static const double diagonals[][2] = {{0.83, 1.37}, {-0.62, 0.94}, {1.9, -2.4}};
    for (size_t c = 0; c < sizeof diagonals / sizeof *diagonals; c++) {
        const double r = tanh(diagonals[c][0]), r_t = tanh(diagonals[c][1]), shift = 0.362;
        nf_real theta[DIM + 3] = {
            NF_R(0.731), NF_R(-1.294), NF_R(0.448), (nf_real)diagonals[c][0], (nf_real)diagonals[c][1], (nf_real)shift};
        nf_real planar[2 * DIM + 1], x[DIM] = {NF_R(1.913), NF_R(-0.257), NF_R(0.841)}, y[2][DIM];
        double q[DIM], log_det[2];
        const nf_sylvester_options o = {.columns = 1};
        make_q(DIM, &o, theta, q);
        const double wu_hat = r * r_t, wu = log(expm1(wu_hat + 1)); /* softplus(w.u) - 1 = w.u^ */
        for (size_t i = 0; i < DIM; i++) {
            planar[i] = (nf_real)(r_t * q[i]);
            planar[DIM + i] = (nf_real)(r * q[i] + (wu - wu_hat) * q[i] / r_t);
        }
        planar[2 * DIM] = (nf_real)shift;
        nf_model *m[2] = {with_parameters(DIM, &o, theta),
                          nf_model_of_flow(nf_planar(DIM), &(nf_model_options){.theta = planar})};
        for (int d = 0; d < 2; d++) {
            for (int k = 0; k < 2; k++)
                cr_assert_eq(nf_transform(m[k], NULL, NULL, (nf_direction)d, 1, x, NULL, y[k], &log_det[k]), NF_OK);
            for (size_t i = 0; i < DIM; i++)
                cr_assert_float_eq(y[0][i], y[1][i], 200 * rounding);
            cr_assert_float_eq(log_det[0], log_det[1], 200 * rounding);
        }
        nf_model_free(m[0]);
        nf_model_free(m[1]);
    }
}

/* r r~ comes as near -1 as numbers do; the inverse then still solves its equations, to rounding in what they sum. */
Test(sylvester, inverse_solves_for_all_parameters)
{
    enum { DIM = 7, POINTS = 40 };
    static const double diagonal_scales[] = {0.5, 3, 30, 700};
    for (size_t kind = 0; kind < N_KINDS; kind++)
        for (size_t c = 0; c < 4; c++) {
            nf_real theta[MOST], y[POINTS * DIM], x[POINTS * DIM], again[POINTS * DIM];
            double log_det[POINTS], back[POINTS];
            const nf_sylvester_options *o = &kinds[kind];
            const size_t m = columns(DIM, o);
            draw(31 * kind + c, MOST, 0.8, theta);
            nf_real *alpha = theta + n_reflections(o) * DIM + m * (m - 1);
            for (size_t i = 0; i < 2 * m; i++)
                alpha[i] *= (nf_real)diagonal_scales[c];
            alpha[0] = (nf_real)diagonal_scales[c];
            alpha[m] = -alpha[0];
            draw(5 + c, POINTS * DIM, 2.3, y);
            nf_model *model = with_parameters(DIM, o, theta);
            cr_assert_eq(nf_transform(model, NULL, NULL, NF_INVERSE, POINTS, y, NULL, x, back), NF_OK);
            cr_assert_eq(nf_transform(model, NULL, NULL, NF_FORWARD, POINTS, x, NULL, again, log_det), NF_OK);
            for (size_t i = 0; i < POINTS * DIM; i++) {
                double size = 0;
                for (size_t k = 0; k < DIM; k++)
                    size += fabs((double)x[i / DIM * DIM + k]);
                cr_assert_float_eq(again[i], y[i], 100 * rounding * (1 + size), "kind %zu, diagonals %g: %g, not %g",
                                   kind, diagonal_scales[c], (double)again[i], (double)y[i]);
            }
            for (size_t i = 0; i < POINTS; i++)
                cr_assert(isfinite(log_det[i]) && isfinite(back[i]), "kind %zu, diagonals %g: %g, %g", kind,
                          diagonal_scales[c], log_det[i], back[i]);
            nf_model_free(model);
        }
}

/* Gradients are finite there too, and with v = 0, where Q is the first columns of the identity. */
Test(sylvester, gradients_are_finite_for_all_parameters)
{
    enum { DIM = 4 };
    static const double scales[] = {0, 1e-30, 20, 1e3};
    for (size_t kind = 0; kind < N_KINDS; kind++)
        for (size_t c = 0; c < 4; c++)
            for (int d = 0; d < 2; d++) {
                nf_real theta[MOST], g[MOST] = {0}, x[DIM], gy[DIM], gx[DIM], g_l = NF_R(0.97);
                draw(17 * kind + c, MOST, scales[c], theta);
                draw(3, DIM, 1.1, x);
                draw(4, DIM, 1, gy);
                nf_model *m = with_parameters(DIM, &kinds[kind], theta);
                cr_assert_eq(nf_transform_vjp(m, NULL, NULL, (nf_direction)d, 1, x, NULL, gy, &g_l, gx, NULL, g),
                             NF_OK);
                for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
                    cr_assert(isfinite(g[i]), "kind %zu, parameters of %g: gradient %zu", kind, scales[c], i);
                for (size_t i = 0; i < DIM; i++)
                    cr_assert(isfinite(gx[i]));
                nf_model_free(m);
            }
}

/* Q the reversal: the flow of the reversed features, reversed. */
Test(sylvester, reversed_is_between_two_reversals)
{
    enum { DIM = 5 };
    const size_t order[DIM] = {4, 3, 2, 1, 0};
    nf_real theta[MOST], x[DIM], y[2][DIM];
    double log_det[2];
    draw(91, MOST, 0.6, theta);
    draw(92, DIM, 1.4, x);
    nf_flow *between = nf_sylvester(DIM, &(nf_sylvester_options){.kind = NF_SYLVESTER_TRIANGULAR});
    nf_flow *three = nf_chain((nf_flow *[]){nf_permutation(DIM, order), between, nf_permutation(DIM, order)}, 3);
    nf_model *m[2] = {with_parameters(DIM, &kinds[3], theta),
                      nf_model_of_flow(three, &(nf_model_options){.theta = theta})};
    for (int k = 0; k < 2; k++)
        cr_assert_eq(nf_transform(m[k], NULL, NULL, NF_FORWARD, 1, x, NULL, y[k], &log_det[k]), NF_OK);
    for (size_t i = 0; i < DIM; i++)
        cr_assert_float_eq(y[0][i], y[1][i], 0);
    cr_assert_float_eq(log_det[0], log_det[1], 0);
    nf_model_free(m[0]);
    nf_model_free(m[1]);
}

/* Near the identity; what one layer moves, the next does not: their first columns of Q are independent. */
Test(sylvester, starts_near_the_identity_in_directions_of_its_own)
{
    enum { DIM = 40 };
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        nf_flow *two = nf_chain((nf_flow *[]){nf_sylvester(DIM, &kinds[kind]), nf_sylvester(DIM, &kinds[kind])}, 2);
        nf_model *m = nf_model_of_flow(two, &(nf_model_options){.seed = 11});
        const nf_real *theta = nf_model_theta(m);
        nf_real x[DIM], y[DIM];
        double log_det, moved = 0, q[2][DIM * DIM], cosine = 0;
        draw(5, DIM, 1, x);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
        for (size_t i = 0; i < DIM; i++)
            moved += (double)((y[i] - x[i]) * (y[i] - x[i])) / DIM;
        cr_assert(moved > 1e-6 && moved < 0.04, "kind %zu: %g", kind, moved);
        cr_assert_lt(fabs(log_det), 3, "kind %zu: %g", kind, log_det);
        for (size_t k = 0; k < 2 && n_reflections(&kinds[kind]); k++)
            make_q(DIM, &kinds[kind], theta + k * (nf_model_shape(m)->n_params / 2), q[k]);
        for (size_t i = 0; i < DIM && n_reflections(&kinds[kind]); i++)
            cosine += q[0][i] * q[1][i];
        cr_assert_lt(fabs(cosine), 0.64); /* 4 standard errors */
        nf_model_free(m);
    }
}

/* In columns, or in reflections. */
Test(sylvester, defaults_are_eight_or_all_rows)
{
    static const size_t expected[][3] = {
        /* dim, parameters of the orthogonal and of the Householder kind */
        {3, 3 * 3 + 3 * 5, 3 * 3 + 3 * 5},
        {20, 8 * 20 + 8 * 10, 8 * 20 + 20 * 22},
    };
    for (size_t k = 0; k < 2; k++)
        for (size_t kind = 0; kind < 2; kind++) {
            const nf_sylvester_options o = {.kind = kind ? NF_SYLVESTER_HOUSEHOLDER : NF_SYLVESTER_ORTHOGONAL};
            nf_flow *f = nf_sylvester(expected[k][0], kind ? &o : NULL);
            cr_assert_eq(nf_flow_shape(f)->n_params, expected[k][1 + kind]);
            nf_flow_free(f);
        }
}

Test(sylvester, refuses_what_makes_no_sense)
{
    static const struct {
        size_t dim;
        nf_sylvester_options o;
    } bad[] = {
        {0, {.kind = NF_SYLVESTER_ORTHOGONAL}},
        {3, {.kind = (nf_sylvester_kind)3}},
        {3, {.columns = 4}},
        {3, {.kind = NF_SYLVESTER_HOUSEHOLDER, .columns = 2}},
        {3, {.kind = NF_SYLVESTER_TRIANGULAR, .columns = 3}},
        {3, {.reflections = 2}},
        {3, {.kind = NF_SYLVESTER_TRIANGULAR, .reflections = 2}},
        {3, {.reversed = true}},
        {3, {.kind = NF_SYLVESTER_HOUSEHOLDER, .reversed = true}},
        {SIZE_MAX / 2, {.columns = 1}},
        {(size_t)1 << 33, {.kind = NF_SYLVESTER_TRIANGULAR}},
        {64, {.kind = NF_SYLVESTER_HOUSEHOLDER, .reflections = SIZE_MAX / 16}},
    };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        cr_assert_null(nf_sylvester(bad[k].dim, &bad[k].o), "%zu", k);
        cr_assert_eq(nf_error_status(), NF_EARG);
    }
}
