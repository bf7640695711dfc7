/*
 * The models of the example `bayes`: gradients beside differences, and that each is the model of which posteriordb has
 * the reference draws. A density p that vanishes at infinity has E[d_i ln p] = 0 and E[x_j d_i ln p] = -[i = j]
 * (Stein's identity), so with 10000 draws a wrong prior, likelihood or Jacobian shows. Known evidence beside integrals
 * that are computed otherwise.
 */
#include "bayes_models.h"
#include "reference.h"
#include "numbers.h"
#include "temp_files.h"
#include <gsl/gsl_linalg.h>
#include <gsl/gsl_math.h>

static const char *folder(void)
{
    return getenv("NFLOW_DATA");
}

/* Whether the model's data are missing since there is no folder. */
static bool without_data(const bayes_model *m)
{
    return !folder() && (m->posterior || strcmp(m->name, "german_credit") == 0);
}

static nf_target *target_of(const bayes_model *m)
{
    nf_target *t = bayes_target(m, folder());
    cr_assert_not_null(t, "%s: %s", m->name, nf_error_message());
    return t;
}

static double *doubles(size_t n)
{
    double *v = calloc(n + 1, sizeof *v);
    cr_assert_not_null(v);
    return v;
}

/* Rows through the constraints, to be freed: numbers of R^d to the parameters' values (NF_FORWARD), or back. */
static double *through_constraints(const bayes_model *m, nf_direction direction, size_t n, const double *x)
{
    nf_model *map = nf_model_of_flow(bayes_constraints(m), NULL);
    nf_workspace *ws = nf_workspace_new(1);
    cr_assert(map && ws, "%s", nf_error_message());
    const nf_shape *shape = nf_model_shape(map);
    const size_t from = direction == NF_FORWARD ? shape->dim_in : shape->dim_out;
    const size_t to = direction == NF_FORWARD ? shape->dim_out : shape->dim_in;
    cr_assert_eq(shape->dim_out, bayes_numbers(m->parameters));
    nf_real *in = reals(n * from), *out = reals(n * to);
    double *y = doubles(n * to);
    for (size_t i = 0; i < n * from; i++)
        in[i] = (nf_real)x[i];
    cr_assert_eq(nf_transform(map, ws, NULL, direction, n, in, NULL, out, NULL), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < n * to; i++)
        y[i] = (double)out[i];
    free(in);
    free(out);
    nf_workspace_free(ws);
    nf_model_free(map);
    return y;
}

/* The parameters' values [n x bayes_numbers] of n of the reference draws, evenly spaced; to be freed. */
static double *reference_values(const bayes_model *m, size_t n)
{
    reference_draws r;
    cr_assert_eq(reference_read(&r, folder(), m->posterior), NF_OK, "%s", nf_error_message());
    nf_target *t = target_of(m);
    const size_t k = bayes_numbers(m->parameters), all = nf_target_n_outputs(t), step = r.n / n;
    double *y = doubles(n * all), *x = doubles(n * k);
    for (size_t j = 0, missing = 0; j < all; j++) {
        const size_t from = reference_column(&r, nf_target_output_name(t, j));
        missing += from == r.k;
        cr_assert(missing == 0 || m->solve, "%s: no reference draws of %s", m->name, nf_target_output_name(t, j));
        for (size_t i = 0; i < n && from < r.k; i++)
            y[i * all + j] = r.x[i * step * r.k + from];
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(x + i * k, y + i * all, k * sizeof *x);
        if (m->solve)
            m->solve(y + i * all + k, x + i * k);
    }
    nf_target_free(t);
    free(y);
    reference_free(&r);
    return x;
}

/* ---- gradients ---- */

