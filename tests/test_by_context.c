/* Flows that a net steers by their context: nf_coupling_by_context, nf_autoregressive_by_context, nf_context_net. What
   they compute, how they start, with and without data, and what they refuse. Gradients, log-dets, files and the rest of
   a flow's properties: tests/conformance. */
#include "expect.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

enum { N = 40, DIM = 5, CTX = 2 };
static const unsigned char mask[DIM] = {0, 1, 1, 0, 1};

static nf_net *perceptron(size_t in, size_t out, size_t n_ctx, double last_scale)
{
    return nf_mlp(
        in, out, n_ctx,
        &(nf_mlp_options){.hidden = (size_t[]){9}, .n_hidden = 1, .activation = NF_TANH, .last_scale = last_scale});
}

static nf_net *masked(size_t per_dim, double last_scale)
{
    return nf_masked_net(
        DIM, per_dim, CTX,
        &(nf_masked_options){.hidden = (size_t[]){11}, .n_hidden = 1, .activation = NF_TANH, .last_scale = last_scale});
}

static void draw(uint64_t seed, size_t count, double scale, double shift, nf_real *v)
{
    nf_noise_normal(&(nf_noise){.seed = seed}, count, 1, 1, v);
    for (size_t i = 0; i < count; i++)
        v[i] = (nf_real)(scale * (double)v[i] + shift);
}

/* ---- the two ways are one where the transform has no numbers of its own ---- */

/* Values and gradients of two flows with as many parameters, both directions, at the same numbers: bit for bit. */
static void same(nf_flow *one, nf_flow *other)
{
    nf_model *m[2] = {nf_model_of_flow(one, &(nf_model_options){.seed = 3}), nf_model_of_flow(other, NULL)};
    cr_assert(m[0] && m[1], "%s", nf_error_message());
    const size_t n_params = nf_model_shape(m[0])->n_params, n_ctx = nf_model_shape(m[0])->n_ctx;
    cr_assert_eq(nf_model_shape(m[1])->n_params, n_params);
    cr_assert_eq(nf_model_shape(m[1])->n_ctx, n_ctx);
    memcpy(nf_model_theta(m[1]), nf_model_theta(m[0]), n_params * sizeof(nf_real));
    static nf_real x[N * DIM], gy[N * DIM], ctx[N * CTX], y[2][N * DIM], gx[2][N * DIM], g_ctx[2][N * CTX], g[2][4000];
    double log_det[2][N];
    cr_assert_lt(n_params, 4000);
    draw(5, N * DIM, 1, 0, x);
    draw(6, N * DIM, 1, 0, gy);
    draw(7, N * CTX, 1, 0, ctx);
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        memset(g, 0, sizeof g);
        for (int k = 0; k < 2; k++) {
            cr_assert_eq(nf_model_update(m[k], NF_EVAL), NF_OK);
            cr_assert_eq(nf_transform(m[k], NULL, NULL, d, N, x, ctx, y[k], log_det[k]), NF_OK);
            cr_assert_eq(nf_transform_vjp(m[k], NULL, NULL, d, N, x, ctx, gy, NULL, gx[k], g_ctx[k], g[k]), NF_OK);
        }
        cr_assert_arr_eq(y[0], y[1], sizeof y[0]);
        cr_assert_arr_eq(log_det[0], log_det[1], sizeof log_det[0]);
        cr_assert_arr_eq(gx[0], gx[1], sizeof gx[0]);
        cr_assert_arr_eq(g_ctx[0], g_ctx[1], n_ctx * N * sizeof(nf_real));
        cr_assert_arr_eq(g[0], g[1], n_params * sizeof(nf_real));
    }
    nf_model_free(m[0]);
    nf_model_free(m[1]);
}

Test(by_context, parameters_as_context_are_the_ordinary_way)
{
    same(nf_coupling(DIM, mask, nf_planar(3), perceptron(2, 7, CTX, 1)),
         nf_coupling_by_context(DIM, mask, nf_amortized_by_context(nf_planar(3)), perceptron(2, 7, CTX, 1)));
    same(nf_autoregressive(nf_affine(1), masked(2, 0.3), NULL, NF_INVERSE),
         nf_autoregressive_by_context(nf_amortized_by_context(nf_affine(1)), masked(2, 0.3), NULL, NF_INVERSE));
    same(nf_amortized(nf_radial(DIM), perceptron(CTX, DIM + 2, 0, 1)),
         nf_context_net(nf_amortized_by_context(nf_radial(DIM)), perceptron(CTX, DIM + 2, 0, 1)));
}

/* ---- how they start ---- */

/* A flow with numbers of its own that reads planar's parameters as context. */
static nf_flow *planar_reader(size_t dim)
{
    return nf_chain((nf_flow *[]){nf_lu_linear(dim, 9), nf_amortized_by_context(nf_planar(dim))}, 2);
}

