/* Conformance of derivatives: log-dets against the dense Jacobian, which is that of the map, and Taylor's theorem for
   the gradients in points, context and parameters. */
#ifndef CONFORMANCE_DERIVATIVES_H
#define CONFORMANCE_DERIVATIVES_H
#include "suite.h"
#include <gsl/gsl_blas.h>
#include <gsl/gsl_linalg.h>

/* J [n x out x in], row i the VJP of e_i. */
static double *dense_jacobian(const subject *s, nf_direction d)
{
    const size_t n = s->n, in = s->rows[d], out = rows_out(s, d);
    double *J = calloc(n * out * in, sizeof *J);
    nf_real *e = reals(n * out), *row = reals(n * in);
    for (size_t i = 0; i < out; i++) {
        for (size_t k = 0; k < n * out; k++)
            e[k] = k % out == i;
        run_vjp(s, d, e, NULL, row, NULL, NULL);
        for (size_t k = 0; k < n * in; k++)
            J[(k / in * out + i) * in + k % in] = (double)row[k];
    }
    free(e);
    free(row);
    return J;
}

static double lu_log_det(double *J, size_t dim)
{
    gsl_matrix_view A = gsl_matrix_view_array(J, dim, dim);
    gsl_permutation *p = gsl_permutation_alloc(dim);
    int sign;
    gsl_linalg_LU_decomp(&A.matrix, p, &sign);
    gsl_permutation_free(p);
    return gsl_linalg_LU_lndet(&A.matrix);
}

/* C = A B, [n x k] by [k x m] */
static void multiply(size_t n, size_t k, size_t m, const double *A, const double *B, double *C)
{
    gsl_matrix_const_view a = gsl_matrix_const_view_array(A, n, k), b = gsl_matrix_const_view_array(B, k, m);
    gsl_matrix_view c = gsl_matrix_view_array(C, n, m);
    gsl_blas_dgemm(CblasNoTrans, CblasNoTrans, 1, &a.matrix, &b.matrix, 0, &c.matrix);
}

/* log|det| of the forward Jacobian J [out x in] in the row's chart. */
static double chart_log_det(const subject *s, const double *J)
{
    const size_t in = s->rows[NF_FORWARD], out = s->rows[NF_INVERSE];
    double *C = calloc(in * out, sizeof *C), *CJ = calloc(in * in, sizeof *CJ);
    s->chart->coordinates(in, out, C);
    multiply(in, out, in, C, J, CJ);
    const double log_det = lu_log_det(CJ, in);
    free(C), free(CJ);
    return log_det;
}

/* The log-dets of dense Jacobians J [n x out x in] at the subject's points; J is overwritten. Where dimensions differ
   the inverse's is that of the forward map at the preimage, whose Jacobian it must undo. */
static double *dense_log_dets(const subject *s, nf_direction d, double *J, double within)
{
    const size_t in = s->rows[d], out = rows_out(s, d);
    const bool charted = s->chart && s->chart->coordinates;
    double *l = calloc(s->n, sizeof *l), *forward = charted ? dense_jacobian(s, NF_FORWARD) : NULL;
    double *product = calloc(out * out, sizeof *product);
    for (size_t i = 0; i < s->n; i++) {
        l[i] = charted ? chart_log_det(s, forward + i * in * out) : lu_log_det(J + i * in * out, in);
        if (!charted || d == NF_FORWARD)
            continue;
        l[i] = -l[i];
        multiply(out, in, out, J + i * out * in, forward + i * in * out, product);
        for (size_t k = 0; k < out * out; k++)
            cr_assert_float_eq(product[k], k / out == k % out, within, "%s: the Jacobians' product at %zu, %zu is %g",
                               title(s, d), k / out, k % out, product[k]);
    }
    free(forward), free(product);
    return l;
}

/* Float's differences need steps so wide that they meet the kinks of a rough layer, or leave the set of a constraint.
   Its gradients are tested by differences in double, and in float against double (test_precision). */
