/* Affine flows with triangular and low-rank matrices: against the matrices of their descriptions, and fitted to normals
   of known covariance, where the divergence that is left is in closed form. */
#include "expect.h"
#include "support/numbers.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <gsl/gsl_linalg.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

enum { MAX_DIM = 20 };

/* An affine map as its images of 0 and the unit vectors: shift [dim], matrix [dim x dim]; the log-det. */
static double read_map(const nf_model *m, nf_direction d, size_t dim, double *shift, double *matrix)
{
    nf_real *e = calloc((dim + 1) * dim, sizeof *e), *y = calloc((dim + 1) * dim, sizeof *y);
    double *log_det = calloc(dim + 1, sizeof *log_det);
    for (size_t i = 0; i < dim; i++)
        e[(i + 1) * dim + i] = 1;
    cr_assert_eq(nf_transform(m, NULL, NULL, d, dim + 1, e, NULL, y, log_det), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < dim; i++) {
        shift[i] = (double)y[i];
        for (size_t j = 0; j < dim; j++)
            matrix[i * dim + j] = (double)y[(j + 1) * dim + i] - (double)y[i];
    }
    const double l = log_det[dim];
    free(e), free(y), free(log_det);
    return l;
}

/* out = a b^T, or a b */
static void product(size_t n, size_t inner, const double *a, const double *b, bool transposed, double *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            out[i * n + j] = 0;
            for (size_t k = 0; k < inner; k++)
                out[i * n + j] += a[i * inner + k] * (transposed ? b[j * inner + k] : b[k * n + j]);
        }
}

/* log|det a|, and a's inverse in place. */
static double invert(size_t n, double *a)
{
    gsl_permutation *p = gsl_permutation_alloc(n);
    gsl_matrix_view v = gsl_matrix_view_array(a, n, n);
    gsl_matrix *lu = gsl_matrix_alloc(n, n);
    int sign;
    gsl_matrix_memcpy(lu, &v.matrix);
    gsl_linalg_LU_decomp(lu, p, &sign);
    gsl_linalg_LU_invert(lu, p, &v.matrix);
    const double l = gsl_linalg_LU_lndet(lu);
    gsl_matrix_free(lu);
    gsl_permutation_free(p);
    return l;
}

/* ---- what they are ---- */

/* The description's matrix in double. */
static void full_matrix(size_t dim, const nf_real *theta, double *a)
{
    const nf_real *s = theta + dim, *l = theta + 2 * dim;
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j < dim; j++)
            a[i * dim + j] = j < i ? (double)*l++ : j == i ? exp((double)s[i]) : 0;
}

static void low_rank_matrix(size_t dim, size_t rank, const nf_real *theta, double *a)
{
    const nf_real *s = theta + dim, *W = theta + 2 * dim;
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j < dim; j++) {
            double sum = i == j;
            for (size_t k = 0; k < rank; k++)
                sum += (double)W[i * rank + k] * (double)W[j * rank + k];
            a[i * dim + j] = exp((double)s[i]) * sum;
        }
}

