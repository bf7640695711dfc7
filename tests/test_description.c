/* Descriptions as public text: what they say, what may be left out of one that is written by hand, what an absurd one
   comes to. Files around them are test_model_file.c's; the conformance suite rebuilds every layer. */
#include "conformance/dist_rows.h"
#include "damage.h"
#include "expect.h"
#include "support/json_memory.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static const size_t widths[] = {5, 3};

static nf_net *small_net(size_t in, size_t out)
{
    return nf_mlp(in, out, 0, &(nf_mlp_options){.hidden = widths, .n_hidden = 2, .activation = NF_TANH});
}

/* An object of every kind, k = 0 .. 3. */
enum { N_KINDS = 4 };
static nf_object *object_of_kind(size_t k)
{
    const unsigned char mask[] = {0, 1, 1};
    switch (k) {
    case 0:
        return nf_net_object(small_net(3, 2));
    case 1:
        return nf_flow_object(nf_chain(
            (nf_flow *[]){nf_coupling(3, mask, nf_spline(2, NULL), small_net(1, 46)), nf_lu_linear(3, UINT64_MAX - 2),
                          nf_bounds(3, (double[]){-0.3, -(double)INFINITY, 0.1}, (double[]){1, 2, (double)INFINITY})},
            3));
    case 2:
        return nf_dist_object(nf_pushforward(nf_student_t(3, NULL), nf_invert(nf_planar(3))));
    default:
        return nf_vae_object(nf_vae_new(small_net(4, 4), nf_diagonal_posterior(2), small_net(2, 4), NF_BERNOULLI));
    }
}

static nf_object *rebuilt(const char *json)
{
    nf_object *o = nf_rebuild(json, NULL);
    cr_assert_not_null(o, "%s\n%s", nf_error_message(), json);
    return o;
}

static void refused(const char *json, const char *words)
{
    const size_t live = alloc_live();
    cr_assert_null(nf_rebuild(json, NULL), "%s", json);
    expect(nf_error_status(), NF_EFORMAT, words);
    expect(nf_error_status(), NF_EFORMAT, "nf_rebuild: ");
    cr_assert_eq(alloc_live(), live);
}

/* The descriptions of two texts are the same. */
static void same(const char *json, const char *whole)
{
    nf_object *a = rebuilt(json), *b = rebuilt(whole);
    char *text[2] = {nf_describe(a), nf_describe(b)};
    cr_assert(text[0] && text[1]);
    cr_assert_str_eq(text[0], text[1]);
    nf_text_free(text[0]);
    nf_text_free(text[1]);
    nf_object_free(a);
    nf_object_free(b);
}

Test(description, is_what_it_should_be)
{
    nf_object *o =
        nf_flow_object(nf_chain((nf_flow *[]){nf_permutation(2, (size_t[]){1, 0}), nf_sylvester(2, NULL)}, 2));
    char *text = nf_describe(o);
    cr_assert_not_null(text, "%s", nf_error_message());
    cr_assert_str_eq(text, "{\n"
                           "  \"kind\": \"flow\",\n"
                           "  \"type\": \"chain\",\n"
                           "  \"dim_in\": 2,\n"
                           "  \"dim_out\": 2,\n"
                           "  \"n_ctx\": 0,\n"
                           "  \"fields\": {},\n"
                           "  \"children\": [\n"
                           "    {\n"
                           "      \"kind\": \"flow\",\n"
                           "      \"type\": \"permutation\",\n"
                           "      \"dim_in\": 2,\n"
                           "      \"dim_out\": 2,\n"
                           "      \"n_ctx\": 0,\n"
                           "      \"fields\": {\n"
                           "        \"order\": [1, 0]\n"
                           "      },\n"
                           "      \"children\": []\n"
                           "    },\n"
                           "    {\n"
                           "      \"kind\": \"flow\",\n"
                           "      \"type\": \"sylvester\",\n"
                           "      \"dim_in\": 2,\n"
                           "      \"dim_out\": 2,\n"
                           "      \"n_ctx\": 0,\n"
                           "      \"fields\": {\n"
                           "        \"kind\": \"orthogonal\",\n"
                           "        \"columns\": 2,\n"
                           "        \"reflections\": 0,\n"
                           "        \"reversed\": false\n"
                           "      },\n"
                           "      \"children\": []\n"
                           "    }\n"
                           "  ]\n"
                           "}");
    nf_text_free(text);
    nf_text_free(NULL);
    nf_object_free(o);
}

