/* Affine, LU-linear and permutation flows against the matrices they claim to be, built naively in double, with GSL's LU
   for determinants and inverses. */
#include "expect.h"
#include "support/numbers.h"
#include "base/memory.h"
#include "object/pack.h"
#include "object/tree.h"
#include "fail_alloc.h"
#include "flows/linear/lu_linear.h"
#include <criterion/criterion.h>
#include <gsl/gsl_linalg.h>
#include <math.h>
#include <nflow/elementwise.h>
#include <nflow/model.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
#define TOLERANCE 1e-4
#define GRADIENT_TOLERANCE 5e-4
#else
#define TOLERANCE 1e-12
#define GRADIENT_TOLERANCE 1e-7
#endif

enum { N = 23, MAX_DIM = 17 };

/* ---- affine ---- */

static const nf_direction directions[] = {NF_FORWARD, NF_INVERSE};

/* One tile of an affine flow of 3 features; per sample or shared, values and gradients against the formulas. */
static void check_affine(nf_direction d, bool per_sample)
{
    enum { DIM = 3, LD = 32 };
    nf_flow *flow = nf_affine(DIM);
    nf_real theta[2 * DIM * LD], x[DIM * LD], y[DIM * LD], gy[DIM * LD], gx[DIM * LD], back[DIM * LD], g_log_det[LD];
    nf_real g_theta[2 * DIM * LD], was[2 * DIM * LD];
    double log_det[LD], log_det_was = 0.371;
    size_t step = per_sample ? LD : 1;
    draw(1, 2 * DIM * LD, 0.8, theta);
    draw(2, DIM * LD, 1.3, x);
    draw(3, DIM * LD, 1, gy);
    draw(4, LD, 1, g_log_det);
    draw(5, 2 * DIM * LD, 1, g_theta);
    nfi_pad(DIM, N, LD, x);
    nfi_pad(2 * DIM, N, per_sample ? LD : 1, theta);
    nfi_pad_zero(DIM, N, LD, gy);
    nfi_pad_zero(1, N, LD, g_log_det);
    memcpy(was, g_theta, sizeof was);
    for (size_t s = 0; s < LD; s++)
        log_det[s] = log_det_was;
    nf_pass p = {.n = N, .ld = LD, .theta = theta, .theta_stride = per_sample};
    void *saved = NULL;
    cr_assert_eq(nf_flow_apply(nf_flow_object(flow), d, &p, x, y, log_det, &saved), NF_OK);
    cr_assert_eq(nf_flow_vjp(nf_flow_object(flow), d, &p, x, y, saved, gy, g_log_det, gx, &(nf_grad){.theta = g_theta}),
                 NF_OK);
    cr_assert_eq(nf_flow_solve_jt(nf_flow_object(flow), d, &p, x, y, saved, gx, back), NF_OK);
    double gm[DIM][LD] = {{0}}, gs[DIM][LD] = {{0}}, sign = d == NF_FORWARD ? 1 : -1;
    for (size_t s = 0; s < N; s++) {
        double sum = log_det_was;
        for (size_t r = 0; r < DIM; r++) {
            size_t at = r * LD + s, k = per_sample ? s : 0;
            double m = (double)theta[r * step + k], scale = (double)theta[(DIM + r) * step + k];
            double e = exp(sign * scale), v = (double)x[at], u = (double)gy[at];
            double wanted = d == NF_FORWARD ? v * e + m : (v - m) * e;
            near((double)y[at], wanted, TOLERANCE, "y", at);
            near((double)gx[at], u * e, TOLERANCE, "gx", at);
            near((double)back[at], u, TOLERANCE, "J^-T J^T gy", at);
            gm[r][k] += d == NF_FORWARD ? u : -u * e;
            gs[r][k] += d == NF_FORWARD ? u * v * e : -u * (v - m) * e;
            gs[r][k] += sign * (double)g_log_det[s];
            sum += sign * scale;
        }
        near(log_det[s], sum, TOLERANCE, "log-det", s);
    }
    for (size_t r = 0; r < DIM; r++)
        for (size_t k = 0; k < (per_sample ? N : 1); k++) {
            size_t at = r * step + k, as = (DIM + r) * step + k;
            near((double)g_theta[at] - (double)was[at], gm[r][k], 10 * TOLERANCE, "gm", at);
            near((double)g_theta[as] - (double)was[as], gs[r][k], 10 * TOLERANCE, "gs", as);
        }
    for (size_t i = 0; i < DIM * LD; i++)
        cr_assert(isfinite((double)y[i]) && (i % LD < N || gx[i] == 0), "padding");
    nf_flow_free(flow);
}

