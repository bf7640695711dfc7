/*
 * A density of pictures whose flow goes from latent vectors to images, used both ways.
 *
 * A pixel is one of the whole numbers 0 .. levels - 1, stored as a byte. The flow's side of it is a number v from 0 to
 * 1: the number k is the interval [k / levels, (k + 1) / levels), and encoding takes its middle.
 */
#ifndef EXAMPLES_IMAGE_FLOW_H
#define EXAMPLES_IMAGE_FLOW_H
#include <nflow/nflow.h>

typedef struct image_flow {
    nf_model *density; /* a pushforward of a standard normal */
    nf_workspace *ws;
    nf_image size;
    size_t dim, levels;
} image_flow;

/* Latent vectors of n images: k [n x dim], z [n x dim]; ctx [n x n_ctx] or NULL, here and below. */
void image_flow_encode(const image_flow *f, size_t n, const unsigned char *k, const nf_real *ctx, nf_real *z);
/* Images of n latent vectors. v [n x dim], what the flow gives before rounding; NULL: not wanted. */
void image_flow_decode(const image_flow *f, size_t n, const nf_real *z, const nf_real *ctx, unsigned char *k,
                       nf_real *v);
/* Standard normal latent vectors that `seed` names. */
void image_flow_latents(const image_flow *f, size_t n, uint64_t seed, nf_real *z);

/* What remains of images that were encoded and decoded. */
typedef struct image_round_trip {
    size_t images, wrong;                      /* images, and pixels that are not what they were */
    double error;                              /* the largest |v - the middle of k's interval| */
    size_t image, channel, row, column, pixel; /* where; `pixel` is its number in the image */
} image_round_trip;
/* Of n images k. again [n x dim], what they have become; NULL: not wanted. */
image_round_trip image_flow_round_trip(const image_flow *f, size_t n, const unsigned char *k, const nf_real *ctx,
                                       unsigned char *again);

#endif
