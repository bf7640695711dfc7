#include "flows.h"
#include "cli.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LAYERS = 1000, MOST_DEPTH = 16, LARGE_LU = 128 /* features from which on linear layers cost too much */ };

const char *const flow_names[N_FLOWS] = {
    "auto",    "nice",   "realnvp",   "made",     "maf",    "iaf",           "nsf-coupling", "nsf-autoregressive",
    "planar",  "radial", "sylvester", "residual", "ffjord", "flow-matching", "glow",         "realnvp-image",
    "gaussian"};

nf_image flow_image(const char *text)
{
    nf_image image;
    char end;
    if (sscanf(text, "%zux%zux%zu%c", &image.channels, &image.height, &image.width, &end) != 3)
        cli_fail(2, "--image must be CxHxW, such as 1x28x28, not '%s'", text);
    return image;
}

bool flow_is_of_images(flow_family f)
{
    return f == FLOW_GLOW || f == FLOW_REALNVP_IMAGE;
}

bool flow_is_matched(flow_family f)
{
    return f == FLOW_MATCHING;
}

/* ---- flows ---- */

/*
 * Nets read the data's side, so that a density takes one pass. Couplings of affine maps are in the recipe's own
 * direction, y = s(x) z + m(x) from base to data; the others are functions of the data (`turned`), z = s(y) y + m(y).
 * So m is not divided by s, and that, small initial weights and scales that grow slowly keep a single wild row from
 * deciding the fit of MADE and MAF.
 */
static nf_flow *of_recipe(const flow_sizes *s)
{
    static const struct {
        nf_flow *(*make)(size_t dim, const nf_recipe_options *options);
        bool turned, splines, autoregressive, tame;
    } recipes[N_FLOWS] = {
        [FLOW_NICE] = {.make = nf_nice},
        [FLOW_REALNVP] = {.make = nf_realnvp},
        [FLOW_MADE] = {.make = nf_made, .autoregressive = true, .turned = true, .tame = true},
        [FLOW_MAF] = {.make = nf_maf, .autoregressive = true, .turned = true, .tame = true},
        [FLOW_IAF] = {.make = nf_iaf, .autoregressive = true},
        [FLOW_NSF_COUPLING] = {.make = nf_nsf_coupling, .turned = true, .splines = true},
        [FLOW_NSF_AUTOREGRESSIVE] = {.make = nf_nsf_autoregressive,
                                     .turned = true,
                                     .splines = true,
                                     .autoregressive = true},
        [FLOW_FFJORD] = {.make = nf_ffjord},
    };
    size_t hidden[MOST_DEPTH];
    for (size_t i = 0; i < MOST_DEPTH; i++)
        hidden[i] = s->width;
    const nf_spline_options spline = {.bins = s->bins, .box = s->box};
    nf_recipe_options o = {.n_ctx = s->n_ctx,
                           .n_layers = s->layers,
                           .hidden = hidden,
                           .n_hidden = s->blocks ? 1 : s->depth,
                           .n_blocks = s->blocks,
                           .dropout = s->family == FLOW_FFJORD ? 0 : s->dropout, /* its net has none */
                           .seed = s->seed};
    if (recipes[s->family].splines) {
        o.spline = &spline;
        o.mixing = s->dim <= LARGE_LU ? NF_MIX_LU : recipes[s->family].autoregressive ? NF_MIX_REVERSE : NF_MIX_PERMUTE;
    }
    const nf_scaled_affine_options slow = {.scale = NF_SCALE_SOFTSIGN, .limit = 3};
    if (recipes[s->family].tame) {
        o.scale = &slow;
        o.init = NF_INIT_TORCH;
    }
    if (recipes[s->family].turned && recipes[s->family].autoregressive)
        o.parallel = NF_PARALLEL_FORWARD;
    nf_flow *f = cli_made(recipes[s->family].make(s->dim, &o));
    return recipes[s->family].turned ? cli_made(nf_invert(f)) : f;
}

