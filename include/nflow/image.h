/**
 * @file image.h
 * Flows of images. The features of an image are in the order [channels][height][width].
 *
 * Constructors return NULL on failure; nf_error_message() says why.
 */
#ifndef NFLOW_IMAGE_H
#define NFLOW_IMAGE_H
#include <nflow/flow.h>
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

NF_END_DECLS
#endif