/* Equal descriptions and seeds, equal models: parameters to the bit. Of every kind, and of every distribution in the
   conformance table. */
Test(description, rebuilds_every_kind)
{
    for (size_t k = 0; k < N_KINDS + N_DIST_ROWS; k++) {
        nf_object *o = k < N_KINDS ? object_of_kind(k) : nf_dist_object(dist_rows[k - N_KINDS].build(3));
        char *text = nf_describe(o);
        cr_assert_not_null(text, "%s", nf_error_message());
        nf_object *again = rebuilt(text);
        char *text_again = nf_describe(again);
        cr_assert_str_eq(text, text_again);
        nf_model *m[] = {nf_model_of_object(o, &(nf_model_options){.seed = 77}),
                         nf_model_of_object(again, &(nf_model_options){.seed = 77})};
        cr_assert(m[0] && m[1], "%s", nf_error_message());
        const nf_shape *s = nf_model_shape(m[0]);
        cr_assert_eq(nf_model_object(m[1]), again);
        cr_assert_eq(nf_model_shape(m[1])->n_params, s->n_params);
        cr_assert_arr_eq(nf_model_theta(m[0]), nf_model_theta(m[1]), s->n_params * sizeof(nf_real));
        nf_model_free(m[0]);
        nf_model_free(m[1]);
        nf_text_free(text);
        nf_text_free(text_again);
    }
}

#define MLP "{\"kind\": \"net\", \"type\": \"mlp\", \"dim_in\": 3, \"dim_out\": 2"
#define CONV(in, out, fields) \
    "{\"kind\": \"net\", \"type\": \"conv_net\", \"dim_in\": " in ", \"dim_out\": " out FIELDS(fields)
#define FLOW(type) "{\"kind\": \"flow\", \"type\": \"" type "\", \"dim_in\": 3"
#define DIST(type) "{\"kind\": \"dist\", \"type\": \"" type "\", \"dim_out\": 3"
#define FIELDS(fields) ", \"fields\": {" fields "}}"
#define CHILDREN(children) ", \"children\": [" children "]}"

