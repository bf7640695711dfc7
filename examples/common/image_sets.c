#include "image_sets.h"
#include "cli.h"
#include "file_bytes.h"
#include "npy.h"
#include "pictures.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH = 4096, MOST_CHANNELS = 4 };

static bool is_there(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

/* Of n bytes, keeps the upper bits. */
static void shift(size_t bits, size_t n, unsigned char *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (unsigned char)(x[i] >> (8 - bits));
}

/* ---- labels ---- */

typedef struct label_file {
    size_t n;
    unsigned char *label;
} label_file;

/* Labels of the training images (with those that validate) and of the test images. */
static void add_labels(image_sets *d, const label_file file[2], const char *where)
{
    const size_t wanted[2] = {d->train.n + d->valid.n, d->test.n};
    for (size_t k = 0; k < 2; k++) {
        if (file[k].n != wanted[k])
            cli_fail(1, "%s: %zu labels, but %zu images, for %s", where, file[k].n, wanted[k], k ? "test" : "training");
        for (size_t i = 0; i < file[k].n; i++)
            if (file[k].label[i] >= d->n_labels)
                d->n_labels = file[k].label[i] + (size_t)1;
    }
    for (size_t k = 0; k < 2; k++) {
        d->one_hot[k] = cli_allocate(wanted[k], d->n_labels * sizeof(nf_real));
        for (size_t i = 0; i < wanted[k]; i++)
            d->one_hot[k][i * d->n_labels + file[k].label[i]] = 1;
    }
    d->train.ctx = d->one_hot[0];
    d->valid.ctx = d->one_hot[0] + d->train.n * d->n_labels;
    d->test.ctx = d->one_hot[1];
    d->train.n_ctx = d->valid.n_ctx = d->test.n_ctx = d->n_labels;
}

/* ---- IDX ---- */

static void read_idx(image_sets *d, const char *folder, bool labels)
{
    static const char *const names[] = {"train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"};
    images_read(&d->idx, folder, NF_GREY, 0);
    d->train = d->idx.train;
    d->valid = d->idx.valid;
    d->test = d->idx.test;
    d->size = (nf_image){1, d->idx.height, d->idx.width};
    for (size_t k = 0; k < 3; k++)
        shift(d->bits, d->idx.file[k].n * d->idx.file[k].dim, d->idx.file[k].data);
    if (!labels)
        return;
    nf_bytes b[2];
    for (size_t k = 0; k < 2; k++) {
        char path[PATH];
        images_must_find(folder, names[k], path);
        cli_ok(nf_load_idx(path, 0, &b[k]));
        if (b[k].dim != 1)
            cli_fail(1, "%s: labels of %zu numbers each", path, b[k].dim);
    }
    add_labels(d, (label_file[]){{b[0].n, b[0].data}, {b[1].n, b[1].data}}, folder);
    nf_bytes_free(&b[0]);
    nf_bytes_free(&b[1]);
}

/* ---- arrays ---- */

/* The images of an npy file: *n of them, [n][channels][height][width] of the sizes *size. */
static unsigned char *read_npy(const char *path, nf_image *size, size_t *n)
{
    const npy a = npy_read(path);
    const size_t *e = a.extent;
    const bool grey = a.rank == 3, planes = a.rank == 4 && e[1] <= MOST_CHANNELS;
    if (!grey && !planes && !(a.rank == 4 && e[3] <= MOST_CHANNELS))
        cli_fail(1, "%s: the array must be [n][channels][height][width] with 1 to %d channels, or [n][height][width]",
                 path, MOST_CHANNELS);
    *n = e[0];
    *size = grey ? (nf_image){1, e[1], e[2]} : planes ? (nf_image){e[1], e[2], e[3]} : (nf_image){e[3], e[1], e[2]};
    if (*n * size->channels * size->height * size->width == 0)
        cli_fail(1, "%s: the array is empty", path);
    if (!grey && !planes)
        picture_planes(*size, *n, a.data);
    return a.data;
}

/* Makes sets of an array of training images, the last n_valid of which validate, and one of test images. */
static void set_up(image_sets *d, unsigned char *train, size_t n, size_t n_valid, unsigned char *test, size_t n_test)
{
    const size_t dim = d->size.channels * d->size.height * d->size.width;
    d->train = (nf_data){.n = n - n_valid, .dim = dim, .bytes = train};
    d->valid = (nf_data){.n = n_valid, .dim = dim, .bytes = train + (n - n_valid) * dim};
    d->test = (nf_data){.n = n_test, .dim = dim, .bytes = test};
    shift(d->bits, n * dim, train);
    shift(d->bits, n_test * dim, test);
}

/* Of images x, a tenth is the test and a tenth validates, in a random order that is always the same. */
static void split(image_sets *d, const char *where, unsigned char *x, size_t n)
{
    const nf_noise noise = {.seed = 1};
    const size_t dim = d->size.channels * d->size.height * d->size.width, part = n / 10;
    if (part == 0)
        cli_fail(1, "%s: %zu images are too few: a tenth is to test and a tenth to validate", where, n);
    d->array[0] = cli_allocate(n, dim);
    for (size_t i = 0; i < n; i++)
        memcpy(d->array[0] + i * dim, x + nf_noise_permuted(&noise, n, i) * dim, dim);
    free(x);
    set_up(d, d->array[0], n - part, part, d->array[0] + (n - part) * dim, part);
}

static void read_cifar8(image_sets *d, const char *folder, bool labels)
{
    static const char *const words[] = {"train", "test"};
    size_t n[2];
    nf_image size[2];
    label_file file[2] = {{0}};
    for (size_t k = 0; k < 2; k++) {
        char *path = cli_text("%s/cifar10_8x8_%s_u8.npy", folder, words[k]);
        char *packed = cli_text("%s.xz", path), *label = cli_text("%s/cifar10_%s_labels_u8.bin", folder, words[k]);
        d->array[k] = read_npy(is_there(path) ? path : packed, &size[k], &n[k]);
        if (labels)
            file[k].label = file_bytes(label, &file[k].n);
        free(path);
        free(packed);
        free(label);
    }
    if (memcmp(&size[0], &size[1], sizeof size[0]) != 0 || n[0] < 10)
        cli_fail(1, "%s: training and test images have different sizes, or are too few", folder);
    d->size = size[0];
    set_up(d, d->array[0], n[0], n[0] / 10, d->array[1], n[1]);
    if (labels)
        add_labels(d, file, folder);
    free(file[0].label);
    free(file[1].label);
}

/* ---- everything ---- */

/* The folder of a data set that has a name; NULL if `data` is no such name. To be released by free(). */
static char *folder_of(const char *data)
{
    static const char fashion[] = "/usr/share/datasets/fashion-mnist";
    const bool mnist = strcmp(data, "mnist") == 0;
    if (strcmp(data, "fashion") == 0) {
        if (!is_there(fashion))
            cli_fail(1, "fashion: there is no %s: apt-get install dataset-fashion-mnist", fashion);
        return cli_text("%s", fashion);
    }
    if (!mnist && strcmp(data, "cifar8") != 0)
        return NULL;
    const char *root = getenv("NFLOW_DATA");
    char *folder = cli_text("%s/%s", root ? root : "$NFLOW_DATA", data);
    if (!root || !is_there(folder))
        cli_fail(1, "%s: there is no folder %s: put %s and its like there, and set NFLOW_DATA", data, folder,
                 mnist ? "train-images-idx3-ubyte.gz" : "cifar10_8x8_train_u8.npy.xz");
    return folder;
}

void image_sets_read(image_sets *d, const char *data, bool labels, size_t bits)
{
    *d = (image_sets){.bits = bits};
    char *named = folder_of(data), path[PATH];
    const char *where = named ? named : data;
    struct stat is;
    if (stat(where, &is) != 0)
        cli_fail(1, "there is no file or folder %s", where);
    if (strcmp(data, "cifar8") == 0) {
        read_cifar8(d, where, labels);
    } else if (S_ISDIR(is.st_mode) && images_find(where, "train-images-idx3-ubyte", path)) {
        read_idx(d, where, labels);
    } else {
        size_t n;
        if (labels)
            cli_fail(1, "%s: PNG files and arrays have no labels", where);
        unsigned char *x = S_ISDIR(is.st_mode) ? pictures_read(where, &d->size, &n) : read_npy(where, &d->size, &n);
        if (!x)
            cli_fail(1, "%s holds neither PNG files nor train-images-idx3-ubyte, plain or .gz", where);
        split(d, where, x, n);
    }
    free(named);
}

void image_sets_free(image_sets *d)
{
    images_free(&d->idx);
    for (size_t k = 0; k < 2; k++) {
        free(d->array[k]);
        free(d->one_hot[k]);
    }
}
