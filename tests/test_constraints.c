/* Constraints: Stan's own answers, the reference manual's formulas, volumes of sets, edges, and a posterior in closed
   form behind several constraints at once. */
#include "support/numbers.h"
#include "object/tree.h"
#include "constraints/vectors.h"
#include "expect.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double tolerance = 3e-6;
enum { is_double = false };
#else
static const double tolerance = 3e-15;
enum { is_double = true };
#endif

static nf_model *bind(nf_flow *f)
{
    nf_model *m = nf_model_of_flow(f, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* n points through a flow, which is released. */
static void transform(nf_flow *f, nf_direction d, size_t n, const nf_real *x, nf_real *y, double *log_det)
{
    nf_model *m = bind(f);
    cr_assert_eq(nf_transform(m, NULL, NULL, d, n, x, NULL, y, log_det), NF_OK, "%s", nf_error_message());
    nf_model_free(m);
}

/* ---- Stan's answers ---- */

static nf_flow *of_vector(const vector *v)
{
    const char *name = v->name;
    const size_t n = v->n_u;
    if (strcmp(name, "free") == 0)
        return nf_identity(n);
    if (strcmp(name, "lower") == 0)
        return nf_lower(n, v->parameter[0]);
    if (strcmp(name, "upper") == 0)
        return nf_upper(n, v->parameter[0]);
    if (strcmp(name, "lub") == 0)
        return nf_interval(n, v->parameter[0], v->parameter[1]);
    if (strcmp(name, "offset_multiplier") == 0)
        return nf_offset_multiplier(n, &v->parameter[0], &v->parameter[1]);
    if (strcmp(name, "simplex") == 0)
        return nf_simplex_stick(n + 1);
    if (strcmp(name, "simplex_ilr") == 0)
        return nf_simplex_ilr(n + 1);
    if (strcmp(name, "ordered") == 0)
        return nf_ordered(n);
    if (strcmp(name, "positive_ordered") == 0)
        return nf_positive_ordered(n);
    if (strcmp(name, "corr_matrix") == 0)
        return nf_corr_matrix(3);
    if (strcmp(name, "cov_matrix") == 0)
        return nf_cov_matrix(3);
    if (strcmp(name, "cholesky_factor_corr") == 0)
        return nf_cholesky_corr(4);
    if (strcmp(name, "cholesky_factor_cov") == 0)
        return nf_cholesky_cov(3, 3);
    cr_assert_str_eq(name, "cholesky_factor_cov_rect");
    return nf_cholesky_cov(4, 3);
}

static void agree(const char *what, size_t n, const nf_real *got, const double *want, double within)
{
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq((double)got[i], want[i], within * (1 + fabs(want[i])), "%s, entry %zu: %.17g for %.17g",
                           what, i, (double)got[i], want[i]);
}

Test(constraints, stan)
{
    for (size_t k = 0; k < N_VECTORS; k++) {
        const vector *v = &vectors[k];
        nf_real u[MOST_NUMBERS], x[MOST_NUMBERS], y[MOST_NUMBERS];
        double l[2];
        for (size_t i = 0; i < v->n_u; i++)
            u[i] = (nf_real)v->u[i];
        nf_flow *f = of_vector(v);
        cr_assert_not_null(f, "%s: %s", v->name, nf_error_message());
        cr_assert_eq(nf_flow_shape(f)->dim_in, v->n_u, "%s", v->name);
        cr_assert_eq(nf_flow_shape(f)->dim_out, v->n_x, "%s", v->name);
        transform(nf_flow_ref(f), NF_FORWARD, 1, u, y, &l[0]);
        agree(v->name, v->n_x, y, v->x, tolerance);
        for (size_t i = 0; i < v->n_x; i++)
            y[i] = (nf_real)v->x[i];
        transform(f, NF_INVERSE, 1, y, x, &l[1]);
        agree(v->name, v->n_u, x, v->u, 5 * tolerance);
        cr_assert_float_eq(l[0], v->log_det, tolerance * (1 + fabs(v->log_det)), "%s: %.17g", v->name, l[0]);
        cr_assert_float_eq(l[1], -v->log_det, 5 * tolerance * (1 + fabs(v->log_det)), "%s: %.17g", v->name, l[1]);
    }
}

/* ---- the manual's formulas, written down ---- */

enum { MOST_ROWS = 36 };

/* L from partial correlations z = tanh(x), x row by row or column by column; the log-det of either matrix. */
static double corr_factor(size_t K, bool by_column, const nf_real *x, double *L)
{
    double log_det = 0;
    memset(L, 0, K * K * sizeof *L);
    for (size_t i = 0; i < K; i++) {
        double rest = 1;
        for (size_t j = 0; j < i; j++) {
            const size_t before = by_column ? j * K - j * (j + 1) / 2 + i - j - 1 : i * (i - 1) / 2 + j;
            const double z = tanh((double)x[before]);
            L[j * K + i] = z * sqrt(rest);
            log_det += log(1 - z * z) * (by_column ? 1 + 0.5 * (double)(K - 2 - j) : 1);
            log_det += by_column ? 0 : 0.5 * log(rest);
            rest *= 1 - z * z;
        }
        L[i * K + i] = sqrt(rest);
    }
    return log_det;
}

static void multiply_by_transpose(size_t K, const double *L, double *S)
{
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j < K; j++) {
            S[j * K + i] = 0;
            for (size_t k = 0; k < K; k++)
                S[j * K + i] += L[k * K + i] * L[k * K + j];
        }
}

Test(constraints, correlations)
{
    for (size_t K = 2; K <= 6; K++) {
        nf_real x[MOST_ROWS], y[MOST_ROWS];
        double L[MOST_ROWS], R[MOST_ROWS], l;
        draw(K, K * (K - 1) / 2, 0.83, x);
        double want = corr_factor(K, false, x, L);
        transform(nf_cholesky_corr(K), NF_FORWARD, 1, x, y, &l);
        agree("cholesky_corr", K * K, y, L, tolerance);
        cr_assert_float_eq(l, want, 5 * tolerance * (1 + fabs(want)));
        want = corr_factor(K, true, x, L);
        multiply_by_transpose(K, L, R);
        transform(nf_corr_matrix(K), NF_FORWARD, 1, x, y, &l);
        agree("corr_matrix", K * K, y, R, tolerance);
        cr_assert_float_eq(l, want, 5 * tolerance * (1 + fabs(want)));
        for (size_t i = 0; i < K; i++)
            cr_assert_float_eq(y[i * K + i], 1, 0);
    }
}

Test(constraints, covariances)
{
    for (size_t K = 1; K <= 6; K++) {
        nf_real x[MOST_ROWS], y[MOST_ROWS];
        double L[MOST_ROWS] = {0}, S[MOST_ROWS], l, want = (double)K * log(2);
        draw(20 + K, K * (K + 1) / 2, 0.71, x);
        for (size_t i = 0, k = 0; i < K; i++)
            for (size_t j = 0; j <= i; j++, k++) {
                L[j * K + i] = i == j ? exp((double)x[k]) : (double)x[k];
                want += i == j ? (double)(K + 1 - j) * (double)x[k] : 0;
            }
        multiply_by_transpose(K, L, S);
        transform(nf_cov_matrix(K), NF_FORWARD, 1, x, y, &l);
        agree("cov_matrix", K * K, y, S, 3 * tolerance);
        cr_assert_float_eq(l, want, 5 * tolerance * (1 + fabs(want)));
    }
}

/* Log-dets where diagonals of the factor are small, but their logarithms are not, against the formulas of the header.
 */
Test(constraints, small_factors)
{
    const double far = sizeof(nf_real) == 8 ? -690 : -80;
    nf_real x[3] = {(nf_real)far, NF_R(0.3), NF_R(0.1)}, y[9], g[9] = {0}, gx[3], gl = 1;
    double l, want = 2 * log(2) + 3 * far + 2 * (double)x[2];
    transform(nf_cov_matrix(2), NF_FORWARD, 1, x, y, &l);
    cr_assert_float_eq(l, want, tolerance * fabs(want), "%.17g for %.17g", l, want);
    nf_model *m = bind(nf_cov_matrix(2));
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, x, NULL, g, &gl, gx, NULL, NULL), NF_OK);
    cr_assert_float_eq(gx[0], 3, 1e-5);
    nf_model_free(m);

    x[0] = (nf_real)-far; /* z = tanh x, rows of the lower triangle column by column */
    const double power[3] = {1.5, 1.5, 1};
    want = 0;
    for (int i = 0; i < 3; i++)
        want += power[i] * 2 * (log(2) - fabs((double)x[i]) - log1p(exp(-2 * fabs((double)x[i]))));
    transform(nf_corr_matrix(3), NF_FORWARD, 1, x, y, &l);
    cr_assert_float_eq(l, want, tolerance * fabs(want), "%.17g for %.17g", l, want);

    x[0] = sizeof(nf_real) == 8 ? NF_R(1e305) : NF_R(3e38); /* what a float cannot hold, a log-det can */
    transform(nf_simplex_stick(4), NF_FORWARD, 1, x, y, &l);
    cr_assert(isfinite(l) && l < -2.9 * (double)x[0], "%g", l);
    transform(nf_cholesky_corr(3), NF_FORWARD, 1, x, y, &l);
    cr_assert(isfinite(l) && l < -1.9 * (double)x[0], "%g", l);
}