/* What is left out means the default of the option, a child, or a size that follows. */
Test(description, leaves_out)
{
    same("{\"kind\": \"flow\", \"type\": \"chain\"" CHILDREN(FLOW("planar") "}, " FLOW("radial") "}"),
         FLOW("chain") ", \"dim_out\": 3, \"n_ctx\": 0, \"fields\": {}" CHILDREN(
             FLOW("planar") ", \"dim_out\": 3, \"n_ctx\": 0, \"fields\": {}, \"children\": []}, " FLOW("radial") "}"));
    same("{\"kind\": \"dist\", \"type\": \"normal\", \"dim_in\": 3}", DIST("normal") "}");
    same("{\"kind\": \"flow\", \"type\": \"planar\", \"dim_out\": 3}", FLOW("planar") "}");
    same("{\"kind\": \"flow\", \"type\": \"sum_to_zero\", \"dim_out\": 4}",
         "{\"kind\": \"flow\", \"type\": \"sum_to_zero\", \"dim_in\": 3, \"dim_out\": 4}");
    same(MLP "}", MLP FIELDS("\"hidden\": [], \"activation\": \"relu\", \"output\": \"identity\", \"init\": \"auto\", "
                             "\"last_scale\": 1, \"dropout\": 0"));
    same(MLP ", \"n_ctx\": 4" FIELDS("\"dropout\": 0.5, \"hidden\": [7]"),
         MLP ", \"n_ctx\": 4" FIELDS("\"hidden\": [7], \"dropout\": 0.5, \"output\": \"identity\""));
    const struct {
        nf_object *o;
        const char *json;
    } defaults[] = {
        {nf_net_object(nf_mlp(3, 2, 0, NULL)), MLP "}"},
        {nf_net_object(nf_gated_mlp(3, 2, 0, NULL)),
         "{\"kind\": \"net\", \"type\": \"gated_mlp\", \"dim_in\": 3, \"dim_out\": 2}"},
        {nf_net_object(nf_maxout_mlp(3, 2, 0, NULL)),
         "{\"kind\": \"net\", \"type\": \"maxout_mlp\", \"dim_in\": 3, \"dim_out\": 2}"},
        {nf_net_object(nf_residual_mlp(3, 2, 0, NULL)),
         "{\"kind\": \"net\", \"type\": \"residual_mlp\", \"dim_in\": 3, \"dim_out\": 2}"},
        {nf_net_object(nf_masked_net(3, 2, 0, NULL)),
         "{\"kind\": \"net\", \"type\": \"masked_net\", \"dim_in\": 3, \"dim_out\": 6" FIELDS("\"per_dim\": 2")},
        {nf_net_object(nf_conv_net((nf_image){1, 1, 3}, 2, 0, NULL)),
         CONV("3", "6", "\"image\": [1, 1, 3], \"out_channels\": 2")},
        {nf_net_object(nf_conv_net((nf_image){1, 1, 3}, 2, 0,
                                   &(nf_conv_options){.hidden = (size_t[]){5, 4}, .n_hidden = 2, .gated = true})),
         CONV("3", "6", "\"image\": [1, 1, 3], \"out_channels\": 2, \"hidden\": [5, 4], \"gated\": true")},
        {nf_flow_object(nf_scaled_affine(3, NULL)), FLOW("scaled_affine") "}"},
        {nf_flow_object(nf_spline(3, NULL)), FLOW("spline") "}"},
        {nf_flow_object(nf_soft_log(3, NULL)), FLOW("soft_log") "}"},
        {nf_flow_object(nf_batch_norm(3, NULL)), FLOW("batch_norm") "}"},
        {nf_flow_object(nf_sylvester(3, NULL)), FLOW("sylvester") "}"},
        {nf_flow_object(nf_ordered(3)), FLOW("ordered") "}"},
        {nf_flow_object(nf_simplex_ilr(4)),
         FLOW("simplex") ", \"dim_out\": 4" FIELDS("\"simplex\": \"ilr\", \"K\": 4")},
        {nf_dist_object(nf_student_t(3, NULL)), DIST("student_t") "}"},
        {nf_flow_object(nf_autoregressive(nf_affine(1), nf_masked_net(3, 2, 0, NULL), NULL, NF_INVERSE)),
         "{\"kind\": \"flow\", \"type\": \"autoregressive\", \"fields\": {\"parallel\": \"inverse\"}" CHILDREN(
             "{\"kind\": \"flow\", \"type\": \"affine\", \"dim_in\": 1}, "
             "{\"kind\": \"net\", \"type\": \"masked_net\", \"dim_in\": 3, \"dim_out\": 6" FIELDS("\"per_dim\": 2"))},
    };
    for (size_t k = 0; k < sizeof defaults / sizeof *defaults; k++) {
        cr_assert_not_null(defaults[k].o, "%s", nf_error_message());
        char *text = nf_describe(defaults[k].o);
        same(defaults[k].json, text);
        nf_text_free(text);
        nf_object_free(defaults[k].o);
    }
}

