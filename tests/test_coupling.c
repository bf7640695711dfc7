/* Couplings and their masks: what they compute, how they start, what they refuse, and what nf_check_flow says of
   features that no coupling transforms. Gradients, log-dets and the rest of a flow's properties: tests/conformance. */
#include "expect.h"
#include "push.h"
#include "object/tree.h"
#include "fail_alloc.h"
#include "temp_files.h"
#include <math.h>
#include <nflow/nflow.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

static nf_net *small_net(size_t in, size_t out, size_t n_ctx, double last_scale)
{
    return nf_mlp(
        in, out, n_ctx,
        &(nf_mlp_options){.hidden = (size_t[]){7}, .n_hidden = 1, .activation = NF_TANH, .last_scale = last_scale});
}

/* An affine coupling of half the features. */
static nf_flow *halves(size_t dim, size_t k)
{
    unsigned char mask[64];
    const size_t n_b = nf_mask_halves(dim, k, mask);
    return nf_coupling(dim, mask, nf_affine(n_b), small_net(dim - n_b, 2 * n_b, 0, 1));
}

/* ---- what it computes ---- */

/* Features 1 and 3 of four pass, features 0 and 2 are transformed with parameters W (x_1, x_3, context) + b, by hand;
   then the same with features 1, 2 transformed, which are consecutive, while those that pass are not. */
Test(coupling, is_its_formula)
{
    enum { N = 3, DIM = 4, CTX = 2 };
    static const unsigned char masks[2][DIM] = {{1, 0, 200, 0}, {0, 1, 1, 0}};
    static const size_t a[2][2] = {{1, 3}, {0, 3}}, b[2][2] = {{0, 2}, {1, 2}};
    nf_real x[N * DIM], ctx[N * CTX], y[N * DIM], back[N * DIM];
    nf_noise_normal(&(nf_noise){.seed = 3}, N * DIM, 1, 1, x);
    nf_noise_normal(&(nf_noise){.seed = 4}, N * CTX, 1, 1, ctx);
    for (int k = 0; k < 2; k++) {
        nf_model *m = nf_model_of_flow(nf_coupling(DIM, masks[k], nf_affine(2), nf_mlp(2, 4, CTX, NULL)),
                                       &(nf_model_options){.seed = 11});
        cr_assert_not_null(m, "%s", nf_error_message());
        cr_assert_eq(nf_model_shape(m)->n_params, 4 * (2 + CTX) + 4);
        cr_assert_eq(nf_model_shape(m)->n_ctx, CTX);
        nf_real *w = nf_model_theta(m);
        w[17] = NF_R(0.31);
        double l[N], l_back[N];
        push(m, NF_FORWARD, N, x, ctx, y, l);
        push(m, NF_INVERSE, N, y, ctx, back, l_back);
        for (size_t n = 0; n < N; n++) {
            const nf_real *xn = x + n * DIM, *yn = y + n * DIM;
            double theta[4];
            for (size_t p = 0; p < 4; p++) {
                theta[p] = (double)w[16 + p];
                for (size_t j = 0; j < 2; j++)
                    theta[p] += (double)w[p * 4 + j] * (double)xn[a[k][j]] +
                                (double)w[p * 4 + 2 + j] * (double)ctx[n * CTX + j];
            }
            for (size_t i = 0; i < 2; i++) {
                cr_assert_eq(yn[a[k][i]], xn[a[k][i]]);
                cr_assert_float_eq(yn[b[k][i]], (double)xn[b[k][i]] * exp(theta[2 + i]) + theta[i], 100 * rounding);
            }
            cr_assert_float_eq(l[n], theta[2] + theta[3], 100 * rounding);
            cr_assert_float_eq(l_back[n], -l[n], 100 * rounding);
            for (size_t i = 0; i < DIM; i++)
                cr_assert_float_eq(back[n * DIM + i], xn[i], 200 * rounding);
        }
        nf_model_free(m);
    }
}