/* Rows and columns are simplexes; an isometric log-ratio is the softmax of a vector with sum 0. */
Test(constraints, simplexes)
{
    enum { ROWS = 4, COLS = 3 };
    for (int form = 0; form < 2; form++) {
        nf_flow *(*of)(size_t) = form == NF_SIMPLEX_STICK ? nf_simplex_stick : nf_simplex_ilr;
        nf_real x[ROWS * COLS], y[ROWS * COLS], part[ROWS], image[ROWS], u[ROWS];
        double l, l_of_part, sum = 0;
        draw(31, ROWS * COLS, 1.2, x);
        transform(nf_column_stochastic(ROWS, COLS, (nf_simplex_form)form), NF_FORWARD, 1, x, y, &l);
        for (size_t j = 0; j < COLS; j++) {
            transform(of(ROWS), NF_FORWARD, 1, x + j * (ROWS - 1), image, &l_of_part);
            cr_assert_eq(memcmp(image, y + j * ROWS, sizeof image), 0, "column %zu", j);
            sum += l_of_part;
        }
        cr_assert_float_eq(l, sum, tolerance * fabs(sum));
        transform(nf_row_stochastic(ROWS, COLS, (nf_simplex_form)form), NF_FORWARD, 1, x, y, &l);
        sum = 0;
        for (size_t i = 0; i < ROWS; i++) {
            for (size_t k = 0; k + 1 < COLS; k++)
                part[k] = x[k * ROWS + i];
            transform(of(COLS), NF_FORWARD, 1, part, image, &l_of_part);
            for (size_t k = 0; k < COLS; k++)
                cr_assert_float_eq(y[k * ROWS + i], image[k], 0, "row %zu", i);
            sum += l_of_part;
        }
        cr_assert_float_eq(l, sum, tolerance * fabs(sum));
        if (form == NF_SIMPLEX_STICK)
            continue;
        transform(nf_simplex_ilr(ROWS), NF_FORWARD, 1, x, y, NULL);
        transform(nf_sum_to_zero(ROWS), NF_FORWARD, 1, x, u, NULL);
        double total = 0, zero = 0;
        for (size_t k = 0; k < ROWS; k++) {
            total += exp((double)u[k]);
            zero += (double)u[k];
        }
        cr_assert_float_eq(zero, 0, tolerance);
        for (size_t k = 0; k < ROWS; k++)
            cr_assert_float_eq(y[k], exp((double)u[k]) / total, 3 * tolerance);
    }
}

