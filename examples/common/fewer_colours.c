#include "fewer_colours.h"
#ifdef WITH_PNG
#include "cli.h"
#include <png.h>
#include <stdlib.h>

enum { COLOURS = 64, KEYS = 1 << 15 /* colours with 5 bits a channel */ };

static size_t key_of(const unsigned char *rgb)
{
    return (size_t)(rgb[0] >> 3) << 10 | (size_t)(rgb[1] >> 3) << 5 | (size_t)(rgb[2] >> 3);
}

static int distance(const unsigned char *a, const unsigned char *b)
{
    int sum = 0;
    for (size_t c = 0; c < 3; c++)
        sum += (a[c] - b[c]) * (a[c] - b[c]);
    return sum;
}

/* The most frequent colours [at most COLOURS x 3]; of colours with one key the first that is met. */
static unsigned choose(size_t n, const unsigned char *rgb, unsigned char *palette)
{
    size_t *count = cli_allocate(KEYS, sizeof *count), *first = cli_allocate(KEYS, sizeof *first);
    unsigned chosen = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t k = key_of(rgb + 3 * i);
        if (count[k]++ == 0)
            first[k] = i;
    }
    for (; chosen < COLOURS; chosen++) {
        size_t most = 0;
        for (size_t k = 1; k < KEYS; k++)
            most = count[k] > count[most] ? k : most;
        if (count[most] == 0)
            break;
        for (size_t c = 0; c < 3; c++)
            palette[3 * chosen + c] = rgb[3 * first[most] + c];
        count[most] = 0;
    }
    free(count);
    free(first);
    return chosen;
}

static unsigned char nearest(const unsigned char *rgb, unsigned colours, const unsigned char *palette)
{
    unsigned best = 0;
    for (unsigned k = 1; k < colours; k++)
        if (distance(rgb, palette + 3 * k) < distance(rgb, palette + 3 * best))
            best = k;
    return (unsigned char)best;
}

void fewer_colours(const char *path)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_file(&image, path))
        cli_fail(1, "cannot read %s: %s", path, image.message);
    image.format = PNG_FORMAT_RGB;
    const size_t n = (size_t)image.width * image.height;
    unsigned char *rgb = cli_allocate(n, 3), *index = cli_allocate(n, 1), palette[3 * COLOURS];
    if (!png_image_finish_read(&image, NULL, rgb, 0, NULL))
        cli_fail(1, "cannot read %s: %s", path, image.message);
    const unsigned colours = choose(n, rgb, palette);
    for (size_t i = 0; i < n; i++)
        index[i] = nearest(rgb + 3 * i, colours, palette);
    png_image out = {.version = PNG_IMAGE_VERSION,
                     .width = image.width,
                     .height = image.height,
                     .format = PNG_FORMAT_RGB_COLORMAP,
                     .colormap_entries = colours};
    if (!png_image_write_to_file(&out, path, 0, index, 0, palette))
        cli_fail(1, "cannot write %s: %s", path, out.message);
    free(rgb);
    free(index);
}
#else
void fewer_colours(const char *path)
{
    (void)path;
}
#endif