/* With a last layer of zeros the net gives its biases, and these start as the transform itself would. */
Test(coupling, starts_as_its_transform_does)
{
    enum { N = 2, DIM = 5 };
    unsigned char mask[DIM];
    nf_real x[N * DIM], y[N * DIM], own[N * 2], image[N * 2];
    double l[N], l_own[N];
    cr_assert_eq(nf_mask_halves(DIM, 0, mask), 2);
    nf_noise_normal(&(nf_noise){.seed = 5}, N * DIM, 1, 1, x);
    nf_model *affine =
        nf_model_of_flow(nf_coupling(DIM, mask, nf_affine(2), small_net(3, 4, 0, -1)), &(nf_model_options){.seed = 12});
    push(affine, NF_FORWARD, N, x, NULL, y, l);
    for (size_t i = 0; i < N * DIM; i++)
        cr_assert_eq(x[i], y[i]);
    nf_model_free(affine);

    nf_model *planar =
        nf_model_of_flow(nf_coupling(DIM, mask, nf_planar(2), small_net(3, 5, 0, -1)), &(nf_model_options){.seed = 12});
    const nf_real *bias = nf_model_theta(planar) + nf_model_shape(planar)->n_params - 5;
    cr_assert_gt(hypot((double)bias[0], (double)bias[1]), 1e-3, "w starts at %g, %g", (double)bias[0], (double)bias[1]);
    nf_real theta[5];
    memcpy(theta, bias, sizeof theta);
    nf_model *alone = nf_model_of_flow(nf_planar(2), &(nf_model_options){.theta = theta});
    for (size_t n = 0; n < N; n++)
        memcpy(own + n * 2, x + n * DIM + 3, 2 * sizeof *own);
    push(planar, NF_FORWARD, N, x, NULL, y, l);
    push(alone, NF_FORWARD, N, own, NULL, image, l_own);
    for (size_t n = 0; n < N; n++) {
        cr_assert_float_eq(l[n], l_own[n], 50 * rounding);
        for (size_t i = 0; i < 2; i++)
            cr_assert_float_eq(y[n * DIM + 3 + i], image[n * 2 + i], 50 * rounding);
    }
    nf_model_free(planar);
    nf_model_free(alone);
}

Test(coupling, inherits_flags)
{
    unsigned char mask[4];
    const size_t order[] = {1, 0};
    nf_mask_alternating(4, 0, mask);
    nf_flow *f = nf_coupling(4, mask, nf_affine(2), small_net(2, 4, 0, 1));
    cr_assert_eq(nf_flow_shape(f)->flags, NFI_WRITES_GRADIENT | NFI_SAVES_ALIKE);
    nf_flow_free(f);
    f = nf_coupling(4, mask, nf_chain((nf_flow *[]){nf_permutation(2, order), nf_affine(2)}, 2), small_net(2, 4, 5, 1));
    cr_assert_eq(nf_flow_shape(f)->flags, NFI_WRITES_GRADIENT);
    cr_assert_eq(nf_flow_shape(f)->n_ctx, 5);
    nf_flow_free(f);
}

/* ---- masks ---- */

Test(masks, are_what_they_say)
{
    unsigned char mask[6];
    cr_assert_eq(nf_mask_halves(5, 0, mask), 2);
    cr_assert_eq(memcmp(mask, (unsigned char[]){0, 0, 0, 1, 1}, 5), 0);
    cr_assert_eq(nf_mask_halves(6, 3, mask), 3);
    cr_assert_eq(memcmp(mask, (unsigned char[]){1, 1, 1, 0, 0, 0}, 6), 0);
    cr_assert_eq(nf_mask_alternating(5, 4, mask), 2);
    cr_assert_eq(memcmp(mask, (unsigned char[]){0, 1, 0, 1, 0}, 5), 0);
    cr_assert_eq(nf_mask_alternating(5, 1, mask), 3);
    cr_assert_eq(memcmp(mask, (unsigned char[]){1, 0, 1, 0, 1}, 5), 0);
    cr_assert_eq(nf_mask_halves(0, 0, mask), 0);
    cr_assert_eq(nf_mask_random(3, 0, 1, NULL), 0);
    cr_assert_eq(nf_error_status(), NF_EARG);
}

static size_t random_mask(size_t dim, size_t k, unsigned char *mask)
{
    return nf_mask_random(dim, k, 7, mask);
}

Test(masks, two_in_a_row_transform_everything)
{
    static size_t (*const draw[])(size_t, size_t, unsigned char *) = {nf_mask_halves, nf_mask_alternating, random_mask};
    unsigned char even[40], odd[40];
    for (size_t dim = 1; dim <= 40; dim++)
        for (size_t k = 0; k < 6; k += 2)
            for (size_t sort = 0; sort < 3; sort++) {
                cr_assert_eq(draw[sort](dim, k, even), dim == 1 ? 1 : dim / 2);
                cr_assert_eq(draw[sort](dim, k + 1, odd), dim - dim / 2);
                for (size_t i = 0; i < dim; i++)
                    cr_assert_eq(even[i] + odd[i], dim == 1 ? 2 : 1);
            }
}

/* Of 7 features 3: each feature in 3/7 of the draws, each pair of features in 1/7 (3 of 7 times 2 of 6), to 5 standard
   errors; and another seed gives other masks. */
