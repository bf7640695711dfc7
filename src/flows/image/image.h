/* What flows of images have in common. */
#ifndef NFI_IMAGE_H
#define NFI_IMAGE_H
#include <nflow/image.h>

/* Writes the number of features; false, with a message that begins with `who`, if the image has none or too many. */
bool nfi_count_features(const nf_image *image, const char *who, size_t *n);

#endif
