/* One convolution on a tile of images, z = W * x, without its bias (conv.c). Its numbers are W [out][k][k][in].

   Inside nets of convolutions a tile is a grid: [channels x pixels ld], with ld numbers a pixel. A channel has the
   image's pixels and, if their number is even, one more that no convolution reads: then channels do not begin in the
   same sets of the caches, which have powers of two. The functions here set the pixel to 0. For tangents of k
   directions, ld is k times as long (directions.h). */
#ifndef NFI_CONV_H
#define NFI_CONV_H
#include "math/product.h"
#include <nflow/image.h>

typedef struct nfi_grid {
    size_t height, width, pixels; /* pixels of a channel in the grid: the image's, and one more if they are even */
} nfi_grid;

typedef struct nfi_conv {
    size_t in, out, side; /* channels, and the side k of the kernel: odd, at most NFI_LONGEST_SIDE */
    nfi_grid grid;
} nfi_conv;

enum { NFI_LONGEST_SIDE = 7 };

static inline nfi_grid nfi_grid_of(const nf_image *image)
{
    return (nfi_grid){image->height, image->width, (image->height * image->width) | 1};
}
static inline size_t nfi_conv_fan_in(const nfi_conv *c)
{
    return c->side * c->side * c->in;
}

/* z = W * x, or z += W * x if `add`. x [in x pixels ld], z [out x pixels ld]. */
void nfi_conv_apply(const nfi_conv *c, size_t ld, const nf_real *w, const nf_real *x, bool add, nf_real *z);
/* gx = the transposed convolution of gz. */
void nfi_conv_transposed(const nfi_conv *c, size_t ld, const nf_real *w, const nf_real *gz, nf_real *gx);
/* gW = the gradient of W for the cotangent gz, or added to it if `add`. Returns NF_OK or NF_ENOMEM. */
nf_status nfi_conv_outer(const nfi_conv *c, size_t ld, nf_arena *scratch, const nf_real *x, const nf_real *gz, bool add,
                         nf_real *gw);

/* The colour of a pixel of an image on a checkerboard. */
static inline bool nfi_pixel_is_odd(size_t pixel, size_t width)
{
    return (pixel / width + pixel % width) % 2 == 1;
}
/* How many of an image's pixels are of that colour. */
size_t nfi_count_pixels(const nfi_grid *g, nf_pixels which);
/* Between features [channels / n x those pixels x n x ld], of which n channels of a pixel stand beside one another, and
   a grid [channels x pixels ld]. All other pixels of the grid become 0. */
void nfi_to_grid(const nfi_grid *g, nf_pixels which, size_t n, size_t channels, size_t ld, const nf_real *x,
                 nf_real *grid);
void nfi_from_grid(const nfi_grid *g, nf_pixels which, size_t n, size_t channels, size_t ld, const nf_real *grid,
                   nf_real *x);

#endif