Test(linear, affine)
{
    for (int d = 0; d < 2; d++)
        for (int per_sample = 0; per_sample < 2; per_sample++)
            check_affine(directions[d], per_sample);
}

Test(linear, affine_starts_as_the_identity)
{
    nf_model *m = nf_model_of_flow(nf_affine(4), NULL);
    nf_real x[N * 4], y[N * 4];
    double log_det[N];
    draw(9, N * 4, 2, x);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, NULL, y, log_det), NF_OK);
    cr_assert_arr_eq(x, y, sizeof x);
    for (size_t i = 0; i < N; i++)
        cr_assert_eq(log_det[i], 0.0);
    cr_assert_eq(nf_model_shape(m)->flags, NF_PER_SAMPLE | NFI_SAVES_ALIKE);
    nf_model_free(m);
}

/* ---- LU-linear ---- */

/* A model, its fixed signed permutation as a matrix (read off the initial model), and a batch. */
typedef struct fixture {
    nf_model *m;
    size_t dim;
    double start[MAX_DIM * MAX_DIM]; /* P diag(sign) */
    nf_real x[N * MAX_DIM], gy[N * MAX_DIM], g_log_det[N];
} fixture;

/* Rows of the identity through the model: its transposed matrix, b taken off. */
static void dense(const fixture *f, nf_direction d, double *j)
{
    size_t dim = f->dim;
    nf_real *e = calloc((dim + 1) * dim, sizeof *e), *y = calloc((dim + 1) * dim, sizeof *y);
    for (size_t i = 0; i < dim; i++)
        e[i * dim + i] = 1;
    cr_assert_eq(nf_transform(f->m, NULL, NULL, d, dim + 1, e, NULL, y, NULL), NF_OK);
    for (size_t i = 0; i < dim; i++)
        for (size_t r = 0; r < dim; r++)
            j[r * dim + i] = (double)y[i * dim + r] - (double)y[dim * dim + r];
    free(e);
    free(y);
}

static void set_up(fixture *f, size_t dim, uint64_t seed)
{
    f->dim = dim;
    f->m = nf_model_of_flow(nf_lu_linear(dim, seed), NULL);
    cr_assert_not_null(f->m, "%s", nf_error_message());
    dense(f, NF_FORWARD, f->start);
    draw(31, nf_model_shape(f->m)->n_params, 0.4, nf_model_theta(f->m));
    cr_assert_eq(nf_model_update(f->m, NF_EVAL), NF_OK);
    draw(32, N * dim, 1.3, f->x);
    draw(33, N * dim, 1, f->gy);
    draw(34, N, 1, f->g_log_det);
}

/* W = P L (U + diag(sign e^s)) at theta (in double), by full products, from the header's words. */
static void naive_matrix(const fixture *f, const double *theta, double *w)
{
    size_t d = f->dim, half = d * (d - 1) / 2;
    double l[MAX_DIM * MAX_DIM] = {0}, v[MAX_DIM * MAX_DIM] = {0};
    const double *lower = theta, *upper = theta + half, *s = theta + 2 * half;
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++) {
            double sign = 0;
            for (size_t r = 0; r < d; r++)
                sign += f->start[r * d + j]; /* the only entry of its column */
            l[i * d + j] = j < i ? *lower++ : i == j ? 1 : 0;
            v[i * d + j] = j > i ? *upper++ : i == j ? sign * exp(s[j]) : 0;
        }
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++) {
            w[i * d + j] = 0;
            for (size_t r = 0; r < d; r++)
                for (size_t k = 0; k < d; k++) /* |start| is P */
                    w[i * d + j] += fabs(f->start[i * d + r]) * l[r * d + k] * v[k * d + j];
        }
}