/* ---- volumes: the integral of weight(y) exp(log-det) over the unconstrained numbers, by the trapezoid rule ---- */

typedef double weight_fn(size_t n, const nf_real *y);

static double one(size_t n, const nf_real *y)
{
    (void)n, (void)y;
    return 1;
}

static double minus_exp_sum(size_t n, const nf_real *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)y[i];
    return exp(-sum);
}

static double minus_exp_trace(size_t n, const nf_real *y)
{
    (void)n;
    return exp(-(double)y[0] - (double)y[3]);
}

static double volume(nf_flow *f, double low, double high, double step, weight_fn *weight)
{
    cr_assert_not_null(f, "%s", nf_error_message());
    const size_t in = nf_flow_shape(f)->dim_in, out = nf_flow_shape(f)->dim_out;
    const size_t side = (size_t)((high - low) / step) + 1;
    size_t n = 1;
    for (size_t k = 0; k < in; k++)
        n *= side;
    nf_real *x = malloc(n * in * sizeof *x), *y = malloc(n * out * sizeof *y);
    double *l = malloc(n * sizeof *l), sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0, at = i; k < in; k++, at /= side)
            x[i * in + k] = (nf_real)(low + step * (double)(at % side));
    transform(f, NF_FORWARD, n, x, y, l);
    for (size_t i = 0; i < n; i++)
        sum += exp(l[i]) * weight(out, y + i * out);
    free(x), free(y), free(l);
    return sum * pow(step, (double)in);
}

Test(constraints, volumes)
{
    const double within = is_double ? 1e-7 : 2e-5;
    cr_assert_float_eq(volume(nf_interval(1, -0.37, 2.41), -30, 30, 0.2, one), 2.78, within);
    cr_assert_float_eq(volume(nf_simplex_stick(3), -22, 22, 0.25, one), 0.5, within);
    cr_assert_float_eq(volume(nf_simplex_ilr(3), -22, 22, 0.25, one), 0.5, within);
    cr_assert_float_eq(volume(nf_positive_ordered(2), -20, 6, 0.1, minus_exp_sum), 0.5, within);
    cr_assert_float_eq(volume(nf_cholesky_corr(3), -11, 11, 0.3, one), 2 * M_PI, 10 * within);
    cr_assert_float_eq(volume(nf_corr_matrix(3), -11, 11, 0.3, one), M_PI * M_PI / 2, 10 * within);
    /* of exp(-tr S) over positive definite 2 x 2 matrices: the gamma function of two dimensions at 3/2 */
    cr_assert_float_eq(volume(nf_cov_matrix(2), -11, 6, 0.2, minus_exp_trace), M_PI / 2, 10 * within);
}

