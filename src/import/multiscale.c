/* Images of several scales of normflows (MultiscaleFlow), as in Glow (Kingma & Dhariwal 2018), from the base to the
   image:

       q0.I.                    the base of level I: DiagGaussian, ClassCondDiagGaussian or GlowBase
       flows.I.J.               GlowBlock J of level I, then a Squeeze, which has no tensors
           flows.0.flows.1.param_map.net.N.   the coupling's convolutions [out x in x k x k]
           flows.1.                           Invertible1x1Conv, from the image to the base
           flows.2.  s, t [1 x C x 1 x 1]     ActNorm (flows.1. if there is one channel)

   Level 0 is the deepest. Its image and the second level's own numbers, one behind the other, are the channels of the
   second level (Merge), and so on. So the latent vector of the whole has the levels in order, and each level is a chain
   behind nf_blocks of what is below it and the identity. */
#include "import/import.h"
#include <nflow/constraints.h>
#include <nflow/linear.h>
#include <math.h>
#include <string.h>

/* The convolutions of a coupling, with the weights in the order [out][k][k][in]. What is behind a hidden one may be an
   activation normalisation, z exp(s) + t, with which the convolution has no biases of its own. */
static nf_net *take_convolutions(nfi_import *im, nf_image in, size_t *n_out, size_t per_feature, const char *net)
{
    size_t *index, channels = in.channels;
    const size_t n = nfi_import_children(im, net, "weight", &index);
    size_t *hidden = nfi_import_memory(im, n + 1, sizeof *hidden), *sides = nfi_import_memory(im, n + 1, sizeof *sides);
    if (n == 0)
        nfi_import_fail(im, NF_EFORMAT, "there is no tensor '%s0.weight'", net);
    for (size_t l = 0; l < n && im->status == NF_OK; l++) {
        const char *own = nfi_name(im, "%s%zu.", net, index[l]);
        const char *norm = nfi_name(im, "%s%zu.actNorm.", net, index[l] + 1);
        size_t shape[4] = {NFI_ANY, channels, NFI_ANY, NFI_ANY};
        const double *w = nfi_import_take(im, own, "weight", 4, shape);
        double *turned = nfi_import_memory(im, w ? shape[0] * shape[1] * shape[2] * shape[3] : 0, sizeof *turned);
        const bool normed = nfi_import_has_any(im, norm, "");
        size_t row[4] = {1, shape[0], 1, 1};
        const double *b = normed ? nfi_import_take(im, norm, "t", 4, row) : nfi_import_take(im, own, "bias", 1, shape);
        const double *s = normed ? nfi_import_take(im, norm, "s", 4, row) : NULL;
        if (normed)
            nfi_import_skip(im, norm, "data_dep_init_done");
        if (im->status == NF_OK && shape[2] != shape[3])
            nfi_import_fail(im, NF_EUNSUPPORTED, "tensor '%sweight' has kernels of %zu x %zu", own, shape[2], shape[3]);
        if (im->status != NF_OK)
            return NULL;
        const size_t area = shape[2] * shape[3];
        for (size_t o = 0; o < shape[0]; o++)
            for (size_t c = 0; c < channels; c++)
                for (size_t k = 0; k < area; k++)
                    turned[(o * area + k) * channels + c] = w[(o * channels + c) * area + k] * (s ? exp(s[o]) : 1);
        nfi_put(im, shape[0] * channels * area, turned);
        nfi_put(im, shape[0], b);
        sides[l] = shape[2];
        hidden[l] = channels = shape[0];
    }
    *n_out = channels;
    const nf_conv_options options = {.hidden = n > 1 ? hidden : NULL,
                                     .n_hidden = n - 1,
                                     .kernel = sides,
                                     .n_kernel = n,
                                     .activation = im->options.activation,
                                     .n_per_feature = per_feature};
    return im->status == NF_OK ? nf_conv_net(in, channels, 0, &options) : NULL;
}

static void coupling(nfi_import *im, nf_image m, const char *prefix)
{
    const size_t longer = (m.channels + 1) / 2, pixels = m.height * m.width;
    const bool first = im->options.split == NF_IMPORT_SPLIT_CHANNEL_INV;
    const size_t n_b = first ? longer : m.channels - longer;
    const nf_image passed = {m.channels - n_b, m.height, m.width};
    const char *net = nfi_name(im, "%sflows.1.param_map.net.", prefix);
    unsigned char *mask = nfi_import_memory(im, m.channels * pixels, 1);
    size_t *index, given;
    const size_t n = nfi_import_children(im, net, "weight", &index);
    const nfi_tensor *w = n ? nfi_import_peek(im, net, nfi_name(im, "%zu.weight", index[n - 1])) : NULL;
    const size_t last = w && w->rank == 4 ? w->extents[0] : 0;
    if (im->status == NF_OK && (n_b == 0 || (last != n_b && last != 2 * n_b)))
        nfi_import_fail(im, NF_EFORMAT, "'%s...' gives %zu channels, expected %zu or %zu", net, last, n_b, 2 * n_b);
    if (im->status != NF_OK)
        return;
    for (size_t i = 0; i < m.channels * pixels; i++)
        mask[i] = (i / pixels < longer) == first;
    const nfi_univariate u = nfi_import_normflows_affine(im, last / n_b, NF_IMPORT_SCALE_SIGMOID, prefix);
    nf_net *f = take_convolutions(im, passed, &given, u.n, net);
    nfi_import_coupling(im, false, mask, &u, f, prefix);
}

