/* Masked nets and autoregressive flows: what depends on what, the inverse in one pass against the one in D passes, and
   every error. Their gradients are rows of the conformance table. */
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

static void scatter(nf_model *m, uint64_t seed, double scale)
{
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *noise = normals(seed, n, scale);
    for (size_t i = 0; i < n; i++)
        nf_model_theta(m)[i] += noise[i];
    free(noise);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
}

static nf_net *masked(size_t dim, size_t per_dim, size_t n_ctx, size_t width, size_t n_hidden, size_t n_blocks,
                      nf_activation f)
{
    const size_t hidden[2] = {width, width + 3};
    return nf_masked_net(dim, per_dim, n_ctx,
                         &(nf_masked_options){.hidden = hidden,
                                              .n_hidden = n_blocks   ? 1
                                                          : n_hidden ? n_hidden
                                                                     : NF_NONE,
                                              .n_blocks = n_blocks,
                                              .activation = f});
}

/* Output i P + p moves with input j exactly where j < i: case 2 of the masks (exclusive), here for whole nets. */
static void check_dependence(size_t dim, size_t per_dim, size_t n_ctx, size_t width, size_t n_hidden, size_t n_blocks)
{
    nf_model *m = nf_model_of_net(masked(dim, per_dim, n_ctx, width, n_hidden, n_blocks, NF_SOFTPLUS), NULL);
    nf_workspace *ws = nf_workspace_new(1);
    cr_assert(m && ws, "%s", nf_error_message());
    scatter(m, 4, 0.7);
    const size_t out = dim * per_dim, columns = dim + n_ctx;
    nf_real *x = normals(5, dim, 1), *ctx = normals(6, n_ctx, 1), *y = normals(7, out, 1), *moved = normals(8, out, 1);
    cr_assert_eq(nf_evaluate(m, ws, NULL, 1, x, n_ctx ? ctx : NULL, y), NF_OK);
    for (size_t j = 0; j < columns; j++) {
        nf_real *at = j < dim ? x + j : ctx + (j - dim), was = *at;
        *at += NF_R(1.75);
        cr_assert_eq(nf_evaluate(m, ws, NULL, 1, x, n_ctx ? ctx : NULL, moved), NF_OK);
        *at = was;
        for (size_t o = 0; o < out; o++) {
            const bool may = j >= dim || j < o / per_dim;
            cr_assert_eq(moved[o] != y[o], may, "%zu dimensions, %zu hidden, %zu blocks: output %zu, input %zu", dim,
                         n_hidden, n_blocks, o, j);
        }
    }
    free(x), free(ctx), free(y), free(moved);
    nf_workspace_free(ws);
    nf_model_free(m);
}

Test(masked, outputs_depend_on_earlier_inputs_and_context)
{
    check_dependence(4, 2, 0, 9, 0, 0);
    check_dependence(4, 2, 0, 9, 1, 0);
    check_dependence(5, 3, 2, 12, 2, 0);
    check_dependence(7, 1, 0, 12, 2, 0);
    check_dependence(4, 2, 0, 9, 0, 2);
    check_dependence(6, 2, 3, 13, 0, 1);
    check_dependence(1, 2, 3, 5, 2, 0);
    check_dependence(1, 2, 0, 5, 1, 0);
}

/* Only what is not masked is stored: counted from the degrees. */
Test(masked, stores_what_is_not_masked)
{
    nf_net *net = masked(4, 2, 0, 7, 1, 0, NF_RELU); /* degrees 1 1 1 2 2 3 3 */
    const size_t first = 3 * 1 + 2 * 2 + 2 * 3, last = 2 * (0 + 3 + 5 + 7);
    cr_assert_eq(nf_object_shape(nf_net_object(net))->n_params, first + 7 + last + 8);
    nf_net_free(net);
    net = masked(3, 1, 5, 7, 1, 0, NF_RELU); /* degrees 0 0 0 1 1 2 2; everyone sees the context */
    cr_assert_eq(nf_object_shape(nf_net_object(net))->n_params, (2 * 1 + 2 * 2 + 7 * 5) + 7 + (3 + 5 + 7) + 3);
    nf_net_free(net);
}

/* The sequential direction by its definition: D passes of the net, each settles one dimension more. `transform` is of
   one dimension, here with its parameters as a context. */
