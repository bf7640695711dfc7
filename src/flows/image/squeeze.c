/* Where the pixels of images go: squeezing, which makes four channels of one at half the height and width, and the
   masks of checkerboards and channels (Dinh, Sohl-Dickstein & Bengio 2017, figure 3). None is more than a table of
   features. */
#include "base/memory.h"
#include "flows/image/image.h"
#include "nn/conv.h"
#include <nflow/image.h>
#include <nflow/linear.h>

bool nfi_count_features(const nf_image *m, const char *who, size_t *n)
{
    if (m->channels && m->height && m->width && nfi_mul(m->channels, m->height, n) && nfi_mul(*n, m->width, n))
        return true;
    nf_error(NF_EARG, "%s: an image of %zu channels, %zu x %zu", who, m->channels, m->height, m->width);
    return false;
}

nf_flow *nf_squeeze(nf_image image)
{
    const size_t height = image.height / 2, width = image.width / 2;
    size_t n, bytes;
    if (!nfi_count_features(&image, "nf_squeeze", &n))
        return NULL;
    if (image.height % 2 || image.width % 2 || !nfi_mul(n, sizeof n, &bytes)) {
        nf_error(NF_EARG, "nf_squeeze: an image of %zu channels, %zu x %zu, but height and width must be even",
                 image.channels, image.height, image.width);
        return NULL;
    }
    size_t *order = nfi_calloc(n, sizeof *order), at = 0;
    for (size_t c = 0; order && c < 4 * image.channels; c++)
        for (size_t h = 0; h < height; h++)
            for (size_t w = 0; w < width; w++)
                order[at++] = (c / 4 * image.height + 2 * h + c % 4 / 2) * image.width + 2 * w + c % 2;
    nf_flow *f = order ? nf_permutation(n, order) : NULL;
    nfi_free(order);
    return f;
}

/* The number of features of a mask; 0, with a message, if there is no mask or none of an image. */
static size_t features_of_mask(const nf_image *image, const char *who, const unsigned char *mask)
{
    size_t n;
    if (!mask)
        nf_error(NF_EARG, "%s: `mask` is NULL", who);
    return mask && nfi_count_features(image, who, &n) ? n : 0;
}

size_t nf_mask_checkerboard(nf_image image, size_t k, unsigned char *mask)
{
    const size_t n = features_of_mask(&image, "nf_mask_checkerboard", mask);
    size_t count = 0;
    const size_t pixels = image.height * image.width;
    for (size_t i = 0; i < n; i++) {
        const bool odd = nfi_pixel_is_odd(i % pixels, image.width);
        count += mask[i] = pixels == 1 || odd == (k % 2 == 0);
    }
    return count;
}

size_t nf_mask_channels(nf_image image, size_t k, unsigned char *mask)
{
    const size_t n = features_of_mask(&image, "nf_mask_channels", mask);
    size_t count = 0;
    if (n > 0 && image.channels == 1) {
        nf_error(NF_EARG, "nf_mask_channels: an image of one channel, %zu x %zu, has no half of its channels",
                 image.height, image.width);
        return 0;
    }
    const size_t pixels = image.height * image.width, first = image.channels - image.channels / 2;
    for (size_t i = 0; i < n; i++)
        count += mask[i] = (i / pixels >= first) == (k % 2 == 0);
    return count;
}
