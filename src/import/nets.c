/* Perceptrons and residual nets. PyTorch's Linear has the layout of the library: W [out x in], row-major, then b. */
#include "import/import.h"
#include <nflow/net.h>
#include <math.h>
#include <string.h>

nfi_linear *nfi_new_linear(nfi_import *im, size_t in, size_t out, const char *name, bool masked)
{
    size_t count;
    nfi_linear *l = nfi_import_memory(im, 1, sizeof *l);
    if (!nfi_mul(in, out, &count) || count > im->most)
        return nfi_import_fail(im, NF_EFORMAT, "'%s...' would have a matrix of %zu x %zu", name, out, in);
    if (l)
        *l = (nfi_linear){.name = name,
                          .in = in,
                          .out = out,
                          .w = nfi_import_memory(im, count, sizeof(double)),
                          .b = nfi_import_memory(im, out, sizeof(double)),
                          .mask = masked ? nfi_import_memory(im, count, sizeof(double)) : NULL};
    return im->status == NF_OK ? l : NULL;
}

nfi_linear *nfi_take_linear(nfi_import *im, size_t in, size_t out, const char *prefix, const char *last)
{
    const char *name = nfi_name(im, "%s%s", prefix, last);
    size_t extents[2] = {out, in};
    nfi_linear *l = nfi_import_memory(im, 1, sizeof *l);
    double *w = nfi_import_take(im, name, "weight", 2, extents), *b = nfi_import_take(im, name, "bias", 1, extents);
    double *mask = nfi_import_has(im, name, "mask") ? nfi_import_take(im, name, "mask", 2, extents) : NULL;
    if (im->status != NF_OK)
        return NULL;
    for (size_t i = 0; mask && i < extents[0] * extents[1]; i++)
        w[i] = fabs(mask[i]) > 0 ? w[i] : 0;
    *l = (nfi_linear){.name = name, .in = extents[1], .out = extents[0], .w = w, .b = b, .mask = mask};
    return l;
}

void nfi_put_linear(nfi_import *im, const nfi_linear *l)
{
    if (!l)
        return;
    nfi_put(im, l->out * l->in, l->w);
    nfi_put(im, l->out, l->b);
}

nfi_linear **nfi_take_sequence(nfi_import *im, const char *prefix, size_t step, size_t *n)
{
    size_t *index;
    *n = nfi_import_children(im, prefix, "weight", &index);
    if (*n == 0 || step)
        *n = nfi_import_list(im, prefix, "weight", step);
    nfi_linear **l = nfi_import_memory(im, *n, sizeof *l);
    for (size_t i = 0; l && i < *n; i++)
        l[i] = nfi_take_linear(im, i ? (l[i - 1] ? l[i - 1]->out : 0) : NFI_ANY, NFI_ANY, prefix,
                               nfi_name(im, "%zu.", index[i]));
    return im->status == NF_OK ? l : NULL;
}

nf_net *nfi_import_mlp(nfi_import *im, size_t n, nfi_linear *const *layer, size_t in)
{
    size_t *hidden = nfi_import_memory(im, n, sizeof *hidden);
    if (!hidden || !layer)
        return NULL;
    if (layer[0]->in < in)
        return nfi_import_fail(im, NF_EFORMAT,
                               "tensor '%sweight' has the shape [%zu, %zu], expected %zu columns or more",
                               layer[0]->name, layer[0]->out, layer[0]->in, in);
    for (size_t i = 0; i < n; i++) {
        hidden[i] = layer[i]->out;
        nfi_put_linear(im, layer[i]);
        if (i + 1 < n)
            nfi_put_unit(im);
    }
    if (im->status != NF_OK)
        return NULL;
    const nf_mlp_options options = {
        .hidden = n > 1 ? hidden : NULL, .n_hidden = n - 1, .activation = im->options.activation};
    return nf_mlp(in, layer[n - 1]->out, layer[0]->in - in, &options);
}

void nfi_put_unit(nfi_import *im)
{
    const double beta = log(expm1(1)); /* softplus(beta) = 1: PyTorch's SiLU */
    if (im->options.activation == NF_SWISH)
        nfi_put(im, 1, &beta);
}

nf_net *nfi_import_residual_net(nfi_import *im, const char *prefix, size_t in, const nfi_linear *last)
{
    const size_t n_blocks = nfi_import_list(im, nfi_name(im, "%sblocks.", prefix), "linear_layers.0.weight", 1);
    const nfi_linear *first = nfi_take_linear(im, NFI_ANY, NFI_ANY, prefix, "initial_layer.");
    if (nfi_import_has_any(im, prefix, "blocks.0.batch_norm"))
        return nfi_import_fail(im, NF_EUNSUPPORTED, "'%sblocks.0.batch_norm...': batch norm inside of nets", prefix);
    if (!first || !last)
        return NULL;
    const size_t width = first->out, n_ctx = first->in - in;
    if (first->in < in || last->in != width)
        return nfi_import_fail(
            im, NF_EFORMAT,
            "the tensors '%sweight' and '%sweight' have %zu and %zu columns, expected %zu or more and "
            "%zu",
            first->name, last->name, first->in, last->in, in, width);
    nfi_put_linear(im, first);
    for (size_t k = 0; k < n_blocks; k++) {
        const char *block = nfi_name(im, "%sblocks.%zu.", prefix, k);
        if (n_ctx)
            nfi_put_linear(im, nfi_take_linear(im, n_ctx, width, block, "context_layer."));
        for (size_t j = 0; j < 2; j++) {
            nfi_put_linear(im, nfi_take_linear(im, width, width, block, j ? "linear_layers.1." : "linear_layers.0."));
            nfi_put_unit(im);
        }
    }
    nfi_put_linear(im, last);
    const nf_residual_mlp_options options = {
        .width = width, .n_blocks = n_blocks, .activation = im->options.activation};
    return im->status == NF_OK ? nf_residual_mlp(in, last->out, n_ctx, &options) : NULL;
}