/* ---- edges ---- */

static nf_real there_and_back(nf_flow *f, nf_real x, nf_real *y)
{
    nf_real back;
    transform(nf_flow_ref(f), NF_FORWARD, 1, &x, y, NULL);
    transform(f, NF_INVERSE, 1, y, &back, NULL);
    return back;
}

/* Distances from an edge at 0 keep all their digits, however small. */
Test(constraints, near_edges)
{
    const nf_real far = is_double ? NF_R(613.7) : NF_R(61.7);
    nf_real y[4];
    cr_assert_float_eq(there_and_back(nf_interval(1, 0, 0.73), -far, y), -far, tolerance * (double)far);
    cr_assert_gt(y[0], 0);
    cr_assert_float_eq(there_and_back(nf_interval(1, -0.73, 0), far, y), far, tolerance * (double)far);
    cr_assert_lt(y[0], 0);
    cr_assert_float_eq(there_and_back(nf_lower(1, 0), -far, y), -far, tolerance * (double)far);
    cr_assert_float_eq(there_and_back(nf_upper(1, 0), -far, y), -far, tolerance * (double)far);
    cr_assert_float_eq(there_and_back(nf_cholesky_corr(2), far, y), far, tolerance * (double)far);
    nf_flow *simplex[] = {nf_simplex_stick(4), nf_simplex_ilr(4)};
    for (int k = 0; k < 2; k++) {
        const nf_real inputs[] = {k ? NF_R(0.7) * far : far, NF_R(0.31), NF_R(-1.7)}; /* no y underflows */
        nf_real back[3];
        transform(nf_flow_ref(simplex[k]), NF_FORWARD, 1, inputs, y, NULL);
        transform(simplex[k], NF_INVERSE, 1, y, back, NULL);
        for (size_t i = 0; i < 3; i++)
            cr_assert_float_eq(back[i], inputs[i], 3 * tolerance * (double)far, "simplex %d: %.17g", k,
                               (double)back[i]);
    }
}

/* Beyond the edge: density 0, numbers that are numbers. On it: finite. NaN is not hidden. */
Test(constraints, outside)
{
    const nf_real nan = (nf_real)NAN;
    const struct {
        nf_flow *f;
        nf_real outside[4], edge[4];
    } c[] = {
        {nf_lower(1, -0.7), {NF_R(-0.83)}, {(nf_real)-0.7}},
        {nf_upper(1, 1.3), {NF_R(1.41)}, {(nf_real)1.3}},
        {nf_interval(1, -0.7, 1.3), {NF_R(1.41)}, {(nf_real)-0.7}},
        {nf_ordered(2), {NF_R(0.3), NF_R(0.2)}, {NF_R(0.3), NF_R(0.3)}},
        {nf_positive_ordered(2), {NF_R(-0.1), NF_R(0.2)}, {0, NF_R(0.3)}},
        {nf_simplex_stick(3), {NF_R(0.7), NF_R(0.4), NF_R(-0.1)}, {NF_R(0.3), 0, NF_R(0.7)}},
        {nf_simplex_ilr(3), {NF_R(0.7), NF_R(0.4), NF_R(-0.1)}, {1, 0, 0}},
        {nf_cholesky_corr(2), {1, NF_R(0.6), 0, NF_R(-0.8)}, {1, -1, 0, 0}},
        {nf_corr_matrix(2), {1, NF_R(1.2), NF_R(1.2), 1}, {1, -1, -1, 1}},
        {nf_cholesky_cov(2, 2), {1, NF_R(0.6), 0, NF_R(-0.8)}, {0, 1, 0, NF_R(0.3)}},
        {nf_cov_matrix(2), {1, NF_R(1.2), NF_R(1.2), 1}, {0, 0, 0, 1}},
    };
    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        nf_model *m = bind(c[k].f);
        const size_t n = nf_model_shape(m)->dim_out, in = nf_model_shape(m)->dim_in;
        nf_real x[4], g[4], gx[4] = {1, 1, 1, 1}, bad[4] = {nan, nan, nan, nan};
        double l;
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, c[k].outside, NULL, x, &l), NF_OK);
        cr_assert(isinf(l) && l < 0, "row %zu: the log-det outside is %g", k, l);
        for (size_t i = 0; i < in; i++)
            cr_assert(isfinite(x[i]), "row %zu", k);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, c[k].edge, NULL, x, &l), NF_OK);
        cr_assert(isfinite(l), "row %zu: the log-det at the edge is %g", k, l);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_INVERSE, 1, c[k].edge, NULL, gx, gx, g, NULL, NULL), NF_OK);
        for (size_t i = 0; i < n; i++)
            cr_assert(isfinite(g[i]), "row %zu, gradient %zu is %g", k, i, (double)g[i]);
        for (size_t i = 0; i < in; i++)
            cr_assert(isfinite(x[i]), "row %zu", k);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, bad, NULL, x, &l), NF_OK);
        cr_assert(isnan(x[0]), "row %zu: NaN became %g", k, (double)x[0]);
        nf_model_free(m);
    }
}