static void check_map(nf_flow *flow, size_t dim, size_t rank)
{
    nf_model *m = nf_model_of_flow(flow, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_real *theta = nf_model_theta(m);
    double shift[MAX_DIM], got[MAX_DIM * MAX_DIM], wanted[MAX_DIM * MAX_DIM], back[MAX_DIM];
    cr_assert_eq(nf_model_shape(m)->n_params, rank ? dim * (2 + rank) : dim * (dim + 3) / 2);
    draw(400 + dim + rank, nf_model_shape(m)->n_params, 0.3, theta);
    rank ? low_rank_matrix(dim, rank, theta, wanted) : full_matrix(dim, theta, wanted);
    const double l = read_map(m, NF_FORWARD, dim, shift, got);
    const double tolerance = 200 * rounding * (double)dim;
    for (size_t i = 0; i < dim; i++)
        near(shift[i], (double)theta[i], tolerance, "shift", i);
    for (size_t i = 0; i < dim * dim; i++)
        near(got[i], wanted[i], tolerance, "matrix", i);
    near(l, invert(dim, wanted), tolerance, "log-det", dim);
    near(read_map(m, NF_INVERSE, dim, back, got), -l, tolerance, "inverse's log-det", dim);
    for (size_t i = 0; i < dim * dim; i++)
        near(got[i], wanted[i], 10 * tolerance, "inverse's matrix", i);
    for (size_t i = 0; i < dim; i++) {
        double sum = 0;
        for (size_t j = 0; j < dim; j++)
            sum -= wanted[i * dim + j] * (double)theta[j];
        near(back[i], sum, 10 * tolerance, "inverse's shift", i);
    }
    nf_model_free(m);
}

Test(covariance, matrices_are_those_of_the_descriptions)
{
    static const size_t dims[] = {1, 2, 5, 17};
    for (size_t k = 0; k < 4; k++) {
        check_map(nf_full_affine(dims[k]), dims[k], 0);
        check_map(nf_low_rank_affine(dims[k], 1), dims[k], 1);
        check_map(nf_low_rank_affine(dims[k], dims[k]), dims[k], dims[k]);
        check_map(nf_low_rank_affine(dims[k], (dims[k] + 1) / 2), dims[k], (dims[k] + 1) / 2);
    }
}

/* Any D^2 + U U^T: W has V = D^-1 U's singular vectors, and w^2 = sqrt(1 + v^2) - 1. */
Test(covariance, low_rank_covers_every_factor_analysis)
{
    enum { DIM = 7, RANK = 3 };
    nf_real numbers[DIM + DIM * RANK];
    double D[DIM], U[DIM * RANK], V[DIM * RANK], right[RANK * RANK], v[RANK], work[RANK];
    draw(31, DIM + DIM * RANK, 0.8, numbers);
    for (size_t i = 0; i < DIM; i++) {
        D[i] = exp((double)numbers[i]);
        for (size_t k = 0; k < RANK; k++) {
            U[i * RANK + k] = 3 * (double)numbers[DIM + i * RANK + k];
            V[i * RANK + k] = U[i * RANK + k] / D[i];
        }
    }
    gsl_matrix_view left = gsl_matrix_view_array(V, DIM, RANK), r = gsl_matrix_view_array(right, RANK, RANK);
    gsl_vector_view values = gsl_vector_view_array(v, RANK), w = gsl_vector_view_array(work, RANK);
    gsl_linalg_SV_decomp(&left.matrix, &r.matrix, &values.vector, &w.vector);
    nf_model *m = nf_model_of_flow(nf_low_rank_affine(DIM, RANK), NULL);
    nf_real *theta = nf_model_theta(m);
    for (size_t i = 0; i < DIM; i++) {
        theta[DIM + i] = numbers[i];
        for (size_t k = 0; k < RANK; k++)
            theta[2 * DIM + i * RANK + k] = (nf_real)(V[i * RANK + k] * sqrt(sqrt(1 + v[k] * v[k]) - 1));
    }
    double shift[DIM], A[DIM * DIM], got[DIM * DIM], wanted[DIM * DIM];
    read_map(m, NF_FORWARD, DIM, shift, A);
    product(DIM, DIM, A, A, true, got);
    product(DIM, RANK, U, U, true, wanted);
    for (size_t i = 0; i < DIM * DIM; i++)
        near(got[i], wanted[i] + (i % (DIM + 1) ? 0 : D[i / DIM] * D[i / DIM]), 300 * rounding, "covariance", i);
    nf_model_free(m);
}

Test(covariance, begin_at_or_near_the_identity)
{
    enum { DIM = 20 };
    double shift[DIM], A[DIM * DIM];
    for (size_t rank = 0; rank <= 4; rank += 4) {
        nf_model *m = nf_model_of_flow(rank ? nf_low_rank_affine(DIM, rank) : nf_full_affine(DIM), NULL);
        const double l = read_map(m, NF_FORWARD, DIM, shift, A);
        double off = 0;
        for (size_t i = 0; i < DIM * DIM; i++)
            off = fmax(off, fabs(A[i] - (i % (DIM + 1) == 0)));
        cr_assert(rank ? off > 1e-5 && off < 0.05 && l > 0 && l < 0.2 : off == 0 && l == 0, "%g %g", off, l);
        nf_model_free(m);
    }
}

/* Scales whose squares or exponentials are out of range, where what comes out is not. */
Test(covariance, products_in_range_are_computed)
{
    const double s = sizeof(nf_real) == 8 ? 800 : 100, small = exp(-s / 2);
    for (size_t rank = 0; rank < 2; rank++) {
        nf_model *m = nf_model_of_flow(rank ? nf_low_rank_affine(2, 1) : nf_full_affine(2), NULL);
        memset(nf_model_theta(m), 0, nf_model_shape(m)->n_params * sizeof(nf_real));
        nf_model_theta(m)[2] = (nf_real)s;
        nf_real x[2] = {(nf_real)small, 3}, y[2], back[2];
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
        near(log((double)y[0]), s / 2, 100 * rounding, "log y", rank);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, y, NULL, back, NULL), NF_OK);
        near((double)back[0] / small, (double)x[0] / small, 1000 * rounding, "x", rank);
        nf_model_free(m);
    }
}

