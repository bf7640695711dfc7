#include "pictures.h"
#include "cli.h"
#include <dirent.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN = 48 }; /* a picture's least height in a table, in pixels */

static const png_uint_32 formats[] = {PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB, PNG_FORMAT_RGBA};

void picture_planes(nf_image size, size_t n, unsigned char *x)
{
    const size_t pixels = size.height * size.width, dim = size.channels * pixels;
    unsigned char *one = cli_allocate(dim, 1);
    for (size_t i = 0; i < n; i++, x += dim) {
        memcpy(one, x, dim);
        for (size_t k = 0; k < dim; k++)
            x[k % size.channels * pixels + k / size.channels] = one[k];
    }
    free(one);
}

unsigned char *picture_read(const char *path, nf_image *size)
{
    png_image p = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_file(&p, path))
        cli_fail(1, "%s: no sound PNG file (%s)", path, p.message);
    if (p.format & PNG_FORMAT_FLAG_COLORMAP)
        cli_fail(1, "%s: has a palette, but grey or RGB pixels are wanted", path);
    if (p.format & PNG_FORMAT_FLAG_LINEAR)
        cli_fail(1, "%s: has 16 bits a channel, but 8 are wanted", path);
    p.format &= PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA;
    *size = (nf_image){PNG_IMAGE_SAMPLE_CHANNELS(p.format), p.height, p.width};
    unsigned char *x = cli_allocate(p.height, size->channels * p.width);
    if (!png_image_finish_read(&p, NULL, x, 0, NULL))
        cli_fail(1, "%s: no sound PNG file (%s)", path, p.message);
    picture_planes(*size, 1, x);
    return x;
}

static int is_png(const struct dirent *entry)
{
    const size_t n = strlen(entry->d_name);
    return n > 4 && (strcmp(entry->d_name + n - 4, ".png") == 0 || strcmp(entry->d_name + n - 4, ".PNG") == 0);
}

unsigned char *pictures_read(const char *folder, nf_image *size, size_t *n)
{
    struct dirent **entry;
    const int found = scandir(folder, &entry, is_png, alphasort);
    unsigned char *all = NULL;
    for (int i = 0; i < found; i++) {
        char *path = cli_text("%s/%s", folder, entry[i]->d_name);
        nf_image is;
        unsigned char *one = picture_read(path, &is);
        const size_t dim = is.channels * is.height * is.width;
        if (!all) {
            *size = is;
            all = cli_allocate((size_t)found, dim);
        }
        if (is.channels != size->channels || is.height != size->height || is.width != size->width)
            cli_fail(1, "%s: %zu x %zu of %zu channels, but %s is %zu x %zu of %zu: all must be equal", path, is.height,
                     is.width, is.channels, entry[0]->d_name, size->height, size->width, size->channels);
        memcpy(all + (size_t)i * dim, one, dim);
        free(one);
        free(path);
    }
    for (int i = 0; i < found; i++)
        free(entry[i]);
    if (found >= 0)
        free(entry);
    *n = all ? (size_t)found : 0;
    return all;
}

size_t picture_zoom(nf_image size)
{
    return size.height < SEEN ? (SEEN + size.height - 1) / size.height : 1;
}

void picture_write_table(const char *path, size_t rows, size_t columns, nf_image size, const unsigned char *x)
{
    const size_t zoom = picture_zoom(size), high = zoom * size.height + PICTURE_GAP;
    const size_t wide = zoom * size.width + PICTURE_GAP, c = size.channels;
    png_image p = {.version = PNG_IMAGE_VERSION, .format = formats[c - 1]};
    p.height = (png_uint_32)(rows * high - PICTURE_GAP);
    p.width = (png_uint_32)(columns * wide - PICTURE_GAP);
    unsigned char *page = cli_allocate(p.height, c * p.width);
    memset(page, 255, c * p.height * p.width);
    for (size_t i = 0; i < p.height; i++)
        for (size_t j = 0; j < p.width; j++) {
            const size_t row = i % high / zoom, column = j % wide / zoom, picture = i / high * columns + j / wide;
            for (size_t k = 0; k < c && row < size.height && column < size.width; k++)
                page[(i * p.width + j) * c + k] = x[((picture * c + k) * size.height + row) * size.width + column];
        }
    if (!png_image_write_to_file(&p, path, 0, page, 0, NULL))
        cli_fail(1, "cannot write %s: %s", path, p.message);
    free(page);
}