static void block(nfi_import *im, nf_image m, const char *prefix)
{
    const size_t pixels = m.height * m.width;
    if (!nfi_import_is(im, prefix, NF_IMPORT_GLOW, NF_IMPORT_GLOW))
        return;
    coupling(im, m, nfi_name(im, "%sflows.0.", prefix));
    const char *norm = nfi_name(im, "%sflows.%d.", prefix, m.channels > 1 ? 2 : 1);
    if (m.channels > 1) {
        const char *mix = nfi_name(im, "%sflows.1.", prefix);
        size_t n;
        const double *W = nfi_import_take_matrix(im, mix, &n);
        if (W)
            nfi_import_matrix(im, true, n, pixels, W, NULL, mix);
    }
    nfi_import_normflows_actnorm(im, false, m.channels, pixels, true, norm);
}

/* ---- bases ---- */

/* GlowBase has a mean and a log-scale for each channel, each times exp(3 l). */
static void glow_base(nfi_import *im, nf_image m, const char *prefix, double *mean, double *log_scale, size_t n_classes)
{
    size_t row[4] = {1, m.channels, 1, 1}, table[2] = {n_classes, m.channels};
    for (int k = 0; k < 2; k++) {
        double *to = k ? log_scale : mean;
        const char *name = k ? "log_scale" : "loc";
        const double *x = nfi_import_take(im, prefix, name, 4, row);
        const double *l = nfi_import_take(im, prefix, nfi_name(im, "%s_logs", name), 4, row);
        const double *of_class = n_classes ? nfi_import_take(im, prefix, nfi_name(im, "%s_cc", name), 2, table) : NULL;
        if (im->status != NF_OK)
            return;
        const size_t pixels = m.height * m.width, columns = n_classes ? n_classes : 1;
        for (size_t i = 0; i < m.channels * pixels; i++)
            for (size_t y = 0; y < columns; y++)
                to[i * columns + y] =
                    x[i / pixels] * exp(3 * l[i / pixels]) + (of_class ? of_class[y * m.channels + i / pixels] : 0);
    }
}

static void read_base_of(nfi_import *im, nf_image m, const char *prefix, double *mean, double *log_scale,
                         size_t n_classes)
{
    size_t plain[4] = {1, m.channels, m.height, m.width}, classes[4] = {m.channels, m.height, m.width, n_classes};
    if (nfi_import_has(im, prefix, "loc_logs")) {
        glow_base(im, m, prefix, mean, log_scale, n_classes);
        return;
    }
    for (int k = 0; k < 2; k++) {
        const double *x = nfi_import_take(im, prefix, k ? "log_scale" : "loc", 4, n_classes ? classes : plain);
        if (x)
            memcpy(k ? log_scale : mean, x, m.channels * m.height * m.width * (n_classes ? n_classes : 1) * sizeof *x);
    }
}

/* ---- levels ---- */

typedef struct level {
    nf_image image; /* on which its flows work */
    bool squeezed;  /* whether a Squeeze follows, which makes the image twice as high and wide */
    size_t n_own;   /* numbers of its base */
} level;

/* The channels of each level, from its first block, and which levels end in a Squeeze: all channels but those of the
   next level's own numbers come from this one. */
static void read_channels(nfi_import *im, size_t n, level *l)
{
    for (size_t i = 0; i < n && im->status == NF_OK; i++) {
        const char *block_0 = nfi_name(im, "flows.%zu.0.", i);
        const nfi_tensor *s = nfi_import_peek(im, block_0, "flows.2.s");
        if (!s)
            s = nfi_import_peek(im, block_0, "flows.1.s");
        if (!s || s->rank != 4 || s->extents[1] == 0)
            nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...' is no GlowBlock", block_0);
        else
            l[i].image.channels = s->extents[1];
    }
    for (size_t i = 0; i < n && im->status == NF_OK; i++) {
        const size_t channels = l[i].image.channels;
        const size_t next = i + 1 < n ? l[i + 1].image.channels : channels / 2;
        l[i].squeezed = channels % 4 == 0 && next == channels / 2;
        if (i + 1 < n && !l[i].squeezed && next != 2 * channels)
            nfi_import_fail(im, NF_EUNSUPPORTED,
                            "levels %zu and %zu have %zu and %zu channels, expected twice or half as "
                            "many",
                            i, i + 1, channels, next);
    }
}