Test(description, says_where_it_is_wrong)
{
    refused("", "line 1, column 0");
    refused("{\"kind\": \"flow\",\n \"type\": }", "line 2, column 10");
    refused("{\"kind\": \"flow\", \"kind\": \"net\"}", "duplicate");
    refused("7", "line 1");
    refused("[]", "lacks kind or type");
    refused("{\"type\": \"planar\", \"dim_in\": 2}", "lacks kind or type");
    refused("{\"kind\": \"flow\", \"type\": \"planar\"}", "(dim_in is left out)");
    refused("{\"kind\": \"dist\", \"type\": \"normal\"}", "(dim_out is left out)");
    refused("{\"kind\": \"net\", \"type\": \"mlp\", \"dim_out\": 2}", "net 'mlp': dim_in or dim_out is missing");
    refused("{\"kind\": \"net\", \"type\": \"mlp\", \"dim_in\": 2}", "net 'mlp': dim_in or dim_out is missing");
    refused("{\"kind\": \"flow\", \"type\": \"planar\", \"dim\": 2}", "a member beside these");
    refused(FLOW("planar") ", \"dim_out\": 4}", "but the description says 3 -> 4");
    refused(FLOW("planar") ", \"n_ctx\": 1}", "with 0 features of context, but the description says 3 -> 3 with 1");
    refused(CONV("3", "6", "\"image\": [1, 1, 3]"), "net 'conv_net': the field 'out_channels' is missing");
    refused(CONV("3", "6", "\"image\": [1, 3], \"out_channels\": 2"), "image");
    refused(CONV("3", "6", "\"image\": [1, 0, 3], \"out_channels\": 2"), "no size may be 0");
    refused(CONV("3", "5", "\"image\": [1, 1, 3], \"out_channels\": 2"), "but the description says 3 -> 5");
    refused(CONV("3", "6", "\"image\": [1, 1, 3], \"out_channels\": 2, \"kernel\": [4]"), "sides must be odd");
    refused(FLOW("planar") FIELDS("\"dims\": 3"), "flow 'planar': the field 'dims' is unknown");
    refused(FLOW("spline") FIELDS("\"bin\": 4"), "flow 'spline': the field 'bin' is unknown");
    refused(FLOW("spline") FIELDS("\"bins\": 4.5"), "'bins' is not a non-negative integer");
    refused(FLOW("lu_linear") "}", "the field 'seed' is missing");
    refused(FLOW("invert") "}", "part 0, a flow, is missing");
    refused(FLOW("invert") CHILDREN(MLP "}"), "part 0 is a mlp where a flow is needed");
    refused(FLOW("residual") "}", "part 0 of a residual flow, a net, is missing");
    refused(FLOW("residual") CHILDREN(FLOW("planar") "}"),
            "part 0 of a residual flow is a planar where a net is needed");
    refused("{\"kind\": \"net\", \"type\": \"lipschitz\", \"dim_in\": 2, \"dim_out\": 2}",
            "part 0 of a bounded net, a net, is missing");
    refused(DIST("pushforward") CHILDREN(FLOW("planar") "}, " FLOW("planar") "}"),
            "part 0 is a planar where a distribution is needed");
    refused(FLOW("chain") CHILDREN(FLOW("planar") "}, " FLOW("invert") CHILDREN(FLOW("spline") FIELDS("\"box\": -1"))),
            "child 1.0: flow 'spline': nf_spline: `box` is -1");
    refused(FLOW("chain") CHILDREN(FLOW("planar") "}, {}"), "nf_rebuild: child 1: an object");
    refused(FLOW("coupling") FIELDS("\"mask\": [0, 2, 0]"), "item 1 of the field 'mask' is neither 0 nor 1");
    refused(MLP FIELDS("\"output\": \"default\""), "known are: relu, tanh,");
}

/* ---- choices ---- */

Test(description, choices_are_names)
{
    refused(MLP FIELDS("\"activation\": \"swoosh\""),
            "the field 'activation' is 'swoosh'; known are: relu, tanh, leaky_relu, elu, softplus, sigmoid, identity");
    refused(MLP FIELDS("\"init\": \"zero\""), "known are: auto, he, glorot, lecun, torch, small");
    refused(MLP FIELDS("\"activation\": true"), "the field 'activation' is not a name; known are: relu");
    refused(FLOW("scaled_affine") FIELDS("\"scale\": \"Exp\""), "known are: exp, tanh, clamp");
    refused(FLOW("sylvester") FIELDS("\"kind\": \"square\""), "known are: orthogonal, householder, triangular");
    refused(FLOW("ordered") FIELDS("\"positive\": \"true\""), "'positive' is neither true nor false");
    refused(FLOW("bounds") FIELDS("\"kinds\": [\"lower\", \"above\", \"upper\"]"), "the field 'kinds' is 'above'");
}

