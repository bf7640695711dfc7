/*
 * The models of the example `bayes`: gradients beside differences, and that each is the model of which posteriordb has
 * the reference draws. A density p that vanishes at infinity has E[d_i ln p] = 0 and E[x_j d_i ln p] = -[i = j]
 * (Stein's identity), so with 10000 draws a wrong prior, likelihood or Jacobian shows. Known evidence beside integrals
 * that are computed otherwise.
 */
#include "bayes_models.h"
#include "integral.h"
#include "priors.h"
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

static const bayes_model *model(const char *name)
{
    const bayes_model *m = bayes_find(name);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
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

/* ---- priors ---- */

enum { REAL, POSITIVE, FRACTION };
static const int support[] = {REAL, REAL, POSITIVE, POSITIVE, POSITIVE, POSITIVE, POSITIVE, FRACTION};
enum { N_PRIORS = sizeof support / sizeof *support };

static double prior(size_t which, double x, double *g)
{
    double unused = 0;
    switch (which) {
    case 0:
        return normal_log_p_all(x, 0.7, 1.9, g, &unused, &unused);
    case 1:
        return student_t_log_p(x, 3, 0.8, 1.7, g);
    case 2:
        return half_normal_log_p(x, 1.3, g);
    case 3:
        return half_student_t_log_p(x, 2.5, 0.6, g);
    case 4:
        return half_cauchy_log_p(x, 2.4, g);
    case 5:
        return lognormal_log_p(x, -0.7, 1.2, g);
    case 6:
        return gamma_log_p(x, 4.3, 2.2, g);
    default:
        return beta_log_p(x, 3.4, 2.6, g);
    }
}

/* In a coordinate u that is any number: x = sinh(u), exp(u) or 1 / (1 + exp(-u)). */
static double prior_of_u(const void *user, double u)
{
    const size_t which = *(const size_t *)user;
    const double x = support[which] == REAL ? sinh(u) : support[which] == POSITIVE ? exp(u) : 1 / (1 + exp(-u));
    double g = 0;
    return prior(which, x, &g) + log(support[which] == REAL       ? cosh(u)
                                     : support[which] == POSITIVE ? x
                                                                  : x / (1 + exp(u)));
}

Test(bayes, priors_are_normalised_and_have_their_derivatives)
{
    for (size_t which = 0; which < N_PRIORS; which++) {
        const double x = 0.37, step = 1e-5, log_z = log_integral(prior_of_u, &which, -30, 30);
        double g = 1.5, unused = 0;
        prior(which, x, &g);
        const double slope = (prior(which, x + step, &unused) - prior(which, x - step, &unused)) / (2 * step);
        cr_expect_float_eq(g, 1.5 + slope, 1e-8, "prior %zu: derivative %g, not %g", which, g - 1.5, slope);
        cr_expect_float_eq(log_z, 0, 1e-9, "prior %zu: its integral is exp(%g)", which, log_z);
    }
}

/* ---- the right model ---- */

/* How far the mean of (a_i - centre) b_i, or of b_i if a is NULL, is from what is expected, in standard errors. The
   numbers stand d apart. */
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
    double *log_p = doubles(n), *g = doubles(n * d);
    cr_assert_eq(nf_target_eval(t, n, x, log_p, g, NULL), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < d; i++) {
        const double z = z_score(n, d, NULL, 0, g + i, 0);
        cr_expect_lt(fabs(z), 5, "%s: mean of d_%zu ln p is %.1f standard errors from 0", m->name, i, z);
        for (size_t j = 0; j < d; j++) {
            double centre = 0;
            for (size_t s = 0; s < n; s++)
                centre += x[s * d + j] / (double)n;
            const double both = z_score(n, d, x + j, centre, g + i, i == j ? -1 : 0);
            cr_expect_lt(fabs(both), 5, "%s: mean of x_%zu d_%zu ln p is off by %.1f standard errors", m->name, j, i,
                         both);
        }
    }
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

/* ---- evidence ---- */

/* A [d x d] -> its Cholesky factor; returns ln det A. */
static double factorise(size_t d, double *A)
{
    gsl_matrix_view view = gsl_matrix_view_array(A, d, d);
    cr_assert_eq(gsl_linalg_cholesky_decomp1(&view.matrix), 0);
    double log_det = 0;
    for (size_t i = 0; i < d; i++)
        log_det += 2 * log(A[i * d + i]);
    return log_det;
}

/* y^T A^-1 y by A's Cholesky factor; y [d] is overwritten. */
static double square_by(size_t d, const double *factor, double *y)
{
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        for (size_t j = 0; j < i; j++)
            y[i] -= factor[i * d + j] * y[j];
        y[i] /= factor[i * d + i];
        sum += y[i] * y[i];
    }
    return sum;
}