/* With a last layer of zeros the net gives its biases: the context at which planar starts, not zeros. */
Test(by_context, the_net_starts_at_the_start_context)
{
    nf_flow *flows[] = {nf_coupling_by_context(DIM, mask, planar_reader(3), perceptron(2, 7, CTX, -1)),
                        nf_context_net(planar_reader(3), perceptron(CTX, 7, 0, -1)),
                        nf_autoregressive_by_context(planar_reader(1), masked(3, -1), NULL, NF_FORWARD)};
    for (size_t k = 0; k < 3; k++) {
        const size_t of_a_planar = k == 2 ? 3 : 7, copies = k == 2 ? DIM : 1;
        nf_model *m = nf_model_of_flow(flows[k], &(nf_model_options){.seed = 12});
        cr_assert_not_null(m, "%s", nf_error_message());
        const nf_shape *s = nf_model_shape(m);
        const nf_real *bias = nf_model_theta(m) + s->n_params - of_a_planar * copies;
        double w = 0;
        for (size_t i = 0; i < of_a_planar / 2; i++)
            w += (double)bias[i] * (double)bias[i];
        cr_assert_float_eq(w, 1, 20 * rounding, "flow %zu: |w|^2 = %g", k, w); /* a random unit vector */
        for (size_t c = 1; c < copies; c++)
            cr_assert_arr_eq(bias, bias + c * of_a_planar, of_a_planar * sizeof *bias);
        /* what the node itself reads goes into the net alone */
        nf_real start[CTX] = {1, 1};
        cr_assert_eq(s->n_ctx, CTX);
        cr_assert_eq(nf_start_context(nf_model_object(m), &(nf_noise){.seed = 12}, start), NF_OK);
        cr_assert(start[0] == 0 && start[1] == 0);
        nf_model_free(m);
    }
}

/* The walk must not take the transform's context for the node's, though both have as many features. */
Test(by_context, the_start_context_is_not_the_transforms)
{
    nf_flow *f = nf_context_net(nf_amortized_by_context(nf_planar(2)), perceptron(5, 5, 0, 1));
    nf_real start[5] = {1, 1, 1, 1, 1};
    cr_assert_eq(nf_start_context(nf_flow_object(f), &(nf_noise){.seed = 1}, start), NF_OK);
    for (size_t i = 0; i < 5; i++)
        cr_assert_eq(start[i], 0);
    nf_flow_free(f);
}

/* In inverse a reader's amortised affine part comes first, then its actnorm, which sees what that part makes of the
   features and of the net's output. */
static nf_flow *normalising_reader(size_t dim)
{
    return nf_chain((nf_flow *[]){nf_actnorm(dim), nf_amortized(nf_affine(dim), perceptron(3, 2 * dim, 0, 1))}, 2);
}

/* The mean and the deviation of `count` numbers, `step` apart. */
static void is_normalised(size_t count, size_t step, const nf_real *x, const char *what)
{
    double mean = 0, square = 0;
    for (size_t i = 0; i < count; i++)
        mean += (double)x[i * step] / (double)count;
    for (size_t i = 0; i < count; i++)
        square += ((double)x[i * step] - mean) * ((double)x[i * step] - mean) / (double)count;
    cr_assert_float_eq(mean, 0, 1e3 * rounding, "%s: mean %g", what, mean);
    cr_assert_float_eq(square, 1, 1e3 * rounding, "%s: variance %g", what, square);
}

Test(by_context, layers_that_begin_from_data_see_them)
{
    static nf_real x[N * DIM], ctx[N * CTX], y[N * DIM];
    draw(21, N * DIM, 2.7, -1.3, x);
    draw(22, N * CTX, 1, 0, ctx);
    const nf_model_options options = {.seed = 31, .n_init = N, .init_x = x, .init_ctx = ctx};
    nf_model *m =
        nf_model_of_flow(nf_coupling_by_context(DIM, mask, normalising_reader(3), perceptron(2, 3, CTX, 1)), &options);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, x, ctx, y, NULL), NF_OK);
    for (size_t i = 0; i < DIM; i++)
        if (mask[i])
            is_normalised(N, DIM, y + i, "coupling");
    nf_model_free(m);

    m = nf_model_of_flow(nf_context_net(normalising_reader(DIM), perceptron(CTX, 3, 0, 1)), &options);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, x, ctx, y, NULL), NF_OK);
    for (size_t i = 0; i < DIM; i++)
        is_normalised(N, DIM, y + i, "context net");
    nf_model_free(m);

    /* all dimensions share the transform; with a last layer of zeros the net's output is what was assumed */
    for (nf_direction parallel = NF_FORWARD; parallel <= NF_INVERSE; parallel++) {
        m = nf_model_of_flow(nf_autoregressive_by_context(normalising_reader(1), masked(3, -1), NULL, parallel),
                             &options);
        cr_assert_not_null(m, "%s", nf_error_message());
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, x, ctx, y, NULL), NF_OK);
        is_normalised(N * DIM, 1, y, "autoregressive");
        nf_model_free(m);
    }
}

