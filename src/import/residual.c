/* Blocks of residual flows of normflows: x + net(x), which goes from the data to the base, with a net

       iresblock.nnet.net.N.   LipschitzMLP: Swish (beta) and InducedNormLinear (weight, bias, u, v, scale) in turn

   Swish is nf_activation's NF_LIPSWISH, which is also the first layer: so the perceptron begins with the identity. Each
   weight is divided by max(1, sigma / c), where sigma = u^T W v is the estimate of power iteration that the state dict
   has (Miyato et al. 2018). The weights are put as divided, into a net without further bound. */
#include "import/import.h"
#include <nflow/residual.h>
#include <math.h>

/* A layer with the weights that Python uses. */
static nfi_linear *take_bounded(nfi_import *im, size_t in, const char *prefix, const char *last)
{
    nfi_linear *l = nfi_take_linear(im, in, NFI_ANY, prefix, last);
    const char *name = nfi_name(im, "%s%s", prefix, last);
    const double *u = l ? nfi_import_take(im, name, "u", 1, &l->out) : NULL;
    const double *v = u ? nfi_import_take(im, name, "v", 1, &l->in) : NULL;
    nfi_import_skip(im, name, "scale");
    if (!v)
        return NULL;
    double sigma = 0;
    for (size_t k = 0; k < l->out; k++)
        for (size_t j = 0; j < l->in; j++)
            sigma += u[k] * l->w[k * l->in + j] * v[j];
    const double factor = fmax(1, sigma / im->options.lipschitz);
    for (size_t i = 0; i < l->out * l->in; i++)
        l->w[i] /= factor;
    return l;
}

void nfi_import_residual(nfi_import *im, const char *prefix)
{
    static const char *const estimates[] = {"geom_p", "lamb", "last_n_samples", "last_firmom", "last_secmom"};
    const char *block = nfi_name(im, "%siresblock.", prefix), *net = nfi_name(im, "%snnet.net.", block);
    for (size_t i = 0; i < sizeof estimates / sizeof *estimates; i++)
        nfi_import_skip(im, block, estimates[i]); /* of log-dets in training */
    size_t *index, one = 1;
    const size_t n = nfi_import_children(im, net, "weight", &index), dim = im->dim;
    size_t *hidden = nfi_import_memory(im, n + 1, sizeof *hidden);
    nfi_linear *identity = nfi_new_linear(im, dim, dim, net, false), *l = identity;
    if (!hidden || !l || !nfi_import_is(im, prefix, NF_IMPORT_RESIDUAL, NF_IMPORT_RESIDUAL))
        return;
    for (size_t i = 0; i < dim; i++)
        l->w[i * dim + i] = 1;
    for (size_t k = 0; k < n && im->status == NF_OK; k++) {
        if (index[k] != 2 * k + 1)
            nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...' is no LipschitzMLP", net);
        nfi_put_linear(im, l);
        const double *beta = nfi_import_take(im, net, nfi_name(im, "%zu.beta", 2 * k), 1, &one);
        if (beta)
            nfi_put(im, 1, beta);
        hidden[k] = l->out;
        l = take_bounded(im, l->out, net, nfi_name(im, "%zu.", 2 * k + 1));
    }
    if (n == 0 || (l && l->out != dim))
        nfi_import_fail(im, NF_EFORMAT, "'%s...' has %zu layers and %zu numbers out, expected 1 or more and %zu", net,
                        n, l->out, dim);
    nfi_put_linear(im, l);
    if (im->status != NF_OK)
        return;
    const nf_mlp_options options = {.hidden = hidden, .n_hidden = n, .activation = NF_LIPSWISH};
    nf_flow *f = nf_residual_flow(nf_mlp(dim, dim, 0, &options),
                                  dim <= NF_LOG_DET_MOST ? &(nf_residual_flow_options){.tolerance = 1e-13} : NULL);
    nfi_import_add(im, true, f, prefix);
}
