/**
 * @file image.h
 * Flows of images, nets of convolutions, and noise that dequantises images. The features of an image are in the order
 * [channels][height][width], as arrays of PyTorch have them: pixel (c, i, j) is feature (c height + i) width + j.
 *
 * Constructors return NULL on failure; nf_error_message() says why.
 */
#ifndef NFLOW_IMAGE_H
#define NFLOW_IMAGE_H
#include <nflow/dist.h>
#include <nflow/elementwise.h>
#include <nflow/net.h>
NF_BEGIN_DECLS

/** The extents of an image, each at least 1. It has channels height width features. */
typedef struct nf_image {
    size_t channels; /**< colours, or what layers make of them */
    size_t height;   /**< rows of pixels */
    size_t width;    /**< pixels in a row */
} nf_image;

/**
 * f for each pixel of an image. The features of an image are in the order [channels][pixels], pixels row by row, and f
 * is a flow of its channels: of nf_actnorm(channels) this is Glow's actnorm, of nf_lu_linear(channels) its invertible
 * 1x1 convolution (Kingma & Dhariwal 2018). The log-det is the sum over the pixels. All pixels have f's parameters and
 * the context. Layers of f that begin from data see the pixels of all samples.
 * @param f      consumed
 * @param pixels height times width, >= 1
 * @return NULL on NF_EARG (no pixel, or more features than fit), NF_EUNSUPPORTED (f is NF_STOCHASTIC, or has moving
 * statistics as nf_batch_norm does), NF_ENOMEM.
 */
NF_API nf_flow *nf_pixelwise(nf_flow *f, size_t pixels);
/**
 * Makes four channels of each (Dinh, Sohl-Dickstein & Bengio 2017, section 3.6): y [4 channels][height / 2][width / 2]
 * with y[4 c + 2 i + j][h][w] = x[c][2 h + i][2 w + j], for i, j = 0, 1. It is an nf_permutation(). A model, which goes
 * from the base to images, has nf_invert(nf_squeeze(image)).
 * @return NULL on NF_EARG (an extent of 0, an odd height or width, more features than fit), NF_ENOMEM.
 */
NF_API nf_flow *nf_squeeze(nf_image image);
/**
 * The mask of the k-th coupling over a checkerboard (Dinh, Sohl-Dickstein & Bengio 2017, section 3.4): for even k the
 * pixels whose row and column add up to an odd number are transformed, for odd k the others, in all channels. An image
 * of one pixel is always transformed. As the masks in combine.h.
 * @param mask [channels height width], written: 1 (transformed) or 0
 * @return how many features are transformed; 0 if `mask` is NULL or the image has no features (NF_EARG)
 */
NF_API size_t nf_mask_checkerboard(nf_image image, size_t k, unsigned char *mask);
/**
 * The mask of the k-th coupling of channels: for even k the second half of the channels is transformed (the shorter
 * one), for odd k the first half, in all pixels. As the masks in combine.h.
 * @param mask [channels height width], written: 1 (transformed) or 0
 * @return how many features are transformed; 0 if `mask` is NULL, the image has no features, or only one channel
 * (NF_EARG)
 */
NF_API size_t nf_mask_channels(nf_image image, size_t k, unsigned char *mask);

/* ---- nets ---- */

/**
 * Which pixels of an image are features. On a checkerboard pixel (i, j) is even or odd as i + j is. The pixels of a
 * colour keep their order: the features are [channels][pixels of that colour].
 */
typedef enum nf_pixels {
    NF_ALL_PIXELS,  /**< every pixel */
    NF_EVEN_PIXELS, /**< (height width + 1) / 2 pixels of each channel, the first one among them */
    NF_ODD_PIXELS   /**< height width / 2 pixels of each channel */
} nf_pixels;

