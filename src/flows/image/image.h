/* What flows of images have in common. */
#ifndef NFI_IMAGE_H
#define NFI_IMAGE_H
#include <nflow/elementwise.h>
#include <nflow/image.h>

/* Writes the number of features; false, with a message that begins with `who`, if the image has none or too many. */
bool nfi_count_features(const nf_image *image, const char *who, size_t *n);
/* Coupling k of an image: over a checkerboard, or of channels. Its net makes the parameters of a feature at the
   feature's pixel: shift and scale, or the shift alone if `scale` is NULL. n_ctx and the other options of the net are
   the caller's. */
nf_flow *nfi_image_coupling(nf_image m, bool checkerboard, size_t k, size_t n_ctx, nf_conv_options net,
                            const nf_scaled_affine_options *scale);
/* Refuses what the constructors of such a net and scale refuse, with a message that begins with `who`. */
nf_status nfi_check_image_coupling(const char *who, const nf_conv_options *net, const nf_scaled_affine_options *scale);

#endif
