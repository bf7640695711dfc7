/* nflow import: a model that was trained in Python. */
#include "commands.h"
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>

static const char *output, *prefix;
static size_t package, family, activation, scale, split, n_flows, height, width;
static double tail_bound, min_width, min_height, min_slope, lipschitz;
static const cli_option options[] = {
    {"output", "MODEL", "the model's file (required)", .text = &output, .letter = 'o'},
    {"package", "auto|zuko|nflows|normflows", "where the file is from; auto: by the names of tensors",
     .choice = &package},
    {"flow", "auto|realnvp|maf|iaf|nsf|glow|residual", "its family; splines of zuko and nflows need nsf",
     .choice = &family},
    {"activation", "relu|elu|tanh|sigmoid|softplus|leaky-relu|swish", "of the nets' hidden units",
     .choice = &activation},
    {"tail-bound", "B", "splines bend within [-B, B]; 0: the package's, zuko 5, nflows 1, normflows 3",
     .number = &tail_bound, .max = 1e6},
    {"min-width", "W", "least width of a spline's piece; 0: 0.001", .number = &min_width, .max = 1},
    {"min-height", "H", "least height; 0: 0.001", .number = &min_height, .max = 1},
    {"min-slope", "S", "least slope, in zuko of affine layers, too; 0: 0.001", .number = &min_slope, .max = 1},
    {"scale", "auto|exp|sigmoid|sigmoid-inv", "of affine layers: normflows' scale_map; auto: the package's",
     .choice = &scale},
    {"split", "channel|channel-inv", "normflows' split_mode", .choice = &split},
    {"lipschitz", "C", "lipschitz_const of residual flows; 0: 0.97", .number = &lipschitz, .max = 1},
    {"n-flows", "N", "normflows: len(model.flows), where some of them have no tensors", .size = &n_flows, .max = 1e6},
    {"prefix", "TEXT", "what the names of the flow's tensors begin with, where it is a part of a larger module",
     .text = &prefix},
    {"height", "H", "rows of pixels, of a Glow whose bases do not tell", .size = &height, .max = 1e6},
    {"width", "W", "pixels of a row, likewise", .size = &width, .max = 1e6},
    {0},
};

static int import(size_t n_arguments, char **argument)
{
    static const nf_activation activations[] = {NF_RELU,     NF_ELU,        NF_TANH, NF_SIGMOID,
                                                NF_SOFTPLUS, NF_LEAKY_RELU, NF_SWISH};
    (void)n_arguments;
    if (!output)
        cli_fail(2, "-o MODEL is missing: the file to write");
    cli_writable(output);
    const nf_import_options o = {.package = (nf_import_package)package,
                                 .family = (nf_import_family)family,
                                 .activation = activations[activation],
                                 .scale = (nf_import_scale)scale,
                                 .split = (nf_import_split)split,
                                 .tail_bound = tail_bound,
                                 .min_width = min_width,
                                 .min_height = min_height,
                                 .min_slope = min_slope,
                                 .lipschitz = lipschitz,
                                 .n_flows = n_flows,
                                 .prefix = prefix,
                                 .height = height,
                                 .width = width};
    nf_model *m = cli_made(nf_import(argument[0], &o));
    const nf_shape *s = nf_model_shape(m);
    cli_ok(nf_save(m, output));
    printf("A density of %zu features", s->dim_out);
    if (s->n_ctx)
        printf(" given %zu", s->n_ctx);
    printf(", %zu parameters.\n", s->n_params);
    nf_model_free(m);
    return 0;
}

const cli_command import_command = {
    .name = "import",
    .arguments = "STATE",
    .least = 1,
    .most = 1,
    .about = "a model that was trained in Python with zuko, nflows or normflows",
    .text =
        "STATE is a state dict in a safetensors file. In Python two lines write it:\n\n"
        "  from safetensors.torch import save_file\n"
        "  save_file({name: t.contiguous() for name, t in flow.state_dict().items()}, 'flow.safetensors')\n\n"
        "The layers are read from the names and shapes of the tensors; what these do not tell, options say. An option\n"
        "that does not fit the training gives another density, and nothing in the file can show it: compare some "
        "scores.\n\n"
        "  nflow import flow.safetensors --flow maf -o model",
    .options = options,
    .run = import,
};
