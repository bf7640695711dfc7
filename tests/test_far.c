/* Points far out, at edges and at exact equality, whose right values are known: what was found by use. */
#include "expect.h"
#include "score.h"
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>

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

/* At its centre the flow stretches by k = softplus(b) / e^a in every direction: log-det = dim log k, whose gradients in
   a and b are -dim and dim, also where the cotangent divided by k would overflow. */
Test(far, radial_gradients_at_a_narrow_centre)
{
    const bool single = sizeof(nf_real) == sizeof(float);
    const double cotangent = single ? 1e5 : 1e12;
    nf_real theta[] = {1, NF_R(-0.4), single ? 40 : 340, single ? -41 : -345}; /* log k = -81, -685 */
    nf_model *m = nf_model_of_flow(nf_radial(2), &(nf_model_options){.theta = theta});
    const nf_real gy[] = {0, 0}, g_log_det[] = {(nf_real)cotangent};
    nf_real gx[2], g[4] = {0};
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, theta, NULL, gy, g_log_det, gx, NULL, g), NF_OK);
    cr_assert_float_eq(g[2], -2 * cotangent, rounding * cotangent, "%g", (double)g[2]);
    cr_assert_float_eq(g[3], 2 * cotangent, 10 * rounding * cotangent, "%g", (double)g[3]);
    for (int i = 0; i < 2; i++)
        cr_assert(gx[i] == 0 && g[i] == 0, "%g, %g", (double)gx[i], (double)g[i]);
    nf_model_free(m);
}

/* Far from its centre y is x + beta e: the gradients are those of beta, softplus(b) - e^a. */
Test(far, radial_gradients_near_the_largest_number)
{
    nf_real theta[] = {0, 0, NF_R(0.3), NF_R(0.2)};
    nf_model *m = nf_model_of_flow(nf_radial(2), &(nf_model_options){.theta = theta});
    const nf_real x[] = {(nf_real)(0.7 * largest), 0}, gy[] = {NF_R(5.), NF_R(-2.)}, g_log_det[] = {1};
    nf_real gx[2], g[4] = {0};
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, x, NULL, gy, g_log_det, gx, NULL, g), NF_OK);
    cr_assert_float_eq(g[2], -5 * exp(0.3), 10 * rounding, "%g", (double)g[2]);
    cr_assert_float_eq(g[3], 5 / (1 + exp(-0.2)), 10 * rounding, "%g", (double)g[3]);
    cr_assert(gx[0] == gy[0] && gx[1] == gy[1], "%g, %g", (double)gx[0], (double)gx[1]);
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

/* ---- contexts ---- */

enum { CTX = 3, WIDE = 8 };
static const nf_recipe_options small = {
    .n_ctx = CTX, .n_layers = 2, .hidden = (size_t[]){6}, .n_hidden = 1, .last_scale = 1};

static nf_net *head(size_t out)
{
    return nf_mlp(CTX, out, 0, &(nf_mlp_options){.hidden = (size_t[]){6}, .n_hidden = 1, .last_scale = 1});
}
static nf_flow *gated(void)
{
    const unsigned char mask[] = {1, 0};
    return nf_coupling(2, mask, nf_spline(1, NULL),
                       nf_residual_mlp(1, 23, CTX, &(nf_residual_mlp_options){.width = 6, .last_scale = 1}));
}
static nf_flow *by_context(void)
{
    return nf_context_net(nf_amortized_by_context(nf_affine(2)), head(4));
}

