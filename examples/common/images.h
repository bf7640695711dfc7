/* Pictures to learn from and pictures to look at. */
#ifndef EXAMPLES_IMAGES_H
#define EXAMPLES_IMAGES_H
#include <nflow/nflow.h>

/* Whether folder/name or folder/name.gz is there; its path. */
bool images_find(const char *folder, const char *name, char path[4096]);
/* Its path; exits 1 if it is not there. */
void images_must_find(const char *folder, const char *name, char path[4096]);

/* A folder's images, split in three, ready for the library. */
typedef struct images {
    nf_data train, valid, test;
    size_t height, width;
    const char *binarisation; /* how grey values became bits, for people */
    nf_bytes file[3];         /* what the three look into */
} images;

/* Reads binarized_mnist_{train,valid,test}.bits.gz, or else train- and t10k-images-idx3-ubyte with or without .gz,
   whose last 10000 training images (a sixth, if there are fewer than 60000) validate. Grey images are binarised as
   `how` says, static bits being a function of `seed`. Exits 1 with one line if anything is wrong. */
void images_read(images *d, const char *folder, nf_binarise how, uint64_t seed);
void images_free(images *d);
/* Row `row` of a set as it is read: x [dim], bits where it is binarised. */
void images_row(const nf_data *d, size_t row, nf_real *x);

/* Draws rows x columns pictures in a PNG file: picture i is x[i * height * width ...], values from 0 to 1. */
void images_draw(const char *png, const char *title, size_t rows, size_t columns, size_t height, size_t width,
                 const nf_real *x);

#endif