static nf_flow *matched_flow(const flow_sizes *s)
{
    size_t hidden[MOST_DEPTH];
    for (size_t i = 0; i < MOST_DEPTH; i++)
        hidden[i] = s->width;
    nf_net *field = nf_mlp(s->dim + 1, s->dim, s->n_ctx,
                           &(nf_mlp_options){.hidden = hidden, .n_hidden = s->depth, .activation = NF_SWISH});
    return cli_made(nf_continuous(cli_made(field), NULL));
}

static nf_flow *residual_flow(const flow_sizes *s)
{
    size_t hidden[MOST_DEPTH];
    for (size_t i = 0; i < MOST_DEPTH; i++)
        hidden[i] = s->width;
    return cli_made(nf_residual(
        s->dim,
        &(nf_residual_options){.n_ctx = s->n_ctx, .n_layers = s->layers, .hidden = hidden, .n_hidden = s->depth}));
}

/* Layers whose parameters are shared by all rows, or, with a context, given by a net of it. They take data to the base:
   what they do to data is in closed form. */
static nf_flow *small_layers(const flow_sizes *s)
{
    nf_flow *layer[MOST_LAYERS];
    for (size_t i = 0; i < s->layers; i++)
        layer[i] = s->family == FLOW_PLANAR   ? nf_planar(s->dim)
                   : s->family == FLOW_RADIAL ? nf_radial(s->dim)
                                              : nf_sylvester(s->dim, NULL);
    nf_flow *f = cli_made(nf_chain(layer, s->layers));
    if (s->n_ctx) {
        nf_net *head = nf_mlp(s->n_ctx, nf_flow_shape(f)->n_params, 0,
                              &(nf_mlp_options){.hidden = &s->width, .n_hidden = 1, .last_scale = 0.01});
        f = cli_made(nf_amortized(f, cli_made(head)));
    }
    return cli_made(nf_invert(f));
}

static nf_flow *image_flow(const flow_sizes *s)
{
    const nf_image_recipe_options o = {
        .n_ctx = s->n_ctx, .n_steps = s->layers, .hidden = s->width, .n_blocks = s->blocks, .seed = s->seed};
    return cli_made(s->family == FLOW_GLOW ? nf_glow(s->image, &o) : nf_realnvp_image(s->image, &o));
}

static nf_flow *gaussian_flow(const flow_sizes *s)
{
    nf_flow *f = cli_made(nf_full_affine(s->dim));
    if (!s->n_ctx)
        return f;
    nf_net *head = nf_mlp(s->n_ctx, nf_flow_shape(f)->n_params, 0,
                          &(nf_mlp_options){.hidden = &s->width, .n_hidden = 1, .last_scale = 0.01});
    return cli_made(nf_amortized(f, cli_made(head)));
}

static nf_flow *new_flow(const flow_sizes *s)
{
    if (s->layers > MOST_LAYERS || s->depth > MOST_DEPTH)
        cli_fail(1, "%zu layers of nets with %zu hidden layers are too many", s->layers, s->depth);
    switch (s->family) {
    case FLOW_PLANAR:
    case FLOW_RADIAL:
    case FLOW_SYLVESTER:
        return small_layers(s);
    case FLOW_RESIDUAL:
        return residual_flow(s);
    case FLOW_MATCHING:
        return matched_flow(s);
    case FLOW_GLOW:
    case FLOW_REALNVP_IMAGE:
        return image_flow(s);
    case FLOW_GAUSSIAN:
        return gaussian_flow(s);
    default:
        return of_recipe(s);
    }
}

/* ---- descriptions ---- */

static char *describe(nf_object *o)
{
    char *of_library = cli_made(nf_describe(o)), *text = cli_text("%s", of_library);
    nf_text_free(of_library);
    nf_object_free(o);
    return text;
}

static char *base_description(const flow_sizes *s)
{
    return describe(nf_dist_object(cli_made(
        s->heavy_tails ? nf_student_t(s->dim, &(nf_student_t_options){.df = 20, .learn = true}) : nf_normal(s->dim))));
}

static char *pushforward(char *base, char *flow)
{
    char *all = cli_text("{\"kind\": \"dist\", \"type\": \"pushforward\", \"children\": [%s, %s]}", base, flow);
    free(base);
    free(flow);
    return all;
}