/* ---- fitted to normals ---- */

/* N(mean, covariance) in DIM dimensions. */
enum { DIM = 20 };
typedef struct gaussian {
    double mean[DIM], precision[DIM * DIM], log_det;
} gaussian;

static int gaussian_log_p(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                          unsigned char *rejected)
{
    (void)rejected;
    const gaussian *g = user;
    for (size_t s = 0; s < n; s++, x += d) {
        log_p[s] = 0;
        for (size_t i = 0; i < d; i++) {
            double sum = 0;
            for (size_t j = 0; j < d; j++)
                sum += g->precision[i * d + j] * (x[j] - g->mean[j]);
            log_p[s] -= 0.5 * sum * (x[i] - g->mean[i]);
            if (grad)
                grad[s * d + i] = -sum;
        }
    }
    return 0;
}

/* Covariance factor factor^T + diag(noise^2). */
static gaussian make_gaussian(size_t rank, const double *factor, double noise)
{
    gaussian g;
    nf_real mean[DIM];
    draw(92, DIM, 1.7, mean);
    product(DIM, rank, factor, factor, true, g.precision);
    for (size_t i = 0; i < DIM; i++) {
        g.mean[i] = (double)mean[i];
        g.precision[i * DIM + i] += noise * noise;
    }
    g.log_det = invert(DIM, g.precision);
    return g;
}

/* KL(q || p) of the flow's normal: (tr(P A A^T) + |mean difference|_P^2 - dim + log det covariances' ratio) / 2. */
static double divergence(const nf_model *q, const gaussian *p)
{
    double shift[DIM], A[DIM * DIM], S[DIM * DIM], sum = -DIM + p->log_det;
    sum -= 2 * read_map(q, NF_FORWARD, DIM, shift, A);
    product(DIM, DIM, A, A, true, S);
    for (size_t i = 0; i < DIM; i++)
        for (size_t j = 0; j < DIM; j++)
            sum += p->precision[i * DIM + j] * (S[i * DIM + j] + (shift[i] - p->mean[i]) * (shift[j] - p->mean[j]));
    return sum / 2;
}

static void fit(nf_flow *flow, gaussian *p, const char *what)
{
    /* Few draws bring it near; then many, at falling rates, average the noise out. */
    static const struct {
        size_t draws, steps;
        double rate, decay;
    } phase[] = {{128, 5000, 0.03, 0.96}, {4096, 900, 0.002, 0.75}};
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(DIM), flow), &(nf_model_options){.seed = 3});
    nf_target *target = nf_target_callback(DIM, gaussian_log_p, p, NF_THREADSAFE);
    cr_assert(q && target, "%s", nf_error_message());
    const double before = divergence(q, p);
    for (int k = 0; k < 2; k++) {
        nf_objective *o = nf_elbo(q, target, &(nf_elbo_options){.draws = phase[k].draws});
        const nf_fit_options options = {.steps = phase[k].steps,
                                        .rate = phase[k].rate,
                                        .seed = 8 + (uint64_t)k,
                                        .schedule = {.kind = NF_STAIRS, .from = 1, .to = phase[k].decay, .steps = 50},
                                        .threads = 1};
        cr_assert_eq(nf_fit(o, &options, NULL), NF_OK, "%s", nf_error_message());
        nf_objective_free(o);
    }
    const double after = divergence(q, p);
    cr_assert_gt(before, 1);
    cr_assert(after > -1e-6 && after < 1e-4, "%s: a divergence of %g is left of %g", what, after, before);
    nf_target_free(target);
    nf_model_free(q);
}