/* Where values overflow, a cotangent of 0 stays 0 and the log-det's gradient is what it is. */
Test(constraints, overflow)
{
    nf_flow *flow[] = {nf_lower(2, 0.3), nf_upper(2, 0.3), nf_positive_ordered(2)};
    for (size_t k = 0; k < sizeof flow / sizeof *flow; k++) {
        nf_model *m = bind(flow[k]);
        const nf_real x[2] = {NF_R(1e4), NF_R(0.4)}, zero[2] = {0, 0}, g_l = NF_R(0.7);
        nf_real y[2], gx[2];
        double l;
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &l), NF_OK);
        cr_assert(isinf(y[0]) && !isnan(y[1]));
        cr_assert_float_eq(l, (double)x[0] + (double)x[1], 1e4 * tolerance);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, x, NULL, zero, &g_l, gx, NULL, NULL), NF_OK);
        cr_assert(gx[0] == g_l && gx[1] == g_l, "flow %zu: %g, %g", k, (double)gx[0], (double)gx[1]);
        nf_model_free(m);
    }
}

/* ---- blocks ---- */

Test(constraints, blocks_are_their_parts)
{
    const nf_real x[2 * 6] = {NF_R(0.3), NF_R(-0.7), NF_R(1.1),  NF_R(0.2), NF_R(-0.4), NF_R(0.9),
                              NF_R(0.8), NF_R(0.1),  NF_R(-1.3), NF_R(0.6), NF_R(0.5),  NF_R(-0.2)};
    nf_real y[2 * 8], back[2 * 6], part[9];
    double l[2], of_part, sum;
    nf_flow *f[] = {nf_lower(2, 0.4), nf_simplex_stick(3), nf_cholesky_cov(2, 1)};
    const size_t in[] = {0, 2, 4, 6}, out[] = {0, 2, 5, 7};
    nf_flow *all = nf_blocks((nf_flow *[]){nf_flow_ref(f[0]), nf_flow_ref(f[1]), nf_flow_ref(f[2])}, 3);
    cr_assert_eq(nf_flow_shape(all)->dim_in, 6);
    cr_assert_eq(nf_flow_shape(all)->dim_out, 7);
    cr_assert_eq(nf_flow_shape(all)->flags, NF_PER_SAMPLE | NFI_WRITES_GRADIENT);
    transform(nf_flow_ref(all), NF_FORWARD, 2, x, y, l);
    transform(all, NF_INVERSE, 2, y, back, NULL);
    for (size_t s = 0; s < 2; s++) {
        sum = 0;
        for (size_t k = 0; k < 3; k++) {
            transform(nf_flow_ref(f[k]), NF_FORWARD, 1, x + s * 6 + in[k], part, &of_part);
            for (size_t i = out[k]; i < out[k + 1]; i++)
                cr_assert_eq(y[s * 7 + i], part[i - out[k]]);
            sum += of_part;
        }
        cr_assert_float_eq(l[s], sum, tolerance * (1 + fabs(sum)));
        for (size_t i = 0; i < 6; i++)
            cr_assert_float_eq(back[s * 6 + i], x[s * 6 + i], 3 * tolerance);
    }
    for (size_t k = 0; k < 3; k++)
        nf_flow_free(f[k]);
}

/* Each block begins from its own features of the data, in either direction, also where dimensions differ. */
Test(constraints, blocks_begin_from_data)
{
    enum { N = 40 };
    nf_real x[N * 5];
    draw(71, N * 5, 1.7, x);
    for (size_t i = 0; i < N * 5; i++)
        x[i] += (nf_real)(i % 5);
    for (size_t i = 0; i < N; i++) { /* the last two features are positive */
        x[i * 5 + 3] = (nf_real)exp((double)x[i * 5 + 3]);
        x[i * 5 + 4] = (nf_real)exp((double)x[i * 5 + 4]);
    }
    nf_flow *f = nf_blocks(
        (nf_flow *[]){nf_invert(nf_actnorm(3)), nf_chain((nf_flow *[]){nf_actnorm(2), nf_lower(2, 0)}, 2)}, 2);
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.n_init = N, .init_x = x});
    nf_real z[N * 5];
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, x, NULL, z, NULL), NF_OK);
    for (size_t k = 0; k < 5; k++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < N; i++) {
            sum += (double)z[i * 5 + k] / N;
            squares += (double)z[i * 5 + k] * (double)z[i * 5 + k] / N;
        }
        cr_assert_float_eq(sum, 0, 20 * tolerance, "feature %zu: mean %g", k, sum);
        cr_assert_float_eq(squares, 1, 20 * tolerance, "feature %zu: variance %g", k, squares);
    }
    nf_model_free(m);
}