/* y and log-det of sample s, in double; the inverse by GSL's LU. */
static double naive(const fixture *f, nf_direction d, const double *theta, size_t s, double *y)
{
    size_t dim = f->dim;
    double w[MAX_DIM * MAX_DIM], right[MAX_DIM];
    const double *b = theta + dim * dim;
    naive_matrix(f, theta, w);
    for (size_t i = 0; i < dim; i++) {
        y[i] = b[i];
        right[i] = (double)f->x[s * dim + i] - b[i];
        for (size_t j = 0; j < dim; j++)
            y[i] += w[i * dim + j] * (double)f->x[s * dim + j];
    }
    gsl_matrix_view a = gsl_matrix_view_array(w, dim, dim);
    gsl_permutation *q = gsl_permutation_alloc(dim);
    int sign;
    gsl_linalg_LU_decomp(&a.matrix, q, &sign);
    double log_det = gsl_linalg_LU_lndet(&a.matrix);
    if (d == NF_INVERSE) {
        gsl_vector_view u = gsl_vector_view_array(right, dim), to = gsl_vector_view_array(y, dim);
        gsl_linalg_LU_solve(&a.matrix, q, &u.vector, &to.vector);
        log_det = -log_det;
    }
    gsl_permutation_free(q);
    return log_det;
}

/* <gy, y> + <g_log_det, log_det> at theta + h v. */
static double naive_sum(const fixture *f, nf_direction d, double h, const nf_real *v)
{
    const nf_real *theta0 = nf_model_theta(f->m);
    double theta[MAX_DIM * (MAX_DIM + 1)], y[MAX_DIM], sum = 0;
    for (size_t i = 0; i < f->dim * (f->dim + 1); i++)
        theta[i] = (double)theta0[i] + (v ? h * (double)v[i] : 0);
    for (size_t s = 0; s < N; s++) {
        sum += (double)f->g_log_det[s] * naive(f, d, theta, s, y);
        for (size_t i = 0; i < f->dim; i++)
            sum += (double)f->gy[s * f->dim + i] * y[i];
    }
    return sum;
}

static void check_lu(size_t dim, nf_direction d)
{
    fixture f;
    set_up(&f, dim, 100 + dim);
    size_t n_params = dim * (dim + 1);
    nf_real y[N * MAX_DIM], back[N * MAX_DIM], gx[N * MAX_DIM];
    nf_real *g = calloc(n_params, sizeof *g), *v = calloc(n_params, sizeof *v);
    double log_det[N], log_det_back[N], theta[MAX_DIM * (MAX_DIM + 1)], wanted[MAX_DIM], j[MAX_DIM * MAX_DIM];
    cr_assert_eq(nf_model_shape(f.m)->n_params, n_params);
    cr_assert_eq(nf_model_shape(f.m)->n_prep, 2 * dim * nfi_lu_stride(dim) + 1 + dim);
    for (size_t i = 0; i < n_params; i++)
        theta[i] = (double)nf_model_theta(f.m)[i];
    nf_direction other = d == NF_FORWARD ? NF_INVERSE : NF_FORWARD;
    cr_assert_eq(nf_transform(f.m, NULL, NULL, d, N, f.x, NULL, y, log_det), NF_OK);
    cr_assert_eq(nf_transform(f.m, NULL, NULL, other, N, y, NULL, back, log_det_back), NF_OK);
    for (size_t s = 0; s < N; s++) {
        near(log_det[s], naive(&f, d, theta, s, wanted), 10 * TOLERANCE, "log-det", s);
        near(log_det[s] + log_det_back[s], 0, TOLERANCE, "sum of log-dets", s);
        for (size_t i = 0; i < dim; i++) {
            near((double)y[s * dim + i], wanted[i], 20 * TOLERANCE, "y", s * dim + i);
            near((double)back[s * dim + i], (double)f.x[s * dim + i], 50 * TOLERANCE, "round trip", s * dim + i);
        }
    }
    cr_assert_eq(nf_transform_vjp(f.m, NULL, NULL, d, N, f.x, NULL, f.gy, f.g_log_det, gx, NULL, g), NF_OK);
    dense(&f, d, j);
    for (size_t s = 0; s < N; s++)
        for (size_t i = 0; i < dim; i++) {
            double sum = 0;
            for (size_t r = 0; r < dim; r++)
                sum += j[r * dim + i] * (double)f.gy[s * dim + r];
            near((double)gx[s * dim + i], sum, 20 * TOLERANCE, "gx", s * dim + i);
        }
    /* Each part of theta on its own: L, U, s, b; then all. */
    size_t half = dim * (dim - 1) / 2, end[] = {0, half, 2 * half, 2 * half + dim, n_params};
    for (size_t part = 0; part < 5; part++) {
        size_t lo = part < 4 ? end[part] : 0, hi = part < 4 ? end[part + 1] : n_params;
        memset(v, 0, n_params * sizeof *v);
        draw(40 + part, hi - lo ? hi - lo : 1, hi - lo ? 1 : 0, v + lo);
        double step = 1e-6, along = 0;
        for (size_t i = 0; i < n_params; i++)
            along += (double)g[i] * (double)v[i];
        double slope = (naive_sum(&f, d, step, v) - naive_sum(&f, d, -step, v)) / (2 * step);
        cr_assert_float_eq(along, slope, GRADIENT_TOLERANCE * (10 + fabs(slope)),
                           "dim %zu, direction %d, part %zu: %.10g, not %.10g", dim, (int)d, part, along, slope);
    }
    free(g);
    free(v);
    nf_model_free(f.m);
}