static void check_passes(size_t dim, size_t n_ctx, size_t n_blocks, const size_t *order, nf_direction parallel,
                         nf_flow *transform)
{
    enum { N = 37, MOST_PARAMS = 23 };
    const size_t per_dim = nf_flow_shape(transform)->n_params;
    nf_net *net = masked(dim, per_dim, n_ctx, 30, 2, n_blocks, NF_TANH);
    nf_model *of_net = nf_model_of_net(nf_net_ref(net), NULL);
    nf_model *of_transform = nf_model_of_flow(nf_amortized_by_context(nf_flow_ref(transform)), NULL);
    nf_model *m = nf_model_of_flow(nf_autoregressive(transform, net, order, parallel), NULL);
    nf_workspace *ws = nf_workspace_new(2);
    cr_assert(m && of_net && of_transform && ws && per_dim <= MOST_PARAMS, "%s", nf_error_message());
    scatter(m, 12, 0.05);
    memcpy(nf_model_theta(of_net), nf_model_theta(m), nf_model_shape(m)->n_params * sizeof(nf_real));
    nf_real *v = normals(13, N * dim, 1), *ctx = normals(14, N * n_ctx, 1), *u = normals(15, N * dim, 0);
    nf_real *theta = normals(16, N * dim * per_dim, 0), *got = normals(17, N * dim, 0);
    const nf_direction d = parallel == NF_FORWARD ? NF_INVERSE : NF_FORWARD;
    double expected[N] = {0}, log_det[N];
    for (size_t t = 0; t < dim; t++) {
        nf_real in[N], out[N], own[N * MOST_PARAMS];
        cr_assert_eq(nf_evaluate(of_net, ws, NULL, N, u, n_ctx ? ctx : NULL, theta), NF_OK);
        for (size_t s = 0; s < N; s++) {
            in[s] = v[s * dim + (order ? order[t] : t)];
            memcpy(own + s * per_dim, theta + (s * dim + t) * per_dim, per_dim * sizeof *own);
        }
        cr_assert_eq(nf_transform(of_transform, ws, NULL, d, N, in, own, out, log_det), NF_OK);
        for (size_t s = 0; s < N; s++) {
            u[s * dim + t] = out[s];
            expected[s] += log_det[s];
        }
    }
    cr_assert_eq(nf_transform(m, ws, NULL, d, N, v, n_ctx ? ctx : NULL, got, log_det), NF_OK);
    for (size_t s = 0; s < N; s++) {
        cr_assert_float_eq(log_det[s], expected[s], 1e3 * rounding * (1 + fabs(expected[s])),
                           "%zu dimensions: log-det %.17g, not %.17g", dim, log_det[s], expected[s]);
        for (size_t t = 0; t < dim; t++) {
            const double a = (double)got[s * dim + (order ? order[t] : t)], b = (double)u[s * dim + t];
            cr_assert_float_eq(a, b, 3e3 * rounding * (1 + fabs(b)), "dimension %zu of %zu: %.17g, not %.17g", t, dim,
                               a, b);
        }
    }
    free(v), free(ctx), free(u), free(theta), free(got);
    nf_workspace_free(ws);
    nf_model_free(of_net);
    nf_model_free(of_transform);
    nf_model_free(m);
}

static nf_flow *one_affine(void)
{
    return nf_affine(1);
}

static nf_flow *one_bounded(void)
{
    return nf_scaled_affine(1, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH});
}

static nf_flow *one_spline(void)
{
    return nf_spline(1, NULL);
}

Test(masked, one_pass_inverse_is_the_inverse_in_many_passes)
{
    size_t order[21];
    nf_noise_permutation(&(nf_noise){.seed = 91}, 21, order);
    nf_flow *(*const transforms[])(void) = {one_affine, one_bounded, one_spline};
    for (size_t k = 0; k < 3; k++) {
        check_passes(21, 0, 0, NULL, NF_FORWARD, transforms[k]());
        check_passes(21, 4, 0, order, NF_FORWARD, transforms[k]());
        check_passes(21, 0, 2, order, NF_INVERSE, transforms[k]());
        check_passes(9, 3, 1, NULL, NF_INVERSE, transforms[k]());
        check_passes(1, 2, 0, NULL, NF_INVERSE, transforms[k]());
    }
}