/* What the checker says of a flow from 4 to 5 dimensions, of which 2 are copies. */
Test(constraints, checker)
{
    nf_flow *f = nf_blocks((nf_flow *[]){nf_identity(2), nf_simplex_ilr(3)}, 2);
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(4), f), NULL);
    nf_check_report r;
    cr_assert_eq(nf_check_flow(m, NULL, &r), NF_OK);
    cr_assert_eq(r.untouched, 2);
    for (int d = 0; d < 2; d++) {
        cr_assert_lt(r.inverse_error[d], 10 * tolerance);
        cr_assert_lt(r.x_error[d], is_double ? 1e-8 : 1e-2);
        cr_assert(isnan(r.log_det_error[d]));
    }
    nf_model_free(m);
}

/* ---- a posterior in closed form: a rate with a gamma posterior, shares with a Dirichlet one ----

   Of normals for the log of a rate with posterior Gamma(a, b), the best has s^2 = 1 / a and mean log(a / b) - s^2 / 2:
   it maximises a m - b exp(m + s^2 / 2) + log s. */

static const double shape = 7.31, rate = 1.83, concentration[3] = {5.2, 9.7, 3.9};

static int gamma_and_dirichlet(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                               unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t i = 0; i < n; i++) {
        const double *at = x + i * d;
        log_p[i] = (shape - 1) * log(at[0]) - rate * at[0];
        if (grad)
            grad[i * d] = (shape - 1) / at[0] - rate;
        for (size_t k = 0; k < 3; k++) {
            log_p[i] += (concentration[k] - 1) * log(at[k + 1]);
            if (grad)
                grad[i * d + k + 1] = (concentration[k] - 1) / at[k + 1];
        }
    }
    return 0;
}

Test(constraints, posterior)
{
    enum { N = 20000 };
    for (int form = 0; form < 2; form++) {
        nf_flow *f = nf_blocks(
            (nf_flow *[]){nf_lower(1, 0), form == NF_SIMPLEX_STICK ? nf_simplex_stick(3) : nf_simplex_ilr(3)}, 2);
        nf_model *q = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(3), f), NULL);
        nf_target *target = nf_target_callback(4, gamma_and_dirichlet, NULL, NF_THREADSAFE);
        nf_objective *elbo = nf_elbo(q, target, &(nf_elbo_options){.draws = 64});
        const nf_fit_options options = {
            .steps = 2500, .rate = 0.02, .threads = 2, .schedule = {.kind = NF_COSINE, .from = 1, .steps = 2500}};
        cr_assert_eq(nf_fit(elbo, &options, NULL), NF_OK, "%s", nf_error_message());
        const nf_real *theta = nf_model_theta(q);
        const double m = (double)theta[0], s = exp((double)theta[3]);
        cr_assert_float_eq(s * sqrt(shape), 1, 0.02, "the rate's deviation is %g", s);
        cr_assert_float_eq(m, log(shape / rate) - 0.5 / shape, 0.01, "the log-rate's mean is %g", m);
        /* E[log p - log q] is below log p(data) by the divergence, which is small: normals fit well here */
        double *x = malloc(N * 4 * sizeof *x), *log_p = malloc(N * sizeof *log_p), *log_q = malloc(N * sizeof *log_q);
        nf_real *draws = malloc(N * 4 * sizeof *draws);
        cr_assert_eq(nf_sample(q, NULL, &(nf_noise){.seed = 5}, N, NULL, draws, log_q), NF_OK);
        for (size_t i = 0; i < N * 4; i++)
            x[i] = (double)draws[i];
        cr_assert_eq(nf_target_eval(target, N, x, log_p, NULL, NULL), NF_OK);
        double bound = 0, square = 0, share[3] = {0}, total = 0, evidence = lgamma(shape) - shape * log(rate);
        for (size_t k = 0; k < 3; k++) {
            evidence += lgamma(concentration[k]);
            total += concentration[k];
        }
        evidence -= lgamma(total);
        for (size_t i = 0; i < N; i++) {
            bound += (log_p[i] - log_q[i]) / N;
            square += (log_p[i] - log_q[i] - evidence) * (log_p[i] - log_q[i] - evidence) / N;
            for (size_t k = 0; k < 3; k++)
                share[k] += x[i * 4 + 1 + k] / N;
        }
        const double error = sqrt(square / N);
        cr_assert_lt(bound, evidence + 4 * error);
        cr_assert_gt(bound, evidence - 0.04, "the bound is %g below the evidence", evidence - bound);
        for (size_t k = 0; k < 3; k++)
            cr_assert_float_eq(share[k], concentration[k] / total, 0.006, "share %zu is %g", k, share[k]);
        free(x), free(log_p), free(log_q), free(draws);
        nf_objective_free(elbo);
        nf_target_free(target);
        nf_model_free(q);
    }
}

/* ---- size 1 ---- */