/* What versions before names wrote. */
Test(description, numbers_of_earlier_versions_are_refused)
{
    static const char *const old[] = {
        MLP FIELDS(
            "\"hidden\": [5], \"activation\": 1, \"output\": 6, \"init\": 0, \"last_scale\": 1.0, \"dropout\": 0.0"),
        "{\"kind\": \"net\", \"type\": \"gated_mlp\", \"dim_in\": 3, \"dim_out\": 2" FIELDS(
            "\"hidden\": [], \"output\": 6"),
        FLOW("scaled_affine") FIELDS("\"scale\": 0"),
        FLOW("spline") FIELDS("\"circular\": 0"),
        FLOW("sylvester") FIELDS("\"kind\": 2, \"reversed\": 1"),
        FLOW("ordered") FIELDS("\"positive\": 1"),
        FLOW("simplex") FIELDS("\"simplex\": [4, 1, 0, 1]"),
        FLOW("gram") FIELDS("\"gram\": [3, 0]"),
        FLOW("bounds") FIELDS("\"kinds\": [0, 1, 2], \"first\": [0, 0, 0], \"second\": [0, 0, 0]"),
        FLOW("autoregressive") FIELDS("\"order\": [0, 1, 2], \"parallel\": 1"),
        DIST("student_t") FIELDS("\"learn\": 0, \"least\": 1, \"df\": [4]"),
        "{\"kind\": \"vae\", \"type\": \"vae\"" FIELDS("\"likelihood\": 0"),
    };
    for (size_t k = 0; k < sizeof old / sizeof *old; k++)
        refused(old[k], "was saved by a version before names; make it anew and save it again");
}

/* A user's net that has every sort of choice, and what the calls say of bad arguments. */
static const char *const colours[] = {"red", "green", "blue"};

static nf_status no_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)o, (void)p, (void)x, (void)y, (void)saved;
    return NF_OK;
}

static nf_status no_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                        const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)p, (void)x, (void)y, (void)saved, (void)gy, (void)gx, (void)g;
    return NF_OK;
}

static nf_status describe_colours(const nf_object *o, nf_writer *w)
{
    (void)o;
    expect(nf_write_choice(w, "c", 3, colours, 3), NF_EARG, "choice 3, but there are 3 names");
    expect(nf_write_choice(w, "c", 3, NULL, 0), NF_EARG, "names is NULL");
    expect(nf_write_choice(w, NULL, 3, colours, 0), NF_EARG, "name is NULL");
    expect(nf_write_choices(w, "c", 3, colours, 2, (size_t[]){1, 7}), NF_EARG, "choice 7");
    expect(nf_write_choices(w, "c", 3, colours, 2, NULL), NF_EARG, "n_values is 2");
    expect(nf_write_choice(NULL, "c", 3, colours, 0), NF_EARG, "w is NULL");
    expect(nf_write_bool(NULL, "b", true), NF_EARG, "nf_write_bool: w is NULL");
    nf_status status = nf_write_choice(w, "one", 3, colours, 2);
    if (status == NF_OK)
        status = nf_write_choices(w, "some", 3, colours, 4, (size_t[]){2, 0, 0, 1});
    if (status == NF_OK)
        status = nf_write_bool(w, "good", true);
    expect(nf_write_bool(w, "good", true), NF_EARG, "writes the field 'good' twice");
    return status;
}

static nf_net *rebuild_colours(nf_reader *r);
static const nf_net_type coloured = {.abi = sizeof coloured,
                                     .part = {.name = "coloured", .describe = describe_colours},
                                     .apply = no_apply,
                                     .vjp = no_vjp,
                                     .rebuild = rebuild_colours};

static nf_net *new_coloured(void)
{
    return nf_net_new(&coloured, &(nf_shape){.dim_in = 2, .dim_out = 2}, NULL, NULL, 0);
}

static nf_net *rebuild_colours(nf_reader *r)
{
    size_t one = 77, some[4] = {77, 77, 77, 77};
    bool good = false;
    cr_assert(nf_read_has(r, "one") && !nf_read_has(r, "two") && !nf_read_has(NULL, "one") && !nf_read_has(r, NULL));
    expect(nf_read_choice(r, "two", 3, colours, &one), NF_EFORMAT, "the field 'two' is missing");
    expect(nf_read_choice(r, "one", 2, colours, &one), NF_EFORMAT, "'one' is 'blue'; known are: red, green");
    expect(nf_read_choice(r, "one", 3, NULL, &one), NF_EARG, "names is NULL");
    expect(nf_read_choice(r, "one", 3, colours, NULL), NF_EARG, "NULL");
    expect(nf_read_choice(NULL, "one", 3, colours, &one), NF_EARG, "r is NULL");
    expect(nf_read_choices(r, "some", 3, colours, 3, some), NF_EFORMAT, "'some' is not an array of 3 names");
    expect(nf_read_choices(r, "some", 3, NULL, 4, some), NF_EARG, "names is NULL");
    expect(nf_read_bool(r, "one", &good), NF_EFORMAT, "'one' is neither true nor false");
    cr_assert(one == 77 && some[0] == 77 && !good); /* failures leave them */
    cr_assert_eq(nf_read_choice(r, "one", 3, colours, &one), NF_OK);
    cr_assert_eq(nf_read_choices(r, "some", 3, colours, 4, some), NF_OK);
    cr_assert_eq(nf_read_bool(r, "good", &good), NF_OK);
    cr_assert(one == 2 && some[0] == 2 && some[1] == 0 && some[2] == 0 && some[3] == 1 && good);
    return new_coloured();
}

