/* Points far out, at edges and at exact equality, whose right values are known: what was found by use. */
#include "expect.h"
#include "score.h"
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <nflow/nflow.h>

#ifdef NF_SINGLE
static const double rounding = 2e-6, largest = FLT_MAX, smallest = FLT_MIN;
#else
static const double rounding = 1e-13, largest = DBL_MAX, smallest = DBL_MIN;
#endif

static void transform(nf_model *m, nf_direction d, const nf_real *x, nf_real *y, double *log_det)
{
    cr_assert_eq(nf_transform(m, NULL, NULL, d, 1, x, NULL, y, log_det), NF_OK, "%s", nf_error_message());
}

/* Outside the set, a row with a diagonal that is not positive and entries of any size has density 0, not NaN. */
Test(far, correlation_factor_outside_its_set)
{
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(1), nf_cholesky_corr(2)), NULL);
    const double entries[] = {0.3, 1, 4e18, -4e18, 1e30, 0.1 * largest, largest};
    for (size_t k = 0; k < sizeof entries / sizeof *entries; k++)
        for (int sign = -1; sign <= 0; sign++) {
            const nf_real L[] = {1, (nf_real)entries[k], 0, NF_R(0.7) * (nf_real)sign};
            const double log_p = score(m, L);
            cr_assert(sign ? log_p == -INFINITY : !isnan(log_p) && log_p < INFINITY, "%g, %g: %g", entries[k],
                      (double)L[3], log_p);
        }
    nf_model_free(m);
}

/* Far out the radial flow is nearly the identity: its inverse gives back the point and a log-det of 0. */
Test(far, radial_near_the_largest_number)
{
    nf_model *m = nf_model_of_flow(nf_radial(2), &(nf_model_options){.seed = 3});
    for (double size = 1e30; size < largest; size *= 1.7) {
        const nf_real y[] = {(nf_real)(0.98 * size), 0};
        nf_real x[2];
        double log_det;
        for (int d = 0; d < 2; d++) {
            transform(m, (nf_direction)d, y, x, &log_det);
            cr_assert_float_eq(x[0] / y[0], 1, 10 * rounding, "%g becomes %g", (double)y[0], (double)x[0]);
            cr_assert_float_eq(log_det, 0, 10 * rounding);
        }
    }
    nf_model_free(m);
}

/* Scored where its inverse overflows, a soft-log layer above others gives density 0; nearer, the right number. */
Test(far, soft_log_above_other_layers)
{
    nf_flow *f[] = {nf_affine(2), nf_planar(2), nf_lu_linear(2, 3), nf_radial(2), nf_soft_log(2, NULL)};
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), nf_chain(f, 5)), &(nf_model_options){.seed = 5});
    const double far[] = {100, 185, 850, 1e5, 1e15, 0.01 * largest};
    for (size_t k = 0; k < 6; k++) {
        const nf_real y[] = {(nf_real)far[k], (nf_real)(-0.3 * far[k])};
        const double log_p = score(m, y);
        cr_assert(k == 0 ? isfinite(log_p) : log_p < -1e20, "at %g: %g", far[k], log_p);
    }
    nf_model_free(m);
}

/* A gradient of the layer on ordinary points raises no floating-point exception but inexactness. */
Test(far, soft_log_raises_no_exceptions)
{
    nf_model *m = nf_model_of_flow(nf_soft_log(2, NULL), NULL);
    const nf_real x[] = {NF_R(0.3), NF_R(-850.), NF_R(120.), NF_R(2000.)}, gy[] = {1, 0, 0, NF_R(0.)};
    const nf_real g_log_det[] = {NF_R(0.5), 1};
    nf_real gx[4];
    for (int d = 0; d < 2; d++) {
        feclearexcept(FE_ALL_EXCEPT);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, (nf_direction)d, 2, x, NULL, gy, g_log_det, gx, NULL, NULL),
                     NF_OK);
        cr_assert_eq(fetestexcept(FE_INVALID | FE_DIVBYZERO), 0, "direction %d", d);
        for (int i = 0; i < 4; i++)
            cr_assert(isfinite(gx[i]));
    }
    nf_model_free(m);
}