/* Each alone: a set of one point, which has no unconstrained numbers. */
Test(constraints, size_one_alone)
{
    const struct {
        nf_flow *f;
        nf_real is;
    } all[] = {{nf_simplex_stick(1), 1},
               {nf_simplex_ilr(1), 1},
               {nf_sum_to_zero(1), 0},
               {nf_cholesky_corr(1), 1},
               {nf_corr_matrix(1), 1},
               {nf_column_stochastic(1, 3, NF_SIMPLEX_ILR), 1},
               {nf_row_stochastic(3, 1, NF_SIMPLEX_STICK), 1}};
    enum { POINTS = 300 };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        nf_model *m = bind(all[k].f);
        const size_t out = nf_model_shape(m)->dim_out;
        cr_assert_eq(nf_model_shape(m)->dim_in, 0);
        nf_real y[POINTS * 3], gy[POINTS * 3], g_log_det[POINTS];
        double log_det[POINTS];
        for (size_t i = 0; i < POINTS; i++)
            log_det[i] = g_log_det[i] = NF_R(2.385);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, POINTS, NULL, NULL, y, log_det), NF_OK, "%s",
                     nf_error_message());
        for (size_t i = 0; i < POINTS * out; i++)
            cr_assert_eq(y[i], all[k].is, "flow %zu: %g", k, (double)y[i]);
        for (size_t i = 0; i < POINTS; i++)
            cr_assert_eq(log_det[i], 0);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, POINTS, y, NULL, NULL, log_det), NF_OK, "%s",
                     nf_error_message());
        for (size_t i = 0; i < POINTS; i++)
            cr_assert_eq(log_det[i], 0, "flow %zu: %g", k, log_det[i]);
        for (size_t i = 0; i < POINTS * 3; i++)
            gy[i] = NF_R(0.7);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, POINTS, NULL, NULL, gy, g_log_det, NULL, NULL, NULL),
                     NF_OK);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_INVERSE, POINTS, y, NULL, NULL, g_log_det, gy, NULL, NULL),
                     NF_OK);
        cr_assert(all_finite(POINTS * out, gy));
        nf_check_report r;
        cr_assert_eq(nf_check_flow(m, NULL, &r), NF_OK);
        cr_assert_eq(r.log_det_max[NF_FORWARD], 0);
        y[0] = -1;
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, y, NULL, NULL, log_det), NF_OK);
        cr_assert_eq(log_det[0], k < 2 || k > 4 ? -INFINITY : 0, "flow %zu: %g", k, log_det[0]);
        nf_model_free(m);
    }
}

/* A model whose simplex has K entries, K being data: 1 is as good as 3. */
Test(constraints, size_one_beside_others)
{
    enum { POINTS = 50 };
    for (size_t k = 0; k < 2; k++) {
        const size_t K = k ? 3 : 1;
        nf_flow *f[] = {nf_simplex_ilr(K), nf_lower(1, 0), nf_corr_matrix(K), nf_identity(1)};
        nf_flow *blocks = nf_blocks(f, 4);
        const size_t d = nf_flow_shape(blocks)->dim_in;
        cr_assert_eq(d, K - 1 + 1 + K * (K - 1) / 2 + 1);
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(d), blocks), NULL);
        const size_t out = nf_model_shape(m)->dim_out;
        nf_real x[POINTS * 14], fixed[POINTS * 4];
        double log_p[POINTS];
        cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 8}, POINTS, NULL, x, log_p), NF_OK);
        for (size_t i = 0; i < POINTS && K == 1; i++) { /* (1), exp z, [1], z' */
            cr_assert(x[i * 4] == 1 && x[i * 4 + 1] > 0 && x[i * 4 + 2] == 1);
            const double z = log((double)x[i * 4 + 1]), other = (double)x[i * 4 + 3];
            near(log_p[i], -log(2 * acos(-1)) - z * z / 2 - other * other / 2 - z, 1e-5, "log p", i);
        }
        double again[POINTS];
        cr_assert_eq(nf_log_prob(m, NULL, NULL, POINTS, x, NULL, again), NF_OK);
        for (size_t i = 0; i < POINTS; i++)
            near(again[i], log_p[i], is_double ? 1e-10 : 1e-3, "log p", i);
        if (K == 1) { /* maximum likelihood of the two numbers that are free: mean and deviation of log x and of x */
            for (size_t i = 0; i < POINTS; i++) {
                fixed[i * 4] = fixed[i * 4 + 2] = 1;
                fixed[i * 4 + 1] = (nf_real)exp(0.5 + 0.25 * (i % 2 ? 1 : -1));
                fixed[i * 4 + 3] = NF_R(-2) + NF_R(0.5) * (nf_real)(i % 2 ? 1 : -1);
            }
            nf_data data = {.n = POINTS, .dim = out, .x = fixed};
            nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = POINTS});
            cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 2000, .rate = 0.02}, NULL), NF_OK);
            nf_objective_free(o);
            near((double)nf_model_theta(m)[0], 0.5, 1e-2, "mean", 0);
            near((double)nf_model_theta(m)[1], -2, 1e-2, "mean", 1);
            near(exp((double)nf_model_theta(m)[2]), 0.25, 1e-2, "deviation", 0);
            near(exp((double)nf_model_theta(m)[3]), 0.5, 1e-2, "deviation", 1);
        }
        nf_model_free(m);
    }
}