Test(linear, lu_linear)
{
    static const size_t dims[] = {1, 2, 5, 17};
    for (size_t k = 0; k < 4; k++)
        for (int d = 0; d < 2; d++)
            check_lu(dims[k], directions[d]);
}

/* A loss that goes both ways needs both halves of prep in one pull-back: x -> y -> x again is constant. */
Test(linear, lu_gradients_of_both_directions_add_up)
{
    fixture f;
    set_up(&f, 5, 8);
    nf_real y[N * 5], gx[N * 5], forth[30] = {0}, back[30] = {0}, both[30] = {0};
    cr_assert_eq(nf_transform(f.m, NULL, NULL, NF_FORWARD, N, f.x, NULL, y, NULL), NF_OK);
    cr_assert_eq(nf_transform_vjp(f.m, NULL, NULL, NF_INVERSE, N, y, NULL, f.gy, f.g_log_det, gx, NULL, back), NF_OK);
    memcpy(both, back, sizeof both);
    cr_assert_eq(nf_transform_vjp(f.m, NULL, NULL, NF_FORWARD, N, f.x, NULL, gx, f.g_log_det, NULL, NULL, forth),
                 NF_OK);
    cr_assert_eq(nf_transform_vjp(f.m, NULL, NULL, NF_FORWARD, N, f.x, NULL, gx, f.g_log_det, NULL, NULL, both), NF_OK);
    double size = 0;
    for (size_t i = 0; i < 30; i++) {
        near((double)forth[i] + (double)back[i], 0, 100 * TOLERANCE, "gradient of the identity", i);
        near((double)both[i], 0, 100 * TOLERANCE, "accumulated gradient", i);
        size += fabs((double)forth[i]);
    }
    cr_assert_gt(size, 1.0);
    nf_model_free(f.m);
}

/* Both halves in one gradient vector, as a chain that uses a shared layer both ways would fill it. */
Test(linear, lu_pulls_both_halves_of_prep_back)
{
    fixture f;
    set_up(&f, 5, 8);
    size_t length = nf_model_gradient_size(f.m);
    nf_real g[86], first[86] = {0}, second[86] = {0}, sum[30] = {0}, parts[30] = {0};
    cr_assert_eq(length, 86);
    draw(51, 86, 1, g);
    for (size_t i = 0; i < 86; i++)
        *(i < 55 ? &first[i] : &second[i]) = g[i];
    cr_assert_eq(nf_model_pull_gradient(f.m, g, sum), NF_OK);
    cr_assert_eq(nf_model_pull_gradient(f.m, first, parts), NF_OK);
    cr_assert_eq(nf_model_pull_gradient(f.m, second, parts), NF_OK);
    for (size_t i = 0; i < 30; i++)
        near((double)sum[i], (double)parts[i], 100 * TOLERANCE, "pulled back", i);
    nf_model_free(f.m);
}