/* Entries of simplexes never become 0, so that a Dirichlet's logarithm is finite. */
Test(far, simplex_entries_are_positive)
{
    for (int form = 0; form < 2; form++) {
        nf_model *m = nf_model_of_flow(form ? nf_simplex_ilr(3) : nf_simplex_stick(3), NULL);
        const nf_real x[][2] = {{-100, 0}, {100, 0}, {0, -2000}, {-3000, 3000}, {900, 900}};
        for (size_t k = 0; k < 5; k++) {
            nf_real y[3];
            double log_det, sum = 0;
            transform(m, NF_FORWARD, x[k], y, &log_det);
            for (int i = 0; i < 3; i++) {
                cr_assert_geq((double)y[i], smallest, "entry %d is %g", i, (double)y[i]);
                sum += (double)y[i];
            }
            cr_assert_float_eq(sum, 1, rounding);
            cr_assert(isfinite(log_det));
        }
        nf_model_free(m);
    }
}

/* Their inverses read ratios: a multiple of a point is that point. */
Test(far, simplexes_read_ratios)
{
    for (int form = 0; form < 2; form++) {
        nf_model *m = nf_model_of_flow(form ? nf_simplex_ilr(3) : nf_simplex_stick(3), NULL);
        const double weights[] = {0.5, 0.6, 0.3};
        nf_real y[2][3], x[2][2];
        double log_det[2];
        for (int k = 0; k < 2; k++) {
            for (int i = 0; i < 3; i++)
                y[k][i] = (nf_real)(weights[i] / (k ? 1.4 : 1));
            transform(m, NF_INVERSE, y[k], x[k], &log_det[k]);
        }
        for (int i = 0; i < 2; i++)
            cr_assert_float_eq(x[0][i], x[1][i], 10 * rounding);
        cr_assert(isfinite(log_det[0]) && isfinite(log_det[1]));
        nf_model_free(m);
    }
}

/* Where a decoder's mean hits the data exactly, the loss of a row is its log-scale plus log(2 pi) / 2, however small
   the scale is. */
Test(far, gaussian_likelihood_of_an_exact_mean)
{
    const double scales[] = {0, -5, -88, -100, -600, -800};
    for (size_t k = 0; k < sizeof scales / sizeof *scales; k++) {
        nf_net *encoder = nf_mlp(1, 2, 0, NULL), *decoder = nf_mlp(1, 2, 0, NULL);
        nf_model *m = nf_model_of_vae(nf_vae_new(encoder, nf_diagonal_posterior(1), decoder, NF_GAUSSIAN), NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        nf_real *theta = nf_model_theta(m);
        const size_t n = nf_model_shape(m)->n_params;
        for (size_t i = 0; i < n; i++)
            theta[i] = 0; /* the posterior is the prior, the mean is 0 */
        theta[n - 1] = (nf_real)scales[k];
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        const nf_real x[] = {0, 0};
        const nf_data data = {.n = 2, .dim = 1, .x = x};
        nf_objective *o = nf_vae_elbo(m, &data, NULL);
        nf_step_report r;
        nf_real *g = calloc(n, sizeof *g);
        cr_assert_eq(nf_objective_gradient(o, NULL, 1, 1, &r, g), NF_OK, "%s", nf_error_message());
        cr_assert_eq(r.failed, 0);
        cr_assert_float_eq(r.loss, scales[k] + 0.5 * log(2 * acos(-1)), rounding * (1 - scales[k]), "%g: %g", scales[k],
                           r.loss);
        cr_assert_float_eq(g[n - 1], 1, rounding);
        free(g);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* Data whose variance no nf_real holds leave statistics that are numbers, and later data move them back. */
Test(far, batch_norm_of_huge_data)
{
    nf_real x[64];
    const double size = sqrt(largest) * 8;
    for (size_t i = 0; i < 64; i++)
        x[i] = (nf_real)(i % 2 ? size : -size);
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(1), nf_batch_norm(1, NULL)), NULL);
    const nf_data data = {.n = 64, .dim = 1, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, NULL);
    for (uint64_t step = 0; step < 1200; step++) {
        nf_step_report r;
        cr_assert_eq(nf_objective_gradient(o, NULL, 1, step, &r, nf_model_theta(m)), NF_OK, "%s", nf_error_message());
        cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
        for (size_t i = 0; i < nf_model_shape(m)->n_state; i++)
            cr_assert(isfinite(nf_model_state(m)[i]), "state %zu after step %d", i, (int)step);
        for (size_t i = 0; step == 9 && i < 64; i++)
            x[i] = (nf_real)(i % 2 ? 3 : -1);
    }
    cr_assert_float_eq(nf_model_state(m)[0], 1, 1e-3);
    cr_assert_float_eq(nf_model_state(m)[1], 4, 1e-2, "variance %g", (double)nf_model_state(m)[1]);
    nf_objective_free(o);
    nf_model_free(m);
}