/* The sizes of the levels' images, from the deepest base, or from the options. Returns the number of classes. */
static size_t read_sizes(nfi_import *im, size_t n, level *l)
{
    const nfi_tensor *loc = nfi_import_peek(im, "q0.0.", "loc"), *table = nfi_import_peek(im, "q0.0.", "loc_cc");
    const size_t channels = l[0].image.channels;
    const bool glow = nfi_import_has(im, "q0.0.", "loc_logs");
    size_t height = im->options.height, width = im->options.width;
    if (!loc || loc->rank != 4 || loc->extents[0] == 0)
        return nfi_import_fail(im, NF_EUNSUPPORTED, "'q0.0...' is no base of images that the library knows"), 0;
    const bool plain = loc->extents[0] == 1 && loc->extents[1] == channels;
    for (size_t i = n; glow && i-- > 0;) {
        height /= l[i].squeezed ? 2 : 1;
        width /= l[i].squeezed ? 2 : 1;
    }
    if (!glow) {
        height = loc->extents[plain ? 2 : 1];
        width = loc->extents[plain ? 3 : 2];
    }
    for (size_t i = 0; i < n; i++) {
        nf_image *m = &l[i].image;
        m->height = height;
        m->width = width;
        size_t area, all;
        if (!nfi_mul(height, width, &area) || !nfi_mul(area, m->channels, &all) || all == 0 || all > im->most) {
            nfi_import_fail(im, NF_EFORMAT, "level %zu would have images of %zu channels and %zu x %zu pixels%s", i,
                            m->channels, height, width,
                            glow ? ": the options `height` and `width` must say how large images are" : "");
            return 0;
        }
        l[i].n_own = i ? all / 2 : all;
        height *= l[i].squeezed ? 2 : 1;
        width *= l[i].squeezed ? 2 : 1;
    }
    if (glow && (height != im->options.height || width != im->options.width))
        nfi_import_fail(im, NF_EARG, "images of %zu x %zu pixels cannot be squeezed so often", im->options.height,
                        im->options.width);
    return glow ? (table && table->rank == 2 ? table->extents[0] : 0) : plain ? 0 : loc->extents[3];
}

/* What was read so far, beside numbers that only now come in. */
static void merge(nfi_import *im, size_t n_own)
{
    nf_flow *f[2] = {im->n_flows == 1 ? im->flow[0] : nf_chain(im->flow, im->n_flows), NULL};
    im->n_flows = 0;
    f[1] = nf_identity(n_own);
    nfi_import_add(im, false, nf_blocks(f, 2), "merges.");
}

static void add_base(nfi_import *im, size_t dim, size_t n_classes, const double *numbers)
{
    const double *none = nfi_import_memory(im, 2 * dim, sizeof *none);
    if (!none)
        return;
    if (n_classes)
        nfi_import_conditional_normal(im, dim, n_classes, numbers, none);
    else
        nfi_import_normal(im, dim, numbers, numbers + dim);
}

void nfi_read_multiscale(nfi_import *im)
{
    const size_t n = nfi_import_list(im, "q0.", "loc", 1);
    level *l = nfi_import_memory(im, n, sizeof *l);
    if (!l)
        return;
    read_channels(im, n, l);
    const size_t n_classes = im->status == NF_OK ? read_sizes(im, n, l) : 0, columns = n_classes ? n_classes : 1;
    size_t dim = 0, at = 0, all;
    for (size_t i = 0; i < n; i++)
        dim += l[i].n_own;
    if (im->status == NF_OK && (!nfi_mul(dim, columns, &all) || all > im->most))
        nfi_import_fail(im, NF_EFORMAT, "the bases would have %zu features for each of %zu classes", dim, columns);
    double *numbers = nfi_import_memory(im, im->status == NF_OK ? 2 * dim * columns : 0, sizeof *numbers);
    for (size_t i = 0; i < n && numbers && im->status == NF_OK; i++) {
        const nf_image m = l[i].image, own = {i ? m.channels / 2 : m.channels, m.height, m.width};
        const char *prefix = nfi_name(im, "flows.%zu.", i);
        read_base_of(im, own, nfi_name(im, "q0.%zu.", i), numbers + at * columns, numbers + (dim + at) * columns,
                     n_classes);
        if (i && im->status == NF_OK)
            merge(im, l[i].n_own);
        at += l[i].n_own;
        im->dim = m.channels * m.height * m.width;
        const size_t n_blocks = nfi_import_list(im, prefix, "", 1);
        for (size_t k = 0; k < n_blocks && im->status == NF_OK; k++)
            block(im, m, nfi_name(im, "%s%zu.", prefix, k));
        if (l[i].squeezed && im->status == NF_OK) {
            const nf_image image = {m.channels / 4, 2 * m.height, 2 * m.width};
            nfi_import_add(im, true, nf_squeeze(image), prefix);
        }
    }
    if (im->status == NF_OK)
        add_base(im, dim, n_classes, numbers);
}
