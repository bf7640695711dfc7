/* nf_joint beside what test_dists.c puts to every distribution: what its density is, where its parts begin from data,
   mixtures as parts, refusals. */
#include "support/expect.h"
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

static const double tolerance = sizeof(nf_real) == sizeof(float) ? 1e-5 : 1e-13;

/* N(h; 0, 1) N(z; m(h), e^2s) with a net that is affine: m = a h + b, s = c h + d. */
Test(joint, is_the_product_of_its_parts)
{
    nf_model *q = nf_model_of_dist(nf_joint(nf_normal(1), nf_conditional_normal(1, nf_mlp(1, 2, 0, NULL))), NULL);
    cr_assert_not_null(q, "%s", nf_error_message());
    const nf_real a = NF_R(0.7), b = NF_R(-0.4), c = NF_R(0.3), d = NF_R(-0.2);
    cr_assert_eq(nf_model_shape(q)->n_params, 4);
    memcpy(nf_model_theta(q), (nf_real[]){a, c, b, d}, 4 * sizeof a); /* W row by row, then the biases */
    cr_assert_eq(nf_model_update(q, NF_EVAL), NF_OK);
    for (int i = 0; i < 20; i++) {
        const double h = -2 + 0.21 * i, z = 1.5 - 0.17 * i, s = (double)c * h + (double)d;
        const double u = (z - (double)a * h - (double)b) * exp(-s);
        double log_p;
        cr_assert_eq(nf_log_prob(q, NULL, NULL, 1, (nf_real[]){(nf_real)h, (nf_real)z}, NULL, &log_p), NF_OK);
        cr_assert_float_eq(log_p, -0.5 * (h * h + u * u) - s - log(2 * M_PI), tolerance * 20);
    }
    nf_model_free(q);
}

static nf_dist *from_data(size_t dim)
{
    return nf_pushforward(nf_normal(dim), nf_actnorm(dim));
}

/* Both parts see their own features, also below a layer that all features go through first. */
Test(joint, parts_begin_from_data)
{
    enum { N = 500, H = 2, Z = 3, DIM = H + Z };
    nf_real *x = normals(3, N * DIM, 1);
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = NF_R(1.5) * (nf_real)(i % DIM + 1) * x[i] + (nf_real)(i % DIM) - 2;
    nf_model *q = nf_model_of_dist(nf_joint(from_data(H), from_data(Z)), &(nf_model_options){.n_init = N, .init_x = x});
    cr_assert_not_null(q, "%s", nf_error_message());
    nf_model *both = nf_model_of_dist(from_data(DIM), &(nf_model_options){.n_init = N, .init_x = x});
    cr_assert_not_null(both, "%s", nf_error_message());
    double joint[N], whole[N];
    cr_assert_eq(nf_log_prob(q, NULL, NULL, N, x, NULL, joint), NF_OK);
    cr_assert_eq(nf_log_prob(both, NULL, NULL, N, x, NULL, whole), NF_OK);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(joint[i], whole[i], tolerance * 100, "row %zu: %g, %g", i, joint[i], whole[i]);
    nf_model_free(q);
    nf_model_free(both);
    free(x);
}

/* Where the model draws, the second part begins from draws of the first as its context: y = exp(h) eps has other
   deviations than eps, which the actnorm of a posterior undoes. */
Test(joint, parts_begin_from_draws)
{
    enum { N = 4000 };
    nf_flow *rest[] = {nf_amortized_by_context(nf_affine(1)), nf_actnorm(1)};
    nf_model *q = nf_model_of_dist(nf_joint(nf_diagonal_normal(2), nf_pushforward(nf_normal(1), nf_chain(rest, 2))),
                                   &(nf_model_options){.n_init = N});
    cr_assert_not_null(q, "%s", nf_error_message());
    nf_real *x = calloc(N * 3, sizeof *x);
    cr_assert_eq(nf_sample(q, NULL, &(nf_noise){.seed = 5, .step = 9}, N, NULL, x, NULL), NF_OK, "%s",
                 nf_error_message());
    double sum = 0, squares = 0; /* eps exp(h_1) + h_0 has variance 1 + e^2 */
    for (size_t i = 0; i < N; i++) {
        sum += (double)x[3 * i + 2];
        squares += (double)x[3 * i + 2] * (double)x[3 * i + 2];
    }
    cr_assert_float_eq(sum / N, 0, 0.2);
    cr_assert_float_eq(squares / N, 1, 0.35, "variance %g", squares / N);
    free(x);
    nf_model_free(q);
}

