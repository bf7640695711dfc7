/* Other packages' flows, with their weights: log-density and samples agree. tests/peers/export.py wrote the files,
   whose numbers stand in nflow's own layouts. */
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef NFI_JANSSON
Test(peers, are_read_by_jansson)
{
    cr_skip_test("peers: this build has no Jansson to read tests/peers/*.json with");
}
#else
#include "peer_file.h"

enum { MOST = 64 }; /* layers, dimensions, hidden layers of a file */

/* Two ways to write a layer that maps the target to the base by a formula of its own: turned as a whole, or, if it is
   autoregressive, with the transform turned and the parameters taken from the other side. */
typedef enum turned { OUTSIDE, INSIDE } turned;

/* ---- structure ---- */

static const char *text_of(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

static double number_of(const json_t *o, const char *name)
{
    return json_number_value(json_object_get(o, name));
}

static size_t sizes_of(const json_t *o, const char *name, size_t *sizes)
{
    const json_t *list = json_object_get(o, name);
    const size_t n = json_array_size(list);
    cr_assert_leq(n, MOST);
    for (size_t i = 0; i < n; i++)
        sizes[i] = (size_t)json_integer_value(json_array_get(list, i));
    return n;
}

static nf_flow *affine_of(const json_t *spec, size_t dim)
{
    static const struct {
        const char *name;
        nf_scale scale;
    } scales[] = {{"exp", NF_SCALE_EXP},
                  {"sigmoid", NF_SCALE_SIGMOID},
                  {"softplus", NF_SCALE_SOFTPLUS},
                  {"soft_clip", NF_SCALE_SOFTSIGN}};
    nf_scaled_affine_options options = {
        .limit = number_of(spec, "bound"), .bias = number_of(spec, "shift"), .floor = number_of(spec, "floor")};
    size_t k = 0;
    while (strcmp(scales[k].name, text_of(spec, "scale")) != 0)
        cr_assert(++k < sizeof scales / sizeof *scales, "no scale \"%s\"", text_of(spec, "scale"));
    options.scale = scales[k].scale;
    return nf_scaled_affine(dim, &options);
}

static nf_flow *transform_of(const json_t *spec, size_t dim)
{
    if (strcmp(text_of(spec, "kind"), "affine") == 0)
        return affine_of(spec, dim);
    if (strcmp(text_of(spec, "kind"), "sos_polynomial") == 0)
        return nf_sos_polynomial(dim, &(nf_sos_polynomial_options){.polynomials = size_of(spec, "polynomials"),
                                                                   .degree = size_of(spec, "degree"),
                                                                   .box = number_of(spec, "bound"),
                                                                   .min_slope = number_of(spec, "min_slope")});
    cr_assert_str_eq(text_of(spec, "kind"), "spline");
    nf_spline_options options = {.bins = size_of(spec, "bins"),
                                 .box = number_of(spec, "bound"),
                                 .min_width = number_of(spec, "min_width"),
                                 .min_height = number_of(spec, "min_height"),
                                 .min_slope = number_of(spec, "min_slope")};
    return nf_spline(dim, &options);
}

static nf_net *plain_net(const json_t *spec, size_t in, size_t out, size_t n_ctx)
{
    if (strcmp(text_of(spec, "kind"), "residual") == 0) {
        nf_residual_mlp_options options = {.width = size_of(spec, "width"), .n_blocks = size_of(spec, "blocks")};
        return nf_residual_mlp(in, out, n_ctx, &options);
    }
    size_t hidden[MOST];
    nf_mlp_options options = {.hidden = hidden, .n_hidden = sizes_of(spec, "hidden", hidden)};
    if (strcmp(text_of(spec, "kind"), "squash") == 0)
        return nf_squash_mlp(in, out, n_ctx, &options);
    cr_assert_str_eq(text_of(spec, "kind"), "mlp");
    if (strcmp(text_of(spec, "activation"), "leaky_relu") == 0)
        options.activation = NF_LEAKY_RELU;
    if (strcmp(text_of(spec, "activation"), "tanh") == 0)
        options.activation = NF_TANH;
    if (strcmp(text_of(spec, "activation"), "lipswish") == 0)
        options.activation = NF_LIPSWISH;
    return nf_mlp(in, out, n_ctx, &options);
}

static nf_net *masked_net(const json_t *spec, size_t dim, size_t n_per_dim, size_t n_ctx)
{
    size_t hidden[MOST] = {size_of(spec, "width")};
    nf_masked_options options = {.hidden = hidden, .n_hidden = 1, .n_blocks = size_of(spec, "blocks")};
    if (strcmp(text_of(spec, "kind"), "masked") == 0)
        options.n_hidden = sizes_of(spec, "hidden", hidden);
    return nf_masked_net(dim, n_per_dim, n_ctx, &options);
}

static nf_flow *coupling_of(const json_t *layer, size_t dim, size_t n_ctx)
{
    size_t mask[MOST], n = 0;
    unsigned char bytes[MOST];
    cr_assert_eq(sizes_of(layer, "mask", mask), dim);
    for (size_t i = 0; i < dim; i++) {
        bytes[i] = mask[i] != 0;
        n += mask[i] != 0;
    }
    nf_flow *transform = transform_of(json_object_get(layer, "transform"), n);
    cr_assert_not_null(transform, "%s", nf_error_message());
    nf_net *net = plain_net(json_object_get(layer, "net"), dim - n, nf_flow_shape(transform)->n_params, n_ctx);
    return nf_coupling(dim, bytes, transform, net);
}

static nf_flow *autoregressive_of(const json_t *layer, size_t dim, size_t n_ctx, bool inside)
{
    size_t order[MOST];
    cr_assert_eq(sizes_of(layer, "order", order), dim);
    nf_flow *transform = transform_of(json_object_get(layer, "transform"), 1);
    cr_assert_not_null(transform, "%s", nf_error_message());
    nf_net *net = masked_net(json_object_get(layer, "net"), dim, nf_flow_shape(transform)->n_params, n_ctx);
    return inside ? nf_autoregressive(nf_invert(transform), net, order, NF_INVERSE)
                  : nf_autoregressive(transform, net, order, NF_FORWARD);
}

/* Glow's 1x1 convolution, of which their permutation is a layer. */
static nf_flow *convolution_of(const json_t *layer)
{
    size_t order[MOST];
    const size_t channels = sizes_of(layer, "order", order);
    return nf_pixelwise(
        nf_chain((nf_flow *[]){nf_lu_linear(channels, NF_LU_IDENTITY), nf_permutation(channels, order)}, 2),
        size_of(layer, "pixels"));
}

static nf_flow *image_flow_of(const json_t *layer, bool glow)
{
    size_t image[MOST], hidden[MOST];
    cr_assert_eq(sizes_of(layer, "image", image), 3);
    const nf_conv_options net = {
        .hidden = hidden, .n_hidden = sizes_of(layer, "hidden", hidden), .n_blocks = size_of(layer, "blocks")};
    const nf_scaled_affine_options scale = {.scale = glow ? NF_SCALE_EXP : NF_SCALE_SIGMOID,
                                            .bias = number_of(json_object_get(layer, "scale"), "shift"),
                                            .floor = number_of(json_object_get(layer, "scale"), "floor")};
    const nf_image_recipe_options options = {.n_levels = size_of(layer, "levels"),
                                             .n_steps = size_of(layer, "steps"),
                                             .net = &net,
                                             .scale = &scale,
                                             .prior = NF_PRIOR_STANDARD,
                                             .seed = glow ? NF_LU_IDENTITY : 0};
    const nf_image sizes = {image[0], image[1], image[2]};
    return glow ? nf_glow(sizes, &options) : nf_realnvp_image(sizes, &options);
}

static nf_flow *layer_of(const json_t *layer, size_t dim, size_t n_ctx, turned turn)
{
    const char *kind = text_of(layer, "layer");
    bool invert = json_is_true(json_object_get(layer, "invert"));
    nf_flow *f = NULL;
    if (strcmp(kind, "planar") == 0)
        f = nf_planar(dim);
    else if (strcmp(kind, "permutation") == 0) {
        size_t order[MOST];
        cr_assert_eq(sizes_of(layer, "order", order), dim);
        f = nf_permutation(dim, order);
    } else if (strcmp(kind, "monotone_net") == 0)
        f = nf_monotone_net(
            dim, plain_net(json_object_get(layer, "net"), 1, 1, n_ctx / dim - 1),
            &(nf_monotone_net_options){.nodes = size_of(layer, "nodes"), .min_slope = number_of(layer, "min_slope")});
    else if (strcmp(kind, "continuous") == 0)
        f = nf_continuous(plain_net(json_object_get(layer, "net"), dim + 1, dim, n_ctx),
                          &(nf_continuous_options){.rtol = 1e-12, .atol = 1e-12});
    else if (strcmp(kind, "spline") == 0 || strcmp(kind, "sos_polynomial") == 0)
        f = transform_of(json_object_get(layer, "transform"), dim);
    else if (strcmp(kind, "residual") == 0)
        f = nf_residual_flow(nf_lipschitz(plain_net(json_object_get(layer, "net"), dim, dim, n_ctx),
                                          &(nf_lipschitz_options){.bound = number_of(layer, "bound")}),
                             &(nf_residual_flow_options){.log_det = NF_LOG_DET_EXACT});
    else if (strcmp(kind, "coupling") == 0)
        f = coupling_of(layer, dim, n_ctx);
    else if (strcmp(kind, "convolution") == 0)
        f = convolution_of(layer);
    else if (strcmp(kind, "glow") == 0 || strcmp(kind, "realnvp_image") == 0)
        f = image_flow_of(layer, strcmp(kind, "glow") == 0);
    else {
        cr_assert_str_eq(kind, "autoregressive");
        const bool inside = invert && turn == INSIDE;
        f = autoregressive_of(layer, dim, n_ctx, inside);
        invert = invert && !inside;
    }
    cr_assert_not_null(f, "%s: %s", kind, nf_error_message());
    return invert ? nf_invert(f) : f;
}

static nf_dist *dist_of(const json_t *file, turned turn)
{
    const json_t *list = json_object_get(file, "layers");
    const size_t n = json_array_size(list), dim = size_of(file, "dim");
    nf_flow *layers[MOST];
    cr_assert(n >= 1 && n <= MOST);
    for (size_t k = 0; k < n; k++)
        layers[k] = layer_of(json_array_get(list, k), dim, size_of(file, "n_ctx"), turn);
    nf_dist *d = nf_pushforward(nf_normal(dim), nf_chain(layers, n));
    cr_assert_not_null(d, "%s", nf_error_message());
    return d;
}

/* ---- the comparison ---- */

static void compare(const char *peer, double slack, const json_t *file, turned turn)
{
    size_t n_theta;
    nf_real *theta = reals_of(file, "theta", &n_theta);
    nf_dist *d = dist_of(file, turn);
    cr_assert_eq(n_theta, nf_dist_shape(d)->n_params, "%s: %zu parameters, ours has %zu", peer, n_theta,
                 nf_dist_shape(d)->n_params);
    nf_real *state = calloc(nf_dist_shape(d)->n_state + 1, sizeof *state);
    nf_model *m = nf_model_of_dist(d, &(nf_model_options){.theta = theta, .state = state});
    cr_assert_not_null(m, "%s: %s", peer, nf_error_message());
    compare_with_peer(peer, slack, file, m);
    nf_model_free(m);
    free(theta), free(state);
}

static void check(const char *peer, double slack)
{
    char path[128];
    snprintf(path, sizeof path, "tests/peers/%s.json", peer);
    json_t *file = peer_file(path);
    compare(peer, slack, file, OUTSIDE);
    compare(peer, slack, file, INSIDE);
    json_decref(file);
}

Test(peers, planar)
{
    check("planar-normflows", 1);
    check("planar-flowjax", 10); /* an ulp of a float in x moves a log-density by 1e-4 */
}

Test(peers, residual)
{
    check("residual-normflows", 10); /* sigma is bounded from above, by 1e-5 in float */
}

Test(peers, splines)
{
    check("spline-zuko", 1);
}

Test(peers, monotone_transforms)
{
    check("sos_polynomial-zuko", 10); /* zuko's inverse is bisected to 1e-13 */
    check("monotone_net-zuko", 10);   /* and its log-det is that of the integral, not of the sum */
}

Test(peers, ffjord)
{
    check("ffjord-torchdiffeq", 50); /* both solve to 1e-12 a step */
    check("ffjord_concat-torchdiffeq", 50);
}

Test(peers, realnvp)
{
    check("realnvp-nflows", 1);
    check("realnvp-zuko", 1);
    check("realnvp-normflows", 1);
}

Test(peers, maf)
{
    check("maf-nflows", 1);
    check("maf_residual-nflows", 1);
    check("maf-zuko", 1);
}

Test(peers, iaf)
{
    check("iaf-nflows", 1);
    check("iaf-zuko", 1);
    check("iaf-normflows", 1);
}

Test(peers, spline_couplings)
{
    check("nsf_coupling-nflows", 2);     /* a number on a steep piece of a spline: ulps of a knot count 20-fold */
    check("nsf_coupling-normflows", 10); /* an ulp of a float in x moves a log-density by 5e-5 */
}

Test(peers, images)
{
    check("convolution-normflows", 1);
    check("glow-normflows", 10); /* their matrices are the inverses of ours */
    check("realnvp_image-nflows", 1);
}

Test(peers, autoregressive_splines)
{
    check("nsf_autoregressive-nflows", 1);
    check("nsf_autoregressive_context-nflows", 1);
    check("nsf_autoregressive-normflows", 1);
}
#endif