/*
 * 1/Z is the posterior's mean of q(x) / (Z p(x)) for any density q (Gelfand & Dey 1994), here the normal density with
 * the draws' mean and 0.6 times their covariance, which is small where the posterior is. Beside log_z, in standard
 * errors.
 */
static void evidence_of_draws(const bayes_model *m, size_t n)
{
    nf_target *t = target_of(m);
    const size_t d = nf_target_dim(t);
    double *values = reference_values(m, n), *x = through_constraints(m, NF_INVERSE, n, values);
    double *log_p = doubles(n), *mean = doubles(d), *C = doubles(d * d), sum = 0, square = 0;
    const double log_z = bayes_log_z(m, folder());
    cr_assert_eq(nf_target_eval(t, n, x, log_p, NULL, NULL), NF_OK, "%s", nf_error_message());
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < d; i++)
            mean[i] += x[s * d + i] / (double)n;
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < d; j++)
                C[i * d + j] += 0.6 * (x[s * d + i] - mean[i]) * (x[s * d + j] - mean[j]) / (double)n;
    const double log_det = factorise(d, C);
    for (size_t s = 0; s < n; s++) {
        for (size_t i = 0; i < d; i++)
            x[s * d + i] -= mean[i];
        const double log_q = -0.5 * (square_by(d, C, x + s * d) + log_det + (double)d * log(2 * M_PI));
        const double ratio = exp(log_q - log_p[s] + log_z);
        sum += ratio / (double)n;
        square += ratio * ratio / (double)n;
    }
    const double se = sqrt((square - sum * sum) / (double)n);
    cr_expect_lt(fabs(sum - 1), 5 * se, "%s: Z is off by the factor %g +- %g", m->name, sum, se);
    cr_expect_lt(se, 0.15, "%s: the estimate's standard error is %g", m->name, se);
    free(values);
    free(x);
    free(log_p);
    free(mean);
    free(C);
    nf_target_free(t);
}

Test(bayes, evidence_of_the_posteriors)
{
    if (!folder())
        cr_skip("NFLOW_DATA is not set: there are no reference draws");
    size_t n = 0;
    for (size_t i = 0; bayes_models[i]; i++)
        if (bayes_models[i]->posterior && bayes_models[i]->log_z) {
            evidence_of_draws(bayes_models[i], 10000);
            n++;
        }
    cr_assert_eq(n, 7);
}

static double log_p_at(const nf_target *t, const double *x, double *g)
{
    double log_p;
    cr_assert_eq(nf_target_eval(t, 1, x, &log_p, g, NULL), NF_OK, "%s", nf_error_message());
    return log_p;
}

/* ln of the integral over the last d coordinates of a density that is normal in them, the others being `fixed` [k]: by
   the gradient at 0 and the Hessian, which is constant. */
static double normal_integral(const nf_target *t, size_t k, const double *fixed, size_t d)
{
    double *x = doubles(k + d), *g = doubles(k + d), *H = doubles(d * d), *first = doubles(d);
    for (size_t i = 0; i < k; i++)
        x[i] = fixed[i];
    const double top = log_p_at(t, x, g);
    memcpy(first, g + k, d * sizeof *g);
    for (size_t i = 0; i < d; i++) {
        x[k + i] = 1;
        log_p_at(t, x, g);
        x[k + i] = 0;
        for (size_t j = 0; j < d; j++)
            H[i * d + j] = first[j] - g[k + j];
    }
    const double log_det = factorise(d, H), square = square_by(d, H, first);
    free(x);
    free(g);
    free(H);
    free(first);
    return top + 0.5 * square - 0.5 * log_det + 0.5 * (double)d * log(2 * M_PI);
}

Test(bayes, integrals_of_normal_densities)
{
    static const char *const name[] = {"conjugate", "ill_conditioned"};
    for (size_t i = 0; i < 2; i++) {
        const bayes_model *m = model(name[i]);
        nf_target *t = bayes_density(m, NULL);
        const double log_z = normal_integral(t, 0, NULL, nf_target_dim(t));
        cr_expect_float_eq(log_z, bayes_log_z(m, NULL), 1e-8, "%s: %.12g, not %.12g", m->name, log_z,
                           bayes_log_z(m, NULL));
        nf_target_free(t);
    }
}

Test(bayes, the_funnel_is_normal_at_every_width)
{
    nf_target *t = bayes_density(model("funnel"), NULL);
    for (double v = -7.3; v < 8; v += 2.6) {
        const double log_p = normal_integral(t, 1, &v, 9), expected = -v * v / 18 - 0.5 * log(2 * M_PI * 9);
        cr_expect_float_eq(log_p, expected, 1e-9, "%.12g, not %.12g", log_p, expected);
    }
    nf_target_free(t);
}