Test(masks, random_ones_are_fair)
{
    enum { DIM = 7, DRAWS = 20000 };
    double count[DIM][DIM] = {{0}};
    size_t differ = 0;
    for (size_t k = 0; k < DRAWS; k++) {
        unsigned char mask[DIM], another[DIM];
        cr_assert_eq(nf_mask_random(DIM, 2 * k, 99, mask), 3);
        cr_assert_eq(nf_mask_random(DIM, 2 * k, 100, another), 3);
        differ += memcmp(mask, another, DIM) != 0;
        for (size_t i = 0; i < DIM; i++)
            for (size_t j = 0; j < DIM; j++)
                count[i][j] += mask[i] && mask[j];
    }
    for (size_t i = 0; i < DIM; i++)
        for (size_t j = 0; j < DIM; j++) {
            const double p = i == j ? 3. / 7 : 1. / 7;
            cr_assert_float_eq(count[i][j] / DRAWS, p, 5 * sqrt(p * (1 - p) / DRAWS), "features %zu and %zu: %g", i, j,
                               count[i][j] / DRAWS);
        }
    cr_assert_float_eq((double)differ / DRAWS, 34. / 35, 5 * sqrt(34. / 35 / 35 / DRAWS));
}

/* ---- features that are never transformed ---- */

static size_t untouched(nf_flow *f)
{
    nf_check_report r;
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.seed = 21});
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_check_flow(m, &(nf_check_options){.theta_scale = 0.3}, &r), NF_OK, "%s", nf_error_message());
    nf_model_free(m);
    return r.untouched;
}

Test(coupling, rows_never_transformed_are_reported)
{
    const size_t turn[] = {4, 3, 2, 1, 0}, shift[] = {1, 2, 3, 4, 0};
    cr_assert_eq(untouched(halves(5, 0)), 3);
    cr_assert_eq(untouched(halves(5, 1)), 2);
    cr_assert_eq(untouched(nf_invert(halves(5, 0))), 3);
    cr_assert_eq(untouched(nf_chain((nf_flow *[]){halves(5, 0), halves(5, 0), halves(5, 0)}, 3)), 3);
    cr_assert_eq(untouched(nf_chain((nf_flow *[]){halves(5, 0), halves(5, 1)}, 2)), 0);
    /* feature 2 is in the middle, and stays there when the order is reversed */
    cr_assert_eq(untouched(nf_chain((nf_flow *[]){halves(5, 0), nf_permutation(5, turn), halves(5, 0)}, 3)), 1);
    /* the last two of features 1 2 3 4 0: feature 3, already transformed, and feature 0 */
    cr_assert_eq(untouched(nf_chain((nf_flow *[]){halves(5, 0), nf_permutation(5, shift), halves(5, 0)}, 3)), 2);
}

/* ---- files ---- */

#ifdef NFI_JANSSON
Test(coupling, comes_back_from_a_file)
{
    enum { N = 4, DIM = 6 };
    unsigned char mask[DIM];
    const char *folder = temp_folder();
    char path[128];
    nf_real x[N * DIM], ctx[N * 2], y[2][N * DIM];
    double l[2][N];
    snprintf(path, sizeof path, "%s/coupling.safetensors", folder);
    nf_noise_normal(&(nf_noise){.seed = 6}, N * DIM, 1, 1, x);
    nf_noise_normal(&(nf_noise){.seed = 7}, N * 2, 1, 1, ctx);
    cr_assert_eq(nf_mask_random(DIM, 0, 8, mask), 3);
    nf_model *m = nf_model_of_flow(
        nf_coupling(DIM, mask, nf_chain((nf_flow *[]){nf_planar(3), nf_affine(3)}, 2), small_net(3, 13, 2, 1)),
        &(nf_model_options){.seed = 13});
    cr_assert_eq(nf_save(m, path), NF_OK, "%s", nf_error_message());
    nf_model *again = nf_load(path, NULL);
    cr_assert_not_null(again, "%s", nf_error_message());
    push(m, NF_FORWARD, N, x, ctx, y[0], l[0]);
    push(again, NF_FORWARD, N, x, ctx, y[1], l[1]);
    cr_assert_eq(memcmp(y[0], y[1], sizeof y[0]), 0);
    cr_assert_eq(memcmp(l[0], l[1], sizeof l[0]), 0);
    nf_model_free(m);
    nf_model_free(again);
    temp_remove(folder);
}
#endif

/* ---- refusals ---- */

