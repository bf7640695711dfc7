/* nf_import(): options, the file, the package by its names, and what is checked at the end. */
#include "import/import.h"
#include "nn/options.h"

static const char *const packages[] = {
    [NF_IMPORT_ZUKO] = "zuko", [NF_IMPORT_NFLOWS] = "nflows", [NF_IMPORT_NORMFLOWS] = "normflows"};
static const char *const families[] = {
    [NF_IMPORT_REALNVP] = "realnvp", [NF_IMPORT_MAF] = "maf",   [NF_IMPORT_IAF] = "iaf",
    [NF_IMPORT_NSF] = "nsf",         [NF_IMPORT_GLOW] = "glow", [NF_IMPORT_RESIDUAL] = "residual"};
static const char *const scales[] = {[NF_IMPORT_SCALE_EXP] = "exp",
                                     [NF_IMPORT_SCALE_SIGMOID] = "sigmoid",
                                     [NF_IMPORT_SCALE_SIGMOID_INV] = "sigmoid_inv"};
static const char *const splits[] = {
    [NF_IMPORT_SPLIT_DEFAULT] = "channel", [NF_IMPORT_SPLIT_CHANNEL_INV] = "channel_inv"};
static const nf_choices of_packages = NFI_CHOICES("package", packages), of_families = NFI_CHOICES("family", families);
static const nf_choices of_scales = NFI_CHOICES("scale", scales), of_splits = NFI_CHOICES("split", splits);

#define REAL(member, ...) NF_OPTION(NF_OPTION_REAL, nf_import_options, member), __VA_ARGS__
static const nf_option options_of_import[] = {
    {NF_OPTION(NF_OPTION_CHOICE, nf_import_options, package), .choices = &of_packages, .flags = NF_OPTION_DEPENDS,
     .help = "the package that the file is from"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_import_options, family), .choices = &of_families, .flags = NF_OPTION_DEPENDS,
     .help = "the family of the flow"},
    {NFI_UNIT_OPTION(nf_import_options, activation, "of hidden units")},
    {NF_OPTION(NF_OPTION_CHOICE, nf_import_options, scale), .choices = &of_scales, .flags = NF_OPTION_DEPENDS,
     .help = "scale of affine layers"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_import_options, split), .choices = &of_splits, .help = "split_mode of normflows"},
    {REAL(tail_bound, .most = 1e15, .flags = NF_OPTION_BELOW | NF_OPTION_DEPENDS),
     .help = "B, splines work on [-B, B]"},
    {REAL(min_width, .least = 1e-6, .most = 1), .help = "least width of a spline's piece"},
    {REAL(min_height, .least = 1e-6, .most = 1), .help = "least height of a spline's piece"},
    {REAL(min_slope, .least = 1e-6, .most = 1, .flags = NF_OPTION_BELOW), .help = "least slope"},
    {REAL(lipschitz, .most = 1, .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW), .help = "bound of residual flows' layers"},
    {NF_OPTION(NF_OPTION_SIZE, nf_import_options, n_flows), .help = "length of normflows' list of flows"},
    {NF_OPTION(NF_OPTION_SIZE, nf_import_options, height), .help = "rows of pixels of images"},
    {NF_OPTION(NF_OPTION_SIZE, nf_import_options, width), .help = "pixels in a row of images"},
};
static const nf_import_options defaults = {
    .activation = NF_RELU, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 1e-3, .lipschitz = 0.97};
static const nf_option_table table = NF_OPTION_TABLE("nf_import", nf_import_options, options_of_import, &defaults);

const nf_option_table *nf_import_option_table(void)
{
    return &table;
}

/* The package that has such names. */
static nf_import_package package_of(nfi_import *im)
{
    if (nfi_import_has_any(im, "_transform.", ""))
        return NF_IMPORT_NFLOWS;
    if (nfi_import_has_any(im, "transform.", ""))
        return NF_IMPORT_ZUKO;
    if (nfi_import_has_any(im, "flows.", ""))
        return NF_IMPORT_NORMFLOWS;
    nfi_import_fail(
        im, NF_EFORMAT,
        "no flow of zuko, nflows or normflows: no tensor begins with 'transform.', '_transform.' or 'flows.'%s%.100s%s",
        im->file.n_tensors ? ", but one is '" : "", im->file.n_tensors ? im->file.tensor[0].name : "",
        im->file.n_tensors ? "'" : "");
    return NF_IMPORT_PACKAGE_DEFAULT;
}

static void read_all(nfi_import *im)
{
    static void (*const read[])(nfi_import *) = {[NF_IMPORT_ZUKO] = nfi_read_zuko,
                                                 [NF_IMPORT_NFLOWS] = nfi_read_nflows,
                                                 [NF_IMPORT_NORMFLOWS] = nfi_read_normflows};
    if (!nfi_mul(im->file.n_numbers + 64, NF_IMPORT_MOST_NUMBERS, &im->most))
        im->most = SIZE_MAX;
    if (im->options.prefix)
        nfi_import_only(im, im->options.prefix);
    if (!im->options.package && im->status == NF_OK)
        im->options.package = package_of(im);
    if (im->status == NF_OK)
        read[im->options.package](im);
    nfi_import_all_taken(im);
}

nf_model *nf_import(const char *path, const nf_import_options *options)
{
    nfi_import im = {.status = NF_OK};
    if (!path) {
        nf_error(NF_EARG, "nf_import: `path` is NULL");
        return NULL;
    }
    if (nf_options_settle(&table, options, &im.options) != NF_OK)
        return NULL;
    if (im.options.activation == NF_LIPSWISH) {
        nf_error(NF_EARG, "nf_import: `activation` is NF_LIPSWISH, which residual flows have by themselves");
        return NULL;
    }
    if (nfi_container_open(&im.file, "nf_import", path, NULL) != NF_OK)
        return NULL;
    im.status = nfi_container_read_data(&im.file, "nf_import");
    if (im.status == NF_OK)
        read_all(&im);
    nf_model *m = nfi_import_finish(&im);
    nfi_import_end(&im);
    return m;
}