/* ln of the integral over the plane, by the midpoint rule on [-a, a] x [-b, b] around (0, c) */
static double plane_integral(const nf_target *t, double a, double b, double c)
{
    enum { SIDE = 800 };
    double sum = 0;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            const double x[2] = {a * ((2 * i + 1.0) / SIDE - 1), c + b * ((2 * j + 1.0) / SIDE - 1)};
            sum += exp(log_p_at(t, x, NULL));
        }
    return log(sum * 4 * a * b / SIDE / SIDE);
}

Test(bayes, integrals_over_the_plane)
{
    nf_target *ring = bayes_density(model("ring"), NULL), *banana = bayes_density(model("banana"), NULL);
    const double expected = bayes_log_z(model("ring"), NULL);
    cr_expect_float_eq(plane_integral(ring, 5, 5, 0), expected, 1e-8);
    cr_expect_float_eq(plane_integral(banana, 65, 75, 65), 0, 1e-5); /* beyond 65 there is 8e-11 of it */
    nf_target_free(ring);
    nf_target_free(banana);
}

/* By the radius r = tan(a): the sphere's area 8 pi^2 / 3 r^4 times the density, over a in (0, pi / 2). */
Test(bayes, the_integral_of_t)
{
    enum { STEPS = 20000 };
    nf_target *t = bayes_density(model("student_t"), NULL);
    double sum = 0;
    for (int i = 0; i < STEPS; i++) {
        const double s = (i + 0.5) / STEPS, a = M_PI / 2 * (1 - s * s * s); /* dense at the far end */
        const double r = tan(a), x[5] = {0.6 * r, 0, -0.8 * r};
        sum += exp(log_p_at(t, x, NULL)) * pow(r, 4) * (1 + r * r) * M_PI / 2 * 3 * s * s / STEPS;
    }
    cr_expect_float_eq(8 * M_PI * M_PI / 3 * sum, 1, 1e-6, "%.9g", 8 * M_PI * M_PI / 3 * sum);
    nf_target_free(t);
}

/* Over mu and ln tau by the trapezoidal rule, over theta exactly: there the density is normal, coordinate by
   coordinate, with -d^2 ln p = 1 + 1 / tau^2. */
Test(bayes, evidence_of_the_hierarchical_normal)
{
    const bayes_model *m = model("hierarchical");
    nf_target *t = bayes_density(m, NULL);
    const size_t d = nf_target_dim(t);
    double *x = doubles(d), *g = doubles(d), sum = 0, log_z = bayes_log_z(m, NULL);
    const double step_mu = 0.012, step_tau = 0.03;
    for (int i = -20; i <= 20; i++)
        for (int j = -20; j <= 20; j++) {
            const double tau = 0.7 * exp(step_tau * j), precision = 1 + 1 / (tau * tau);
            double square = 0;
            memset(x, 0, d * sizeof *x);
            x[0] = 1 + step_mu * i;
            x[1] = tau;
            const double at_0 = log_p_at(t, x, g);
            for (size_t k = 2; k < d; k++)
                square += g[k] * g[k] / precision;
            sum += tau * exp(at_0 + 0.5 * square + 0.5 * (double)(d - 2) * log(2 * M_PI / precision) - log_z);
        }
    cr_expect_float_eq(sum * step_mu * step_tau, 1, 1e-5, "%.9g", sum * step_mu * step_tau);
    free(x);
    free(g);
    nf_target_free(t);
}

/* The centred density at theta = mu + tau eta is that of eta over tau^8. */
Test(bayes, both_forms_of_eight_schools)
{
    if (!folder())
        cr_skip("NFLOW_DATA is not set: there are no data");
    const bayes_model *m = model("eight_schools_noncentered");
    nf_target *eta = bayes_density(m, folder()), *theta = bayes_density(model("eight_schools_centered"), folder());
    const double x[10] = {0.3, -1.2, 0.7, 0, 2.1, -0.4, 0.9, 1.6, 4.7, 2.5};
    double y[10] = {[8] = x[8], [9] = x[9]};
    m->derive(x, y);
    cr_expect_float_eq(log_p_at(theta, y, NULL) + 8 * log(x[9]), log_p_at(eta, x, NULL), 1e-11);
    nf_target_free(eta);
    nf_target_free(theta);
}

/* ---- outputs and refusals ---- */