/** What is done to the weights of the convolutions of a net. */
typedef enum nf_conv_norm {
    NF_CONV_FREE, /**< nothing: the weights themselves are learnt */
    /**
     * Weight norm (Salimans & Kingma 2016, eq. 2): the weights of each output channel are g v / |v|. g and v are
     * learnt, and g starts at |v|, so that the net starts as it would without weight norm. Weights of the context are
     * not normalised.
     */
    NF_CONV_WEIGHT_NORM,
    /**
     * Activation normalisation (Kingma & Dhariwal 2018, sec. 3.1), as in the authors' nets: each channel of a hidden
     * layer is exp(3 s) z. If initial data reach the net (nf_model_init(); couplings hand them on), s and the bias
     * start such that each channel has mean 0 and deviation 1 over the pixels and samples of these data; otherwise they
     * start at 0. A channel that is constant has its mean taken away and s = 0. In residual nets this concerns the
     * first layer and the first layer of each block.
     */
    NF_CONV_ACTNORM
} nf_conv_norm;

/** Options of nf_conv_net; zero means the default. */
typedef struct nf_conv_options {
    const size_t *hidden; /**< [n_hidden] channels of the hidden layers; copied */
    size_t n_hidden;      /**< number of hidden layers, 0: a single convolution; 1 if there are residual blocks */
    /**
     * [n_kernel] sides of the kernels, odd and at most 7; copied. Layer by layer, n_hidden + 1 of them; in residual
     * nets three: of the first layer, of those in blocks, of the last layer. None: 3, but 1 of the layers between the
     * first and the last (3, 1, 3: Glow); in residual nets 3 everywhere.
     */
    const size_t *kernel;
    size_t n_kernel;          /**< number of these sides, or 0 */
    size_t n_blocks;          /**< > 0: that many residual blocks, each of two layers of hidden[0] channels */
    nf_activation activation; /**< of hidden units; ReLU */
    /**
     * Hidden units are gated, as in nf_gated_mlp: a layer has twice as many outputs, first the values, then the gates.
     * `activation` must then be its default, and there are no blocks.
     */
    bool gated;
    nf_conv_norm norm;      /**< what is done to the weights */
    nf_initialisation init; /**< of all layers but the second ones of blocks, which start at NF_INIT_SMALL */
    double last_scale;      /**< of the last layer: multiplies its initial numbers; 0: 1; NF_ZERO: 0 */
    /**
     * The last layer is exp(3 s) z, with a learnt s for each channel that starts at 0 (Kingma & Dhariwal 2018, "zero
     * initialization"). It then has no weight norm.
     */
    bool learnt_scale;
    nf_pixels in_pixels;  /**< the pixels that x has; the net reads the others as zeros */
    nf_pixels out_pixels; /**< the pixels that y has; the others are not given */
    /**
     * n: the numbers of a transform (nf_coupling()) for one feature, which it reads feature by feature: 2 for
     * nf_scaled_affine(), 3 bins - 1 for nf_spline(), 1 for nf_affine() and nf_shift(). out_channels is then n times
     * the channels that are transformed, and y is in the order [out_channels / n][pixels][n]. 0: 1
     */
    size_t n_per_feature;
    /**
     * > 0: the context begins with an image of that many channels, [ctx_channels][height][width] with all its pixels.
     * The first layer reads its channels after those of x, as torch.cat((x, image), 1) would have them. What is called
     * context elsewhere here are then the other features of the context, if there are any.
     */
    size_t ctx_channels;
    /**
     * Probability, in [0, 1), that training drops a hidden unit, as in nf_mlp_options; in a residual block, the inner
     * units. Each pixel of a channel is a unit.
     */
    double dropout;
} nf_conv_options;