/* A context that the first part starts well at is that of the whole, though the second part reads as many features. */
Test(joint, starts_at_the_context_of_the_first)
{
    nf_dist *q = nf_joint(nf_pushforward(nf_normal(2), nf_amortized_by_context(nf_shift(2))),
                          nf_pushforward(nf_normal(2), nf_amortized_by_context(nf_planar(2))));
    cr_assert_null(q); /* planar's 5 parameters are not 2 features */
    cr_assert_eq(nf_error_status(), NF_EDIM);
    nf_flow *planar = nf_on_context(nf_amortized_by_context(nf_planar(2)), 5, 0);
    q = nf_joint(nf_pushforward(nf_normal(2), planar),
                 nf_pushforward(nf_normal(5), nf_amortized_by_context(nf_shift(5))));
    cr_assert_null(q);
    q = nf_joint(nf_pushforward(nf_normal(2), nf_amortized_by_context(nf_planar(2))), nf_normal(1));
    cr_assert_not_null(q, "%s", nf_error_message());
    nf_real ctx[5] = {0}, wanted[5] = {0};
    nf_noise noise = {.seed = 4};
    cr_assert_eq(nf_start_context(nf_dist_object(q), &noise, ctx), NF_OK);
    noise.site += 1; /* the first part is the next node */
    cr_assert_eq(nf_start_context(nf_child(nf_dist_object(q), 0), &noise, wanted), NF_OK);
    cr_assert_arr_eq(ctx, wanted, sizeof ctx);
    nf_dist_free(q);
}

static int standard_normal(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)user;
    *log_p = -0.5 * (double)d * log(2 * M_PI);
    for (size_t i = 0; i < d; i++) {
        *log_p -= 0.5 * x[i] * x[i];
        if (grad)
            grad[i] = -x[i];
    }
    return 0;
}

/* A mixture may be the first part, whose components an ELBO takes in turn, but then not the second: taken in turn by
   the same draws, the components of both would meet in pairs. So the second draws at random, without a gradient. */
Test(joint, mixtures_as_parts)
{
    nf_target *target = nf_target_point_callback(2, standard_normal, NULL, NF_THREADSAFE);
    for (int second = 0; second < 2; second++) {
        nf_model *q = nf_model_of_dist(second ? nf_joint(nf_diagonal_normal(1), nf_mixture(1, 2))
                                              : nf_joint(nf_mixture(1, 2), nf_diagonal_normal(1)),
                                       &(nf_model_options){.seed = 3});
        nf_objective *o = nf_elbo(q, target, &(nf_elbo_options){.draws = 400});
        cr_assert_not_null(o, "%s", nf_error_message());
        nf_real *g = calloc(nf_model_shape(q)->n_params, sizeof *g);
        nf_step_report report;
        const nf_status status = nf_objective_gradient(o, NULL, 1, 1, &report, g);
        cr_assert_eq(status, second ? NF_EUNSUPPORTED : NF_OK, "%s", nf_error_message());
        free(g);
        nf_objective_free(o);
        nf_model_free(q);
    }
    nf_target_free(target);
}

Test(joint, refuses_what_does_not_fit)
{
    expect_none(nf_joint(NULL, nf_normal(2)), NF_EARG, "`first`");
    expect_none(nf_joint(nf_normal(2), NULL), NF_EARG, "`rest`");
    expect_none(nf_joint(nf_normal(3), nf_conditional_normal(1, nf_mlp(2, 2, 0, NULL))), NF_EDIM,
                "reads 2 features of context, but must read none or the 3 of `first`");
    expect_none(
        nf_joint(nf_conditional_normal(3, nf_mlp(2, 6, 0, NULL)), nf_conditional_normal(1, nf_mlp(4, 2, 0, NULL))),
        NF_EDIM, "`rest` reads 1 features of context beside the 3 of `first`, but the context has 2");
    expect_none(nf_joint(nf_normal(SIZE_MAX - 3), nf_normal(5)), NF_EARG, "features");
}