Test(bayes, outputs_have_the_names_of_posteriordb)
{
    if (!folder())
        cr_skip("NFLOW_DATA is not set: there are no reference draws");
    const bayes_model *m = model("eight_schools_noncentered");
    nf_target *t = target_of(m);
    cr_assert_eq(nf_target_dim(t), 10);
    cr_assert_eq(nf_target_n_outputs(t), 18);
    cr_assert_str_eq(nf_target_output_name(t, 1), "theta_trans.2");
    cr_assert_str_eq(nf_target_output_name(t, 9), "tau");
    cr_assert_str_eq(nf_target_output_name(t, 17), "theta.8");
    const double x[10] = {0.3, -1.2, 0.7, 0, 2.1, -0.4, 0.9, 1.6, 4.7, log(2.5)};
    double y[18];
    cr_assert_eq(nf_target_outputs(t, 1, x, y), NF_OK);
    for (size_t j = 0; j < 8; j++)
        cr_assert_float_eq(y[10 + j], 4.7 + 2.5 * x[j], 1e-5, "%g", y[10 + j]);
    nf_target_free(t);
}

static void refused(const bayes_model *m, const char *data, const char *words)
{
    nf_target *t = bayes_target(m, data);
    cr_assert_null(t);
    cr_expect(strstr(nf_error_message(), words), "\"%s\" does not say \"%s\"", nf_error_message(), words);
    cr_expect_null(strchr(nf_error_message(), '\n'));
    cr_expect(isnan(bayes_log_z(m, data)));
}

Test(bayes, data_that_are_missing)
{
    for (size_t i = 0; bayes_models[i]; i++) {
        const bayes_model *m = bayes_models[i];
        if (!m->posterior && strcmp(m->name, "german_credit") != 0)
            continue;
        refused(m, NULL, "no folder of data is given (NFLOW_DATA)");
        refused(m, "/nonexistent", "/nonexistent/");
    }
    reference_draws r;
    cr_expect_eq(reference_read(&r, NULL, "arK-arK"), NF_EARG);
    cr_expect_eq(reference_read(&r, "/nonexistent", "arK-arK"), NF_EIO);
    cr_expect_eq(reference_read(&r, "/nonexistent", NULL), NF_EARG);
    cr_expect_null(bayes_find("no such model"));
    cr_expect(strstr(nf_error_message(), "no such model"));
}

Test(bayes, data_that_are_wrong)
{
    static const char *const text[][2] = {
        {"{\"J\": 8, \"y\": [1, 2", "line 1"},
        {"[1, 2]", "has no `J`"},
        {"{\"J\": 9}", "`J` is not a whole number from 8 to 8"},
        {"{\"J\": 8.5}", "`J` is not a whole number"},
        {"{\"J\": 8, \"y\": [1, 2, 3, 4, 5, 6, 7]}", "`y` is not 8 finite numbers"},
        {"{\"J\": 8, \"y\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}", "`y` is not 8 finite numbers"},
        {"{\"J\": 8, \"y\": [1, 2, 3, 4, 5, 6, 7, \"8\"]}", "`y` is not 8 finite numbers"},
        {"{\"J\": 8, \"y\": [1, 2, 3, 4, 5, 6, 7, 8]}", "has no `sigma`"},
    };
    char root[64], sub[128], data[160], path[256];
    snprintf(root, sizeof root, "%s", temp_folder());
    snprintf(sub, sizeof sub, "%s/posteriordb", root);
    snprintf(data, sizeof data, "%s/data", sub);
    snprintf(path, sizeof path, "%s/eight_schools.json", data);
    cr_assert(mkdir(sub, 0700) == 0 && mkdir(data, 0700) == 0);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        file_write(path, text[i][0], strlen(text[i][0]));
        refused(model("eight_schools_centered"), root, text[i][1]);
        cr_expect(strstr(nf_error_message(), path), "%s", nf_error_message());
    }
    temp_remove(data);
    temp_remove(sub);
    temp_remove(root);
}

/* A predator that multiplies so fast that the path cannot be followed, and a covariance that is singular to rounding.
 */
Test(bayes, points_that_cannot_be_computed_are_rejected)
{
    if (!folder())
        cr_skip("NFLOW_DATA is not set: there are no data");
    static const double pelts[8] = {1, 0.05, 1, 1e9, 30, 4, 0.3, 0.3}, process[3] = {1e4, 3, 1e-300};
    static const char *const name[2] = {"lotka_volterra", "gp_regr"};
    static const char *const words[2] = {"the path cannot be followed", "not positive definite"};
    for (size_t i = 0; i < 2; i++) {
        nf_target *t = bayes_density(model(name[i]), folder());
        unsigned char rejected;
        double log_p, g[8];
        cr_assert_eq(nf_target_eval(t, 1, i ? process : pelts, &log_p, g, &rejected), NF_OK);
        cr_expect_eq(rejected, 1);
        cr_expect(strstr(nf_target_rejection(t), words[i]), "%s", nf_target_rejection(t));
        nf_target_free(t);
    }
}