/* Of the densities themselves: in nflowf constraints are computed in float, where differences say nothing. */
static void check_gradient(const bayes_model *m, size_t n, const double *x)
{
    /* the solver's steps are chosen anew at every point, so that differences of its results are rough */
    const double bound = strcmp(m->name, "lotka_volterra") == 0 ? 1e-3 : 1e-5;
    nf_target *t = bayes_density(m, folder());
    nf_target_report r;
    cr_assert_not_null(t, "%s: %s", m->name, nf_error_message());
    cr_assert_eq(nf_target_check(t, n, x, &r), NF_OK, "%s: %s", m->name, nf_error_message());
    cr_assert_eq(r.rejected, 0, "%s: %s", m->name, nf_target_rejection(t));
    cr_expect_lt(r.worst_error, bound, "%s: %g in coordinate %zu of point %zu", m->name, r.worst_error, r.column,
                 r.row);
    if (getenv("VERBOSE"))
        fprintf(stderr, "%s: %g\n", m->name, r.worst_error);
    nf_target_free(t);
}

Test(bayes, gradients)
{
    for (size_t i = 0; bayes_models[i]; i++) {
        const bayes_model *m = bayes_models[i];
        if (without_data(m))
            continue;
        nf_target *t = target_of(m);
        const size_t d = nf_target_dim(t), n = d > 500 ? 1 : 8;
        nf_real *z = normals(i + 1, n * d, 0.8);
        double *u = doubles(n * d);
        for (size_t j = 0; j < n * d; j++)
            u[j] = (double)z[j];
        double *x = through_constraints(m, NF_FORWARD, n, u);
        check_gradient(m, n, x);
        free(x);
        if (m->posterior) {
            x = reference_values(m, n);
            check_gradient(m, n, x);
            free(x);
        }
        free(u);
        free(z);
        nf_target_free(t);
    }
}

/* ---- the right model ---- */

/* Mean and standard error of products a_i b_i. */
static double z_score(size_t n, size_t d, const double *a, double centre, const double *b, double expected)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        const double v = (a ? a[i * d] - centre : 1) * b[i * d];
        sum += v;
        square += v * v;
    }
    const double mean = sum / (double)n, variance = square / (double)n - mean * mean;
    return (mean - expected) / sqrt(variance / (double)n);
}

static void stein(const bayes_model *m, size_t n)
{
    nf_target *t = target_of(m);
    const size_t d = nf_target_dim(t);
    double *values = reference_values(m, n), *x = through_constraints(m, NF_INVERSE, n, values);
    double *log_p = doubles(n), *g = doubles(n * d), worst = 0;
    cr_assert_eq(nf_target_eval(t, n, x, log_p, g, NULL), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < d; i++) {
        const double z = z_score(n, d, NULL, 0, g + i, 0);
        worst = fmax(worst, fabs(z));
        cr_expect_lt(fabs(z), 5, "%s: mean of d_%zu ln p is %.1f standard errors from 0", m->name, i, z);
        for (size_t j = 0; j < d; j++) {
            double centre = 0;
            for (size_t s = 0; s < n; s++)
                centre += x[s * d + j] / (double)n;
            const double both = z_score(n, d, x + j, centre, g + i, i == j ? -1 : 0);
            worst = fmax(worst, fabs(both));
            cr_expect_lt(fabs(both), 5, "%s: mean of x_%zu d_%zu ln p is off by %.1f standard errors", m->name, j, i,
                         both);
        }
    }
    if (getenv("VERBOSE"))
        fprintf(stderr, "%s: worst %.2f standard errors\n", m->name, worst);
    free(values);
    free(x);
    free(log_p);
    free(g);
    nf_target_free(t);
}

Test(bayes, reference_draws_follow_the_density)
{
    if (!folder())
        cr_skip("NFLOW_DATA is not set: there are no reference draws");
    size_t n = 0;
    for (size_t i = 0; bayes_models[i]; i++)
        if (bayes_models[i]->posterior) {
            const bool costly = strcmp(bayes_models[i]->name, "lotka_volterra") == 0;
            stein(bayes_models[i], NFLOW_THIN ? 500 : costly ? 2000 : 10000);
            n++;
        }
    cr_assert_eq(n, 13);
}