/* The order says which feature comes when: the last one's image moves with every input, the first's with its own. */
Test(masked, order)
{
    const size_t order[] = {2, 0, 3, 1};
    nf_model *m =
        nf_model_of_flow(nf_autoregressive(nf_affine(1), masked(4, 2, 0, 20, 1, 0, NF_TANH), order, NF_FORWARD), NULL);
    nf_workspace *ws = nf_workspace_new(1);
    cr_assert(m && ws);
    scatter(m, 2, 0.5);
    const nf_real x[4] = {NF_R(0.3), NF_R(-1.2), NF_R(0.7), NF_R(2.1)};
    nf_real y[4], moved[4];
    cr_assert_eq(nf_transform(m, ws, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
    for (size_t t = 0; t < 4; t++) {
        nf_real at[4];
        memcpy(at, x, sizeof at);
        at[order[t]] += 1;
        cr_assert_eq(nf_transform(m, ws, NULL, NF_FORWARD, 1, at, NULL, moved, NULL), NF_OK);
        for (size_t later = 0; later < 4; later++)
            cr_assert_eq(moved[order[later]] != y[order[later]], later >= t, "place %zu, place %zu", t, later);
    }
    nf_workspace_free(ws);
    nf_model_free(m);
}

static void refuse_net(nf_net *net, const char *message)
{
    cr_assert_null(net);
    cr_assert_not_null(strstr(nf_error_message(), message), "%s", nf_error_message());
}

static void refuse(nf_flow *f, nf_status status, const char *message)
{
    cr_assert_null(f);
    cr_assert_eq(nf_error_status(), status);
    cr_assert_not_null(strstr(nf_error_message(), message), "%s", nf_error_message());
}

/* As in PyTorch's Linear, uniform within 1 / sqrt(fan_in), by the inputs that a unit sees. Two features: all 64 units
   see the first one, and so do both outputs of the second, through them. */
Test(masked, torch_biases)
{
    enum { UNITS = 64, WEIGHTS = UNITS, LAST = 2 * UNITS };
    const nf_masked_options options = {.hidden = (size_t[]){UNITS}, .n_hidden = 1, .init = NF_INIT_TORCH};
    nf_model *m = nf_model_of_net(nf_masked_net(2, 2, 0, &options), &(nf_model_options){.seed = 3});
    cr_assert_not_null(m, "%s", nf_error_message());
    const nf_real *bias = nf_model_theta(m) + WEIGHTS, *last = bias + UNITS + LAST;
    cr_assert_eq(nf_model_shape(m)->n_params, WEIGHTS + UNITS + LAST + 4);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < UNITS; i++) {
        cr_assert(fabs((double)bias[i]) <= 1);
        sum += (double)bias[i] / UNITS;
        squares += (double)bias[i] * (double)bias[i] / UNITS;
    }
    cr_assert_float_eq(sum, 0, 4 * sqrt(1. / 3 / UNITS), "%g", sum);
    cr_assert_float_eq(squares, 1. / 3, 4 * sqrt(4. / 45 / UNITS), "%g", squares);
    for (size_t i = 0; i < 4; i++) /* the first feature's outputs see nothing */
        cr_assert(i < 2 ? fabs((double)last[i]) <= 0 : fabs((double)last[i]) <= 1. / 8 && fabs((double)last[i]) > 0);
    nf_model_free(m);
}

Test(masked, errors)
{
    const size_t widths[] = {5, 0}, order[] = {0, 2, 2}, far[] = {0, 3, 1};
    refuse_net(nf_masked_net(0, 1, 0, NULL), "`dim` is 0");
    refuse_net(nf_masked_net(3, 0, 0, NULL), "`n_per_dim` is 0");
    refuse_net(nf_masked_net(3, 1, 0, &(nf_masked_options){.n_hidden = 2}), "`hidden` is NULL");
    refuse_net(nf_masked_net(3, 1, 0, &(nf_masked_options){.hidden = widths, .n_hidden = 2}), "hidden[1] is 0");
    refuse_net(nf_masked_net(3, 1, 0, &(nf_masked_options){.hidden = widths, .n_hidden = 2, .n_blocks = 1}),
               "residual blocks have one width");
    refuse_net(nf_masked_net(3, 1, 0, &(nf_masked_options){.last_scale = NAN}), "`last_scale`");
    refuse_net(nf_masked_net(3, 1, 0, &(nf_masked_options){.dropout = 1}), "`dropout` is 1");
    refuse_net(nf_masked_net(3, 1, 0, &(nf_masked_options){.activation = (nf_activation)99}), "activation");
    refuse_net(nf_masked_net(SIZE_MAX / 2, 3, 0, NULL), "overflow");
    refuse_net(nf_masked_net(3, 1, 0, &(nf_masked_options){.hidden = widths, .n_hidden = 1, .n_blocks = SIZE_MAX / 2}),
               "overflow");
    refuse(nf_autoregressive(nf_affine(2), nf_masked_net(3, 4, 0, NULL), NULL, NF_FORWARD), NF_EDIM, "2 dimensions");
    refuse(nf_autoregressive(nf_affine(1), nf_masked_net(3, 3, 0, NULL), NULL, NF_FORWARD), NF_EDIM,
           "9 features for 3 dimensions");
    refuse(nf_autoregressive(nf_affine(1), nf_mlp(3, 6, 0, NULL), NULL, NF_FORWARD), NF_EARG, "is a mlp");
    refuse(nf_autoregressive(nf_lu_linear(1, 1), nf_masked_net(3, 2, 0, NULL), NULL, NF_FORWARD), NF_EUNSUPPORTED,
           "NF_PER_SAMPLE");
    refuse(nf_autoregressive(nf_affine(1), nf_masked_net(3, 2, 0, NULL), order, NF_FORWARD), NF_EARG, "permutation");
    refuse(nf_autoregressive(nf_affine(1), nf_masked_net(3, 2, 0, NULL), far, NF_FORWARD), NF_EARG, "permutation");
    refuse(nf_autoregressive(nf_affine(1), nf_masked_net(3, 2, 0, NULL), NULL, (nf_direction)7), NF_EARG, "`parallel`");
    refuse(nf_autoregressive(nf_affine(0), nf_masked_net(3, 2, 0, NULL), NULL, NF_FORWARD), NF_EARG, "nf_affine");
    refuse(nf_autoregressive(nf_affine(1), nf_masked_net(3, 0, 0, NULL), NULL, NF_FORWARD), NF_EARG, "n_per_dim");
}
