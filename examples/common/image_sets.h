/*
 * Pictures as whole numbers, to fit a density to: MNIST, Fashion-MNIST, small CIFAR, a folder of PNG files, an array.
 */
#ifndef EXAMPLES_IMAGE_SETS_H
#define EXAMPLES_IMAGE_SETS_H
#include "images.h"

typedef struct image_sets {
    nf_data train, valid,
        test; /* bytes, 0 to 2^bits - 1, in the order [channels][height][width]; ctx: labels, one-hot */
    nf_image size;
    size_t bits, n_labels; /* n_labels 0: without labels */
    images idx;            /* who owns the bytes: this, or the arrays */
    unsigned char *array[2];
    nf_real *one_hot[2];
} image_sets;

/*
 * Reads what `data` names:
 *
 *     mnist      the folder $NFLOW_DATA/mnist                  } train-images-idx3-ubyte, ..., plain or .gz, whose last
 *     fashion    /usr/share/datasets/fashion-mnist             } 10000 training images (a sixth, if there are fewer
 *     a folder   with such files                               } than 60000) validate
 *     cifar8     $NFLOW_DATA/cifar8: cifar10_8x8_train_u8.npy and ..._test_u8.npy, plain or .xz; the last tenth of the
 *                training images validates
 *     a folder   of PNG files, all of one size                 } of these a tenth is the test and a tenth validates,
 *     a file     X.npy or X.npy.xz, uint8 [n][channels][height][width], [n][height][width][channels] or
 *                [n][height][width], with 1 to 4 channels      } after a shuffle that is always the same
 *
 * Of each byte the upper `bits` are kept. `labels`: the labels' files are read, too; PNG files and arrays have none.
 * Exits 1 with one line if anything is missing or wrong.
 */
void image_sets_read(image_sets *d, const char *data, bool labels, size_t bits);
void image_sets_free(image_sets *d);

#endif