static bool kinks_in_reach(const subject *s, nf_direction d)
{
    return ((s->row->traits & ROUGH) || (s->chart && d == NF_INVERSE)) && !is_double;
}

/* ---- the log-det is that of the dense Jacobian, and the Jacobian that of the map ---- */

static void jacobian(const subject *s, nf_direction d)
{
    const size_t n = s->n, in = s->rows[d], out = rows_out(s, d), size = n * out;
    double *J = dense_jacobian(s, d), *l = calloc(n, sizeof *l);
    nf_real *y = reals(size), *x = reals(n * in);
    const double h = !is_double                             ? 0.05
                     : (s->row->traits & ROUGH) || s->chart ? 2e-5
                                                            : 2e-3; /* small steps seldom meet a kink */
    const double tolerance = (!is_double ? 1e-3 : (s->row->traits & ROUGH) ? 1e-8 : 1e-9) * s->row->slack;
    for (size_t j = 0; j < in && !kinks_in_reach(s, d); j++) {
        double *by[2]; /* five-point differences of steps h and h / 2: what they disagree by bounds their errors */
        for (int half = 0; half < 2; half++) {
            static const double at[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
            by[half] = calloc(size, sizeof *by[half]);
            for (int k = 0; k < 4; k++) {
                for (size_t i = 0; i < n * in; i++)
                    x[i] = s->x[d][i] + (i % in == j ? (nf_real)(at[k] * h / (1 + half)) : 0);
                run(s, d, n, x, s->ctx, y, NULL);
                for (size_t i = 0; i < size; i++)
                    by[half][i] += weight[k] * (double)y[i] / (12 * h / (1 + half));
            }
        }
        for (size_t i = 0; i < size; i++) {
            const double exact = J[i * in + j], spread = fabs(by[1][i] - by[0][i]);
            cr_assert_float_eq(exact, by[1][i], tolerance * (1 + fabs(exact)) + spread / 4,
                               "%s: dy%zu/dx%zu is %.12g, by differences %.12g", title(s, d), i % out, j, exact,
                               by[1][i]);
        }
        free(by[0]), free(by[1]);
    }
    run(s, d, n, s->x[d], s->ctx, y, l);
    const double error = fmin(300 * rounding * (double)s->rows[NF_FORWARD] * s->row->slack, promised_log_det);
    double *dense = dense_log_dets(s, d, J, error);
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq(l[i], dense[i], error * (1 + fabs(dense[i])),
                           "%s: log-det %.17g, of the dense Jacobian %.17g", title(s, d), l[i], dense[i]);
    free(x), free(y), free(J), free(l), free(dense);
}
PROPERTY(jacobian, MOST_DIMS_OF_DERIVATIVES, 3)

/* ---- Taylor: L(v + h e) - L(v) - h <gradient, e> = O(h^2) for L = <gy, y> + <g_l, log-det> ---- */

typedef struct loss {
    const subject *s;
    nf_direction d;
    const nf_real *gy, *g_l;
} loss;

static double loss_at(const loss *L)
{
    const subject *s = L->s;
    const size_t size = s->n * rows_out(s, L->d);
    nf_real *y = reals(size);
    double *l = calloc(s->n, sizeof *l), sum = 0;
    run(s, L->d, s->n, s->x[L->d], s->ctx, y, l);
    sum = dot(size, L->gy, y);
    for (size_t i = 0; i < s->n; i++)
        sum += (double)L->g_l[i] * l[i];
    free(y), free(l);
    return sum;
}

/* In double the remainder's slope is 2 (or the remainder is rounding: L is linear here). In float rounding hides the
   remainder, so the derivative itself is compared. */
static void taylor_along(const loss *L, const char *what, size_t size, nf_real *v, const nf_real *gradient)
{
    enum { STEPS = 4 };
    nf_real *base = reals(size), *e = normals(53, size, 1);
    const double norm = sqrt(dot(size, e, e)), slope = dot(size, gradient, e) / norm;
    const double h0 = !is_double ? 2e-2 : L->s->chart && L->d == NF_INVERSE ? 1e-4 : 1e-3; /* within the set */
    double value[2 * STEPS + 1] = {0}, scale = 0;
    memcpy(base, v, size * sizeof *v);
    for (int k = 0; k <= 2 * STEPS; k++) {
        const double h = k == 0 ? 0 : (k <= STEPS ? h0 : -h0) / (double)(1 << ((k - 1) % STEPS));
        for (size_t i = 0; i < size; i++)
            v[i] = (nf_real)((double)base[i] + h * (double)e[i] / norm);
        cr_assert_eq(nf_model_update(L->s->m, NF_EVAL), NF_OK);
        value[k] = loss_at(L);
        scale = fmax(scale, fabs(value[k]));
    }
    memcpy(v, base, size * sizeof *v);
    cr_assert_eq(nf_model_update(L->s->m, NF_EVAL), NF_OK);
    /* central differences of two steps: what they disagree by bounds the finer one's error */
    const int fine = is_double ? STEPS : 2;
    const double noise = 10 * rounding * (scale + 10 * sqrt((double)(L->s->n * rows_out(L->s, L->d))));
    const double wide = (value[1] - value[1 + STEPS]) / (2 * h0), narrowing = (double)(1 << (fine - 1));
    const double central = (value[fine] - value[fine + STEPS]) / (2 * h0 / narrowing);
    cr_assert_float_eq(central, slope,
                       rounding * 1000 * L->s->row->slack * (1 + fabs(slope)) + narrowing * noise / h0 +
                           fabs(wide - central) / 2,
                       "%s: derivative in %s is %.12g, by differences %.12g", title(L->s, L->d), what, slope, central);
    for (int k = 1; is_double && !(L->s->row->traits & ROUGH) && k < STEPS; k++) {
        const double h = h0 / (double)(1 << (k - 1));
        double r[2];
        for (int j = 0; j < 2; j++) {
            const double hj = h / (1 << j), up = value[k + j] - value[0] - hj * slope;
            const double down = value[k + j + STEPS] - value[0] + hj * slope;
            r[j] = (fabs(up) + fabs(down)) / 2;
        }
        if (r[1] > 300 * noise)
            cr_assert_float_eq(log2(r[0] / r[1]), 2, 0.05, "%s: remainder in %s shrinks from %.6g to %.6g at step %g",
                               title(L->s, L->d), what, r[0], r[1], h);
    }
    free(base), free(e);
}

static void taylor(const subject *s, nf_direction d)
{
    const size_t size = s->n * s->rows[d];
    if (kinks_in_reach(s, d)) {
        n_skipped++;
        return;
    }
    /* all cotangents; those of y alone; those of the log-det alone */
    for (int part = 0; part < 3; part++) {
        nf_real *gy = normals(59, s->n * rows_out(s, d), part == 2 ? 0 : 1);
        nf_real *g_l = normals(61, s->n, part == 1 ? 0 : 1);
        nf_real *gx = reals(size), *g_ctx = reals(s->n * s->n_ctx), *g_theta = reals(s->n_params);
        const loss L = {s, d, gy, g_l};
        run_vjp(s, d, gy, g_l, gx, s->n_ctx ? g_ctx : NULL, g_theta);
        taylor_along(&L, "x", size, s->x[d], gx);
        if (s->n_ctx)
            taylor_along(&L, "context", s->n * s->n_ctx, s->ctx, g_ctx);
        if (s->n_params)
            taylor_along(&L, "parameters", s->n_params, nf_model_theta(s->m), g_theta);
        free(gy), free(g_l), free(gx), free(g_ctx), free(g_theta);
    }
}
PROPERTY(taylor, MOST_DIMS_OF_DERIVATIVES, 5)

#endif