Test(covariance, a_chain_of_affine_layers_fits_any_normal, .disabled = NFLOW_THIN)
{
    nf_real numbers[DIM * DIM];
    double factor[DIM * DIM];
    draw(77, DIM * DIM, 0.25, numbers);
    for (size_t i = 0; i < DIM * DIM; i++)
        factor[i] = (double)numbers[i] + (i % (DIM + 1) ? 0 : 0.9);
    gaussian p = make_gaussian(DIM, factor, 0.3);
    fit(nf_chain((nf_flow *[]){nf_low_rank_affine(DIM, 2), nf_reverse(DIM), nf_full_affine(DIM), nf_actnorm(DIM)}, 4),
        &p, "chain");
}

Test(covariance, a_low_rank_layer_fits_factor_analysis, .disabled = NFLOW_THIN)
{
    enum { RANK = 3 };
    nf_real numbers[DIM * RANK];
    double factor[DIM * RANK];
    draw(78, DIM * RANK, 1.1, numbers);
    for (size_t i = 0; i < DIM * RANK; i++)
        factor[i] = (double)numbers[i];
    gaussian p = make_gaussian(RANK, factor, 0.73);
    fit(nf_low_rank_affine(DIM, RANK), &p, "low rank");
}

/* ---- refusals ---- */

/* Two columns in one direction, long ones: I + W^T W rounds to a singular matrix, but its pivots are 1 at least. */
Test(covariance, parallel_columns_leave_the_log_det_finite)
{
    const double size = sizeof(nf_real) == 8 ? 1e9 : 1e4;
    nf_model *m = nf_model_of_flow(nf_low_rank_affine(3, 2), NULL);
    nf_real x[3] = {NF_R(0.3), NF_R(-1.2), NF_R(0.7)}, y[3], back[3];
    double log_det;
    for (size_t i = 0; i < 3; i++)
        nf_model_theta(m)[6 + 2 * i] = nf_model_theta(m)[7 + 2 * i] = (nf_real)(size * (1 + (double)i / 3));
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
    const double most = log(1 + 2 * size * size * (1 + 16.0 / 9 + 25.0 / 9));
    cr_assert(log_det > 0.7 * most && log_det < 1.01 * most, "%g, not %g", log_det, most);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, y, NULL, back, &log_det), NF_OK);
    cr_assert(isfinite(log_det) && isfinite(back[0]) && isfinite(back[1]) && isfinite(back[2]));
    nf_model_free(m);
}

Test(covariance, bad_arguments_are_refused)
{
    expect_none(nf_full_affine(0), NF_EARG, "nf_full_affine: `dim` is 0");
    expect_none(nf_full_affine((size_t)1 << 33), NF_EARG, "nf_full_affine: `dim` is");
    expect_none(nf_low_rank_affine(0, 1), NF_EARG, "`dim` is 0");
    expect_none(nf_low_rank_affine(4, 0), NF_EARG, "`rank` is 0");
    expect_none(nf_low_rank_affine(4, 5), NF_EARG, "`dim` is 4 and `rank` is 5");
    expect_none(nf_full_affine(SIZE_MAX - 2), NF_EARG, "nf_full_affine: `dim` is");
    expect_none(nf_low_rank_affine(SIZE_MAX, SIZE_MAX - 1), NF_EARG, "nf_low_rank_affine: `dim` is");
}