/* ---- refusals ---- */

Test(constraints, refusals)
{
    const double inf = INFINITY, low[] = {0.3, 0.7}, high[] = {0.5, 0.7}, zero[] = {1.5, 0};
    expect_none(nf_identity(0), NF_EARG, "nf_identity: `dim` is 0");
    expect_none(nf_lower(0, 1.5), NF_EARG, "nf_lower: `dim` is 0");
    expect_none(nf_lower(2, -inf), NF_EARG, "nf_lower: a bound is -inf");
    expect_none(nf_upper(2, inf), NF_EARG, "nf_upper: a bound is inf");
    expect_none(nf_upper(2, NAN), NF_EARG, "nf_upper");
    expect_none(nf_interval(2, 1.5, 1.5), NF_EARG, "nf_interval: feature 0 is to be between 1.5 and 1.5");
    expect_none(nf_interval(2, -1e308, 1e308), NF_EARG, "nf_interval");
    expect_none(nf_bounds(2, low, high), NF_EARG, "nf_bounds: feature 1 is to be between 0.7 and 0.7");
    expect_none(nf_offset_multiplier(2, NULL, zero), NF_EARG,
                "nf_offset_multiplier: feature 1 has offset 0 and multiplier 0");
    expect_none(nf_offset_multiplier(1, &inf, NULL), NF_EARG, "offset inf");
    expect_none(nf_ordered(0), NF_EARG, "nf_ordered: `K` is 0");
    expect_none(nf_positive_ordered(0), NF_EARG, "nf_positive_ordered");
    expect_none(nf_simplex_stick(0), NF_EARG, "nf_simplex_stick: 1 simplexes of 0 entries");
    expect_none(nf_simplex_ilr(0), NF_EARG, "nf_simplex_ilr");
    expect_none(nf_row_stochastic(0, 3, NF_SIMPLEX_STICK), NF_EARG, "nf_row_stochastic: 0 simplexes of 3 entries");
    expect_none(nf_column_stochastic(SIZE_MAX / 2, 3, NF_SIMPLEX_ILR), NF_EARG, "nf_column_stochastic");
    expect_none(nf_column_stochastic(2, 3, (nf_simplex_form)7), NF_EARG, "in form 7");
    expect_none(nf_sum_to_zero(0), NF_EARG, "nf_sum_to_zero: `K` is 0");
    expect_none(nf_cholesky_corr(0), NF_EARG, "nf_cholesky_corr: `K` is 0");
    expect_none(nf_corr_matrix(0), NF_EARG, "`K` is 0");
    expect_none(nf_cholesky_cov(2, 3), NF_EARG, "2 rows and 3 columns");
    expect_none(nf_cov_matrix(0), NF_EARG, "0 rows and 0 columns");
    expect_none(nf_blocks(NULL, 2), NF_EARG, "nf_blocks: `f` is NULL");
    expect_none(nf_blocks((nf_flow *[]){NULL}, 0), NF_EARG, "nf_blocks: `n` is 0");
    nf_flow *context[] = {nf_amortized_by_context(nf_affine(2)), nf_identity(1), nf_amortized_by_context(nf_affine(3))};
    expect_none(nf_blocks(context, 3), NF_EDIM,
                "nf_blocks: block 2 reads 6 features of context, but an earlier one reads 4");
    expect_none(nf_blocks((nf_flow *[]){nf_identity(2), nf_lower(0, 1.5)}, 2), NF_EARG, "nf_lower: `dim` is 0");
}

/* Points near an edge, where a difference of fixed width would cross it: the check must not blame the flow. */
Test(constraints, check_near_their_edges)
{
    nf_flow *f[] = {nf_lower(3, 1), nf_upper(3, -2), nf_interval(3, -1, 4)};
    for (size_t k = 0; k < 3; k++) {
        nf_model *m = nf_model_of_flow(f[k], NULL);
        nf_check_report r;
        cr_assert_eq(nf_check_flow(m, &(nf_check_options){.scale = sizeof(nf_real) == 4 ? 2 : 6, .n = 64}, &r), NF_OK);
        for (int d = 0; d < 2; d++)
            cr_assert_lt(r.x_error[d], sizeof(nf_real) == 4 ? 0.1 : 1e-4, "flow %zu, direction %d: %g", k, d,
                         r.x_error[d]);
        nf_model_free(m);
    }
}