/**
 * A net of convolutions, from an image to an image of equal height and width. Convolutions have stride 1, and outside
 * the image everything counts as 0. Each layer is, for a pixel (i, j) and a kernel of side k = 2 r + 1,
 *
 *     z[o][i][j] = b[o] + sum over a, b < k and c of W[o][a][b][c] x[c][i + a - r][j + b - r],
 *
 * which is PyTorch's conv2d with padding r. The first layer's z has U context beside, the same at each pixel. Without
 * blocks the net is h = f(z), layer by layer, and the last z. With residual blocks (He et al. 2016, pre-activation; the
 * nets of Dinh et al. 2017) it is
 *
 *     h = z_0(x, context),   in between for each block   t = z_2(f(z_1(f(h)))),   h += t,   y = z_last(f(h)),
 *
 * or with context   h += t sigmoid(Wc context + bc), the gate being the same at each pixel (as in nf_residual_mlp).
 *
 * @param in           the image's sizes. x has in.channels times the pixels of options->in_pixels as features
 * @param out_channels channels of y, >= 1. y has out_channels times the pixels of options->out_pixels as features, in
 * the order that options->n_per_feature says
 * @param n_ctx        features of context, 0 for none; those of the context's image (ctx_channels) are among them
 * @param options      NULL: a single convolution of side 3
 *
 * Parameters, layer by layer: weight W [out][k][k][in] (PyTorch has [out][in][k][k]; normflows and nflows as well);
 * context U [out][n_ctx] of the first layer, if there is context; bias b [out]; scale [out], where the layer has g or
 * s; beta of the units that read it, if they are NF_SWISH or NF_LIPSWISH; and of a block's second layer with context
 * gate.weight Wc [channels][n_ctx] and gate.bias bc. The features of the context's image are not counted in these
 * n_ctx; its channels are the last ones of the first layer's `in`. Tensors are named 0.weight, 0.context, ..., or in
 * residual nets initial_layer, blocks.k.layers.0, blocks.k.layers.1, final_layer.
 *
 * For the k-th coupling over nf_mask_checkerboard(), the net of an even k has NF_EVEN_PIXELS as in_pixels and
 * NF_ODD_PIXELS as out_pixels, that of an odd k the opposite.
 * @return NULL on NF_EARG (a size of 0, an even kernel, options that exclude each other, a context that is smaller than
 * its image), NF_ENOMEM.
 */
NF_API nf_net *nf_conv_net(nf_image in, size_t out_channels, size_t n_ctx, const nf_conv_options *options);

/* ---- dequantisation ---- */

/** Options of nf_image_dequantiser; zero means the default. */
typedef struct nf_image_dequantiser_options {
    size_t n_ctx;    /**< features of context beside the image (a label as one-hot, say), which every net reads; 0 */
    size_t n_layers; /**< couplings over checkerboards; 4 */
    size_t hidden;   /**< channels of the hidden layers of the default nets; 32 */
    size_t n_blocks; /**< residual blocks of the default nets; 2 */
    /**
     * The nets of the couplings; NULL: residual nets with weight norm, whose last layers start at 0 and have a learnt
     * scale. If it is given, neither `hidden` nor `n_blocks` is. in_pixels, out_pixels, ctx_channels and n_per_feature
     * are set here. Copied.
     */
    const nf_conv_options *net;
    const nf_scaled_affine_options *scale; /**< of the couplings; copied; NULL: exp(2 tanh(a / 2)) */
} nf_image_dequantiser_options;

/**
 * Noise over the unit cube that is learnt, given an image: the `noise` of nf_dequantised() for variational
 * dequantisation (Ho et al. 2019, "Flow++", section 3.1). It is nf_logistic(), n_layers couplings over checkerboards,
 * and the sigmoid; the nets of the couplings read, beside the other pixels of the noise, the image, all its pixels. As
 * these nets start at 0, the noise starts uniform, and log q at 0.
 *
 *     nf_dequantised(density, nf_image_dequantiser(image, NULL), NULL)
 *
 * Its context is the image, features in the order [channels][height][width], and then n_ctx others, as
 * nf_dequantised() gives them.
 * @param image   its sizes
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (an image without features, an option; the message has the function's name), NF_ENOMEM.
 */
NF_API nf_dist *nf_image_dequantiser(nf_image image, const nf_image_dequantiser_options *options);

NF_END_DECLS
#endif