/* ---- LU-linear of dimensions that are done by blocks ---- */

/* L and V [d x d] at theta + h direction, in double, from the header's words (without a permutation and signs). */
static void factors(size_t d, const nf_real *theta, double h, const nf_real *direction, double *l, double *v)
{
    size_t at_l = 0, at_u = d * (d - 1) / 2, at_s = d * (d - 1);
    memset(l, 0, d * d * sizeof *l);
    memset(v, 0, d * d * sizeof *v);
    for (size_t i = 0; i < d; i++) {
        l[i * d + i] = 1;
        for (size_t j = 0; j < i; j++, at_l++)
            l[i * d + j] = (double)theta[at_l] + h * (double)direction[at_l];
        for (size_t j = i + 1; j < d; j++, at_u++)
            v[i * d + j] = (double)theta[at_u] + h * (double)direction[at_u];
        v[i * d + i] = exp((double)theta[at_s + i] + h * (double)direction[at_s + i]);
    }
}

/* The prepared numbers as the header describes them: L V, its inverse by GSL, both with LU-linear's stride. */
static void naive_prepared(size_t d, const nf_real *theta, double h, const nf_real *direction, double *prep)
{
    const size_t ld = nfi_lu_stride(d);
    double *l = calloc(d * d, sizeof *l), *v = calloc(d * d, sizeof *v), *m = calloc(d * d, sizeof *m);
    factors(d, theta, h, direction, l, v);
    for (size_t i = 0; i < d; i++)
        for (size_t k = 0; k <= i; k++)
            for (size_t j = k; j < d; j++)
                m[i * d + j] += l[i * d + k] * v[k * d + j];
    gsl_matrix *inverse = gsl_matrix_alloc(d, d);
    gsl_permutation *q = gsl_permutation_alloc(d);
    gsl_matrix_view of_m = gsl_matrix_view_array(m, d, d);
    for (size_t i = 0; i < d; i++)
        memcpy(prep + i * ld, m + i * d, d * sizeof *m);
    int sign;
    gsl_linalg_LU_decomp(&of_m.matrix, q, &sign);
    gsl_linalg_LU_invert(&of_m.matrix, q, inverse);
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++)
            prep[(d + i) * ld + j] = gsl_matrix_get(inverse, i, j);
    gsl_matrix_free(inverse);
    gsl_permutation_free(q);
    free(l);
    free(v);
    free(m);
}

/* A model of weights that keep the condition number small, and room for its prepared numbers. */
typedef struct prepared {
    nf_model *m;
    size_t d, ld, n_theta, n_prep;
    double *wanted, *ahead, *behind;
    nf_real *direction, *g, *g_theta;
} prepared;

static prepared begin_prepared(size_t d)
{
    prepared b = {.d = d, .ld = nfi_lu_stride(d), .n_theta = d * (d + 1)};
    b.n_prep = 2 * d * b.ld + 1 + d;
    b.m = nf_model_of_flow(nf_lu_linear(d, NF_LU_IDENTITY), NULL);
    cr_assert_not_null(b.m, "%s", nf_error_message());
    cr_assert_eq(nf_model_shape(b.m)->n_prep, b.n_prep);
    draw(81, b.n_theta, 0.4 / sqrt((double)d), nf_model_theta(b.m));
    cr_assert_eq(nf_model_update(b.m, NF_EVAL), NF_OK);
    b.wanted = calloc(b.n_prep, sizeof *b.wanted);
    b.ahead = calloc(b.n_prep, sizeof *b.ahead);
    b.behind = calloc(b.n_prep, sizeof *b.behind);
    b.direction = calloc(b.n_theta, sizeof *b.direction);
    b.g = calloc(b.n_theta + b.n_prep, sizeof *b.g);
    b.g_theta = calloc(b.n_theta, sizeof *b.g_theta);
    draw(82, b.n_theta, 1, b.direction);
    return b;
}