char *flow_description(const flow_sizes *s)
{
    return pushforward(base_description(s), describe(nf_flow_object(new_flow(s))));
}

char *flow_description_from_file(const char *path, const flow_sizes *s)
{
    json_error_t error;
    json_t *tree = json_load_file(path, 0, &error);
    if (!tree)
        cli_fail(1, "%s: line %d: %s", path, error.line, error.text);
    const char *kind = json_string_value(json_object_get(tree, "kind"));
    const bool is_dist = kind && strcmp(kind, "dist") == 0;
    if (!is_dist && (!kind || strcmp(kind, "flow") != 0))
        cli_fail(1, "%s: the description's kind is %s, neither \"flow\" nor \"dist\"", path, kind ? kind : "missing");
    char *of_jansson = json_dumps(tree, 0), *text = cli_text("%s", of_jansson);
    free(of_jansson);
    json_decref(tree);
    if (!is_dist)
        text = pushforward(base_description(s), text);
    nf_object *o = nf_rebuild(text, NULL);
    if (!o)
        cli_fail(1, "%s: %s", path, nf_error_message());
    const nf_shape *shape = nf_object_shape(o);
    if (shape->dim_out != s->dim || shape->n_ctx != s->n_ctx)
        cli_fail(1, "%s: it describes a density of %zu features given %zu, but the data have %zu given %zu", path,
                 shape->dim_out, shape->n_ctx, s->dim, s->n_ctx);
    nf_object_free(o);
    return text;
}

/* A net that gives (context - shift) / scale: an affine one, W [n x n] with 1 / scale on its diagonal, then b [n]. */
static char *context_units(const flow_sizes *s, const double *shift, const double *scale, double **numbers, size_t *n)
{
    const size_t n_ctx = s->n_ctx;
    *n = n_ctx * n_ctx + n_ctx;
    *numbers = cli_allocate(*n + 1, sizeof **numbers);
    for (size_t j = 0; j < n_ctx; j++) {
        (*numbers)[j * n_ctx + j] = 1 / scale[j];
        (*numbers)[n_ctx * n_ctx + j] = -shift[j] / scale[j];
    }
    return describe(nf_net_object(cli_made(nf_mlp(n_ctx, n_ctx, 0, &(nf_mlp_options){.n_hidden = NF_NONE}))));
}

/* The children of a pushforward, or the whole distribution as a base and no flow (""). */
static void take_apart(const char *description, char **base, char **flow)
{
    json_t *tree = cli_made(json_loads(description, 0, NULL));
    const json_t *children = json_object_get(tree, "children");
    const char *type = json_string_value(json_object_get(tree, "type"));
    const bool two = type && strcmp(type, "pushforward") == 0;
    *base = json_dumps(two ? json_array_get(children, 0) : tree, JSON_COMPACT);
    *flow = two ? json_dumps(json_array_get(children, 1), JSON_COMPACT) : cli_text("%s", "");
    json_decref(tree);
    if (!*base || !*flow)
        cli_fail(1, "out of memory");
}

char *flow_in_units(const char *description, const flow_sizes *s, const double *shift, const double *scale,
                    double **added, size_t *n_added)
{
    char *base, *flow, *net = NULL;
    take_apart(description, &base, &flow);
    *n_added = 0;
    *added = NULL;
    if (s->n_ctx) {
        if (!flow[0])
            cli_fail(1, "with a context the described distribution must be a pushforward");
        net = context_units(s, shift + s->dim, scale + s->dim, added, n_added);
    }
    char *units = describe(nf_flow_object(cli_made(nf_offset_multiplier(s->dim, shift, scale))));
    char *all =
        cli_text("{\"kind\": \"dist\", \"type\": \"pushforward\", \"children\": [%s, {\"kind\": \"flow\", \"type\": "
                 "\"chain\", \"children\": [%s%s%s%s%s%s]}]}",
                 base, net ? "{\"kind\": \"flow\", \"type\": \"context_net\", \"children\": [" : "", flow,
                 net ? ", " : "", net ? net : "",
                 net       ? "]}, "
                 : flow[0] ? ", "
                           : "",
                 units);
    free(base);
    free(flow);
    free(net);
    free(units);
    return all;
}