Test(description, choices_of_a_users_type)
{
    const nf_types types = {.nets = (const nf_net_type *const[]){&coloured}, .n_nets = 1};
    nf_object *o = nf_net_object(new_coloured());
    char *text = nf_describe(o);
    cr_assert_not_null(text, "%s", nf_error_message());
    cr_assert(strstr(text, "\"some\": [\"blue\", \"red\", \"red\", \"green\"]"), "%s", text);
    nf_object *again = nf_rebuild(text, &types);
    cr_assert_not_null(again, "%s", nf_error_message());
    refused(text, "no type 'coloured' is known");
    nf_text_free(text);
    nf_object_free(o);
    nf_object_free(again);
}

/* ---- absurd ones ---- */

#define MASKED(dim, out, fields) \
    "{\"kind\": \"net\", \"type\": \"masked_net\", \"dim_in\": " dim ", \"dim_out\": " out FIELDS(fields)
#define HUGE "18446744073709551615"

/* What no memory could hold is refused before any is taken; a structure that fits may claim numbers that do not. */
Test(description, absurd_sizes)
{
    static const char *const absurd[] = {
        FLOW("simplex") ", \"dim_out\": 4" FIELDS("\"simplex\": \"ilr\", \"K\": \"" HUGE "\""),
        "{\"kind\": \"flow\", \"type\": \"simplex\"" FIELDS("\"simplex\": \"ilr\", \"K\": 4194305"),
        "{\"kind\": \"flow\", \"type\": \"simplex\"" FIELDS(
            "\"simplex\": \"stick\", \"K\": 2, \"n\": 9000000000000000000"),
        "{\"kind\": \"flow\", \"type\": \"gram\"" FIELDS("\"gram\": \"covariance\", \"K\": 3000"),
        "{\"kind\": \"flow\", \"type\": \"gram\"" FIELDS("\"gram\": \"covariance\", \"K\": 4294967296"),
        "{\"kind\": \"flow\", \"type\": \"cholesky_cov\"" FIELDS("\"size\": [4294967296, 4294967296]"),
        "{\"kind\": \"flow\", \"type\": \"cholesky_cov\"" FIELDS("\"size\": [\"" HUGE "\", 2]"),
        "{\"kind\": \"flow\", \"type\": \"cholesky_corr\"" FIELDS("\"K\": 4000000000"),
        FLOW("householder") FIELDS("\"n\": \"" HUGE "\""),
        FLOW("low_rank_affine") FIELDS("\"rank\": \"" HUGE "\""),
        FLOW("sylvester") FIELDS("\"kind\": \"householder\", \"reflections\": \"" HUGE "\""),
        FLOW("spline") FIELDS("\"bins\": \"" HUGE "\""),
        DIST("mixture") FIELDS("\"components\": \"" HUGE "\""),
        "{\"kind\": \"flow\", \"type\": \"lu_linear\", \"dim_in\": 4194304" FIELDS("\"seed\": 1"),
        "{\"kind\": \"flow\", \"type\": \"planar\", \"dim_in\": 4194305}",
        "{\"kind\": \"net\", \"type\": \"mlp\", \"dim_in\": 4194304, \"dim_out\": 4194304}",
        MLP FIELDS("\"hidden\": [\"" HUGE "\"]"),
        MLP FIELDS("\"hidden\": [3000000000, 3000000000]"),
        "{\"kind\": \"net\", \"type\": \"maxout_mlp\", \"dim_in\": 3, \"dim_out\": 2" FIELDS(
            "\"hidden\": [5], \"window\": \"" HUGE "\""),
        "{\"kind\": \"net\", \"type\": \"residual_mlp\", \"dim_in\": 3, \"dim_out\": 2" FIELDS("\"width\": 4294967295"),
        "{\"kind\": \"net\", \"type\": \"residual_mlp\", \"dim_in\": 3, \"dim_out\": 2" FIELDS("\"n_blocks\": \"" HUGE
                                                                                               "\""),
        MASKED("3", "6", "\"per_dim\": 2, \"hidden\": [1000000000]"),
        MASKED("3", "6", "\"per_dim\": \"" HUGE "\", \"hidden\": [7]"),
        MASKED("3", "6", "\"per_dim\": 2, \"hidden\": [\"" HUGE "\", 2]"),
        MASKED("3", "6", "\"per_dim\": 2, \"hidden\": [7], \"n_blocks\": 9223372036854775807"),
        MASKED("4194304", "4194304", "\"per_dim\": 1, \"hidden\": [1]"),
        MASKED("2000000", "2000000", "\"per_dim\": 1, \"hidden\": [1], \"n_blocks\": 1000000"),
        CONV("3", "6", "\"image\": [\"" HUGE "\", 1, 3], \"out_channels\": 2"),
        CONV("3", "6", "\"image\": [1, \"" HUGE "\", 1], \"out_channels\": 2"),
        CONV("3", "6", "\"image\": [1, 4294967296, 4294967296], \"out_channels\": 2"),
        CONV("3", "6", "\"image\": [1, 1, 3], \"out_channels\": \"" HUGE "\""),
        CONV("3", "6", "\"image\": [1, 1, 3], \"out_channels\": 2, \"hidden\": [3000000000, 3000000000]"),
        CONV("3", "6", "\"image\": [1, 1, 3], \"out_channels\": 2, \"hidden\": [7], \"n_blocks\": 9223372036854775807"),
        CONV("3", "6", "\"image\": [1, 1, 3], \"out_channels\": 2, \"hidden\": [7], \"n_blocks\": 1000000000"),
        CONV("4194304", "4194304", "\"image\": [4194304, 1, 1], \"out_channels\": 4194304"),
        "{\"kind\": \"flow\", \"type\": \"on_context\", \"n_ctx\": 3, \"fields\": {\"first\": \"" HUGE
        "\"}" CHILDREN(FLOW("planar") "}"),
    };
    const size_t before = peak_megabytes();
    for (size_t k = 0; k < sizeof absurd / sizeof *absurd; k++)
        refused(absurd[k], "");
    /* forty layers, each of which would do */
    static const char layer[] =
        "{\"kind\": \"flow\", \"type\": \"lu_linear\", \"dim_in\": 70000, \"fields\": {\"seed\": 1}}";
    char *text = malloc(40 * (sizeof layer + 2) + 100), *at = text;
    at += sprintf(at, "{\"kind\": \"flow\", \"type\": \"chain\", \"children\": [%s", layer);
    for (int i = 1; i < 40; i++)
        at += sprintf(at, ", %s", layer);
    sprintf(at, "]}");
    refused(text, "child 14: the flow 'lu_linear'"); /* before the others are built */
    free(text);
    if (!NFLOW_THIN)
        cr_assert_leq(peak_megabytes() - before, 256);
}