static void end_prepared(prepared *b)
{
    nf_model_free(b->m);
    free(b->wanted);
    free(b->ahead);
    free(b->behind);
    free(b->direction);
    free(b->g);
    free(b->g_theta);
}

static const size_t block_dims[] = {8, 9, 16, 31, 65, 100, 137};
enum { N_BLOCK_DIMS = sizeof block_dims / sizeof *block_dims };

/* M and M^-1 entry by entry, read off by tiles: the model's images of unit vectors. */
Test(linear, lu_by_blocks_is_the_product_and_its_inverse)
{
    for (size_t k = 0; k < N_BLOCK_DIMS; k++) {
        prepared b = begin_prepared(block_dims[k]);
        const size_t d = b.d;
        nf_real *e = calloc(d * d, sizeof *e), *image = calloc(d * d, sizeof *image);
        const nf_real *shift = nf_model_theta(b.m) + d * d;
        naive_prepared(d, nf_model_theta(b.m), 0, b.direction, b.wanted);
        for (int way = 0; way < 2; way++) {
            for (size_t i = 0; i < d; i++)
                for (size_t j = 0; j < d; j++)
                    e[i * d + j] = (i == j ? 1 : 0) + (way ? shift[j] : 0);
            cr_assert_eq(nf_transform(b.m, NULL, NULL, directions[way], d, e, NULL, image, NULL), NF_OK);
            for (size_t i = 0; i < d; i++)
                for (size_t j = 0; j < d; j++)
                    near((double)image[j * d + i] - (way ? 0 : (double)shift[i]),
                         b.wanted[((way ? d : 0) + i) * b.ld + j], 200 * TOLERANCE, way ? "M^-1" : "M", i * d + j);
        }
        free(e);
        free(image);
        end_prepared(&b);
    }
}

/* d<g, (M, M^-1, log-det)> along a direction in theta, with g in the first half, the second, and both; against central
   differences of the naive matrices. */
Test(linear, lu_by_blocks_pulls_gradients_back)
{
    const double h = 1e-5;
    for (size_t k = 0; k < N_BLOCK_DIMS; k++)
        for (int halves = 1; halves < 4; halves++) {
            prepared b = begin_prepared(block_dims[k]);
            const size_t half = b.d * b.ld;
            nf_real *g = b.g + b.n_theta;
            draw(83, b.n_prep, 1, g);
            for (size_t i = 0; i < 2 * half; i++)
                if (!(halves & (i < half ? 1 : 2)))
                    g[i] = 0;
            naive_prepared(b.d, nf_model_theta(b.m), h, b.direction, b.ahead);
            naive_prepared(b.d, nf_model_theta(b.m), -h, b.direction, b.behind);
            double slope = 0, along = 0, size = 0;
            for (size_t i = 0; i < 2 * half; i++)
                slope += (double)g[i] * (b.ahead[i] - b.behind[i]) / (2 * h);
            for (size_t i = 0; i < b.d; i++)
                slope += (double)g[2 * half] * (double)b.direction[b.d * (b.d - 1) + i];
            cr_assert_eq(nf_model_pull_gradient(b.m, b.g, b.g_theta), NF_OK);
            for (size_t i = 0; i < b.n_theta; i++) {
                along += (double)b.g_theta[i] * (double)b.direction[i];
                size += fabs((double)b.g_theta[i]) * fabs((double)b.direction[i]);
            }
            cr_assert_float_eq(along, slope, GRADIENT_TOLERANCE * (1 + size / 100),
                               "dim %zu, halves %d: %.10g, not %.10g", b.d, halves, along, slope);
            end_prepared(&b);
        }
}