/* A context beyond what nets read counts as that limit: scores are those at the limit, numbers or -infinity. */
Test(far, contexts_of_nets)
{
    const double limit = sizeof(nf_real) == sizeof(float) ? 0x1p60 : 0x1p500;
    nf_flow *const flows[] = {nf_realnvp(2, &small),
                              nf_maf(2, &small),
                              nf_iaf(2, &small),
                              nf_nsf_autoregressive(2, &small),
                              gated(),
                              by_context(),
                              nf_amortized(nf_full_affine(2), head(5)),
                              nf_coupling_by_context(2, (const unsigned char[]){0, 1},
                                                     nf_amortized_by_context(nf_planar(1)), nf_mlp(1, 3, CTX, NULL))};
    for (size_t k = 0; k < sizeof flows / sizeof *flows; k++) {
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), flows[k]), &(nf_model_options){.seed = 6});
        cr_assert_not_null(m, "flow %zu: %s", k, nf_error_message());
        for (int signs = 0; signs < 1 << CTX; signs++) {
            const nf_real x[] = {NF_R(0.4), NF_R(-0.7), NF_R(0.4), NF_R(-0.7)};
            nf_real ctx[2 * CTX], y[2][4];
            double log_p[2], log_det[2];
            for (int i = 0; i < CTX; i++) {
                ctx[i] = (nf_real)(signs >> i & 1 ? -limit : limit);
                ctx[CTX + i] = (nf_real)(signs >> i & 1 ? -largest : largest);
            }
            cr_assert_eq(nf_log_prob(m, NULL, NULL, 2, x, ctx, log_p), NF_OK, "%s", nf_error_message());
            cr_assert(log_p[0] == log_p[1] && log_p[1] < INFINITY, "flow %zu, %d: %g, %g", k, signs, log_p[0],
                      log_p[1]);
            for (int d = 0; d < 2; d++) {
                cr_assert_eq(nf_transform(m, NULL, NULL, (nf_direction)d, 2, x, ctx, y[d], log_det), NF_OK);
                cr_assert(isfinite(log_det[1]) && log_det[0] == log_det[1], "flow %zu, %d: log-det %g", k, d,
                          log_det[1]);
                for (int i = 0; i < 2; i++)
                    cr_assert(y[d][i] == y[d][2 + i], "flow %zu, %d: %g, %g", k, d, (double)y[d][i],
                              (double)y[d][2 + i]);
            }
        }
        nf_model_free(m);
    }
}

/* Where the context gives the parameters themselves of a layer that forms no products of them, too: never NaN, and no
   density above all numbers. */
Test(far, contexts_that_are_parameters)
{
    nf_flow *const flows[] = {nf_affine(2),
                              nf_shift(2),
                              nf_spline(2, NULL),
                              nf_full_affine(2),
                              nf_radial(2),
                              nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH}),
                              nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_SIGMOID}),
                              nf_scaled_affine(2, &(nf_scaled_affine_options){.scale = NF_SCALE_SOFTPLUS})};
    for (size_t k = 0; k < sizeof flows / sizeof *flows; k++) {
        const size_t n = nf_flow_shape(flows[k])->n_params;
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), nf_amortized_by_context(flows[k])), NULL);
        nf_real *ctx = calloc(n, sizeof *ctx);
        for (unsigned draw = 0; draw < 200; draw++) {
            const nf_real x[] = {NF_R(0.4), NF_R(-0.7)};
            nf_real y[2];
            double log_p, log_det;
            for (size_t i = 0; i < n; i++) {
                const unsigned h = (unsigned)(i + n * draw) * 2654435761u >> 13;
                ctx[i] = (nf_real)(h % 3 == 0 ? 0.3 * largest : h % 3 == 1 ? -0.3 * largest : 0.3);
            }
            cr_expect_eq(nf_log_prob(m, NULL, NULL, 1, x, ctx, &log_p), NF_OK, "%s", nf_error_message());
            cr_expect(log_p < INFINITY, "flow %zu, draw %u: %g", k, draw, log_p);
            for (int d = 0; d < 2; d++) {
                cr_expect_eq(nf_transform(m, NULL, NULL, (nf_direction)d, 1, x, ctx, y, &log_det), NF_OK);
                cr_expect(!isnan(log_det) && !isnan(y[0]) && !isnan(y[1]), "flow %zu, %d: (%g, %g), %g", k, d,
                          (double)y[0], (double)y[1], log_det);
            }
        }
        free(ctx);
        nf_model_free(m);
    }
}