/* The shape says what a model would need; there is no such memory, and nothing is left behind. */
Test(description, numbers_that_no_memory_holds)
{
    if (NFLOW_THIN)
        cr_skip("a sanitizer refuses such an allocation by itself");
    const size_t live = alloc_live();
    nf_object *o = rebuilt("{\"kind\": \"net\", \"type\": \"mlp\", \"dim_in\": 260000, \"dim_out\": 260000}");
    cr_assert_eq(nf_object_shape(o)->n_params, (size_t)260000 * 260001);
    struct rlimit old, small;
    getrlimit(RLIMIT_AS, &old);
    small = (struct rlimit){.rlim_cur = (rlim_t)1 << 32, .rlim_max = old.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_AS, &small), 0);
    cr_assert_null(nf_model_of_object(o, NULL)); /* consumed */
    cr_assert_eq(nf_error_status(), NF_ENOMEM);
    setrlimit(RLIMIT_AS, &old);
    cr_assert_eq(alloc_live(), live);
}

Test(description, too_deep)
{
    nf_flow *f = nf_planar(2);
    for (int i = 0; i < 64; i++)
        f = nf_invert(f);
    cr_assert_null(nf_describe(nf_flow_object(f)));
    expect(nf_error_status(), NF_EUNSUPPORTED, "nf_describe: planar: descriptions hold at most 64 objects");
    nf_flow_free(f);
    char text[16384], *at = text;
    for (int i = 0; i < 65; i++)
        at += sprintf(at, "{\"kind\": \"flow\", \"type\": \"invert\", \"children\": [");
    refused(text, "line 1");
    at += sprintf(at, FLOW("planar") "}");
    for (int i = 0; i < 65; i++)
        at += sprintf(at, "]}");
    refused(text, "more than 64 objects inside one another");
}

