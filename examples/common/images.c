#include "images.h"
#include "cli.h"
#include "output.h"
#include <stdio.h>
#include <unistd.h>

enum { MNIST_SIDE = 28, PATH = 4096 };

bool images_find(const char *folder, const char *name, char path[PATH])
{
    for (int gz = 0; gz < 2; gz++)
        if (snprintf(path, PATH, "%s/%s%s", folder, name, gz ? ".gz" : "") < PATH && access(path, F_OK) == 0)
            return true;
    return false;
}

void images_must_find(const char *folder, const char *name, char path[PATH])
{
    if (!images_find(folder, name, path))
        cli_fail(1, "%s holds no %s, plain or .gz", folder, name);
}

static nf_data whole(const nf_bytes *b)
{
    return (nf_data){.n = b->n, .dim = b->dim, .bytes = b->data};
}

static void read_bits(images *d, const char *folder)
{
    static const char *const names[] = {"binarized_mnist_train.bits", "binarized_mnist_valid.bits",
                                        "binarized_mnist_test.bits"};
    char path[PATH];
    for (size_t i = 0; i < 3; i++) {
        images_must_find(folder, names[i], path);
        cli_ok(nf_load_packed_bits(path, MNIST_SIDE * MNIST_SIDE, 0, &d->file[i]));
    }
    d->train = whole(&d->file[0]);
    d->valid = whole(&d->file[1]);
    d->test = whole(&d->file[2]);
    d->height = d->width = MNIST_SIDE;
    d->binarisation = "static";
}

static void read_idx(images *d, const char *folder, nf_binarise how, uint64_t seed)
{
    static const char *const names[] = {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"};
    static const char *const words[] = {"none", "static", "dynamic", "threshold"};
    char path[PATH];
    for (size_t i = 0; i < 2; i++) {
        images_must_find(folder, names[i], path);
        cli_ok(nf_load_idx(path, 0, &d->file[i]));
    }
    const nf_bytes *train = &d->file[0], *test = &d->file[1];
    if (train->height == 0 || train->height != test->height || train->width != test->width)
        cli_fail(1, "%s: training images are %zu x %zu, test images %zu x %zu", folder, train->height, train->width,
                 test->height, test->width);
    size_t valid = train->n >= 60000 ? 10000 : train->n / 6;
    if (valid == 0)
        cli_fail(1, "%s: %zu training images are too few, a sixth of them is to validate", folder, train->n);
    d->train = whole(train);
    d->train.n -= valid;
    d->valid = (nf_data){.n = valid, .dim = train->dim, .bytes = train->data + d->train.n * train->dim};
    d->test = whole(test);
    nf_data *const sets[] = {&d->train, &d->valid, &d->test};
    for (size_t i = 0; i < 3; i++) {
        sets[i]->binarise = how;
        sets[i]->binarise_seed = seed + (i << 40); /* rows of different sets get different bits */
    }
    d->height = train->height;
    d->width = train->width;
    d->binarisation = words[how];
}

void images_read(images *d, const char *folder, nf_binarise how, uint64_t seed)
{
    char path[PATH];
    *d = (images){0};
    if (access(folder, F_OK) != 0)
        cli_fail(1, "there is no folder %s", folder);
    if (images_find(folder, "binarized_mnist_train.bits", path))
        read_bits(d, folder);
    else if (images_find(folder, "train-images-idx3-ubyte", path))
        read_idx(d, folder, how, seed);
    else
        cli_fail(1, "%s holds neither train-images-idx3-ubyte nor binarized_mnist_train.bits, plain or .gz", folder);
}

void images_free(images *d)
{
    for (size_t i = 0; i < 3; i++)
        nf_bytes_free(&d->file[i]);
}

void images_row(const nf_data *d, size_t row, nf_real *x)
{
    for (size_t j = 0; j < d->dim; j++) {
        nf_real v = (nf_real)d->bytes[row * d->dim + j] / 255;
        x[j] = d->binarise == NF_BINARISE_THRESHOLD ? v >= NF_R(0.5) : v;
    }
}

void images_draw(const char *png, const char *title, size_t rows, size_t columns, size_t height, size_t width,
                 const nf_real *x)
{
    FILE *plot = plot_open(png, (int)(columns * width * 3), (int)(rows * height * 3 + 24));
    fprintf(plot,
            "set title '%s' offset 0,-0.7\nset margins 0,0,0,1.3\nunset tics\nunset border\nunset colorbox\nunset key\n"
            "set palette gray negative\nset cbrange [0:1]\nset yrange [%zu.5:-0.5]\nset xrange [-0.5:%zu.5]\n"
            "plot '-' matrix with image\n",
            title, rows * height - 1, columns * width - 1);
    for (size_t r = 0; r < rows * height; r++)
        for (size_t c = 0; c < columns * width; c++) {
            size_t picture = r / height * columns + c / width, pixel = r % height * width + c % width;
            fprintf(plot, "%.3f%c", (double)x[picture * height * width + pixel], c + 1 == columns * width ? '\n' : ' ');
        }
    fputs("e\n", plot);
    plot_close(plot);
}