Test(linear, lu_solves_with_its_transposed_jacobian)
{
    fixture f;
    set_up(&f, 5, 8);
    nf_real x[5 * 32], gx[5 * 32], gy[5 * 32], g_log_det[32] = {0}, again[5 * 32];
    nf_arena scratch = {0};
    nf_pass p = {.n = N, .ld = 32, .theta = nf_model_theta(f.m), .scratch = &scratch};
    nf_real prep[56];
    cr_assert_eq(nfi_tree_prepare(nf_model_object(f.m), NF_EVAL, p.theta, NULL, prep), NF_OK);
    p.prep = prep;
    draw(61, 160, 1, x);
    draw(62, 160, 1, gx);
    for (int d = 0; d < 2; d++) {
        cr_assert_eq(nf_flow_solve_jt(nf_model_object(f.m), directions[d], &p, x, NULL, NULL, gx, gy), NF_OK);
        cr_assert_eq(
            nf_flow_vjp(nf_model_object(f.m), directions[d], &p, x, NULL, NULL, gy, g_log_det, again, &(nf_grad){0}),
            NF_OK);
        for (size_t i = 0; i < 160; i++)
            near((double)again[i], (double)gx[i], 50 * TOLERANCE, "J^T J^-T gx", i);
    }
    nfi_arena_clear(&scratch);
    nf_model_free(f.m);
}

Test(linear, lu_starts_as_a_signed_permutation_of_its_seed)
{
    size_t negative = 0, moved = 0;
    double first[MAX_DIM * MAX_DIM];
    for (uint64_t seed = 0; seed < 6; seed++) {
        fixture f, twin;
        set_up(&f, MAX_DIM, seed);
        set_up(&twin, MAX_DIM, seed);
        cr_assert_arr_eq(f.start, twin.start, sizeof f.start);
        for (size_t i = 0; i < MAX_DIM; i++) {
            double row = 0, column = 0;
            for (size_t k = 0; k < MAX_DIM; k++) {
                row += fabs(f.start[i * MAX_DIM + k]);
                column += fabs(f.start[k * MAX_DIM + i]);
                negative += f.start[i * MAX_DIM + k] < 0;
            }
            cr_assert(row == 1 && column == 1);
            moved += f.start[i * MAX_DIM + i] == 0;
        }
        if (seed)
            cr_assert_neq(memcmp(first, f.start, sizeof first), 0, "seed %d gives what seed 0 gave", (int)seed);
        else
            memcpy(first, f.start, sizeof first);
        nf_model_free(f.m);
        nf_model_free(twin.m);
    }
    cr_assert(negative > 30 && negative < 72, "%zu of 102 signs are negative", negative); /* 4 standard errors */
    cr_assert_gt(moved, 85);
}

/* ---- permutation ---- */

Test(linear, permutation)
{
    size_t order[] = {3, 0, 4, 1, 2};
    const size_t same[] = {3, 0, 4, 1, 2};
    nf_model *m = nf_model_of_flow(nf_permutation(5, order), NULL);
    memset(order, 0, sizeof order); /* the flow has its own copy */
    nf_real x[N * 5], y[N * 5], back[N * 5], gx[N * 5], g_log_det[N];
    double log_det[N];
    draw(71, N * 5, 1, x);
    draw(72, N, 1, g_log_det);
    cr_assert_eq(nf_model_shape(m)->flags, NF_PER_SAMPLE | NFI_SAVES_ALIKE);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, NULL, y, log_det), NF_OK);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, y, NULL, back, NULL), NF_OK);
    cr_assert_arr_eq(back, x, sizeof x);
    for (size_t s = 0; s < N; s++) {
        cr_assert_eq(log_det[s], 0.0);
        for (size_t i = 0; i < 5; i++)
            cr_assert(y[s * 5 + i] == x[s * 5 + same[i]], "sample %zu, feature %zu", s, i);
    }
    /* An orthogonal Jacobian: its transpose is the other direction. */
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, N, x, NULL, y, g_log_det, gx, NULL, NULL), NF_OK);
    cr_assert_arr_eq(gx, x, sizeof x);
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_INVERSE, N, y, NULL, x, g_log_det, gx, NULL, NULL), NF_OK);
    cr_assert_arr_eq(gx, y, sizeof x);
    nf_pass p = {.n = 1, .ld = 16};
    nf_real u[5 * 16], v[5 * 16];
    draw(73, 80, 1, u);
    cr_assert_eq(nf_flow_solve_jt(nf_model_object(m), NF_FORWARD, &p, NULL, NULL, NULL, u, v), NF_OK);
    for (size_t i = 0; i < 5; i++)
        cr_assert(v[i * 16] == u[same[i] * 16], "J^-T, feature %zu", i);
    nf_model_free(m);
}