/* ---- damaged ones ---- */

static nf_status read_description(const char *file)
{
    size_t n;
    char *text = (char *)file_read(file, &n);
    text[n] = 0;
    nf_object *o = nf_rebuild(text, NULL);
    free(text);
    nf_object_free(o);
    return o ? NF_OK : nf_error_status();
}

/* Every kind of object, cut or changed at each byte: another object or an error. */
Test(description, damaged_anywhere)
{
    static const damage_reader rebuild = {"nf_rebuild", read_description, true, 100, 1 << 16};
    char path[128];
    snprintf(path, sizeof path, "%s/text", temp_folder());
    json_memory_count();
    for (size_t k = 0; k < N_KINDS; k++) {
        nf_object *o = object_of_kind(k);
        char *indented = nf_describe(o);
        json_t *json = json_loads(indented, 0, NULL);
        char *text = json_dumps(json, JSON_COMPACT);
        const size_t n = strlen(text);
        cr_assert_gt(damage_everywhere(&rebuild, path, text, n, NFLOW_THIN ? 85 : 17), n);
        json_decref(json);
        free(text);
        nf_text_free(indented);
        nf_object_free(o);
    }
    temp_teardown();
}

/* ---- arguments, memory ---- */

Test(description, bad_calls)
{
    cr_assert_null(nf_describe(NULL));
    expect(nf_error_status(), NF_EARG, "nf_describe: `o` is NULL");
    cr_assert_null(nf_rebuild(NULL, NULL));
    expect(nf_error_status(), NF_EARG, "nf_rebuild: `json` is NULL");
    nf_error(NF_ENOCONV, "of whoever failed");
    cr_assert_null(nf_model_of_object(NULL, NULL));
    expect(nf_error_status(), NF_ENOCONV, "of whoever failed");
    nf_object *o = object_of_kind(1);
    cr_assert_null(nf_model_of_object(o, &(nf_model_options){.state = &(nf_real){0}}));
    expect(nf_error_status(), NF_EARG, "nf_model_of_object: ");
}

Test(description, success_leaves_the_message)
{
    nf_error(NF_ENOCONV, "as it was");
    nf_object *o = object_of_kind(1);
    char *text = nf_describe(o);
    nf_object *again = rebuilt(text);
    expect(nf_error_status(), NF_ENOCONV, "as it was");
    nf_text_free(text);
    nf_object_free(o);
    nf_object_free(again);
}

Test(description, allocation_failures)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        nf_object *o = object_of_kind(kind);
        char *text = NULL;
        for (size_t k = 0; !text; k++) {
            const size_t live = alloc_live();
            fail_alloc_once(k);
            text = nf_describe(o);
            const bool failed = fail_alloc_off();
            cr_assert_eq(text == NULL, failed);
            cr_assert(!failed || (nf_error_status() == NF_ENOMEM && alloc_live() == live));
        }
        nf_object *again = NULL;
        for (size_t k = 0; !again; k++) {
            const size_t live = alloc_live();
            fail_alloc_once(k);
            again = nf_rebuild(text, NULL);
            const bool failed = fail_alloc_off();
            cr_assert_eq(again == NULL, failed);
            cr_assert(!failed || (nf_error_status() == NF_ENOMEM && alloc_live() == live), "%zu: %s", k,
                      nf_error_message());
            cr_assert(failed || k >= 3);
        }
        nf_text_free(text);
        nf_object_free(o);
        nf_object_free(again);
    }
}