/* ---- refusals ---- */

Test(by_context, refuses_what_does_not_fit)
{
    const size_t live = alloc_live();
    const nf_batch_norm_options *none = NULL;
    expect_none(nf_coupling_by_context(DIM, mask, nf_affine(3), perceptron(2, 6, 0, 1)), NF_EDIM, "reads no context");
    expect_none(nf_coupling_by_context(DIM, mask, planar_reader(3), perceptron(2, 6, 0, 1)), NF_EDIM,
                "7 features of context");
    expect_none(nf_coupling_by_context(DIM, mask, planar_reader(2), perceptron(3, 5, 0, 1)), NF_EDIM, "takes 2");
    expect_none(nf_coupling_by_context(DIM, NULL, planar_reader(3), perceptron(2, 7, 0, 1)), NF_EARG,
                "nf_coupling_by_context: `mask`");
    expect_none(nf_context_net(nf_affine(3), perceptron(2, 6, 0, 1)), NF_EDIM, "reads no context");
    expect_none(nf_context_net(planar_reader(3), perceptron(2, 6, 0, 1)), NF_EDIM, "reads 7 features");
    expect_none(nf_context_net(planar_reader(3), perceptron(2, 7, 1, 1)), NF_EDIM, "1 of context");
    expect_none(nf_context_net(planar_reader(3), perceptron(0, 7, 1, 1)), NF_EDIM, "takes 0 features");
    expect_none(nf_autoregressive_by_context(nf_affine(1), masked(2, 1), NULL, NF_FORWARD), NF_EDIM,
                "reads no context");
    expect_none(nf_autoregressive_by_context(planar_reader(2), masked(5, 1), NULL, NF_FORWARD), NF_EDIM, "must have 1");
    expect_none(nf_autoregressive_by_context(planar_reader(1), masked(2, 1), NULL, NF_FORWARD), NF_EDIM,
                "3 features of context");
    expect_none(nf_autoregressive_by_context(planar_reader(1), perceptron(5, 15, 0, 1), NULL, NF_FORWARD), NF_EARG,
                "must be a masked net");
    expect_none(nf_autoregressive_by_context(nf_chain((nf_flow *[]){nf_batch_norm(1, none), planar_reader(1)}, 2),
                                             masked(3, 1), NULL, NF_FORWARD),
                NF_EUNSUPPORTED, "state");
    expect_none(nf_autoregressive_by_context(planar_reader(1), masked(3, 1), (size_t[]){0, 1, 2, 3, 3}, NF_FORWARD),
                NF_EARG, "not a permutation");
    expect_none(nf_coupling_by_context(DIM, mask, nf_planar(0), perceptron(2, 7, 0, 1)), NF_EARG, "nf_planar");
    cr_assert_eq(alloc_live(), live);
}

/* Each is built from data and differentiated with the k-th allocation failing: an error, no leak. */
static nf_status build_and_run(size_t which)
{
    nf_real x[2 * DIM] = {NF_R(0.3), NF_R(-1.2), NF_R(0.7), NF_R(1.9), NF_R(0.2)}, ctx[2 * CTX] = {NF_R(0.4)},
                  g[2 * DIM];
    nf_flow *f = which == 0   ? nf_coupling_by_context(DIM, mask, normalising_reader(3), perceptron(2, 3, CTX, 1))
                 : which == 1 ? nf_autoregressive_by_context(normalising_reader(1), masked(3, 1), NULL, NF_INVERSE)
                              : nf_context_net(normalising_reader(DIM), perceptron(CTX, 3, 0, 1));
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.n_init = 2, .init_x = x, .init_ctx = ctx});
    nf_status status = m ? NF_OK : nf_error_status();
    if (m)
        status = nf_transform_vjp(m, NULL, NULL, NF_INVERSE, 2, x, ctx, x, NULL, g, NULL, NULL);
    nf_model_free(m);
    return status;
}

Test(by_context, survives_failing_allocations)
{
    for (size_t which = 0; which < 3; which++)
        for (size_t k = 0;; k++) {
            const size_t before = alloc_live();
            fail_alloc_after(k);
            const nf_status status = build_and_run(which);
            const bool failed = fail_alloc_off();
            cr_assert_eq(alloc_live(), before, "flow %zu, allocation %zu", which, k);
            if (!failed) {
                cr_assert_eq(status, NF_OK, "%s", nf_error_message());
                cr_assert_gt(k, 10);
                break;
            }
            cr_assert_eq(status, NF_ENOMEM, "flow %zu, allocation %zu: %s", which, k, nf_error_message());
        }
}