Test(linear, permutations_in_reverse_and_at_random)
{
    enum { DIM = 9 };
    size_t order[DIM], other[DIM];
    nf_real x[DIM], y[DIM];
    draw(75, DIM, 1, x);
    nf_model *m = nf_model_of_flow(nf_reverse(DIM), NULL);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
    for (size_t i = 0; i < DIM; i++)
        cr_assert_eq(y[i], x[DIM - 1 - i]);
    nf_model_free(m);
    nf_noise_permutation(&(nf_noise){.seed = 2385}, DIM, order);
    nf_noise_permutation(&(nf_noise){.seed = 2386}, DIM, other);
    cr_assert_neq(memcmp(order, other, sizeof order), 0);
    m = nf_model_of_flow(nf_random_permutation(DIM, 2385), NULL);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
    for (size_t i = 0; i < DIM; i++)
        cr_assert_eq(y[i], x[order[i]]);
    nf_model_free(m);
}

/* ---- refusals ---- */

Test(linear, bad_arguments_are_refused)
{
    size_t live = alloc_live();
    expect_none(nf_affine(0), NF_EARG, "nf_affine: `dim` is 0");
    expect_none(nf_affine(SIZE_MAX), NF_EARG, "nf_affine: `dim` is");
    expect_none(nf_lu_linear(0, 3), NF_EARG, "nf_lu_linear: `dim` is 0");
    expect_none(nf_lu_linear((size_t)1 << 40, 3), NF_EARG, "nf_lu_linear: `dim` is");
    expect_none(nf_permutation(0, (size_t[]){0}), NF_EARG, "nf_permutation: `dim` is 0");
    expect_none(nf_permutation(3, NULL), NF_EARG, "`order` is NULL");
    expect_none(nf_permutation(SIZE_MAX, (size_t[]){0}), NF_EARG, "nf_permutation: `dim` is");
    expect_none(nf_permutation(4, (size_t[]){1, 0, 3, 4}), NF_EARG, "order[3] is 4, but `dim` is 4");
    expect_none(nf_permutation(4, (size_t[]){1, 0, 1, 3}), NF_EARG, "order[2] is 1, which an earlier entry is already");
    expect_none(nf_reverse(0), NF_EARG, "nf_reverse: `dim` is 0");
    expect_none(nf_random_permutation(0, 5), NF_EARG, "nf_random_permutation: `dim` is 0");
    cr_assert_eq(alloc_live(), live);
}

Test(linear, every_allocation_may_fail)
{
    for (size_t k = 0;; k++) {
        size_t before = alloc_live();
        fail_alloc_after(k);
        nf_flow *flow[] = {nf_affine(3),
                           nf_lu_linear(3, 1),
                           nf_permutation(3, (size_t[]){2, 0, 1}),
                           nf_reverse(3),
                           nf_random_permutation(3, 1),
                           nf_full_affine(3),
                           nf_low_rank_affine(3, 2)};
        enum { FLOWS = sizeof flow / sizeof *flow };
        bool failed = fail_alloc_off(), whole = true;
        for (size_t i = 0; i < FLOWS; i++)
            whole = whole && flow[i];
        cr_assert_eq(failed, !whole);
        for (size_t i = 0; i < FLOWS; i++)
            nf_flow_free(flow[i]);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
    }
    nf_model *m = nf_model_of_flow(nf_lu_linear(3, 1), NULL);
    nf_real x[3] = {NF_R(0.3), NF_R(-1.7), NF_R(0.9)}, y[3], g[12];
    for (size_t k = 0;; k++) {
        size_t before = alloc_live();
        memset(g, 0, sizeof g);
        fail_alloc_after(k);
        nf_status status = nf_transform(m, NULL, NULL, NF_INVERSE, 1, x, NULL, y, NULL);
        if (status == NF_OK)
            status = nf_transform_vjp(m, NULL, NULL, NF_INVERSE, 1, x, NULL, y, NULL, NULL, NULL, g);
        bool failed = fail_alloc_off();
        cr_assert_eq(alloc_live(), before);
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK);
        if (!failed)
            break;
    }
    nf_model_free(m);
}