Test(coupling, refuses_what_does_not_fit)
{
    static const unsigned char none[3] = {0}, all[3] = {1, 1, 1}, two[3] = {0, 1, 1};
    const size_t order[] = {1, 0}, live = alloc_live();
    expect_none(nf_coupling(3, NULL, nf_affine(2), nf_mlp(1, 4, 0, NULL)), NF_EARG, "mask");
    expect_none(nf_coupling(0, two, nf_affine(2), nf_mlp(1, 4, 0, NULL)), NF_EARG, "mask");
    expect_none(nf_coupling(3, none, nf_affine(2), nf_mlp(1, 4, 0, NULL)), NF_EARG, "none of the 3 features");
    expect_none(nf_coupling(3, two, nf_affine(1), nf_mlp(1, 2, 0, NULL)), NF_EDIM, "takes 1");
    expect_none(nf_coupling(3, two, nf_affine(2), nf_mlp(2, 4, 0, NULL)), NF_EDIM, "passes 1 of 3");
    expect_none(nf_coupling(3, two, nf_affine(2), nf_mlp(1, 3, 0, NULL)), NF_EDIM, "4 parameters");
    expect_none(nf_coupling(3, all, nf_affine(3), nf_mlp(3, 6, 0, NULL)), NF_EDIM, "passes 0 of 3");
    expect_none(nf_coupling(3, two, nf_lu_linear(2, 1), nf_mlp(1, 6, 0, NULL)), NF_EUNSUPPORTED, "NF_PER_SAMPLE");
    expect_none(nf_coupling(3, two, nf_permutation(2, order), nf_mlp(1, 1, 0, NULL)), NF_EARG, "no parameters");
    expect_none(nf_coupling(3, two, nf_affine(2), nf_mlp(0, 4, 0, &(nf_mlp_options){.n_hidden = 1})), NF_EARG,
                "nf_mlp");
    expect_none(nf_coupling(3, two, nf_planar(0), nf_mlp(1, 4, 0, NULL)), NF_EARG, "nf_planar");
    cr_assert_eq(alloc_live(), live);
}

/* All features transformed: the parameters are the net's of the context alone. */
Test(coupling, may_transform_every_row)
{
    static const unsigned char all[2] = {1, 1};
    nf_model *coupling =
        nf_model_of_flow(nf_coupling(2, all, nf_affine(2), small_net(0, 4, 3, 1)), &(nf_model_options){.seed = 31});
    nf_model *amortised = nf_model_of_flow(nf_amortized(nf_affine(2), small_net(3, 4, 0, 1)),
                                           &(nf_model_options){.theta = nf_model_theta(coupling)});
    cr_assert(coupling && amortised, "%s", nf_error_message());
    const nf_real x[2] = {NF_R(0.83), NF_R(-1.27)}, ctx[3] = {NF_R(0.64), NF_R(0.11), NF_R(-1.37)};
    nf_real y[2][2];
    double l[2];
    push(coupling, NF_FORWARD, 1, x, ctx, y[0], &l[0]);
    push(amortised, NF_FORWARD, 1, x, ctx, y[1], &l[1]);
    cr_assert_float_eq(l[0], l[1], 20 * rounding);
    for (size_t i = 0; i < 2; i++)
        cr_assert_float_eq(y[0][i], y[1][i], 20 * rounding);
    cr_assert_eq(untouched(nf_coupling(2, all, nf_affine(2), small_net(0, 4, 3, 1))), 0);
    nf_model_free(coupling);
    nf_model_free(amortised);
}

/* A model is built and differentiated in both directions with the k-th allocation failing: an error, no leak. */
static nf_status build_and_run(void)
{
    static const unsigned char mask[5] = {1, 0, 1, 0, 1};
    nf_model *m =
        nf_model_of_flow(nf_coupling(5, mask, nf_planar(3), small_net(2, 7, 0, 1)), &(nf_model_options){.seed = 41});
    nf_real x[10] = {NF_R(0.3), NF_R(-1.2), NF_R(0.7), NF_R(1.9)}, gx[10];
    nf_status status = m ? NF_OK : nf_error_status();
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE && status == NF_OK; d++)
        status = nf_transform_vjp(m, NULL, NULL, d, 2, x, NULL, x, NULL, gx, NULL, NULL);
    nf_model_free(m);
    return status;
}

Test(coupling, survives_failing_allocations)
{
    for (size_t k = 0;; k++) {
        const size_t before = alloc_live();
        fail_alloc_after(k);
        const nf_status status = build_and_run();
        const bool failed = fail_alloc_off();
        cr_assert_eq(alloc_live(), before, "allocation %zu", k);
        if (!failed) {
            cr_assert_eq(status, NF_OK);
            cr_assert_gt(k, 10);
            break;
        }
        cr_assert_eq(status, NF_ENOMEM, "allocation %zu: %s", k, nf_error_message());
    }
}
